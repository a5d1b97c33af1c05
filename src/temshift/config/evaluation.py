"""How networks are tested."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from temshift.config.base import Strict

__all__ = ["EvaluationParameters"]


class EvaluationParameters(Strict):
    """How networks are tested (``evaluation``).

    Attributes
    ----------
    batch_size : int
        Patches predicted at a time.
    examples : bool
        Keep best, median and worst micrograph of each cell as pictures.
    """

    batch_size: Annotated[int, Field(gt=0)] = 8
    examples: bool = True

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
    seen_micrographs : int
        Micrographs of a fold, of each set, that the network of the next fold, which was trained on
        them, is tested on too (protocol ``grouped``): for G_ID, what networks know by heart.
    """

    batch_size: Annotated[int, Field(gt=0)] = 8
    examples: bool = True
    seen_micrographs: Annotated[int, Field(ge=0)] = 1

"""Training a finished network further on a few labelled micrographs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from temshift.config.base import Strict
from temshift.config.modelling import Augmentation

__all__ = ["FineTuning"]


class FineTuning(Strict):
    """How a network is trained further (``fine_tuning``).

    Attributes
    ----------
    steps, batch_size, learning_rate
        Of Adam; the rate rises and falls (one cycle).
    crop_px : int
        Side of a crop; smaller where the patches are.
    foreground : float
        Share of the first crops that are centred on a particle's pixel
        (:class:`temshift.config.modelling.Training`).
    freeze : {"none", "encoder", "all_but_batch_norm"}
        What stays as it is: nothing; the encoder with its batch norms; or everything but the
        factors, offsets and statistics of the batch norms.
    augmentation : Augmentation
    seed : int
        Of order and augmentation.
    """

    steps: Annotated[int, Field(gt=0)] = 100
    batch_size: Annotated[int, Field(gt=0)] = 4
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    crop_px: Annotated[int, Field(ge=32, multiple_of=16)] = 192
    foreground: Annotated[float, Field(ge=0, le=1)] = 0.5
    freeze: Literal["none", "encoder", "all_but_batch_norm"] = "none"
    augmentation: Augmentation = Augmentation(rotate_probability=0.0, contrast=0.2)
    seed: Annotated[int, Field(ge=0)] = 17

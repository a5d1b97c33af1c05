"""Training a finished network further on a few labelled micrographs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from temshift.config.base import NAME, EachOnce, PixelSize, Strict
from temshift.config.modelling import Augmentation

__all__ = ["FewLabelsParameters", "FineTuning"]

_Several = Annotated[int, Field(ge=1)]


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


class FewLabelsParameters(FineTuning):
    """The block ``fine_tuning``: a network trained further on micrographs labelled by hand.

    Attributes
    ----------
    input, masks : str, optional
        A file or folder of micrographs, and the folder of their masks, named like them with any
        ending (``a.png``, ``a_mask.tif``, ``a_cp_masks.png``). Given on the command line.
    name : str
        Of the tuned network: its folder in ``06_models``, and that of the results. Given on the
        command line.
    network : str
        Which one is tuned: ``nearest`` by training condition (pixel size, dose, material, as far
        as they are known), ``box`` (that of the package), or a name. Where no network of the
        study is trained, ``nearest`` is ``box``.
    label_kind : {"binary", "instance"}
        Masks of two values, or of a number for each particle.
    pixel_size_nm, dose_e_per_A2, material
        Of all micrographs, where their files do not say (the pixel size: whatever they say).
    labelled : list of int
        Numbers of labelled micrographs of the learning curve.
    held_out : int
        Parts into which the labelled micrographs are divided, each tested once.
    confidence : float
        Of the intervals of the Dice, and of those of all gains together.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``mps``.
    """

    input: str | None = None
    masks: str | None = None
    name: Annotated[str, Field(pattern=NAME)] = "fine_tuned"
    network: Annotated[str, Field(pattern=NAME)] = "nearest"
    label_kind: Literal["binary", "instance"] = "binary"
    pixel_size_nm: PixelSize | None = None
    dose_e_per_A2: Annotated[float, Field(gt=0)] | None = None
    material: str | None = None
    labelled: Annotated[list[_Several], Field(min_length=1), EachOnce] = [1, 2, 4, 8]
    held_out: Annotated[int, Field(ge=2)] = 5
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    device: str = "auto"

    @property
    def training(self) -> FineTuning:
        """How each network is trained, without what is said of the labels."""
        return FineTuning(**{key: getattr(self, key) for key in FineTuning.model_fields})

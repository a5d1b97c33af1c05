"""Segmenting new micrographs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from temshift.config.base import FILE_NAME, NAME, EachOnce, PixelSize, Strict

__all__ = ["DeploymentParameters"]

Positive = Annotated[float, Field(gt=0)]
NetworkName = Annotated[str, Field(pattern=NAME)]


class DeploymentParameters(Strict):
    """How new micrographs are segmented and measured (``deployment``).

    Attributes
    ----------
    input : str, optional
        A file, or a folder that is searched with all folders below it. Given on the command line
        (``--params deployment.input=...``), where the catalog finds it.
    name : str, optional
        Of the folder of results, by default ``new_micrographs``; on the command line, too.
    masks : str, optional
        A file, or a folder, of masks made elsewhere, named like the micrographs: they are judged
        and measured too. Given on the command line, as ``input`` is.
    judge : bool
        Learn from the tests of the study which masks can be believed, and say so.
    networks : {"nearest", "best", "box"} or list of str
        Which network draws the mask: the one whose training condition is nearest (pixel size,
        dose, material, as far as they are known; of several equally near the one with the
        highest predicted Dice); the one with the highest predicted Dice of all; the
        one that comes with the package; or the one of these names that is nearest. Where no
        network of the study is trained it is ``box`` in any case but that of names.
    pixel_size_nm, dose_e_per_A2, material
        Of all micrographs, where their files do not say (the pixel size: whatever they say).
    pixel_size_error : float
        Relative standard uncertainty of the pixel size, carried into sizes: 0.01 is 1 %.
    resample : bool
        Resample every micrograph to the pixel size of its network first.
    refit_flat_field : {"auto", "always", "never"}
        Where the first mask covers a good part of the micrograph: try a flat field fitted to what
        lies outside the mask, and even light; kept only if the particles then stand out clearly
        more. ``auto`` does so for networks whose images are prepared with the fit to the
        background, ``always`` for those with the published fit too.
    bar_px : int
        Rows at the bottom that are a burnt-in bar: neither standardised nor segmented.
    neck : float
        Touching particles are divided where the neck between them is narrower than this share of
        the smaller one's radius.
    smallest_area_px2 : int, optional
        Smaller regions are no particles. By default it follows from the smallest particles that the
        network was trained on or, without a pixel size, from what was found
        (:func:`temshift.microscopy.particles.smallest_area_px2`).
    confidence : float
        Coverage of the interval of the mean diameter.
    """

    input: str | None = None
    name: Annotated[str, Field(pattern=FILE_NAME, max_length=80)] | None = None
    masks: str | None = None
    judge: bool = True
    networks: Annotated[Literal["nearest", "best", "box"] | list[NetworkName], EachOnce] = "nearest"
    pixel_size_nm: PixelSize | None = None
    dose_e_per_A2: Positive | None = None
    material: str | None = None
    pixel_size_error: Annotated[float, Field(ge=0, lt=1)] = 0.01
    resample: bool = False
    refit_flat_field: Literal["auto", "always", "never"] = "auto"
    bar_px: Annotated[int, Field(ge=0)] = 0
    neck: Annotated[float, Field(ge=0, le=1)] = 0.8
    smallest_area_px2: Annotated[int, Field(ge=1)] | None = None
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95

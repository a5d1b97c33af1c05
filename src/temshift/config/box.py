"""The network that comes with the package: what it is trained on and how it is calibrated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from temshift.config.base import Ascending, EachOnce, Strict

__all__ = ["BoxParameters", "RandomExposures", "RandomFields"]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
_Material = Literal["Au", "Ag", "CdSe"]


class RandomFields(Strict):
    """Specimens drawn at random, each another one (``box.fields``).

    Attributes
    ----------
    count : int
    seed : int
        Every specimen follows from it and its number.
    diameter_nm : (float, float)
        Smallest and largest nominal diameter, drawn on a logarithmic scale.
    diameter_spread : (float, float)
        Standard deviation of the particles of one field, over its nominal diameter.
    materials : list of str
    coverage : (float, float)
        Share of the field that particles cover, about.
    least_width_nm : float
        Side of a field; one of large particles is ``widths_of_diameter`` diameters wide.
    widths_of_diameter : float
    empty : float
        Share of fields without a particle.
    sin : float
        Share of fields on silicon nitride; the others are on carbon.
    thickness_nm : (float, float)
        Of the film.
    point_nm : float
        Distance of the points of the wave.
    """

    count: Count
    seed: Annotated[int, Field(ge=0)]
    diameter_nm: Annotated[tuple[Positive, Positive], Ascending] = (1.5, 12.0)
    diameter_spread: Annotated[tuple[NotNegative, NotNegative], Ascending] = (0.04, 0.2)
    materials: Annotated[list[_Material], Field(min_length=1), EachOnce] = ["Au", "Ag", "CdSe"]
    coverage: Annotated[tuple[Share, Share], Ascending] = (0.04, 0.35)
    least_width_nm: Positive = 20.0
    widths_of_diameter: Positive = 2.6
    empty: Share = 0.06
    sin: Share = 0.25
    thickness_nm: Annotated[tuple[Positive, Positive], Ascending] = (3.0, 18.0)
    point_nm: Positive = 0.02844


class RandomExposures(Strict):
    """Conditions drawn at random, under which every field is imaged (``box.exposures``).

    Attributes
    ----------
    per_field : int
        Conditions of each field.
    patches : int
        Most patches that are kept of one micrograph.
    pixel_size_nm, dose_e_per_A2 : (float, float)
        Drawn on a logarithmic scale.
    defocus_A : (float, float)
        Of a corrected microscope; one that is not has 400 to 1200 Å.
    uncorrected : float
        Share of exposures with a spherical aberration of 0.5 to 1.2 mm.
    unevenness : (float, float)
        Of the illumination.
    bars : float
        Share of micrographs into which a scale bar is burnt.
    pictures : float
        Share of micrographs that were smoothed and saved with 8 bits.
    opaque : float
        Share of exposures with ten times the dose in which particles absorb so much, and the image
        moves so much, that they are dark discs without a lattice, as at low magnification.
    """

    per_field: Count = 4
    patches: Count = 3
    pixel_size_nm: Annotated[tuple[Positive, Positive], Ascending] = (0.015, 0.05)
    dose_e_per_A2: Annotated[tuple[Positive, Positive], Ascending] = (50.0, 1500.0)
    defocus_A: Annotated[tuple[float, float], Ascending] = (-100.0, 500.0)
    uncorrected: Share = 0.2
    unevenness: Annotated[tuple[Share, Share], Ascending] = (0.0, 0.35)
    bars: Share = 0.3
    pictures: Share = 0.25
    opaque: Share = 0.2


class BoxParameters(Strict):
    """The block ``box``: only the environment ``box`` has one.

    Attributes
    ----------
    fields : RandomFields
        To train on.
    exposures : RandomExposures
        Of these fields.
    patch_px : int
        Side of a patch that is kept of a micrograph.
    folds : int
        Networks, each trained without another part of the fields; they are each other's jury.
    steps, batch_size, crop_px : int
    learning_rate : float
        Of each training.
    calibration : RandomFields
        Fields that no network has seen, from which trust is learned: under conditions as those of
        the training and beyond them.
    """

    fields: RandomFields
    exposures: RandomExposures = RandomExposures()
    folds: Annotated[int, Field(ge=3)] = 3
    steps: Count = 4000
    batch_size: Count = 8
    crop_px: Annotated[int, Field(ge=32, multiple_of=16)] = 192
    patch_px: Annotated[int, Field(ge=32, multiple_of=16)] = 384
    learning_rate: Positive = 5e-3
    calibration: RandomFields

"""Steps between a raw micrograph and its patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from temshift.config.base import PixelSize, Strict, overlay

__all__ = ["PUBLISHED", "FlatField", "PreprocessingParameters", "XrayRemoval"]


class FlatField(Strict):
    """Flat-field correction (``docs/preprocessing.md``).

    ``mode`` says what is divided out: a polynomial fitted to the ``background`` of each micrograph,
    one fitted as ``published`` to all of it with lower weights where it fits badly, or ``none``.
    """

    mode: Literal["background", "published", "none"] = "background"
    downsample: Annotated[int, Field(ge=1)] = 4


class XrayRemoval(Strict):
    """X-ray outliers: counts above the median by which a pixel is an outlier, and passes.

    ``method`` says by what they are replaced: ``clusters`` by the mean of neighbours that are no
    outliers, ``published`` as in the published study, which leaves the core of a cluster.
    """

    method: Literal["clusters", "published"] = "clusters"
    threshold_counts: Annotated[float, Field(gt=0)] = 1500.0
    passes: Annotated[int, Field(ge=0)] = 2


class PreprocessingParameters(Strict):
    """Steps between a raw micrograph and its patches (``preprocessing``).

    Attributes
    ----------
    flat_field, xray : FlatField, XrayRemoval
    standardise : bool
        Mean 0, standard deviation 1 for each micrograph.
    pixel_size_nm : float, optional
        Resample every micrograph to this pixel size; ``None`` leaves it.
    patch_px : int
        Side of a square patch.
    shuffle_seed : int
        Seed of the order of the micrographs.
    """

    flat_field: FlatField = FlatField()
    xray: XrayRemoval = XrayRemoval()
    standardise: bool = True
    pixel_size_nm: PixelSize | None = None
    patch_px: Annotated[int, Field(ge=32, multiple_of=16)] = 512
    shuffle_seed: Annotated[int, Field(ge=0)] = 34522

    def with_overrides(self, overrides: Mapping[str, Any]) -> PreprocessingParameters:
        """Return these parameters with a split's own ``preprocessing`` laid over them."""
        return overlay(self, overrides)


#: That of the published study, whose networks and curated sets know no other images
#: (as ``conf/published/parameters_preprocessing.yml``).
PUBLISHED = PreprocessingParameters(
    flat_field=FlatField(mode="published", downsample=4),
    xray=XrayRemoval(method="published", threshold_counts=1500.0, passes=2),
    standardise=True,
    pixel_size_nm=None,
    patch_px=512,
    shuffle_seed=34522,
)

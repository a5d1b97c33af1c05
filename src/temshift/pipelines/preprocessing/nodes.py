"""Nodes of the preprocessing pipeline."""

from __future__ import annotations

from typing import Any

from temshift.config.curation import CurationParameters
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.splits import SplitParameters
from temshift.types import CuratedSets, DataFrame, MicrographStore, PatchStack, PatchStream


def preprocess_split(
    split: str,
    micrographs: DataFrame,
    store: MicrographStore,
    preprocessing: PreprocessingParameters,
    own: SplitParameters,
    curation: CurationParameters,
) -> PatchStream:
    """Preprocess the micrographs of one split and cut them into patches.

    Parameters
    ----------
    split : str
        Name of the split.
    micrographs : DataFrame
        Its rows of the micrograph table.
    store : MicrographStore
        Reads micrographs and labels.
    preprocessing : PreprocessingParameters
        Of all splits.
    own : SplitParameters
        What this split has of its own.
    curation : CurationParameters
        Kind of the labels, and tolerance of the pixel size.

    Returns
    -------
    PatchStream
        All patches, empty ones too; made one micrograph at a time while they are saved.
    """
    from temshift.microscopy.split_patches import patch_split

    return patch_split(
        split,
        micrographs,
        store,
        preprocessing.with_overrides(own.preprocessing),
        curation.label_kind,
        curation.pixel_size_tolerance,
    )


def adopt_curated_set(split: str, sets: CuratedSets, own: SplitParameters) -> PatchStream:
    """Take the patches of one split as they stand in a curated set."""
    from temshift.study import curated

    assert own.curated is not None
    return curated.adopt(split, own, sets.read(own.curated))


def fingerprint_split(patches: PatchStack) -> dict[str, Any]:
    """Describe the images of one split in numbers (:mod:`temshift.microscopy.fingerprints`)."""
    from temshift.microscopy.fingerprints import fingerprint

    pixel_size_nm = patches.attributes.get("pixel_size_nm")
    return fingerprint(patches.images, patches.labels, pixel_size_nm, patches.table)

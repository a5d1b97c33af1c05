"""Nodes of the data curation: from somebody's table and files to validated splits."""

from __future__ import annotations

from typing import Any

from temshift.config.curation import CurationParameters
from temshift.config.published import DownloadParameters
from temshift.config.splits import SplitParameters
from temshift.types import CuratedSets, DataFrame, MicrographStore


def name_metadata_table(download: DownloadParameters) -> str:
    """Return the file name of the metadata table; saving it fetches the table."""
    return download.table


def name_needed_files(
    metadata: DataFrame, curation: CurationParameters, **chosen: Any
) -> list[str]:
    """Return the micrographs and masks that the splits select; saving them fetches the files."""
    import pandas as pd

    from temshift.study import integrity, splits, tables

    table, findings = tables.standardise_table(metadata, curation)
    if (errors := findings[findings["severity"] == "error"]).size:
        raise integrity.refused(errors)
    selected = splits.select_splits(table, _typed(chosen), curation.contract).values()
    files = pd.concat(list(selected))[["path", "label_path"]].to_numpy().ravel()
    return list(dict.fromkeys(files))


def standardise_table(
    metadata: DataFrame, curation: CurationParameters
) -> tuple[DataFrame, DataFrame]:
    """Bring the metadata table into the form of the data contract; list the cells that break it."""
    from temshift.study import tables

    return tables.standardise_table(metadata, curation)


def inspect_files(
    table: DataFrame,
    findings: DataFrame,
    store: MicrographStore,
    curation: CurationParameters,
    **splits: Any,
) -> tuple[DataFrame, DataFrame]:
    """Look at every micrograph and mask that a split selects; list all that is found in them."""
    from temshift.study import integrity

    return integrity.inspect_micrographs(table, findings, store, curation, _typed(splits))


def report_integrity(
    varied: dict[str, list[str]],
    table: DataFrame,
    inspected: DataFrame,
    measurements: DataFrame,
    curation: CurationParameters,
    patch_px: int,
    pixel_size_nm: float | None,
    protocols: list[str],
    **splits: Any,
) -> DataFrame:
    """Add what only the table as a whole shows, and whether patches fit; report everything."""
    from temshift.study import integrity
    from temshift.study.quality import Patches

    patches = Patches(patch_px, pixel_size_nm, "published" in protocols)
    return integrity.report_integrity(
        table, inspected, measurements, curation, _typed(splits), varied, patches
    )


def accept_micrographs(
    table: DataFrame,
    report: DataFrame,
    measurements: DataFrame,
    curation: CurationParameters,
    folds: int,
    **splits: Any,
) -> DataFrame:
    """Refuse data with errors; otherwise return the validated table with the fold of each row."""
    from temshift.study import integrity

    return integrity.accept(table, report, measurements, curation, _typed(splits), folds)


def select_split(
    name: str, micrographs: DataFrame, split: SplitParameters, curation: CurationParameters
) -> DataFrame:
    """Return the micrographs of one split."""
    from temshift.study import splits

    return splits.select_split(micrographs, name, split, curation.contract)


def name_curated_sets(**splits: Any) -> list[str]:
    """Return the curated sets that splits consist of; saving them fetches their files."""
    return [str(split.curated) for split in _typed(splits).values()]


def describe_curated_set(
    split: str, sets: CuratedSets, own: SplitParameters, curation: CurationParameters
) -> DataFrame:
    """Return the rows of one split that is a curated set."""
    from temshift.study import curated

    assert own.curated is not None
    return curated.describe(split, own, sets.read(own.curated), curation.contract)


def _typed(splits: dict[str, Any]) -> dict[str, SplitParameters]:
    return {name: SplitParameters.model_validate(split) for name, split in splits.items()}

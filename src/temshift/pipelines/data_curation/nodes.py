"""Nodes of the data curation: from somebody's table and files to validated splits."""

from __future__ import annotations

from typing import Any

import pandas as pd

from temshift.catalog.micrographs import MicrographStore
from temshift.config import CurationParameters, DownloadParameters, SplitParameters
from temshift.microscopy import integrity, splits, tables


def name_metadata_table(download: DownloadParameters) -> str:
    """Return the file name of the metadata table; saving it fetches the table."""
    return download.table


def name_needed_files(
    metadata: pd.DataFrame, curation: CurationParameters, **chosen: Any
) -> list[str]:
    """Return the micrographs and masks that the splits select; saving them fetches the files."""
    table, _ = tables.standardise(metadata, curation)
    rows = [splits.select_split(table, name, split) for name, split in _typed(chosen).items()]
    files = pd.concat(rows)[["path", "label_path"]].to_numpy().ravel()
    return list(dict.fromkeys(files))


def standardise_table(
    metadata: pd.DataFrame, curation: CurationParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bring the metadata table into the form of the data contract; list the cells that break it."""
    return tables.standardise(metadata, curation)


def check_integrity(
    table: pd.DataFrame,
    findings: pd.DataFrame,
    store: MicrographStore,
    curation: CurationParameters,
    **splits: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Look at every micrograph and mask that a split selects; report all that is found."""
    return integrity.inspect_micrographs(table, findings, store, curation, _typed(splits))


def accept_micrographs(
    table: pd.DataFrame,
    report: pd.DataFrame,
    measurements: pd.DataFrame,
    curation: CurationParameters,
    folds: int,
    **splits: Any,
) -> pd.DataFrame:
    """Refuse data with errors; otherwise return the validated table with the fold of each row."""
    return integrity.accept(table, report, measurements, curation, _typed(splits), folds)


def select_split(name: str, micrographs: pd.DataFrame, split: SplitParameters) -> pd.DataFrame:
    """Return the micrographs of one split."""
    return splits.select_split(micrographs, name, split)


def _typed(splits: dict[str, Any]) -> dict[str, SplitParameters]:
    return {name: SplitParameters.model_validate(split) for name, split in splits.items()}

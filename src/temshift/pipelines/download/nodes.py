"""Nodes of the download: they name files, and saving to their datasets fetches them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from temshift.config import CurationParameters, DownloadParameters, SplitParameters
from temshift.microscopy.splits import select_split
from temshift.microscopy.tables import standardise


def name_metadata_table(parameters: DownloadParameters) -> str:
    """Return the file name of the metadata table, which saving fetches."""
    return parameters.table


def name_needed_files(
    metadata: pd.DataFrame, curation: CurationParameters, **splits: Any
) -> list[str]:
    """Return the paths of the micrographs and masks of the given splits."""
    table, _ = standardise(metadata, curation)
    rows = [
        select_split(table, name, SplitParameters.model_validate(split))
        for name, split in splits.items()
    ]
    paths = pd.concat(rows)[["path", "label_path"]].to_numpy().ravel()
    return list(dict.fromkeys(paths))

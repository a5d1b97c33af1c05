"""Tables of micrographs and splits on disk: CSV whose types are those of the data contract."""

from __future__ import annotations

from typing import Any

import pandas as pd
from kedro_datasets.pandas import CSVDataset

from temshift.study.tables import typed

__all__ = ["TypedTableDataset"]


class TypedTableDataset(CSVDataset):
    """A CSV table in which text stays text (``"001"``, an empty session).

    Everything is read as text; then columns that the data contract knows as numbers become
    numbers again, to the last bit (:func:`temshift.study.tables.typed`).

    Parameters
    ----------
    filepath : str
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(
            filepath=filepath,
            load_args={"dtype": str, "keep_default_na": False},
            save_args={"index": False},
            metadata=metadata,
        )

    def load(self) -> pd.DataFrame:
        """Return the table, its types restored."""
        return typed(super().load())

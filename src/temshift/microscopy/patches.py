"""Patch stacks: the equal squares into which micrographs are cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["PATCH_COLUMNS", "PatchStack"]

#: Columns of a patch table.
PATCH_COLUMNS = ("micrograph_id", "specimen_id", "row", "column", "labelled_px", "fold")


@dataclass
class PatchStack:
    """Square patches with their labels and where they come from.

    Attributes
    ----------
    images : ndarray, shape (N, P, P), float32
        Preprocessed intensity; memory-mapped when loaded from a file.
    labels : ndarray, shape (N, P, P), uint8
        1 where a particle is.
    table : DataFrame, N rows
        ``micrograph_id, specimen_id, row, column, labelled_px, fold``; row and column of the
        upper left pixel in the (resampled) micrograph, px.
    attributes : dict
        JSON-serialisable: split, ``pixel_size_nm``, ``dose_e_per_A2``, preprocessing.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.uint8]
    table: pd.DataFrame
    attributes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.table)
        if self.images.ndim != 3 or self.images.shape != self.labels.shape or len(self.images) != n:
            raise ValueError(
                "images and labels must have the same shape (N, P, P) and the table N rows; "
                f"found {self.images.shape}, {self.labels.shape} and {n} rows"
            )

    def __len__(self) -> int:
        return len(self.table)

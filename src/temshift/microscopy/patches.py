"""Patch stacks: the equal squares into which micrographs are cut."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "PATCH_COLUMNS",
    "PatchStack",
    "PatchStream",
    "cut_patches",
    "patch_grid",
    "release",
    "shuffled",
]

#: Columns of a patch table.
PATCH_COLUMNS = (
    *("micrograph_id", "specimen_id", "group"),
    *("row", "column", "labelled_px", "fold"),
)


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
        ``micrograph_id, specimen_id, group, row, column, labelled_px, fold``; the group is the
        independent unit that curation has decided; row and column of the upper left pixel in the
        (resampled) micrograph, px.
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


@dataclass
class PatchStream:
    """A patch stack that is made while it is written: one part a micrograph, never all at once.

    Attributes
    ----------
    parts : iterable of PatchStack
        Their own ``attributes`` are ignored.
    n_patches : int
        Patches of all parts together.
    patch_px : int
        Side of a patch.
    attributes : dict
        Of the whole stack.
    """

    parts: Iterable[PatchStack]
    n_patches: int
    patch_px: int
    attributes: dict[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[PatchStack]:
        return iter(self.parts)

    def __len__(self) -> int:
        return self.n_patches


def patch_grid(shape: tuple[int, int], patch_px: int) -> NDArray[np.int64]:
    """Return row and column of the upper left pixel of every patch, row by row.

    What is left at the right and at the bottom is dropped, as in the published protocol.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the micrograph, px.
    patch_px : int
        Side of a patch.

    Returns
    -------
    ndarray, shape (N, 2), int64

    Raises
    ------
    ValueError
        The micrograph is smaller than one patch.
    """
    if min(shape) < patch_px:
        raise ValueError(
            f"the micrograph has {shape[0]} x {shape[1]} px, less than one patch of {patch_px} px; "
            "lower preprocessing.patch_px (a multiple of 16), or leave the micrograph out"
        )
    rows, columns = (np.arange(side // patch_px) * patch_px for side in shape)
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)


def cut_patches(
    image: NDArray[np.float32], label: NDArray[np.uint8], patch_px: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]:
    """Cut a micrograph and its label into patches, row by row; the remainder is dropped.

    Parameters
    ----------
    image : ndarray, shape (H, W), float32
    label : ndarray, shape (H, W), uint8
    patch_px : int
        Side P of a patch.

    Returns
    -------
    images : ndarray, shape (N, P, P), float32
    labels : ndarray, shape (N, P, P), uint8
    corners : ndarray, shape (N, 2), int64
        Row and column of the upper left pixel of each patch.

    Raises
    ------
    ValueError
        The label has another shape, or the micrograph is smaller than one patch.
    """
    if image.shape != label.shape:
        raise ValueError(
            f"image and label must have the same shape, found {image.shape} and {label.shape}"
        )
    corners = patch_grid(image.shape, patch_px)
    return _tiles(image, patch_px), _tiles(label, patch_px), corners


def shuffled(n: int, seed: int) -> NDArray[np.int64]:
    """Return the order of n micrographs, as the published code shuffles them (legacy NumPy)."""
    return np.random.RandomState(seed).permutation(n)


def release(*arrays: NDArray[Any] | None) -> None:
    """Give the memory of what has been read of memory-mapped arrays back to the system.

    They stay usable (a page is read again when it is needed); other arrays are left alone.
    """
    for array in arrays:
        mapping = getattr(array, "_mmap", None)
        if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)


def _tiles(image: NDArray[Any], side: int) -> NDArray[Any]:
    rows, columns = image.shape[0] // side, image.shape[1] // side
    whole = image[: rows * side, : columns * side]
    return whole.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)

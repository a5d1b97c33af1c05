"""Patch stacks: the equal squares into which micrographs are cut."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "PATCH_COLUMNS",
    "PatchLayout",
    "PatchStack",
    "PatchStream",
    "cut_patches",
    "micrograph_layouts",
    "on_grid",
    "patch_grid",
    "release",
    "shuffled",
    "whole_micrograph",
]

_Pixel = TypeVar("_Pixel", bound=np.generic)

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

    def __repr__(self) -> str:
        n, side, count = len(self), self.images.shape[1], self.table["micrograph_id"].nunique()
        split = f" of {self.attributes['split']}" if self.attributes.get("split") else ""
        return (
            f"PatchStack{split}: {n} patches of {side} px from {count} micrographs; .images and "
            f".labels {self.images.shape}, .table a row a patch, .attributes"
        )


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

    def __repr__(self) -> str:
        return f"PatchStream: {self.n_patches} patches of {self.patch_px} px, each made in its turn"


def patch_grid(shape: tuple[int, int], patch_px: int) -> NDArray[np.int64]:
    """Return row and column of the upper left pixel of every patch, row by row.

    Patches lie side by side; the last row and column are moved back to end with the micrograph,
    so that together they show all of it (the published protocol leaves the moved ones out:
    :func:`on_grid`).

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
    rows, columns = (
        np.minimum(np.arange(-(-side // patch_px)) * patch_px, side - patch_px) for side in shape
    )
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)


def on_grid(table: pd.DataFrame, patch_px: int) -> NDArray[np.bool_]:
    """Return which patches overlap no earlier one: those of the published protocol.

    Parameters
    ----------
    table : DataFrame, N rows
        A patch table.
    patch_px : int

    Returns
    -------
    ndarray, shape (N,), bool
    """
    corners = table[["row", "column"]].to_numpy(np.int64)
    return np.asarray((corners % patch_px == 0).all(axis=1))


@dataclass(frozen=True)
class PatchLayout:
    """Where the patches of a micrograph lie, which show all of it.

    Attributes
    ----------
    first : int
        Position of its first patch in the stack; the others follow, row by row.
    height_px, width_px : int
        Of the micrograph.
    columns : int
        Patches in a row.
    """

    first: int
    height_px: int
    width_px: int
    columns: int


def micrograph_layouts(table: pd.DataFrame, patch_px: int) -> dict[str, PatchLayout]:
    """Return where the patches of each micrograph lie, in the order of the stack.

    Parameters
    ----------
    table : DataFrame
        A patch table.
    patch_px : int

    Returns
    -------
    dict of str to PatchLayout
        By micrograph.

    Raises
    ------
    ValueError
        Patches that are not those of :func:`patch_grid`, row by row.
    """
    layouts = {}
    for micrograph, positions in table.groupby("micrograph_id", sort=False).indices.items():
        corners = table[["row", "column"]].to_numpy(np.int64)[positions]
        height, width = (int(side) for side in corners.max(axis=0) + patch_px)
        expected = patch_grid((height, width), patch_px)
        in_a_row = positions[-1] - positions[0] + 1 == len(positions)
        if not (in_a_row and np.array_equal(corners, expected)):
            raise ValueError(
                f"the patches of micrograph {micrograph!r} do not show all of its {height} x "
                f"{width} px, row by row: run preprocessing again"
            )
        columns = len(np.unique(corners[:, 1]))
        layouts[str(micrograph)] = PatchLayout(int(positions[0]), height, width, columns)
    return layouts


def whole_micrograph(
    patches: NDArray[_Pixel], layout: PatchLayout, table: pd.DataFrame
) -> NDArray[_Pixel]:
    """Put a micrograph together again from its patches.

    Parameters
    ----------
    patches : ndarray, shape (N, P, P)
        Images or labels of a stack.
    layout : PatchLayout
    table : DataFrame, N rows
        Patch table of the stack.

    Returns
    -------
    ndarray, shape (height_px, width_px)
    """
    side = patches.shape[1]
    whole = np.empty((layout.height_px, layout.width_px), patches.dtype)
    n = len(patch_grid(whole.shape, side))
    rows, columns = (table[name].to_numpy() for name in ("row", "column"))
    for i in range(layout.first, layout.first + n):
        whole[rows[i] : rows[i] + side, columns[i] : columns[i] + side] = patches[i]
    return whole


def cut_patches(
    image: NDArray[np.float32], label: NDArray[np.uint8], patch_px: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]:
    """Cut a micrograph and its label into patches that show all of it (:func:`patch_grid`).

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
    cuts = [np.s_[r : r + patch_px, c : c + patch_px] for r, c in corners]
    return (
        np.stack([image[cut] for cut in cuts]),
        np.stack([label[cut] for cut in cuts]),
        corners,
    )


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

"""Example micrographs: what the best, the median and the worst prediction of a cell look like."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temshift.microscopy.pictures import shrink_factor, stretch

__all__ = ["LARGEST_PX", "RANKS", "Example", "make_example", "make_thumbnails", "pick_examples"]

#: Longest side of an example: patches of the usual size are kept in full.
LARGEST_PX = 512

#: Ranks of the examples of a cell, in the order in which they are shown.
RANKS = ("best", "median", "worst")


@dataclass(frozen=True)
class Example:
    """One patch of a tested micrograph, small enough to be shown.

    Attributes
    ----------
    test_split, micrograph_id : str
    rank : {"best", "median", "worst", ""}
        Among the micrographs of the split, by Dice; empty as long as that is not known.
    dice : float
        Of the whole micrograph.
    image : ndarray, shape (H, W), uint8
        Grey values; black and white are the 0.5th and the 99.5th percentile.
    label, prediction : ndarray, shape (H, W), uint8
        1 where a particle is, or is predicted.
    pixel_size_nm : float, optional
        Of the patch.
    shrunk : int
        Pixels of the patch along a pixel of the picture.
    """

    test_split: str
    micrograph_id: str
    rank: str
    dice: float
    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    pixel_size_nm: float | None = None
    shrunk: int = 1

    def __repr__(self) -> str:
        return (
            f"Example: {self.micrograph_id} of {self.test_split}, the {self.rank}, Dice "
            f"{self.dice:.2f}; .image, .label, .prediction {self.image.shape}"
        )


def make_example(
    test_split: str,
    micrograph_id: str,
    dice: float,
    image: NDArray[np.float32],
    label: NDArray[Any],
    prediction: NDArray[Any],
    pixel_size_nm: float | None = None,
    max_px: int = LARGEST_PX,
) -> Example:
    """Return one patch of a tested micrograph as an example, not yet ranked.

    Parameters
    ----------
    test_split, micrograph_id, dice, pixel_size_nm
        See :class:`Example`.
    image, label, prediction, max_px
        See :func:`make_thumbnails`.
    """
    pictures = make_thumbnails(image, label, prediction, max_px)
    shrunk = shrink_factor(image.shape, max_px)
    return Example(test_split, micrograph_id, "", float(dice), *pictures, pixel_size_nm, shrunk)


def make_thumbnails(
    image: NDArray[np.float32],
    label: NDArray[Any],
    prediction: NDArray[Any],
    max_px: int = LARGEST_PX,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Shrink a patch and its masks by a whole factor until no side exceeds ``max_px``.

    Parameters
    ----------
    image : ndarray, shape (H, W), float32
    label, prediction : ndarray, shape (H, W), bool or integer
        Not 0 where a particle is.
    max_px : int
        Largest side of the result.

    Returns
    -------
    image : ndarray, shape (H', W'), uint8
        Block means (:func:`temshift.microscopy.pictures.stretch`).
    label, prediction : ndarray, shape (H', W'), uint8 of {0, 1}
        1 where at least half of the block is.
    """
    factor = shrink_factor(image.shape, max_px)
    grey = stretch(_block_means(np.asarray(image, np.float64), factor))
    masks = (_block_means(np.asarray(m) != 0, factor) >= 0.5 for m in (label, prediction))
    small_label, small_prediction = (mask.astype(np.uint8) for mask in masks)
    return grey, small_label, small_prediction


def pick_examples(candidates: Iterable[Example]) -> list[Example]:
    """Return the best, the median and the worst micrograph of each test split, ranked.

    With fewer than three micrographs the same one is not shown twice: one is the median, two are
    best and worst.

    Parameters
    ----------
    candidates : iterable of Example
        One a tested micrograph, of its most telling patch.
    """
    by_split: dict[str, list[Example]] = {}
    for candidate in candidates:
        by_split.setdefault(candidate.test_split, []).append(candidate)
    examples = []
    for found in by_split.values():
        ranked = sorted(found, key=lambda e: (-e.dice, e.micrograph_id))
        places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
        shown = RANKS if len(ranked) > 2 else ("best", "worst") if len(ranked) == 2 else ("median",)
        examples += [replace(ranked[places[rank]], rank=rank) for rank in shown]
    return examples


def _block_means(image: NDArray[Any], factor: int) -> NDArray[np.float64]:
    """Means of ``factor`` × ``factor`` blocks; an incomplete block at the far edges is dropped."""
    rows, columns = (side // factor for side in image.shape)
    blocks = image[: rows * factor, : columns * factor]
    means: NDArray[np.float64] = blocks.reshape(rows, factor, columns, factor).mean(axis=(1, 3))
    return means

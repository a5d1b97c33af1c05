"""Example micrographs: what the best, the median and the worst prediction of a cell look like."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temshift.microscopy.pictures import stretch

__all__ = ["RANKS", "Candidate", "Example", "make_thumbnails", "pick_examples"]

#: Ranks of the examples of a cell, in the order in which they are shown.
RANKS = ("best", "median", "worst")

#: Test split, micrograph, Dice of the micrograph, and image, label and prediction of one patch.
Candidate = tuple[str, str, float, NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class Example:
    """One patch of a tested micrograph, small enough to be shown.

    Attributes
    ----------
    test_split, micrograph_id : str
    rank : {"best", "median", "worst"}
        Among the micrographs of the split, by Dice.
    dice : float
        Of the whole micrograph.
    image : ndarray, shape (H, W), uint8
        Grey values; black and white are the 0.5th and the 99.5th percentile.
    label, prediction : ndarray, shape (H, W), uint8
        1 where a particle is, or is predicted.
    """

    test_split: str
    micrograph_id: str
    rank: str
    dice: float
    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    prediction: NDArray[np.uint8]

    def __repr__(self) -> str:
        return (
            f"Example: {self.micrograph_id} of {self.test_split}, the {self.rank}, Dice "
            f"{self.dice:.2f}; .image, .label, .prediction {self.image.shape}"
        )


def make_thumbnails(
    image: NDArray[np.float32], label: NDArray[Any], prediction: NDArray[Any], max_px: int = 256
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
    factor = -(-max(image.shape) // max_px)
    grey = stretch(_block_means(np.asarray(image, np.float64), factor))
    masks = (_block_means(np.asarray(m) != 0, factor) >= 0.5 for m in (label, prediction))
    small_label, small_prediction = (mask.astype(np.uint8) for mask in masks)
    return grey, small_label, small_prediction


def pick_examples(candidates: Iterable[Candidate], max_px: int = 256) -> list[Example]:
    """Return the best, the median and the worst micrograph of each test split.

    With fewer than three micrographs the same one is not shown twice: one is the median, two are
    best and worst.

    Parameters
    ----------
    candidates : iterable of tuple
        One a tested micrograph: test split, micrograph, Dice of the micrograph, and image, label
        and prediction of its most telling patch.
    max_px : int
        Largest side of the pictures.
    """
    by_split: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_split.setdefault(candidate[0], []).append(candidate)
    examples = []
    for split, found in by_split.items():
        ranked = sorted(found, key=lambda c: (-c[2], c[1]))
        places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
        shown = RANKS if len(ranked) > 2 else ("best", "worst") if len(ranked) == 2 else ("median",)
        for rank in shown:
            _, micrograph, dice, image, label, prediction = ranked[places[rank]]
            thumbnails = make_thumbnails(image, label, prediction, max_px)
            examples.append(Example(split, micrograph, rank, float(dice), *thumbnails))
    return examples


def _block_means(image: NDArray[Any], factor: int) -> NDArray[np.float64]:
    """Means of ``factor`` × ``factor`` blocks; an incomplete block at the far edges is dropped."""
    rows, columns = (side // factor for side in image.shape)
    blocks = image[: rows * factor, : columns * factor]
    means: NDArray[np.float64] = blocks.reshape(rows, factor, columns, factor).mean(axis=(1, 3))
    return means

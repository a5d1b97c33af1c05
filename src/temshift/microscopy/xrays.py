"""X-ray outliers: single pixels (or small clusters) hit by an x-ray, far above their surroundings.

The procedure is that of the published study (``docs/preprocessing.md``): pixels above median +
threshold are replaced, brightest first, by the mean of their neighbours, in two passes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from temshift.microscopy.bands import row_bands

__all__ = ["Median", "remove_xrays"]


def remove_xrays(
    image: NDArray[np.float32],
    threshold: float,
    passes: int = 2,
    method: Literal["clusters", "published"] = "clusters",
) -> int:
    """Replace x-ray outliers in place.

    A pixel is an outlier if it lies more than ``threshold`` above the median of the image. The
    outliers of a pass are found first. Each has 8 neighbours, at the border 5, in a corner 3.
    Every pass takes a new median.

    Parameters
    ----------
    image : ndarray, shape (H, W), float32
        Detector counts; changed in place.
    threshold : float
        Counts above the median, positive.
    passes : int
        Upper limit; a pass that finds nothing is the last.
    method : {"clusters", "published"}
        ``clusters``: an outlier becomes the mean of those neighbours that are none; the pixels
        inside of a cluster follow when their neighbours have been replaced.
        ``published``: the outliers are replaced one after another, the brightest first (of equal
        ones the last in reading order), each by the mean of all its neighbours *as they are at
        that moment*: one replaced before counts with its new value, one still to come with its
        old. For outliers without another beside them both are the same.

    Returns
    -------
    int
        Replaced pixels, all passes together.

    Notes
    -----
    The published code gives border pixels the mean of the whole image instead.
    """
    replace = _fill_clusters if method == "clusters" else _brightest_first
    median = Median(image)
    # in no pass can another pixel be an outlier, as the median never falls below `median.low`
    suspects = np.flatnonzero(image > np.float32(median.low + threshold))
    replaced = 0
    for _ in range(passes):
        if not median.known:
            median = Median(image, exhaustive=True)
            suspects = np.arange(image.size)
        values = image.ravel()[suspects]
        found = values > np.float32(median.value + threshold)
        if not found.any():
            break
        outliers = suspects[found]
        replace(image, outliers)
        median.replace_above(median.value + threshold, image.ravel()[outliers])
        replaced += len(outliers)
    return replaced


def _brightest_first(image: NDArray[np.float32], outliers: NDArray[np.intp]) -> None:
    """Replace outliers as the published study does."""
    # highest first; a stable sort makes the order of equal values the same everywhere
    order = np.argsort(image.ravel()[outliers], kind="stable")[::-1]
    rows, columns = np.unravel_index(outliers[order], image.shape)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        block = image[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        neighbours = block.sum(dtype=np.float64) - float(image[row, column])
        image[row, column] = neighbours / (block.size - 1)


def _fill_clusters(image: NDArray[np.float32], outliers: NDArray[np.intp]) -> None:
    """Replace outliers by the mean of good neighbours, ring by ring from the rim of a cluster."""
    height, width = image.shape
    bad = np.zeros(image.shape, bool)
    bad.ravel()[outliers] = True
    ring = outliers
    while ring.size:
        rows, columns = _neighbours(ring, width)
        good = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
        good &= ~bad[rows, columns]
        n_good = good.sum(axis=0)
        filled = ring[n_good > 0]
        if not filled.size:
            return  # an image of outliers only; the median forbids it
        total = np.where(good, image[rows, columns], 0).sum(axis=0, dtype=np.float64)
        image.ravel()[filled] = (total[n_good > 0] / n_good[n_good > 0]).astype(np.float32)
        bad.ravel()[filled] = False
        rows, columns = _neighbours(filled, width)
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        beside = np.unique(rows[inside] * width + columns[inside])
        ring = beside[bad.ravel()[beside]]


def _neighbours(pixels: NDArray[np.intp], width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns of the 8 neighbours of pixels, shape (8, n), also outside."""
    steps = np.array([(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c])
    rows, columns = np.divmod(pixels, width)
    return rows + steps[:, :1], columns + steps[:, 1:]


class Median:
    """The exact median of an image, kept up to date while its brightest pixels are replaced.

    ``np.median`` partitions all pixels. Here a sample tells between which two values the median
    should lie (it is checked); the pixels below are counted, and only the few between are kept.

    Parameters
    ----------
    image : ndarray, shape (H, W), float32
    exhaustive : bool
        Keep all pixels.

    Attributes
    ----------
    low : float
        The median is known while it lies at or above this value.
    """

    #: Below this size all pixels are kept.
    small_px = 1 << 19

    _between: NDArray[np.float32]

    def __init__(self, image: NDArray[np.float32], exhaustive: bool = False) -> None:
        self.n = image.size
        low, high = -np.inf, np.inf
        if not exhaustive and self.n >= self.small_px:
            # an odd stride, so that the sample is no single column
            sample = image.ravel()[:: (self.n >> 17) | 1]
            low, high = np.quantile(sample, [0.493, 0.507], method="nearest")
        self._keep_between(image, low, high)
        if not self.known:
            self._keep_between(image, -np.inf, np.inf)

    @property
    def known(self) -> bool:
        """Whether the median still lies among the pixels that were kept."""
        first, second = self._ranks()
        return first >= 0 and second < self._between.size

    @property
    def value(self) -> float:
        """The median."""
        first, second = self._ranks()
        self._between.partition([first, second])
        return (float(self._between[first]) + float(self._between[second])) / 2

    def replace_above(self, limit: float, values: NDArray[np.float32]) -> None:
        """Account for new values of all pixels above ``limit``, which is above the median."""
        between = values[(values >= self.low) & (values <= self._high)]
        kept = self._between[self._between <= np.float32(limit)]
        self._between = np.concatenate([kept, between])
        self._below += int(np.count_nonzero(values < self.low))

    def _keep_between(self, image: NDArray[np.float32], low: float, high: float) -> None:
        self.low, self._high, self._below = low, high, 0
        between = []
        for rows in row_bands(image.shape):
            band = image[rows]
            too_low = band < low
            self._below += int(np.count_nonzero(too_low))
            between.append(band[(band <= high) ^ too_low])
        self._between = np.concatenate(between)

    def _ranks(self) -> tuple[int, int]:
        """Return where the two middle pixels stand among those that were kept."""
        return (self.n - 1) // 2 - self._below, self.n // 2 - self._below

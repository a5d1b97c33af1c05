"""Row bands: an image worked on in pieces that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["row_bands"]

#: Pixels of a band: 1 MB of float32, so that several passes over it cost one trip to memory, and
#: the steps between them are too few to count.
_BAND_PX = 1 << 18


def row_bands(shape: tuple[int, int]) -> Iterator[slice]:
    """Yield slices of rows that cover an image of shape (H, W) once, in order."""
    height, width = shape
    rows = max(1, _BAND_PX // max(1, width))
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))

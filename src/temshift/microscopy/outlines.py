"""Outlines of numbered particles as paths of SVG."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["particle_outlines"]


def particle_outlines(
    numbered: NDArray[np.int32], tolerance_px: float = 1.0, most: int = 500
) -> dict[int, str]:
    """Return the outline of each particle as the path data of SVG, in px of the image.

    Parameters
    ----------
    numbered : ndarray, shape (H, W), int32
        0 is background, 1 … n the particles.
    tolerance_px : float
        How far the polygon may lie from the outline.
    most : int
        Only so many particles, the largest, get one.

    Returns
    -------
    dict of int to str
        By number, in their order; x to the right, y down, the corner of the first pixel at 0, 0.

    Examples
    --------
    >>> particle_outlines(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]))
    {1: 'M1.5 2L1 1.5L1.5 1L2 1.5Z'}
    """
    from scipy.ndimage import find_objects
    from skimage.measure import approximate_polygon, find_contours

    found = [(i, where) for i, where in enumerate(find_objects(numbered), start=1) if where]
    if len(found) > most:
        areas = np.bincount(numbered.ravel())
        kept = set(np.argsort(-areas[1:], kind="stable")[:most] + 1)
        found = [(i, where) for i, where in found if i in kept]
    outlines = {}
    for i, where in found:
        own = np.pad((numbered[where] == i).astype(np.float32), 1)
        parts = []
        for contour in find_contours(own, 0.5):
            polygon = approximate_polygon(contour, tolerance_px)
            if len(polygon) < 4 or not np.array_equal(polygon[0], polygon[-1]):
                polygon = contour
            # half a pixel from centre to corner, a pixel of padding
            rows = polygon[:-1, 0] + where[0].start - 0.5
            columns = polygon[:-1, 1] + where[1].start - 0.5
            points = (f"{x:.4g} {y:.4g}" for x, y in zip(columns, rows, strict=True))
            parts.append("M" + "L".join(points) + "Z")
        outlines[i] = "".join(parts)
    return outlines

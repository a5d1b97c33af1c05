"""Sizes of the particles in a mask, measured roughly and fast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["median_diameter_px"]

#: Pixels along the longer side of a mask that are looked at; larger masks are thinned out.
_SIDE_PX = 1024


def median_diameter_px(label: NDArray[np.uint8]) -> float | None:
    """Return the median equivalent diameter, 2 √(area / π), of the connected labelled regions.

    Meant for the question whether a pixel size can be true: to tell a factor of ten, not a tenth.

    Parameters
    ----------
    label : ndarray, shape (H, W), uint8
        1 where a particle is.

    Returns
    -------
    float or None
        In px; ``None`` if nothing is labelled.

    Examples
    --------
    >>> disc = np.hypot(*np.mgrid[-50:50, -50:50]) < 20
    >>> round(median_diameter_px(disc.astype(np.uint8)))
    40
    """
    from scipy import ndimage

    step = -(-max(label.shape) // _SIDE_PX)
    regions, count = ndimage.label(label[::step, ::step])
    if count == 0:
        return None
    areas = np.bincount(regions.ravel())[1:]
    return float(2 * np.sqrt(np.median(areas) / np.pi) * step)

"""What a mask of several values means: numbers of particles, or grey levels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_particles"]

#: Regions of the same value for each value of a mask that numbers its particles, at most.
_REGIONS = 3
#: Pixels of the mask for each value that numbers a particle, at least; particles are larger.
_LEAST_PX = 8

_EXPECTED = "{0, 1} or {0, 255}, or numbers its particles from 1"
_REMEDY = "binarise it, and save it as PNG or TIFF"


def as_particles(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a mask of two values, or one that numbers its particles, has a particle.

    Parameters
    ----------
    mask : ndarray, shape (H, W)
        Boolean; {0, 1}, {0, 255} or any other value beside 0; or the number of the particle, with
        0 for the background.

    Raises
    ------
    ValueError
        It is no single image, holds NaN, several values beside 0 that do not number particles, or
        so many in so many places that they are grey levels.
    """
    from skimage.measure import label

    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"a mask has the shape (H, W) of its image, found {mask.shape}")
    if mask.dtype.kind not in "buif" or not np.isfinite(mask).all():
        raise ValueError("a mask holds 0 for the background and numbers for particles")
    values = np.unique(mask)
    particles = values[values != 0]
    if len(particles) > 1:
        _refuse_no_numbers(values, mask.size)
        _, numbers = np.unique(mask, return_inverse=True)
        regions = label(numbers.reshape(mask.shape), background=0, connectivity=2).max()
        if regions > _REGIONS * len(particles):
            raise ValueError(
                f"a mask holds {_EXPECTED}; this one has "
                f"{len(particles)} values beside 0 in {regions} places, as an image with grey "
                f"levels has: {_REMEDY}"
            )
    return np.asarray(mask != 0)


def _refuse_no_numbers(values: NDArray[Any], n_pixels: int) -> None:
    """Refuse several values that cannot be background and numbers of particles."""
    odd = values[(values < 0) | (values != np.floor(values))]
    if odd.size:
        kind = "a negative number" if odd[0] < 0 else "no whole number"
        found = f"{len(values)} values, among them {odd[0]:.6g}, {kind}"
    elif values[0] != 0:
        found = f"{len(values)} values, but no 0"
    elif len(values) > n_pixels / _LEAST_PX:
        found = f"{len(values)} values in {n_pixels} pixels"
    else:
        return
    raise ValueError(
        f"a mask holds {_EXPECTED}; this one has {found}, as an image with grey levels "
        f"has: {_REMEDY}"
    )

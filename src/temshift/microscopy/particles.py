"""From a mask to single particles and their sizes.

A mask is semantic: touching particles are one region. Regions are separated where their distance
transform has two maxima with a neck between them, and measured with
:func:`skimage.measure.regionprops_table`. Particles that the edge of the field cuts are not
measured; since large ones are cut more often, each of the others stands for several of its kind
(:func:`edge_weights`; Miles 1974; Lantuéjoul 1978: the Miles–Lantuéjoul correction).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from temshift.microscopy.bands import row_bands

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "PARTICLE_COLUMNS",
    "edge_weights",
    "measure_diameters",
    "measure_particles",
    "median_diameter_px",
    "separate_particles",
    "smallest_area_px2",
    "speck_limit_px2",
    "typical_diameter_px",
    "weighted_quantiles",
    "without_specks",
]

#: Pixels along the longer side of a mask that are looked at; larger masks are thinned out.
_SIDE_PX = 1024

#: Regions of a smaller diameter than this share of the smallest that a network was trained on are
#: taken for specks of false foreground.
SPECK_SHARE = 0.4

#: Largest share of the foreground that specks hold, where the size of particles is not known: what
#: holds more may be the particles themselves.
_SPECKS_HOLD = 0.1

#: Holes smaller than this share of the smallest particle do not count when touching ones are
#: divided. The gap between three touching discs is a tenth of one of them, even of the smallest.
_HOLE_SHARE = 0.1

#: Without anything known of the particles a region of fewer pixels has no shape.
_FEWEST_PX2 = 16

#: Columns of a particle table that hold lengths or areas, with the power of the pixel size.
_LENGTHS = {
    "equivalent_diameter": 1,
    "feret_diameter": 1,
    "minor_axis": 1,
    "major_axis": 1,
    "area": 2,
}

#: Columns of a particle table: name, unit, meaning (the data dictionary).
PARTICLE_COLUMNS = {
    "particle": ("", "number of the particle in its micrograph, as in the numbered mask"),
    "row_px": ("px", "centroid, from the upper edge"),
    "column_px": ("px", "centroid, from the left edge"),
    "area_px2": ("px²", "area"),
    "equivalent_diameter_px": ("px", "diameter of the circle of the same area"),
    "feret_diameter_px": ("px", "largest distance between two points of the outline"),
    "minor_axis_px": ("px", "minor axis of the ellipse with the same second moments"),
    "major_axis_px": ("px", "major axis of the ellipse with the same second moments"),
    "area_nm2": ("nm²", "area; empty without a pixel size"),
    "equivalent_diameter_nm": ("nm", "diameter of the circle of the same area"),
    "feret_diameter_nm": ("nm", "largest distance between two points of the outline"),
    "minor_axis_nm": ("nm", "minor axis of the ellipse with the same second moments"),
    "major_axis_nm": ("nm", "major axis of the ellipse with the same second moments"),
    "eccentricity": ("", "of the ellipse with the same second moments; 0 is a circle"),
    "solidity": ("", "area over that of the convex hull"),
    "touches_edge": ("", "cut by the edge of the field: not part of the distribution"),
    "was_split": ("", "separated from a particle that it touches"),
    "certainty": ("", "mean probability of its pixels, 0.5 to 1"),
    "edge_weight": (
        "",
        "particles that it stands for (Miles–Lantuéjoul); 0 if it touches the edge",
    ),
}


def smallest_area_px2(diameter_px: float | None) -> int:
    """Return the area below which a region is no particle, from the smallest known diameter.

    A network finds particles like those that it was trained on; false foreground comes in smaller
    pieces. The limit is the area of a disc of :data:`SPECK_SHARE` times the diameter: a network for
    particles of 5 nm still counts those of 2.2 nm.

    Parameters
    ----------
    diameter_px : float, optional
        Smallest typical diameter among the training sets of the network, px of this image; where
        that is unknown see :func:`speck_limit_px2`.

    Examples
    --------
    >>> smallest_area_px2(250.0), smallest_area_px2(None)
    (7854, 16)
    """
    if diameter_px is None:
        return _FEWEST_PX2
    return max(_FEWEST_PX2, round(np.pi / 4 * (SPECK_SHARE * diameter_px) ** 2))


def without_specks(mask: NDArray[Any], smallest_area_px2: int) -> tuple[NDArray[np.bool_], int]:
    """Return the regions of a mask that are large enough, and how many were left out.

    Regions that the edge of the field cuts are measured by what of them lies inside.

    Parameters
    ----------
    mask : ndarray, shape (H, W)
        Not 0 where a particle is. Whole regions are judged, before touching particles are divided.
    smallest_area_px2 : int
        Smaller regions are left out.
    """
    from scipy.ndimage import label

    regions, n = label(np.asarray(mask) != 0)
    kept = np.concatenate([[False], _counts(regions, n) >= smallest_area_px2])
    return kept[regions], int(n - kept.sum())


def typical_diameter_px(mask: NDArray[Any], neck: float = 0.8) -> float | None:
    """Return the diameter of the particle in which the median foreground pixel lies.

    By area, specks hardly count, however many there are. Touching particles are divided before, so
    that a cluster is not taken for one. ``None`` for an empty mask.

    Parameters
    ----------
    mask : ndarray, shape (H, W)
        Not 0 where a particle is.
    neck : float
        See :func:`separate_particles`.
    """
    numbered, parents = _separated(np.asarray(mask), neck, 2.0)
    areas = _counts(numbered, len(parents)).astype(float)
    if not len(areas):
        return None
    return float(2 * np.sqrt(weighted_quantiles(areas, areas, [0.5])[0] / np.pi))


def speck_limit_px2(mask: NDArray[Any], neck: float = 0.8) -> int:
    """Return the area below which a region is no particle, where nothing is known of particles.

    That of :func:`smallest_area_px2` for the typical diameter of the mask, but at most so large
    that the regions below it hold a tenth of the foreground: of many small particles beside a few
    large ones, none is a speck.

    Parameters
    ----------
    mask, neck
        As for :func:`typical_diameter_px`.
    """
    from scipy.ndimage import label

    limit = smallest_area_px2(typical_diameter_px(mask, neck))
    areas = np.sort(_counts(*label(np.asarray(mask) != 0)))
    beyond = areas[np.cumsum(areas) > _SPECKS_HOLD * areas.sum()]
    return int(max(_FEWEST_PX2, min(limit, beyond[0]))) if len(beyond) else limit


def separate_particles(
    mask: NDArray[np.uint8], neck: float = 0.8, smallest_px: float = 2.0
) -> NDArray[np.int32]:
    """Give every particle of a mask a number, touching ones apart.

    A region is divided by a watershed of its distance transform between two maxima if the neck
    between them is narrower than ``neck`` times the radius of the smaller one. Small holes are no
    outline: they are filled before, and stay holes of the particle.

    Parameters
    ----------
    mask : ndarray, shape (H, W)
        Not 0 where a particle is.
    neck : float
        Between 0 (never divide) and 1 (divide at the slightest waist). Two circles of one size
        that overlap by a fifth of their diameter have a neck of 0.6.
    smallest_px : float
        Radius below which a maximum is roughness of an outline and no particle of its own.

    Returns
    -------
    ndarray, shape (H, W), int32
        0 is background, 1 … n the particles, in the order of their first pixels.
    """
    return _separated(mask, neck, smallest_px)[0]


def _separated(
    mask: NDArray[np.uint8], neck: float, smallest_px: float
) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Return the particles by their numbers and, for each from number 1, that of its region."""
    from scipy.ndimage import distance_transform_edt, find_objects
    from scipy.ndimage import label as connected_regions
    from skimage.measure import label
    from skimage.morphology import local_maxima, reconstruction
    from skimage.segmentation import relabel_sequential, watershed

    regions, _ = connected_regions(np.asarray(mask) != 0)
    regions = regions.astype(np.int32, copy=False)
    parents: list[int] = []
    # what is done is numbered downwards from -1, so that a second image of numbers is not needed
    for number, where in enumerate(find_objects(regions), start=1):
        last = len(parents)
        own = regions[where] == number
        region = _without_holes(np.pad(own, 1), smallest_px)
        depth = distance_transform_edt(region)
        if _is_one(depth, neck, smallest_px):
            regions[where][own] = -last - 1
            parents.append(number)
            continue
        # a neck relative to a radius is a difference of logarithms
        logarithm = np.log(np.maximum(depth, 0.5))
        seed = logarithm + np.log(neck) if neck > 0 else np.full_like(logarithm, logarithm.min())
        domes = reconstruction(np.maximum(seed, logarithm.min()), logarithm)
        peaks = label(local_maxima(domes) & region, connectivity=2)
        tall = np.unique(peaks[(peaks > 0) & (depth >= smallest_px)])
        if len(tall) > 1:
            markers = np.where(np.isin(peaks, tall), peaks, 0)
            parts = relabel_sequential(watershed(-depth, markers, mask=region))[0]
        else:
            parts = region.astype(np.int32)
        parts = parts[1:-1, 1:-1][own]
        regions[where][own] = -last - parts
        parents += [number] * int(parts.max())
    np.negative(regions, out=regions)
    return regions, np.array(parents, np.intp)


def _without_holes(region: NDArray[np.bool_], smallest_px: float) -> NDArray[np.bool_]:
    """Fill the holes of a region that are too small to be the gap between touching particles.

    ``smallest_px`` is half the radius of the smallest particle.
    """
    from scipy.ndimage import label as connected_regions

    holes, n = connected_regions(~region)
    if n < 2:  # the outside alone
        return region
    small = np.bincount(holes.ravel()) < _HOLE_SHARE * np.pi * (2 * smallest_px) ** 2
    small[[0, holes[0, 0]]] = False
    filled: NDArray[np.bool_] = region | small[holes]
    return filled


def _is_one(depth: NDArray[np.float64], neck: float, smallest_px: float) -> bool:
    """Return whether a region is surely not to be divided, without finding its domes.

    All its maxima lie in one piece of what is deeper than a neck at the deepest could be.
    """
    from scipy.ndimage import label as connected_regions
    from scipy.ndimage import maximum_filter

    core, pieces = connected_regions(depth > neck * depth.max() * (1 + 1e-9), np.ones((3, 3)))
    if pieces != 1:
        return False
    maxima = (depth == maximum_filter(depth, 3)) & (depth >= smallest_px)
    return not (maxima & (core == 0)).any()


def measure_particles(
    mask: NDArray[np.uint8],
    probability: NDArray[np.floating[Any]] | None = None,
    pixel_size_nm: float | None = None,
    neck: float = 0.8,
    smallest_area_px2: int = 16,
) -> tuple[pd.DataFrame, NDArray[np.int32]]:
    """Measure every particle of a mask.

    Parameters
    ----------
    mask : ndarray, shape (H, W)
        Not 0 where a particle is.
    probability : ndarray, shape (H, W), optional
        Of a particle, 0 … 1.
    pixel_size_nm : float, optional
        Without it the columns in nm are NaN.
    neck : float
        See :func:`separate_particles`.
    smallest_area_px2 : int
        Smaller regions are noise and left out.

    Returns
    -------
    particles : DataFrame
        Columns :data:`PARTICLE_COLUMNS`, one row a particle.
    numbered : ndarray, shape (H, W), int32
        The particles of the table by their numbers; 0 is background.

    Raises
    ------
    ValueError
        Mask and probability of different shapes.
    """
    import pandas as pd
    from skimage.measure import regionprops_table

    if probability is not None and probability.shape != mask.shape:
        raise ValueError(
            f"the mask has {mask.shape[0]} × {mask.shape[1]} px, the probability "
            f"{probability.shape[0]} × {probability.shape[1]}: they do not belong together"
        )
    numbered, was_split = _large_particles(mask, neck, smallest_area_px2)
    n = len(was_split)

    properties: tuple[str, ...] = (
        "label",
        "centroid",
        "area",
        "equivalent_diameter_area",
        "feret_diameter_max",
    )
    properties += ("axis_minor_length", "axis_major_length", "eccentricity", "solidity", "bbox")
    found = regionprops_table(numbered, properties=properties)
    if not n:
        found = {name: np.empty(0) for name in found}
    table = pd.DataFrame(
        {
            "particle": found["label"].astype(int),
            "row_px": found["centroid-0"],
            "column_px": found["centroid-1"],
            "area_px2": found["area"],
            "equivalent_diameter_px": found["equivalent_diameter_area"],
            "feret_diameter_px": found["feret_diameter_max"],
            "minor_axis_px": found["axis_minor_length"],
            "major_axis_px": found["axis_major_length"],
            "eccentricity": found["eccentricity"],
            "solidity": found["solidity"],
        }
    )
    for name, power in _LENGTHS.items():
        squared = "2" if power == 2 else ""
        factor = np.nan if pixel_size_nm is None else pixel_size_nm**power
        table[f"{name}_nm{squared}"] = table[f"{name}_px{squared}"] * factor
    height, width = mask.shape
    top, left, bottom, right = (found[f"bbox-{i}"] for i in range(4))
    table["touches_edge"] = (top == 0) | (left == 0) | (bottom == height) | (right == width)
    table["edge_weight"] = edge_weights(
        bottom - top, right - left, (height, width), table["touches_edge"].to_numpy(bool)
    )
    table["was_split"] = was_split
    certainty = np.full(n, np.nan)
    if probability is not None and n:
        sums = np.zeros(n + 1)
        for rows in row_bands(mask.shape):  # counting needs copies of what it counts
            own = probability[rows].astype(np.float64)
            sums += np.bincount(numbered[rows].ravel(), own.ravel(), minlength=n + 1)
        certainty = sums[1:] / found["area"]
    table["certainty"] = certainty
    return table[list(PARTICLE_COLUMNS)], numbered


def _large_particles(
    mask: NDArray[np.uint8], neck: float, smallest_area_px2: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the particles that are large enough, numbered anew, and which were separated."""
    # a part of a divided region is a particle, not a corner of one
    smallest_px = max(2.0, np.sqrt(smallest_area_px2 / np.pi) / 2)
    numbered, parents = _separated(mask, neck, smallest_px)
    sizes = _counts(numbered, len(parents))
    kept = np.flatnonzero(sizes >= smallest_area_px2) + 1
    new = np.zeros(len(parents) + 1, np.int32)
    new[kept] = np.arange(1, len(kept) + 1)
    for rows in row_bands(numbered.shape):  # numpy copies what it looks up, in eight bytes each
        numbered[rows] = new[numbered[rows]]
    return numbered, (np.bincount(parents)[parents] > 1)[kept - 1]


def _counts(numbered: NDArray[np.int32], n: int) -> NDArray[np.intp]:
    """Return the pixels of the particles 1 … n."""
    counts = np.zeros(n + 1, np.intp)
    for rows in row_bands(numbered.shape):
        counts += np.bincount(numbered[rows].ravel(), minlength=n + 1)
    return counts[1:]


def measure_diameters(
    mask: NDArray[np.uint8],
    pixel_size_nm: float | None = None,
    neck: float = 0.8,
    smallest_area_px2: int = 16,
) -> pd.DataFrame:
    """Measure the equivalent diameters alone, in a fraction of the time.

    Parameters
    ----------
    mask, pixel_size_nm, neck, smallest_area_px2
        As for :func:`measure_particles`.

    Returns
    -------
    DataFrame
        ``equivalent_diameter_px, equivalent_diameter_nm, touches_edge, edge_weight``, a row a
        particle, as :func:`measure_particles` gives them.
    """
    import pandas as pd
    from scipy.ndimage import find_objects

    numbered, was_split = _large_particles(mask, neck, smallest_area_px2)
    n = len(was_split)
    diameters = np.sqrt(4 * _counts(numbered, n) / np.pi)
    height, width = mask.shape
    boxes = np.array(
        [[rows.start, rows.stop, cols.start, cols.stop] for rows, cols in find_objects(numbered)]
    ).reshape(n, 4)
    top, bottom, left, right = boxes.T
    cut = (top == 0) | (left == 0) | (bottom == height) | (right == width)
    return pd.DataFrame(
        {
            "equivalent_diameter_px": diameters,
            "equivalent_diameter_nm": diameters * (pixel_size_nm or np.nan),
            "touches_edge": cut,
            "edge_weight": edge_weights(bottom - top, right - left, (height, width), cut),
        }
    )


def edge_weights(
    heights_px: NDArray[Any],
    widths_px: NDArray[Any],
    shape: tuple[int, int],
    touches_edge: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return how many particles of its kind each particle stands for.

    A particle of w × h px lies in a field of W × H px without touching its edge in
    (W − w − 1)(H − h − 1) of its positions, and has its centre in the field in W H of them
    (Miles–Lantuéjoul, in whole pixels).

    Parameters
    ----------
    heights_px, widths_px : ndarray, shape (n,)
        Of the bounding boxes.
    shape : (int, int)
        Height and width of the field, px.
    touches_edge : ndarray of bool, shape (n,)
        Those get the weight 0.

    Examples
    --------
    >>> edge_weights(np.array([1, 48]), np.array([1, 48]), (99, 99), np.array([False, False]))
    array([1.04166224, 3.9204    ])
    """
    height, width = shape
    room = np.maximum(height - heights_px - 1.0, 1.0) * np.maximum(width - widths_px - 1.0, 1.0)
    return np.where(touches_edge, 0.0, height * width / room)


def weighted_quantiles(
    values: NDArray[np.float64], weights: NDArray[np.float64], levels: list[float]
) -> NDArray[np.float64]:
    """Return quantiles of weighted values, linear between the middles of their steps.

    With equal weights this is Hazen's rule. NaN without values.

    Examples
    --------
    >>> weighted_quantiles(np.array([1.0, 2.0, 3.0]), np.ones(3), [0.5])
    array([2.])
    """
    keep = weights > 0
    if not keep.any():
        return np.full(len(levels), np.nan)
    order = np.argsort(values[keep])
    sorted_values, sorted_weights = values[keep][order], weights[keep][order]
    middle = (np.cumsum(sorted_weights) - sorted_weights / 2) / sorted_weights.sum()
    return np.interp(levels, middle, sorted_values)


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

"""Fingerprints: what the images of a split look like, in a few numbers.

They serve to say *why* a network fails on a split: how far two splits lie apart in each number is
compared with the drop in Dice. All intensities are those of the images given (standardised to mean
0 and standard deviation 1 for each micrograph, unless the parameters say otherwise).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.microscopy.patches import release
from temshift.parallel import available_cores, map_ordered

__all__ = ["LAGS_PX", "fingerprint", "fingerprint_distance"]

#: Lags of the autocorrelation, px (averaged over the two axes and directions).
LAGS_PX = ((1, 0), (1, 1), (2, 0), (2, 1), (2, 2))

#: Bins of the radial power spectrum, from 0 to the Nyquist frequency of 0.5 / px.
_BINS = 64

#: Fewer pixels than this of particle or background in a patch give no contrast.
_MIN_PX = 400

#: Threads.
_MAX_WORKERS = 4

#: Patches after which what has been read of a memory-mapped stack is given back.
_RELEASE_EVERY = 64


def fingerprint(
    images: NDArray[np.float32],
    labels: NDArray[np.uint8] | None = None,
    pixel_size_nm: float | None = None,
    table: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Describe a stack of patches.

    Parameters
    ----------
    images : ndarray, shape (N, P, P), float32
        May be memory-mapped: what has been read is given back to the system.
    labels : ndarray, shape (N, P, P), uint8, optional
        1 where a particle is. Without labels what needs them is ``None``.
    pixel_size_nm : float, optional
        Without it everything in nm is ``None``.
    table : DataFrame, optional
        ``micrograph_id, row, column`` of each patch, by which the patches of a micrograph are put
        together again before its particles are measured. Without it every patch is on its own, and
        particles as large as a patch go unseen.

    Returns
    -------
    dict
        JSON-serialisable:

        ``n_patches``, ``patch_px``, ``pixel_size_nm``
            As given.
        ``contrast``
            Median over patches of |mean of the particles − mean of the background|.
        ``contrast_to_noise``
            ``contrast / noise``.
        ``roughness_per_px2``
            Σ|F|²k² / Σ|F|² of the Fourier transform F of the (Hann-windowed) image, k in cycles
            per px: the mean square spatial frequency.
        ``noise``
            Standard deviation of uncorrelated noise that would explain the pixel-to-pixel
            differences (Immerkær, Comput. Vis. Image Underst. 64, 300, 1996). Noise blurred by the
            camera, as all real noise is, counts with its highest frequencies only.
        ``autocorrelation``
            Correlation of a pixel with its neighbours at :data:`LAGS_PX`, keys ``"1,0"`` ….
        ``power_spectrum``
            ``frequency_per_px`` (bin centres), ``frequency_per_nm`` or ``None``, ``power``: radial
            mean of |F|², its sum over all Fourier pixels below Nyquist scaled to 1.
        ``labelled_share``
            Share of the area that is labelled.
        ``n_particles``, ``diameter_px``, ``diameter_nm``
            Number and median equivalent diameter (2 √(area / π)) of the connected labelled regions
            that do not touch the edge of the micrograph.
    """
    patch_px = images.shape[1]

    def describe(i: int) -> _Patch:
        if i % _RELEASE_EVERY == 0:
            release(images, labels)
        return _describe(images[i], None if labels is None else labels[i])

    workers = min(available_cores(), _MAX_WORKERS)
    patches = list(map_ordered(describe, range(len(images)), workers, "fingerprint"))
    contrast = _median([patch.contrast for patch in patches])
    noise = _median([patch.noise for patch in patches])
    covariance = np.sum([patch.covariance for patch in patches], axis=0)
    variance = sum(patch.variance for patch in patches)
    power = np.sum([patch.power for patch in patches], axis=0)
    labelled_px = sum(patch.labelled_px for patch in patches)
    areas = _particle_areas(labels, table) if labels is not None else np.empty(0)
    diameter_px = _median(2 * np.sqrt(areas / np.pi))
    centres = (np.arange(_BINS) + 0.5) * 0.5 / _BINS
    return {
        "n_patches": len(images),
        "patch_px": patch_px,
        "pixel_size_nm": pixel_size_nm,
        "contrast": contrast,
        "contrast_to_noise": contrast / noise if contrast and noise else None,
        "roughness_per_px2": _median([patch.roughness for patch in patches]),
        "noise": noise,
        "autocorrelation": {
            f"{row},{column}": float(value)
            for (row, column), value in zip(LAGS_PX, covariance / variance, strict=True)
        },
        "power_spectrum": {
            "frequency_per_px": centres.tolist(),
            "frequency_per_nm": (centres / pixel_size_nm).tolist() if pixel_size_nm else None,
            "power": (power / power.sum() / _fourier_grid(patch_px).ring_size).tolist(),
        },
        "labelled_share": labelled_px / images.size if labels is not None else None,
        "n_particles": None if labels is None else len(areas),
        "diameter_px": diameter_px,
        "diameter_nm": diameter_px * pixel_size_nm if diameter_px and pixel_size_nm else None,
    }


def fingerprint_distance(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, float | None]:
    """Return how far two fingerprints lie apart, for each component.

    Returns
    -------
    dict of str to float or None
        Positive quantities (``contrast``, ``contrast_to_noise``, ``roughness_per_px2``, ``noise``,
        ``labelled_share``, ``diameter_px``, ``diameter_nm``, ``pixel_size_nm``):
        |ln(first / second)|, so that 0.69 is a factor of two.
        ``autocorrelation``: root mean square difference.
        ``power_spectrum``: root mean square difference of ln(power) at equal frequencies per px.
        ``power_spectrum_nm``: the same at equal frequencies per nm, over the range both have.
        ``None`` where one of the two lacks the component. Symmetric in its arguments.
    """
    result: dict[str, float | None] = {}
    for key in (
        "contrast",
        "contrast_to_noise",
        "roughness_per_px2",
        "noise",
        "labelled_share",
        "diameter_px",
        "diameter_nm",
        "pixel_size_nm",
    ):
        a, b = first.get(key), second.get(key)
        result[key] = abs(float(np.log(a / b))) if a and b else None
    lags = first["autocorrelation"].keys() & second["autocorrelation"].keys()
    result["autocorrelation"] = _rms(
        [first["autocorrelation"][lag] - second["autocorrelation"][lag] for lag in sorted(lags)]
    )
    for key, unit in (
        ("power_spectrum", "frequency_per_px"),
        ("power_spectrum_nm", "frequency_per_nm"),
    ):
        result[key] = _spectrum_distance(first["power_spectrum"], second["power_spectrum"], unit)
    return result


class _Patch(NamedTuple):
    """What is known of one patch."""

    contrast: float | None
    noise: float
    roughness: float | None
    variance: float
    covariance: NDArray[np.float64]  # one a lag
    power: NDArray[np.float64]  # sum over each ring
    labelled_px: int


def _describe(image: NDArray[np.float32], label: NDArray[np.uint8] | None) -> _Patch:
    grid = _fourier_grid(image.shape[0])
    x = image - image.mean()
    spectrum = _power_spectrum(x * grid.window)
    total = float(spectrum.sum())
    contrast, labelled_px = None, 0
    if label is not None:
        particle = label != 0
        labelled_px = int(np.count_nonzero(particle))
        if min(labelled_px, particle.size - labelled_px) >= _MIN_PX:
            contrast = abs(float(x[particle].mean() - x[~particle].mean()))
    return _Patch(
        contrast=contrast,
        noise=_noise(x),
        roughness=float((spectrum * grid.frequency_squared).sum()) / total if total else None,
        variance=float(np.mean(x * x)),
        covariance=np.array([_covariance(x, lag) for lag in LAGS_PX]),
        power=np.bincount(grid.ring, spectrum.ravel(), _BINS + 1)[:_BINS].astype(np.float64),
        labelled_px=labelled_px,
    )


class _Grid(NamedTuple):
    """What the Fourier transforms of all patches of one size share."""

    window: NDArray[np.float32]  # (P, P)
    frequency_squared: NDArray[np.float32]  # (P, P // 2 + 1), px⁻²
    ring: NDArray[np.intp]  # bin of each frequency, flat; _BINS beyond Nyquist
    ring_size: NDArray[np.float64]  # frequencies of the whole plane in each bin


@lru_cache(maxsize=4)
def _fourier_grid(side: int) -> _Grid:
    hann = np.hanning(side).astype(np.float32)
    squared = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.rfftfreq(side) ** 2
    ring = np.minimum(np.sqrt(squared) * (2 * _BINS), _BINS).astype(np.intp).ravel()
    # the half plane that rfft leaves out is counted through its mirror image
    ring_size = np.bincount(ring, _mirror_weight(side).ravel(), minlength=_BINS + 1)[:_BINS]
    window = hann[:, None] * hann
    return _Grid(window, squared.astype(np.float32), ring, np.maximum(ring_size, 1))


def _mirror_weight(side: int) -> NDArray[np.float32]:
    weight = np.full((side, side // 2 + 1), 2, np.float32)
    weight[:, 0] = 1
    if side % 2 == 0:
        weight[:, -1] = 1
    return weight


def _power_spectrum(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """|F|² of the half plane, each value as often as it occurs in the whole plane."""
    from scipy.fft import rfft2

    transform = rfft2(image)
    power: NDArray[np.float32] = transform.real**2 + transform.imag**2
    return power * _mirror_weight(image.shape[0])


def _noise(image: NDArray[np.float32]) -> float:
    """Immerkær's estimate: mean |second difference along both axes| · √(π/2) / 6."""
    across = image[:, :-2] - 2 * image[:, 1:-1] + image[:, 2:]
    both = across[:-2] - 2 * across[1:-1] + across[2:]
    return float(np.abs(both).mean() * np.sqrt(np.pi / 2) / 6)


def _covariance(image: NDArray[np.float32], lag: tuple[int, int]) -> float:
    """Mean product of pixels ``lag`` apart, over both axes and both diagonals."""
    side = image.shape[0]
    products = []
    for dy, dx in {lag, lag[::-1]}:
        a = image[dy:, dx:]
        b = image[: side - dy, : side - dx]
        products.append(np.mean(a * b))
        if dy and dx:
            products.append(np.mean(image[dy:, : side - dx] * image[: side - dy, dx:]))
    return float(np.mean(products))


def _particle_areas(labels: NDArray[np.uint8], table: pd.DataFrame | None) -> NDArray[np.float64]:
    """Areas in px of all particles that lie wholly within their micrograph."""
    if table is None:
        return np.concatenate([_inner_areas(label) for label in labels])
    side = labels.shape[1]
    areas = []
    for patches in table.groupby("micrograph_id", sort=False).indices.values():
        rows, columns = (table[name].to_numpy()[patches] for name in ("row", "column"))
        rows, columns = rows - rows.min(), columns - columns.min()
        whole = np.zeros((rows.max() + side, columns.max() + side), np.uint8)
        for i, row, column in zip(patches, rows, columns, strict=True):
            whole[row : row + side, column : column + side] = labels[i]
        areas.append(_inner_areas(whole))
        release(labels)
    return np.concatenate(areas)


def _inner_areas(particle: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Areas in px of the connected regions that do not touch the edge."""
    from scipy.ndimage import label

    regions, n = label(particle)
    area = np.bincount(regions.ravel(), minlength=n + 1).astype(float)
    area[0] = 0
    for edge in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
        area[edge] = 0
    return area[area > 0]


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _rms(differences: Any) -> float | None:
    return float(np.sqrt(np.mean(np.square(differences)))) if len(differences) else None


def _spectrum_distance(
    first: Mapping[str, Any], second: Mapping[str, Any], unit: str
) -> float | None:
    if first[unit] is None or second[unit] is None:
        return None
    x, y = np.asarray(first[unit]), np.asarray(second[unit])
    common = x[x <= min(x[-1], y[-1])] if x[-1] <= y[-1] else y[y <= x[-1]]
    a, b = (
        np.interp(common, frequency, np.log(np.maximum(spectrum["power"], 1e-12)))
        for frequency, spectrum in ((x, first), (y, second))
    )
    # the scale of a spectrum at unequal frequency ranges is arbitrary: compare shapes
    return _rms((a - a.mean()) - (b - b.mean()))

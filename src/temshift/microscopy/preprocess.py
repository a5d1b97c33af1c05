"""From detector counts to the image a network sees."""

from __future__ import annotations

import logging
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temshift.config.preprocessing import PreprocessingParameters
from temshift.microscopy.bands import row_bands
from temshift.microscopy.flat_field import correct_flat_field, divide_out
from temshift.microscopy.xrays import remove_xrays

__all__ = [
    "clean_counts",
    "preprocess_micrograph",
    "resample",
    "resampled_back",
    "resampled_shape",
    "share_below_zero",
    "standardise",
    "without_mask",
]

_log = logging.getLogger(__name__)

#: Share of outliers above which the x-ray threshold is doubtful.
_MANY_XRAYS = 1e-3

#: Pixels of a resampled image, at most, unless the micrograph itself has more: 1 GiB of float32.
_MOST_PX = 2**28

#: Share of the pixels below 0 that a dark-corrected camera may leave; with more, 0 is elsewhere.
_BELOW_ZERO = 1e-3
#: Pixels of the sample that tells the quantile, about.
_SAMPLE_PX = 1 << 18


def preprocess_micrograph(
    image: NDArray[Any],
    parameters: PreprocessingParameters,
    pixel_size_nm: float | None = None,
    illumination: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float32], float | None]:
    """Prepare one micrograph (``docs/preprocessing.md``).

    In this order: the zero of the counts, x-ray outliers, flat field, resampling, standardisation.

    Parameters
    ----------
    image : ndarray, shape (H, W), any real type
        Detector counts; not changed.
    parameters : PreprocessingParameters
    pixel_size_nm : float, optional
        Side of a pixel, nm; ``None`` if unknown.
    illumination : ndarray, shape (3, 3), optional
        Coefficients of a known illumination, divided out in place of a fitted one.

    Returns
    -------
    image : ndarray, shape (H', W'), float32
        H' and W' differ from H and W only if the image was resampled.
    pixel_size_nm : float or None
        Side of a pixel of the returned image, nm.

    Raises
    ------
    ValueError
        A pixel size is asked for and the micrograph's is unknown, the image is constant or has
        pixels that are no finite numbers, or its fitted illumination is not positive.
    """
    counts = clean_counts(image, parameters)
    if parameters.flat_field.mode != "none":
        if illumination is None:
            correct_flat_field(counts, parameters.flat_field.downsample, parameters.flat_field.mode)
        else:
            divide_out(counts, illumination)
    if parameters.pixel_size_nm is not None:
        counts = resample(counts, pixel_size_nm, parameters.pixel_size_nm)
        pixel_size_nm = parameters.pixel_size_nm
    if parameters.standardise:
        standardise(counts)
    return counts, pixel_size_nm


def clean_counts(image: NDArray[Any], parameters: PreprocessingParameters) -> NDArray[np.float32]:
    """Return counts without negative ones and x-ray outliers: the image before its flat field.

    Where more than 0.1 % of the pixels lie below 0, a background or mean was subtracted, or an
    offset: the quantile at 0.1 % becomes 0. Fewer, and those left, are set to 0. With the flat
    field ``published`` all are set to 0 as they are, as in the published procedure.

    Parameters
    ----------
    image : ndarray, shape (H, W), any real type
        Not changed.
    parameters : PreprocessingParameters

    Raises
    ------
    ValueError
        Some pixels are no finite numbers, are masked, or do not fit into float32; the image is
        constant and is to be standardised.
    """
    image = without_mask(image)
    with np.errstate(over="ignore", under="ignore"):
        counts = image.astype(np.float32)
    lowest, highest = counts.min(), counts.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        _refuse_not_finite(image)
    if lowest == highest and parameters.standardise:
        _refuse_constant(image)
    if lowest < 0:
        zero = _low_quantile(counts)
        if zero < 0 and parameters.flat_field.mode == "published":
            _log.warning(
                "%.2g %% of the pixels lie below 0 and were set to 0, as in the published "
                "procedure (preprocessing.flat_field.mode = published): a background or mean was "
                "subtracted; give the counts as the camera wrote them",
                100 * share_below_zero(counts),
            )
        elif zero < 0:
            counts -= zero
        np.maximum(counts, 0, out=counts)
    xray = parameters.xray
    if xray.passes:
        replaced = remove_xrays(counts, xray.threshold_counts, xray.passes, xray.method)
        if replaced > _MANY_XRAYS * counts.size:
            _log.warning(
                "%.2g %% of the pixels lie more than %g counts above the median and were smoothed "
                "as x-ray outliers: raise preprocessing.xray.threshold_counts if they belong to "
                "the image",
                100 * replaced / counts.size,
                xray.threshold_counts,
            )
    return counts


def without_mask(image: NDArray[Any]) -> NDArray[Any]:
    """Return the array under one of ``numpy.ma``; refuse masked pixels."""
    if not isinstance(image, np.ma.MaskedArray):
        return image
    masked = int(np.ma.count_masked(image))
    if masked:
        raise ValueError(
            f"the image is a masked array with {masked} masked pixels, of which nothing is known; "
            "fill them, image.filled(value), or crop the image"
        )
    return np.asarray(image.data)


def _refuse_not_finite(image: NDArray[Any]) -> None:
    """Say which pixels of an image are no finite numbers of type float32."""
    bad = sum(int(np.count_nonzero(~np.isfinite(image[rows]))) for rows in row_bands(image.shape))
    if bad:
        raise ValueError(
            f"the image has {bad} pixels that are NaN or infinite; repair it or leave it out"
        )
    raise ValueError(
        f"the image has values from {image.min():.6g} to {image.max():.6g}, expected numbers that "
        f"fit into float32 (up to {np.finfo(np.float32).max:.3g}): divide it by a constant"
    )


def _refuse_constant(image: NDArray[Any]) -> None:
    """Say that an image is constant, or is so as float32."""
    low, high = image.min(), image.max()
    if low == high:
        raise ValueError(f"the image is constant ({low:.6g}): there is nothing to standardise")
    raise ValueError(
        f"the image has values from {low:.17g} to {high:.17g}, which float32 cannot tell apart: "
        "subtract the lowest, or multiply it by a constant"
    )


def share_below_zero(image: NDArray[Any]) -> float:
    """Return which share of the pixels of an image lies below 0.

    Parameters
    ----------
    image : ndarray, shape (H, W), any real type

    Examples
    --------
    >>> share_below_zero(np.array([[-1, 0], [2, 3]]))
    0.25
    """
    if image.dtype.kind in "bu" or not image.size:
        return 0.0
    below = sum(int(np.count_nonzero(image[rows] < 0)) for rows in row_bands(image.shape))
    return below / image.size


def _low_quantile(counts: NDArray[np.float32]) -> np.float32:
    """Return the value below which 0.1 % of the pixels lie; a large image is sampled."""
    # an odd stride, so that the sample is no single column
    sample = counts.ravel(order="K")[:: (counts.size // _SAMPLE_PX) | 1]
    return np.float32(np.quantile(sample, _BELOW_ZERO, method="nearest"))


def standardise(image: NDArray[np.float32]) -> tuple[float, float]:
    """Bring an image to mean 0 and standard deviation 1, in place.

    Returns
    -------
    mean, standard_deviation : float
        Of the image before.

    Raises
    ------
    ValueError
        The image is constant, or some of its pixels are no finite numbers.
    """
    # mean and sum of squared deviations, band by band (Chan, Golub, LeVeque 1983)
    n, mean, squares = 0, 0.0, 0.0
    for rows in row_bands(image.shape):
        band = image[rows]
        band_mean = float(band.mean())
        if not np.isfinite(band_mean):
            raise ValueError("the image has pixels that are NaN or infinite; leave it out")
        deviation = (band - np.float32(band_mean)).ravel()
        difference, total = band_mean - mean, n + band.size
        squares += float(np.dot(deviation, deviation)) + difference**2 * n * band.size / total
        mean += difference * band.size / total
        n = total
    standard_deviation = (squares / n) ** 0.5
    if standard_deviation <= 1e-6 * abs(mean):
        raise ValueError(
            f"the image is constant ({mean:.6g} after the steps before, such as the flat field): "
            "there is nothing to standardise"
        )
    scale, offset = np.float32(1 / standard_deviation), np.float32(-mean / standard_deviation)
    for rows in row_bands(image.shape):
        band = image[rows]
        band *= scale
        band += offset
    return mean, standard_deviation


def resampled_shape(
    shape: tuple[int, int], pixel_size_nm: float | None, target_nm: float
) -> tuple[int, int]:
    """Return the shape of an image resampled to ``target_nm``; what fills no whole pixel is lost.

    Raises
    ------
    ValueError
        The pixel size is unknown, or so far from the other that the image would be enormous.

    Examples
    --------
    >>> resampled_shape((4096, 4096), 0.02, 0.04)
    (2048, 2048)
    """
    if pixel_size_nm is None:
        raise ValueError(
            f"preprocessing.pixel_size_nm = {target_nm:g} asks for resampling, but the pixel size "
            "of this micrograph is unknown: give pixel_size_nm in the metadata table, or set "
            "preprocessing.pixel_size_nm to null"
        )
    scale = pixel_size_nm / target_nm
    # sizes are known to some digits only: 4096 px must not become 4095 by rounding
    height, width = (max(1, int(side * scale + 1e-6)) for side in shape)
    if height * width > max(_MOST_PX, prod(shape)):
        raise ValueError(
            f"resampled from {pixel_size_nm:g} to {target_nm:g} nm/px the image would have "
            f"{height} × {width} px, more than can be held: it shows too large a field"
        )
    return height, width


def resample(image: NDArray[Any], pixel_size_nm: float | None, target_nm: float) -> NDArray[Any]:
    """Resample an image or label to another pixel size.

    Parameters
    ----------
    image : ndarray, shape (H, W), float32 or uint8
        Images (float32) are interpolated with a Lanczos kernel that suppresses what the new
        pixels cannot hold; labels (uint8) take the value of the nearest pixel.
    pixel_size_nm, target_nm : float
        Side of a pixel before and after, nm.

    Returns
    -------
    ndarray, shape (H', W'), same type
        Pixel (0, 0) has its upper left corner where that of ``image`` has it.

    Raises
    ------
    ValueError
        The pixel size is unknown.
    """
    from PIL import Image

    height, width = resampled_shape(image.shape, pixel_size_nm, target_nm)
    if pixel_size_nm == target_nm:
        return image
    assert pixel_size_nm is not None
    scale = pixel_size_nm / target_nm
    field = (0, 0, min(width / scale, image.shape[1]), min(height / scale, image.shape[0]))
    method = Image.Resampling.NEAREST if image.dtype == np.uint8 else Image.Resampling.LANCZOS
    return np.array(Image.fromarray(image).resize((width, height), method, box=field))


def resampled_back(
    probability: NDArray[np.float32], shape: tuple[int, int], scale: float
) -> NDArray[np.float32]:
    """Return what was predicted on a resampled image on the pixels of the image itself.

    Parameters
    ----------
    probability : ndarray, shape (H', W'), float32
    shape : (int, int)
        Of the image before :func:`resample`, which loses what fills no whole pixel; there the last
        value is continued.
    scale : float
        Pixel size before over that after.
    """
    from PIL import Image

    wide = np.pad(probability, ((0, 2), (0, 2)), mode="edge")
    box = (
        0.0,
        0.0,
        min(shape[1] * scale, wide.shape[1]),
        min(shape[0] * scale, wide.shape[0]),
    )
    back = Image.fromarray(wide).resize((shape[1], shape[0]), Image.Resampling.BILINEAR, box=box)
    return np.array(back)

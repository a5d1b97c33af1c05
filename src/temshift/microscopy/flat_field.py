"""Flat field: uneven illumination, fitted by a smooth surface and divided out.

The surface is ``I(u, v) ≈ Σ_ij c_ij B_i(u) B_j(v)`` with quadratic Bernstein polynomials and u, v
from 0 to 1 along the rows and columns. Everything is a product of a row part and a column part,
so no array larger than the image is built: the normal equations need two 3-column products.

Two fits: :func:`fit_flat_field` is the published one, which large particles pull towards
themselves; :func:`fit_background` finds the part of the image that one smooth surface explains, and
so holds while particles, dark or bright, cover less than about two fifths of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from temshift.microscopy.bands import row_bands

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = [
    "IlluminationError",
    "bernstein_basis",
    "correct_flat_field",
    "divide_out",
    "downsampling_matrix",
    "fit_background",
    "fit_flat_field",
    "fit_outside",
    "flat_field",
    "relative_contrast",
    "unevenness",
]

#: Share of its maximum below which a fitted illumination is none.
_DARKEST = 0.01

#: Share of a mask in a downsampled pixel up to which the pixel is outside, and from which inside.
_OUTSIDE, _INSIDE = 0.02, 0.98
#: Downsampled pixels by which a mask is widened before what is outside is fitted.
_WIDEN = 4
#: Downsampled pixels on both sides of the edges of a mask that are next to them.
_EDGE = 8
#: Share of an image that must be left for a fit outside a mask.
_LEFT = 0.05

#: Blocks along an axis on which :func:`fit_background` works, at most.
_BLOCKS = 64
#: Share of the blocks that are taken for background until its scatter is known.
_CORE = 0.6
#: Standard deviations of the background beyond which a block is none.
_CUT = 2.5
#: Median of the absolute value of a standard normal number, and of the smallest 60 % of them.
_MEDIAN, _CORE_MEDIAN = 0.6745, 0.3853


class IlluminationError(ValueError):
    """No smooth illumination explains the image."""


def bernstein_basis(n: int) -> NDArray[np.float64]:
    """Return the quadratic Bernstein polynomials at n equally spaced points from 0 to 1.

    Returns
    -------
    ndarray, shape (n, 3), float64
        ``(1 - t)², 2 t (1 - t), t²``.
    """
    t = np.linspace(0, 1, n)
    return np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1)


@lru_cache(maxsize=16)
def downsampling_matrix(n: int, factor: int) -> csr_array:
    """Return the matrix that makes n pixels of a row or column n/factor.

    It does to one axis what ``skimage.transform.rescale(image, 1 / factor)`` does: a Gaussian of
    standard deviation (n / m - 1) / 2 px, cut at four of them and mirrored at the border, then
    linear interpolation at the centres of the new pixels.

    Parameters
    ----------
    n : int
        Pixels along the axis.
    factor : int
        1 gives the identity.

    Returns
    -------
    sparse array, shape (m, n), float32
        m is n / factor, rounded.
    """
    from scipy.sparse import csr_array

    m = max(1, round(n / factor))
    sigma = max(0.0, (n / m - 1) / 2)
    radius = int(4 * sigma + 0.5)
    taps = np.arange(-radius, radius + 1)
    gauss = np.exp(-0.5 * (taps / sigma) ** 2) if sigma else np.ones(1)
    gauss /= gauss.sum()

    centres = (np.arange(m) + 0.5) * n / m - 0.5
    left = np.floor(centres).astype(int)
    right_weight = centres - left
    columns = np.stack([left[:, None] + taps, left[:, None] + 1 + taps])
    weights = np.stack([(1 - right_weight)[:, None] * gauss, right_weight[:, None] * gauss])
    rows = np.broadcast_to(np.arange(m)[:, None], columns.shape)
    # mirror about the first and the last pixel: … 2 1 | 0 1 2 … n-1 | n-2 n-3 …
    period = max(1, 2 * (n - 1))
    columns = np.abs((columns + n - 1) % period - (n - 1)) if n > 1 else np.zeros_like(columns)
    return csr_array(
        (weights.ravel().astype(np.float32), (rows.ravel(), columns.ravel())), shape=(m, n)
    )


def fit_flat_field(image: NDArray[np.float32], downsample: int = 4) -> NDArray[np.float64]:
    """Fit the illumination of a micrograph.

    Least squares on the downsampled image, twice: unweighted, and with the weights
    ``w = exp(-3 e² / (2 ⟨e²⟩))`` of the residuals e of the first fit on both sides of the equations
    (so that w² weighs a squared residual, as in the published code). Particles, which differ from
    the support, so lose their say.

    Parameters
    ----------
    image : ndarray, shape (H, W), float32
        Counts, without x-ray outliers.
    downsample : int
        Factor by which the image is made smaller first.

    Returns
    -------
    ndarray, shape (3, 3), float64
        Coefficients c_ij.

    Raises
    ------
    ValueError
        The downsampled image has fewer than 3 pixels along an axis.
    """
    small, basis_u, basis_v = _small(image, downsample)
    coefficients: NDArray[np.float64] = np.linalg.pinv(basis_u) @ small @ np.linalg.pinv(basis_v).T
    weight = (basis_u @ coefficients).astype(np.float32) @ basis_v.T.astype(np.float32)
    weight -= small  # residual e; becomes exp(-3 e² / ⟨e²⟩) in place
    weight *= weight
    mean_square = weight.mean()
    if mean_square > 0:
        weight *= -3 / mean_square
        np.exp(weight, out=weight)
        coefficients = _weighted_least_squares(basis_u, basis_v, small, weight)
    return coefficients


def fit_background(image: NDArray[np.float32], downsample: int = 4) -> NDArray[np.float64]:
    """Fit the illumination of a micrograph to its background alone.

    Least trimmed squares (Rousseeuw & Van Driessen, Data Min. Knowl. Discov. 12 (2006) 29) on
    blocks of the downsampled image: from several starts, the 60 % of the blocks that lie nearest
    to the surface are fitted again until they stay the same; the start with the smallest sum of
    squares wins. Then all blocks within 2.5 standard deviations (estimated from the median) of
    that surface are fitted. Residuals are smoothed before blocks are chosen, so that noise
    does not hide a faint particle. Nothing is drawn at random.

    Particles may be darker or brighter than the background. Where they cover more than about 40 %
    of the image they are taken for it.

    Parameters
    ----------
    image : ndarray, shape (H, W), float32
        Counts, without x-ray outliers.
    downsample : int
        Factor by which the image is made smaller first.

    Returns
    -------
    ndarray, shape (3, 3), float64
        Coefficients c_ij.

    Raises
    ------
    ValueError
        The downsampled image has fewer than 3 pixels along an axis.
    """
    from scipy.ndimage import gaussian_filter

    small, basis_u, basis_v = _small(image, downsample)
    to_rows, to_columns = (downsampling_matrix(n, -(-n // _BLOCKS)) for n in small.shape)
    blocks = (to_rows @ small @ to_columns.T).astype(np.float64)
    basis_u, basis_v = to_rows @ basis_u, to_columns @ basis_v
    core = max(9, int(_CORE * blocks.size))

    def fit(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        # the others have a say only in what the chosen ones leave open
        weight = np.where(chosen, 1.0, 1e-6).reshape(blocks.shape)
        return _weighted_least_squares(basis_u, basis_v, blocks, weight)

    def distance(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        residual = blocks - basis_u @ coefficients @ basis_v.T
        return gaussian_filter(residual, 1.0, mode="nearest").ravel()

    def lowest(values: NDArray[np.float64]) -> NDArray[np.bool_]:
        chosen = np.zeros(values.size, bool)
        chosen[np.argpartition(values, core - 1)[:core]] = True
        return chosen

    best, least = np.zeros((3, 3)), np.inf
    for start in _starts(blocks, basis_u, basis_v):
        offset = distance(start)
        # the nearest blocks, the brightest and the darkest: the background is among one of them
        for chosen in (lowest(np.abs(offset)), lowest(-offset), lowest(offset)):
            coefficients, trimmed = _concentrate(chosen, fit, distance, lowest)
            if trimmed < least:
                best, least = coefficients, trimmed

    away = np.abs(distance(best))
    spread = np.median(away[lowest(away)]) / _CORE_MEDIAN
    while spread > 1e-6 * np.abs(blocks).max():
        chosen = away <= _CUT * spread
        best = fit(chosen)
        away = np.abs(distance(best))
        narrower = np.median(away[chosen]) / _MEDIAN
        if narrower > 0.999 * spread:
            break
        spread = narrower
    return best


def flat_field(coefficients: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the fitted illumination, shape (H, W)."""
    field: NDArray[np.float64] = (
        bernstein_basis(shape[0]) @ coefficients @ bernstein_basis(shape[1]).T
    )
    return field


def correct_flat_field(
    image: NDArray[np.float32],
    downsample: int = 4,
    mode: Literal["background", "published"] = "background",
) -> NDArray[np.float64]:
    """Divide a micrograph by its own fitted illumination, in place.

    Parameters
    ----------
    image : ndarray, shape (H, W), float32
        Changed in place; around 1 afterwards.
    downsample : int
        See :func:`fit_background`.
    mode : {"background", "published"}
        :func:`fit_background` or :func:`fit_flat_field`.

    Returns
    -------
    ndarray, shape (3, 3), float64
        Coefficients of the fitted illumination.

    Raises
    ------
    IlluminationError
        The fit falls below 1 % of its maximum, so that dividing by it means nothing.
    """
    fit = fit_background if mode == "background" else fit_flat_field
    coefficients = fit(image, downsample)
    divide_out(image, coefficients)
    return coefficients


def fit_outside(
    image: NDArray[np.float32], mask: NDArray[np.bool_], downsample: int = 4
) -> NDArray[np.float64] | None:
    """Fit the illumination of a micrograph to what a mask leaves of it.

    Least squares on the downsampled pixels outside the mask, which is widened by four of them.

    Parameters
    ----------
    image : ndarray, shape (H, W), float32
        Counts, without x-ray outliers.
    mask : ndarray of bool, shape (H, W)
        Where a particle is thought to be.
    downsample : int
        Factor by which the image is made smaller first.

    Returns
    -------
    ndarray, shape (3, 3), float64, or None
        Coefficients c_ij; ``None`` where less than 5 % of the image is outside, or a fit to that
        would be no illumination (:class:`IlluminationError`).
    """
    from scipy.ndimage import binary_dilation

    small, basis_u, basis_v = _small(image, downsample)
    inside = _small_mask(mask, downsample) > _OUTSIDE
    outside = ~binary_dilation(inside, iterations=_WIDEN)
    if outside.mean() < _LEFT:
        return None
    weight = np.where(outside, 1.0, 1e-6)
    coefficients = _weighted_least_squares(basis_u, basis_v, small, weight)
    sampled = flat_field(coefficients, (65, 65))
    return coefficients if sampled.min() > _DARKEST * sampled.max() else None


def relative_contrast(
    image: NDArray[np.float32],
    mask: NDArray[np.bool_],
    coefficients: NDArray[np.float64],
    downsample: int = 4,
) -> tuple[float, float]:
    """Return how much darker or brighter particles are than the background, as a share of it.

    Parameters
    ----------
    image : ndarray, shape (H, W), float32
        Counts.
    mask : ndarray of bool, shape (H, W)
        The particles.
    coefficients : ndarray, shape (3, 3)
        Of the illumination by which the image is divided first.
    downsample : int
        Factor by which both are made smaller first.

    Returns
    -------
    everywhere, at_edges : float
        |mean inside / mean outside − 1|, of the whole image and within eight downsampled pixels of
        the edges, where uneven light differs little; 0 if there is no inside or no outside.
    """
    from scipy.ndimage import binary_dilation

    small, basis_u, basis_v = _small(image, downsample)
    covered = _small_mask(mask, downsample)
    flat = small / (basis_u @ coefficients @ basis_v.T)
    inside, outside = covered >= _INSIDE, covered <= _OUTSIDE
    if not inside.any() or not outside.any():
        return 0.0, 0.0
    near = inside & binary_dilation(~inside, iterations=_EDGE)
    beside = outside & binary_dilation(~outside, iterations=_EDGE)
    everywhere = flat[inside].mean() / flat[outside].mean() - 1
    return abs(float(everywhere)), abs(float(flat[near].mean() / flat[beside].mean() - 1))


def unevenness(coefficients: NDArray[np.float64]) -> float:
    """Return the brightest over the darkest part of an illumination of positive values.

    Parameters
    ----------
    coefficients : ndarray, shape (3, 3)
    """
    sampled = flat_field(coefficients, (65, 65))
    return float(sampled.max() / sampled.min())


def divide_out(image: NDArray[np.float32], coefficients: NDArray[np.float64]) -> None:
    """Divide a micrograph by an illumination, in place.

    Parameters
    ----------
    image : ndarray, shape (H, W), float32
        Changed in place; around 1 afterwards.
    coefficients : ndarray, shape (3, 3)

    Raises
    ------
    IlluminationError
        It falls below 1 % of its maximum, so that dividing by it means nothing.
    """
    sampled = flat_field(coefficients, (65, 65))
    lowest, highest = sampled.min(), sampled.max()
    if not lowest > _DARKEST * highest:
        raise IlluminationError(
            f"the fitted illumination reaches from {lowest:.3g} to {highest:.3g} counts, so that "
            "dividing by it means nothing: the image is empty in part, its particles fill most of "
            "it, or its background has been subtracted already; set preprocessing.flat_field.mode "
            "to none for such images"
        )
    by_row = (bernstein_basis(image.shape[0]) @ coefficients).astype(np.float32)
    by_column = bernstein_basis(image.shape[1]).T.astype(np.float32)
    for rows in row_bands(image.shape):
        image[rows] /= by_row[rows] @ by_column


def _small_mask(mask: NDArray[np.bool_], downsample: int) -> NDArray[np.float32]:
    """Return the share of each downsampled pixel that a mask covers."""
    to_rows, to_columns = (downsampling_matrix(n, downsample) for n in mask.shape)
    return _downsample(mask.view(np.uint8), to_rows, to_columns)


def _small(
    image: NDArray[np.float32], downsample: int
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Return the downsampled image and, seen through the same filter, the basis along its axes."""
    to_small_rows = downsampling_matrix(image.shape[0], downsample)
    to_small_columns = downsampling_matrix(image.shape[1], downsample)
    if min(to_small_rows.shape[0], to_small_columns.shape[0]) < 3:
        raise ValueError(
            f"the flat field needs 3 x 3 px after downsampling by {downsample}, found an image of "
            f"{image.shape}; lower preprocessing.flat_field.downsample, or set its mode to none"
        )
    return (
        _downsample(image, to_small_rows, to_small_columns),
        to_small_rows @ bernstein_basis(image.shape[0]),
        to_small_columns @ bernstein_basis(image.shape[1]),
    )


def _starts(
    blocks: NDArray[np.float64], basis_u: NDArray[np.float64], basis_v: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """Yield the coefficients of three surfaces fitted to all blocks: curved, bilinear, level."""
    line = np.array([[1, 0], [0.5, 0.5], [0, 1]])  # a straight line in Bernstein coefficients
    for along in (np.eye(3), line, np.ones((3, 1))):
        inverse_u, inverse_v = np.linalg.pinv(basis_u @ along), np.linalg.pinv(basis_v @ along)
        yield along @ (inverse_u @ blocks @ inverse_v.T) @ along.T


def _concentrate(
    chosen: NDArray[np.bool_],
    fit: Callable[[NDArray[np.bool_]], NDArray[np.float64]],
    distance: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    lowest: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
) -> tuple[NDArray[np.float64], float]:
    """Fit the chosen blocks and choose those nearest to the fit, until that gains nothing.

    Returns the coefficients and the sum of squares over the nearest blocks.
    """
    trimmed = np.inf
    for _ in range(30):
        coefficients = fit(chosen)
        squared = distance(coefficients) ** 2
        chosen = lowest(squared)
        before, trimmed = trimmed, float(squared[chosen].sum())
        if trimmed >= 0.999 * before:
            break
    return coefficients, trimmed


def _downsample(
    image: NDArray[Any], to_small_rows: csr_array, to_small_columns: csr_array
) -> NDArray[np.float32]:
    """Return ``to_small_rows @ image @ to_small_columns.T``."""
    low = to_small_rows @ image
    small = np.empty((len(low), to_small_columns.shape[0]), np.float32)
    for start in range(0, small.shape[1], 64):  # blocks about the diagonal, where it is not 0
        block = to_small_columns[start : start + 64]
        seen = slice(block.indices.min(), block.indices.max() + 1)
        small[:, start : start + 64] = low[:, seen] @ block[:, seen].toarray().T
    return small


def _weighted_least_squares(
    basis_u: NDArray[np.float64],
    basis_v: NDArray[np.float64],
    image: NDArray[np.floating],
    weight: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Minimise ``Σ weight (image - basis_u c basis_vᵀ)²`` through its 9 x 9 normal equations."""
    pairs_u = (basis_u[:, :, None] * basis_u[:, None, :]).reshape(-1, 9)
    pairs_v = (basis_v[:, :, None] * basis_v[:, None, :]).reshape(-1, 9)
    # Σ w B_i(u) B_k(u) B_j(v) B_l(v), indexed [i, k, j, l], as the matrix [(i, j), (k, l)]
    moments = (pairs_u.T @ weight @ pairs_v).reshape(3, 3, 3, 3)
    matrix = moments.transpose(0, 2, 1, 3).reshape(9, 9)
    right = basis_u.T @ (weight * image) @ basis_v
    return np.asarray(np.linalg.solve(matrix, right.ravel()), np.float64).reshape(3, 3)

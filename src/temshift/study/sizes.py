"""Size distributions: from particle tables to means, percentiles and an honest interval.

Three things make a mean diameter uncertain, and all of them are carried: few particles (counting),
networks that draw the outline elsewhere (the folds of the ensemble measure the same particles each
in their own mask), and a pixel size that is not known exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.microscopy.particles import weighted_quantiles

__all__ = ["counting_error", "mean_size", "size_distribution"]

_LEVELS = {"d10": 0.1, "d50": 0.5, "d90": 0.9}


def mean_size(particles: pd.DataFrame, column: str) -> float:
    """Return the mean of a column over whole particles, corrected for those the edge cuts.

    NaN if no particle lies whole in the field.
    """
    values, weights = _whole(particles, column)
    return float(np.average(values, weights=weights)) if len(values) else float("nan")


def counting_error(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    groups: NDArray[Any] | None = None,
) -> tuple[float, int]:
    """Return the standard error of a weighted mean and its degrees of freedom.

    Linearised (Taylor) variance of a ratio of sums, the particles of a micrograph kept together if
    there are at least three micrographs (Särndal, Swensson & Wretman, Model Assisted Survey
    Sampling, 1992, eq. 5.7.2).

    Parameters
    ----------
    values, weights : ndarray, shape (n,)
    groups : ndarray, shape (n,), optional
        Micrograph of each particle.

    Returns
    -------
    error : float
        NaN for fewer than two independent units.
    degrees : int
    """
    if len(values) == 0:
        return float("nan"), 0
    mean = np.average(values, weights=weights)
    parts: NDArray[Any] = weights * (values - mean)
    if groups is not None and len(np.unique(groups)) >= 3:
        parts = pd.Series(parts).groupby(np.asarray(groups)).sum().to_numpy(np.float64)
    n = len(parts)
    if n < 2:
        return float("nan"), 0
    error = np.sqrt(n / (n - 1) * np.sum(parts**2)) / weights.sum()
    return float(error), n - 1


def size_distribution(
    particles: pd.DataFrame,
    fold_means: Sequence[float],
    unit: str,
    pixel_size_error: float,
    confidence: float,
) -> dict[str, Any]:
    """Describe the equivalent diameters of the particles of one or several micrographs.

    Parameters
    ----------
    particles : DataFrame
        Of :func:`temshift.microscopy.particles.measure_particles`, perhaps of several micrographs
        below each other, then with a column ``micrograph``.
    fold_means : sequence of float
        Mean diameter that each network of the ensemble measures by itself, same unit.
    unit : {"nm", "px"}
    pixel_size_error : float
        Relative standard uncertainty of the pixel size (0.01 is 1 %); not used in px.
    confidence : float
        Coverage of the interval, e.g. 0.95.

    Returns
    -------
    dict
        ``unit, n_particles`` (whole ones), ``n_cut`` (touching the edge), ``mean, sd, d10, d50,
        d90`` of the number distribution, ``area_mean, area_d10, area_d50, area_d90`` weighted by
        area, ``low, high`` (interval of the mean), and its parts ``error_counting, error_networks,
        error_pixel_size``. What cannot be known is NaN: all without whole particles, the interval
        with fewer than two particles or networks.
    """
    from scipy.stats import t

    column = f"equivalent_diameter_{unit}"
    values, weights = _whole(particles, column)
    cut = int(particles["touches_edge"].sum()) if len(particles) else 0
    nan = float("nan")
    result: dict[str, Any] = {"unit": unit, "n_particles": len(values), "n_cut": cut}
    if not len(values):
        names = ("mean", "sd", *_LEVELS, "area_mean", *(f"area_{d}" for d in _LEVELS))
        names += ("low", "high", "error_counting", "error_networks", "error_pixel_size")
        return result | dict.fromkeys(names, nan)
    mean = float(np.average(values, weights=weights))
    spread = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    by_area = weights * values**2
    result |= {"mean": mean, "sd": spread * np.sqrt(len(values) / max(1, len(values) - 1))}
    result |= _quantiles(values, weights, "")
    result |= {"area_mean": float(np.average(values, weights=by_area))}
    result |= _quantiles(values, by_area, "area_")

    whole = ~particles["touches_edge"].to_numpy(bool)
    groups = particles["micrograph"].to_numpy()[whole] if "micrograph" in particles else None
    counting, degrees = counting_error(values, weights, groups)
    measured = np.asarray([m for m in fold_means if np.isfinite(m)], dtype=float)
    networks = float(measured.std(ddof=1)) if len(measured) > 1 else nan
    scale = mean * pixel_size_error if unit == "nm" else 0.0
    # the outline of the ensemble is as uncertain as that of a single network: folds share a bias
    total = float(np.sqrt(counting**2 + networks**2 + scale**2))
    half = float(t.ppf(0.5 + confidence / 2, max(1, degrees))) * total
    result |= {"low": mean - half, "high": mean + half, "error_counting": counting}
    return result | {"error_networks": networks, "error_pixel_size": scale}


def _whole(particles: pd.DataFrame, column: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    whole = particles[~particles["touches_edge"].to_numpy(bool)]
    return whole[column].to_numpy(float), whole["edge_weight"].to_numpy(float)


def _quantiles(
    values: NDArray[np.float64], weights: NDArray[np.float64], prefix: str
) -> dict[str, float]:
    found = weighted_quantiles(values, weights, list(_LEVELS.values()))
    return {f"{prefix}{name}": float(value) for name, value in zip(_LEVELS, found, strict=True)}

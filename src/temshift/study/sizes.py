"""Size distributions: from particle tables to means, percentiles and an honest interval.

Four things make a mean diameter uncertain, and all of them are carried: few particles (counting),
networks that draw the outline elsewhere (the folds of the ensemble measure the same particles each
in their own mask), what all folds may do wrong alike (as the predicted Dice says), and a pixel size
that is not known exactly.

A field often holds two particles, or one: their spread says little, or nothing. Micrographs of one
folder share it, as far as they are alike (:func:`shared_spread`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.microscopy.particles import PARTICLE_COLUMNS, weighted_quantiles
from temshift.study.few_labels import label_order

__all__ = [
    "RANKING_COLUMNS",
    "SIZE_COLUMNS",
    "counting_error",
    "data_dictionary",
    "file_of",
    "label_next",
    "mean_size",
    "outline_error",
    "particles_table",
    "pooled_sizes",
    "ranking_table",
    "share_spread",
    "shared_spread",
    "size_distribution",
    "sizes_table",
    "units_of",
]

#: Columns of the table of sizes, one row a micrograph: name, unit, meaning (the data dictionary).
SIZE_COLUMNS = {
    "micrograph": ("", "path of the file below the folder of input"),
    "verdict": ("", "trust, check, do not trust, not judged; failed if there is no mask"),
    "predicted_dice": ("", "Dice that the mask probably has with a true one, 0 to 1"),
    "dice_low": ("", "lower end of the interval of the predicted Dice"),
    "dice_high": ("", "upper end of the interval of the predicted Dice"),
    "novelty": ("", "distance to the calibrated images; above 1 there is no guarantee"),
    "label_next": (
        "",
        "order in which to draw masks by hand, 1 first: what is typical, then what is unlike those "
        "before (the first 64); empty for failed ones",
    ),
    "reasons": ("", "reasons of the verdict; for failed ones why there is no mask"),
    "network": ("", "network whose folds drew the mask"),
    "fold_agreement": ("", "mean Dice of the masks of its folds with each other"),
    "pixel_size_nm": ("nm", "side of a pixel; empty if unknown"),
    "height_px": ("px", "height of the image, without its bar"),
    "width_px": ("px", "width of the image"),
    "unit": ("", "unit of the sizes that follow: nm, or px without a pixel size"),
    "n_particles": ("", "particles that lie whole in the field, which the sizes are of"),
    "n_cut": ("", "particles that the edge cuts"),
    "n_specks": ("", "regions too small to be particles, which are in the mask but not counted"),
    "mean": ("unit", "mean equivalent diameter, corrected for particles that the edge cuts"),
    "mean_low": ("unit", "lower end of the interval of the mean"),
    "mean_high": ("unit", "upper end of the interval of the mean"),
    "sd": ("unit", "standard deviation of the equivalent diameters"),
    "d10": ("unit", "a tenth of the particles is smaller"),
    "d50": ("unit", "half of the particles are smaller"),
    "d90": ("unit", "nine tenths of the particles are smaller"),
    "area_mean": ("unit", "mean weighted by area"),
    "area_d10": ("unit", "a tenth of the area is of smaller particles"),
    "area_d50": ("unit", "half of the area is of smaller particles"),
    "area_d90": ("unit", "nine tenths of the area are of smaller particles"),
    "error_counting": ("unit", "standard error of the mean from few particles"),
    "error_networks": ("unit", "standard deviation of the means of the single folds"),
    "error_outline": (
        "unit",
        "what all folds may do wrong alike, from the predicted Dice; empty where not judged",
    ),
    "error_pixel_size": ("unit", "from the uncertainty of the pixel size"),
    "notes": ("", "what else to know"),
}

#: Columns of the table of networks, one row a micrograph and network or mask made elsewhere.
RANKING_COLUMNS = {
    "micrograph": ("", "path of the file below the folder of input"),
    "rank": ("", "1 for the network that probably draws the best mask"),
    "network": ("", "name of the network; of a mask made elsewhere 'mask: ' and its file"),
    "drew": ("", "whether its mask is the one that was saved and measured"),
    "verdict": ("", "of its mask: trust, check, do not trust, not judged"),
    "predicted_dice": ("", "Dice that its mask probably has with a true one, 0 to 1"),
    "dice_low": ("", "lower end of the interval of the predicted Dice"),
    "dice_high": ("", "upper end of the interval of the predicted Dice"),
    "novelty": ("", "distance to the calibrated images; above 1 there is no guarantee"),
    "distance": ("", "between its training condition and the micrograph, as far as both are known"),
    "unit": ("", "unit of the mean: nm, or px without a pixel size; of masks that were measured"),
    "n_particles": ("", "particles that lie whole in the field, of masks that were measured"),
    "mean": ("unit", "mean equivalent diameter, of masks that were measured"),
    "reasons": ("", "reasons of the verdict"),
}

#: Micrographs with two particles each that show whether sizes scatter alike in all of them.
_FEWEST_ALIKE = 3

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
) -> tuple[float, float]:
    """Return the standard error of a weighted mean and its degrees of freedom.

    Linearised (Taylor) variance of a ratio of sums, the particles of a micrograph kept together if
    there are at least three micrographs (Särndal, Swensson & Wretman, Model Assisted Survey
    Sampling, 1992, eq. 5.7.2). The degrees of freedom are those of the effective number, which is
    smaller the less equal the weights are (Kish, Survey Sampling, 1965, 11.7).

    Parameters
    ----------
    values, weights : ndarray, shape (n,)
    groups : ndarray, shape (n,), optional
        Micrograph of each particle.

    Returns
    -------
    error : float
        NaN for fewer than two independent units.
    degrees : float
    """
    if len(values) == 0:
        return float("nan"), 0.0
    mean = np.average(values, weights=weights)
    parts: NDArray[Any] = weights * (values - mean)
    units = weights
    if groups is not None and len(np.unique(groups)) >= 3:
        together = (
            pd.DataFrame({"parts": parts, "units": weights}).groupby(np.asarray(groups)).sum()
        )
        parts, units = (together[name].to_numpy(np.float64) for name in ("parts", "units"))
    n = len(parts)
    if n < 2:
        return float("nan"), 0.0
    error = np.sqrt(n / (n - 1) * np.sum(parts**2)) / weights.sum()
    return float(error), float(units.sum() ** 2 / np.sum(units**2)) - 1


def file_of(path: str) -> str:
    """Return the file of a micrograph, or of the frame of a stack or movie.

    Frames show the same particles, or may: they are no independent micrographs.

    Examples
    --------
    >>> file_of("a/movie.mrc[3]"), file_of("a/b.tif")
    ('a/movie.mrc', 'a/b.tif')
    """
    return re.sub(r"\[\d+\]$", "", path)


def size_distribution(
    particles: pd.DataFrame,
    fold_means: Sequence[float],
    unit: str,
    pixel_size_error: float,
    confidence: float,
    predicted_dice: float | None = None,
    spread: tuple[float, float] | None = None,
    fold_error: tuple[float, int] | None = None,
) -> dict[str, Any]:
    """Describe the equivalent diameters of the particles of one or several micrographs.

    Parameters
    ----------
    particles : DataFrame
        Of :func:`temshift.microscopy.particles.measure_particles`, perhaps of several micrographs
        below each other, then with a column ``micrograph``. Frames of one file count as one; if
        there are several of a file, and fewer than three files, the counting error is not known.
    fold_means : sequence of float
        Mean diameter that each network of the ensemble measures by itself, same unit.
    unit : {"nm", "px"}
    pixel_size_error : float
        Relative standard uncertainty of the pixel size (0.01 is 1 %); not used in px.
    confidence : float
        Coverage of the interval, e.g. 0.95.
    predicted_dice : float, optional
        Of the mask (mean over several): how wrong its outlines may be (:func:`outline_error`).
    spread : (float, float), optional
        Relative variance of the diameters, and the degrees of freedom with which it is known
        (:func:`shared_spread`); by default that of these particles.
    fold_error : (float, int), optional
        Standard deviation of the mean between folds, same unit, and its degrees of freedom; by
        default that of ``fold_means``.

    Returns
    -------
    dict
        ``unit, n_particles`` (whole ones), ``n_cut`` (touching the edge), ``mean, sd, d10, d50,
        d90`` of the number distribution, ``area_mean, area_d10, area_d50, area_d90`` weighted by
        area, ``low, high`` (interval of the mean), and its parts ``error_counting, error_networks,
        error_outline, error_pixel_size``. What cannot be known is NaN: all without whole particles,
        the standard deviation of one, the interval with fewer than two networks, or with one
        particle and no ``spread``.

    Notes
    -----
    Half the interval is the root of the sum of squares of the parts, each times the quantile of
    Student's t with its own degrees of freedom (Howe, J. Am. Stat. Assoc. 69, 789, 1974). So few
    particles do not widen what is known of the pixel size.
    """
    from scipy.stats import t

    column = f"equivalent_diameter_{unit}"
    values, weights = _whole(particles, column)
    cut = int(particles["touches_edge"].sum()) if len(particles) else 0
    nan = float("nan")
    result: dict[str, Any] = {"unit": unit, "n_particles": len(values), "n_cut": cut}
    if not len(values):
        names = ("mean", "sd", *_LEVELS, "area_mean", *(f"area_{d}" for d in _LEVELS))
        names += ("low", "high", "error_counting", "error_networks", "error_outline")
        names += ("error_pixel_size",)
        return result | dict.fromkeys(names, nan)
    mean = float(np.average(values, weights=weights))
    scatter = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    by_area = weights * values**2
    sd = scatter * np.sqrt(len(values) / (len(values) - 1)) if len(values) > 1 else nan
    result |= {"mean": mean, "sd": sd}
    result |= _quantiles(values, weights, "")
    result |= {"area_mean": float(np.average(values, weights=by_area))}
    result |= _quantiles(values, by_area, "area_")

    degrees: float
    if spread is None:
        whole = ~particles["touches_edge"].to_numpy(bool)
        groups = None
        frames = files = 0
        if "micrograph" in particles:
            own = particles["micrograph"].to_numpy()[whole]
            groups = np.array([file_of(str(path)) for path in own])
            frames, files = len(np.unique(own)), len(np.unique(groups))
        counting, degrees = counting_error(values, weights, groups)
        if files < min(frames, 3):  # a particle may have been counted in every frame
            counting, degrees = nan, 0.0
    else:
        variance, degrees = spread
        counting = mean * float(np.sqrt(variance * np.sum(weights**2))) / float(weights.sum())
    # the outline of the ensemble is as uncertain as that of a single network: folds share a bias
    networks, fold_degrees = fold_error or _fold_error(fold_means)
    outline = mean * outline_error(predicted_dice)
    scale = mean * pixel_size_error if unit == "nm" else 0.0
    parts = np.array([counting, networks, 0.0 if np.isnan(outline) else outline, scale])
    known_by = np.array([max(degrees, 1), max(fold_degrees, 1), np.inf, np.inf])
    half = float(np.sqrt(np.sum((t.ppf(0.5 + confidence / 2, known_by) * parts) ** 2)))
    low = max(0.0, mean - half) if np.isfinite(half) else nan
    result |= {"low": low, "high": mean + half, "error_counting": counting}
    result |= {"error_networks": networks, "error_outline": outline}
    return result | {"error_pixel_size": scale}


def _fold_error(fold_means: Sequence[float]) -> tuple[float, int]:
    """Return the standard deviation of the means of folds, and its degrees of freedom."""
    measured = np.asarray([m for m in fold_means if np.isfinite(m)], dtype=float)
    if len(measured) < 2:
        return float("nan"), 0
    return float(measured.std(ddof=1)), len(measured) - 1


def outline_error(predicted_dice: float | None) -> float:
    """Return the relative standard uncertainty of diameters in a mask of a known Dice.

    Whatever a mask of Dice D does wrong, its area is between D / (2 − D) and (2 − D) / D of the
    true one, and the diameters between the roots of these, if all particles share the error.
    Nothing else is known of it: a rectangular distribution, whose standard deviation is its half
    width over √3 (JCGM 100:2008, 4.3.7). It covers what all folds do wrong alike.

    Examples
    --------
    >>> round(outline_error(0.95), 3), outline_error(1.0), outline_error(None)
    (0.03, 0.0, nan)
    """
    if predicted_dice is None or not np.isfinite(predicted_dice):
        return float("nan")
    dice = float(np.clip(predicted_dice, 0.05, 1.0))
    return float((np.sqrt((2 - dice) / dice) - 1) / np.sqrt(3))


def shared_spread(
    relative_sd: NDArray[np.float64], n_particles: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how far sizes scatter in each micrograph, as far as the others are like it.

    The relative variance s² of each micrograph, with d = n − 1 degrees of freedom, becomes
    (d₀ s₀² + d s²) / (d₀ + d) with d₀ + d of them, as in the moderated t of Smyth (Stat. Appl.
    Genet. Mol. Biol. 3, 3, 2004). s₀² and d₀ are fitted by maximum likelihood, s² / s₀² being
    distributed as F(d, d₀), which makes use of two particles as of many. Few micrographs cannot
    show that they are alike: taken is the smallest d₀ whose likelihood is within e^-0.5 of the
    best, and at most the degrees of freedom of all others.

    Parameters
    ----------
    relative_sd : ndarray, shape (M,)
        Standard deviation over mean of the diameters; anything for fewer than two particles.
    n_particles : ndarray, shape (M,)

    Returns
    -------
    variance : ndarray, shape (M,)
        Relative; NaN where nothing is known: fewer than two particles, and fewer than three
        micrographs with two.
    degrees : ndarray, shape (M,)
    """
    from scipy.special import betaln

    own_df = np.maximum(np.asarray(n_particles, float) - 1, 0)
    variance = np.where(own_df > 0, np.asarray(relative_sd, float) ** 2, np.nan)
    known = np.isfinite(variance)
    if known.sum() < _FEWEST_ALIKE:
        return variance, own_df
    own, df = variance[known], own_df[known]
    own = np.maximum(own, 1e-5 * np.median(own) + 1e-12)  # two of one size to the pixel
    steps = np.linspace(np.log(own.min()), np.log(own.max()), 121)
    tried = np.array([0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 1e4])
    # the density of F, without what depends on neither d₀ nor s₀²
    times = df * own / np.exp(steps)[:, None]
    likelihood = np.array(
        [
            -(df / 2 * (steps[:, None] + np.log(d0)) + betaln(df / 2, d0 / 2)).sum(-1)
            - ((df + d0) / 2 * np.log1p(times / d0)).sum(-1)
            for d0 in tried
        ]
    )
    best = likelihood.max(1)
    chosen = int(np.flatnonzero(best >= best.max() - 0.5)[0])
    prior = np.exp(steps[int(likelihood[chosen].argmax())])
    prior_df = np.minimum(tried[chosen], df.sum() - np.where(known, own_df, 0.0))
    variance = np.where(known, variance, 0.0)
    return (prior_df * prior + own_df * variance) / (prior_df + own_df), prior_df + own_df


def share_spread(
    results: Sequence[Mapping[str, Any]],
    particles: pd.DataFrame,
    pixel_size_error: float,
    confidence: float,
) -> list[Mapping[str, Any]]:
    """Return the results of a folder, the intervals of their means made with a shared spread.

    Micrographs whose masks are not to be trusted keep their own and lend none; so do failed ones.
    Frames of one file have one spread, which counts once: they may show the same particles.

    Parameters
    ----------
    results : sequence of dict
        Of :meth:`temshift.catalog.segmentations.SegmentationStore.results`.
    particles : DataFrame
        Of all of them, with a column ``micrograph``.
    pixel_size_error, confidence
        As for :func:`size_distribution`.
    """
    alike = [
        i
        for i, result in enumerate(results)
        if not result.get("failed")
        and result["judgement"]["verdict"] != "do not trust"
        and result["sizes"]["n_particles"]
    ]
    found = list(results)
    if not alike:
        return found
    sizes = [results[i]["sizes"] for i in alike]
    table = pd.DataFrame(
        {
            "file": [file_of(results[i]["path"]) for i in alike],
            "n": [own["n_particles"] for own in sizes],
            # files hold None where a number is not known: the standard deviation of one particle
            "sd": np.array([own["sd"] for own in sizes], float) / [own["mean"] for own in sizes],
        }
    )
    by_file = table.groupby("file", sort=False).median()
    shared = shared_spread(by_file["sd"].to_numpy(), by_file["n"].to_numpy())
    spreads = dict(zip(by_file.index, zip(*shared, strict=True), strict=True))
    own_particles = dict(list(particles.groupby("micrograph", sort=False)))
    for i, file in zip(alike, table["file"], strict=True):
        result, spread = results[i], spreads[file]
        made = size_distribution(
            own_particles[result["path"]],
            [np.nan if m is None else m for m in result["fold_means"]],
            result["sizes"]["unit"],
            pixel_size_error,
            confidence,
            result["judgement"]["predicted_dice"],
            spread,
        )
        changed = {name: made[name] for name in ("low", "high", "error_counting")}
        found[i] = {**result, "sizes": {**result["sizes"], **changed}}
    return found


def _whole(particles: pd.DataFrame, column: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    whole = particles[~particles["touches_edge"].to_numpy(bool)]
    return whole[column].to_numpy(float), whole["edge_weight"].to_numpy(float)


def _quantiles(
    values: NDArray[np.float64], weights: NDArray[np.float64], prefix: str
) -> dict[str, float]:
    found = weighted_quantiles(values, weights, list(_LEVELS.values()))
    return {f"{prefix}{name}": float(value) for name, value in zip(_LEVELS, found, strict=True)}


#: Columns of counts: they are none of a file that failed.
_WHOLE_NUMBERS = ("label_next", "height_px", "width_px", "n_particles", "n_cut", "n_specks")


def sizes_table(results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Put what is known of every micrograph into a table.

    Parameters
    ----------
    results : sequence of dict
        Of :meth:`temshift.catalog.segmentations.SegmentationStore.results`.

    Returns
    -------
    DataFrame
        One row a file, columns :data:`SIZE_COLUMNS`.
    """
    rows = []
    turns = {path: turn for turn, path in enumerate(label_next(results), start=1)}
    for result in results:
        row: dict[str, Any] = {"micrograph": result["path"]}
        row["label_next"] = turns.get(result["path"])
        if result.get("failed"):
            rows.append({**row, "verdict": "failed", "reasons": result["failed"]})
            continue
        judged = result["judgement"]
        sizes = dict(result["sizes"])
        row |= {k: judged[k] for k in ("verdict", "predicted_dice", "novelty", "reasons")}
        row |= {"dice_low": judged["low"], "dice_high": judged["high"]}
        row |= {"mean_low": sizes.pop("low"), "mean_high": sizes.pop("high")}
        row |= {k: result[k] for k in ("network", "fold_agreement", "pixel_size_nm")}
        row |= {k: result[k] for k in ("height_px", "width_px", "n_specks")}
        rows.append({**row, **sizes, "notes": " ".join(result["notes"])})
    table = pd.DataFrame(rows, columns=list(SIZE_COLUMNS))
    return table.astype(dict.fromkeys(_WHOLE_NUMBERS, "Int64"))


def label_next(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the micrographs in the order in which to draw masks by hand.

    Each is chosen to stand for as many others as possible: alike are those with the same diameter
    and number of what was found, agreement of the folds, predicted Dice and distance to the
    calibrated images (:func:`temshift.study.few_labels.label_order`).

    Parameters
    ----------
    results : sequence of dict
        Of :meth:`temshift.catalog.segmentations.SegmentationStore.results`.

    Returns
    -------
    list of str
        Paths, without those that could not be segmented.
    """
    done = [result for result in results if not result.get("failed")]

    def known(value: Any) -> float:
        return float("nan") if value is None else float(value)

    judged = [result["judgement"] for result in done]
    mixed = len(units_of(done)) > 1  # then all in px

    def diameter(result: Mapping[str, Any]) -> float:
        mean = known(result["sizes"]["mean"])
        if mixed and result["sizes"]["unit"] == "nm":
            mean /= result["pixel_size_nm"]
        return max(mean, 1e-6)

    order = label_order(
        [
            np.log([diameter(r) for r in done]),
            np.log1p([known(r["sizes"]["n_particles"]) for r in done]),
            [known(r["fold_agreement"]) for r in done],
            [known(j["predicted_dice"]) for j in judged],
            [known(j["novelty"]) for j in judged],
        ]
    )
    return [done[i]["path"] for i in order]


def ranking_table(results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Put every network that could have drawn a mask into a table, the best first.

    Parameters
    ----------
    results : sequence of dict
        Of :meth:`temshift.catalog.segmentations.SegmentationStore.results`.

    Returns
    -------
    DataFrame
        One row a micrograph and network, columns :data:`RANKING_COLUMNS`. Networks are ranked by
        their predicted Dice; without a judgement, and where it is alike, the nearest comes first.
    """
    rows = []
    for result in results:
        if result.get("failed"):
            continue
        table = pd.DataFrame(result["networks"]).rename(
            columns={"low": "dice_low", "high": "dice_high"}
        )
        table = table.reindex(columns=list(RANKING_COLUMNS))
        table["micrograph"] = result["path"]
        table["drew"] = table["network"] == result["network"]
        measured = {result["network"]: result["sizes"]}
        measured |= {other["network"]: other["sizes"] for other in result.get("outside", [])}
        for name in ("unit", "n_particles", "mean"):
            known = {network: sizes.get(name) for network, sizes in measured.items()}
            table[name] = table["network"].map(known)
        table["n_particles"] = table["n_particles"].astype("Int64")
        table = table.assign(falling=-table["predicted_dice"].astype(float).fillna(0.0))
        table = table.sort_values(["falling", "distance", "network"], kind="stable")
        table["rank"] = np.arange(1, len(table) + 1)
        rows += table.drop(columns="falling").to_dict("records")
    return pd.DataFrame(rows, columns=list(RANKING_COLUMNS))


def particles_table(particles: pd.DataFrame) -> pd.DataFrame:
    """Return the particles of all micrographs, with their columns even if there are none."""
    return particles.reindex(columns=["micrograph", *PARTICLE_COLUMNS])


def data_dictionary() -> pd.DataFrame:
    """Return what the columns of the tables mean.

    Returns
    -------
    DataFrame
        ``table, column, unit, meaning``.
    """
    rows = [("micrographs", name, *what) for name, what in SIZE_COLUMNS.items()]
    rows.append(("particles", "micrograph", "", "path of the file below the folder of input"))
    rows += [("particles", name, *what) for name, what in PARTICLE_COLUMNS.items()]
    rows += [("networks", name, *what) for name, what in RANKING_COLUMNS.items()]
    return pd.DataFrame(rows, columns=["table", "column", "unit", "meaning"])


def pooled_sizes(
    results: Sequence[Mapping[str, Any]],
    particles: pd.DataFrame,
    pixel_size_error: float,
    confidence: float,
) -> dict[str, Any] | None:
    """Describe the sizes of several micrographs together.

    Returns
    -------
    dict or None
        As :func:`size_distribution`; ``None`` where some are in nm and others in px, or where there
        is no whole particle.
    """
    names = [result["path"] for result in results]  # also those of which all particles are cut
    results = [result for result in results if result["sizes"]["n_particles"]]
    units = units_of(results)
    if len(units) != 1:
        return None
    own = particles[particles["micrograph"].isin(names)]
    if own.empty or own["touches_edge"].all():
        return None
    counts = [result["sizes"]["n_particles"] for result in results]
    dice = [r["judgement"]["predicted_dice"] for r in results]
    known_dice = np.array([np.nan if d is None else d for d in dice], float)
    judged = np.isfinite(known_dice) * np.array(counts)
    mean_dice = float(np.nansum(judged * known_dice) / judged.sum()) if judged.any() else None
    return size_distribution(
        own,
        (),
        units.pop(),
        pixel_size_error,
        confidence,
        mean_dice,
        fold_error=_pooled_fold_error(results),
    )


def units_of(results: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the units of the sizes of those micrographs that have any."""
    return {r["sizes"]["unit"] for r in results if r["sizes"]["n_particles"]}


def _pooled_fold_error(results: Sequence[Mapping[str, Any]]) -> tuple[float, int]:
    """Return how far the mean over micrographs scatters between folds, and its degrees of freedom.

    Folds of one network are compared on the micrographs in which all of them have a mean: one that
    found nothing in some has the mean of others there. What several networks drew is taken to be
    wrong in one direction in all of them, and known as well as by the network of fewest folds.
    NaN where the folds of a network cannot be compared.
    """
    total = sum(result["sizes"]["n_particles"] for result in results)
    error, degrees = 0.0, []
    for network in dict.fromkeys(result["network"] for result in results):
        drawn = [r for r in results if r["network"] == network]
        if len({len(r["fold_means"]) for r in drawn}) > 1:
            return float("nan"), 0
        table = np.array(
            [[np.nan if m is None else m for m in r["fold_means"]] for r in drawn], float
        )
        counts = np.array([r["sizes"]["n_particles"] for r in drawn], float)
        table = table[:, np.isfinite(table).any(axis=0)]  # one that never found any has no mean
        known = np.isfinite(table).all(axis=1)
        if not known.any():
            return float("nan"), 0
        means = counts[known] @ table[known] / counts[known].sum()
        sd, df = _fold_error(list(means))
        error += sd * counts.sum() / total
        degrees.append(df)
    return error, min(degrees)

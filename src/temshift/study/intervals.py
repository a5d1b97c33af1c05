"""Intervals and tests for means over networks (folds) and specimens, both of them random.

The model: the Dice of fold k on specimen g is mu + u_k + s_g + e_kg, with independent effects of
the network u, of the specimen s, and a residual. A study has few folds, so that a single cell says
little about its own scatter: three folds give two degrees of freedom, and an interval of ± 2.5
standard deviations. What helps is that a study has many cells of similar scatter.

*Each specimen is tested by one fold* (protocol ``grouped``): the means of the folds are
independent, and their variance contains networks and specimens alike. These variances are shrunk
over the cells (:func:`moderated_variance`: the moderated t of Smyth, Stat. Appl. Genet. Mol. Biol.
3, 3, 2004, doi:10.2202/1544-6115.1027). Two things are different here: cells share networks and
specimens, so that their variances are correlated and say less together than their number promises;
and the scatter of a Dice falls towards 1.

*Every fold is tested on every specimen* (``published``): fold means share the specimens, and their
variance misses them. There the three variances are estimated by the method of moments
(:func:`two_way_variance`).

How often these intervals hold the truth is measured by ``benchmarks/interval_coverage.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Variance",
    "dice_scatter",
    "folds_needed",
    "holm",
    "least_visible",
    "moderated_variance",
    "p_above",
    "p_value",
    "paired_difference",
    "t_interval",
    "two_way_variance",
]

Floats = NDArray[np.float64]

#: Fewer cells do not show how the scatter depends on the Dice.
_CELLS_FOR_TREND = 5


class Variance(NamedTuple):
    """Squared standard error of estimates, and the degrees of freedom that it was estimated with.

    Attributes
    ----------
    value, df : ndarray, float64, of the same shape
    """

    value: Floats
    df: Floats


# --------------------------------------------------------------------------- variances
def moderated_variance(fold_means: ArrayLike, scatter: ArrayLike | None = None) -> Variance:
    """Return the variance of each cell's mean over folds, shrunk over the cells.

    With d = K − 1, the variance s² of a cell's fold means is replaced by
    (d₀ s₀² + d s²) / (d₀ + d) with d₀ + d degrees of freedom. The prior (d₀, s₀²) comes from the
    moments of log s² over the cells, as in Smyth (2004), with these differences:

    - Cells that share networks or specimens have correlated variances. The mean squared
      correlation ρ² of their fold means (less 1 / d, what chance gives) reduces the variance of
      log s² expected of cells that scatter alike, and C cells count as C / (1 + (C − 1) ρ²);
      d₀ cannot exceed the degrees of freedom of the others among these. Cells that are all the
      same thus get no shrinkage: Student's t.
    - s₀² is the larger of the geometric mean of the variances (corrected for what few folds do to
      a logarithm) and of (1 − 2 / d₀) times their arithmetic mean, which needs fewer cells.
    - With ``scatter``, log s² is first regressed on it (slope 0 … 1, drawn towards 0).

    Parameters
    ----------
    fold_means : array_like, shape (..., C, K)
        Of C cells (or gaps) over the same K ≥ 2 folds.
    scatter : array_like, shape (..., C), optional
        Standard deviation expected of each cell, up to a common factor; positive.

    Returns
    -------
    Variance
        Of the means over folds, shape (..., C). A single cell gets its own variance.

    Raises
    ------
    ValueError
        Fewer than two folds.
    """
    from scipy.special import digamma, polygamma

    means = np.asarray(fold_means, float)
    n_cells, folds = means.shape[-2:]
    if folds < 2:
        raise ValueError("one fold says nothing about the scatter between folds")
    d = folds - 1
    residuals = means - means.mean(-1, keepdims=True)
    own = (residuals**2).sum(-1) / d
    if n_cells < 2 or d < 2:
        return Variance(own / folds, np.full(own.shape, float(d)))

    shared = _shared_scatter(residuals)[..., None]
    # a cell without any scatter has no logarithm
    floor = 1e-5 * np.median(own, axis=-1, keepdims=True) + 1e-300
    log = np.log(np.maximum(own, floor)) - digamma(d / 2) + np.log(d / 2)
    trend, spent = _trend(log, scatter, float(polygamma(1, d / 2)))
    log = log - trend
    scaled = own / np.exp(trend)

    centre = log.mean(-1, keepdims=True)
    observed = ((log - centre) ** 2).sum(-1, keepdims=True) / (n_cells - 1 - spent)
    excess = observed - float(polygamma(1, d / 2)) * (1 - shared)
    prior_df = np.where(excess > 0, 2 * _inverse_trigamma(np.maximum(excess, 1e-6)), np.inf)
    with np.errstate(invalid="ignore"):
        arithmetic = scaled.mean(-1, keepdims=True) * np.maximum(1 - 2 / prior_df, 0)
    prior = np.maximum(np.exp(centre), arithmetic)
    effective = n_cells / (1 + (n_cells - 1) * shared)
    prior_df = np.minimum(prior_df, d * (effective - 1))
    value = (prior_df * prior * np.exp(trend) + d * own) / (prior_df + d)
    return Variance(value / folds, np.broadcast_to(prior_df + d, value.shape).copy())


def two_way_variance(values: ArrayLike, weights: ArrayLike) -> Variance:
    """Return the variance of a mean over folds, whichever specimens they were tested on.

    The mean is that over folds of the weighted means over specimens. Where each specimen is tested
    by one fold only, the means of the folds are independent, and their variance is all that is
    needed. Else the variances of networks, specimens and residuals (inversely proportional to the
    weight) follow from the expectations of three sums of squares: of folds, of specimens, and of
    single values (method of moments, none below 0). The degrees of freedom are those whose
    quantile of Student's t has the square that the three parts have on average, weighted with
    their variances (after Howe, J. Am. Stat. Assoc. 69, 789, 1974): unlike Satterthwaite's they do
    not promise too much where the part of the few folds came out small by chance.

    Parameters
    ----------
    values : array_like, shape (..., K, G)
        Of fold and specimen; anything where the weight is 0.
    weights : array_like, shape (K, G)
        0 where a fold was not tested on a specimen. Every fold and every specimen has one that
        is not.

    Returns
    -------
    Variance
        Shape (...). NaN for a single fold or a single specimen.
    """
    return _together(*_parts(np.asarray(values, float), np.asarray(weights, float)))


def paired_difference(
    first: ArrayLike, first_weights: ArrayLike, second: ArrayLike, second_weights: ArrayLike
) -> tuple[Floats, Variance]:
    """Return first − second of two networks that were not tested alike, on the same specimens.

    One may be tested fold by fold, the other as a whole. The first is set against the mean over
    folds of the second, specimen by specimen, so that what makes a specimen hard cancels
    (:func:`two_way_variance`); to this comes the variance of the second's networks. The parts of
    both networks are added first, with the degrees of freedom of Welch and Satterthwaite.

    Parameters
    ----------
    first, second : array_like, shapes (..., K, G) and (..., L, G)
        The second should be the one that tests each specimen with more folds.
    first_weights, second_weights : array_like, shapes (K, G) and (L, G)
        As in :func:`two_way_variance`. The specimens count in the difference as in the first.

    Returns
    -------
    difference : ndarray, shape (...)
    variance : Variance
        Shape (...). NaN if either has a single fold, or for a single specimen.
    """
    w, v = np.asarray(first_weights, float), np.asarray(second_weights, float)
    other = np.where(v > 0, second, 0.0)
    against = np.asarray(first, float) - ((other * v).sum(-2) / v.sum(0))[..., None, :]
    difference = (np.where(w > 0, against, 0.0) * w).sum(-1) / w.sum(1)
    parts, df = _parts(against, w)
    networks, fold_df = _parts(other, v)
    both = parts[..., 0] + networks[..., 0]
    noise = parts[..., 0] ** 2 / df[0] + networks[..., 0] ** 2 / fold_df[0]
    all_df = np.broadcast_to(df, parts.shape).copy()
    all_df[..., 0] = np.divide(both**2, noise, out=all_df[..., 0].copy(), where=noise > 0)
    parts[..., 0] = both
    return difference.mean(-1), _together(parts, all_df)


def dice_scatter(*dice: ArrayLike) -> Floats:
    """Return the scatter expected of a Dice, or of the difference of two, up to a factor.

    The same scatter on the logit scale moves a Dice D in proportion to D (1 − D).
    """
    inside = [np.clip(np.asarray(d, float), 0.02, 0.98) for d in dice]
    scatter: Floats = np.sqrt(np.sum([(d * (1 - d)) ** 2 for d in inside], axis=0))
    return scatter


# --------------------------------------------------------------------------- what follows from them
def t_interval(estimate: ArrayLike, variance: Variance, confidence: float) -> tuple[Floats, Floats]:
    """Return the lower and upper ends of the intervals; NaN where the variance is NaN."""
    from scipy.stats import t

    estimate = np.asarray(estimate, float)
    half = t.ppf((1 + confidence) / 2, variance.df) * np.sqrt(variance.value)
    return estimate - half, estimate + half


def p_value(estimate: ArrayLike, variance: Variance) -> Floats:
    """Return the two-sided p-values of the estimates being 0.

    They agree with :func:`t_interval`: p ≤ 0.05 where the interval of 95 % leaves out 0. Without
    any scatter p is 1 for an estimate of 0, and 0 for any other.
    """
    from scipy.stats import t

    estimate = np.abs(np.asarray(estimate, float))
    error = np.sqrt(variance.value)
    with np.errstate(invalid="ignore", divide="ignore"):
        p: Floats = 2 * t.sf(estimate / error, variance.df)
    return np.where(error == 0, np.where(estimate == 0, 1.0, 0.0), p)


def p_above(estimate: ArrayLike, variance: Variance, limit: float) -> Floats:
    """Return the one-sided p-values of the true values being at most a limit.

    Without any scatter p is 0 for an estimate above the limit, and 1 for any other.
    """
    from scipy.stats import t

    excess = np.asarray(estimate, float) - limit
    error = np.sqrt(variance.value)
    with np.errstate(invalid="ignore", divide="ignore"):
        p: Floats = t.sf(excess / error, variance.df)
    return np.where(error == 0, np.where(excess > 0, 0.0, 1.0), p)


def holm(p_values: ArrayLike) -> Floats:
    """Return p-values corrected for their number (Holm, Scand. J. Stat. 6, 65, 1979).

    Rejecting those up to 0.05 rejects any true hypothesis in at most 5 % of families, whatever
    their dependence. NaN stay NaN and do not count.

    Parameters
    ----------
    p_values : array_like, shape (n,)
    """
    p = np.asarray(p_values, float)
    corrected = np.full(p.shape, np.nan)
    given = np.flatnonzero(np.isfinite(p))
    order = given[np.argsort(p[given], kind="stable")]
    stepped = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return corrected


def least_visible(variance: Variance, confidence: float, power: float = 0.8) -> Floats:
    """Return the smallest true difference whose interval leaves out 0 with the given probability.

    (t₁₋ₐ + t_power) standard errors, the usual approximation to the noncentral t.
    """
    from scipy.stats import t

    quantiles = t.ppf((1 + confidence) / 2, variance.df) + t.ppf(power, variance.df)
    return np.asarray(quantiles * np.sqrt(variance.value), float)


def folds_needed(
    half_width: float, variance: Variance, folds: int, confidence: float, most: int = 1000
) -> float:
    """Return how many folds would narrow an interval to a half width, at today's scatter.

    Each fold brings its own network and its own specimens, as many as now: the standard error
    falls with the root of the number, and the degrees of freedom rise in proportion.

    Returns
    -------
    float
        At least ``folds``; infinity if more than ``most``.
    """
    from scipy.stats import t

    n = np.arange(folds, most + 1)
    if not np.isfinite(variance.value) or half_width <= 0:
        return float("inf")
    widths = t.ppf((1 + confidence) / 2, variance.df * n / folds) * np.sqrt(
        variance.value * folds / n
    )
    enough = np.flatnonzero(widths <= half_width)
    return float(n[enough[0]]) if len(enough) else float("inf")


# --------------------------------------------------------------------------- inside
def _parts(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return what folds, specimens and residuals add to the variance of a mean, with their df.

    Shapes (..., 3) and (3,); of folds alone, (..., 1) and (1,), where each specimen has one fold.
    """
    from scipy.optimize import nnls

    tested = weights > 0
    folds, groups = weights.shape
    if folds < 2 or groups < 2:
        return np.full((*values.shape[:-2], 1), np.nan), np.full(1, np.nan)
    if bool((tested.sum(0) == 1).all()):
        means = (np.where(tested, values, 0.0) * weights).sum(-1) / weights.sum(1)
        return means.var(-1, ddof=1)[..., None] / folds, np.array([folds - 1.0])
    share = np.where(tested, weights / weights.sum(1, keepdims=True) / folds, 0.0)
    expected, wanted = _expectations(share, np.where(tested, weights, np.inf))
    y = np.where(tested, values, 0.0)
    mean = (share * y).sum((-2, -1), keepdims=True)
    weighted = share * np.where(tested, y - mean, 0.0)
    squares = np.stack(
        [
            (weighted.sum(-1) ** 2).sum(-1),
            (weighted.sum(-2) ** 2).sum(-1),
            (weighted**2).sum((-2, -1)),
        ],
        -1,
    )
    scale = expected.sum(1)
    flat = (squares / scale).reshape(-1, 3)
    variances = np.array([nnls(expected / scale[:, None], row)[0] for row in flat])
    df = np.array([folds - 1.0, groups - 1.0, max(tested.sum() - folds - groups + 1.0, 1.0)])
    return (variances * wanted).reshape(squares.shape), df


def _expectations(share: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return what variances of 1 contribute to the sums of squares, and to the mean's variance.

    Parameters
    ----------
    share : ndarray, shape (K, G)
        Of each value in the mean; they add up to 1.
    weights : ndarray, shape (K, G)
        The variance of a residual is inversely proportional to it.

    Returns
    -------
    expected : ndarray, shape (3, 3)
        Rows: sums of squares over folds, specimens and single values, of the deviations from the
        mean times their share. Columns: variances of networks, specimens and residuals.
    wanted : ndarray, shape (3,)
    """
    by_fold, by_group = share.sum(1), share.sum(0)
    residual = np.mean(weights[np.isfinite(weights)]) / weights
    noise = share**2 * residual
    wanted = np.array([np.sum(by_fold**2), np.sum(by_group**2), noise.sum()])

    def kept(level: Floats) -> Floats:
        """Of an effect's square, what is left once the mean is taken off, summed over levels."""
        left: Floats = 1 - 2 * level + np.sum(level**2)
        return left

    across = np.sum((share - np.outer(by_fold, by_group)) ** 2)
    folds, groups = kept(by_fold)[:, None], kept(by_group)[None, :]
    expected = [
        [np.sum(by_fold**2 * kept(by_fold)), across, np.sum(noise * folds)],
        [across, np.sum(by_group**2 * kept(by_group)), np.sum(noise * groups)],
        [
            np.sum(share**2 * folds),
            np.sum(share**2 * groups),
            np.sum(noise * (1 - 2 * share) + share**2 * noise.sum()),
        ],
    ]
    return np.array(expected), wanted


def _together(parts: Floats, df: Floats) -> Variance:
    """Add independent parts of a variance up; degrees of freedom after Howe (1974)."""
    from scipy.stats import t

    value = parts.sum(-1)
    grid = np.geomspace(0.5, 1e6, 2000)
    known = t.ppf(0.975, grid) ** 2  # falls with the degrees of freedom
    squares = t.ppf(0.975, df) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        square = np.where(value > 0, (parts * squares).sum(-1) / value, squares.max(-1))
    found = np.exp(np.interp(-square, -known, np.log(grid)))
    return Variance(value, np.where(np.isfinite(value), found, np.nan))


def _shared_scatter(residuals: Floats) -> Floats:
    """Return the mean squared correlation of cells over folds beyond chance, 0 … 1.

    Of two cells with nothing in common, the squared correlation of K fold means is 1 / (K − 1) on
    average.
    """
    n_cells, folds = residuals.shape[-2:]
    length = np.sqrt((residuals**2).sum(-1, keepdims=True))
    unit = np.divide(residuals, length, out=np.zeros_like(residuals), where=length > 0)
    squares = ((np.swapaxes(unit, -1, -2) @ unit) ** 2).sum((-1, -2))  # = all pairs of cells
    with_itself = (length > 0).sum((-1, -2))
    chance = 1 / (folds - 1)
    pairs = n_cells * (n_cells - 1)
    shared: Floats = np.clip(((squares - with_itself) / pairs - chance) / (1 - chance), 0, 1)
    return shared


def _trend(log: Floats, scatter: ArrayLike | None, noise: float) -> tuple[Floats, Floats]:
    """Return what the expected scatter says about log s², mean 0, and degrees of freedom spent.

    The slope is that of a ridge regression: a normal prior of variance 1 around 0.
    """
    if scatter is None or log.shape[-1] < _CELLS_FOR_TREND:
        return np.zeros_like(log), np.zeros((*log.shape[:-1], 1))
    x = 2 * np.log(np.asarray(scatter, float))
    x = x - x.mean(-1, keepdims=True)
    squares = (x**2).sum(-1, keepdims=True)
    slope = (x * log).sum(-1, keepdims=True) / (squares + noise)
    return np.clip(slope, 0, 1) * x, squares / (squares + noise)


def _inverse_trigamma(values: Floats) -> Floats:
    """Solve trigamma(y) = x by Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    y = 0.5 + 1 / values
    for _ in range(50):
        trigamma = polygamma(1, y)
        step = trigamma * (1 - trigamma / values) / polygamma(2, y)
        y = y + step
        if np.all(-step / y < 1e-8):
            break
    return np.asarray(y, float)

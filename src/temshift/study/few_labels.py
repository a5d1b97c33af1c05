"""What labels of one's own bring: learning curves, and which micrograph to label next.

A learning curve compares tuned networks with the network as it was, micrograph by micrograph. Its
parts share what they train on, so the variance of a mean over parts is enlarged as by Nadeau &
Bengio (Machine Learning 52, 239, 2003), and the gains of one curve are stated together
(Bonferroni): one that is said to be there is there with the stated confidence whatever their
number.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from temshift.study.intervals import Variance, t_interval

__all__ = ["CURVE_COLUMNS", "curve_sentences", "curve_table", "label_order"]

#: Columns of the table of a learning curve.
CURVE_COLUMNS = (
    *("tested_on", "labelled_micrographs", "tested", "parts", "dice", "dice_low", "dice_high"),
    *("gain", "gain_low", "gain_high", "effect"),
)

#: So many are chosen by what they cover; who labels more than that labels all.
_COVERING = 64


def curve_table(scores: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Put scores of tuned networks beside those of the network as it was.

    Parameters
    ----------
    scores : DataFrame
        ``tested_on, labelled_micrographs, part, micrograph, dice``: each part was tested by the
        network as it was (``labelled_micrographs`` 0), and by those tuned without it.
    confidence : float
        Of the interval of each Dice, and of the intervals of all gains of a set together.

    Returns
    -------
    DataFrame
        A row a set and number of labels, :data:`CURVE_COLUMNS`. ``effect`` is ``"gain"`` or
        ``"loss"`` where the interval of the gain leaves out 0, else ``"not shown"``. Intervals
        need two parts.
    """
    rows: list[dict[str, Any]] = []
    for tested_on, own in scores.groupby("tested_on", sort=False):
        means = own.pivot_table(
            index="part", columns="labelled_micrographs", values="dice", aggfunc="mean"
        )
        counts = own[own["labelled_micrographs"] == 0].groupby("part").size()
        weights = counts.reindex(means.index).to_numpy().astype(np.float64)
        numbers = sorted(own["labelled_micrographs"].unique().tolist())
        tuned = [k for k in numbers if k > 0]
        together = 1 - (1 - confidence) / max(len(tuned), 1)
        for k in numbers:
            dice, low, high = mean_over_parts(means[k].to_numpy(float), weights, confidence)
            row = {
                "tested_on": tested_on,
                "labelled_micrographs": int(k),
                "tested": int(weights.sum()),
                "parts": len(weights),
                **{"dice": dice, "dice_low": max(low, 0.0), "dice_high": min(high, 1.0)},
            }
            if k > 0:
                gains = means[k].to_numpy(float) - means[0].to_numpy(float)
                gain, low, high = mean_over_parts(gains, weights, together)
                effect = "gain" if low > 0 else "loss" if high < 0 else "not shown"
                row |= {"gain": gain, "gain_low": low, "gain_high": high, "effect": effect}
            rows.append(row)
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def mean_over_parts(
    values: NDArray[np.float64], weights: NDArray[np.float64], confidence: float
) -> tuple[float, float, float]:
    """Return a mean over parts with its interval, NaN of a single part.

    What each part was tested by was trained on the others, so that the variance of the mean is
    larger than of independent values: s² (1 / n + 1 / (n − 1)), after Nadeau & Bengio (Mach. Learn.
    52, 239, 2003).
    """
    mean = float(np.average(values, weights=weights))
    n = len(values)
    if n < 2:
        return mean, float("nan"), float("nan")
    spread = float(np.average((values - mean) ** 2, weights=weights)) * n / (n - 1)
    variance = Variance(np.asarray(spread * (1 / n + 1 / (n - 1))), np.asarray(n - 1.0))
    low, high = t_interval(mean, variance, confidence)
    return mean, float(low), float(high)


def curve_sentences(table: pd.DataFrame, held_out: str) -> list[str]:
    """Say what the labels brought, and what they cost elsewhere.

    Parameters
    ----------
    table : DataFrame
        Of :func:`curve_table`.
    held_out : str
        Its ``tested_on`` of the labelled micrographs; any other is elsewhere.

    Returns
    -------
    list of str
        A gain or loss is only said to be one where its interval leaves out 0.
    """
    own = table[(table["tested_on"] == held_out) & (table["labelled_micrographs"] > 0)]
    sentences = []
    if own.empty:
        sentences.append(
            "Whether the labels help is not known: to test it at least two micrographs with a "
            "labelled particle are needed, one of them held out."
        )
    else:
        gains, losses = (own[own["effect"] == effect] for effect in ("gain", "loss"))
        if len(gains):
            row = gains.iloc[-1]
            sentences.append(
                f"{_labels(row)} raise the Dice on micrographs held out by {row['gain']:.2f} "
                f"{_interval(row)} to {row['dice']:.2f}."
            )
        if len(losses):
            row = losses.iloc[-1]
            sentences.append(
                f"{_labels(row)} lower the Dice on micrographs held out by {-row['gain']:.2f} "
                f"(gain {_interval(row)}): use the network as it was."
            )
        if gains.empty and losses.empty:
            row = own.iloc[-1]
            sentences.append(
                f"No gain is shown: with {row['labelled_micrographs']} labelled the Dice on "
                f"micrographs held out changes by {row['gain']:+.2f} {_interval(row)}."
            )
    elsewhere = table[(table["tested_on"] != held_out) & table["gain"].notna()]
    for _, row in elsewhere.iterrows():
        said = {
            "gain": f"rises by {row['gain']:.2f}",
            "loss": f"falls by {-row['gain']:.2f}",
            "not shown": f"changes by {row['gain']:+.2f}, which shows neither gain nor loss",
        }[row["effect"]]
        sentences.append(
            f"Elsewhere, on the network's own test set {row['tested_on']}, the Dice {said} "
            f"{_interval(row)}."
        )
    return sentences


def _labels(row: Any) -> str:
    k = int(row["labelled_micrographs"])
    return f"Labels of {k} micrograph{'s' if k > 1 else ''}"


def _interval(row: Any) -> str:
    if not np.isfinite(row["gain_low"]):
        return "[no interval]"
    return f"[{row['gain_low']:.2f}, {row['gain_high']:.2f}]"


def label_order(features: Sequence[ArrayLike]) -> NDArray[np.intp]:
    """Return micrographs in the order in which to label them.

    A labelled micrograph covers those that are like it, by 1 / (1 + distance); each is chosen so
    that all are covered best by the nearest one chosen (greedy facility location; Wei, Iyer &
    Bilmes, ICML 2015). So the first is typical of all, and of two alike ones the second waits. The
    predicted error has no part in it: of few labels those of what a network fails on teach less
    than those of what is typical (Hacohen, Dekel & Weinshall, ICML 2022, on photographs; what
    ``benchmarks/label_next.py`` shows of micrographs is in ``docs/new_micrographs.md``).

    Parameters
    ----------
    features : sequence of array_like, shape (n,)
        Of each micrograph: what it is like, each feature counted by its scatter; NaN counts as the
        median.

    Returns
    -------
    ndarray, shape (n,), int
        Positions, the best first; after the first 64 as they stand. Of equals the first.

    Examples
    --------
    >>> label_order([[0.0, 1.0, 2.0, 9.0]]).tolist()  # the middle, then the far one
    [1, 3, 0, 2]
    """
    places = np.stack([_scaled(np.asarray(x, float)) for x in features], axis=1)
    covered = np.zeros(len(places))

    def likeness(i: int) -> NDArray[np.float64]:
        return 1 / (1 + np.linalg.norm(places - places[i], axis=1))

    def gain(i: int) -> float:
        return round(float(np.maximum(likeness(i) - covered, 0).sum()), 12)

    # what a micrograph gains only falls as others are chosen: those that once gained less can wait
    heap = [(-gain(i), i) for i in range(len(places))]
    heapq.heapify(heap)
    order: list[int] = []
    while heap and len(order) < _COVERING:
        _, i = heapq.heappop(heap)
        now = (-gain(i), i)
        if heap and now > heap[0]:
            heapq.heappush(heap, now)
        else:
            order.append(i)
            covered = np.maximum(covered, likeness(i))
    return np.array(order + sorted(i for _, i in heap), np.intp)


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(values)
    if not known.any():
        return np.zeros_like(values)
    filled = np.where(known, values, np.median(values[known]))
    scatter = float(filled.std())
    return filled * 0.0 if scatter == 0 else (filled - filled.mean()) / scatter

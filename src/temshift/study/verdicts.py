"""What may be said of a shift: how bad it is, whether that can be judged, what would decide it.

A verdict is a claim on where the true loss lies; each of its bounds should be wrong in at most
1 − confidence of cases (of one shift chosen beforehand: nothing is corrected for their number). A
loss is wrongly called *robust* only if its upper bound is too low, and wrongly *breaks* only if its
lower bound is too high; *degrades* is two such claims, and is wrong for one of them. So each bound
is one-sided (Schuirmann, J. Pharmacokinet. Biopharm. 15, 657, 1987: two one-sided tests; for 95 %,
the bounds are the ends of a two-sided interval of 90 %).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.reporting import ReportingParameters
from temshift.study.intervals import Variance, folds_needed, holm, p_above, t_interval

__all__ = [
    "LOSSES",
    "REFERENCE_WEAK",
    "UNDECIDED",
    "classify",
    "folds_to_decide",
    "judge",
    "point_verdict",
    "study_verdict",
    "surely_above",
    "surest",
]

_CLASSES = ("robust", "degrades", "breaks")
#: Verdicts that say there is a loss.
LOSSES = ("breaks", "degrades or breaks", "degrades")
UNDECIDED = "undecided"
REFERENCE_WEAK = "reference weak"


def classify(low: float, high: float, parameters: ReportingParameters) -> str:
    """Return the verdict on a shift, as far as the bounds of its gap allow one.

    A gap up to ``degrades_above`` is *robust*, up to ``breaks_above`` *degrades*, above *breaks*.
    If all between the bounds lies in one class, that is the verdict; if in two neighbouring ones,
    both are named (``"degrades or breaks"``); else, or if a bound is NaN, it is ``"undecided"``.
    """
    if not np.isfinite([low, high]).all():
        return UNDECIDED
    limits = (parameters.degrades_above, parameters.breaks_above)
    first, last = (int(np.searchsorted(limits, value)) for value in (low, high))
    if first == last:
        return _CLASSES[first]
    return " or ".join(_CLASSES[first : last + 1]) if last - first == 1 else UNDECIDED


def point_verdict(gap: float, parameters: ReportingParameters) -> str:
    """Return the class of an estimate."""
    return classify(gap, gap, parameters)


def judge(gaps: pd.DataFrame, parameters: ReportingParameters) -> pd.DataFrame:
    """Add bounds, ``verdict``, ``point_verdict`` and ``reason`` to the gaps of all studies.

    ``bound_low`` and ``bound_high`` hold one-sidedly, each with the stated confidence. No loss is
    called one whose (two-sided) interval contains 0. A gap to a network that is no standard says
    nothing about a shift, whatever its interval: the verdict is ``"reference weak"`` where the
    test set's own network failed (a fold did not learn, or scores less than ``fails_below``), or
    where a guest, a network that was not trained on the set, is better than it: by more than
    ``degrades_above``, and surely (p ≤ 1 − confidence, Holm over the guests of the set). Where a
    fold of the guest did not learn, its loss is that of the training: ``"undecided"``.

    Parameters
    ----------
    gaps : DataFrame
        ``protocol, network, test_split, reference_protocol, gap, low, high, standard_error, df,
        p_value``, and
        ``own_failure, failure`` (what is wrong with the folds of the set's own network and of the
        network; or empty), ``guest`` (bool).
    parameters : ReportingParameters
    """
    verdicts, reasons = [], []
    variance = Variance(gaps["standard_error"].to_numpy(float) ** 2, gaps["df"].to_numpy(float))
    bounds = t_interval(gaps["gap"], variance, parameters.verdict_coverage)
    gaps = gaps.assign(bound_low=bounds[0], bound_high=bounds[1])
    better = _better_guests(gaps, parameters)
    for row in gaps.to_dict("records"):
        guest = better.get((row["reference_protocol"], row["test_split"]), "")
        if weak := row["own_failure"] or guest:
            verdicts.append(REFERENCE_WEAK)
            reasons.append(weak)
        elif row["failure"]:
            verdicts.append(UNDECIDED)
            reasons.append(row["failure"])
        else:
            least = row["bound_low"] if row["low"] > 0 else min(row["bound_low"], 0.0)
            verdicts.append(classify(least, row["bound_high"], parameters))
            reasons.append("")
    points = [
        verdict if verdict == REFERENCE_WEAK else point_verdict(gap, parameters)
        for verdict, gap in zip(verdicts, gaps["gap"], strict=True)
    ]
    return gaps.assign(
        verdict=pd.Series(verdicts, gaps.index, dtype=object),
        point_verdict=pd.Series(points, gaps.index, dtype=object),
        reason=pd.Series(reasons, gaps.index, dtype=object),
    )


def folds_to_decide(gaps: pd.DataFrame, parameters: ReportingParameters) -> NDArray[np.float64]:
    """Return how many folds would leave each undecided gap in one class, if its estimate stayed.

    NaN where the verdict is one class, or the gap was not judged for a ``reason``.
    """
    limits = np.array([parameters.degrades_above, parameters.breaks_above])
    needed = np.full(len(gaps), np.nan)
    for i, row in enumerate(gaps.to_dict("records")):
        if row["reason"] or row["verdict"] in _CLASSES or not np.isfinite(row["standard_error"]):
            continue
        variance = Variance(np.array(row["standard_error"] ** 2), np.array(row["df"]))
        room = float(np.abs(row["gap"] - limits).min())
        folds, coverage = int(row["n_folds"]), parameters.verdict_coverage
        needed[i] = folds_needed(room, variance, folds, coverage)
        if row["gap"] > limits[0]:  # no loss is one whose interval holds 0
            loss = folds_needed(float(row["gap"]), variance, folds, parameters.confidence)
            needed[i] = max(needed[i], loss)
    return needed


def surely_above(gaps: pd.DataFrame, limit: float, parameters: ReportingParameters) -> pd.Series:
    """Return which of several losses are above a limit, whichever of them are looked at.

    One-sided p-values of a loss up to the limit, corrected after Holm for the number of shifts
    that could be judged: any of them is wrongly said to be above it in at most 1 − confidence of
    cases. Nothing that is no loss by its own bounds is said to be above.

    Returns
    -------
    Series of bool
        Of the index of ``gaps``.
    """
    judged = gaps["reason"].fillna("") == ""
    variance = Variance(gaps["standard_error"].to_numpy(float) ** 2, gaps["df"].to_numpy(float))
    p = np.where(judged, p_above(gaps["gap"], variance, limit), np.nan)
    return gaps["verdict"].isin(LOSSES) & (holm(p) <= 1 - parameters.confidence)


def study_verdict(gaps: pd.DataFrame, parameters: ReportingParameters) -> str:
    """Return the verdict on a study: that on its surest loss (see :func:`surest`).

    Only a loss that stands the correction for the number of shifts (:func:`surely_above`) counts:
    *breaks* one that is so above ``breaks_above``. Without such a loss, a study is only robust if
    all its shifts are; it is open if one of them is, or may break.
    """
    judged = gaps[gaps["verdict"] != REFERENCE_WEAK]
    if judged.empty:
        return REFERENCE_WEAK
    if surely_above(judged, parameters.breaks_above, parameters).any():
        return "breaks"
    if (sure := surely_above(judged, parameters.degrades_above, parameters)).any():
        verdict = str(surest(judged[sure])["verdict"])
        return "degrades or breaks" if verdict == "breaks" else verdict
    found = set(judged["verdict"])
    if found == {"robust"} and len(judged) == len(gaps):
        return "robust"
    open_ = found & {UNDECIDED, "degrades or breaks", "breaks"}
    return UNDECIDED if open_ or len(judged) < len(gaps) else "robust or degrades"


def surest(gaps: pd.DataFrame, column: str = "gap") -> pd.Series:
    """Return the row whose interval has the largest lower end; the largest value without any."""
    return gaps.sort_values(["low", column], kind="stable", na_position="first").iloc[-1]


# --------------------------------------------------------------------------- inside
def _better_guests(
    gaps: pd.DataFrame, parameters: ReportingParameters
) -> dict[tuple[str, str], str]:
    """Say of each own network, by protocol and set, which guest is better there, if any."""
    found: dict[tuple[str, str], str] = {}
    place = ["reference_protocol", "test_split"]
    guests = gaps[gaps["guest"].astype(bool)].drop_duplicates(["protocol", "network", *place])
    for (protocol, split), rows in guests.groupby(place, sort=False):
        surely = holm(rows["p_value"]) <= 1 - parameters.confidence
        beaten = rows[surely & (rows["gap"] < -parameters.degrades_above)]
        if len(beaten):
            best = beaten.sort_values("high", kind="stable").iloc[0]
            found[str(protocol), str(split)] = (
                f"{best['network']} is better there by {-best['gap']:.2f} "
                f"[{-best['high']:.2f}, {-best['low']:.2f}]"
            )
    return found

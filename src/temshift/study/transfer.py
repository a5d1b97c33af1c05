"""How well networks carry over from one image set to another, and whether the way back is as hard.

With L = 1 − Dice, and D(A, B) the Dice of the network of set A on set B:

- the *in-domain gap* G_ID = L(held-out images) − L(training images) is what a network knows by
  heart. Both losses are of the same micrographs: the network of their fold has not seen them, that
  of the next fold was trained on them (``seen_dice`` of the results), so that what makes a
  micrograph hard cancels.
- the *out-of-distribution gap* G_OOD(A → B) = L(A, B) − L(A, A) = D(A, A) − D(A, B) sets one
  network on two sets (docs/transfer.md names the source). It contains what makes one set harder
  than the other for any network.
- the *asymmetry* of A → B against B → A is the difference of the two losses against the networks of
  the test sets: (D(B, B) − D(A, B)) − (D(A, A) − D(B, A)). Both terms of each loss are of one
  test set, so that its difficulty cancels: of networks that are equal the asymmetry is 0, however
  unequal the sets. The difference of two G_OOD has not this property.

Intervals are those of the gaps (:mod:`temshift.study.intervals`): all quantities are worked out
fold by fold, and the variance of their means over folds is shrunk over all pairs. That needs every
group to be tested by one fold, the same in all sets (protocol ``grouped``); elsewhere there are
estimates only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.plan import StudyPlan
from temshift.config.reporting import ReportingParameters
from temshift.study.intervals import (
    Variance,
    dice_scatter,
    holm,
    moderated_variance,
    p_value,
    t_interval,
)
from temshift.study.statistics import FoldSums, fold_sums

__all__ = ["TRANSFER_COLUMNS", "transfer_table"]

#: Columns of the table; one row a direction.
TRANSFER_COLUMNS = (
    *("study", "protocol", "train_on", "test_split", "n_folds", "n_groups"),
    *("own_dice", "g_id", "g_id_low", "g_id_high"),
    *("dice", "g_ood", "g_ood_low", "g_ood_high"),
    *("gap", "reverse_gap", "asymmetry", "low", "high", "standard_error", "df"),
    *("p_value", "p_holm", "direction"),
)

Floats = NDArray[np.float64]
_Key = tuple[str, str, str]  # protocol and two splits


@dataclass(frozen=True)
class _Values:
    """A quantity of each fold; ``nested`` says whether the folds are independent."""

    of_folds: Floats
    scatter: float
    nested: bool

    @property
    def mean(self) -> float:
        return float(self.of_folds.mean())


def transfer_table(
    results: pd.DataFrame, plan: StudyPlan, parameters: ReportingParameters
) -> pd.DataFrame:
    """Return how the network of each set of a study does on each other one, there and back.

    Only the sets' own networks count: whatever else was trained has no way back.

    Parameters
    ----------
    results : DataFrame
        As collected from the evaluation of all networks.
    plan : StudyPlan
    parameters : ReportingParameters

    Returns
    -------
    DataFrame
        :data:`TRANSFER_COLUMNS`, one row for each study, protocol and direction ``train_on`` →
        ``test_split``. ``own_dice`` and ``dice`` are of the network of ``train_on`` on its own set
        and on the other; ``g_ood`` is their difference, with its interval; ``g_id`` of that
        network, with its interval, is the same in all its rows. ``gap`` is the loss
        against the network of ``test_split`` on the micrographs that both were tested on,
        ``reverse_gap`` that of the way back, ``asymmetry`` the first less the second (0: both ways
        are as hard), with interval, standard error, degrees of freedom and p-values;
        ``p_holm`` is corrected for the number of pairs of the study under the protocol.
        ``direction`` is *harder* or *easier* than the way back if ``p_holm`` ≤ 1 − confidence, else
        *not shown*, and empty where it cannot be said. Numbers that cannot be said are NaN.
    """
    tested: dict[tuple[str, str, str], pd.DataFrame] = {
        (str(p), str(n), str(s)): rows
        for (p, n, s), rows in results.groupby(["protocol", "network", "test_split"])
    }
    places = [
        (study, protocol, first, second)
        for study, one in plan.studies.items()
        for protocol in dict.fromkeys(results["protocol"])
        for first, second in permutations(one.splits, 2)
        if {(protocol, first, first), (protocol, first, second)} <= tested.keys()
    ]
    heart = {
        (p, s, s): value
        for p, s in dict.fromkeys((protocol, first) for _, protocol, first, _ in places)
        if (value := _by_heart(tested[p, s, s])) is not None
    }
    heart_variances = _variances(heart)
    ood: dict[_Key, _Values] = {}
    gaps: dict[_Key, tuple[FoldSums, FoldSums]] = {}
    for _, protocol, first, second in places:
        key = (protocol, first, second)
        there = tested[protocol, first, second]
        if key not in ood:
            ood[key] = _between_sets(tested[protocol, first, first], there)
        own = tested.get((protocol, second, second))
        common = set() if own is None else set(own["micrograph_id"]) & set(there["micrograph_id"])
        if own is not None and common:
            a, b = (fold_sums(t[t["micrograph_id"].isin(common)]) for t in (own, there))
            gaps[key] = a, b
    back = {
        (protocol, first, second): _there_and_back(
            gaps[protocol, first, second], gaps[protocol, second, first]
        )
        for protocol, first, second in gaps
        if (protocol, second, first) in gaps
    }
    ood_variances = _variances(ood)
    # a pair is one hypothesis, and its two directions share an interval but for the sign
    pair_variances = _variances({key: back[key] for key in back if key[1:] == _ordered(*key[1:])})

    rows = []
    for study, protocol, first, second in places:
        key = (protocol, first, second)
        value, confidence = ood[key], parameters.confidence
        low, high = np.clip(t_interval(value.mean, ood_variances[key], confidence), -1, 1)
        cell = fold_sums(tested[key])
        row: dict[str, Any] = {
            "study": study,
            "protocol": protocol,
            "train_on": first,
            "test_split": second,
            "n_folds": len(cell.fold_means),
            "n_groups": len(cell.groups),
            "own_dice": fold_sums(tested[protocol, first, first]).mean,
            "dice": cell.mean,
            "g_ood": value.mean,
            "g_ood_low": low,
            "g_ood_high": high,
            "gap": _gap(gaps.get(key)),
            "reverse_gap": _gap(gaps.get((protocol, second, first))),
        }
        if (own_key := (protocol, first, first)) in heart:
            g_id = heart[own_key].mean
            bounds = np.clip(t_interval(g_id, heart_variances[own_key], confidence), -1, 1)
            row |= {"g_id": g_id, "g_id_low": bounds[0], "g_id_high": bounds[1]}
        if key in back:
            estimate = back[key].mean
            variance = pair_variances[protocol, *_ordered(first, second)]
            low, high = np.clip(t_interval(estimate, variance, confidence), -2, 2)
            row |= {
                "asymmetry": estimate,
                "low": low,
                "high": high,
                "standard_error": float(np.sqrt(variance.value)),
                "df": float(variance.df),
                "p_value": float(p_value(estimate, variance)),
            }
        rows.append(row)
    table = pd.DataFrame(rows, columns=[c for c in TRANSFER_COLUMNS if c != "p_holm"])
    return _judged(table, parameters)[list(TRANSFER_COLUMNS)]


# --------------------------------------------------------------------------- inside
def _ordered(first: str, second: str) -> tuple[str, str]:
    return (first, second) if first <= second else (second, first)


def _by_heart(own: pd.DataFrame) -> _Values | None:
    """Return how much better the micrographs of each fold are known to a network trained on them.

    ``None`` where no such network was tested.
    """
    if "seen_dice" not in own or own["seen_dice"].isna().all():
        return None
    measured = own[own["seen_dice"].notna()]
    held_out, seen = fold_sums(measured), fold_sums(measured.assign(dice=measured["seen_dice"]))
    scatter = float(dice_scatter(held_out.mean, seen.mean))
    return _Values(seen.fold_means - held_out.fold_means, scatter, held_out.nested)


def _between_sets(own: pd.DataFrame, other: pd.DataFrame) -> _Values:
    """Return what a network loses from its own set to another, fold by fold."""
    a, b = fold_sums(own), fold_sums(other)
    scatter = float(dice_scatter(a.mean, b.mean))
    if set(own["fold"]) != set(other["fold"]):
        return _Values(np.array([a.mean - b.mean]), scatter, nested=False)
    return _Values(a.fold_means - b.fold_means, scatter, a.nested and b.nested)


def _there_and_back(there: tuple[FoldSums, FoldSums], back: tuple[FoldSums, FoldSums]) -> _Values:
    """Return the loss of the one direction less that of the other, fold by fold."""
    cells = (*there, *back)
    scatter = float(dice_scatter(there[0].mean, there[1].mean, back[0].mean, back[1].mean))
    alike = all(_alike(*pair) for pair in (there, back))
    if len({len(cell.fold_means) for cell in cells}) > 1:
        (a, b), (c, d) = there, back
        return _Values(np.array([a.mean - b.mean - c.mean + d.mean]), scatter, nested=False)
    of = [cell.fold_means for cell in cells]
    return _Values((of[0] - of[1]) - (of[2] - of[3]), scatter, alike)


def _alike(first: FoldSums, second: FoldSums) -> bool:
    """Return whether each group was tested by one fold, the same of both networks."""
    if first.groups != second.groups or first.weights.shape != second.weights.shape:
        return False
    return first.nested and bool(((first.weights > 0) == (second.weights > 0)).all())


def _gap(pair: tuple[FoldSums, FoldSums] | None) -> float:
    return float("nan") if pair is None else pair[0].mean - pair[1].mean


def _variances(values: dict[_Key, _Values]) -> dict[_Key, Variance]:
    """Return the variance of each mean over folds, shrunk over those of a protocol and K folds."""
    unknown = Variance(np.array(np.nan), np.array(np.nan))
    found = dict.fromkeys(values, unknown)
    families: dict[tuple[str, int], list[_Key]] = {}
    for key, value in values.items():
        folds = len(value.of_folds)
        if not value.nested or folds < 2:
            continue
        if not value.of_folds.any():  # the same predictions: nothing that others could learn of it
            found[key] = Variance(np.array(0.0), np.array(folds - 1.0))
            continue
        families.setdefault((key[0], folds), []).append(key)
    for members in families.values():
        found |= _shrunk(members, [values[key] for key in members])
    return found


def _shrunk(keys: Sequence[_Key], values: Sequence[_Values]) -> dict[_Key, Variance]:
    together = moderated_variance(
        np.stack([value.of_folds for value in values]), np.array([v.scatter for v in values])
    )
    return {
        key: Variance(value, df)
        for key, value, df in zip(keys, together.value, together.df, strict=True)
    }


def _judged(table: pd.DataFrame, parameters: ReportingParameters) -> pd.DataFrame:
    """Add p-values corrected over the pairs of each study and protocol, and what follows."""
    corrected = pd.Series(np.nan, table.index)
    pairs = pd.Series(
        [_ordered(a, b) for a, b in zip(table["train_on"], table["test_split"], strict=True)],
        table.index,
        dtype=object,
    )
    for _, rows in table.groupby(["study", "protocol"]):
        once = rows[~pairs[rows.index].duplicated()]
        known = dict(zip(pairs[once.index], holm(once["p_value"].astype(float)), strict=True))
        corrected[rows.index] = np.array([known[pair] for pair in pairs[rows.index]])
    sure = corrected <= 1 - parameters.confidence
    conditions = [corrected.isna(), sure & (table["asymmetry"] > 0), sure]
    direction = np.select(conditions, ["", "harder", "easier"], "not shown")
    return table.assign(p_holm=corrected, direction=direction)

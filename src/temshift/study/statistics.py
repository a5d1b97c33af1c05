"""From per-micrograph results to matrices, gaps and verdicts.

The independent units are *groups*: specimens, sessions or micrographs, as ``curation.group_by``
says (:func:`temshift.study.folds.group_names`); results name the group of every row. A cell of a
matrix (one network tested on one split) holds for every fold the sums from which the fold's Dice
follows; its value is the mean over the folds. Gaps compare two networks on the same micrographs.

Intervals and p-values take networks and groups as random (:mod:`temshift.study.intervals`). Where
each group is tested by one fold (protocol ``grouped``), the variances between folds are shrunk over
all cells, or all gaps, of one protocol and number of folds; a cell thus has the same interval in
every study. p-values are corrected within each study (Holm).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.contract import Column
from temshift.config.plan import StudyPlan
from temshift.config.reporting import ReportingParameters
from temshift.study.intervals import (
    Variance,
    dice_scatter,
    holm,
    least_visible,
    moderated_variance,
    p_value,
    paired_difference,
    t_interval,
    two_way_variance,
)
from temshift.study.tables import known_values
from temshift.study.verdicts import folds_to_decide, judge

__all__ = [
    "FoldSums",
    "Interval",
    "compare_robust_training",
    "compare_with_in_domain",
    "dice_intervals",
    "dice_matrices",
    "difference_intervals",
    "find_confounds",
    "fold_sums",
    "splits_table",
]

#: Numbers that differ by less than this are the same setting (nominal 421 and 425 e/Å²).
_SAME_SETTING = 0.05


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes
    ----------
    estimate, low, high : float
    standard_error, df : float
        What the interval was made of: Student's t with these degrees of freedom.
    p_value : float
        Of the estimate being 0, two-sided.

    All but the estimate are NaN for a single fold or a single group.
    """

    estimate: float
    low: float
    high: float
    standard_error: float
    df: float
    p_value: float

    @property
    def variance(self) -> Variance:
        """The squared standard error and its degrees of freedom."""
        return Variance(np.array(self.standard_error**2), np.array(self.df))


@dataclass(frozen=True)
class FoldSums:
    """The sums behind one cell of a matrix.

    Attributes
    ----------
    sums, weights : ndarray, shape (F, G), float64
        Of every fold and group: weighted scores added up, and the weights (0: not tested).
    groups : list of str, length G
    """

    sums: NDArray[np.float64]
    weights: NDArray[np.float64]
    groups: list[str]

    @property
    def nested(self) -> bool:
        """Whether each group is tested by one fold only."""
        return bool(((self.weights > 0).sum(axis=0) == 1).all())

    @property
    def fold_means(self) -> NDArray[np.float64]:
        """Score of each fold, shape (F,)."""
        means: NDArray[np.float64] = self.sums.sum(axis=1) / self.weights.sum(axis=1)
        return means

    @property
    def values(self) -> NDArray[np.float64]:
        """Score of each fold and group, shape (F, G); 0 where it was not tested."""
        tested = self.weights > 0
        return np.divide(self.sums, self.weights, out=np.zeros_like(self.sums), where=tested)

    @property
    def mean(self) -> float:
        """Mean over folds."""
        return float(self.fold_means.mean())


# --------------------------------------------------------------------------- one cell
def fold_sums(results: pd.DataFrame) -> FoldSums:
    """Collect the results of one network on one split under one protocol.

    The score of a micrograph is its Dice from pooled counts, each micrograph counting the same
    (``grouped``), or the mean Dice of its patches, each patch counting the same (``published``).

    Parameters
    ----------
    results : DataFrame
        Rows of a results table: ``protocol, fold, group, micrograph_id, n_patches, dice`` and,
        for ``published``, ``patch_dice``.

    Raises
    ------
    ValueError
        No rows.
    """
    if results.empty:
        raise ValueError("no results: the network was not tested on this split")
    if (results["protocol"] == "published").all():
        score = results["patch_dice"].to_numpy(float)
        weight = results["n_patches"].to_numpy(float)
    else:
        score, weight = results["dice"].to_numpy(float), np.ones(len(results))
    folds, fold = np.unique(results["fold"].to_numpy(), return_inverse=True)
    groups, group = np.unique(results["group"].to_numpy(str), return_inverse=True)
    sums, weights = np.zeros((2, len(folds), len(groups)))
    np.add.at(sums, (fold, group), score * weight)
    np.add.at(weights, (fold, group), weight)
    return FoldSums(sums, weights, groups.tolist())


def dice_intervals(cells: Sequence[FoldSums], confidence: float) -> list[Interval]:
    """Return the means over folds of cells with their intervals.

    Parameters
    ----------
    cells : sequence of FoldSums
        Scatter is shared among those in which each group has one fold, by their number of folds.
    confidence : float
    """
    variances = _variances(cells, [dice_scatter(cell.mean) for cell in cells])
    means = [cell.mean for cell in cells]
    return [_interval(m, v, confidence, 0.0) for m, v in zip(means, variances, strict=True)]


def difference_intervals(
    pairs: Sequence[tuple[FoldSums, FoldSums]], confidence: float
) -> list[Interval]:
    """Return the differences first − second of two networks on the same groups.

    Networks that were tested alike are compared fold by fold and group by group; see
    :func:`temshift.study.intervals.paired_difference` for others.

    Parameters
    ----------
    pairs : sequence of pairs of FoldSums
        Scatter is shared as in :func:`dice_intervals`.
    confidence : float

    Raises
    ------
    ValueError
        Two were not tested on the same groups.
    """
    for first, second in pairs:
        if first.groups != second.groups:
            missing = sorted(set(first.groups) ^ set(second.groups))
            raise ValueError(
                f"two networks can only be compared on the same micrographs; {len(missing)} were "
                f"tested by one of them only, the first is {missing[0]!r}"
            )
    # where two predict the same there is no scatter, and nothing that the others could learn of it
    same = [i for i, (first, second) in enumerate(pairs) if _the_same(first, second)]
    alike = [
        i
        for i, (first, second) in enumerate(pairs)
        if i not in same and _tested_alike(first, second)
    ]
    differences = [_difference(*pairs[i]) for i in alike]
    scatter = [dice_scatter(pairs[i][0].mean, pairs[i][1].mean) for i in alike]
    variances = dict(zip(alike, _variances(differences, scatter), strict=True))
    intervals = []
    for i, (first, second) in enumerate(pairs):
        if i in same:
            df = float(len(first.sums) - 1) if len(first.sums) > 1 else float("nan")
            estimate, variance = 0.0, Variance(np.array(0.0), np.array(df))
        elif i in variances:
            estimate, variance = first.mean - second.mean, variances[i]
        else:
            estimate, variance = _unlike(first, second)
        intervals.append(_interval(estimate, variance, confidence, -1.0))
    return intervals


# --------------------------------------------------------------------------- tables
def dice_matrices(
    results: pd.DataFrame, plan: StudyPlan, parameters: ReportingParameters
) -> pd.DataFrame:
    """Return the matrices of all studies, one row a cell.

    Returns
    -------
    DataFrame
        ``study, protocol, network, train_on, test_split, in_domain, n_folds, n_groups,
        n_micrographs, n_patches, dice, low, high, standard_error, df, fold_std, precision,
        recall, mean_certainty``; ``fold_std`` is the standard deviation over folds (n − 1),
        precision and recall come from the counts of all micrographs.
    """
    cells = _Cells(results, parameters)
    rows = []
    for study, protocol, network, split in _places(results, plan):
        subset = cells.rows(network, split, protocol)
        if subset.empty:
            continue
        sums, dice = cells.sums(network, split, protocol), cells.dice(network, split, protocol)
        tp, fp, fn = (float(subset[count].sum()) for count in ("tp", "fp", "fn"))
        in_domain = bool(subset["in_domain"].iloc[0])
        patches = subset.groupby("micrograph_id")["n_patches"]
        rows.append(
            {
                "study": study,
                "protocol": protocol,
                "network": network,
                "train_on": " + ".join(plan.train_on(network)),
                "test_split": split,
                "in_domain": in_domain,
                "n_folds": len(sums.fold_means),
                "n_groups": len(sums.groups),
                "n_micrographs": subset["micrograph_id"].nunique(),
                # of its own split, every fold tests other patches; of others, the same ones
                "n_patches": int((patches.sum() if in_domain else patches.max()).sum()),
                "dice": dice.estimate,
                "low": dice.low,
                "high": dice.high,
                "standard_error": dice.standard_error,
                "df": dice.df,
                "fold_std": _std(sums.fold_means),
                "precision": tp / (tp + fp) if tp + fp else float("nan"),
                "recall": tp / (tp + fn) if tp + fn else float("nan"),
                "mean_certainty": float(subset["mean_certainty"].mean()),
            }
        )
    return pd.DataFrame(rows, columns=list(_MATRIX_COLUMNS))


def compare_with_in_domain(
    results: pd.DataFrame, plan: StudyPlan, parameters: ReportingParameters
) -> pd.DataFrame:
    """Return every network's gap to the in-domain network of the test split, with a verdict.

    The gap is Dice(in-domain network) − Dice(network) on the micrographs of the test split, so
    that a positive gap is a loss. If the in-domain network was not tested under the network's own
    protocol (an imported network in a study of the other one), its results under the other are
    taken, and ``reference_protocol`` says so.

    Returns
    -------
    DataFrame
        ``study, protocol, network, train_on, test_split, reference, reference_protocol, n_folds,
        n_groups, dice, reference_dice, gap, low, high, standard_error, df, p_value, p_holm,
        detectable, bound_low, bound_high, verdict, reason, point_verdict, folds_to_decide``.
        ``p_holm`` is corrected for the number of gaps of the study under the protocol;
        ``detectable`` is the true gap that this comparison would tell from 0 in four of five
        repetitions; ``verdict`` rests on the one-sided bounds, and the ``reason`` says why a gap
        was not judged
        (:func:`temshift.study.verdicts.judge`); ``point_verdict`` is what the estimate alone would
        say; ``folds_to_decide`` is the number of folds, each with as many groups as now, that
        would bring both bounds into one class if the estimate stayed (NaN where it is decided or
        not judged, infinite beyond 1000).
    """
    cells = _Cells(results, parameters)
    places = []
    for study, protocol, network, split in _places(results, plan):
        if network == split:
            continue
        reference_protocol = next(
            (p for p in [protocol, *cells.protocols] if not cells.rows(split, split, p).empty), None
        )
        if reference_protocol is not None:
            places.append((study, (split, split, reference_protocol), (network, split, protocol)))
    compared = cells.compare((own, tested) for _, own, tested in places)
    rows = []
    for study, own, tested in places:
        comparison = compared.get((own, tested))
        if comparison is None:
            continue
        network, split, protocol = tested
        rows.append(
            {
                "study": study,
                "protocol": protocol,
                "network": network,
                "train_on": " + ".join(plan.train_on(network)),
                "test_split": split,
                "reference": split,
                "reference_protocol": own[2],
                **_described(comparison, "reference_dice", "gap", parameters.confidence),
                "own_failure": cells.failure(*own, lowest=parameters.fails_below),
                "failure": cells.failure(*tested),
                "guest": split not in plan.seen(network),
            }
        )
    table = _with_holm(pd.DataFrame(rows, columns=list(_GAP_ROW)))
    table = judge(table, parameters)
    table["folds_to_decide"] = folds_to_decide(table, parameters)
    return table[list(_GAP_COLUMNS)]


def compare_robust_training(
    results: pd.DataFrame, plan: StudyPlan, parameters: ReportingParameters
) -> pd.DataFrame:
    """Return what each further network gains over the default networks of its training splits.

    Imported networks have no such baseline, and one trained on several splits has as many. A
    network with the very weights of its baseline is compared with less scatter than one with
    others: the variances of these two kinds are shrunk apart.

    Returns
    -------
    DataFrame
        ``study, protocol, network, baseline, test_split, n_folds, n_groups, dice, baseline_dice,
        gain, low, high, standard_error, df, p_value, p_holm, detectable, reason``; a positive gain
        is an improvement. See :func:`compare_with_in_domain`. Where a fold of either did not
        learn, which the ``reason`` says, the difference is that of the training: it has no p-value.
    """
    cells = _Cells(results, parameters)
    places = []
    for study, protocol, network, split in _places(results, plan):
        places += [
            (study, (network, split, protocol), (baseline, split, protocol))
            for baseline in plan.baselines(network)
        ]
    compared: dict[tuple[_Place, _Place], _Comparison] = {}
    for shared in (False, True):
        compared |= cells.compare(
            (tested, baseline)
            for _, tested, baseline in places
            if _adapted(plan, tested[0], baseline[0]) == shared
        )
    rows = []
    for study, tested, baseline in places:
        comparison = compared.get((tested, baseline))
        if comparison is None:
            continue
        reason = cells.failure(*tested) or cells.failure(*baseline)
        rows.append(
            {
                "study": study,
                "protocol": tested[2],
                "network": tested[0],
                "baseline": baseline[0],
                "test_split": tested[1],
                **_described(comparison, "baseline_dice", "gain", parameters.confidence),
                **({"p_value": float("nan")} if reason else {}),
                "reason": reason,
            }
        )
    return _with_holm(pd.DataFrame(rows, columns=[c for c in _GAIN_COLUMNS if c != "p_holm"]))[
        list(_GAIN_COLUMNS)
    ]


def find_confounds(plan: StudyPlan, micrographs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the metadata columns that differ between the splits of a study beside the studied one.

    Numbers count as different where the ranges of two splits do not overlap and their medians lie
    more than 5 % apart; other values where two splits do not hold the same set.

    Parameters
    ----------
    plan : StudyPlan
    micrographs : mapping of str to DataFrame
        Rows of the micrograph table of each split.

    Returns
    -------
    DataFrame
        ``study, varies, column, split, value, min, max``: one row a split, for each such column.
        Numbers have their range in ``min`` and ``max`` (NaN if none is known), and an empty
        ``value``; of all else ``value`` joins what occurs (empty if nothing is known).
    """
    rows = []
    for name, study in plan.studies.items():
        tables = {s: micrographs[s] for s in study.splits if s in micrographs}
        for column in plan.confounding:
            if column.name == study.varies or not any(column.name in t for t in tables.values()):
                continue
            values = {s: known_values(t, column) for s, t in tables.items()}
            if _differ(list(values.values()), column):
                rows += [
                    {
                        "study": name,
                        "varies": study.varies,
                        "column": column.name,
                        "split": split,
                        "value": "" if column.numeric else _joined(known),
                        "min": known.min() if column.numeric else float("nan"),
                        "max": known.max() if column.numeric else float("nan"),
                    }
                    for split, known in values.items()
                ]
    columns = ["study", "varies", "column", "split", "value", "min", "max"]
    return pd.DataFrame(rows, columns=columns)


def splits_table(
    results: pd.DataFrame,
    matrix: pd.DataFrame,
    plan: StudyPlan,
    micrographs: Mapping[str, pd.DataFrame],
) -> pd.DataFrame:
    """Return one row a tested split: what it holds and how well its own network does.

    Returns
    -------
    DataFrame
        ``split, n_micrographs, n_groups, n_patches, labelled_share`` (of the area); every column
        that can confound (:attr:`temshift.config.plan.StudyPlan.confounding`), numbers as
        ``<column>_min`` and ``<column>_max`` (NaN if unknown), all else as the values that occur,
        joined (empty if unknown); and ``protocol, dice, low, high`` of its in-domain network.
    """
    rows = []
    for split in plan.used_splits:
        table = micrographs[split]
        tested = results[results["test_split"] == split]
        cell = matrix[(matrix["network"] == split) & (matrix["test_split"] == split)]
        area = tested[["tp", "fp", "fn", "tn"]].to_numpy(float).sum()
        row: dict[str, Any] = {
            "split": split,
            "n_micrographs": len(table),
            "n_groups": int(table["group"].nunique()),
            "n_patches": int(tested.groupby("micrograph_id")["n_patches"].max().sum()),
            "labelled_share": float(tested[["tp", "fn"]].to_numpy(float).sum() / area)
            if area
            else float("nan"),
        }
        for column in plan.confounding:
            known = known_values(table, column)
            if column.numeric:
                row |= {f"{column.name}_min": known.min(), f"{column.name}_max": known.max()}
            else:
                row[column.name] = _joined(known)
        score = cell.iloc[0] if len(cell) else None
        row["protocol"] = "" if score is None else score["protocol"]
        for key in ("dice", "low", "high"):
            row[key] = float("nan") if score is None else float(score[key])
        rows.append(row)
    return pd.DataFrame(rows)


# --------------------------------------------------------------------------- inside
_MATRIX_COLUMNS = (
    *("study", "protocol", "network", "train_on", "test_split", "in_domain"),
    *("n_folds", "n_groups", "n_micrographs", "n_patches"),
    *("dice", "low", "high", "standard_error", "df", "fold_std"),
    *("precision", "recall", "mean_certainty"),
)
_TESTED = ("low", "high", "standard_error", "df", "p_value", "p_holm", "detectable")
_JUDGED = ("bound_low", "bound_high", "verdict", "reason", "point_verdict", "folds_to_decide")
_GAP_COLUMNS = (
    *("study", "protocol", "network", "train_on", "test_split", "reference", "reference_protocol"),
    *("n_folds", "n_groups", "dice", "reference_dice", "gap", *_TESTED),
    *_JUDGED,
)
#: A gap before it is judged.
_GAP_ROW = (
    *(c for c in _GAP_COLUMNS if c not in _JUDGED and c != "p_holm"),
    *("own_failure", "failure", "guest"),
)
_GAIN_COLUMNS = (
    *("study", "protocol", "network", "baseline", "test_split"),
    *("n_folds", "n_groups", "dice", "baseline_dice", "gain", *_TESTED, "reason"),
)

_Place = tuple[str, str, str]  # network, test split, protocol
_Comparison = tuple[FoldSums, FoldSums, Interval]


class _Cells:
    """The cells of a results table; each is worked out once, whatever the number of studies."""

    def __init__(self, results: pd.DataFrame, parameters: ReportingParameters) -> None:
        self._parameters = parameters
        self._empty = results.iloc[:0]
        self._rows: dict[Any, pd.DataFrame] = dict(
            iter(results.groupby(["network", "test_split", "protocol"]))
        )
        self._sums: dict[tuple[str, ...], FoldSums] = {}
        self._dice: dict[_Place, Interval] = {}
        self.protocols = list(dict.fromkeys(results["protocol"]))

    def rows(self, *place: str) -> pd.DataFrame:
        return self._rows.get(place, self._empty)

    def sums(self, *place: str) -> FoldSums:
        if place not in self._sums:
            self._sums[place] = fold_sums(self.rows(*place))
        return self._sums[place]

    def dice(self, *place: str) -> Interval:
        if not self._dice:
            for protocol in self.protocols:
                places = [p for p in self._rows if p[2] == protocol]
                sums = [self.sums(*p) for p in places]
                intervals = dice_intervals(sums, self._parameters.confidence)
                self._dice |= dict(zip(places, intervals, strict=True))
        return self._dice[place[0], place[1], place[2]]

    def compare(
        self, pairs: Iterable[tuple[_Place, _Place]]
    ) -> dict[tuple[_Place, _Place], _Comparison]:
        """Compare cells on the micrographs that both were tested on; leave out those without."""
        found: dict[tuple[_Place, _Place], _Comparison] = {}
        both: dict[tuple[_Place, _Place], tuple[FoldSums, FoldSums]] = {}
        for first, second in dict.fromkeys(pairs):
            a, b = self.rows(*first), self.rows(*second)
            tested, others = set(a["micrograph_id"]), set(b["micrograph_id"])
            if tested == others != set():
                both[first, second] = self.sums(*first), self.sums(*second)
            elif common := tested & others:
                x, y = (fold_sums(rows[rows["micrograph_id"].isin(common)]) for rows in (a, b))
                both[first, second] = x, y
        for protocols in dict.fromkeys((first[2], second[2]) for first, second in both):
            places = [p for p in both if (p[0][2], p[1][2]) == protocols]
            intervals = difference_intervals([both[p] for p in places], self._parameters.confidence)
            found |= {p: (*both[p], i) for p, i in zip(places, intervals, strict=True)}
        return found

    def failure(self, *place: str, lowest: float = 0.0) -> str:
        """Say which folds of a network have not learned, or score less than that; or nothing."""
        rows = self.rows(*place)
        if "learned" in rows:
            failed = sorted(set(rows.loc[~rows["learned"].astype(bool), "fold"]))
            if failed:
                folds = " and ".join(str(fold) for fold in failed)
                return f"fold{'s' if len(failed) > 1 else ''} {folds} of {place[0]} did not learn"
        worst = float(self.sums(*place).fold_means.min())
        return f"a fold of {place[0]} reaches only {worst:.2f}" if worst < lowest else ""


def _described(
    comparison: _Comparison, other: str, difference: str, confidence: float
) -> dict[str, Any]:
    """Return the columns that gaps and gains have in common.

    A gap is other − Dice, a gain Dice − other. Where the two were tested on different patches of
    the same micrographs, groups count as in the one that fewer folds tested, and what is given as
    the other's Dice is what the difference leaves.
    """
    first, second, interval = comparison
    tested, reference = (second, first) if difference == "gap" else (first, second)
    sign = 1 if difference == "gap" else -1
    return {
        "n_folds": len(tested.fold_means),
        "n_groups": len(tested.groups),
        "dice": reference.mean - sign * interval.estimate,
        other: reference.mean,
        difference: interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "standard_error": interval.standard_error,
        "df": interval.df,
        "p_value": interval.p_value,
        "detectable": float(least_visible(interval.variance, confidence)),
    }


def _with_holm(table: pd.DataFrame) -> pd.DataFrame:
    """Add ``p_holm``, corrected within each study and protocol."""
    corrected = pd.Series(np.nan, table.index)
    for _, rows in table.groupby(["study", "protocol"]):
        corrected[rows.index] = holm(rows["p_value"])
    return table.assign(p_holm=corrected)


def _adapted(plan: StudyPlan, network: str, baseline: str) -> bool:
    """Return whether a network has the very weights of its baseline, adapted in the test."""
    own = plan.networks[network]
    return own.adaptation is not None and plan.weights_of(network) == baseline


def _places(results: pd.DataFrame, plan: StudyPlan) -> Iterator[tuple[str, str, str, str]]:
    """Yield study, protocol, network and test split of every cell, in the order of the plan."""
    for name, study in plan.studies.items():
        for protocol in dict.fromkeys(results["protocol"]):
            for network in dict.fromkeys([*study.splits, *study.networks]):
                for split in study.splits:
                    yield name, protocol, network, split


def _variances(cells: Sequence[FoldSums], scatter: Sequence[Any]) -> list[Variance]:
    """Return the variance of each cell's mean; of nested cells, moderated over those of K folds."""
    found: dict[int, Variance] = {}
    families: dict[int, list[int]] = {}
    for i, cell in enumerate(cells):
        if cell.nested and len(cell.sums) > 1:
            families.setdefault(len(cell.sums), []).append(i)
        else:
            found[i] = two_way_variance(cell.values, cell.weights)
    for members in families.values():
        means = np.stack([cells[i].fold_means for i in members])
        shared = moderated_variance(means, np.array([scatter[i] for i in members]))
        for i, value, df in zip(members, shared.value, shared.df, strict=True):
            found[i] = Variance(value, df)
    return [found[i] for i in range(len(cells))]


def _interval(estimate: float, variance: Variance, confidence: float, smallest: float) -> Interval:
    """Return the interval within what is possible: from ``smallest`` to 1."""
    low, high = np.clip(t_interval(estimate, variance, confidence), smallest, 1.0)
    error, p = float(np.sqrt(variance.value)), p_value(estimate, variance)
    return Interval(float(estimate), float(low), float(high), error, float(variance.df), float(p))


def _tested_alike(first: FoldSums, second: FoldSums) -> bool:
    """Return whether two networks tested the same groups in the same folds, equally weighted."""
    if first.weights.shape != second.weights.shape:
        return False
    shares = [w / w.sum(axis=1, keepdims=True) for w in (first.weights, second.weights)]
    return np.allclose(*shares)


def _the_same(first: FoldSums, second: FoldSums) -> bool:
    """Return whether two networks have the same scores, to the last bit."""
    pairs = ((first.sums, second.sums), (first.weights, second.weights))
    return all(np.array_equal(a, b) for a, b in pairs)


def _difference(first: FoldSums, second: FoldSums) -> FoldSums:
    weights = first.weights
    return FoldSums((first.values - second.values) * weights, weights, first.groups)


def _unlike(first: FoldSums, second: FoldSums) -> tuple[float, Variance]:
    swap = (first.weights > 0).sum() > (second.weights > 0).sum()
    a, b = (second, first) if swap else (first, second)
    estimate, variance = paired_difference(a.values, a.weights, b.values, b.weights)
    return float(-estimate if swap else estimate), variance


def _std(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _differ(values: list[pd.Series], column: Column) -> bool:
    given = [v for v in values if len(v)]
    if not given:
        return False
    if len(given) < len(values):
        return True
    if column.numeric:
        return any(
            (a.max() < b.min() or b.max() < a.min())
            and abs(a.median() - b.median()) > _SAME_SETTING * max(abs(a.median()), abs(b.median()))
            for i, a in enumerate(given)
            for b in given[:i]
        )
    return len({frozenset(v) for v in given}) > 1


def _joined(values: pd.Series) -> str:
    return ", ".join(sorted(set(values)))

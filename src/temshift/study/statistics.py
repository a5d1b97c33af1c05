"""From per-micrograph results to matrices, gaps and verdicts.

Units and resampling
--------------------
The independent units are *groups*: specimens, sessions or micrographs, as ``curation.group_by``
says (:func:`temshift.study.folds.group_names`); results name the group of every row. A cell
of a matrix (one network tested on one split) holds for every fold the sums from which the fold's
Dice follows; its value is the mean over the folds.

Intervals come from a hierarchical bootstrap. Where each group is tested by one fold only (protocol
``grouped``), folds are drawn with replacement, and within every drawn fold its groups. Where each
fold is tested on every group (protocol ``published``), folds and groups are drawn independently of
each other (the pigeonhole bootstrap: Owen, Ann. Appl. Stat. 1, 386, 2007). Percentile intervals of
few units are too narrow; their percentiles are therefore moved outwards so that the interval of a
mean has the width of Student's t (expanded percentile interval: Hesterberg, Am. Stat. 69, 371,
2015, section 5.3).

Gaps compare two networks on the same micrographs and draw the same groups for both. Their p-value
is that of a sign-flip permutation test over groups (two-sided, of the mean, all sign patterns if
they are at most 10 000): with n groups it cannot fall below 2 / 2^n. It is conditional on the
networks as trained, while the interval includes the variation between folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.contract import Column
from temshift.config.plan import StudyPlan
from temshift.config.reporting import ReportingParameters
from temshift.study.tables import known_values

__all__ = [
    "FoldSums",
    "Interval",
    "bootstrap_dice",
    "bootstrap_difference",
    "classify",
    "compare_robust_training",
    "compare_with_in_domain",
    "dice_matrices",
    "find_confounds",
    "fold_sums",
    "sign_flip_p_value",
    "splits_table",
]

#: Numbers that differ by less than this are the same setting (nominal 421 and 425 e/Å²).
_SAME_SETTING = 0.05

_SIGN_FLIPS = 10_000


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; ``low`` and ``high`` NaN with a single group."""

    estimate: float
    low: float
    high: float


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
    def group_means(self) -> NDArray[np.float64]:
        """Score of each group, pooled over the folds, shape (G,)."""
        means: NDArray[np.float64] = self.sums.sum(axis=0) / self.weights.sum(axis=0)
        return means

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


def bootstrap_dice(cell: FoldSums, parameters: ReportingParameters) -> Interval:
    """Return the mean over folds of a cell with its bootstrap interval."""
    rng = np.random.default_rng(parameters.bootstrap_seed)
    n = parameters.bootstrap
    if cell.nested:
        draws = _nested_draws(cell.sums, cell.weights, rng, n)
    else:
        draws = _crossed_draws(cell, _group_draws(len(cell.groups), rng, n), rng)
    return _interval(cell.mean, draws, len(cell.groups), parameters.confidence)


def bootstrap_difference(
    first: FoldSums, second: FoldSums, parameters: ReportingParameters
) -> Interval:
    """Return ``first − second`` of two networks on the same groups, drawn together.

    Raises
    ------
    ValueError
        The two were not tested on the same groups.
    """
    if first.groups != second.groups:
        missing = sorted(set(first.groups) ^ set(second.groups))
        raise ValueError(
            f"two networks can only be compared on the same micrographs; {len(missing)} were "
            f"tested by one of them only, the first is {missing[0]!r}"
        )
    rng = np.random.default_rng(parameters.bootstrap_seed)
    n = parameters.bootstrap
    paired = first.nested and first.weights.shape == second.weights.shape
    if paired and np.array_equal(first.weights, second.weights):
        draws = _nested_draws(first.sums - second.sums, first.weights, rng, n)
    else:
        groups = _group_draws(len(first.groups), rng, n)
        draws = _crossed_draws(first, groups, rng) - _crossed_draws(second, groups, rng)
    return _interval(first.mean - second.mean, draws, len(first.groups), parameters.confidence)


def sign_flip_p_value(differences: NDArray[np.float64], seed: int) -> float:
    """Two-sided sign-flip permutation test that paired differences are symmetric about 0.

    Parameters
    ----------
    differences : ndarray, shape (n,)
        One an independent unit.
    seed : int
        Used only if there are more than 10 000 sign patterns.

    Returns
    -------
    float
        NaN for fewer than two differences.
    """
    from scipy.stats import permutation_test

    if len(differences) < 2:
        return float("nan")
    if np.ptp(differences) == 0 == differences[0]:
        return 1.0
    test = permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_SIGN_FLIPS,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def classify(gap: Interval, parameters: ReportingParameters) -> str:
    """Return the verdict on a shift, as far as the interval allows one.

    A gap up to ``degrades_above`` is *robust*, up to ``breaks_above`` *degrades*, above *breaks*.
    If the whole interval lies in one class, that is the verdict; if in two neighbouring ones, both
    are named (``"degrades or breaks"``); else it is ``"undecided"``.
    """
    classes = ("robust", "degrades", "breaks")
    if not np.isfinite([gap.low, gap.high]).all():
        return "undecided"
    limits = (parameters.degrades_above, parameters.breaks_above)
    low, high = (int(np.searchsorted(limits, value)) for value in (gap.low, gap.high))
    if low == high:
        return classes[low]
    return " or ".join(classes[low : high + 1]) if high - low == 1 else "undecided"


# --------------------------------------------------------------------------- tables
def dice_matrices(
    results: pd.DataFrame, plan: StudyPlan, parameters: ReportingParameters
) -> pd.DataFrame:
    """Return the matrices of all studies, one row a cell.

    Returns
    -------
    DataFrame
        ``study, protocol, network, train_on, test_split, in_domain, n_folds, n_groups,
        n_micrographs, n_patches, dice, low, high, fold_std, precision, recall,
        mean_certainty``;
        ``fold_std`` is the standard deviation over folds (n − 1), precision and recall come from
        the counts of all micrographs.
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
        ``study, protocol, network, train_on, test_split, reference, reference_protocol, n_groups,
        dice, reference_dice, gap, low, high, p_value, verdict, point_verdict``; ``verdict`` takes
        the interval into account, ``point_verdict`` is what the estimate alone would say.
    """
    cells = _Cells(results, parameters)
    rows = []
    for study, protocol, network, split in _places(results, plan):
        if network == split:
            continue
        reference_protocol = next(
            (p for p in [protocol, *cells.protocols] if not cells.rows(split, split, p).empty), None
        )
        if reference_protocol is None:
            continue
        comparison = cells.compare((split, split, reference_protocol), (network, split, protocol))
        if comparison is None:
            continue
        reference, tested, gap, p_value = comparison
        rows.append(
            {
                "study": study,
                "protocol": protocol,
                "network": network,
                "train_on": " + ".join(plan.train_on(network)),
                "test_split": split,
                "reference": split,
                "reference_protocol": reference_protocol,
                "n_groups": len(tested.groups),
                "dice": tested.mean,
                "reference_dice": reference.mean,
                "gap": gap.estimate,
                "low": gap.low,
                "high": gap.high,
                "p_value": p_value,
                "verdict": classify(gap, parameters),
                "point_verdict": classify(
                    Interval(gap.estimate, gap.estimate, gap.estimate), parameters
                ),
            }
        )
    return pd.DataFrame(rows, columns=list(_GAP_COLUMNS))


def compare_robust_training(
    results: pd.DataFrame, plan: StudyPlan, parameters: ReportingParameters
) -> pd.DataFrame:
    """Return what each further network gains over the default network of the same split.

    Only networks of ``networks`` that were trained (not imported), on a single split, have such a
    baseline.

    Returns
    -------
    DataFrame
        ``study, protocol, network, baseline, test_split, n_groups, dice, baseline_dice, gain, low,
        high, p_value``; a positive gain is an improvement.
    """
    cells = _Cells(results, parameters)
    rows = []
    for study, protocol, network, split in _places(results, plan):
        own = plan.networks.get(network)
        if own is None or own.imported or len(own.train_on) != 1 or network == own.train_on[0]:
            continue
        baseline = own.train_on[0]
        comparison = cells.compare((network, split, protocol), (baseline, split, protocol))
        if comparison is None:
            continue
        tested, default, gain, p_value = comparison
        rows.append(
            {
                "study": study,
                "protocol": protocol,
                "network": network,
                "baseline": baseline,
                "test_split": split,
                "n_groups": len(tested.groups),
                "dice": tested.mean,
                "baseline_dice": default.mean,
                "gain": gain.estimate,
                "low": gain.low,
                "high": gain.high,
                "p_value": p_value,
            }
        )
    return pd.DataFrame(rows, columns=list(_GAIN_COLUMNS))


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
    *("dice", "low", "high", "fold_std", "precision", "recall", "mean_certainty"),
)
_GAP_COLUMNS = (
    *("study", "protocol", "network", "train_on", "test_split", "reference", "reference_protocol"),
    *("n_groups", "dice", "reference_dice", "gap", "low", "high", "p_value"),
    *("verdict", "point_verdict"),
)
_GAIN_COLUMNS = (
    *("study", "protocol", "network", "baseline", "test_split", "n_groups"),
    *("dice", "baseline_dice", "gain", "low", "high", "p_value"),
)

_Place = tuple[str, str, str]  # network, test split, protocol


class _Cells:
    """The cells of a results table; each is worked out once, whatever the number of studies."""

    def __init__(self, results: pd.DataFrame, parameters: ReportingParameters) -> None:
        self._parameters = parameters
        self._empty = results.iloc[:0]
        self._rows: dict[Any, pd.DataFrame] = dict(
            iter(results.groupby(["network", "test_split", "protocol"]))
        )
        self._dice: dict[_Place, Interval] = {}
        self._compared: dict[tuple[_Place, _Place], Any] = {}
        self.protocols = list(dict.fromkeys(results["protocol"]))

    def rows(self, *place: str) -> pd.DataFrame:
        return self._rows.get(place, self._empty)

    def sums(self, *place: str) -> FoldSums:
        return fold_sums(self.rows(*place))

    def dice(self, network: str, split: str, protocol: str) -> Interval:
        place = (network, split, protocol)
        if place not in self._dice:
            self._dice[place] = bootstrap_dice(self.sums(*place), self._parameters)
        return self._dice[place]

    def compare(
        self, first: _Place, second: _Place
    ) -> tuple[FoldSums, FoldSums, Interval, float] | None:
        """Compare two cells on the micrographs that both were tested on."""
        if (first, second) not in self._compared:
            self._compared[first, second] = self._work_out(first, second)
        found: tuple[FoldSums, FoldSums, Interval, float] | None = self._compared[first, second]
        return found

    def _work_out(
        self, first: _Place, second: _Place
    ) -> tuple[FoldSums, FoldSums, Interval, float] | None:
        a, b = self.rows(*first), self.rows(*second)
        common = set(a["micrograph_id"]) & set(b["micrograph_id"])
        if not common:
            return None
        x, y = (fold_sums(rows[rows["micrograph_id"].isin(common)]) for rows in (a, b))
        p = sign_flip_p_value(x.group_means - y.group_means, self._parameters.bootstrap_seed)
        return x, y, bootstrap_difference(x, y, self._parameters), p


def _places(results: pd.DataFrame, plan: StudyPlan) -> Iterator[tuple[str, str, str, str]]:
    """Yield study, protocol, network and test split of every cell, in the order of the plan."""
    for name, study in plan.studies.items():
        for protocol in dict.fromkeys(results["protocol"]):
            for network in dict.fromkeys([*study.splits, *study.networks]):
                for split in study.splits:
                    yield name, protocol, network, split


def _nested_draws(
    sums: NDArray[np.float64], weights: NDArray[np.float64], rng: np.random.Generator, n: int
) -> NDArray[np.float64]:
    """Draw folds, and groups within each drawn fold; return n means over folds."""
    k = len(sums)
    means = np.empty((k, n, k))
    for fold in range(k):
        own = np.flatnonzero(weights[fold])
        drawn = own[rng.integers(len(own), size=(n, k, len(own)))]
        means[fold] = sums[fold][drawn].sum(-1) / weights[fold][drawn].sum(-1)
    folds = rng.integers(k, size=(1, n, k))
    draws: NDArray[np.float64] = np.take_along_axis(means, folds, axis=0)[0].mean(-1)
    return draws


def _group_draws(n_groups: int, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Return how often each group is drawn, shape (n, n_groups)."""
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n).astype(float)


def _crossed_draws(
    cell: FoldSums, groups: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw folds beside the drawn groups; return the means over folds.

    A drawn fold none of whose groups was drawn is left out of its mean; if that leaves nothing,
    the folds count once each.
    """
    k = len(cell.sums)
    sums, weights = groups @ cell.sums.T, groups @ cell.weights.T
    tested = weights > 0
    means = np.divide(sums, weights, out=np.zeros_like(sums), where=tested)
    folds = rng.multinomial(k, np.full(k, 1 / k), size=len(groups)) * tested
    folds = np.where(folds.sum(axis=1, keepdims=True) > 0, folds, tested)
    draws: NDArray[np.float64] = (folds * means).sum(axis=1) / folds.sum(axis=1)
    return draws


def _interval(
    estimate: float, draws: NDArray[np.float64], n_groups: int, confidence: float
) -> Interval:
    """Return the expanded percentile interval (Hesterberg 2015)."""
    from scipy.stats import norm, t

    if n_groups < 2:
        return Interval(estimate, float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    student = t.ppf(tail, n_groups - 1) * np.sqrt(n_groups / (n_groups - 1))
    expanded = float(norm.cdf(student))
    low, high = np.quantile(draws, [expanded, 1 - expanded])
    return Interval(estimate, float(low), float(high))


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

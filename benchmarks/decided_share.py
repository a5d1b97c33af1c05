"""How many shifts a study decides, against its folds.

    python benchmarks/decided_share.py PROJECT [--params simulation.seed=7]

PROJECT is a clone in which a study is finished; its parameters are those of the environment
``--env`` and of ``--params`` as for ``kedro run``. The verdicts are drawn again from the results of
some of its folds: of every number of folds, up to ``--draws`` sets of folds. Fewer folds stand for
a study with fewer specimens in proportion (each fold brings its own), whose networks would have
trained on fewer specimens too: that price is not seen here.

The table: share of shifts between the sets' own networks with a verdict of one class (mean, and
from the worst to the best draw), studies headed undecided, and CPU seconds that the folds cost in
training and testing, at ``--cpu-s`` a fold (of all networks). Below it, how many losses of all
folds are sure among all shifts, and how many would be by Student's t over the folds of each
comparison alone: what rests on variances being shrunk over all of them.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from temshift.config.plan import StudyPlan
from temshift.config.reporting import ReportingParameters
from temshift.study.statistics import compare_with_in_domain, fold_sums
from temshift.study.verdicts import study_verdict, surely_above

ONE_CLASS = ("robust", "degrades", "breaks")


def verdicts(
    results: pd.DataFrame, plan: StudyPlan, parameters: ReportingParameters
) -> tuple[float, list[str]]:
    """Return the share of one-class verdicts, and the studies that are headed undecided."""
    gaps = compare_with_in_domain(results, plan, parameters)
    gaps = gaps[gaps["network"].isin(plan.splits)]
    headed = {
        str(study): study_verdict(rows, parameters)
        for study, rows in gaps.groupby("study", sort=False)
    }
    share = float(gaps["verdict"].isin(ONE_CLASS).mean())
    return share, [study for study, verdict in headed.items() if verdict == "undecided"]


def by_students_t(gaps: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Return gaps with the scatter of their own folds alone."""
    rows = []
    for gap in gaps.to_dict("records"):
        tested = results[
            (results["test_split"] == gap["test_split"]) & (results["protocol"] == gap["protocol"])
        ]
        own, guest = (
            fold_sums(tested[tested["network"] == name]).fold_means
            for name in (gap["test_split"], gap["network"])
        )
        error = float((own - guest).std(ddof=1) / np.sqrt(len(own)))
        rows.append({**gap, "standard_error": error, "df": len(own) - 1})
    return pd.DataFrame(rows)


def some_folds(folds: list[int], size: int, draws: int, seed: int) -> list[tuple[int, ...]]:
    """Return up to ``draws`` different sets of folds of one size."""
    every = list(combinations(folds, size))
    if len(every) <= draws:
        return every
    chosen = np.random.default_rng(seed).choice(len(every), draws, replace=False)
    return [every[i] for i in sorted(chosen)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("--env")
    parser.add_argument("--params", default="")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpu-s", type=float, default=None, help="of one fold of all networks")
    arguments = parser.parse_args()

    from kedro.framework.cli.utils import _split_params
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(arguments.project)
    runtime = _split_params(None, None, arguments.params) if arguments.params else None
    with KedroSession.create(
        arguments.project, env=arguments.env, runtime_params=runtime
    ) as session:
        context = session.load_context()
        plan = StudyPlan.from_parameters(context.params)
        parameters = ReportingParameters.model_validate(context.params["reporting"])
        results = context.catalog.load("evaluation.model_output.results")

    folds = sorted(results["fold"].unique())
    print(
        "| folds | specimens a set | one class: mean | worst to best | headed undecided | CPU s |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for size in range(3, len(folds) + 1):
        shares, undecided, groups = [], [], []
        for chosen in some_folds(folds, size, arguments.draws, arguments.seed):
            rows = results[results["fold"].isin(chosen)]
            share, open_studies = verdicts(rows, plan, parameters)
            shares.append(share)
            undecided.append(len(open_studies))
            groups.append(rows.groupby("test_split")["group"].nunique().mean())
        cost = f"{size * arguments.cpu_s:.0f}" if arguments.cpu_s else ""
        print(
            f"| {size} | {np.mean(groups):.0f} | {np.mean(shares):.0%} | {min(shares):.0%} to "
            f"{max(shares):.0%} | {np.mean(undecided):.1f} | {cost} |"
        )
    gaps = compare_with_in_domain(results, plan, parameters)
    gaps = gaps[gaps["network"].isin(plan.splits) & (gaps["protocol"] == "grouped")]
    sure, alone = (
        int(surely_above(table, parameters.degrades_above, parameters).sum())
        for table in (gaps, by_students_t(gaps, results))
    )
    print(
        f"\n{sure} of {len(gaps)} losses are surely above {parameters.degrades_above:g} among all "
        f"of them (Holm), {alone} by Student's t over the folds of each alone"
    )


if __name__ == "__main__":
    main()

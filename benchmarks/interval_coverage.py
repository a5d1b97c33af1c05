"""How often the report's intervals hold the truth, in studies whose truth is known.

    python benchmarks/interval_coverage.py [--studies 1500] [--seed 1]

Draws results of whole studies: four image sets, the network of each tested on all four (16 cells,
12 gaps). The Dice of fold k on specimen g is the truth of its cell + an effect of the network (fold
SD) + one of the specimen (SD .05) + a residual (SD .02). ``networks`` is the share of a network's
variance that it shows on every set alike, ``specimens`` the share of a specimen's that it shows in
every set alike (the same fields under several doses), ``log SD`` how differently cells scatter.
Gaps compare the set's own network with another on the same specimens, so that the specimen's effect
cancels and those of both networks do not. All true gaps are 0.

``t`` is Student's t over fold means, ``REML`` the one-way mixed model (in a balanced design: pooled
where the variance between folds is estimated as 0), ``ours`` what the report uses. Leaving one
specimen out at a time is the line K = n. Printed: the share of intervals of 95 % that hold the
truth, and the median width; then, what is said of differences that do not exist. One core, two
minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from temshift.study.intervals import (
    Variance,
    dice_scatter,
    holm,
    moderated_variance,
    p_above,
    p_value,
    paired_difference,
    t_interval,
    two_way_variance,
)

Floats = NDArray[np.float64]
Estimates = tuple[Floats, Variance]
Pair = tuple[Estimates, Estimates]  # of cells, of gaps
SETS = 4
OTHERS = ~np.eye(SETS, dtype=bool)
SPECIMEN_SD, RESIDUAL_SD, DEGRADES_ABOVE = 0.05, 0.02, 0.03


@dataclass(frozen=True)
class Design:
    """What is drawn; see the module's text."""

    folds: int = 3
    specimens: int = 6
    fold_sd: float = 0.04
    networks: float = 0.0
    common: float = 0.0
    log_sd: float = 0.0
    levels: bool = False  # cells of Dice .3 to .95, that scatter in proportion to D (1 − D)

    @property
    def possible(self) -> bool:
        """Whether every fold has a specimen to test."""
        return self.specimens >= self.folds


@dataclass(frozen=True)
class Outcome:
    """Of one method on one design: coverage and median width, of cells and gaps."""

    cells: tuple[float, float]
    gaps: tuple[float, float]


def draw(design: Design, studies: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the Dice of (study, network, set, fold, specimen), and its truth, (…, set, 1, 1)."""
    d, k, n = design, design.folds, design.specimens
    normal = rng.standard_normal

    def mixed(share: float, common: tuple[int, ...], own: tuple[int, ...]) -> Floats:
        return np.sqrt(share) * normal(common) + np.sqrt(1 - share) * normal(own)

    network = mixed(d.networks, (studies, SETS, 1, k, 1), (studies, SETS, SETS, k, 1))
    specimen = mixed(d.common, (studies, 1, 1, 1, n), (studies, 1, SETS, 1, n))
    residual = normal((studies, SETS, SETS, k, n))
    scatter = np.exp(d.log_sd * normal((studies, SETS, SETS, 1, 1)))
    truth = np.full((studies, SETS, SETS, 1, 1), 0.85)
    if d.levels:
        truth = rng.uniform(0.3, 0.95, truth.shape)
        scatter = scatter * truth * (1 - truth) / (0.85 * 0.15)
    effects = d.fold_sd * network + SPECIMEN_SD * specimen + RESIDUAL_SD * residual
    return truth + scatter * effects, truth


# --------------------------------------------------------------------------- protocol grouped
def fold_means(design: Design, dice: Floats) -> Floats:
    """Return the means of folds, each tested on its own specimens: (study, network, set, fold)."""
    fold = np.arange(design.specimens) % design.folds
    own = np.eye(design.folds)[:, fold]
    means: Floats = (dice * own).sum(-1) / own.sum(-1)
    return means


def grouped(design: Design, studies: int, rng: np.random.Generator) -> dict[str, Pair]:
    """Return for each method the errors of cells and of gaps, with their variances."""
    dice, truth = draw(design, studies, rng)
    means = fold_means(design, dice)
    diagonal = np.arange(SETS)
    level, error = means.mean(-1), means - truth[..., 0]
    gaps = error[:, diagonal, diagonal][:, None] - error
    cells, differences = error.reshape(studies, -1, design.folds), gaps[:, OTHERS]
    own = np.broadcast_to(level[:, diagonal, diagonal][:, None], level.shape)
    scatters = dice_scatter(level).reshape(studies, -1), dice_scatter(own, level)[:, OTHERS]
    found = {}
    for name, method in METHODS.items():
        if name == "REML":
            if design.specimens % design.folds or design.folds == design.specimens:
                continue
            split = np.arange(design.specimens) % design.folds
            inside = (dice * np.eye(design.folds)[:, split]).sum(-2)
            other = (inside[:, diagonal, diagonal][:, None] - inside)[:, OTHERS]
            found[name] = (
                (cells.mean(-1), reml(inside.reshape(studies, -1, design.specimens), design)),
                (differences.mean(-1), reml(other, design)),
            )
            continue
        found[name] = (
            (cells.mean(-1), method(cells, scatters[0])),
            (differences.mean(-1), method(differences, scatters[1])),
        )
    return found


def student(means: Floats, scatter: Floats | None = None) -> Variance:
    own = means.var(-1, ddof=1) / means.shape[-1]
    return Variance(own, np.full(own.shape, means.shape[-1] - 1.0))


def reml(values: Floats, design: Design) -> Variance:
    """Return the REML variance of the mean in a balanced one-way design, and its df."""
    n, k = design.specimens, design.folds
    means = fold_means(design, values[..., None, :])
    between = means.var(-1, ddof=1) * n / k
    total = values.var(-1, ddof=1) * (n - 1)
    within = (total - between * (k - 1)) / (n - k)
    apart = between > within
    return Variance(np.where(apart, between, total / (n - 1)) / n, np.where(apart, k - 1.0, n - 1))


METHODS: dict[str, Callable[[Floats, Floats], Variance]] = {
    "t": student,
    "REML": student,  # works on specimens, see above
    "ours": moderated_variance,
}


# --------------------------------------------------------------------------- protocol published
def published(
    design: Design, patches: int, studies: int, rng: np.random.Generator
) -> dict[str, Pair]:
    """Return errors and variances where guests are tested whole, own networks by fold.

    The patches of a specimen (micrograph) are cut into folds in a random order.
    """
    dice, truth = draw(design, studies, rng)
    error = (dice - truth)[:, :2, 0]  # the own network and a guest
    order = rng.permutation(np.repeat(np.arange(design.specimens), patches))
    own = np.zeros((design.folds, design.specimens))
    for fold, part in enumerate(np.array_split(order, design.folds)):
        np.add.at(own[fold], part, 1)
    whole = np.full((design.folds, design.specimens), float(patches))
    means = (error[:, 1] * whole).sum(-1) / whole.sum(-1)
    own_means = (error[:, 0] * own).sum(-1) / own.sum(-1)
    gap = paired_difference(error[:, 0], own, error[:, 1], whole)
    by_fold = own_means - means
    return {
        "t": ((means.mean(-1), student(means)), (by_fold.mean(-1), student(by_fold))),
        "guests": ((means.mean(-1), two_way_variance(error[:, 1], whole)), gap),
        "own": ((own_means.mean(-1), two_way_variance(error[:, 0], own)), gap),
    }


# --------------------------------------------------------------------------- what is counted
def judge(found: dict[str, Pair]) -> dict[str, Outcome]:
    """Return coverage and width of each method."""
    return {
        name: Outcome(*[_coverage(error, variance) for error, variance in both])
        for name, both in found.items()
    }


def _coverage(error: Floats, variance: Variance) -> tuple[float, float]:
    low, high = t_interval(error, variance, 0.95)
    return float(((low <= 0) & (high >= 0)).mean()), float(np.median(high - low))


def false_findings(design: Design, studies: int, rng: np.random.Generator) -> dict[str, float]:
    """Return how often something is said of gaps that are 0 (protocol grouped)."""
    gaps, variance = grouped(design, studies, rng)["ours"][1]
    low, high = t_interval(gaps, variance, 0.90)  # one-sided bounds of 95 %
    p = p_value(gaps, variance)
    corrected = np.array([holm(row) for row in p])
    above = np.array([holm(row) for row in p_above(gaps, variance, 0.0)])
    return {
        "degrades or worse": float((low > DEGRADES_ABOVE).mean()),
        # how often a loss right at a limit is said to lie on one side of it, the more frequent side
        "a bound beyond the truth": float(max((low > 0).mean(), (high < 0).mean())),
        # how often a study all of whose losses are right at a limit is said to have one above it
        "any above a limit (Holm)": float((above <= 0.05).any(-1).mean()),
        "p <= .05": float((p <= 0.05).mean()),
        "any Holm p <= .05": float((corrected <= 0.05).any(-1).mean()),
    }


SCENARIOS = {
    "cells independent": Design(),
    "shared networks .5, specimens .8": Design(networks=0.5, common=0.8),
    "all shared": Design(networks=1.0, common=1.0),
    "log SD .4": Design(log_sd=0.4),
    "log SD .4, shared": Design(log_sd=0.4, networks=0.5, common=0.8),
    "Dice .3 to .95": Design(levels=True),
}


def designs(
    scenario: Design = SCENARIOS["cells independent"], folds: tuple[int, ...] = (3, 6, 10)
) -> Iterator[Design]:
    """Return a scenario with all numbers of folds and specimens, and scatters of networks."""
    for k in folds:
        for specimens in (6, 12, 40):
            for fold_sd in (0.0, 0.04, 0.08):
                yield replace(scenario, folds=k, specimens=specimens, fold_sd=fold_sd)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)

    ranges = [
        *_print_grouped(arguments.studies, rng),
        *_print_published(arguments.studies, rng),
    ]
    print("\nLowest and highest coverage over all numbers of folds and specimens, and fold SD")
    print(f"{'':34}" + "".join(f"{c:>16}" for c in ("t, cells", "t, gaps", "cells", "gaps")))
    for name, outcomes in ranges:
        plain, ours = [o[0] for o in outcomes], [o[1] for o in outcomes]
        columns = [[o.cells[0] for o in plain], [o.gaps[0] for o in plain]]
        columns += [[o.cells[0] for o in ours], [o.gaps[0] for o in ours]]
        print(f"{name:34}" + "".join(f"{f'{min(c):.3f} – {max(c):.3f}':>16}" for c in columns))
    print("\nSaid of gaps that are 0 (protocol grouped)")
    for name, scenario in SCENARIOS.items():
        worst: dict[str, float] = {}
        for design in designs(scenario):
            if design.possible:
                for what, share in false_findings(design, arguments.studies // 3, rng).items():
                    worst[what] = max(worst.get(what, 0.0), share)
        print(f"{name:34}" + ", ".join(f"{w}: at most {s:.3f}" for w, s in worst.items()))


Ranges = list[tuple[str, list[tuple[Outcome, Outcome]]]]


def _print_grouped(studies: int, rng: np.random.Generator) -> Ranges:
    """Print one line a design; return t and ours of each scenario."""
    print("Protocol grouped: coverage / median width of cells; of gaps")
    print(_heading(list(METHODS)))
    ranges: Ranges = []
    for name, scenario in SCENARIOS.items():
        outcomes = []
        for design in designs(scenario):
            if not design.possible:
                if design.fold_sd == 0:
                    print(f"{_line(name, design)}   not possible: fewer specimens than folds")
                continue
            found = judge(grouped(design, studies, rng))
            print(_line(name, design) + "".join(_shown(found.get(m)) for m in METHODS), flush=True)
            outcomes.append((found["t"], found["ours"]))
        ranges.append((name, outcomes))
    return ranges


def _print_published(studies: int, rng: np.random.Generator) -> Ranges:
    """Print one line a design; return t and ours, cells of guests and of own networks together."""
    print("\nProtocol published: the same; patches of a specimen fall into folds at random")
    print(_heading(["t, guests", "ours, guests", "ours, own network"]))
    ranges: Ranges = []
    for patches in (1, 4, 40):
        name, outcomes = f"published, {patches} patches a specimen", []
        for design in designs(folds=(3, 5, 10)):
            if design.possible:
                found = judge(published(design, patches, studies, rng))
                print(_line(name, design) + "".join(_shown(o) for o in found.values()), flush=True)
                outcomes += [(found["t"], found["guests"]), (found["t"], found["own"])]
        ranges.append((name, outcomes))
    return ranges


def _heading(columns: list[str]) -> str:
    return f"{'':34}{'K':>3}{'n':>4}{'SD':>5}" + "".join(f"{c:>28}" for c in columns)


def _line(name: str, design: Design) -> str:
    return f"{name:34}{design.folds:>3}{design.specimens:>4}{design.fold_sd:>5.2f}"


def _shown(outcome: Outcome | None) -> str:
    if outcome is None:
        return f"{'–':>28}"
    (cells, wide), (gaps, gap_wide) = outcome.cells, outcome.gaps
    return f"{cells:>9.3f}/{wide:.3f}; {gaps:.3f}/{gap_wide:.3f}"


if __name__ == "__main__":
    main()

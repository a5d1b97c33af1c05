"""How long the report of a large study takes, what memory it needs, and how large the page is.

    python benchmarks/report.py              # 10 image sets, 6 folds, 40 micrographs each

Every set is tested with the network of every other: 100 cells, each with the best, the median and
the worst micrograph at 512 px. The results are made up (no network is trained); the tables, the
fingerprints and the page are made by the code of the pipeline, in a process of its own, whose
largest memory is told. Fails beyond 60 s, 1 GB or a page of 15 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

LIMITS = {"seconds": 60.0, "peak_GB": 1.0, "page_MB": 15.0}


def results_table(sets: list[str], folds: int, micrographs: int) -> pd.DataFrame:
    """Return made-up results: the farther two sets lie apart, the more Dice is lost."""
    from temshift.learning.metrics import scores

    rng = np.random.default_rng(0)
    rows = []
    for i, network in enumerate(sets):
        for j, tested in enumerate(sets):
            luck = rng.normal(0, 0.01, folds)
            for m in range(micrographs):
                dice = np.clip(
                    0.93 - 0.05 * abs(i - j) + luck[m % folds] + rng.normal(0, 0.03), 0, 1
                )
                tp = round(50_000 * dice)
                wrong = 50_000 - tp
                rows.append(
                    {
                        "network": network,
                        "protocol": "grouped",
                        "fold": m % folds,
                        "test_split": tested,
                        "micrograph_id": f"2024-01-15/{tested}_{m:02d}",
                        "specimen_id": f"specimen_{m:02d}",
                        "group": f"specimen_{m:02d}",
                        "in_domain": network == tested,
                        "learned": True,
                        "n_patches": 9,
                        "tp": tp,
                        "fp": wrong,
                        "fn": wrong,
                        "tn": 9 * 512**2 - tp - 2 * wrong,
                        "mean_certainty": 0.95,
                        "patch_dice": dice,
                        **{k: float(v) for k, v in scores(tp, wrong, wrong).items()},
                    }
                )
    return pd.DataFrame(rows)


def patch(seed: int, side: int = 512) -> tuple[Any, Any]:
    """Return a noisy patch, which compresses badly, with nine particles, and its mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    mask = np.zeros((side, side), bool)
    for row, column in np.ndindex(3, 3):
        centre = (np.array([row, column]) + rng.uniform(0.35, 0.65, 2)) * side / 3
        mask |= (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < (side / 9) ** 2
    return rng.normal(0, 1, (side, side)).astype(np.float32) - mask, mask


def guess(mask: Any, dice: float, seed: int) -> Any:
    """Return a prediction with frayed edges, the more so the lower the Dice."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).normal(size=mask.shape), 2.0)
    blurred = gaussian_filter(mask.astype(float), 3.0)
    return blurred + noise / noise.std() * 0.6 * (1 - dice) > 0.5


def examples(results: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the examples of every network, as the evaluation picks them."""
    from temshift.learning.examples import make_example, pick_examples

    keys = ["network", "test_split"]
    ranked = results.sort_values("dice", kind="stable").groupby(keys, sort=False)
    found: dict[str, list[Any]] = {}
    for (network, split), rows in ranked:
        shown = []
        for place in (0, len(rows) // 2, len(rows) - 1):
            row = rows.iloc[place]
            seed = int(row["micrograph_id"][-2:]) + 100 * int(row["test_split"].split("_")[1])
            image, mask = patch(seed)
            prediction = guess(mask, row["dice"], seed)
            named = (str(split), str(row["micrograph_id"]), float(row["dice"]))
            shown.append(make_example(*named, image, mask, prediction, 0.02))
        found.setdefault(str(network), []).extend(pick_examples(shown))
    return found


def measure(sets: int, folds: int, micrographs: int, page: Path) -> dict[str, float]:
    """Make tables, fingerprints, page and summary; return what that took."""
    from temshift.config.plan import StudyPlan
    from temshift.config.reporting import ReportingParameters
    from temshift.microscopy.fingerprints import fingerprint
    from temshift.reporting.content import ReportContent
    from temshift.reporting.html import render_report
    from temshift.reporting.summary import summarise
    from temshift.study import explain, statistics
    from temshift.study.remedies import remedies_table
    from temshift.study.transfer import transfer_table

    names = [f"set_{i}" for i in range(sets)]
    parameters: dict[str, Any] = {
        "splits": {n: {"where": {"dose_e_per_A2": 80 + 80 * i}} for i, n in enumerate(names)},
        "studies": {"dose": {"varies": "dose_e_per_A2", "splits": names}},
        "networks": {},
        "reporting": {},
        "modelling": {"folds": folds},
        "preprocessing": {},
    }
    plan, reporting = StudyPlan.from_parameters(parameters), ReportingParameters()
    results = results_table(names, folds, micrographs)
    shown = examples(results)
    tables = {
        n: pd.DataFrame(
            {
                "micrograph_id": results["micrograph_id"][results["test_split"] == n].unique(),
                "group": [f"specimen_{m:02d}" for m in range(micrographs)],
                "material": "Au",
                "dose_e_per_A2": 80.0 + 80 * i,
                "pixel_size_nm": 0.02,
                "source": "simulated",
            }
        )
        for i, n in enumerate(names)
    }
    described = {}
    for i, n in enumerate(names):
        image, mask = patch(i, 256)
        described[n] = fingerprint(image[None] * (1 + 0.1 * i), mask[None].astype(np.uint8), 0.02)
    steps = np.arange(1, 21)
    histories = pd.concat(
        pd.DataFrame(
            {
                **{"network": n, "protocol": "grouped", "fold": fold, "restart": 0},
                **{"step": 50 * steps, "epoch": steps.astype(float)},
                **{"train_loss": 0.7 / steps, "validation_loss": 0.75 / steps},
                "validation_dice": 0.9 - 0.3 / steps,
            }
        )
        for n in names
        for fold in range(folds)
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    began = time.perf_counter()
    matrix = statistics.dice_matrices(results, plan, reporting)
    gaps = statistics.compare_with_in_domain(results, plan, reporting)
    gains = statistics.compare_robust_training(results, plan, reporting)
    distances = explain.fingerprint_distances(gaps, plan, described)
    content = ReportContent.from_tables(
        parameters,
        results=results,
        matrix=matrix,
        gaps=gaps,
        gains=gains,
        remedies=remedies_table(matrix, gaps, gains, plan, reporting),
        transfer=transfer_table(results, plan, reporting),
        confounds=statistics.find_confounds(plan, tables),
        splits=statistics.splits_table(results, matrix, plan, tables),
        fingerprints=explain.fingerprint_table(described),
        distances=distances,
        explanation=explain.explain_gaps(distances, described, reporting),
        histories=histories,
        examples=shown,
    )
    page.write_text(render_report(content), encoding="utf-8")
    json.dumps(summarise(content))
    return {
        "seconds": time.perf_counter() - began,
        "peak_GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "before_GB": before,
        "page_MB": page.stat().st_size / 1e6,
    }


def main() -> None:
    """Measure in a process of its own; fail beyond the limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=10)
    parser.add_argument("--folds", type=int, default=6)
    parser.add_argument("--micrographs", type=int, default=40)
    parser.add_argument("--page", type=Path, default=Path("report_benchmark.html"))
    parser.add_argument("--here", action="store_true", help="measure in this process")
    given = parser.parse_args()
    if given.here:
        found = measure(given.sets, given.folds, given.micrographs, given.page)
        print(json.dumps(found))
        return
    command = [sys.executable, __file__, *sys.argv[1:], "--here"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        sys.exit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    for name, value in found.items():
        limit = f" (limit {LIMITS[name]:g})" if name in LIMITS else ""
        print(f"{name:10} {value:8.2f}{limit}")
    if over := [name for name, limit in LIMITS.items() if found[name] > limit]:
        sys.exit(f"beyond the limit: {', '.join(over)}")


if __name__ == "__main__":
    main()

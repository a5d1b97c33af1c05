"""What training costs and what it gives: in-domain Dice and interval width against CPU seconds.

    python benchmarks/study_budget.py DATA [--settings 4x96x390@5e-3 ...] [--splits NAME ...]

DATA is the data folder of a finished study, whose preprocessed patches are trained on and tested
on (in its folds, each split by its own network). A setting is batch x crop (px) x steps @ peak
learning rate. Each is trained from several seeds, so that the scatter of networks (same specimens,
other seeds) is told from that of specimens.

The table: CPU seconds a network; Dice of all folds (mean and worst), precision and recall; folds
that were started again or have not learned; standard deviations of networks and of specimens; and
the width of a 95 % interval of a cell that follows for --cell K folds and n specimens,
2 x 1.96 sqrt(network^2 / K + specimen^2 / n), before any price for not knowing the deviations.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from temshift.catalog.patch_stack import PatchStackDataset
from temshift.config.evaluation import EvaluationParameters
from temshift.config.modelling import ModellingParameters, Training
from temshift.learning.evaluation import evaluate_network
from temshift.learning.modelling import train_network_set

SPLITS = (
    "au_5nm_423e au_5nm_80e au_5nm_026nm au_5nm_042nm au_2nm au_10nm au_5nm_sin au_5nm_session2_raw"
)
SETTINGS = "8x128x110@5e-3 4x96x390@5e-3"


def try_setting(
    setting: str, split: str, folder: Path, seeds: int, training: dict[str, object]
) -> pd.DataFrame:
    """Train and test one split's networks; return the results and what they cost."""
    shape, _, rate = setting.partition("@")
    batch, crop, steps = (int(number) for number in shape.split("x"))
    stack = PatchStackDataset(filepath=str(folder / split / "patches.h5")).load()
    folds = int(stack.table["fold"].max()) + 1
    tables = []
    for seed in range(seeds):
        parameters = ModellingParameters(
            device="cpu",
            folds=folds,
            training=Training(
                **{
                    "steps": steps,
                    "batch_size": batch,
                    "crop_px": crop,
                    "learning_rate": float(rate),
                    "schedule": "one_cycle",
                    "keep": "last",
                    "hold_out": False,
                    "validations": 1,
                    "initialisation": "standardised",
                    "seed": seed,
                    **training,
                }
            ),
        )
        start = time.process_time()
        networks, _ = train_network_set(split, {split: stack}, parameters)
        cpu_s = (time.process_time() - start) / folds
        tested, _ = evaluate_network(
            split, networks, {split: stack}, EvaluationParameters(examples=False), "cpu"
        )
        restarts = {network.card.fold: network.card.restarts for network in networks.values()}
        tables.append(
            tested.assign(
                setting=setting, seed=seed, cpu_s=cpu_s, restarts=tested["fold"].map(restarts)
            )
        )
    return pd.concat(tables)


def describe(results: pd.DataFrame, folds: int, specimens: int) -> dict[str, object]:
    """Return the row of one setting."""
    by_fold = results.groupby(["test_split", "seed", "fold"])[
        ["dice", "precision", "recall"]
    ].mean()
    once = results.groupby(["test_split", "seed", "fold"])[["restarts", "learned"]].first()
    # same fold, other seed: networks; what is left between specimens, averaged over seeds
    network = by_fold["dice"].groupby(["test_split", "fold"]).var().mean()
    per_specimen = results.groupby(["test_split", "specimen_id"])["dice"].mean()
    seeds = results["seed"].nunique()
    specimen = max(per_specimen.groupby("test_split").var().mean() - network / seeds, 0.0)
    return {
        "setting": results["setting"].iloc[0],
        "CPU s": results["cpu_s"].mean(),
        "Dice": by_fold["dice"].mean(),
        "worst fold": by_fold["dice"].min(),
        "precision": by_fold["precision"].mean(),
        "recall": by_fold["recall"].mean(),
        "restarts": int(once["restarts"].sum()),
        "failed": int((~once["learned"]).sum()),
        "of": len(once),
        "network SD": np.sqrt(network),
        "specimen SD": np.sqrt(specimen),
        "interval": 2 * 1.96 * np.sqrt(network / folds + specimen / specimens),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--settings", nargs="+", default=SETTINGS.split())
    parser.add_argument("--splits", nargs="+", default=SPLITS.split())
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cell", type=int, nargs=2, default=(3, 12), metavar=("K", "n"))
    parser.add_argument("--foreground", type=float, default=0.0)
    a = parser.parse_args()
    folder = a.data / "05_model_input"
    rows = []
    for setting in a.settings:
        found = []
        for split in a.splits:
            found.append(try_setting(setting, split, folder, a.seeds, {"foreground": a.foreground}))
            row = describe(found[-1], *a.cell)
            print(
                f"{setting}  {split:20s} Dice {row['Dice']:.3f}, worst fold "
                f"{row['worst fold']:.3f}, CPU {row['CPU s']:.1f} s, "
                f"restarts {row['restarts']}, failed {row['failed']} of {row['of']}",
                flush=True,
            )
        rows.append(describe(pd.concat(found), *a.cell))
    table = pd.DataFrame(rows)
    print("\n" + table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()

"""Are masks made elsewhere judged right? ``python benchmarks/outside.py``.

On the calibration of the network in the box: each kind of image is left out in turn, the masks of
its folds are judged without it, and each of them then as if it came from elsewhere, by each of the
other folds (:func:`temshift.learning.outside.dice_bounds`). The null: the agreement of a mask with
the network is that of another micrograph, so that it says nothing of this one.
"""

from __future__ import annotations

import argparse
from importlib import resources

import numpy as np
import pandas as pd

from temshift.config.trust import TrustParameters
from temshift.learning.box import BOX
from temshift.learning.outside import dice_bounds
from temshift.learning.trust import TrustModel, features_of

SEED = 3


def judged_without_their_kind(
    evidence: pd.DataFrame, agreement: pd.DataFrame, parameters: TrustParameters
) -> pd.DataFrame:
    """Return all masks, each judged by a model that has seen no image of its kind."""
    networks = {str(name): [BOX] for name in evidence["network"].unique()}
    parts = []
    for kind in evidence["test_split"].unique():
        known = [table[table["test_split"] != kind] for table in (evidence, agreement)]
        model = TrustModel.fit(*known, networks, parameters)
        here = features_of(evidence, agreement)
        here = here[here["test_split"] == kind].reset_index(drop=True)
        parts.append(model.judge(here).assign(dice=here["dice"], test_split=kind))
    return pd.concat(parts, ignore_index=True)


def report(pairs: pd.DataFrame, usable: float) -> None:
    low, high = np.array(
        [
            dice_bounds(row.agreement, row.low, row.high)
            for row in pairs.itertuples()  # of the fold that judges
        ]
    ).T
    true = pairs["dice_mask"].to_numpy()
    holds = (low <= true) & (true <= high)
    trusted = (low >= usable) & (pairs["verdict"] == "trust") & (pairs["novelty"] <= 1)
    refused = (high < usable) & (pairs["novelty"] <= 1)
    bad = true < usable
    print(
        f"{len(pairs)} pairs, {bad.mean():.0%} of the masks below {usable}: the interval holds "
        f"{holds.mean():.1%}, median width {np.median(high - low):.2f}"
    )
    print(f"   trust: {trusted.mean():.1%}, of these {bad[trusted].sum()} below {usable}")
    print(f"   do not trust: {refused.mean():.1%}, of these {(~bad[refused]).sum()} above it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=60)
    arguments = parser.parse_args()
    parameters = TrustParameters(trees=arguments.trees)
    trust = resources.files("temshift") / "data" / "box" / "trust"
    with resources.as_file(trust) as folder:
        evidence = pd.read_parquet(folder / "evidence.parquet")
        agreement = pd.read_parquet(folder / "agreement.parquet")
    judged = judged_without_their_kind(evidence, agreement, parameters)
    true, inside = judged["dice"], judged["dice"].between(judged["low"], judged["high"])
    rejected, bad = judged["verdict"] == "do not trust", judged["dice"] < parameters.usable_dice
    print(
        f"{len(judged)} masks of {evidence['test_split'].nunique()} kinds of images, "
        f"{bad.mean():.0%} below {parameters.usable_dice}; error of the predicted Dice "
        f"{(judged['predicted_dice'] - true).abs().mean():.3f}; the networks' own interval holds "
        f"{inside.mean():.1%}, median width {(judged['high'] - judged['low']).median():.2f}; "
        f"do not trust catches {rejected[bad].mean():.1%}, false alarms "
        f"{rejected[~bad].mean():.1%}"
    )
    keys = ["test_split", "micrograph_id"]
    pairs = agreement.merge(
        judged.rename(columns={"network": "juror"})[
            [*keys, "juror", "low", "high", "novelty", "verdict"]
        ],
        on=[*keys, "juror"],
    ).merge(
        judged[[*keys, "network", "dice"]].rename(columns={"dice": "dice_mask"}),
        on=[*keys, "network"],
    )
    pairs = pairs.rename(columns={"dice": "agreement"})
    print("\nas if from elsewhere")
    report(pairs, parameters.usable_dice)
    print("\nthe null, agreements of other micrographs")
    shuffled = np.random.default_rng(SEED).permutation(pairs["agreement"])
    report(pairs.assign(agreement=shuffled), parameters.usable_dice)


if __name__ == "__main__":
    main()

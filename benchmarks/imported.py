"""Trust of networks that come without a study: ``python benchmarks/imported.py DATA PUBLISHED``.

Networks imported alone are judged by the calibration of the network in the box, with a jury of the
folds of the box and the other imported networks (:func:`temshift.catalog.boxed.lent_trust`). Here
the published networks (``PUBLISHED``: ``model_details.csv`` and weight files) judge labelled
micrographs of a study (``DATA``) that neither they nor the box have seen, each of them alone and
all together; then the same networks with all their weights shuffled, and images that hold nothing.

``--keep FOLDER`` keeps the evidence and takes it from there the next time.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from temshift.catalog.boxed import boxed_networks, boxed_trust
from temshift.catalog.published import WeightsFolder
from temshift.learning.devices import single_threaded_operations
from temshift.learning.evidence import gather_evidence
from temshift.learning.inference import optimise_for_inference, predict_micrograph
from temshift.learning.metrics import dice
from temshift.learning.network_set import TrainedNetwork
from temshift.learning.published_networks import import_networks
from temshift.learning.segmentation import PreparedMicrograph
from temshift.learning.trust import TrustModel, features_of

ROOT = Path(__file__).parents[1]
SEED = 4711
USABLE = 0.6
TABLES = ("evidence", "agreement")


def published(folder: Path) -> dict[str, TrainedNetwork]:
    """Return a fold of each published network whose weights are there."""
    text = (ROOT / "conf/base/parameters_import_published.yml").read_text()
    wanted = yaml.safe_load(text)["import_published"]["networks"]
    weights = folder / "weights" if (folder / "weights").is_dir() else folder
    sets, _ = import_networks(
        pd.read_csv(folder / "model_details.csv"), WeightsFolder(weights), wanted, {}
    )
    return {name: next(iter(own.values())) for name, own in sets.items() if own}


def shuffled(trained: TrainedNetwork, rng: np.random.Generator) -> TrainedNetwork:
    """Return a network with the weights of each tensor in another order."""
    state = {}
    for name, tensor in trained.state.items():
        order = torch.from_numpy(rng.permutation(tensor.numel()))
        state[name] = tensor.flatten()[order].reshape(tensor.shape).contiguous()
    return replace(trained, state=state)


def shots(data: Path, crop_px: int, each: int):
    """Yield name, image set, image, label and pixel size: the first of each image set."""
    from temshift.catalog.micrographs import MicrographStore

    store = MicrographStore(data / "01_raw" / "micrographs")
    for file in sorted((data / "03_primary").glob("*/micrographs.csv")):
        for row in pd.read_csv(file).head(each).to_dict("records"):
            image = store.read(row["path"]).image[:crop_px, :crop_px]
            label = store.read_label(row["label_path"], "binary")[:crop_px, :crop_px] == 1
            yield row["micrograph_id"], file.parent.name, image, label, row["pixel_size_nm"]


def gather(jurors: dict[str, TrainedNetwork], images) -> tuple[pd.DataFrame, pd.DataFrame]:
    built = {name: own.build().eval() for name, own in jurors.items()}
    fast = {name: optimise_for_inference(network) for name, network in built.items()}
    tables: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    for micrograph_id, kind, image, label, pixel_size_nm in images:
        prepared = PreparedMicrograph(image, pixel_size_nm)
        with single_threaded_operations("cpu"):
            given = {name: prepared.of(own.card) for name, own in jurors.items()}
            found = {name: predict_micrograph([fast[name]], given[name], "cpu") for name in jurors}
            evidence, agreement = gather_evidence(found, given, built, optimised=fast)
        masks = [found[name] > 0.5 for name in evidence["network"]]
        evidence["dice"] = [
            float(dice(*(int(x.sum()) for x in (m & label, m & ~label, ~m & label)))) for m in masks
        ]
        for table in (evidence, agreement):
            table.insert(0, "fold", 0)
            table.insert(0, "test_split", kind)
            table.insert(0, "micrograph_id", micrograph_id)
        tables.append((evidence, agreement))
        print(f"{micrograph_id}: {evidence['dice'].round(2).tolist()}", flush=True)
    first, second = zip(*tables, strict=True)
    return pd.concat(first, ignore_index=True), pd.concat(second, ignore_index=True)


def nothing():
    import boxed
    import trust

    images = {**trust.nothing_to_see(simulated=True), **boxed.nothing()}
    for name, image in images.items():
        image = np.asarray(image, np.float32)[:768, :768]
        yield name, "nothing", image, np.zeros(image.shape, bool), 0.02


def judge(
    tables: tuple[pd.DataFrame, pd.DataFrame],
    judged: list[str],
    jurors: list[str],
    model: TrustModel,
) -> pd.DataFrame:
    """Judge networks, each by the others of them and by the jurors."""
    evidence, agreement = tables
    there = [*judged, *jurors]
    rows = evidence["network"].isin(there)
    pairs = agreement["network"].isin(there) & agreement["juror"].isin(there)
    features = features_of(evidence[rows], agreement[pairs])
    features = features[features["network"].isin(judged)].reset_index(drop=True)
    return model.judge(features).assign(dice=features["dice"], image=features["micrograph_id"])


def report(words: str, judged: pd.DataFrame) -> None:
    true = judged["dice"]
    bad, rejected = true < USABLE, judged["verdict"] == "do not trust"
    trusted = judged["verdict"] == "trust"
    inside = (judged["low"] <= true) & (true <= judged["high"])
    width = (judged["high"] - judged["low"]).mean()
    print(
        f"\n{words}: {len(judged)} masks, Dice {true.mean():.3f}, {bad.mean():.0%} below {USABLE}\n"
        f"   MAE {(judged['predicted_dice'] - true).abs().mean():.3f}, of the mean "
        f"{(true - true.mean()).abs().mean():.3f}; rank correlation "
        f"{judged['predicted_dice'].corr(true, method='spearman'):.2f}\n"
        f"   90 % interval holds {inside.mean():.1%}, mean width "
        f"{width:.2f}; new to it {(judged['novelty'] > 1).mean():.0%}\n"
        f"   do not trust: {rejected[bad].sum()} of {bad.sum()} below {USABLE}, "
        f"{rejected[~bad].sum()} of {(~bad).sum()} others\n"
        f"   trust: {trusted.sum()}, of these below {USABLE}: {(trusted & bad).sum()}"
    )


def alone(tables, judged: list[str], jurors: list[str], model: TrustModel) -> pd.DataFrame:
    return pd.concat([judge(tables, [name], jurors, model) for name in judged], ignore_index=True)


def gathered(folder: Path, data: Path, weights: Path, crop_px: int, each: int):
    """Return the evidence on labelled micrographs and on nothing; kept in a folder once made."""
    kept = [[folder / f"{name}{end}.parquet" for name in TABLES] for end in ("", "_nothing")]
    if not all(file.exists() for files in kept for file in files):
        rng = np.random.default_rng(SEED)
        theirs = published(weights)
        jurors = dict(theirs)
        jurors |= {f"box {i}": own for i, own in enumerate(boxed_networks()["box"].values())}
        jurors |= {f"shuffled {name}": shuffled(own, rng) for name, own in theirs.items()}
        folder.mkdir(parents=True, exist_ok=True)
        for files, images in zip(kept, (shots(data, crop_px, each), nothing()), strict=True):
            for file, table in zip(files, gather(jurors, images), strict=True):
                table.to_parquet(file, index=False)
    return [tuple(pd.read_parquet(file) for file in files) for files in kept]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of data of a study")
    parser.add_argument("published", type=Path, help="model_details.csv and weights")
    parser.add_argument("--crop", type=int, default=768, help="px, of the upper left corner")
    parser.add_argument("--each", type=int, default=2, help="micrographs of each image set")
    parser.add_argument("--keep", type=Path, required=True, help="folder for the evidence")
    arguments = parser.parse_args()
    labelled, empty = gathered(
        arguments.keep, arguments.data, arguments.published, arguments.crop, arguments.each
    )
    names = list(labelled[0]["network"].unique())
    theirs = [name for name in names if name.startswith("published")]
    damaged = [name for name in names if name.startswith("shuffled")]
    box = [name for name in names if name.startswith("box")]
    model = boxed_trust()
    report("each alone", alone(labelled, theirs, box, model))
    report("together", judge(labelled, theirs, box, model))
    report("together, without the box", judge(labelled, theirs, [], model))
    report("weights shuffled, each alone", alone(labelled, damaged, box, model))
    report("weights shuffled, together", judge(labelled, damaged, box, model))
    for words, found in {
        "each alone": alone(empty, theirs, box, model),
        "together": judge(empty, theirs, box, model),
        "weights shuffled": judge(empty, damaged, box, model),
    }.items():
        verdicts = found["verdict"].value_counts().to_dict()
        trusted = found.loc[found["verdict"] == "trust", ["image", "network"]].to_dict("records")
        print(
            f"\nnothing to see, {words}: {found['image'].nunique()} images, {verdicts}; {trusted}"
        )


if __name__ == "__main__":
    main()

"""Trust of networks that come without a study: ``python benchmarks/imported.py DATA PUBLISHED``.

Networks imported alone are judged by the calibration of the network in the box, with a jury of the
folds of the box and the other imported networks (:mod:`temshift.learning.carried`). Here the
published networks (``PUBLISHED``: ``model_details.csv`` and weight files) judge labelled
micrographs of a study (``DATA``) that neither they nor the box have seen, each of them alone and
all together; then the same networks with all their weights shuffled, and images that hold nothing.

``--keep FILE`` keeps the evidence and takes it from there the next time.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from temshift.catalog.boxed import boxed_networks
from temshift.catalog.published import WeightsFolder
from temshift.learning.devices import single_threaded_operations
from temshift.learning.evidence import gather_evidence
from temshift.learning.inference import optimise_for_inference, predict_micrograph
from temshift.learning.metrics import dice
from temshift.learning.network_set import TrainedNetwork
from temshift.learning.published_networks import import_networks
from temshift.learning.segmentation import PreparedMicrograph

ROOT = Path(__file__).parents[1]
SEED = 4711


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("published", type=Path)
    parser.add_argument("--crop", type=int, default=768)
    parser.add_argument("--each", type=int, default=2)
    parser.add_argument("--keep", type=Path, required=True)
    arguments = parser.parse_args()
    rng = np.random.default_rng(SEED)
    alone = published(arguments.published)
    jurors = dict(alone)
    jurors |= {f"box {i}": own for i, own in enumerate(boxed_networks()["box"].values())}
    jurors |= {f"shuffled {name}": shuffled(own, rng) for name, own in alone.items()}
    tables = gather(jurors, shots(arguments.data, arguments.crop, arguments.each))
    for name, table in zip(("evidence", "agreement"), tables, strict=True):
        table.to_parquet(arguments.keep / f"{name}.parquet")
    tables = gather(jurors, nothing())
    for name, table in zip(("evidence", "agreement"), tables, strict=True):
        table.to_parquet(arguments.keep / f"{name}_nothing.parquet")


if __name__ == "__main__":
    main()

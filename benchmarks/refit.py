"""What fitting the flat field again brings: ``python benchmarks/refit.py data``.

    python benchmarks/refit.py data [--side 512] [--splits NAME ...] [--light 0 0.15 0.3] [--box]

DATA is that of a finished default study. Of each micrograph of a set the square with the most
particle in it is cut out, as a field in which particles are large: a camera of fewer pixels at the
same magnification. The network of the fold that has not seen the micrograph segments it with the
flat field of its card, fitted once (``deployment.refit_flat_field: never``) and by the rule
(``auto``). Nothing may change where a field is not filled, as the sets of smaller particles show,
nor where the light is as uneven as the card thought: ``--light`` makes it fall by that share across
each field, along a ramp or from a point in turn. ``--box`` takes the network in the box, which has
seen none of them, so that DATA needs no networks.
Last, if the study has evidence (``kedro run --pipelines trust``), the verdicts on the fields of the
first set and size, by the folds of all networks that have not seen the micrograph.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import uniform_filter

from temshift.api import load_networks, load_trust
from temshift.catalog.boxed import boxed_networks
from temshift.catalog.micrographs import MicrographStore
from temshift.config.deployment import DeploymentParameters
from temshift.learning.network_set import network_key
from temshift.learning.segmentation import Segmenter
from temshift.microscopy.micrograph import Micrograph

#: Of the note at a micrograph whose flat field was changed.
CHANGED = "had taken large particles"
SPLITS = ("au_10nm", "au_5nm_423e", "au_2nm")


def fullest(label: np.ndarray, side: int) -> tuple[slice, slice]:
    """Return the square of a mask with the largest share of particle."""
    share = uniform_filter(label.astype(np.float32), side, mode="constant")
    half = side // 2
    inner = share[half : label.shape[0] - half + 1, half : label.shape[1] - half + 1]
    row, column = np.unravel_index(np.argmax(inner), inner.shape)
    return slice(row, row + side), slice(column, column + side)


def dice(mask: np.ndarray, label: np.ndarray) -> float:
    both = np.count_nonzero(mask & label)
    return 2 * both / max(np.count_nonzero(mask) + np.count_nonzero(label), 1)


def fields(data: Path, split: str, side: int) -> Iterator[tuple[int, Micrograph, np.ndarray]]:
    """Yield the fold that has not seen a micrograph, its fullest square, and that of its mask."""
    store = MicrographStore(data / "01_raw" / "micrographs")
    table = pd.read_csv(data / "03_primary" / split / "micrographs.csv")
    for row in table.to_dict("records"):
        whole = store.read(row["path"])
        label = store.read_label(row["label_path"]) > 0
        place = fullest(label, side)
        yield int(row["fold"]), replace(whole, image=whole.image[place].copy()), label[place]


def lit(image: np.ndarray, falls: float, number: int) -> np.ndarray:
    """Return counts under light that falls by a share, along a ramp or from a point in turn."""
    rng = np.random.default_rng(number)
    rows, columns = image.shape
    u, v = np.linspace(0, 1, rows)[:, None], np.linspace(0, 1, columns)
    if number % 2:
        angle = rng.uniform(0, 2 * np.pi)
        away = np.cos(angle) * u + np.sin(angle) * v
    else:
        away = (u - rng.uniform(0.3, 0.7)) ** 2 + (v - rng.uniform(0.3, 0.7)) ** 2
    away = (away - away.min()) / (away.max() - away.min())
    return (image * (1 - falls * away)).astype(np.float32)


def verdicts(data: Path, networks: dict, split: str, side: int) -> pd.DataFrame:
    """Return what is said of the masks of one set, and their true Dice."""
    trust = load_trust(data / "07_model_output" / "trust", networks)
    segmenters: dict[int, Segmenter] = {}
    rows = []
    for fold, micrograph, truth in fields(data, split, side):
        if fold not in segmenters:
            key = network_key("grouped", fold)
            sets = {name: {key: own[key]} for name, own in networks.items() if key in own}
            segmenters[fold] = Segmenter(sets, DeploymentParameters(), trust)
        known = micrograph.metadata
        found = segmenters[fold].segment(
            micrograph.image,
            micrograph.pixel_size_nm,
            known.get("dose_e_per_A2"),
            known.get("material"),
        )
        rows.append({"verdict": found.judgement["verdict"], "dice": dice(found.mask > 0, truth)})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--side", type=int, nargs="+", default=[512, 768, 1024])
    parser.add_argument("--splits", nargs="+", default=list(SPLITS))
    parser.add_argument("--light", type=float, nargs="+", default=[0.0])
    parser.add_argument("--box", action="store_true")
    arguments = parser.parse_args()
    networks = {} if arguments.box else load_networks(arguments.data / "06_models")
    rows = []
    segmenters: dict[tuple[str, int, str], Segmenter] = {}

    def segmenter(split: str, fold: int, wanted: str) -> Segmenter:
        place = ("box", 0, wanted) if arguments.box else (split, fold, wanted)
        if place not in segmenters:
            key = network_key("grouped", fold)
            own = boxed_networks() if arguments.box else {split: {key: networks[split][key]}}
            parameters = DeploymentParameters(refit_flat_field=wanted, judge=False)
            segmenters[place] = Segmenter(own, parameters)
        return segmenters[place]

    asked = [
        (split, side, light)
        for split in arguments.splits
        for side in arguments.side
        for light in arguments.light
    ]
    for split, side, light in asked:
        for number, (fold, micrograph, truth) in enumerate(fields(arguments.data, split, side)):
            image = lit(micrograph.image, light, number)
            row = {"set": split, "side": side, "light": light, "particle": truth.mean()}
            for name, wanted in (("once", "never"), ("auto", "auto")):
                found = segmenter(split, fold, wanted).segment(image, micrograph.pixel_size_nm)
                row[name] = dice(found.mask > 0, truth)
                row["again"] = any(CHANGED in note for note in found.notes)
            rows.append(row)
    scores = pd.DataFrame(rows)
    scores["gain"] = scores["auto"] - scores["once"]
    table = scores.groupby(["set", "side", "light"], sort=False).agg(
        fields=("once", "size"),
        particle=("particle", "median"),
        once=("once", "mean"),
        auto=("auto", "mean"),
        again=("again", "sum"),
        better=("gain", lambda gain: int((gain > 0.005).sum())),
        worse=("gain", lambda gain: int((gain < -0.005).sum())),
        worst=("gain", "min"),
        best=("gain", "max"),
    )
    print(table.round(3).to_string())
    if networks and (arguments.data / "07_model_output" / "trust" / "evidence.parquet").exists():
        judged = verdicts(arguments.data, networks, arguments.splits[0], arguments.side[0])
        judged["below_0.6"] = judged["dice"] < 0.6
        print(f"\n{arguments.splits[0]}, {arguments.side[0]} px")
        print(judged.groupby("verdict").agg(["size", "mean"]).round(2).to_string())


if __name__ == "__main__":
    main()

"""Do labels in the order of ``label_next`` help more? ``python benchmarks/label_next.py DATA``.

DATA is that of a finished default study; its networks are not used. Folders of micrographs are made
of it, as a microscopist might have them: *mixed* ones hold micrographs of all image sets, no
specimen twice, *alike* ones those of a single set. The network in the box, which has seen none,
segments half of a folder (upper left corners), ranks them, and one of its folds is tuned on the
first ``--labels`` of the ranking, on the last, and on some drawn at random. The Dice of the tuned
fold on the other half of the folder is what counts. If the order says nothing, the first gain no
more than those drawn at random; the table gives their difference with an interval of 95 % over
folders (t), for folders of both kinds apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import temshift  # noqa: F401  # isort: skip  (first, as in a run: threads then share a heap)

import numpy as np
import pandas as pd
from scipy import stats

from temshift.catalog.boxed import boxed_networks, boxed_trust
from temshift.catalog.micrographs import MicrographStore
from temshift.config.deployment import DeploymentParameters
from temshift.config.fine_tuning import FewLabelsParameters
from temshift.learning.box import BOX
from temshift.learning.few_labels import tune_on_few_labels
from temshift.learning.metrics import dice
from temshift.learning.segmentation import Segmenter
from temshift.microscopy.micrograph import LabelledMicrograph
from temshift.study.sizes import label_next

#: Micrographs of a folder; one half is ranked, the other tested.
SIDE = 24


def folders(data: Path, count: int, rng: np.random.Generator) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the kind of each folder and the table of its micrographs, in random order."""
    tables = [
        pd.read_csv(file).assign(split=file.parent.name)
        for file in sorted((data / "03_primary").glob("*/micrographs.csv"))
    ]
    everything = pd.concat(tables, ignore_index=True)
    for i in range(count):
        shuffled = everything.sample(frac=1, random_state=rng.integers(2**31))
        yield "mixed", shuffled.drop_duplicates("specimen_id").head(SIDE)
        alike = tables[i * len(tables) // count]
        yield "alike", alike.sample(min(SIDE, len(alike)), random_state=rng.integers(2**31))


def try_folder(
    table: pd.DataFrame, data: Path, crop_px: int, labels: int, draws: int, fold: int, seed: int
) -> dict[str, float]:
    """Return the mean Dice on one half of a folder by which of the other half were labelled."""
    store = MicrographStore(data / "01_raw" / "micrographs")
    box = boxed_networks()
    keys = sorted(box[BOX])
    start = {BOX: {keys[fold % len(keys)]: box[BOX][keys[fold % len(keys)]]}}
    corner = np.s_[:crop_px, :crop_px]
    shown = []
    for row in table.itertuples():
        whole = store.read(row.path)
        label = store.read_label(row.label_path)[corner]
        shown.append(
            LabelledMicrograph(
                row.micrograph_id,
                whole.image[corner].copy(),
                label.copy(),
                pixel_size_nm=row.pixel_size_nm,
            )
        )
    pool, rest = shown[::2], shown[1::2]
    ranker = Segmenter(box, DeploymentParameters(networks="box"), boxed_trust(), "cpu")
    results = []
    for one in pool:
        found = ranker.segment(one.image, one.pixel_size_nm)
        results.append(
            {
                "path": one.name,
                "judgement": found.judgement,
                "sizes": found.sizes,
                "fold_agreement": found.fold_agreement,
            }
        )
    by_name = {one.name: one for one in pool if one.label.any()}
    order = [name for name in label_next(results) if name in by_name]
    rng = np.random.default_rng(seed)

    def tested(chosen: list[str]) -> float:
        networks = start
        if chosen:
            # more labelled ones than there are: no learning curve, which is not looked at
            asked = FewLabelsParameters(network="box", labelled=[99], device="cpu")
            tuned = tune_on_few_labels(start, [by_name[name] for name in chosen], asked)
            networks = {BOX: tuned.networks}
        segmenter = Segmenter(networks, DeploymentParameters(judge=False), None, "cpu")
        scores = []
        for one in rest:
            mask, label = segmenter.segment(one.image, one.pixel_size_nm).mask > 0, one.label == 1
            counts = (mask & label).sum(), (mask & ~label).sum(), (~mask & label).sum()
            scores.append(float(dice(*map(int, counts))))
        return float(np.mean(scores))

    random = [list(rng.choice(order, labels, replace=False)) for _ in range(draws)]
    return {
        "as it was": tested([]),
        "first": tested(order[:labels]),
        "random": float(np.mean([tested(chosen) for chosen in random])),
        "last": tested(order[-labels:]),
    }


def interval(values: pd.Series) -> str:
    """Return mean and 95 % interval of a column."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.sem()
    mean = values.mean()
    return f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folders", type=int, default=6, help="of each kind")
    parser.add_argument("--labels", type=int, default=2)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--crop", type=int, default=512, help="px")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    rng = np.random.default_rng(a.seed)
    rows = []
    for i, (kind, table) in enumerate(folders(a.data, a.folders, rng)):
        found = try_folder(table, a.data, a.crop, a.labels, a.draws, i // 2, a.seed + i)
        rows.append({"folder": kind, **found})
        print(f"{i + 1} {kind} {table['split'].iloc[0]} {found}", flush=True)
    print(f"\n{a.labels} labels; Dice on the other half of each folder")
    for kind, part in pd.DataFrame(rows).groupby("folder"):
        means = part.drop(columns="folder").mean()
        print(f"{kind}, {len(part)}: " + ", ".join(f"{k} {v:.3f}" for k, v in means.items()))
        print(f"   random - as it was {interval(part['random'] - part['as it was'])}")
        print(f"   first - random {interval(part['first'] - part['random'])}")
        print(f"   last - random {interval(part['last'] - part['random'])}")


if __name__ == "__main__":
    main()

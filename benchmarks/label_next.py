"""Do labels in the order of ``label_next`` help more? ``python benchmarks/label_next.py DATA``.

DATA is that of a finished default study; its networks are not used. Folders of micrographs are made
of it, as a microscopist might have them: *mixed* ones hold micrographs of all image sets, no
specimen twice, *alike* ones those of a single set. The network in the box, which has seen none,
segments half of a folder (upper left corners) and ranks them; one of its folds is tuned on
``--labels`` of them, and its Dice on the other half of the folder is what counts. Tuned is on those
that an order puts first, on those that it puts last, and on others: every single one where
``--labels`` is 1, else ``--draws`` sets drawn at random. If an order says nothing, its first gain
no more than the mean of the others; the table gives the difference with an interval of 95 % over
folders (t).

Orders: *label_next* is that of the package; *highest error* the predicted error alone; *unlike*
that of the package before, error times distance to what is already chosen.
``--keep FILE`` keeps what was found, and takes it from there the next time, so that other orders
can be tried on it.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
from temshift.learning.network_set import NetworkSet
from temshift.learning.segmentation import Segmenter
from temshift.microscopy.micrograph import LabelledMicrograph
from temshift.study.sizes import label_next

Results = list[dict[str, Any]]


def unlike(results: Results) -> list[str]:
    """Return the order of the package before: error times distance to the nearest one chosen."""
    error = np.array([1 - r["judgement"]["predicted_dice"] for r in results])
    places = np.array(
        [
            [
                np.log(max(r["sizes"]["mean"] or np.nan, 1e-6)),
                np.log1p(r["sizes"]["n_particles"]),
                r["fold_agreement"],
                r["judgement"]["novelty"],
            ]
            for r in results
        ],
        float,
    )
    places = np.where(np.isfinite(places), places, np.nanmedian(places, axis=0))
    scatter = places.std(axis=0)
    places = places / np.where(scatter == 0, np.inf, scatter)
    order: list[int] = []
    worth = error.copy()
    while len(order) < len(results):
        worth[order] = -1
        order.append(int(worth.argmax()))
        nearest = np.linalg.norm(places[:, None] - places[order], axis=2).min(axis=1)
        worth = error * nearest / (1 + nearest)
    return [results[i]["path"] for i in order]


def highest_error(results: Results) -> list[str]:
    return [r["path"] for r in sorted(results, key=lambda r: r["judgement"]["predicted_dice"])]


ORDERS: dict[str, Callable[[Results], list[str]]] = {
    "label_next": label_next,
    "highest error": highest_error,
    "unlike": unlike,
}


def folders(
    data: Path, count: int, side: int, rng: np.random.Generator
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the kind of each folder and the table of its micrographs, in random order."""
    tables = [
        pd.read_csv(file).assign(split=file.parent.name)
        for file in sorted((data / "03_primary").glob("*/micrographs.csv"))
    ]
    everything = pd.concat(tables, ignore_index=True)
    for i in range(count):
        shuffled = everything.sample(frac=1, random_state=rng.integers(2**31))
        yield "mixed", shuffled.drop_duplicates("specimen_id").head(side)
        alike = tables[i * len(tables) // count]
        yield "alike", alike.sample(min(side, len(alike)), random_state=rng.integers(2**31))


def shown_of(table: pd.DataFrame, data: Path, crop_px: int) -> list[LabelledMicrograph]:
    store = MicrographStore(data / "01_raw" / "micrographs")
    corner = np.s_[:crop_px, :crop_px]
    return [
        LabelledMicrograph(
            row.micrograph_id,
            store.read(row.path).image[corner].copy(),
            store.read_label(row.label_path)[corner].copy(),
            pixel_size_nm=row.pixel_size_nm,
        )
        for row in table.itertuples()
    ]


def ranked(pool: list[LabelledMicrograph], box: dict[str, NetworkSet]) -> Results:
    """Return what is known of the micrographs that have a particle, as the page knows it."""
    ranker = Segmenter(box, DeploymentParameters(networks="box"), boxed_trust(), "cpu")
    results = []
    for one in pool:
        if not one.label.any():
            continue
        found = ranker.segment(one.image, one.pixel_size_nm)
        results.append(
            {
                "path": one.name,
                "pixel_size_nm": one.pixel_size_nm,
                "judgement": found.judgement,
                "sizes": found.sizes,
                "fold_agreement": found.fold_agreement,
            }
        )
    return results


def tested(
    start: dict[str, NetworkSet], chosen: list[LabelledMicrograph], rest: list[LabelledMicrograph]
) -> float:
    """Return the mean Dice on the rest of a network tuned on the chosen ones."""
    networks = start
    if chosen:
        # more labelled ones than there are: no learning curve, which is not looked at
        asked = FewLabelsParameters(network="box", labelled=[99], device="cpu")
        networks = {BOX: tune_on_few_labels(start, chosen, asked).networks}
    segmenter = Segmenter(networks, DeploymentParameters(judge=False), None, "cpu")
    scores = []
    for one in rest:
        mask, label = segmenter.segment(one.image, one.pixel_size_nm).mask > 0, one.label == 1
        counts = (mask & label).sum(), (mask & ~label).sum(), (~mask & label).sum()
        scores.append(float(dice(*map(int, counts))))
    return float(np.mean(scores))


class Folder:
    """A folder of which one half is ranked, and the other tested."""

    def __init__(self, shown: list[LabelledMicrograph], fold: int, known: dict[str, Any]):
        box = boxed_networks()
        keys = sorted(box[BOX])
        self.start = {BOX: {keys[fold % len(keys)]: box[BOX][keys[fold % len(keys)]]}}
        self.pool, self.rest = shown[::2], shown[1::2]
        self.known = known
        if "results" not in known:
            known["results"] = json.loads(json.dumps(ranked(self.pool, box), default=float))
            known["dice"] = {}

    def dice(self, names: list[str]) -> float:
        """Return the Dice of the rest after tuning on these; of the network as it was for none."""
        key = "|".join(sorted(names))
        if key not in self.known["dice"]:
            chosen = [one for one in self.pool if one.name in names]
            self.known["dice"][key] = tested(self.start, chosen, self.rest)
        return self.known["dice"][key]

    def compare(self, labels: int, draws: int, seed: int) -> dict[str, float]:
        """Return the Dice of the rest by what is labelled."""
        results = self.known["results"]
        names = [r["path"] for r in results]
        if labels == 1:
            others = [[name] for name in names]
        else:
            rng = np.random.default_rng(seed)
            several = list(itertools.combinations(names, labels))
            which = rng.choice(len(several), min(draws, len(several)), replace=False)
            others = [list(several[i]) for i in which]
        row = {"as it was": self.dice([])}
        row["others"] = float(np.mean([self.dice(chosen) for chosen in others]))
        for order, rule in ORDERS.items():
            row[order] = self.dice(rule(results)[:labels])
        row["last of label_next"] = self.dice(label_next(results)[-labels:])
        return row


def interval(values: pd.Series) -> str:
    """Return mean and 95 % interval of a column."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.sem()
    mean = values.mean()
    return f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folders", type=int, default=6, help="of each kind")
    parser.add_argument("--side", type=int, default=16, help="micrographs of a folder")
    parser.add_argument("--labels", type=int, default=1)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--crop", type=int, default=384, help="px")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="file (JSON) for what was found")
    a = parser.parse_args()
    kept = json.loads(a.keep.read_text()) if a.keep and a.keep.exists() else {}
    rng = np.random.default_rng(a.seed)
    rows = []
    for i, (kind, table) in enumerate(folders(a.data, a.folders, a.side, rng)):
        known = kept.setdefault(f"{a.data} {a.crop} {a.seed} {a.side} {a.folders} {i}", {})
        folder = Folder(shown_of(table, a.data, a.crop), i // 2, known)
        found = folder.compare(a.labels, a.draws, a.seed + i)
        if a.keep:
            a.keep.write_text(json.dumps(kept))
        rows.append({"folder": kind, **found})
        said = ", ".join(f"{k} {v:.2f}" for k, v in found.items())
        print(f"{i + 1} {kind} {table['split'].iloc[0]}: {said}", flush=True)
    print(f"\nlabels: {a.labels}; Dice on the other half of each folder")
    all_of_them = pd.DataFrame(rows)
    for kind, part in [*all_of_them.groupby("folder"), ("all", all_of_them)]:
        print(f"{kind}, {len(part)} folders: others {part['others'].mean():.3f}")
        for name in part.columns.difference(["folder", "others"], sort=False):
            print(f"   {name} - others {interval(part[name] - part['others'])}")


if __name__ == "__main__":
    main()

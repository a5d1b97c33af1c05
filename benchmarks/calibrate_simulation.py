"""How real the simulated micrographs are: statistics and the published networks as judges.

    python benchmarks/calibrate_simulation.py [--weights ../shared/published/weights]
        [--fields 4] [--seed 1] [--scan]

Simulates fresh fields (another seed than the default study's) with the parameters of
``conf/base/parameters_simulation.yml``, preprocesses them as the study does and prints three tables
(20 minutes on two cores with ``--scan``, 4 without):

1. autocorrelation of the standardised images, particle–background contrast, beside what is known
   of the real images (``TARGETS``);
2. pooled hard Dice of the published networks on every condition, and how far the statistics inside
   the networks (the means and variances before each batch normalisation) are from those that
   they saw in training on real images;
3. the Dice against masks whose outlines are moved by some pixels, as those of an annotator may be.

``--scan`` repeats the first table and the Dice of 5 nm Au for other contrast factors, absorptions,
MTF widths, vibrations and defoci, one changed at a time. The exit waves are computed once.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import nn
from tqdm import tqdm

from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.simulation import SimulationParameters
from temshift.learning.networks import PublishedUNet
from temshift.learning.published_weights import read_published_weights
from temshift.microscopy.acquisitions import expose, plan, simulate_specimens
from temshift.microscopy.multislice import ExitWave
from temshift.microscopy.preprocess import preprocess_micrograph

ROOT = Path(__file__).parents[1]
PATCH_PX = 512
LAGS = ((1, 0), (1, 1), (2, 0), (2, 1), (2, 2))

#: (dose e/Å², pixel nm): autocorrelation at LAGS and median contrast of the real, standardised
#: images of 5 nm Au. The autocorrelations were recovered by least squares from the running
#: variances of the published networks' first batch normalisation; the contrasts are the study's.
TARGETS: dict[tuple[float, float], tuple[tuple[float, ...], float | None]] = {
    (80, 0.020): ((0.70, 0.56, 0.40, 0.34, 0.23), 0.239),
    (423, 0.020): ((0.82, 0.72, 0.58, 0.52, 0.39), None),
    (884, 0.020): ((0.83, 0.73, 0.58, 0.54, 0.42), 0.576),
    (423, 0.042): ((0.78, 0.63, 0.42, 0.36, 0.19), None),
}

#: Specimen types and displacements (px, outwards) of the third table.
DISPLACED_TYPES = ("au_2nm", "au_5nm", "au_10nm")
DISPLACEMENTS_PX = (-8, -4, 0, 4, 8)

#: One step up or down from the defaults, for ``--scan``.
SCAN: dict[str, tuple[float, ...]] = {
    "contrast_factor": (1.0, 3.5),
    "absorption": (0.0, 0.08),
    "mtf_width": (0.22, 0.35),
    "vibration_A": (0.0, 0.5),
    "defocus_A": (-100.0, 0.0),
}


@dataclass
class Images:
    """Preprocessed micrographs of one condition: images and masks, shape (H, W) each."""

    images: list[NDArray[np.float32]]
    masks: list[NDArray[np.uint8]]

    def patches(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return the 512 px patches with more than 400 labelled pixels, as in the study."""
        images, masks = [], []
        for image, mask in zip(self.images, self.masks, strict=True):
            rows, columns = (range(0, side - PATCH_PX + 1, PATCH_PX) for side in image.shape)
            for row, column in itertools.product(rows, columns):
                window = np.s_[row : row + PATCH_PX, column : column + PATCH_PX]
                if mask[window].sum() > 400:
                    images.append(image[window])
                    masks.append(mask[window])
        return np.stack(images), np.stack(masks)

    def autocorrelation(self) -> NDArray[np.float64]:
        """Return the mean normalised autocorrelation at LAGS (both diagonals' mean)."""
        found = []
        for image in self.images:
            power = np.abs(np.fft.fft2(image - image.mean())) ** 2
            correlation = np.fft.ifft2(power).real
            correlation /= correlation[0, 0]
            found.append([(correlation[i, j] + correlation[j, i]) / 2 for i, j in LAGS])
        return np.mean(found, axis=0)

    def contrast(self) -> float:
        """Return the median over images of mean background minus mean particle intensity."""
        pairs = zip(self.images, self.masks, strict=True)
        return float(np.median([i[m == 0].mean() - i[m == 1].mean() for i, m in pairs]))


def predict(network: nn.Module, patches: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the predicted masks of patches, both of shape (N, P, P)."""
    with torch.inference_mode():
        return np.asarray(network(torch.from_numpy(patches[:, None])).argmax(1))


def pooled_dice(predicted: NDArray[Any], true: NDArray[Any]) -> float:
    return 2 * int((predicted * true).sum()) / int(predicted.sum() + true.sum())


def displaced(mask: NDArray[np.uint8], outwards_px: float) -> NDArray[np.uint8]:
    """Return a mask whose outline is moved outwards (inwards if negative)."""
    outside, inside = distance_transform_edt(mask == 0), distance_transform_edt(mask)
    return (outside - inside < outwards_px + 0.5).astype(np.uint8)


def judge(network: nn.Module, images: Images) -> tuple[float, float, float, float]:
    """Return Dice, precision, recall (pooled) and the distance of the batch-norm statistics.

    The distance is the mean over all layers and channels of the Kullback–Leibler divergence of two
    normal distributions: what the layer sees here, and what it saw in training (its running
    statistics).
    """
    divergences: list[float] = []

    def compare(layer: nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
        mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))
        assert layer.running_mean is not None
        assert layer.running_var is not None
        ratio = variance / layer.running_var
        shift = (mean - layer.running_mean) ** 2 / layer.running_var
        divergences.append(float((0.5 * (shift + ratio - 1 - ratio.log())).mean()))

    layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [layer.register_forward_pre_hook(compare) for layer in layers]
    x, y = images.patches()
    predicted = predict(network, x)
    for hook in hooks:
        hook.remove()
    tp = int((predicted * y).sum())
    precision, recall = tp / max(int(predicted.sum()), 1), tp / int(y.sum())
    return pooled_dice(predicted, y), precision, recall, float(np.mean(divergences))


def take(
    parameters: SimulationParameters, waves: dict[str, ExitWave], conditions: set[tuple[Any, ...]]
) -> dict[tuple[Any, ...], Images]:
    """Take and preprocess the micrographs of some conditions (specimen type, dose, pixel)."""
    preprocessing = PreprocessingParameters()
    table = plan(parameters)
    table = table[table["unevenness"] == table["unevenness"].min()]
    taken: dict[tuple[Any, ...], Images] = {}
    for row in table.to_dict("records"):
        key = (row["specimen_type"], row["dose_e_per_A2"], row["pixel_size_nm"])
        if key in conditions:
            micrograph, mask = expose(waves[row["specimen_id"]], row, parameters)
            image, _ = preprocess_micrograph(micrograph.image, preprocessing)
            entry = taken.setdefault(key, Images([], []))
            entry.images.append(image)
            entry.masks.append(mask)
    return taken


def statistics_row(name: str, images: Images, target: Any) -> str:
    found = " ".join(f"{v:.2f}" for v in images.autocorrelation())
    wanted = " ".join(f"{v:.2f}" for v in target[0]) if target else ""
    contrast = "" if not target or target[1] is None else f"{target[1]:.2f}"
    return f"| {name} | {found} | {wanted} | {images.contrast():.2f} | {contrast} |"


def load_networks(folder: Path) -> dict[str, nn.Module]:
    """Load the published networks in a folder, named after their training set."""
    networks = {}
    for path in sorted(folder.glob("UNet_*_model.h5")):
        network = PublishedUNet()
        network.load_state_dict(read_published_weights(path.read_bytes()))
        networks[path.name.split("_")[1].removesuffix("UTC")] = network.eval()
    if not networks:
        raise SystemExit(f"{folder}: no UNet_*_model.h5 here; give the folder with --weights")
    return networks


def name_of(condition: tuple[Any, ...]) -> str:
    return f"{condition[0]} {condition[1]:g} e/Å² {condition[2]:.3f} nm"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--weights", type=Path, default=ROOT.parent / "shared/published/weights")
    parser.add_argument("--fields", type=int, default=4, help="fresh fields of each type")
    parser.add_argument("--seed", type=int, default=1, help="of the fresh fields")
    parser.add_argument("--scan", action="store_true", help="change the imaging parameters as well")
    arguments = parser.parse_args()

    networks = load_networks(arguments.weights)
    blocks = yaml.safe_load((ROOT / "conf/base/parameters_simulation.yml").read_text())
    parameters = SimulationParameters.model_validate(
        {**blocks["simulation"], "fields": arguments.fields, "seed": arguments.seed}
    )
    waves: dict[str, ExitWave] = {}
    for name, specimen in parameters.specimens.items():
        waves.update(
            simulate_specimens(
                name,
                specimen,
                parameters.supports[specimen.support],
                parameters.multislice,
                parameters.field_width_nm,
                arguments.fields,
                arguments.seed,
            )
        )
    table = plan(parameters)
    columns = ["specimen_type", "dose_e_per_A2", "pixel_size_nm"]
    conditions = set(table[columns].itertuples(index=False, name=None))
    taken = take(parameters, waves, conditions)

    lags = " ".join(f"({i},{j})" for i, j in LAGS)
    print(f"\n| condition | autocorrelation {lags} | real | contrast | real |")
    print("| --- | --- | --- | --- | --- |")
    for key, images in taken.items():
        target = TARGETS.get(key[1:]) if key[0] == "au_5nm" else None
        print(statistics_row(name_of(key), images, target))

    print("\n| condition | " + " | ".join(f"{n}: Dice (P, R), distance" for n in networks) + " |")
    print("| --- |" + " --- |" * len(networks))
    for key, images in taken.items():
        judged = [judge(network, images) for network in networks.values()]
        cells = [f"{d:.3f} ({p:.2f}, {r:.2f}), {k:.3f}" for d, p, r, k in judged]
        print(f"| {name_of(key)} | " + " | ".join(cells) + " |")

    header = [f"{d:+d} px" for d in DISPLACEMENTS_PX]
    print("\n| outlines of | network | " + " | ".join(header) + " |")
    print("| --- | --- |" + " --- |" * len(header))
    for key, images in taken.items():
        if key[0] in DISPLACED_TYPES and key[1:] == (423, 0.020):
            x, y = images.patches()
            for name, network in networks.items():
                predicted = predict(network, x)
                moved = [np.stack([displaced(m, d) for m in y]) for d in DISPLACEMENTS_PX]
                cells = [f"{pooled_dice(predicted, m):.3f}" for m in moved]
                print(f"| {name_of(key)} | {name} | " + " | ".join(cells) + " |")

    if arguments.scan:
        scan(parameters, waves, networks)


def scan(
    parameters: SimulationParameters, waves: dict[str, ExitWave], networks: dict[str, nn.Module]
) -> None:
    """Print the statistics of 5 nm Au with one imaging parameter changed at a time."""
    conditions: set[tuple[Any, ...]] = {("au_5nm", *key) for key in TARGETS}
    defaults = parameters.imaging.model_dump()
    steps = [("defaults", None)] + [(key, value) for key in SCAN for value in SCAN[key]]
    print(f"\n| changed | dose, pixel | {' '.join(map(str, LAGS))} | contrast | ", end="")
    print(" | ".join(networks) + " |\n" + "| --- |" + " --- |" * (3 + len(networks)))
    for key, value in tqdm(steps):
        changed = defaults if value is None else {**defaults, key: value}
        taken = take(
            SimulationParameters.model_validate({**parameters.model_dump(), "imaging": changed}),
            waves,
            conditions,
        )
        for condition, images in taken.items():
            found = " ".join(f"{v:.2f}" for v in images.autocorrelation())
            dice = " | ".join(f"{judge(n, images)[0]:.3f}" for n in networks.values())
            name = key if value is None else f"{key} {value:g}"
            label = f"{condition[1]:g}, {condition[2]:.3f}"
            print(f"| {name} | {label} | {found} | {images.contrast():.2f} | {dice} |", flush=True)


if __name__ == "__main__":
    main()

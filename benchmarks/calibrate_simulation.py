"""How real the simulated micrographs are: statistics of real images, published networks as judges.

    python benchmarks/calibrate_simulation.py [--weights ../shared/published/weights]
        [--fields 8] [--seed 1] [--before] [--scan [PARAMETER ...]] [--set PARAMETER=VALUE ...]

Simulates fresh fields (another seed than the default study's) with the parameters of
``conf/base/parameters_simulation.yml``, takes them under the conditions of the published study,
preprocesses them as the study does and prints one table: what is known of real images
(``QUANTITIES``), what is found, and whether it lies within the tolerance.

- *Autocorrelations* of real images were recovered by least squares from the running variances of
  the published networks' first batch normalisation. These saw patches in 8 dihedral copies, half of
  them then turned by any angle with bilinear interpolation and their corners filled with the
  median background; the same is done here before they are compared.
- *Contrast and roughness* are those of the study's own fingerprint.
- *Dice* of the published networks: mean over 512 px patches with more than 400 labelled px.

``--before`` adds the column of the recipe that stood here before (``BEFORE``). ``--scan`` goes
through the parameters one at a time (``SCAN``, or those named), takes each value that lowers the
mean squared deviation in units of the tolerances, and prints every step. Exit waves are computed
once for every kind of specimen that a scan asks for; images are taken anew.
"""

from __future__ import annotations

import argparse
import itertools
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import nn

from temshift.config.modelling import Augmentation
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.simulation import SimulationParameters
from temshift.learning.augmentation import Areas, augment, draw_plan
from temshift.learning.networks import PublishedUNet
from temshift.learning.published_weights import read_published_weights
from temshift.microscopy.acquisitions import expose, plan, simulate_specimens
from temshift.microscopy.fingerprints import LAGS_PX, fingerprint
from temshift.microscopy.multislice import ExitWave
from temshift.microscopy.preprocess import preprocess_micrograph

ROOT = Path(__file__).parents[1]
PARAMETERS = ROOT / "conf/base/parameters_simulation.yml"
PATCH_PX = 512
#: More labelled pixels than this make a patch one that counts, as in the study.
LEAST_LABELLED_PX = 400
TYPES = ("au_5nm", "au_2nm", "au_10nm")


@dataclass(frozen=True)
class Quantity:
    """What is known of real images, and how near to it is near enough."""

    name: str
    real: float
    tolerance: float


def _autocorrelation(name: str, values: Iterable[float]) -> list[Quantity]:
    return [
        Quantity(f"autocorrelation {name} at ({i}, {j})", value, 0.04)
        for (i, j), value in zip(LAGS_PX, values, strict=True)
    ]


QUANTITIES = (
    *_autocorrelation("80 e/Å²", (0.70, 0.56, 0.40, 0.34, 0.23)),
    *_autocorrelation("423 e/Å²", (0.82, 0.72, 0.58, 0.52, 0.39)),
    *_autocorrelation("884 e/Å²", (0.83, 0.73, 0.58, 0.54, 0.42)),
    *_autocorrelation("423 e/Å², 0.042 nm", (0.78, 0.63, 0.42, 0.36, 0.19)),
    Quantity("contrast 80 e/Å²", 0.239, 0.05),
    Quantity("contrast 884 e/Å²", 0.576, 0.05),
    Quantity("roughness 80 e/Å²", 0.050, 0.005),
    Quantity("roughness 884 e/Å²", 0.027, 0.005),
    Quantity("Dice 5 nm 423 e/Å² on 423 e/Å²", 0.889, 0.05),
    Quantity("Dice 5 nm 884 e/Å² on 884 e/Å²", 0.915, 0.05),
    Quantity("Dice 5 nm 884 e/Å² on 423 e/Å²", 0.865, 0.05),
    Quantity("Dice 5 nm 884 e/Å² on 80 e/Å²", 0.464, 0.15),
    Quantity("Dice 5 nm on 2.2 nm", 0.775, 0.05),
    Quantity("Dice 10 nm on 2.2 nm", 0.731, 0.05),
    Quantity("Dice 10 nm on 10 nm", 0.910, 0.05),
    Quantity("Dice 5 nm on 10 nm", 0.908, 0.05),
)
#: (specimen type, dose, pixel size): name of the set in QUANTITIES, and of the networks that judge.
SETS: dict[tuple[str, float, float], tuple[str, dict[str, str]]] = {
    ("au_5nm", 80, 0.020): ("80 e/Å²", {"5nmAu330kX884e": "5 nm 884 e/Å² on 80 e/Å²"}),
    ("au_5nm", 423, 0.020): (
        "423 e/Å²",
        {
            "5nmAu330kX423e": "5 nm 423 e/Å² on 423 e/Å²",
            "5nmAu330kX884e": "5 nm 884 e/Å² on 423 e/Å²",
        },
    ),
    ("au_5nm", 884, 0.020): ("884 e/Å²", {"5nmAu330kX884e": "5 nm 884 e/Å² on 884 e/Å²"}),
    ("au_5nm", 423, 0.042): ("423 e/Å², 0.042 nm", {}),
    ("au_2nm", 423, 0.020): (
        "2.2 nm",
        {"5nmAu330kX423e": "5 nm on 2.2 nm", "10nmAu330kX425e": "10 nm on 2.2 nm"},
    ),
    ("au_10nm", 423, 0.020): (
        "10 nm",
        {"5nmAu330kX423e": "5 nm on 10 nm", "10nmAu330kX425e": "10 nm on 10 nm"},
    ),
}

#: The recipe before this calibration, as far as today's parameters can say it.
BEFORE: dict[str, Any] = {
    "multislice.film_slice_thickness_A": 4.0,
    "supports.carbon.thickness_nm": [4.0, 4.0],
    "supports.carbon.roughness_nm": 0.3,
    "supports.carbon.roughness_length_nm": 1.5,
    "specimens.au_5nm.particles": [4, 7],
    "specimens.au_2nm.particles": [12, 18],
    "specimens.au_10nm.particles": [1, 2],
    "specimens.au_10nm.field_width_nm": None,
    **{f"specimens.{name}.faceted": 0.0 for name in TYPES},
    "imaging.defocus_A": 200.0,
    "imaging.defocus_spread_A": 60.0,
    "imaging.vibration_A": 0.3,
    "imaging.absorption": 0.05,
    "imaging.contrast_factor": 2.4,
    "imaging.mtf_width": 0.28,
    "imaging.ntf_width": 0.28,
    "imaging.xray_per_Mpx": 5.0,
    "flat_field": "published",
}

#: Values that ``--scan`` tries, as factors on what stands in the parameters.
SCAN: dict[str, tuple[float, ...]] = {
    "imaging.ntf_width": (0.9, 1.1),
    "imaging.mtf_width": (0.85, 1.15),
    "imaging.contrast_factor": (0.85, 1.15),
    "imaging.absorption": (0.7, 1.4),
    "imaging.vibration_A": (0.7, 1.4),
    "imaging.defocus_A": (0.7, 1.4),
}


class Fields:
    """Exit waves of fresh fields; what has been computed is kept."""

    def __init__(self, fields: int, seed: int) -> None:
        self.fields, self.seed = fields, seed
        self._waves: dict[str, dict[str, ExitWave]] = {}

    def of(self, specimen_type: str, parameters: SimulationParameters) -> dict[str, ExitWave]:
        """Return the exit waves of a kind of specimen by ``specimen_id``."""
        specimen = parameters.specimens[specimen_type]
        support = parameters.supports[specimen.support]
        made_of = (specimen, support, parameters.multislice, parameters.field_width_nm)
        key = f"{specimen_type} {made_of}"
        if key not in self._waves:
            self._waves[key] = dict(
                simulate_specimens(specimen_type, *made_of, self.fields, self.seed)
            )
        return self._waves[key]


@dataclass
class Images:
    """Preprocessed patches of one condition that hold particles, shape (N, 512, 512)."""

    images: NDArray[np.float32]
    labels: NDArray[np.uint8]


def take(
    parameters: SimulationParameters, fields: Fields, preprocessing: PreprocessingParameters
) -> dict[tuple[str, float, float], Images]:
    """Take and preprocess the micrographs of all SETS and cut them into patches."""
    table = plan(parameters)
    table = table[table["unevenness"] == table["unevenness"].min()]
    found: dict[tuple[str, float, float], list[Any]] = {key: [] for key in SETS}
    for row in table.to_dict("records"):
        key = (row["specimen_type"], row["dose_e_per_A2"], row["pixel_size_nm"])
        if key not in found:
            continue
        wave = fields.of(key[0], parameters)[row["specimen_id"]]
        micrograph, mask = expose(wave, row, parameters.imaging)
        image, _ = preprocess_micrograph(micrograph.image, preprocessing)
        rows, columns = (range(0, side - PATCH_PX + 1, PATCH_PX) for side in image.shape)
        for i, j in itertools.product(rows, columns):
            window = np.s_[i : i + PATCH_PX, j : j + PATCH_PX]
            if mask[window].sum() > LEAST_LABELLED_PX:
                found[key].append((image[window], mask[window]))
    return {
        key: Images(*(np.stack(part) for part in zip(*patches, strict=True)))
        for key, patches in found.items()
    }


def autocorrelation(patches: Images) -> NDArray[np.float64]:
    """Return the correlation at LAGS_PX of what the published networks saw in training."""
    images = torch.from_numpy(patches.images)
    background = torch.tensor(
        [
            float(np.median(image[label == 0]))
            for image, label in zip(patches.images, patches.labels, strict=True)
        ]
    )
    n = len(images)
    side = torch.full((n,), PATCH_PX)
    areas = Areas(  # each patch by itself
        first=torch.arange(n),
        columns=torch.ones(n, dtype=torch.int64),
        height=side,
        width=side,
        background=background,
        particles=torch.full((n, 1, 2), -1),
    )
    chosen = draw_plan(
        torch.arange(n).repeat_interleave(8),
        torch.arange(8).repeat(n),
        areas,
        PATCH_PX,
        Augmentation(dihedral="all", rotate_probability=0.5),
        torch.Generator().manual_seed(0),
    )
    labels = torch.from_numpy(patches.labels)
    sums = np.zeros(len(LAGS_PX) + 2)
    for start in range(0, 8 * n, 8):
        batch = chosen.slice(start, start + 8)
        x = augment(images, labels, batch, PATCH_PX, PATCH_PX, None)[0][:, 0].numpy()
        sums[0] += x.mean()
        sums[1] += (x**2).mean()
        for k, (i, j) in enumerate(LAGS_PX):
            pairs = [(i, j), (j, i)]
            sums[2 + k] += np.mean(
                [(x[:, a:, b:] * x[:, : PATCH_PX - a, : PATCH_PX - b]).mean() for a, b in pairs]
            )
    mean, square, *products = sums / n
    return (np.array(products) - mean**2) / (square - mean**2)


def dice(network: nn.Module, patches: Images) -> float:
    """Return the mean hard Dice over patches."""
    values = []
    with torch.inference_mode():
        for image, label in zip(patches.images, patches.labels, strict=True):
            predicted = network(torch.from_numpy(image[None, None])).argmax(1)[0].numpy()
            values.append(2 * (predicted * label).sum() / (predicted.sum() + label.sum()))
    return float(np.mean(values))


def inside_deviation(patches: Images) -> float:
    """Return the median over patches of the standard deviation inside of particles."""
    pairs = zip(patches.images, patches.labels, strict=True)
    return float(np.median([image[label == 1].std() for image, label in pairs]))


def measure(
    changes: Mapping[str, Any], fields: Fields, networks: Mapping[str, nn.Module]
) -> dict[str, float]:
    """Image the fields with changed parameters and return every quantity, and some more.

    Parameters
    ----------
    changes : mapping of str to Any
        Values by dotted name within ``simulation``; ``flat_field`` is that of the preprocessing.
    """
    block = yaml.safe_load(PARAMETERS.read_text())["simulation"]
    block |= {"fields": fields.fields, "seed": fields.seed}
    for name, value in changes.items():
        *path, last = name.split(".")
        place = block
        for step in path:
            place = place[step]
        place[last] = value
    mode = block.pop("flat_field", "background")
    parameters = SimulationParameters.model_validate(block)
    taken = take(parameters, fields, PreprocessingParameters(flat_field={"mode": mode}))
    found: dict[str, float] = {}
    for key, (name, judges) in SETS.items():
        patches = taken[key]
        if key[0] == "au_5nm":
            for (i, j), value in zip(LAGS_PX, autocorrelation(patches), strict=True):
                found[f"autocorrelation {name} at ({i}, {j})"] = float(value)
            prints = fingerprint(patches.images, patches.labels)
            found[f"contrast {name}"] = prints["contrast"]
            found[f"roughness {name}"] = prints["roughness_per_px2"]
        for network, judged in judges.items():
            found[f"Dice {judged}"] = dice(networks[network], patches)
        found[f"deviation inside {name}"] = inside_deviation(patches)
        found[f"variance of patches {name}"] = float(patches.images.var())
        found[f"coverage {name}"] = float(patches.labels.mean())
    return found


def misfit(found: Mapping[str, float]) -> float:
    """Return the mean squared deviation in units of the tolerances."""
    return float(np.mean([((found[q.name] - q.real) / q.tolerance) ** 2 for q in QUANTITIES]))


def scan(
    names: Iterable[str],
    changes: dict[str, Any],
    fields: Fields,
    networks: Mapping[str, nn.Module],
) -> dict[str, Any]:
    """Change one parameter at a time and keep what lowers the misfit; print every step."""
    block = yaml.safe_load(PARAMETERS.read_text())["simulation"]
    best = misfit(measure(changes, fields, networks))
    print(f"| parameter | value | misfit |\n| --- | --- | --- |\n| as it stands | | {best:.2f} |")
    for name in names:
        value: Any = block
        for step in name.split("."):
            value = value[step]
        value = changes.get(name, value)
        for factor in SCAN[name]:
            tried = changes | {name: round(value * factor, 4)}
            found = misfit(measure(tried, fields, networks))
            kept = found < best
            print(
                f"| {name} | {tried[name]:g} | {found:.2f}{' kept' if kept else ''} |", flush=True
            )
            if kept:
                best, changes = found, tried
    return changes


def report(now: Mapping[str, float], before: Mapping[str, float] | None) -> None:
    """Print the table of all quantities, and what else was measured."""
    print("\n| quantity | real | before | now | within |\n| --- | --- | --- | --- | --- |")
    for q in QUANTITIES:
        digits = 3 if q.tolerance < 0.01 or q.name.startswith("Dice") else 2
        old = f"{before[q.name]:.{digits}f}" if before else ""
        away = abs(now[q.name] - q.real)
        verdict = f"{q.tolerance:g}" if away <= q.tolerance else f"no, off by {away:.{digits}f}"
        print(f"| {q.name} | {q.real:.{digits}f} | {old} | {now[q.name]:.{digits}f} | {verdict} |")
    inside = sum(abs(now[q.name] - q.real) <= q.tolerance for q in QUANTITIES)
    print(f"\n{inside} of {len(QUANTITIES)} within; misfit {misfit(now):.2f}", end="")
    print(f", before {misfit(before):.2f}\n" if before else "\n")
    known = {q.name for q in QUANTITIES}
    print("| not judged | before | now |\n| --- | --- | --- |")
    for name, value in now.items():
        if name not in known:
            print(f"| {name} | {f'{before[name]:.2f}' if before else ''} | {value:.2f} |")


def load_networks(folder: Path) -> dict[str, nn.Module]:
    """Load the published networks in a folder, named after their training set."""
    networks = {}
    for path in sorted(folder.glob("UNet_*_model.h5")):
        network = PublishedUNet()
        network.load_state_dict(read_published_weights(path.read_bytes()))
        networks[path.name.split("_")[1].removesuffix("UTC")] = network.eval()
    needed = {name for _, judges in SETS.values() for name in judges}
    if missing := sorted(needed - set(networks)):
        raise SystemExit(
            f"{folder}: no weights of {', '.join(missing)} (UNet_…_model.h5) here; give the folder "
            "with --weights"
        )
    return networks


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--weights", type=Path, default=ROOT.parent / "shared/published/weights")
    parser.add_argument("--fields", type=int, default=8, help="fresh fields of each type")
    parser.add_argument("--seed", type=int, default=1, help="of the fresh fields")
    parser.add_argument("--before", action="store_true", help="measure the earlier recipe as well")
    parser.add_argument("--scan", nargs="*", metavar="PARAMETER", choices=list(SCAN))
    parser.add_argument("--set", nargs="*", default=[], metavar="PARAMETER=VALUE")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.WARNING)
    networks = load_networks(arguments.weights)
    fields = Fields(arguments.fields, arguments.seed)
    changes = {name: yaml.safe_load(value) for name, value in (s.split("=") for s in arguments.set)}
    if arguments.scan is not None:
        changes = scan(arguments.scan or SCAN, changes, fields, networks)
    if changes:
        print(f"\nchanged: {changes}")
    before = measure(BEFORE, fields, networks) if arguments.before else None
    report(measure(changes, fields, networks), before)


if __name__ == "__main__":
    main()

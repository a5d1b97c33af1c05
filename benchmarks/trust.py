"""How far the trust in a mask can be trusted: ``python benchmarks/trust.py FOLDER_OF_DATA``.

On the evidence of a finished study (``kedro run --pipelines trust``) every condition is left out in
turn, with all networks trained on it: forest, conformal intervals, threshold and novelty are fitted
without it. The conditions of the default study share specimens, and some are alike (two sessions):
``near`` leaves out with each condition all that differ from it by less than 5 % in pixel size and
in dose. Images that hold nothing to be segmented are judged by the model of all conditions.

``--crop 768 --each 2`` gathers the evidence itself, on the upper left 768 px of two micrographs of
each fold and image set: a study of 156 micrographs of 1536 px and 14 networks takes more than an
hour of two cores otherwise. ``--unseen FOLDER`` judges micrographs of another study of the same
conditions (another ``simulation.seed``), ``--emps FOLDER`` the real ones of the EMPS data set, both
by the model of all conditions.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from temshift.api import load_networks, load_trust
from temshift.config.trust import TrustParameters
from temshift.learning.calibration import trained_on
from temshift.learning.trust import JURY_EVIDENCE, TrustModel, features_of

ROOT = Path(__file__).parents[1]
USABLE = 0.6
SINGLE = {
    "soft Dice": "soft_dice",
    "agreement with the turned image": "turned_dice",
    "jury: mean": "jury_mean",
    "jury: better half": "jury_upper",
    "jury: best": "jury_best",
}


def gather(folder: Path, crop_px: int, each: int, unseen: Path | None = None) -> list[pd.DataFrame]:
    """Return evidence and agreement of a study on a part of its micrographs, or of another's.

    Of another study every micrograph is unseen; they are given to the folds in turn.
    """
    from temshift.catalog.micrographs import MicrographStore
    from temshift.learning.calibration import gather_study
    from temshift.microscopy.micrograph import Micrograph

    class Corner(MicrographStore):
        def read(self, path: str) -> Micrograph:
            whole = super().read(path)
            return replace(whole, image=whole.image[:crop_px, :crop_px].copy())

        def read_label(self, path: str, kind: str = "binary") -> np.ndarray:
            return super().read_label(path, kind)[:crop_px, :crop_px]

    tables = {}
    shown = unseen or folder
    networks = load_networks(folder / "06_models")
    folds = max(len(own) for own in networks.values())
    for i, file in enumerate(sorted((shown / "03_primary").glob("*/micrographs.csv"))):
        table = pd.read_csv(file)
        if unseen:
            table = table.head(each).assign(fold=(i + np.arange(min(each, len(table)))) % folds)
        else:
            table = table.groupby("fold", sort=True).head(each)
        tables[file.parent.name] = table.reset_index(drop=True)
    store = Corner(shown / "01_raw" / "micrographs")
    return list(gather_study(networks, tables, store))


def near_conditions(cards: dict[str, dict], names: list[str]) -> dict[str, list[str]]:
    """Return the conditions within 5 % in pixel size and dose of each, itself among them."""

    def alike(first: str, second: str) -> bool:
        for key in ("pixel_size_nm", "dose_e_per_A2"):
            a, b = cards[first].get(key), cards[second].get(key)
            if a and b and abs(np.log(a / b)) >= 0.05:
                return False
        return True

    return {name: [other for other in names if alike(name, other)] for name in names}


def leave_out(
    evidence: pd.DataFrame,
    agreement: pd.DataFrame,
    on: dict[str, list[str]],
    parameters: TrustParameters,
    together: dict[str, list[str]],
) -> pd.DataFrame:
    """Judge every condition by a model that knows nothing of it, nor of what goes with it."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.isotonic import IsotonicRegression

    parts = []
    for condition, out in together.items():
        networks = [name for name, splits in on.items() if set(splits) & set(out)]

        def known(table: pd.DataFrame, out: list[str] = out, networks: list[str] = networks):
            keep = ~table["test_split"].isin(out) & ~table["network"].isin(networks)
            if "juror" in table:
                keep &= ~table["juror"].isin(networks)
            return table[keep]

        left = [known(evidence), known(agreement)]
        if left[0]["test_split"].nunique() < 3 or left[0]["network"].nunique() < 3:
            print(f"  {condition}: too little is left without {', '.join(out)}")
            continue
        model = TrustModel.fit(
            *left, {n: s for n, s in on.items() if n not in networks}, parameters
        )
        there = features_of(*left)
        here = features_of(evidence, agreement, networks)
        here = here[here["test_split"] == condition].reset_index(drop=True)
        judged = model.judge(here).assign(condition=condition, dice=here["dice"])
        judged["constant"] = there["dice"].mean()
        for name, column in SINGLE.items():
            fitted = IsotonicRegression(out_of_bounds="clip").fit(there[column], there["dice"])
            judged[name] = fitted.predict(here[column])
        jury = list(JURY_EVIDENCE)
        forest = RandomForestRegressor(
            parameters.trees, min_samples_leaf=4, random_state=parameters.seed
        ).fit(there[jury], there["dice"])
        judged["jury alone (forest)"] = forest.predict(here[jury])
        parts.append(judged)
    return pd.concat(parts, ignore_index=True)


def report(judged: pd.DataFrame) -> dict[str, float]:
    true = judged["dice"]
    print(
        f"{len(judged)} masks of {judged['micrograph_id'].nunique()} micrographs, "
        f"{judged['condition'].nunique()} conditions; Dice {true.mean():.3f} ± {true.std():.3f}, "
        f"{(true < USABLE).mean():.1%} below {USABLE}"
    )
    print("\n| predictor | MAE of Dice |\n| --- | --- |")
    names = ["constant", *SINGLE, "jury alone (forest)", "predicted_dice"]
    for name in names:
        words = "all evidence" if name == "predicted_dice" else name
        print(f"| {words} | {(judged[name] - true).abs().mean():.3f} |")
    inside = (judged["low"] <= true) & (true <= judged["high"])
    width = (judged["high"] - judged["low"]).mean()
    bad = true < USABLE
    rejected = judged["verdict"] == "do not trust"
    trusted = judged["verdict"] == "trust"
    print(f"\n90 % interval: holds {inside.mean():.1%}, mean width {width:.2f}")
    by = inside.groupby(judged["condition"]).mean()
    print(f"   by condition from {by.min():.0%} ({by.idxmin()}) to {by.max():.0%}")
    print(f"do not trust: catches {rejected[bad].mean():.1%} of the masks below {USABLE}")
    print(f"   false alarms: {rejected[~bad].mean():.1%} of the others")
    print(
        f"trust: {trusted.mean():.1%} of all; of these {bad[trusted].mean():.1%} are below {USABLE}"
    )
    print(
        "\n| share kept, best predicted first | mean Dice | share below 0.6 |\n| --- | --- | --- |"
    )
    ranked = judged.sort_values("predicted_dice", ascending=False)
    for share in (1.0, 0.9, 0.8, 0.7, 0.5, 0.3):
        kept = ranked.head(round(share * len(ranked)))["dice"]
        print(f"| {share:.0%} | {kept.mean():.3f} | {(kept < USABLE).mean():.1%} |")
    return {"mae": float((judged["predicted_dice"] - true).abs().mean())}


def nothing_to_see(simulated: bool) -> dict[str, np.ndarray]:
    """Return images that hold no particle, as counts."""
    from skimage import data

    rng = np.random.default_rng(5)
    page = np.tile(data.page().astype(float), (4, 2))[:700, :700]
    images = {
        "white noise": rng.poisson(400, (700, 700)).astype(float),
        "photograph (camera)": data.camera().astype(float) * 4,
        "photograph (brick)": data.brick().astype(float) * 4,
        "text page": page * 4,
        "light microscope (cells)": data.cell().astype(float)[:512, :512] * 4,
        "moon": data.moon().astype(float) * 4,
        "FFT of a photograph": np.log1p(
            np.abs(np.fft.fftshift(np.fft.fft2(data.camera().astype(float))))
        )
        * 100,
        "SEM-like (grain)": data.gravel().astype(float) * 4 + rng.poisson(30, (512, 512)),
    }
    radius = np.hypot(*np.mgrid[-350:350, -350:350])
    rings = sum(np.exp(-((radius - r) ** 2) / 18) for r in (90, 150, 176, 230))
    images["diffraction rings"] = rng.poisson(30 + 400 * rings + 4000 / (1 + radius)).astype(float)
    if simulated:
        images |= {f"empty carbon, {dose} e/Å²": empty_carbon(dose) for dose in (80, 423, 884)}
    return images


def empty_carbon(dose_e_per_A2: float) -> np.ndarray:
    """Simulate the support film of the default study without a particle."""
    import yaml

    from temshift.config.simulation import SimulationParameters
    from temshift.microscopy.acquisitions import expose
    from temshift.microscopy.multislice import exit_wave
    from temshift.microscopy.specimens import MARGIN_A, Specimen, amorphous_film

    text = (ROOT / "conf" / "base" / "parameters_simulation.yml").read_text()
    parameters = SimulationParameters.model_validate(yaml.safe_load(text)["simulation"])
    support, multislice = parameters.supports["carbon"], parameters.multislice
    width_A = 10 * parameters.field_width_nm
    rng = np.random.default_rng(31)
    numbers, positions = amorphous_film(
        width_A,
        10 * float(np.mean(support.thickness_nm)),  # one value, or a range
        support.composition,
        support.atoms_per_A3,
        rng,
        roughness_A=10 * support.roughness_nm,
        roughness_length_A=10 * support.roughness_length_nm,
    )
    positions[:, 2] += MARGIN_A - positions[:, 2].min()
    film = Specimen(
        numbers=numbers,
        positions_A=positions,
        in_particle=np.zeros(len(numbers), bool),
        width_A=width_A,
        height_A=float(positions[:, 2].max() + MARGIN_A),
        particles=(),
    )
    wave = exit_wave(
        film,
        energy_eV=multislice.energy_eV,
        grid_px=multislice.grid_px,
        slice_thickness_A=multislice.slice_thickness_A,
    )
    row = {
        **dict.fromkeys(("instrument", "session", "specimen_id", "material", "support"), ""),
        "dose_e_per_A2": dose_e_per_A2,
        "pixel_size_nm": 0.02,
        "defocus_A": parameters.imaging.defocus_A,
        "exposure_seed": 77,
        "unevenness": 0.05,
    }
    return expose(wave, row, parameters.imaging)[0].image


def judge_nothing(folder: Path, simulated: bool) -> None:
    from temshift.config.deployment import DeploymentParameters
    from temshift.learning.segmentation import Segmenter

    networks = load_networks(folder / "06_models")
    trust = load_trust(folder / "07_model_output" / "trust", networks)
    segmenter = Segmenter(networks, DeploymentParameters(networks="best"), trust)
    print("\n| image | verdict | predicted Dice | novelty | networks that say trust |")
    print("| --- | --- | --- | --- | --- |")
    trusted = 0
    for name, image in nothing_to_see(simulated).items():
        try:
            found = segmenter.segment(image, 0.02, 423.0)
        except ValueError as error:
            print(f"| {name} | refused: {str(error).split(':')[0]} | | | |")
            continue
        judged = found.judgement
        of_all = int((found.networks["verdict"] == "trust").sum())
        trusted += of_all
        print(
            f"| {name} | {judged['verdict']} | {judged['predicted_dice']:.2f} "
            f"| {judged['novelty']:.1f} | {of_all} of {len(found.networks)} |"
        )
    print(f"\n{trusted} masks of nothing were to be trusted")


def judge_unseen(folder: Path, unseen: Path, crop_px: int, each: int) -> None:
    """Judge simulated micrographs of another seed: known conditions, specimens that are new."""
    networks = load_networks(folder / "06_models")
    trust = load_trust(folder / "07_model_output" / "trust", networks)
    evidence, agreement = gather(folder, crop_px, each, unseen)
    features = features_of(evidence, agreement)
    judged = trust.judge(features)
    true = features["dice"]
    bad, rejected = true < USABLE, judged["verdict"] == "do not trust"
    inside = (judged["low"] <= true) & (true <= judged["high"])
    trusted = judged["verdict"] == "trust"
    print(f"{len(judged)} masks of {features['micrograph_id'].nunique()} micrographs")
    print(f"MAE of Dice {(judged['predicted_dice'] - true).abs().mean():.3f}")
    print(f"90 % interval holds {inside.mean():.1%}")
    print(f"do not trust: catches {rejected[bad].mean():.1%} of {bad.sum()} below {USABLE}")
    print(f"   false alarms {rejected[~bad].mean():.1%}")
    print(f"trust: {trusted.mean():.1%}; of these {bad[trusted].mean():.1%} below {USABLE}")


def judge_emps(folder: Path, emps: Path) -> None:
    """Segment the real micrographs of EMPS, whose pixel sizes are unknown, and judge the masks."""
    from PIL import Image

    from temshift.config.deployment import DeploymentParameters
    from temshift.learning.metrics import dice
    from temshift.learning.segmentation import Segmenter

    networks = load_networks(folder / "06_models")
    trust = load_trust(folder / "07_model_output" / "trust", networks)
    segmenter = Segmenter(networks, DeploymentParameters(networks="best"), trust)
    rows, refused = [], 0
    for file in sorted((emps / "images").glob("*.png")):
        image = np.asarray(Image.open(file).convert("L"), np.float32)
        label = np.asarray(Image.open(emps / "segmaps" / file.name)) > 0
        try:
            found = segmenter.segment(image)
        except ValueError:
            refused += 1
            continue
        mask = found.mask > 0
        counts = (mask & label).sum(), (mask & ~label).sum(), (~mask & label).sum()
        rows.append({**found.judgement, "dice": float(dice(*map(int, counts)))})
    table = pd.DataFrame(rows)
    true, predicted = table["dice"], table["predicted_dice"]
    print(f"{len(table)} images, {refused} refused; Dice mean {true.mean():.3f}")
    print(f"   median {true.median():.3f}, at least {USABLE} in {(true >= USABLE).sum()}")
    print(f"predicted Dice: mean {predicted.mean():.3f}, MAE {(predicted - true).abs().mean():.3f}")
    inside = (table["low"] <= true) & (true <= table["high"])
    print(f"90 % interval holds {inside.mean():.1%}; novelty above 1: {(table.novelty > 1).sum()}")
    for verdict, part in table.groupby("verdict"):
        print(f"{verdict}: {len(part)}, {(part['dice'] < USABLE).sum()} of them below {USABLE}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of data of a finished study")
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--without-simulation", action="store_true")
    parser.add_argument("--crop", type=int, help="px; gather the evidence on parts of this size")
    parser.add_argument("--each", type=int, default=2, help="micrographs of a fold, with --crop")
    parser.add_argument("--unseen", type=Path, help="data of a study of another seed, with --crop")
    parser.add_argument("--emps", type=Path, help="folder with images and segmaps of EMPS")
    arguments = parser.parse_args()
    if arguments.unseen or arguments.emps:
        if arguments.unseen:
            print("## Another seed\n")
            judge_unseen(
                arguments.data, arguments.unseen, arguments.crop or 1 << 20, arguments.each
            )
        if arguments.emps:
            print("\n## EMPS\n")
            judge_emps(arguments.data, arguments.emps)
        return
    folder = arguments.data
    place = folder / "07_model_output" / "trust"
    names = ("evidence", "agreement")
    if arguments.crop:
        place.mkdir(parents=True, exist_ok=True)
        tables = gather(folder, arguments.crop, arguments.each)
        for name, table in zip(names, tables, strict=True):
            table.to_parquet(place / f"{name}.parquet", index=False)
    tables = [pd.read_parquet(place / f"{name}.parquet") for name in names]
    networks = load_networks(folder / "06_models")
    on = trained_on(networks)
    parameters = TrustParameters(trees=arguments.trees)
    names = list(dict.fromkeys(tables[0]["test_split"]))
    cards = {
        name: next(iter(networks[name].values())).card.model_dump()
        for name in names
        if name in networks
    }
    print("## A condition left out\n")
    report(leave_out(*tables, on, parameters, {name: [name] for name in names}))
    print("\n## A condition left out with all that are near it\n")
    report(leave_out(*tables, on, parameters, near_conditions(cards, names)))
    print("\n## Nothing to see")
    judge_nothing(folder, not arguments.without_simulation)


if __name__ == "__main__":
    main()

"""How good the network in the box is: ``python benchmarks/boxed.py [--emps FOLDER] [--fields 6]``.

Three tables. *Twelve conditions*: specimens of the default study from a seed of their own
(``simulation.seed`` 4711), with its microscope, which the box was not trained with. *Nothing to
see*: what verdict bare films, noise, photographs and a page of text get. *EMPS* (Yildirim & Cole
2021): real micrographs of the literature with masks drawn by hand, at the scale at which they are
printed, and resampled so that the median diameter in the set's table is as many px as stated.

Beside it stands what people use today: thresholds of scikit-image, each with and without a Gaussian
of a tenth of the median diameter before it, of which the better one on each set counts; the network
gets no such choice.

``--half`` trains networks on EMPS itself, from scratch, each on half of its articles, and tests
them on the other half, with box and thresholds beside them; nothing else is done then.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom
from skimage import data, filters, restoration

from temshift.catalog.boxed import boxed_networks, boxed_trust
from temshift.config.simulation import SimulationParameters
from temshift.learning.segmentation import Segmenter
from temshift.microscopy import acquisitions
from temshift.microscopy.randomised import burn_in_bar

ROOT = Path(__file__).parents[1]
SEED = 4711
#: Specimens, dose (e/Å²), pixel size (nm), unevenness, and what differs in the microscope.
CONDITIONS = {
    "Au 5 nm": ("au_5nm", 423, 0.020, 0.05, {}),
    "Au 5 nm, 80 e/Å²": ("au_5nm", 80, 0.020, 0.05, {}),
    "Au 5 nm, 1200 e/Å²": ("au_5nm", 1200, 0.020, 0.05, {}),
    "Au 5 nm, 0.042 nm/px": ("au_5nm", 423, 0.042, 0.05, {}),
    "Au 5 nm, 0.016 nm/px": ("au_5nm", 423, 0.016, 0.05, {}),
    "Au 5 nm, uneven by 30 %": ("au_5nm", 423, 0.020, 0.30, {}),
    "Au 5 nm, scale bar": ("au_5nm", 423, 0.026, 0.05, {"bar": True}),
    "Au 5 nm, Cs 1 mm": ("au_5nm", 423, 0.026, 0.05, {"Cs_A": 1e7, "defocus_A": 700.0}),
    "Au 2.2 nm": ("au_2nm", 423, 0.020, 0.05, {}),
    "Au 10 nm": ("au_10nm", 423, 0.020, 0.05, {}),
    "Ag 5 nm": ("ag_5nm", 423, 0.020, 0.05, {}),
    "CdSe 5 nm": ("cdse_5nm", 423, 0.020, 0.05, {}),
}
SCALES_PX = (60, 100, 150)
UNKNOWN = dict.fromkeys(("instrument", "session", "specimen_id", "material", "support"), "")


def otsu(image: np.ndarray, diameter_px: float) -> np.ndarray:
    return image < filters.threshold_otsu(image)


def li(image: np.ndarray, diameter_px: float) -> np.ndarray:
    return image < filters.threshold_li(image)


def local(image: np.ndarray, diameter_px: float) -> np.ndarray:
    return image < filters.threshold_local(image, 2 * round(1.5 * diameter_px) + 1)


def rolling(image: np.ndarray, diameter_px: float) -> np.ndarray:
    """Subtract a ball rolled over the image, shrunk as ImageJ does it; then Otsu."""
    shrink = max(1, int(diameter_px // 10))
    bright = image.max() - image
    small = zoom(bright, 1 / shrink, order=1) if shrink > 1 else bright
    scale = 255 / max(float(np.ptp(small)), 1e-9)  # the ball is as high as it is wide
    ball = restoration.rolling_ball(small * scale, radius=max(2.0, diameter_px / shrink)) / scale
    factors = [a / b for a, b in zip(image.shape, ball.shape, strict=True)]
    bright = bright - zoom(ball, factors, order=1)
    return bright > filters.threshold_otsu(bright)


THRESHOLDS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "Otsu": otsu,
    "Li": li,
    "local": local,
    "rolling + Otsu": rolling,
}


def dice(mask: np.ndarray, label: np.ndarray) -> float:
    return float((2 * (mask & label).sum() + 1) / (mask.sum() + label.sum() + 1))


def by_thresholds(
    shots: list[tuple[np.ndarray, np.ndarray, float]], together: bool = True
) -> dict[str, float]:
    """Return the mean Dice of each threshold on (image, label, diameter in px).

    Of plain and smoothed the better one counts; not ``together``: both, by their names.
    """
    found = {}
    for name, threshold in THRESHOLDS.items():
        plain, smooth = [], []
        for image, label, diameter_px in shots:
            image = image.astype(np.float32)
            plain.append(dice(threshold(image, diameter_px), label))
            blurred = gaussian_filter(image, diameter_px / 10)
            smooth.append(dice(threshold(blurred, diameter_px), label))
        found[name] = float(np.mean(plain))
        if together:
            found[name] = max(found[name], float(np.mean(smooth)))
        else:
            found[f"{name}, smoothed"] = float(np.mean(smooth))
    return found


def simulated(segmenter: Segmenter, fields: int) -> pd.DataFrame:
    block = yaml.safe_load((ROOT / "conf/base/parameters_simulation.yml").read_text())["simulation"]
    parameters = SimulationParameters.model_validate(block | {"seed": SEED, "fields": fields})
    waves: dict[str, dict] = {}
    rows = []
    for condition, (kind, dose, pixel_size_nm, unevenness, changes) in CONDITIONS.items():
        specimen = parameters.specimens[kind]
        if kind not in waves:
            waves[kind] = dict(
                acquisitions.simulate_specimens(
                    kind,
                    specimen,
                    parameters.supports[specimen.support],
                    parameters.multislice,
                    parameters.field_width_nm,
                    fields,
                    SEED,
                )
            )
        imaging = parameters.imaging.model_copy(
            update={key: value for key, value in changes.items() if key == "Cs_A"}
        )
        shots, scores = [], []
        for name, wave in waves[kind].items():
            seed = acquisitions.stable_seed(SEED, name, condition)
            rng = np.random.default_rng(acquisitions.stable_seed(SEED, name, "defocus"))
            drawn_A = float(rng.normal(imaging.defocus_A, imaging.defocus_spread_A))
            row = {
                "exposure_seed": seed,
                "pixel_size_nm": pixel_size_nm,
                "dose_e_per_A2": dose,
                "defocus_A": changes.get("defocus_A", drawn_A),
                "unevenness": unevenness,
                **UNKNOWN,
            }
            micrograph, label = acquisitions.expose(wave, row, imaging)
            image = micrograph.image
            if changes.get("bar"):
                image, label = burn_in_bar(image, label, pixel_size_nm, seed)
            found = segmenter.segment(image, micrograph.pixel_size_nm)
            scores.append((dice(found.mask > 0, label == 1), found.judgement))
            shots.append((image, label == 1, specimen.diameter_nm / pixel_size_nm))
        rows.append({"condition": condition, **summary(scores), **by_thresholds(shots)})
        print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    return pd.DataFrame(rows)


def summary(scores: list[tuple[float, dict]]) -> dict[str, object]:
    found = np.array([score for score, _ in scores])
    predicted = np.array([judged["predicted_dice"] for _, judged in scores])
    inside = [judged["low"] <= score <= judged["high"] for score, judged in scores]
    verdicts = [judged["verdict"] for _, judged in scores]
    return {
        "box": found.mean(),
        "worst": found.min(),
        "predicted": predicted.mean(),
        "MAE": np.abs(predicted - found).mean(),
        "in interval": np.mean(inside),
        "trust/check/not": "/".join(
            str(verdicts.count(v)) for v in ("trust", "check", "do not trust")
        ),
        "trusted below 0.6": sum(
            v == "trust" and s < 0.6 for v, s in zip(verdicts, found, strict=True)
        ),
    }


def nothing() -> dict[str, np.ndarray]:
    """Images without a particle."""
    from temshift.config.box import RandomFields
    from temshift.config.simulation import ImagingParameters
    from temshift.microscopy.randomised import draw_field, simulate_field

    rng = np.random.default_rng(SEED)
    found = {"noise": rng.normal(1000, 30, (512, 512))}
    for length in (1, 3, 10, 30):
        smooth = gaussian_filter(rng.standard_normal((512, 512)), length)
        found[f"noise, smooth over {length} px"] = 1000 + 100 * smooth / smooth.std()
    bare = RandomFields(count=3, seed=SEED, empty=1.0)
    for number in range(3):
        wave = simulate_field(draw_field(bare, number))
        for dose in (100, 800):
            row = {
                "exposure_seed": number,
                "pixel_size_nm": 0.025,
                "dose_e_per_A2": dose,
                "defocus_A": 150.0 * (1 + number),
                "unevenness": 0.05,
                **UNKNOWN,
            }
            imaging = ImagingParameters(vibration_A=0.23, absorption=0.044, contrast_factor=1.48)
            image = acquisitions.expose(wave, row, imaging)[0].image
            found[f"bare film {number}, {dose} e/Å²"] = image
    photographs = {"camera": data.camera(), "page of text": data.page(), "coins": data.coins()}
    photographs |= {"moon": data.moon(), "brick": data.brick(), "grass": data.grass()}
    photographs |= {"text": data.text(), "checkerboard": data.checkerboard()}
    gradient = np.add.outer(np.arange(512.0), np.arange(512.0))
    spots = np.abs(np.fft.fftshift(np.fft.fft2(data.brick()))) ** 0.3
    return found | photographs | {"gradient": gradient, "Fourier transform": spots}


def emps(segmenter: Segmenter, folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "table.csv")
    rows = []
    for target in (None, *SCALES_PX):
        shots, scores = [], []
        for row in table.to_dict("records"):
            picture = Image.open(folder / "images" / row["File"]).convert("L")
            label = np.asarray(Image.open(folder / "segmaps" / row["File"])) > 0
            diameter_px = float(row["Median diameter (px)"])
            image = np.asarray(picture)
            shots.append((image, label, diameter_px))
            if target:  # no picture is magnified more than four times
                factor = min(4.0, target / diameter_px)
                size = [max(64, round(side * factor)) for side in picture.size]
                image = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
            found = segmenter.segment(image)
            mask = found.probability.astype(np.float32)
            if target:
                mask = np.asarray(Image.fromarray(mask).resize(picture.size, Image.BILINEAR))
            scores.append((dice(mask > 0.5, label), found.judgement))
        scale = f"{target} px" if target else "as printed"
        rows.append({"median diameter": scale, **summary(scores)})
        rows[-1]["median of Dice"] = float(np.median([score for score, _ in scores]))
        print(pd.DataFrame(rows[-1:]).to_string(index=False), flush=True)
    print("\nthresholds on the same pictures (no scale)")
    print(pd.Series(by_thresholds(shots)).round(3).to_string())
    return pd.DataFrame(rows)


def halves(table: pd.DataFrame, seed: int) -> np.ndarray:
    """Return the half of each picture: articles are never divided, pictures of one look alike."""
    articles = table["DOI"].unique()
    second = np.random.default_rng(seed).permutation(articles)[len(articles) // 2 :]
    return table["DOI"].isin(second).to_numpy().astype(int)


def half_of_emps(segmenter: Segmenter, folder: Path, steps: int, shuffle: bool) -> pd.DataFrame:
    """Train on one half of EMPS and test on the other, and the other way round.

    With ``shuffle`` each picture gets the mask of the next one in training: a network that learned
    nothing of particles.
    """
    from temshift.config.modelling import Augmentation, ModellingParameters, Training
    from temshift.learning.box import PREPROCESSING
    from temshift.learning.inference import optimise_for_inference, predict_micrograph
    from temshift.learning.modelling import train_network_set
    from temshift.learning.segmentation import PreparedMicrograph
    from temshift.microscopy.patches import PatchStack, cut_patches

    table = pd.read_csv(folder / "table.csv").sort_values("File", ignore_index=True)
    table["half"] = halves(table, SEED)
    card = next(iter(boxed_networks()["box"].values())).card  # the same preparation
    shots, parts = [], []
    for row in table.to_dict("records"):
        picture = np.asarray(Image.open(folder / "images" / row["File"]).convert("L"))
        label = np.asarray(Image.open(folder / "segmaps" / row["File"])) > 0
        shots.append((picture, label, float(row["Median diameter (px)"])))
    for i, row in enumerate(table.to_dict("records")):
        picture, label, _ = shots[i]
        if shuffle:
            label = np.asarray(
                Image.fromarray(shots[i - 1][1]).resize(
                    picture.shape[::-1], Image.Resampling.NEAREST
                )
            )
        prepared = PreparedMicrograph(picture, None).of(card)
        images, labels, corners = cut_patches(prepared, label.astype(np.uint8), 512)
        known = {"micrograph_id": row["File"], "specimen_id": row["DOI"], "group": row["DOI"]}
        rows = pd.DataFrame(corners, columns=["row", "column"]).assign(**known, fold=row["half"])
        rows["labelled_px"] = labels.sum(axis=(1, 2), dtype=np.int64)
        parts.append((images, labels, rows))
    attributes = {"split": "emps", "preprocessing": PREPROCESSING.model_dump(mode="json")}
    stack = PatchStack(
        np.concatenate([images for images, _, _ in parts]),
        np.concatenate([labels for _, labels, _ in parts]),
        pd.concat([rows for _, _, rows in parts], ignore_index=True),
        attributes,
    )
    training = Training(
        steps=steps,
        batch_size=4,
        crop_px=192,
        learning_rate=5e-3,
        initialisation="standardised",
        foreground=0.5,
        schedule="one_cycle",
        keep="last",
        hold_out=False,
        learned_above=0.3,
        restarts=1,
    )
    augmentation = Augmentation(pixel_size_factor=(0.5, 2.0), contrast=0.4)
    modelling = ModellingParameters(folds=2, training=training, augmentation=augmentation)
    networks, _ = train_network_set("half", {"emps": stack}, modelling)
    of_half = {n.card.fold: optimise_for_inference(n.build().eval()) for n in networks.values()}
    rows = []
    for row, (picture, label, diameter_px) in zip(table.to_dict("records"), shots, strict=True):
        image = PreparedMicrograph(picture, None).of(card)
        mask = predict_micrograph([of_half[row["half"]]], image, "cpu") > 0.5
        found = {"half": row["half"], "trained on the other half": dice(mask, label)}
        if not shuffle:
            found["box"] = dice(segmenter.segment(picture).mask > 0, label)
            own = by_thresholds([(picture, label, diameter_px)], together=False)
            found |= own
        rows.append(found)
    scores = pd.DataFrame(rows)
    print(f"{len(table)} pictures of {table['DOI'].nunique()} articles; {steps} steps", flush=True)
    summaries = {
        half: part.drop(columns="half").agg(["mean", "median"]).T
        for half, part in [
            ("first", scores[scores["half"] == 0]),
            ("second", scores[scores["half"] == 1]),
            ("both", scores),
        ]
    }
    print(pd.concat(summaries, axis=1).to_string())
    rng = np.random.default_rng(SEED)
    for name in scores.columns.drop(["half", "trained on the other half"]):
        gain = (scores["trained on the other half"] - scores[name]).to_numpy()
        of_article = pd.Series(gain).groupby(table["DOI"]).mean().to_numpy()
        means = rng.choice(of_article, (4000, len(of_article))).mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        print(
            f"gain over {name}: {of_article.mean():+.2f} "
            f"(95 % over articles {low:+.2f} to {high:+.2f})"
        )
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emps", type=Path, help="folder with table.csv, images and segmaps")
    parser.add_argument("--fields", type=int, default=6)
    parser.add_argument("--half", action="store_true", help="train on one half of EMPS")
    parser.add_argument("--steps", type=int, default=800, help="of the training of --half")
    parser.add_argument("--shuffle", action="store_true", help="--half with masks of other images")
    arguments = parser.parse_args()
    pd.options.display.float_format = "{:.2f}".format
    pd.options.display.width = 200
    if arguments.half:
        if not arguments.emps:
            parser.error("--half needs --emps FOLDER")
        half_of_emps(
            Segmenter(boxed_networks()), arguments.emps, arguments.steps, arguments.shuffle
        )
        return
    segmenter = Segmenter(boxed_networks(), trust=boxed_trust())
    print("nothing to see")
    for name, image in nothing().items():
        found = segmenter.segment(np.asarray(image))
        judged = found.judgement
        print(f"{name:32} {judged['verdict']:13} {judged['predicted_dice']:.2f}", flush=True)
    print("\ntwelve conditions")
    simulated(segmenter, arguments.fields)
    if arguments.emps:
        print("\nEMPS")
        emps(segmenter, arguments.emps)


if __name__ == "__main__":
    main()

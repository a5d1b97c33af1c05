"""A made-up study with known answers: results whose expected Dice is given cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from temshift.config.plan import StudyPlan
from temshift.config.reporting import ReportingParameters
from temshift.learning.examples import Example, make_example, pick_examples
from temshift.learning.metrics import scores
from temshift.microscopy.fingerprints import fingerprint
from temshift.reporting.content import ReportContent
from temshift.study import statistics
from temshift.study.explain import explain_gaps, fingerprint_distances, fingerprint_table
from temshift.study.remedies import remedies_table
from temshift.study.transfer import transfer_table

PARAMETERS: dict[str, Any] = {
    "splits": {
        "low": {"where": {"dose_e_per_A2": 80}},
        "mid": {"where": {"dose_e_per_A2": 423}},
        "high": {"where": {"dose_e_per_A2": 884}},
        "silver": {"where": {"material": "Ag"}},
    },
    "studies": {
        "dose": {
            "varies": "dose_e_per_A2",
            "splits": ["low", "mid", "high"],
            "networks": ["high_noise"],
        },
        "material": {"varies": "material", "splits": ["mid", "silver"]},
    },
    "networks": {
        "high_noise": {"train_on": ["high"], "augmentation": {"noise": {"rho_max": 1.75}}}
    },
    "reporting": {"permutations": 200},
    "modelling": {"folds": 3, "training": {"steps": 4}},
    "preprocessing": {},
}

METADATA: dict[str, dict[str, Any]] = {
    "low": {"dose_e_per_A2": 80, "material": "Au", "session": "2024-01-15"},
    "mid": {"dose_e_per_A2": 423, "material": "Au", "session": "2024-01-15"},
    "high": {"dose_e_per_A2": 884, "material": "Au", "session": "2024-01-15"},
    "silver": {"dose_e_per_A2": 421, "material": "Ag", "session": "2022-02-02"},
}

#: The published pattern: high → low breaks, noise mends it, materials hardly matter.
DICE: dict[tuple[str, str], float] = {
    **{("low", s): d for s, d in {"low": 0.85, "mid": 0.87, "high": 0.84}.items()},
    **{("mid", s): d for s, d in {"low": 0.70, "mid": 0.89, "high": 0.89, "silver": 0.88}.items()},
    **{("high", s): d for s, d in {"low": 0.46, "mid": 0.87, "high": 0.92}.items()},
    **{("high_noise", s): d for s, d in {"low": 0.80, "mid": 0.88, "high": 0.91}.items()},
    **{("silver", s): d for s, d in {"mid": 0.87, "silver": 0.89}.items()},
}


def plan(parameters: Mapping[str, Any] = PARAMETERS) -> StudyPlan:
    return StudyPlan.from_parameters(parameters)


def result_row(**values: Any) -> dict[str, Any]:
    """One row of a results table whose counts give (nearly) the Dice that is asked for."""
    labelled = 50_000
    tp = round(values["dice"] * labelled)
    wrong = labelled - tp
    row = {
        "network": "a",
        "protocol": "grouped",
        "fold": 0,
        "test_split": "a",
        "micrograph_id": "m0",
        "specimen_id": "",
        "in_domain": values.get("network", "a") == values.get("test_split", "a"),
        "learned": True,
        "n_patches": 4,
        "tp": tp,
        "fp": wrong,
        "fn": wrong,
        "tn": 4 * 512**2 - tp - 2 * wrong,
        "mean_certainty": 0.95,
        "patch_dice": values["dice"],
        **{k: float(v) for k, v in scores(tp, wrong, wrong).items()},
    }
    row |= {k: v for k, v in values.items() if k != "dice"}
    return {"group": row["specimen_id"] or row["micrograph_id"], **row}


def results_table(
    expected: Mapping[tuple[str, str], float] = DICE,
    protocol: str = "grouped",
    groups: int = 6,
    folds: int = 3,
    noise: float = 0.02,
    seed: int = 0,
    train_on: Callable[[str], list[str]] | None = None,
    fold_sd: float | None = None,
) -> pd.DataFrame:
    """Results of all cells: a specimen's difficulty is shared by all networks, plus noise.

    Folds vary by ``fold_sd``, half the noise if that is not given.
    """
    fold_sd = noise / 2 if fold_sd is None else fold_sd
    rng = np.random.default_rng(seed)
    train_on = train_on or plan().train_on
    splits = list(dict.fromkeys(split for _, split in expected))
    difficulty = {s: rng.normal(0, noise, groups) for s in splits}
    rows = []
    for (network, split), dice in expected.items():
        own = split in train_on(network)
        for fold in range(folds):
            luck = rng.normal(0, fold_sd)
            for i in range(groups):
                if (protocol == "grouped" or own) and i % folds != fold:
                    continue
                value = np.clip(dice + difficulty[split][i] + luck + rng.normal(0, noise / 4), 0, 1)
                rows.append(
                    result_row(
                        network=network,
                        protocol=protocol,
                        fold=fold,
                        test_split=split,
                        micrograph_id=f"{split}/{i}",
                        specimen_id=f"specimen_{i}",
                        in_domain=own,
                        dice=float(value),
                    )
                )
    return pd.DataFrame(rows)


def micrographs_table(
    split: str, groups: int = 6, metadata: Mapping[str, Mapping[str, Any]] = METADATA
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "micrograph_id": [f"{split}/{i}" for i in range(groups)],
            "specimen_id": [f"specimen_{i}" for i in range(groups)],
            "group": [f"specimen_{i}" for i in range(groups)],
            "diameter_nm": 5.0,
            "shape": "sphere",
            "support": "carbon",
            "instrument": "simulated",
            "pixel_size_nm": 0.02,
            "source": "simulated",
            **metadata[split],
        }
    )


def picture(seed: int, side: int = 64, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image of one disc, and its label."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - rng.uniform(0.35, 0.65, 2)[:, None, None] * side
    label = (x**2 + y**2 < (side / 5) ** 2).astype(np.uint8)
    image = rng.normal(0, noise, (side, side)) - label
    return image.astype(np.float32), label


def split_fingerprint(split: str) -> dict[str, Any]:
    """Fingerprint of images whose noise falls with the dose."""
    noise = 20 / np.sqrt(METADATA[split]["dose_e_per_A2"])
    stack = [picture(seed, noise=noise) for seed in range(3)]
    images, labels = (np.stack(part) for part in zip(*stack, strict=True))
    return fingerprint(images, labels, 0.02)


def network_history(network: str, folds: int = 3) -> pd.DataFrame:
    steps = np.arange(1, 5)
    return pd.DataFrame(
        [
            {
                "network": network,
                "protocol": "grouped",
                "fold": fold,
                "restart": 0,
                "step": 30 * step,
                "epoch": float(step),
                "train_loss": 0.7 / step,
                "validation_loss": 0.75 / step + 0.01 * fold,
                "validation_dice": 0.9 - 0.3 / step,
            }
            for fold in range(folds)
            for step in steps
        ]
    )


def network_examples(network: str, results: pd.DataFrame, side: int = 64) -> list[Example]:
    candidates = []
    for i, row in enumerate(results[results["network"] == network].to_dict("records")):
        image, label = picture(i, side)
        prediction = np.roll(label, round((1 - row["dice"]) * side / 3), axis=1)
        names = row["test_split"], row["micrograph_id"]
        candidates.append(make_example(*names, row["dice"], image, label, prediction, 0.02))
    return pick_examples(candidates)


def report_content(
    results: pd.DataFrame | None = None,
    parameters: Mapping[str, Any] = PARAMETERS,
    metadata: Mapping[str, Mapping[str, Any]] = METADATA,
) -> ReportContent:
    """All that the report is made of, worked out as the pipeline's nodes do."""
    results = results_table() if results is None else results
    study = plan(parameters)
    reporting = ReportingParameters(**parameters["reporting"])
    micrographs = {s: micrographs_table(s, metadata=metadata) for s in study.used_splits}
    fingerprints = {s: split_fingerprint(s) for s in study.used_splits}
    matrix = statistics.dice_matrices(results, study, reporting)
    gaps = statistics.compare_with_in_domain(results, study, reporting)
    gains = statistics.compare_robust_training(results, study, reporting)
    distances = fingerprint_distances(gaps, study, fingerprints)
    return ReportContent.from_tables(
        parameters,
        results=results,
        matrix=matrix,
        gaps=gaps,
        gains=gains,
        remedies=remedies_table(matrix, gaps, gains, study, reporting),
        transfer=transfer_table(results, study, reporting),
        confounds=statistics.find_confounds(study, micrographs),
        splits=statistics.splits_table(results, matrix, study, micrographs),
        fingerprints=fingerprint_table(fingerprints),
        distances=distances,
        explanation=explain_gaps(distances, fingerprints, reporting),
        histories=pd.concat([network_history(n) for n in study.trained]),
        examples={n: network_examples(n, results) for n in study.rows},
    )

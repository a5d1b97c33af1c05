"""What helps: the remedies that a study has tested against its losses, and what could be tested.

A remedy is a row of ``networks`` that has the default network of the same training set as its
baseline (:meth:`temshift.config.plan.StudyPlan.baselines`): trained in another way, on more sets,
or with the baseline's weights adapted in the test. It is judged where the baseline loses: on a set
that it was not trained on, by the gain in Dice on the same micrographs. p-values are corrected for
all remedies and sets of the run (Holm), whether the baseline loses there or not: choosing the cells
in which it did badly, of which some only had bad luck, would otherwise find remedies in mere
repetitions of a training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from temshift.config.plan import StudyPlan
from temshift.config.reporting import ReportingParameters
from temshift.study.intervals import holm
from temshift.study.verdicts import LOSSES

__all__ = ["REMEDY_COLUMNS", "remedies_table", "suggested_parameters", "suggestion"]

#: Columns of the table: the shift, the remedy and its Dice there, its gain, what it costs at home.
REMEDY_COLUMNS = (
    *("study", "protocol", "baseline", "test_split", "verdict", "gap", "gap_low", "gap_high"),
    *("n_folds", "n_groups", "remedy", "before", "before_low", "before_high"),
    *("after", "after_low", "after_high", "gain", "gain_low", "gain_high", "p_value", "p_holm"),
    *("effect", "reason", "cost", "cost_low", "cost_high", "left", "left_low", "left_high"),
    "suggestion",
)


def remedies_table(
    matrix: pd.DataFrame,
    gaps: pd.DataFrame,
    gains: pd.DataFrame,
    plan: StudyPlan,
    parameters: ReportingParameters,
) -> pd.DataFrame:
    """Set every shift that degrades or breaks against the remedies that were tested on it.

    Parameters
    ----------
    matrix, gaps, gains : DataFrame
        As made by :mod:`temshift.study.statistics`.
    plan : StudyPlan
    parameters : ReportingParameters

    Returns
    -------
    DataFrame
        :data:`REMEDY_COLUMNS`; one row a shift and remedy tested on it, and one for each shift
        that degrades or breaks without any, whose ``suggestion`` says which parameters would test
        one. ``baseline`` is the network that loses, ``gap`` its loss; ``before`` and ``after`` are
        Dice of baseline and remedy on the test split; ``cost`` is the Dice that the remedy loses
        on the baseline's own split, ``left`` what still lacks to the network of the test split.
        ``effect`` is *helps* or *harms* if ``p_holm`` ≤ 1 − confidence, else *not shown*, as where
        a fold of either network did not learn (``reason``).
    """
    cells, left = _by_cell(matrix), _by_cell(gaps)
    rows: list[dict[str, Any]] = []
    for gap in left.values():
        study, protocol, split = str(gap["study"]), str(gap["protocol"]), str(gap["test_split"])
        baseline = str(gap["network"])
        if baseline not in plan.studies[study].splits:
            continue
        shift = {
            "study": study,
            "protocol": protocol,
            "baseline": baseline,
            "test_split": split,
            "verdict": gap["verdict"],
            **_named("gap", gap, "gap"),
            "n_folds": gap["n_folds"],
            "n_groups": gap["n_groups"],
            "reason": "",
            "suggestion": "",
        }
        tested = _records(
            gains[
                (gains["study"] == study)
                & (gains["protocol"] == protocol)
                & (gains["baseline"] == baseline)
            ]
        )
        there = [
            gain
            for gain in tested
            if gain["test_split"] == split and _is_for(plan, str(gain["network"]), split)
        ]
        home = {str(g["network"]): g for g in tested if g["test_split"] == baseline}
        if not there and gap["verdict"] in LOSSES:
            rows.append({**shift, "remedy": "", "suggestion": suggestion(plan, study, baseline)})
        for gain in there:
            network = str(gain["network"])
            key = (study, protocol, network, split)
            rows.append(
                {
                    **shift,
                    "remedy": network,
                    **_named("before", cells[study, protocol, baseline, split], "dice"),
                    **_named("after", cells[key], "dice"),
                    **_named("gain", gain, "gain"),
                    "p_value": gain["p_value"],
                    "reason": gain["reason"],
                    **(_cost(home[network]) if network in home else {}),
                    **(_named("left", left[key], "gap") if key in left else {}),
                }
            )
    table = pd.DataFrame(rows, columns=[c for c in REMEDY_COLUMNS if c not in ("p_holm", "effect")])
    return _judged(table, parameters)[list(REMEDY_COLUMNS)]


def suggested_parameters(plan: StudyPlan, study: str, baseline: str) -> dict[str, Any]:
    """Return the parameters that would test a remedy for the losses of a network in a study.

    What is suggested depends on what the study varies: noise for the dose, resampling to the
    training pixel size for the pixel size, training on all sets of the study for all else.
    """
    parameters = plan.studies[study]
    if parameters.varies == "dose_e_per_A2":
        name, row = "noise", _trained(baseline, {"noise": {"rho_max": 1.75}})
    elif parameters.varies == "pixel_size_nm":
        name = "resampled"
        row = {"weights_of": baseline, "adaptation": {"pixel_size": True}}
    else:
        others = [split for split in parameters.splits if split != baseline]
        name, row = "and_others", {"train_on": [baseline, *others]}
    new = f"{baseline}_{name}"
    while new in plan.networks or new in plan.splits:
        new += "_2"
    return {
        "networks": {new: row},
        "studies": {study: {"networks": [*parameters.networks, new]}},
    }


def suggestion(plan: StudyPlan, study: str, baseline: str) -> str:
    """Return :func:`suggested_parameters` in a line of YAML for each block, joined by ``; ``."""
    blocks = suggested_parameters(plan, study, baseline)
    return "; ".join(f"{name}: {_flow(block)}" for name, block in blocks.items())


# --------------------------------------------------------------------------- inside
def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _by_cell(table: pd.DataFrame) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the rows of a table by study, protocol, network and test split."""
    keys = ("study", "protocol", "network", "test_split")
    return {tuple(str(row[key]) for key in keys): row for row in _records(table)}


def _is_for(plan: StudyPlan, network: str, split: str) -> bool:
    """Return whether a remedy is meant for a split: one that is tuned to another is not."""
    tuning = plan.networks[network].fine_tuning
    return tuning is None or tuning.split == split


def _trained(baseline: str, augmentation: dict[str, Any]) -> dict[str, Any]:
    return {"train_on": [baseline], "augmentation": augmentation}


def _flow(value: Any) -> str:
    """Return a value as YAML in a line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(entry) for entry in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _named(name: str, row: Mapping[str, Any], value: str) -> dict[str, float]:
    """Return an estimate of a row and the ends of its interval under another name."""
    return {
        name: float(row[value]),
        f"{name}_low": float(row["low"]),
        f"{name}_high": float(row["high"]),
    }


def _cost(home: Mapping[str, Any]) -> dict[str, float]:
    """Return a gain on the own split as a cost."""
    return {
        "cost": -float(home["gain"]) + 0.0,
        "cost_low": -float(home["high"]) + 0.0,
        "cost_high": -float(home["low"]) + 0.0,
    }


def _judged(table: pd.DataFrame, parameters: ReportingParameters) -> pd.DataFrame:
    """Add p-values corrected within each protocol, and what follows from them."""
    corrected = pd.Series(np.nan, table.index)
    for _, rows in table.groupby("protocol"):
        # a comparison that stands in several studies is one
        once = rows.drop_duplicates(["remedy", "baseline", "test_split"])
        keys = ["remedy", "baseline", "test_split"]
        known = once.assign(p=holm(once["p_value"])).set_index(keys)["p"]
        corrected[rows.index] = known.loc[pd.MultiIndex.from_frame(rows[keys])].to_numpy()
    sure = corrected <= 1 - parameters.confidence
    conditions = [table["remedy"] == "", sure & (table["gain"] > 0), sure]
    effect = np.select(conditions, ["", "helps", "harms"], "not shown")
    return table.assign(p_holm=corrected, effect=effect)

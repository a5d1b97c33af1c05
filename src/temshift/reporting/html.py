"""The report: one HTML page that holds everything it shows."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd

import temshift
from temshift.learning.examples import RANKS, Example
from temshift.learning.explain import ALL_STUDIES, COMPONENTS
from temshift.reporting import svg
from temshift.reporting.content import ReportContent
from temshift.reporting.palette import VERDICT_MARKS, dice_colours
from temshift.reporting.pictures import grey_picture, mask_picture, outcome_picture
from temshift.reporting.sentences import (
    condition,
    explanation_sentence,
    headlines,
    number,
    paper_checks,
    study_title,
    with_interval,
)

__all__ = ["render_report"]

_PACKAGES = ("torch", "kedro", "numpy", "scipy", "pandas", "segmentation-models-pytorch", "abtem")
_HISTORY = {"validation_dice": "validation Dice", "train_loss": "training loss"}


def render_report(content: ReportContent) -> str:
    """Return the report as the source of a self-contained HTML page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("temshift.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["svg"] = Markup
    return environment.get_template("report.html").render(
        content=content,
        evaluation=content.evaluation,
        findings=headlines(content),
        checks=paper_checks(content),
        studies=[_study(content, name) for name in content.plan.studies],
        splits=_splits(content),
        fingerprints=_fingerprints(content),
        calibration=_calibration(content),
        explanation=explanation_sentence(content),
        correlations=_correlations(content),
        scatters=_scatters(content),
        histories=_histories(content),
        versions=_versions(),
        parameters=_yaml(content.parameters),
        css=Markup(environment.get_template("report.css").render()),
        marks=VERDICT_MARKS,
        slug=_slug,
        with_interval=with_interval,
    )


# --------------------------------------------------------------------------- one study
def _study(content: ReportContent, name: str) -> dict[str, Any]:
    parameters = content.plan.studies[name]
    confounds = content.confounds[content.confounds["study"] == name]
    return {
        "name": name,
        "title": study_title(content, name),
        "varies": parameters.varies,
        "matrices": [_matrix(content, name, protocol) for protocol in content.protocols],
        "forest": _forest(content, name),
        "confounds": [
            {
                "column": column,
                "values": [
                    (condition(content, name, str(r["split"])), r["value"])
                    for r in rows.to_dict("records")
                ],
            }
            for column, rows in confounds.groupby("column", sort=False)
        ],
        "gains": content.gains[
            (content.gains["study"] == name) & (content.gains["protocol"] == content.protocol)
        ].to_dict("records"),
        "why": explanation_sentence(content, name),
        "examples": _examples(content, name),
        "labels": {s: condition(content, name, s) for s in parameters.splits},
    }


def _matrix(content: ReportContent, study: str, protocol: str) -> dict[str, Any]:
    parameters = content.plan.studies[study]
    gaps = content.study_gaps(study, protocol).set_index(["network", "test_split"])
    rows = []
    for network in dict.fromkeys([*parameters.splits, *parameters.networks]):
        cells = []
        for split in parameters.splits:
            cell = content.cell(network, split, protocol)
            if cell is None:
                cells.append(None)
                continue
            background, colour = dice_colours(float(cell["dice"]))
            verdict = (
                str(gaps.loc[(network, split), "verdict"]) if (network, split) in gaps.index else ""
            )
            cells.append(
                {
                    **cell.to_dict(),
                    "background": background,
                    "colour": colour,
                    "verdict": verdict,
                    "own": network == split,
                }
            )
        if any(cells):
            label = condition(content, study, network) if network in parameters.splits else network
            rows.append({"network": network, "label": label, "cells": cells})
    return {"protocol": protocol, "rows": rows}


def _forest(content: ReportContent, study: str) -> str:
    gaps = content.study_gaps(study)
    if gaps.empty:
        return ""
    rows = [
        svg.Whisker(
            label=f"{_network_label(content, study, g['network'])} → "
            f"{condition(content, study, g['test_split'])}",
            estimate=g["gap"],
            low=g["low"],
            high=g["high"],
            css=f"v-{_slug(g['verdict'])}",
            note=f"gap {with_interval(g['gap'], g['low'], g['high'])}, {g['verdict']}, "
            f"p = {number(g['p_value'], 3)}, n = {g['n_groups']}",
        )
        for g in gaps.to_dict("records")
    ]
    limits = (content.evaluation.degrades_below, content.evaluation.breaks_below)
    return svg.forest(rows, limits, "loss of Dice against the in-domain network of the test set")


def _network_label(content: ReportContent, study: str, network: str) -> str:
    known = network in content.plan.studies[study].splits
    return condition(content, study, network) if known else network


def _examples(content: ReportContent, study: str) -> list[dict[str, Any]]:
    """Return the cells with pictures, the largest gap first."""
    parameters = content.plan.studies[study]
    gaps = content.study_gaps(study).set_index(["network", "test_split"])["gap"]
    cells = []
    for network in dict.fromkeys([*parameters.splits, *parameters.networks]):
        for split in parameters.splits:
            found = [e for e in content.examples.get(network, []) if e.test_split == split]
            if found:
                gap = float(gaps.get((network, split), 0.0))
                cells.append(
                    {
                        "network": _network_label(content, study, network),
                        "split": condition(content, study, split),
                        "own": network == split,
                        "gap": gap,
                        "pictures": [_pictures(e) for e in sorted(found, key=_rank)],
                    }
                )
    return sorted(cells, key=lambda c: -c["gap"])


def _rank(example: Example) -> int:
    return RANKS.index(example.rank)


def _pictures(example: Example) -> dict[str, Any]:
    return {
        "rank": example.rank,
        "micrograph_id": example.micrograph_id,
        "dice": example.dice,
        "image": grey_picture(example.image),
        "label": mask_picture(example.label),
        "prediction": outcome_picture(example.label, example.prediction),
    }


# --------------------------------------------------------------------------- the data
def _splits(content: ReportContent) -> list[dict[str, Any]]:
    rows = content.splits.reset_index().to_dict("records")
    units = {"dose_e_per_A2": "e/Å²", "pixel_size_nm": "nm/px", "diameter_nm": "nm"}
    return [
        {**row, **{k: f"{row[k]} {unit}" if row[k] else "" for k, unit in units.items()}}
        for row in rows
    ]


def _fingerprints(content: ReportContent) -> list[dict[str, Any]]:
    wanted = ("contrast", "contrast_to_noise", "noise", "roughness_per_px2", "autocorrelation_1_0")
    wanted += ("diameter_px", "diameter_nm")
    table = content.fingerprints.reindex(columns=list(wanted)).astype(float)
    return table.reset_index().to_dict("records")


def _calibration(content: ReportContent) -> dict[str, Any]:
    """Return how closely the simulation was calibrated: the parameters' block ``calibration``."""
    block = content.parameters.get("calibration") or {}
    if isinstance(block, str):
        block = {"summary": block}
    rows = block.get("table") or []
    return {
        "summary": block.get("summary", ""),
        "columns": list(dict.fromkeys(k for row in rows for k in row)),
        "rows": rows,
        "imaging": (content.parameters.get("simulation") or {}).get("imaging") or {},
    }


# --------------------------------------------------------------------------- why
def _correlations(content: ReportContent) -> list[dict[str, Any]]:
    e = content.explanation
    e = e[(e["scope"] == ALL_STUDIES) & (e["protocol"] == content.protocol)]
    rows = e.sort_values("rho", ascending=False).to_dict("records")
    return [{**row, "title": COMPONENTS[row["component"]]} for row in rows]


def _scatters(content: ReportContent) -> list[str]:
    d = content.distances
    d = d[d["protocol"] == content.protocol]
    if d.empty:
        return []
    studies = list(content.plan.studies)
    y_range = _padded(d["gap"])
    charts = []
    for row in _correlations(content):
        part = d[d["component"] == row["component"]]
        points = [
            svg.Point(
                p["distance"],
                p["gap"],
                f"s{studies.index(p['study']) % 8}",
                f"{p['train_split']} → {p['test_split']} ({p['study']}): gap {number(p['gap'])}",
            )
            for p in part.to_dict("records")
        ]
        charts.append(
            svg.scatter(
                points, row["title"], f"ρ = {number(row['rho'])}, n = {row['n_pairs']}", y_range
            )
        )
    return charts


# --------------------------------------------------------------------------- training
def _histories(content: ReportContent) -> list[dict[str, Any]]:
    histories = content.histories
    histories = histories[histories["protocol"].isin(content.protocols)]
    if histories.empty:
        return []
    loss = histories[["train_loss", "validation_loss"]].to_numpy(float)
    top = float(np.nanquantile(loss, 0.98)) if np.isfinite(loss).any() else 1.0
    groups = []
    for protocol, part in histories.groupby("protocol", sort=False):
        charts = []
        for network, own in part.groupby("network", sort=False):
            charts.append(
                svg.line_chart(
                    _lines(own, "validation_dice", "dice"), str(network), (0.0, 1.0), "step"
                )
            )
        losses = [
            svg.line_chart(
                [*_lines(own, "train_loss", "train"), *_lines(own, "validation_loss", "valid")],
                str(network),
                (0.0, top * 1.05),
                "step",
            )
            for network, own in part.groupby("network", sort=False)
        ]
        groups.append({"protocol": protocol, "dice": charts, "loss": losses})
    return groups


def _lines(history: pd.DataFrame, quantity: str, css: str) -> Iterable[svg.Line]:
    return [
        svg.Line(fold["step"].tolist(), fold[quantity].astype(float).tolist(), css)
        for _, fold in history.groupby("fold")
    ]


# --------------------------------------------------------------------------- inside
def _padded(values: pd.Series) -> tuple[float, float]:
    low, high = min(0.0, float(values.min())), max(0.05, float(values.max()))
    pad = 0.06 * (high - low)
    return low - pad, high + pad


def _slug(text: str) -> str:
    return str(text).replace(" ", "-").replace("_", "-")


def _versions() -> dict[str, str]:
    found = {"temshift": temshift.__version__, "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _yaml(parameters: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(
        json.loads(json.dumps(parameters, default=str)),
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )

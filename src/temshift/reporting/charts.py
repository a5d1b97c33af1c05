"""What the charts of a study show: its shifts and its matrix, for the page and for print."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from temshift.reporting import svg
from temshift.reporting.content import ReportContent, records
from temshift.reporting.palette import MARKS, WORST_LOSS, loss_colours
from temshift.reporting.sentences import (
    condition,
    headlines,
    judged_of,
    number,
    study_phrase,
    with_interval,
)
from temshift.study.verdicts import surest

__all__ = [
    "forest",
    "loss_scale",
    "matrix",
    "matrix_rows",
    "network_label",
    "overview",
    "slug",
]


def overview(content: ReportContent, width: int = 760, narrow: bool = False) -> str:
    """Draw all shifts between image sets, a row a study, in the order of the findings.

    Empty where no study compares networks.
    """
    rows = []
    for finding in headlines(content):
        gaps = content.default_gaps(finding.study)
        judged = judged_of(gaps)
        spoken_of = surest(judged if len(judged) else gaps).name
        last = gaps.index == spoken_of
        marks = [
            _whisker(content, finding.study, g)
            for g in records(pd.concat([gaps[~last], gaps[last]]))
        ]
        rows.append(svg.Strip(finding.title, f"#study-{slug(finding.study)}", marks))
    if not rows:
        return ""
    title = "loss of Dice against the network that was trained on the test set"
    if narrow:
        title = "loss of Dice against the test set’s own network"
    bands = ("robust", "degrades", "breaks")
    return svg.strips(rows, _limits(content), bands, title, width, narrow)


def forest(content: ReportContent, study: str, width: int = 760, narrow: bool = False) -> str:
    """Draw all losses of a study with their intervals, on the axis of all studies.

    Empty where the study compares nothing.
    """
    gaps = content.study_gaps(study)
    if gaps.empty:
        return ""
    every = [
        _whisker(content, name, g)
        for name in content.plan.studies
        for g in records(content.study_gaps(name))
    ]
    rows = [_whisker(content, study, g) for g in records(gaps)]
    limits = _limits(content)
    title = "loss of Dice against the test set’s own network"
    return svg.forest(rows, limits, title, width, svg.axis_range(every, limits), narrow)


def matrix(content: ReportContent, study: str, width: int = 640) -> str:
    """Draw the train × test matrix of a study under the protocol that sentences speak of.

    Empty where no network of the study was tested.
    """
    rows = matrix_rows(content, study, content.protocol)
    if not rows:
        return ""
    phrase = study_phrase(content, study)
    return svg.matrix(
        [(row["label"], [_drawn(cell) for cell in row["cells"]]) for row in rows],
        [condition(content, study, split) for split in content.plan.studies[study].splits],
        (f"trained {phrase}", f"tested {phrase}"),
        loss_scale(),
        "Dice lost against the test set’s own network",
        width,
    )


def matrix_rows(content: ReportContent, study: str, protocol: str) -> list[dict[str, Any]]:
    """Return the rows of a study's matrix: ``network``, ``label`` and ``cells``.

    A cell is ``None`` where nothing was tested; otherwise the row of ``matrix.csv`` with ``loss``
    (0 of a set's own network, NaN where nothing is compared), ``verdict`` (empty there), ``own``,
    ``background`` and ``colour``.
    """
    parameters = content.plan.studies[study]
    gaps = content.study_gaps(study, protocol).set_index(["network", "test_split"])
    losses = gaps["gap"].astype(float).to_dict()
    rows = []
    for network in dict.fromkeys([*parameters.splits, *parameters.networks]):
        cells: list[dict[str, Any] | None] = []
        for split in parameters.splits:
            cell = content.cell(network, split, protocol)
            if cell is None:
                cells.append(None)
                continue
            compared = (network, split) in gaps.index
            loss = losses.get((network, split), float("nan"))
            verdict = str(gaps.loc[(network, split), "verdict"]) if compared else ""
            loss = 0.0 if network == split else loss
            background, colour = loss_colours(loss)
            cells.append(
                {
                    **{str(k): v for k, v in cell.items()},
                    "loss": loss,
                    "background": background,
                    "colour": colour,
                    "verdict": verdict,
                    "own": network == split,
                }
            )
        if any(cells):
            label = network_label(content, study, network)
            rows.append({"network": network, "label": label, "cells": cells})
    return rows


def loss_scale() -> list[tuple[str, str]]:
    """Return labels and colours of the bar of a matrix."""
    return [(f"{loss:g}", loss_colours(loss)[0]) for loss in np.linspace(0, WORST_LOSS, 6)]


def network_label(content: ReportContent, study: str, network: str) -> str:
    """Return how a study calls a network: by the condition of its set, or by its name."""
    known = network in content.plan.studies[study].splits
    return condition(content, study, network) if known else network


def slug(text: str) -> str:
    """Return a name as it stands in ids and classes of the page."""
    return str(text).replace(" ", "-").replace("_", "-")


# --------------------------------------------------------------------------- inside
def _whisker(content: ReportContent, study: str, g: dict[str, Any]) -> svg.Whisker:
    """Return a gap as a row of a chart."""
    return svg.Whisker(
        label=f"{network_label(content, study, g['network'])} → "
        f"{condition(content, study, g['test_split'])}",
        estimate=g["gap"],
        low=g["low"],
        high=g["high"],
        css=f"v-{slug(g['verdict'])}",
        value=with_interval(g["gap"], g["low"], g["high"]),
        note=f"{g['network']} on {g['test_split']}: "
        f"{with_interval(g['gap'], g['low'], g['high'])}, {g['verdict']}, "
        f"p = {number(g['p_value'], 3)} ({number(g['p_holm'], 3)} corrected), "
        f"n = {g['n_groups']} in {g['n_folds']} folds"
        + (f"; {g['reason']}" if g["reason"] else ""),
        mark=MARKS[g["verdict"]],
        bounds=(g["bound_low"], g["bound_high"]),
    )


def _drawn(cell: dict[str, Any] | None) -> svg.Cell | None:
    if cell is None:
        return None
    known = np.isfinite([cell["low"], cell["high"]]).all()
    return svg.Cell(
        value=number(cell["dice"]),
        interval=f"{number(cell['low'])} – {number(cell['high'])}" if known else "",
        mark=MARKS.get(cell["verdict"], ""),
        css=f"v-{slug(cell['verdict'])}" if cell["verdict"] else "own",
        background="none" if cell["background"] == "transparent" else cell["background"],
        colour="#1c2430" if cell["colour"] == "inherit" else cell["colour"],
        own=cell["own"],
    )


def _limits(content: ReportContent) -> tuple[float, float]:
    return content.reporting.degrades_above, content.reporting.breaks_above

"""Interactive figures (plotly), which Kedro-Viz and notebooks show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from temshift.reporting.charts import loss_scale, matrix_rows, network_label
from temshift.reporting.content import ReportContent, records
from temshift.reporting.palette import (
    MARKS,
    PLOTLY_SYMBOLS,
    VERDICT_COLOURS,
    WORST_LOSS,
    verdict_colour,
)
from temshift.reporting.sentences import condition, study_phrase, with_interval

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["gaps_figure", "histories_figure", "matrix_figure"]


def matrix_figure(content: ReportContent, study: str) -> Figure:
    """Draw the train × test matrix of one study, protocols side by side.

    Coloured by loss on the scale of the report's matrices, the same in all studies; a cell says
    Dice, interval and verdict with its mark.

    Parameters
    ----------
    content : ReportContent
    study : str
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    tables = {p: matrix_rows(content, study, p) for p in content.protocols}
    tables = {protocol: rows for protocol, rows in tables.items() if rows}
    figure = make_subplots(
        cols=max(len(tables), 1),
        subplot_titles=[f"protocol {p}" for p in tables] if len(tables) > 1 else None,
    )
    conditions = [condition(content, study, s) for s in content.plan.studies[study].splits]
    for column, rows in enumerate(tables.values(), start=1):
        labels = _distinct([row["label"] for row in rows], [row["network"] for row in rows])
        splits = _distinct(conditions, content.plan.studies[study].splits)
        cells = [row["cells"] for row in rows]
        figure.add_trace(
            go.Heatmap(
                z=[[_loss(cell) for cell in row] for row in cells],
                x=splits,
                y=labels,
                text=[[_said(cell) for cell in row] for row in cells],
                texttemplate="%{text}",
                hovertemplate="trained: %{y}<br>tested: %{x}<br>Dice %{text}<br>"
                "loss %{z:.2f}<extra></extra>",
                coloraxis="coloraxis",
                xgap=2,
                ygap=2,
            ),
            row=1,
            col=column,
        )
        phrase = study_phrase(content, study)
        figure.update_yaxes(autorange="reversed", title=f"trained {phrase}", row=1, col=column)
        figure.update_xaxes(title=f"tested {phrase}", row=1, col=column)
    figure.update_layout(
        title=content.plan.title(study),
        coloraxis={
            "colorscale": [[i / 5, colour] for i, (_, colour) in enumerate(loss_scale())],
            "cmin": 0,
            "cmax": WORST_LOSS,
            "colorbar": {"title": "Dice lost"},
        },
        template="plotly_white",
    )
    return figure


def gaps_figure(content: ReportContent) -> Figure:
    """Draw every gap to the in-domain network with its interval, a panel a study.

    Under the protocol that sentences speak of; the losses, names and verdicts of the report.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    tables = {study: content.study_gaps(study) for study in content.plan.studies}
    tables = {study: gaps for study, gaps in tables.items() if len(gaps)}
    heights = [len(gaps) for gaps in tables.values()] or [1]
    figure = make_subplots(
        rows=max(len(tables), 1),
        shared_xaxes=True,
        row_heights=heights,
        vertical_spacing=0.25 / max(len(tables), 2) ** 1.5,
        subplot_titles=[content.plan.title(study) for study in tables] or None,
    )
    shown: set[str] = set()
    for row, (study, gaps) in enumerate(tables.items(), start=1):
        labels = [
            f"{network_label(content, study, g['network'])} → "
            f"{condition(content, study, g['test_split'])}"
            for g in records(gaps)
        ]
        names = (gaps["network"] + " → " + gaps["test_split"]).tolist()
        gaps = gaps.assign(label=_distinct(labels, names))
        for verdict, part in gaps.groupby("verdict", sort=False):
            figure.add_trace(
                go.Scatter(
                    x=part["gap"],
                    y=part["label"],
                    error_x={
                        "symmetric": False,
                        "array": part["high"] - part["gap"],
                        "arrayminus": part["gap"] - part["low"],
                    },
                    mode="markers",
                    marker={
                        "color": verdict_colour(str(verdict)),
                        "symbol": PLOTLY_SYMBOLS[str(verdict)],
                        "size": 9,
                    },
                    name=str(verdict),
                    legendgroup=str(verdict),
                    showlegend=verdict not in shown,
                ),
                row=row,
                col=1,
            )
            shown.add(str(verdict))
    parameters = content.reporting
    for limit, verdict in (
        (parameters.degrades_above, "degrades"),
        (parameters.breaks_above, "breaks"),
    ):
        figure.add_vline(x=limit, line={"dash": "dot", "color": VERDICT_COLOURS[verdict]})
    figure.update_xaxes(
        title="loss of Dice against the test set’s own network", row=max(len(tables), 1)
    )
    figure.update_layout(template="plotly_white", height=140 + 22 * sum(heights) + 40 * len(tables))
    return figure


def histories_figure(histories: pd.DataFrame) -> Figure:
    """Draw losses and validation Dice of every network against the training step."""
    import plotly.graph_objects as go
    from plotly.colors import qualitative
    from plotly.subplots import make_subplots

    shown = {
        "train_loss": "training loss",
        "validation_loss": "validation loss",
        "validation_dice": "validation Dice",
    }
    figure = make_subplots(cols=3, subplot_titles=list(shown.values()))
    colours = qualitative.Dark24
    for i, (network, own) in enumerate(histories.groupby("network", sort=False)):
        for column, quantity in enumerate(shown, start=1):
            # one line a network: the folds follow each other, with a break between them
            x, y = [], []
            for _, fold in own.groupby(["protocol", "fold", "restart"]):
                x += [*fold["step"].tolist(), None]
                y += [*fold[quantity].replace(np.nan, None).tolist(), None]
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=y,
                    mode="lines+markers",
                    line={"color": colours[i % len(colours)], "width": 1.5},
                    marker={"size": 4},
                    name=str(network),
                    legendgroup=str(network),
                    showlegend=column == 1,
                ),
                row=1,
                col=column,
            )
    figure.update_xaxes(title="step")
    figure.update_layout(template="plotly_white")
    return figure


# --------------------------------------------------------------------------- inside
def _loss(cell: dict[str, Any] | None) -> float | None:
    """Return the loss that colours a cell: 0 of a set's own network; None where none is known."""
    if cell is None or not np.isfinite(cell["loss"]):
        return None
    return float(cell["loss"])


def _said(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return ""
    dice = with_interval(cell["dice"], cell["low"], cell["high"]).replace(" ", "<br>", 1)
    return f"{dice}<br>{MARKS[cell['verdict']]} {cell['verdict']}" if cell["verdict"] else dice


def _distinct(labels: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return labels, with the name behind those that occur more than once: plotly joins equals."""
    return [
        label if labels.count(label) == 1 else f"{label} ({name})"
        for label, name in zip(list(labels), names, strict=True)
    ]

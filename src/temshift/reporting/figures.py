"""Interactive figures (plotly), which Kedro-Viz and notebooks show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from temshift.config.reporting import ReportingParameters
from temshift.reporting.palette import PLOTLY_SYMBOLS, VERDICT_COLOURS, verdict_colour

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["gaps_figure", "histories_figure", "matrix_figure"]


def matrix_figure(matrix: pd.DataFrame) -> Figure:
    """Draw the train × test matrix of one study, protocols side by side.

    Parameters
    ----------
    matrix : DataFrame
        Rows of one study (:func:`temshift.study.statistics.dice_matrices`).
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    protocols = list(dict.fromkeys(matrix["protocol"]))
    figure = make_subplots(
        cols=max(len(protocols), 1), subplot_titles=[f"protocol {p}" for p in protocols] or None
    )
    for column, protocol in enumerate(protocols, start=1):
        part = matrix[matrix["protocol"] == protocol]
        networks = list(dict.fromkeys(part["network"]))
        splits = list(dict.fromkeys(part["test_split"]))
        cells = part.set_index(["network", "test_split"])
        order = pd.MultiIndex.from_product([networks, splits])
        shape = (len(networks), len(splits))
        dice, low, high = (
            cells[key].reindex(order).to_numpy(float).reshape(shape)
            for key in ("dice", "low", "high")
        )
        text = [
            [f"{dice[i, j]:.2f}<br>[{low[i, j]:.2f}, {high[i, j]:.2f}]" for j in range(shape[1])]
            for i in range(shape[0])
        ]
        heat = go.Heatmap(
            z=dice,
            x=splits,
            y=networks,
            text=text,
            texttemplate="%{text}",
            hovertemplate="trained: %{y}<br>tested: %{x}<br>Dice %{text}<extra></extra>",
            coloraxis="coloraxis",
        )
        figure.add_trace(heat, row=1, col=column)
        figure.update_yaxes(autorange="reversed", title="network", row=1, col=column)
        figure.update_xaxes(title="tested on", row=1, col=column)
    figure.update_layout(
        coloraxis={"colorscale": "Blues", "cmin": 0, "cmax": 1, "colorbar": {"title": "Dice"}},
        template="plotly_white",
    )
    return figure


def gaps_figure(gaps: pd.DataFrame, parameters: ReportingParameters) -> Figure:
    """Draw every gap to the in-domain network with its interval, a panel a study.

    Parameters
    ----------
    gaps : DataFrame
        Rows of one protocol (:func:`temshift.study.statistics.compare_with_in_domain`).
    parameters : ReportingParameters
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    studies = list(dict.fromkeys(gaps["study"]))
    heights = [max(int((gaps["study"] == s).sum()), 1) for s in studies] or [1]
    figure = make_subplots(
        rows=max(len(studies), 1),
        shared_xaxes=True,
        row_heights=heights,
        vertical_spacing=0.25 / max(len(studies), 2) ** 1.5,
        subplot_titles=studies or None,
    )
    shown: set[str] = set()
    for row, study in enumerate(studies, start=1):
        for verdict, part in gaps[gaps["study"] == study].groupby("verdict", sort=False):
            figure.add_trace(
                go.Scatter(
                    x=part["gap"],
                    y=part["network"] + " → " + part["test_split"],
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
    for limit, verdict in (
        (parameters.degrades_above, "degrades"),
        (parameters.breaks_above, "breaks"),
    ):
        figure.add_vline(x=limit, line={"dash": "dot", "color": VERDICT_COLOURS[verdict]})
    figure.update_xaxes(title="Dice of the in-domain network − Dice", row=max(len(studies), 1))
    figure.update_layout(
        template="plotly_white", height=140 + 22 * sum(heights) + 40 * len(studies)
    )
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

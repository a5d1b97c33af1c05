"""The page of a network tuned on a few labels: its learning curve and what it costs elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

import temshift
from temshift.config.fine_tuning import FewLabelsParameters
from temshift.reporting.sentences import number

__all__ = ["learning_curve_chart", "render_fine_tuning"]


def render_fine_tuning(
    curve: pd.DataFrame,
    scores: pd.DataFrame,
    sentences: Sequence[str],
    start: str,
    folds: int,
    parameters: FewLabelsParameters,
) -> str:
    """Return the source of a self-contained HTML page.

    Parameters
    ----------
    curve : DataFrame
        Of :func:`temshift.study.few_labels.curve_table`.
    scores : DataFrame
        What it was made of.
    sentences : sequence of str
        What may be concluded, and what else to know.
    start : str
        Network that was tuned.
    folds : int
        How many it has.
    parameters : FewLabelsParameters
    """
    import yaml
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("temshift.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    held_out = scores[scores["labelled_micrographs"] == 0]["tested_on"].unique()[:1]
    shown = curve[curve["tested_on"].isin(held_out)]
    by_name = scores[scores["tested_on"].isin(held_out)].pivot_table(
        index="micrograph", columns="labelled_micrographs", values="dice", sort=True
    )
    return environment.get_template("fine_tuning.html").render(
        css=Markup(
            "".join(
                environment.get_template(name).render()
                for name in ("report.css", "micrographs.css")
            )
        ),
        version=temshift.__version__,
        sentences=list(sentences),
        start=start,
        folds=folds,
        parameters=parameters,
        rows=curve.to_dict("records"),
        chart=Markup(learning_curve_chart(shown)) if len(shown) > 1 else "",
        numbers=list(by_name.columns),
        micrographs=[
            (name, list(values))
            for name, values in zip(by_name.index, by_name.to_numpy(), strict=True)
        ],
        yaml=yaml.safe_dump(
            {"fine_tuning": parameters.model_dump(mode="json")}, sort_keys=False, allow_unicode=True
        ),
    )


def learning_curve_chart(
    curve: pd.DataFrame,
    amount: str = "labelled_micrographs",
    axis_title: str = "labelled micrographs",
    width: int = 440,
    height: int = 220,
) -> str:
    """Return the Dice by the amount of labels or of training, with intervals, as inline SVG.

    Parameters
    ----------
    curve : DataFrame
        ``dice, dice_low, dice_high`` of one test set, by the column ``amount``.
    amount, axis_title : str
        What is counted, and how it is called.
    width, height : int
        Of the drawing, px.
    """
    left, right, top, bottom = 40, 14, 12, 36
    room, tall = width - left - right, height - top - bottom
    rows = curve.to_dict("records")
    base = top + tall

    def across(i: int) -> float:
        return left + room * (i + 0.5) / len(rows)

    def up(value: float) -> float:
        return base - tall * min(max(value, 0.0), 1.0)

    parts = [
        f'<svg class="chart" style="max-width:{width}px" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Dice on micrographs held out by number of {axis_title}">'
    ]
    for level in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = up(level)
        parts.append(
            f'<line class="zero" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" '
            f'opacity="{1 if level == 0 else 0.25}"/>'
            f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{level:g}</text>'
        )
    line = " ".join(f"{across(i):.1f},{up(row['dice']):.1f}" for i, row in enumerate(rows))
    parts.append(f'<polyline points="{line}" fill="none" stroke="currentColor" opacity="0.5"/>')
    for i, row in enumerate(rows):
        x, k = across(i), f"{row[amount]:g}"
        note = f"{k} {axis_title}: Dice {row['dice']:.3f}"
        if pd.notna(row["dice_low"]):
            note += f" [{row['dice_low']:.3f}, {row['dice_high']:.3f}]"
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{up(row["dice_low"]):.1f}" '
                f'y2="{up(row["dice_high"]):.1f}" stroke="currentColor" stroke-width="1.5"/>'
            )
        parts.append(
            f'<circle cx="{x:.1f}" cy="{up(row["dice"]):.1f}" r="4" fill="currentColor">'
            f"<title>{note}</title></circle>"
            f'<text class="tick" x="{x:.1f}" y="{base + 15}" text-anchor="middle">{k}</text>'
        )
    parts.append(
        f'<text class="axis-title" x="{left + room / 2:.0f}" y="{height - 4}" '
        f'text-anchor="middle">{axis_title}</text>'
    )
    return "".join(parts) + "</svg>"


def _number(value: Any, digits: int = 2) -> str:
    return "–" if value is None or pd.isna(value) else number(float(value), digits)

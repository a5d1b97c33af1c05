"""The page of a sweep: its trials in order, and what may be concluded."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

import temshift
from temshift.config.sweep import SweepParameters
from temshift.reporting.fine_tuning import learning_curve_chart
from temshift.study.sweeps import DEFAULTS, best_sentence, curve_sentences

__all__ = ["as_network", "render_sweep"]


def render_sweep(table: pd.DataFrame, curve: pd.DataFrame, sweep: SweepParameters) -> str:
    """Return the source of a self-contained HTML page.

    Parameters
    ----------
    table : DataFrame
        Of :func:`temshift.study.sweeps.rank_trials`.
    curve : DataFrame
        Of :func:`temshift.study.sweeps.learning_curve`; empty if there is none.
    sweep : SweepParameters
    """
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
    trials = table[(table["trial"] != DEFAULTS) & table["validation_dice"].notna()]
    rows = [{**row, "settings": json.loads(row["settings"])} for row in table.to_dict("records")]
    for row in rows:
        row["reason"] = "" if pd.isna(row["failed"]) else row["failed"]
    best = json.loads(trials["settings"].iloc[0]) if len(trials) else {}
    return environment.get_template("sweep.html").render(
        css=Markup(environment.get_template("report.css").render()),
        version=temshift.__version__,
        sentence=best_sentence(table),
        keys=list(sweep.varied),
        rows=rows,
        curves=[
            {
                "title": name if other == "{}" else f"{name}; {other}",
                "chart": Markup(learning_curve_chart(rows, "amount", str(rows["axis"].iloc[0]))),
                "rows": rows.to_dict("records"),
            }
            for (other, name), rows in curve.groupby(["settings", "tested_on"], sort=False)
        ],
        curve_sentences=curve_sentences(curve),
        best=as_network(best) if best else "",
        defaults=DEFAULTS,
    )


def as_network(settings: dict[str, Any]) -> str:
    """Return settings of a trial as the parameters that make a row of the matrices of it.

    Those of ``preprocessing`` belong to a split, and stand there.
    """
    import yaml

    network: dict[str, Any] = {"train_on": settings.get("train_on", ["..."])}
    own: dict[str, Any] = {}
    for key, value in settings.items():
        first, *rest = key.split(".")
        block = {"modelling": network, "preprocessing": own}.get(first)
        if block is not None:
            for name in rest[:-1]:
                block = block.setdefault(name, {})
            block[rest[-1]] = value
    data: dict[str, Any] = {"networks": {"from_sweep": network}}
    if own:
        data["splits"] = {"...": {"preprocessing": own}}
    return yaml.safe_dump(data, sort_keys=False)


def _number(value: Any, digits: int = 3) -> str:
    return "–" if pd.isna(value) else f"{value:.{digits}f}"

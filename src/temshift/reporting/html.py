"""The report: one HTML page that holds everything it shows."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd

import temshift
from temshift.config.modelling import ModellingParameters
from temshift.reporting import charts, svg
from temshift.reporting.charts import network_label, slug
from temshift.reporting.content import ReportContent, range_in_words, records
from temshift.reporting.palette import MARKS
from temshift.reporting.panels import Panels, example_figure, shown_examples
from temshift.reporting.pictures import Pictures
from temshift.reporting.remedies import remedies_section, remedy_in_words
from temshift.reporting.sentences import (
    both_ways_sentence,
    condition,
    dropped,
    explanation_sentence,
    first_sentences,
    flat,
    headlines,
    limits,
    number,
    own_settings,
    paper_checks,
    separation_notes,
    study_phrase,
    study_transfer,
    unseen,
    with_interval,
)
from temshift.study.explain import ALL_STUDIES, COMPONENTS

__all__ = ["render_report"]

_PACKAGES = ("torch", "kedro", "numpy", "scipy", "pandas", "segmentation-models-pytorch", "abtem")


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
    environment.filters["unbroken"] = _unbroken
    worst = {name: _worst_cell(content, name) for name in content.plan.studies}
    panels = Panels(content)
    pictures = Pictures(
        [*panels.examples, *(e for cell in worst.values() for e in shown_examples(content, cell))]
    )
    context = {
        "content": content,
        "reporting": content.reporting,
        "answers": first_sentences(content),
        "findings": headlines(content),
        "overview": charts.overview(content),
        "marks": MARKS,
        "loss_scale": charts.loss_scale(),
        "checks": paper_checks(content),
        "separation_notes": separation_notes(content),
        "unseen": unseen(content),
        "studies": [
            _study(content, name, worst[name], panels, pictures) for name in content.plan.studies
        ],
        "panels": panels.all(pictures),
        "numbered": _Numbers(),
        "splits": _splits(content),
        "fingerprints": _fingerprints(content),
        "nm": bool(content.fingerprints["diameter_nm"].notna().any()),
        "own_preprocessing": {
            name: flat(split.preprocessing)
            for name, split in content.plan.splits.items()
            if split.preprocessing and name in content.splits.index
        },
        "calibration": _calibration(content),
        "quality": [] if content.integrity is None else records(content.integrity),
        "explanation": explanation_sentence(content),
        "remedies": remedies_section(content),
        "scatters": _scatters(content),
        "histories": _histories(content),
        "training": _training(content),
        "versions": _versions(),
        "run": _run(content),
        "seeds": _seed_list(content.parameters),
        "limits": limits(content),
        "dropped": dropped(content),
        "parameters": _yaml(content.parameters),
        "slug": slug,
        "with_interval": with_interval,
    }
    css = environment.get_template("report.css").render()
    return environment.get_template("report.html").render(**context, css=Markup(css))


class _Numbers:
    """Numbers figures and tables in the order in which they stand on the page."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def __call__(self, kind: str) -> str:
        self._last[kind] = self._last.get(kind, 0) + 1
        return f"{kind} {self._last[kind]}"


def _unbroken(path: str) -> Any:
    """Return a path whose parts break as a whole: after a slash, not within a date."""
    from markupsafe import Markup

    parts = [Markup('<span class="whole">{}</span>').format(part) for part in path.split("/")]
    return Markup("/<wbr>").join(parts)


# --------------------------------------------------------------------------- one study
def _study(
    content: ReportContent,
    name: str,
    worst: tuple[str, str] | None,
    panels: Panels,
    pictures: Pictures,
) -> dict[str, Any]:
    parameters = content.plan.studies[name]
    gains = content.gains
    gains = gains[(gains["study"] == name) & (gains["protocol"] == content.protocol)]
    confounds = content.confounds[content.confounds["study"] == name]
    return {
        "name": name,
        "heading": content.plan.title(name),
        "varies": _title(content, parameters.varies),
        "phrase": study_phrase(content, name),
        "matrices": [_matrix(content, name, protocol, panels) for protocol in content.protocols],
        "forest": charts.forest(content, name),
        "narrow_forest": charts.forest(content, name, 360, narrow=True),
        "confounds": [
            {
                "column": _title(content, str(column)),
                "values": [
                    (condition(content, name, str(r["split"])), _confound(content, r))
                    for r in records(rows)
                ],
            }
            for column, rows in confounds.groupby("column", sort=False)
        ],
        "gains": records(gains),
        "transfer": records(study_transfer(content, name)),
        "both_ways": both_ways_sentence(content, name),
        "further": [{"network": n, "is": _made(content, n)} for n in parameters.networks],
        "why": explanation_sentence(content, name),
        "worst": _shown_worst(content, name, worst, pictures),
        "labels": {s: condition(content, name, s) for s in parameters.splits},
    }


def _matrix(content: ReportContent, study: str, protocol: str, panels: Panels) -> dict[str, Any]:
    rows = charts.matrix_rows(content, study, protocol)
    for row in rows:
        for cell in filter(None, row["cells"]):
            cell["panel"] = panels.id(protocol, row["network"], cell["test_split"])
    return {"protocol": protocol, "rows": rows}


def _made(content: ReportContent, network: str) -> str:
    """Say how a further network came about: ``is trained on low with augmentation.flip true``."""
    own = content.plan.networks[network]
    if own.imported:
        return "has imported weights"
    weights = content.plan.weights_of(network)
    if weights != network:  # nothing is trained but, perhaps, in the test
        return f"has the weights of {weights}, in the test: {remedy_in_words(content, network)}"
    settings = own_settings(content, network) or "the default settings"
    sets = ", ".join(content.plan.train_on(network)) or "nothing here"
    return f"is trained on {sets} with {settings}"


def _worst_cell(content: ReportContent, study: str) -> tuple[str, str] | None:
    """Return network and split of the study's largest loss that has examples."""
    gaps = content.study_gaps(study).sort_values("gap", ascending=False, kind="stable")
    cells = list(zip(gaps["network"], gaps["test_split"], strict=True))
    cells += [(split, split) for split in content.plan.studies[study].splits]
    return next((cell for cell in cells if shown_examples(content, cell)), None)


def _shown_worst(
    content: ReportContent, study: str, cell: tuple[str, str] | None, pictures: Pictures
) -> dict[str, Any] | None:
    if cell is None:
        return None
    network, split = cell
    label, own = network_label(content, study, network), content.plan.studies[study].splits
    phrase = study_phrase(content, study)
    return {
        "network": f"Trained {phrase} {label}" if network in own else f"Network {label}",
        "split": condition(content, study, split),
        "examples": [
            example_figure(e, network, pictures, f"worst-{slug(study)}-{i}")
            for i, e in enumerate(shown_examples(content, cell))
        ],
    }


# --------------------------------------------------------------------------- the data
def _splits(content: ReportContent) -> dict[str, Any]:
    """Return the rows of the split table, the columns that differ, and what all splits share."""
    columns = content.plan.confounding
    names = [str(name) for name in content.splits.index]
    words = {c.name: [content.value(name, c.name) for name in names] for c in columns}
    differ = [c for c in columns if len(set(words[c.name])) > 1]
    rows = records(content.splits.reset_index())
    return {
        "rows": [
            {**row, **{c.name: words[c.name][i] for c in differ}} for i, row in enumerate(rows)
        ],
        "columns": {c.name: c.title for c in differ},
        "shared": {c.title: words[c.name][0] or "not given" for c in columns if c not in differ},
    }


def _title(content: ReportContent, column: str) -> str:
    return content.plan.columns[column].title if column in content.plan.columns else column


def _confound(content: ReportContent, row: dict[str, Any]) -> str:
    """Return a cell of the table of what else differs, in words."""
    column = content.plan.columns[row["column"]]
    words = range_in_words(column, row["min"], row["max"]) if column.numeric else row["value"]
    return words or "not given"


def _fingerprints(content: ReportContent) -> list[dict[str, Any]]:
    wanted = ["contrast", "contrast_to_noise", "noise", "roughness_per_px2", "autocorrelation_1_0"]
    wanted += ["diameter_px", "diameter_nm"]
    table = content.fingerprints.reindex(columns=wanted).astype(float)
    return records(table.reset_index())


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
    rows = records(e.dropna(subset=["rho"]).sort_values("rho", ascending=False))
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
            for p in records(part)
        ]
        charts.append(
            svg.scatter(
                points,
                row["title"],
                f"ρ = {number(row['rho'])}, p = {number(row['p_value'])}, n = {row['n_pairs']}",
                y_range,
            )
        )
    return charts


# --------------------------------------------------------------------------- training
def _histories(content: ReportContent) -> list[dict[str, Any]]:
    """Return one chart of Dice and one of the losses for each network, a group a protocol."""
    histories = content.histories
    if histories.empty:
        return []
    losses = histories[["train_loss", "validation_loss"]].to_numpy(float)
    top = float(np.nanquantile(losses, 0.98)) if np.isfinite(losses).any() else 1.0
    groups = []
    for protocol, part in histories.groupby("protocol", sort=False):
        dice, loss = [], []
        for network, own in part.groupby("network", sort=False):
            if own["validation_dice"].notna().any():
                lines = _lines(own, "validation_dice", "dice")
                dice.append(svg.line_chart(lines, str(network), (0.0, 1.0), "step"))
            lines = [*_lines(own, "train_loss", "train"), *_lines(own, "validation_loss", "valid")]
            loss.append(svg.line_chart(lines, str(network), (0.0, 1.05 * top), "step"))
        groups.append({"protocol": protocol, "dice": dice, "loss": loss})
    return groups


def _training(content: ReportContent) -> dict[str, Any]:
    """Return the default training in words."""
    m = content.modelling
    training = m.training
    architecture = m.architecture
    encoder = f" with encoder {architecture.encoder}" if architecture.encoder else ""
    length = f"{training.steps} steps" if training.steps else f"{training.epochs} epochs"
    crops = f"crops of {training.crop_px} px" if training.crop_px else "patches"
    return {
        "architecture": f"{architecture.name}{encoder}",
        "length": length,
        "batch": f"{training.batch_size} {crops}",
        "rate": f"{training.learning_rate:g}, {training.schedule.replace('_', ' ')}",
        "kept": "of the lowest validation loss" if training.keep == "best" else "of the last step",
        "seeds": _seeds(m),
        "attempts": _attempts(content),
        "others": [
            f"{name} ({settings})"
            for name in content.plan.trained
            if (settings := own_settings(content, name))
        ],
    }


def _seeds(modelling: ModellingParameters) -> str:
    """Say where the seeds of the folds come from."""
    training, seeds = modelling.training, []
    if "grouped" in modelling.protocols:
        seeds.append(f"derived from {training.seed}, the name of the network and the fold")
    if "published" in modelling.protocols:
        listed = ", ".join(str(seed) for seed in training.seeds[: modelling.folds])
        seeds.append(f"{listed} (protocol published)" if seeds else listed)
    return "; ".join(seeds)


def _attempts(content: ReportContent) -> str:
    """Say which folds were started again, and which have not learned in the end."""
    if content.histories.empty:
        return ""
    keys = ["network", "protocol", "fold"]
    restarts = content.histories.groupby(keys, sort=False)["restart"].max()
    again = restarts[restarts > 0]
    names = ", ".join(f"{_name(fold)} ({times} x)" for fold, times in again.items())
    text = (
        f"{len(again)} of {len(restarts)} trained folds had not learned and were started again "
        f"from another seed: {names}."
        if len(again)
        else f"All {len(restarts)} folds learned at the first attempt."
    )
    learned = content.results.groupby(keys, sort=False)["learned"].all()
    failed = [_name(fold) for fold, ok in learned.items() if not ok]
    if failed:
        limit = content.modelling.training.learned_above
        text = (
            f"{len(failed)} folds have not learned (Dice on some of their own training patches "
            f"below {limit:g}): {', '.join(failed)}. What is said of their networks says little "
            f"about the images. " + (text if len(again) else "")
        )
    return text.strip()


def _name(fold: Any) -> str:
    """Return network, protocol and fold in words."""
    network, _, number = fold
    return f"{network} fold {number}"


def _lines(history: pd.DataFrame, quantity: str, css: str) -> list[svg.Line]:
    return [
        svg.Line(fold["step"].tolist(), fold[quantity].astype(float).tolist(), css)
        for _, fold in history.groupby(["fold", "restart"])
    ]


# --------------------------------------------------------------------------- inside
def _padded(values: pd.Series) -> tuple[float, float]:
    low, high = min(0.0, float(values.min())), max(0.05, float(values.max()))
    pad = 0.06 * (high - low)
    return low - pad, high + pad


def _run(content: ReportContent) -> dict[str, str]:
    """Return what is known of the run, title to words."""
    facts = content.facts
    if facts is None:
        return {}
    commit = f"{facts.commit[:12]}{', with changes' if facts.modified else ''}"
    known = {
        "report written": _time(facts.written),
        "code": f"temshift {temshift.__version__}, "
        + (f"commit {commit}" if facts.commit else "in no repository"),
        "machine that wrote the report": ", ".join(facts.machine),
    }
    if facts.began:
        some = facts.timed_steps < facts.steps
        known["results made"] = f"from {_time(facts.began)} to {_time(facts.ended)}"
        known["time at work"] = _duration(facts.busy_s) + (
            f" ({facts.timed_steps} of {facts.steps} steps have recorded times)" if some else ""
        )
    return known


def _time(iso: str) -> str:
    return iso.replace("T", " ").replace("Z", " UTC")


def _duration(seconds: float) -> str:
    """Return ``3 h 20 min``, ``12 min 5 s`` or ``40 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _seed_list(block: dict[str, Any], path: str = "") -> list[tuple[str, str]]:
    """Return all seeds among the parameters, by their full names."""
    found: list[tuple[str, str]] = []
    for key, value in block.items():
        name = f"{path}{key}"
        if isinstance(value, dict):
            found += _seed_list(value, f"{name}.")
        elif (key == "seeds" or key.endswith("seed")) and value is not None:
            listed = value if isinstance(value, list | tuple) else [value]
            found.append((name, ", ".join(str(v) for v in listed)))
    return found


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

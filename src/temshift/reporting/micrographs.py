"""The page of new micrographs: their masks, sizes, and whether to trust them."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import temshift
from temshift.config.deployment import DeploymentParameters
from temshift.config.trust import TrustParameters
from temshift.microscopy.pictures import shrink_factor
from temshift.reporting.sentences import number
from temshift.study.sizes import (
    data_dictionary,
    file_of,
    label_next,
    pooled_sizes,
    share_spread,
    units_of,
)

__all__ = ["histogram", "render_micrographs"]

#: The worst first.
_ORDER = ("do not trust", "check", "not judged", "trust")

#: Networks shown for each micrograph.
_SHOWN = 5

#: Micrographs that the page names to be labelled next.
_TO_LABEL = 4

#: Particles that can be clicked, on the page and in a card, at most; and in a card at least.
_ON_PAGE, _IN_CARD, _FEWEST = 20_000, 500, 50


def render_micrographs(
    results: Sequence[Mapping[str, Any]],
    particles: pd.DataFrame,
    preview: Callable[[str], bytes],
    outlines: Callable[[str], Mapping[int, str]],
    deployment: DeploymentParameters,
    trust: TrustParameters,
) -> str:
    """Return the source of a self-contained HTML page.

    It fetches nothing. Without scripts the particles are links all the same; a short script
    marks both the row and the outline, and goes through the outlines with the arrow keys.

    Parameters
    ----------
    results : sequence of dict
        Of :meth:`temshift.catalog.segmentations.SegmentationStore.results`.
    particles : DataFrame
        Of all micrographs, with a column ``micrograph``.
    preview : callable
        Gives the picture of a micrograph (WebP) by its path.
    outlines : callable
        Gives the outlines of its particles as paths of SVG, by number.
    deployment, trust : DeploymentParameters, TrustParameters
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
    environment.filters["size"] = _size
    results = share_spread(results, particles, deployment.pixel_size_error, deployment.confidence)
    done = sorted(
        (r for r in results if not r.get("failed")),
        key=lambda r: (
            _ORDER.index(r["judgement"]["verdict"]),
            _or(r["judgement"]["predicted_dice"], -1.0),
        ),
    )
    groups = dict(iter(particles.groupby("micrograph"))) if len(particles) else {}
    css = "".join(
        environment.get_template(name).render() for name in ("report.css", "micrographs.css")
    )
    script = (resources.files("temshift.reporting") / "micrographs.js").read_text(encoding="utf-8")
    most = int(np.clip(_ON_PAGE // max(len(done), 1), _FEWEST, _IN_CARD))
    counts = Counter(r["judgement"]["verdict"] for r in done)
    sure = [r for r in done if r["judgement"]["verdict"] == "trust"]
    to_label = _to_label(results, done)
    bare = {r["path"] for r in done if not _found(r["sizes"])}
    return environment.get_template("micrographs.html").render(
        css=Markup(css),
        script=Markup(script),
        version=temshift.__version__,
        cards=[
            _card(i, r, groups.get(r["path"]), preview(r["path"]), outlines(r["path"]), most)
            for i, r in enumerate(done)
        ],
        failed=[r for r in results if r.get("failed")],
        to_label=to_label,
        bare_to_label=[path for path, _ in to_label if path in bare],
        counts=[(verdict, counts[verdict]) for verdict in _ORDER if counts[verdict]],
        n=len(results),
        judged=any(r["judgement"]["verdict"] != "not judged" for r in done),
        no_size=[r["path"] for r in done if not r["pixel_size_nm"]],
        pooled=[
            (words, sizes, _histogram_of(sizes, rows, particles))
            for words, rows in _pools(done, sure)
            if (sizes := _pooled(rows, particles, deployment)) is not None
        ],
        mixed=len(units_of(done)) > 1,
        frames=len({file_of(r["path"]) for r in done}) < len(done),
        dictionary=data_dictionary().to_dict("records"),
        deployment=deployment,
        trust=trust,
        parameters=_yaml({"deployment": deployment, "trust": trust}),
    )


def _found(sizes: Mapping[str, Any]) -> int:
    return int(sizes["n_particles"]) + int(sizes["n_cut"])


def _to_label(
    results: Sequence[Mapping[str, Any]], done: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """Return which micrographs to label next, each with the place of its card."""
    places = {result["path"]: f"m{i}" for i, result in enumerate(done)}
    return [(path, places[path]) for path in label_next(results)[:_TO_LABEL]]


def _pools(
    done: Sequence[Mapping[str, Any]], sure: Sequence[Mapping[str, Any]]
) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Return whose sizes are put together, in words: nm and px apart."""
    pools = []
    groups = {"": ""}
    if len(units_of(done)) > 1:
        groups = {"nm": " with a pixel size", "px": " without a pixel size"}
    for unit, which in groups.items():
        every, believed = (
            [row for row in rows if row["sizes"]["unit"] == unit or not unit]
            for rows in (done, sure)
        )
        if believed and len(believed) < len(every):
            word = "masks" if len(believed) > 1 else "mask"
            pools.append((f"Sizes in the {len(believed)} {word} to be trusted{which}", believed))
        if len(every) > 1:
            pools.append((f"Sizes in all {len(every)} micrographs{which}", every))
    return pools


def _pooled(
    rows: Sequence[Mapping[str, Any]], particles: pd.DataFrame, deployment: DeploymentParameters
) -> dict[str, Any] | None:
    if not len(particles):
        return None
    return pooled_sizes(rows, particles, deployment.pixel_size_error, deployment.confidence)


def _card(
    i: int,
    result: Mapping[str, Any],
    particles: pd.DataFrame | None,
    preview: bytes,
    outlines: Mapping[int, str],
    most: int,
) -> dict[str, Any]:
    picture = base64.b64encode(preview).decode()
    judged = result["judgement"]
    rows = _particle_rows(particles, result["sizes"]["unit"], most)
    height, width = result["height_px"], result["width_px"]
    elsewhere = {other["network"] for other in result.get("outside", [])}
    networks = [row for row in result["networks"] if row["network"] not in elsewhere]
    factor = shrink_factor((height, width))  # the picture leaves out what fills no whole pixel
    return {
        **result,
        "id": f"m{i}",
        "verdict": judged["verdict"],
        "reasons": [reason for reason in str(judged["reasons"]).split("; ") if reason],
        "picture": f"data:image/webp;base64,{picture}",
        "histogram": _histogram_of(result["sizes"], [result], particles),
        "ranking": sorted(
            networks, key=lambda r: (-_or(r.get("predicted_dice"), 0.0), r["distance"])
        )[:_SHOWN],
        "n_networks": len(networks),
        "outside": result.get("outside", []),
        "rows": rows,
        "n_rows": 0 if particles is None else len(particles),
        "outlines": [
            (row, outlines[row["particle"]]) for row in rows if row["particle"] in outlines
        ],
        "shown": f"{width // factor * factor} {height // factor * factor}",
    }


def _particle_rows(particles: pd.DataFrame | None, unit: str, most: int) -> list[dict[str, Any]]:
    """Return the largest particles, in their order, with what the page shows of them."""
    if particles is None or not len(particles):
        return []
    largest = particles.nlargest(most, "area_px2").sort_values("particle")
    return [
        {
            "particle": int(row["particle"]),
            "diameter": row[f"equivalent_diameter_{unit}"],
            "feret": row[f"feret_diameter_{unit}"],
            "eccentricity": row["eccentricity"],
            "certainty": row["certainty"],
            "notes": ", ".join(
                words
                for words, said in (
                    ("cut by the edge", row["touches_edge"]),
                    ("separated from a neighbour", row["was_split"]),
                )
                if said
            ),
        }
        for row in largest.to_dict("records")
    ]


def _histogram_of(
    sizes: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    particles: pd.DataFrame | None,
) -> Any:
    """Return the histogram of whole particles as markup, empty where there are none."""
    from markupsafe import Markup

    if particles is None or not len(particles):
        return ""
    own = particles[particles["micrograph"].isin([r["path"] for r in rows])]
    whole = own[~own["touches_edge"].astype(bool)]
    if whole.empty:
        return ""
    values = whole[f"equivalent_diameter_{sizes['unit']}"].to_numpy(float)
    weights = whole["edge_weight"].to_numpy(float)
    return Markup(histogram(values, weights, sizes["unit"], sizes["mean"]))


def histogram(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    unit: str,
    mean: float | None = None,
    width: int = 440,
    height: int = 190,
) -> str:
    """Return a histogram of sizes as inline SVG.

    Parameters
    ----------
    values, weights : ndarray, shape (n,)
        Diameters, and the particles that each stands for.
    unit : str
    mean : float, optional
        Marked by a line.
    width, height : int
        Of the drawing, px.
    """
    low, high = float(values.min()), float(values.max())
    span = max(high - low, 0.1 * max(high, 1e-9))
    middle = (low + high) / 2
    bins = int(np.clip(np.ceil(2 * len(values) ** (1 / 3)), 5, 30))  # Rice's rule
    step = _round_step(span / bins)
    first, last = np.floor((middle - span / 2) / step), np.ceil((middle + span / 2) / step)
    edges = np.arange(first, last + 1) * step
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges, weights=weights)
    left, right, top, bottom = 46, 10, 12, 34
    room, tall = width - left - right, height - top - bottom
    most = max(float(counts.max()), 1e-9)

    def across(value: float) -> float:
        return left + room * (value - edges[0]) / (edges[-1] - edges[0])

    title = f"Histogram of {len(values)} equivalent diameters in {unit}"
    parts = [
        f'<svg class="chart sizes" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}">'
    ]
    for i, count in enumerate(counts):
        y = top + tall * (1 - count / most)
        x, x2 = across(edges[i]), across(edges[i + 1])
        note = f"{edges[i]:.4g} to {edges[i + 1]:.4g} {unit}: {count:.3g}"
        parts.append(
            f'<rect class="bar" x="{x + 0.5:.1f}" y="{y:.1f}" width="{max(x2 - x - 1, 0.5):.1f}" '
            f'height="{top + tall - y:.1f}"><title>{escape(note)}</title></rect>'
        )
    base = top + tall
    parts.append(f'<line class="zero" x1="{left}" x2="{width - right}" y1="{base}" y2="{base}"/>')
    every = max(1, -(-len(edges) // 7))
    for edge in edges[::every]:
        parts.append(
            f'<text class="tick" x="{across(edge):.1f}" y="{base + 14}" text-anchor="middle">'
            f"{edge:.4g}</text>"
        )
    parts.append(
        f'<text class="tick" x="{left - 5}" y="{top + 8}" text-anchor="end">{_count(most)}</text>'
        f'<text class="axis-title" x="{left + room / 2:.0f}" y="{height - 4}" '
        f'text-anchor="middle">equivalent diameter, {escape(unit)}</text>'
        f'<text class="axis-title" transform="translate(11 {top + tall / 2:.0f}) rotate(-90)" '
        'text-anchor="middle">particles, weighted</text>'
    )
    if mean is not None and np.isfinite(mean):
        x = across(min(max(mean, edges[0]), edges[-1]))
        parts.append(
            f'<line class="mean" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 6}" y2="{base}">'
            f"<title>mean {mean:.4g} {escape(unit)}</title></line>"
        )
    return "".join(parts) + "</svg>"


def _count(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _round_step(step: float) -> float:
    """Return the next larger of 1, 2, 2.5, 5 × a power of ten."""
    power = 10.0 ** np.floor(np.log10(step))
    return float(next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= step * (1 - 1e-9)))


def _or(value: Any, other: float) -> float:
    return other if value is None or not np.isfinite(value) else float(value)


def _number(value: Any, digits: int = 2) -> str:
    return number(_or(value, float("nan")), digits)


def _size(value: Any) -> str:
    """Return a length with three significant digits, or a dash."""
    value = _or(value, float("nan"))
    if not np.isfinite(value):
        return "–"
    digits = 2 if value == 0 else int(np.clip(2 - np.floor(np.log10(abs(value))), 0, 6))
    return number(value, digits)


def _yaml(blocks: Mapping[str, Any]) -> str:
    import yaml

    data = {name: model.model_dump(mode="json") for name, model in blocks.items()}
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)

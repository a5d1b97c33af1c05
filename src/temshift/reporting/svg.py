"""Small static charts as inline SVG: sharp on paper, and coloured by the page's style sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

__all__ = [
    "Line",
    "Point",
    "Spread",
    "Strip",
    "Whisker",
    "axis_range",
    "forest",
    "line_chart",
    "scatter",
    "spreads",
    "strips",
]


@dataclass(frozen=True)
class Whisker:
    """A row of a forest plot: estimate, interval (NaN: none), class of its colour, texts, mark."""

    label: str
    estimate: float
    low: float
    high: float
    css: str
    value: str
    note: str = ""
    mark: str = "●"


@dataclass(frozen=True)
class Strip:
    """A row of marks on a common axis: a label, what it links to, and the marks."""

    label: str
    link: str
    marks: Sequence[Whisker]


@dataclass(frozen=True)
class Spread:
    """A mean with its interval, and the values behind it: of each fold, with what is said of them.

    Attributes
    ----------
    mean : Whisker
    values : sequence of sequence of (float, str)
    """

    mean: Whisker
    values: Sequence[Sequence[tuple[float, str]]]


@dataclass(frozen=True)
class Line:
    """A line of a chart; missing values (NaN) break it."""

    x: Sequence[float]
    y: Sequence[float]
    css: str


@dataclass(frozen=True)
class Point:
    """A point of a scatter plot with the text that a pointer shows."""

    x: float
    y: float
    css: str
    note: str = ""


def axis_range(rows: Sequence[Whisker], bands: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis that shows 0, all thresholds and all rows with their intervals."""
    values = [v for r in rows for v in (r.estimate, r.low, r.high) if np.isfinite(v)]
    low, high = min([0.0, *values]), max([bands[-1] * 1.15, *values])
    pad = 0.04 * (high - low)
    return low - pad, high + pad


def forest(
    rows: Sequence[Whisker],
    bands: Sequence[float],
    axis_title: str,
    width: int = 760,
    ends: tuple[float, float] | None = None,
    narrow: bool = False,
) -> str:
    """Draw estimates with intervals, a row each, over bands between thresholds.

    Parameters
    ----------
    rows : sequence of Whisker
    bands : sequence of float
        Thresholds, rising; the areas between them are shaded (classes ``band0``, ``band1`` …).
    axis_title : str
    width : int
        Of the drawing, px.
    ends : (float, float), optional
        Of the axis, where several drawings share one (:func:`axis_range`).
    narrow : bool
        For a phone: label and value stand above the interval, which has the whole width.
    """
    left = 8 if narrow else 24 + max(len(row.label) for row in rows) * 6.4
    right, row_height, top = (8, 46, 8) if narrow else (150, 22, 8)
    low, high = ends or axis_range(rows, bands)
    bottom = top + row_height * len(rows)
    height = bottom + 46

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    parts = _bands(low, high, bands, x, top, bottom)
    parts += _x_axis(_ticks(low, high), x, top, bottom)
    parts.append(f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{top}" y2="{bottom}"/>')
    for i, row in enumerate(rows):
        y = top + row_height * (i + (0.72 if narrow else 0.5))
        parts.append(f'<g class="{row.css}"><title>{escape(row.note or row.label)}</title>')
        parts.append(
            _text(left, y - 17, row.label, "start")
            if narrow
            else _text(left - 10, y + 4, row.label, "end")
        )
        if np.isfinite(row.low):
            parts.append(
                f'<line class="whisker" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" '
                f'y2="{y}"/>'
            )
        parts.append(_mark(x(row.estimate), y, row.mark))
        parts.append(
            _text(width - right, y - 17, row.value, "end", "value")
            if narrow
            else _text(width - right + 12, y + 4, row.value, "start", "value")
        )
        parts.append("</g>")
    parts.append(_text((left + width - right) / 2, height - 8, axis_title, "middle", "axis-title"))
    return _svg(width, height, parts, f"{axis_title}: {len(rows)} rows")


def strips(
    rows: Sequence[Strip],
    bands: Sequence[float],
    band_titles: Sequence[str],
    axis_title: str,
    width: int = 760,
) -> str:
    """Draw a row of marks for each study on one axis, over titled bands between thresholds.

    Parameters
    ----------
    rows : sequence of Strip
        The interval is drawn of the last mark of each row alone: the one that is spoken of.
    bands : sequence of float
        Thresholds, rising.
    band_titles : sequence of str
        One more than thresholds.
    axis_title : str
    width : int
        Of the drawing, px.
    """
    left = 20 + max(len(row.label) for row in rows) * 7.0
    right, row_height, top = 16, 30, 24
    marks = [mark for row in rows for mark in row.marks]
    shown = [Whisker("", m.estimate, np.nan, np.nan, "", "") for m in marks]
    low, high = axis_range([*shown, *(row.marks[-1] for row in rows)], bands)
    bottom = top + row_height * len(rows)
    height = bottom + 46

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    parts = _bands(low, high, bands, x, top, bottom)
    edges = [low, *bands, high]
    for title, (a, b) in zip(band_titles, pairwise(edges), strict=True):
        if x(b) - x(a) >= 6 * len(title):
            parts.append(_text((x(a) + x(b)) / 2, top - 8, title, "middle", "tick"))
    parts += _x_axis(_ticks(low, high), x, top, bottom)
    parts.append(f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{top}" y2="{bottom}"/>')
    for i, row in enumerate(rows):
        y = top + row_height * (i + 0.5)
        label = _text(left - 10, y + 4, row.label, "end", "label")
        parts.append(f'<a href="{escape(row.link)}">{label}</a>')
        for j, mark in enumerate(row.marks):
            parts.append(f'<g class="{mark.css}"><title>{escape(mark.note or mark.label)}</title>')
            if j == len(row.marks) - 1 and np.isfinite([mark.low, mark.high]).all():
                parts.append(
                    f'<line class="whisker" x1="{x(mark.low):.1f}" x2="{x(mark.high):.1f}" '
                    f'y1="{y}" y2="{y}"/>'
                )
            parts.append(_mark(x(mark.estimate), y, mark.mark) + "</g>")
    parts.append(_text((left + width - right) / 2, height - 8, axis_title, "middle", "axis-title"))
    label = f"{axis_title}: {len(marks)} shifts of {len(rows)} studies"
    return _svg(width, height, parts, label, role="group")


def spreads(rows: Sequence[Spread], axis_title: str, width: int = 460) -> str:
    """Draw single values as dots, a line of them a fold, above their mean with its interval."""
    left, right, top, between = 8, 8, 18, 9
    values = [v for r in rows for fold in r.values for v, _ in fold]
    values += [v for r in rows for v in (r.mean.estimate, r.mean.low, r.mean.high)]
    finite = [v for v in values if np.isfinite(v)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    pad = max(0.04 * (high - low), 0.01)
    low, high = low - pad, high + pad
    heights = [between * len(row.values) + 42 for row in rows]
    bottom = top + sum(heights)

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    parts = _x_axis(_ticks(low, high), x, top - 10, bottom)
    y = float(top)
    for row, height in zip(rows, heights, strict=True):
        mean = row.mean
        parts.append(_text(left, y, f"{mean.label}: {mean.value}", "start", "title"))
        for j, fold in enumerate(row.values):
            parts += [
                f'<circle class="dot" cx="{x(value):.1f}" cy="{y + 12 + between * j:.1f}" r="3">'
                f"<title>{escape(note)}</title></circle>"
                for value, note in fold
            ]
        at = y + 14 + between * len(row.values)
        parts.append(f'<g class="{mean.css}"><title>{escape(mean.note or mean.value)}</title>')
        if np.isfinite([mean.low, mean.high]).all():
            parts.append(
                f'<line class="whisker" x1="{x(mean.low):.1f}" x2="{x(mean.high):.1f}" '
                f'y1="{at:.1f}" y2="{at:.1f}"/>'
            )
        parts.append(_mark(x(mean.estimate), at, mean.mark) + "</g>")
        y += height
    parts.append(_text(width / 2, bottom + 32, axis_title, "middle", "axis-title"))
    count = sum(len(fold) for row in rows for fold in row.values)
    return _svg(width, bottom + 40, parts, f"{axis_title}: {count} values")


def line_chart(
    lines: Sequence[Line],
    title: str,
    y_range: tuple[float, float],
    x_title: str = "",
    width: int = 210,
    height: int = 128,
) -> str:
    """Draw lines into a small frame (one of many equal ones)."""
    left, right, top, bottom = 30, 8, 22, height - 26
    values = [v for line in lines for v in line.x]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    high = high if high > low else low + 1

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    def y(value: float) -> float:
        clipped = min(max(value, y_range[0]), y_range[1])
        return bottom - (clipped - y_range[0]) / (y_range[1] - y_range[0]) * (bottom - top)

    parts = _y_axis(_ticks(*y_range, 3), y, left, width - right)
    ends = ((low, "start"), (high, "end"))
    parts += [_text(x(v), bottom + 13, f"{v:g}", anchor) for v, anchor in ends]
    if x_title:
        parts.append(_text((x(low) + x(high)) / 2, bottom + 13, x_title, "middle", "axis-title"))
    for line in lines:
        for run in _runs(line.x, line.y):
            path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in run)
            parts.append(f'<polyline class="{line.css}" points="{path}"/>')
            if len(run) == 1:
                parts.append(
                    f'<circle class="{line.css}" cx="{x(run[0][0]):.1f}" '
                    f'cy="{y(run[0][1]):.1f}" r="2"/>'
                )
    parts.append(_text(left, 13, title, "start", "title"))
    return _svg(width, height, parts, title)


def scatter(
    points: Sequence[Point],
    title: str,
    x_title: str,
    y_range: tuple[float, float],
    width: int = 210,
    height: int = 170,
) -> str:
    """Draw points into a small frame (one of many with the same vertical axis)."""
    left, right, top, bottom = 34, 8, 22, height - 38
    high = max([p.x for p in points], default=1.0) * 1.06 or 1.0

    def x(value: float) -> float:
        return left + value / high * (width - left - right)

    def y(value: float) -> float:
        return bottom - (value - y_range[0]) / (y_range[1] - y_range[0]) * (bottom - top)

    parts = _y_axis(_ticks(*y_range, 4), y, left, width - right)
    parts += [_text(x(t), bottom + 13, f"{t:g}", "middle") for t in _ticks(0, high, 3)]
    parts += [
        f'<circle class="{p.css}" cx="{x(p.x):.1f}" cy="{y(p.y):.1f}" r="3">'
        f"<title>{escape(p.note)}</title></circle>"
        for p in points
    ]
    parts.append(_text(left, 13, title, "start", "title"))
    parts.append(_text((left + width - right) / 2, height - 8, x_title, "middle", "axis-title"))
    return _svg(width, height, parts, f"{title}: {len(points)} points")


# --------------------------------------------------------------------------- inside
def _svg(width: int, height: float, parts: Sequence[str], label: str, role: str = "img") -> str:
    """Put parts into a drawing; one that holds links is a group of things, not an image."""
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height:g}" style="max-width:{width}px" '
        f'role="{role}" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _bands(
    low: float,
    high: float,
    bands: Sequence[float],
    x: Callable[[float], float],
    top: float,
    bottom: float,
) -> list[str]:
    """Shade the areas between thresholds: classes ``band0``, ``band1`` …."""
    edges = [low, *(b for b in bands if low < b < high), high]
    first = sum(b <= low for b in bands)
    return [
        f'<rect class="band{first + i}" x="{x(a):.1f}" y="{top}" width="{x(b) - x(a):.1f}" '
        f'height="{bottom - top}"/>'
        for i, (a, b) in enumerate(pairwise(edges))
    ]


def _mark(x: float, y: float, mark: str) -> str:
    return f'<text class="mark" x="{x:.1f}" y="{y + 5:.1f}" text-anchor="middle">{mark}</text>'


def _text(x: float, y: float, text: str, anchor: str, css: str = "tick") -> str:
    return (
        f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Return round numbers between two values, roughly ``about`` of them."""
    raw = (high - low) / about
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = int(np.ceil(low / step - 1e-9))
    last = int(np.floor(high / step + 1e-9))
    return [round(i * step, 10) for i in range(first, last + 1)]


def _x_axis(
    ticks: Sequence[float], x: Callable[[float], float], top: float, bottom: float
) -> list[str]:
    parts = []
    for tick in ticks:
        at = x(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(_text(at, bottom + 15, f"{tick:g}".replace("-", "−"), "middle"))
    return parts


def _y_axis(
    ticks: Sequence[float], y: Callable[[float], float], left: float, right: float
) -> list[str]:
    parts = []
    for tick in ticks:
        at = y(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_text(left - 4, at + 3, f"{tick:g}".replace("-", "−"), "end"))
    return parts


def _runs(x: Sequence[float], y: Sequence[float]) -> list[list[tuple[float, float]]]:
    """Return the stretches of a line between its missing values."""
    runs: list[list[tuple[float, float]]] = [[]]
    for a, b in zip(x, y, strict=True):
        if np.isfinite(b):
            runs[-1].append((a, b))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]

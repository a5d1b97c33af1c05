"""Small static charts as inline SVG: sharp on paper, and coloured by the page's style sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from textwrap import wrap

import numpy as np

__all__ = [
    "Cell",
    "Line",
    "Point",
    "Spread",
    "Strip",
    "Whisker",
    "axis_range",
    "forest",
    "line_chart",
    "matrix",
    "note",
    "scatter",
    "spreads",
    "strips",
]


#: Width of a letter, px: at 12 px in the page's typeface, at 10 px in that of print.
_EM = 6.4


@dataclass(frozen=True)
class Whisker:
    """A row of a forest plot: estimate, interval (NaN: none), class of its colour, texts, mark.

    The part of the interval between ``bounds`` is drawn thicker.
    """

    label: str
    estimate: float
    low: float
    high: float
    css: str
    value: str
    note: str = ""
    mark: str = "●"
    bounds: tuple[float, float] = (np.nan, np.nan)


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
class Cell:
    """A cell of a matrix: its value and interval, mark and class of its verdict, its colours."""

    value: str
    interval: str
    mark: str
    css: str
    background: str
    colour: str
    own: bool = False


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
        For a phone or a column of a page: label and value stand above the interval, which has the
        whole width.
    """
    right, top = (8, 8) if narrow else (150, 8)
    longest = int((width - 16) / _EM if narrow else (0.45 * width - 24) / _EM)
    labels = [wrap(row.label, longest) or [""] for row in rows]
    lines = max(len(label) for label in labels)
    beside = all(
        len(label[-1]) + len(row.value) + 2 <= longest
        for label, row in zip(labels, rows, strict=True)
    )
    value_above = narrow and not beside  # a line of its own, between label and interval
    row_height = (46 + 14 * value_above if narrow else 22) + 13 * (lines - 1)
    left = 8 if narrow else 24 + max(len(line) for label in labels for line in label) * _EM
    low, high = ends or axis_range(rows, bands)
    bottom = top + row_height * len(rows)
    height = bottom + 46

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    parts = _bands(low, high, bands, x, top, bottom)
    parts += _x_axis(_ticks(low, high), x, top, bottom)
    parts.append(f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{top}" y2="{bottom}"/>')
    for i, row in enumerate(rows):
        y = top + row_height * (i + 1) - 13 if narrow else top + row_height * (i + 0.5)
        parts.append(f'<g class="{row.css}"><title>{escape(row.note or row.label)}</title>')
        parts += (
            _lines(left, y - 17 - 14 * value_above, labels[i], "start")
            if narrow
            else _lines(left - 10, y + 4 + 6.5 * (len(labels[i]) - 1), labels[i], "end")
        )
        if np.isfinite(row.low):
            parts.append(
                f'<line class="whisker" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" '
                f'y2="{y}"/>'
            )
        if np.isfinite(row.bounds).all():
            least, most = np.clip(row.bounds, row.low, row.high)
            parts.append(
                f'<line class="bounds" x1="{x(least):.1f}" x2="{x(most):.1f}" y1="{y}" y2="{y}"/>'
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
    narrow: bool = False,
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
    narrow : bool
        For a column of a page: the label stands above the marks, which have the whole width.
    """
    em = 7.0
    longest = int((width - 16) / em if narrow else (0.5 * width - 20) / em)
    labels = [wrap(row.label, longest) or [""] for row in rows]
    lines = max(len(label) for label in labels)
    left = 8 if narrow else 20 + max(len(line) for label in labels for line in label) * em
    right, top = (8, 24) if narrow else (16, 24)
    row_height = (40 if narrow else 30) + 13 * (lines - 1)
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
        y = top + row_height * (i + 1) - 11 if narrow else top + row_height * (i + 0.5)
        written = (
            _lines(left, y - 15, labels[i], "start", "label")
            if narrow
            else _lines(left - 10, y + 4 + 6.5 * (len(labels[i]) - 1), labels[i], "end", "label")
        )
        parts.append(f'<a href="{escape(row.link)}">{"".join(written)}</a>')
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


def matrix(
    rows: Sequence[tuple[str, Sequence[Cell | None]]],
    columns: Sequence[str],
    titles: tuple[str, str],
    scale: Sequence[tuple[str, str]],
    scale_title: str,
    width: int = 640,
) -> str:
    """Draw a train × test matrix with a bar of its colours.

    Intervals are left out where cells are too narrow for them, then values; marks and colours stay.
    Headings that are wider than their column are turned.

    Parameters
    ----------
    rows : sequence of (str, sequence of Cell or None)
        Label and cells; ``None`` where nothing was tested.
    columns : sequence of str
        Their headings.
    titles : (str, str)
        Of rows and of columns.
    scale : sequence of (str, str)
        Labels and colours of the bar.
    scale_title : str
    width : int
        Of the drawing, px.
    """
    labels = [wrap(label, int(0.34 * width / _EM)) or [""] for label, _ in rows]
    corner = wrap(titles[0], int(0.34 * width / _EM)) or [""]
    left = 12 + max(len(line) for label in [*labels, corner] for line in label) * _EM
    cell = min((width - left - 4) / max(len(columns), 1), 130.0)
    headings = [wrap(column, max(int(cell / _EM), 1), break_long_words=False) for column in columns]
    turned = max((len(h) for heading in headings for h in heading), default=0) * _EM > cell
    if turned:
        headings = [[column] for column in columns]
        head = max(len(column) for column in columns) * _EM + 8
    else:
        head = 13.0 * max((len(heading) for heading in headings), default=1) + 6
    over = wrap(titles[1], int((width - left) / _EM)) or [""]
    head = max(head, 13.0 * len(corner) + 6)
    top = 13.0 * len(over) + 4 + head
    wide = cell >= 66
    height = max(46.0 if wide else 34.0, 13.0 * max((len(label) for label in labels), default=1))
    parts = _lines(left, 13.0 * len(over) - 2, over, "start", "axis-title")
    parts += _lines(left - 8, top - 6, corner, "end", "axis-title")
    for j, heading in enumerate(headings):
        x = left + cell * (j + 0.5)
        if turned:
            parts.append(
                f'<text class="tick" x="{x + 4:.1f}" y="{top - 6:.1f}" text-anchor="start" '
                f'transform="rotate(-90 {x + 4:.1f} {top - 6:.1f})">{escape(heading[0])}</text>'
            )
        else:
            parts += _lines(x, top - 6, heading, "middle")
    for i, (_, cells) in enumerate(rows):
        y = top + height * i
        shift = 6.5 * (len(labels[i]) - 1)
        parts += _lines(left - 8, y + height / 2 + 4 + shift, labels[i], "end", "name")
        for j, shown in enumerate(cells):
            parts += _cell(shown, left + cell * j, y, cell, height, wide)
    bottom = top + height * len(rows) + 20
    parts.append(_text(4, bottom + 4, scale_title, "start", "axis-title"))
    each = min(40.0, (width - 8) / max(len(scale), 1))
    for k, (value, colour) in enumerate(scale):
        parts.append(
            f'<rect class="scale" x="{4 + each * k:.1f}" y="{bottom + 10:.1f}" '
            f'width="{each:.1f}" height="10" fill="{colour}"/>'
        )
        parts.append(_text(4 + each * (k + 0.5), bottom + 33, value, "middle"))
    return _svg(width, bottom + 40, parts, f"{titles[0]}, {titles[1]}: {len(rows)} rows")


def note(text: str, width: int = 640) -> str:
    """Write a sentence where there is nothing to draw."""
    lines = wrap(text, int((width - 16) / _EM))
    return _svg(width, 13 * len(lines) + 16, _lines(8, 13 * len(lines) + 4, lines, "start"), text)


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


def _cell(
    cell: Cell | None, x: float, y: float, width: float, height: float, wide: bool
) -> list[str]:
    """Return a cell of a matrix: value, interval if there is room, and mark of the verdict."""
    middle = x + width / 2
    if cell is None:
        return [_text(middle, y + height / 2 + 4, "–", "middle")]
    inset = 2.5 if cell.own else 0.75
    parts = [
        f'<rect class="{"own" if cell.own else "cell"}" x="{x + inset:.1f}" y="{y + inset:.1f}" '
        f'width="{width - 2 * inset:.1f}" height="{height - 2 * inset:.1f}" '
        f'fill="{cell.background}"/>'
    ]
    texts = []
    if width >= len(cell.value) * _EM + 4:
        texts.append((cell.value, "cell-value"))
    if wide:
        texts.append((cell.interval, "cell-interval"))
    if cell.mark:
        texts.append((cell.mark, "cell-mark"))
    first = y + height / 2 + 4 - 6.5 * (len(texts) - 1)
    inside = [
        f'<text class="{css}" x="{middle:.1f}" y="{first + 13 * k:.1f}" text-anchor="middle" '
        f'fill="{cell.colour}">{escape(text)}</text>'
        for k, (text, css) in enumerate(texts)
    ]
    return [*parts, f'<g class="{cell.css}">', *inside, "</g>"]


def _lines(
    x: float, bottom: float, lines: Sequence[str], anchor: str, css: str = "tick"
) -> list[str]:
    """Write lines of text, the last of them at ``bottom``."""
    first = bottom - 13 * (len(lines) - 1)
    return [_text(x, first + 13 * k, line, anchor, css) for k, line in enumerate(lines)]


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

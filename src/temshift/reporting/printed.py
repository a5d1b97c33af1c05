"""The charts of the report as files for print: SVG and PDF in the widths of journals' columns.

The drawings are those of the page (:mod:`temshift.reporting.charts`); the page's style sheet, which
other programs do not have, is written into their elements. Text stays text in both formats.
"""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from typing import Any

from temshift.reporting import charts, svg
from temshift.reporting.content import ReportContent
from temshift.reporting.palette import BAND_COLOURS, MARKS, VERDICT_COLOURS

__all__ = ["WIDTHS_MM", "as_pdf", "as_svg", "printed_figures"]

#: One and two columns of a page.
WIDTHS_MM = (85, 170)

#: Of CSS: 96 px an inch.
_PX_PER_MM = 96 / 25.4
_PT_PER_PX = 72 / 96

_INK, _SOFT, _LINE = "#1c2430", "#5b6675", "#d9dee5"
#: In SVG; PDF has the first, which comes with matplotlib, within.
_TYPEFACE = "DejaVu Sans, Verdana, Arial, sans-serif"

#: What the page's style sheet says of a class, for drawings of this size. ``c``: the verdict's
#: colour.
_TEXT: dict[str, dict[str, str]] = {
    "tick": {"font-size": "9", "fill": _SOFT},
    "name": {"font-size": "10", "fill": _INK},
    "label": {"font-size": "10", "fill": _INK, "font-weight": "bold"},
    "value": {"font-size": "9", "fill": "c"},
    "axis-title": {"font-size": "9", "fill": _SOFT},
    "mark": {"font-size": "13", "fill": "c"},
    "cell-value": {"font-size": "10", "font-weight": "bold"},
    "cell-interval": {"font-size": "8"},
    "cell-mark": {"font-size": "10"},
}
_SHAPE: dict[str, dict[str, str]] = {
    "grid": {"stroke": _LINE, "stroke-width": "0.75"},
    "zero": {"stroke": _INK, "stroke-width": "0.75"},
    "whisker": {"stroke": "c", "stroke-width": "1.75"},
    "bounds": {"stroke": "c", "stroke-width": "4"},
    **{f"band{i}": {"fill": colour} for i, colour in enumerate(BAND_COLOURS)},
    "own": {"stroke": _INK, "stroke-width": "1.5"},
    "scale": {"stroke": _LINE, "stroke-width": "0.5"},
}
_COLOURS = {f"v-{charts.slug(verdict)}": colour for verdict, colour in VERDICT_COLOURS.items()}


def printed_figures(
    content: ReportContent,
    studies: Sequence[str] | None = None,
    formats: Sequence[str] = ("svg", "pdf"),
) -> dict[str, dict[str, bytes]]:
    """Return the files of every figure: figure, then ending of the file's name, to its content.

    Figures are ``overview``, and ``<study>_matrix`` and ``<study>_forest`` of each study; endings
    ``_85mm.svg``, ``_85mm.pdf``, ``_170mm.svg`` and ``_170mm.pdf``. Matrices are those of the
    protocol that sentences speak of. The same content gives the same bytes.

    Parameters
    ----------
    content : ReportContent
    studies : sequence of str, optional
        Whose matrix and forest are drawn; all, if none are named.
    formats : sequence of str
    """
    writers = {"svg": as_svg, "pdf": as_pdf}
    figures: dict[str, dict[str, bytes]] = {}
    for width_mm in WIDTHS_MM:
        width = round(width_mm * _PX_PER_MM)
        narrow = width < 480
        drawn = {"overview": charts.overview(content, width, narrow)}
        for study in content.plan.studies if studies is None else studies:
            drawn[f"{study}_matrix"] = charts.matrix(content, study, width)
            drawn[f"{study}_forest"] = charts.forest(content, study, width, narrow)
        for name, source in drawn.items():
            drawing = _styled(source or svg.note("This run compares no networks here.", width))
            files = figures.setdefault(name, {})
            for kind in formats:
                files[f"_{width_mm}mm.{kind}"] = writers[kind](drawing, width_mm)
    return figures


def as_svg(drawing: ET.Element, width_mm: float) -> bytes:
    """Return a styled drawing as a file of SVG that is ``width_mm`` wide."""
    width, height = _size(drawing)
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": f"{width_mm:g}mm",
            "height": f"{height / width * width_mm:.3f}mm",
            "viewBox": drawing.get("viewBox", ""),
            "font-family": _TYPEFACE,
        },
    )
    ET.SubElement(root, "title").text = drawing.get("aria-label")
    root.extend(list(drawing))
    ET.indent(root, " ")
    return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def as_pdf(drawing: ET.Element, width_mm: float) -> bytes:
    """Return a styled drawing as a page of PDF that is ``width_mm`` wide, its typeface embedded."""
    import matplotlib
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle
    from matplotlib.text import Text

    width, height = _size(drawing)
    inches = width_mm / 25.4
    figure = Figure(figsize=(inches, inches * height / width))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    anchors = {"start": "left", "middle": "center", "end": "right"}
    for order, element in enumerate(drawing):
        found = {k: _number(v) for k, v in element.attrib.items()}
        stroke = element.get("stroke", "none")
        thickness = float(element.get("stroke-width", 0)) * _PT_PER_PX
        artist: Any
        if element.tag == "line":
            x, y = (found["x1"], found["x2"]), (found["y1"], found["y2"])
            artist = Line2D(x, y, color=stroke, linewidth=thickness, solid_capstyle="butt")
        elif element.tag == "rect":
            artist = Rectangle(
                (found["x"], found["y"]),
                found["width"],
                found["height"],
                facecolor=element.get("fill", "none"),
                edgecolor=stroke,
                linewidth=thickness,
            )
        else:
            artist = Text(
                found["x"],
                found["y"],
                element.text or "",
                color=element.get("fill", _INK),
                fontsize=float(element.get("font-size", 10)) * _PT_PER_PX,
                fontweight=element.get("font-weight", "normal"),
                family="DejaVu Sans",
                ha=anchors[element.get("text-anchor", "start")],
                va="baseline",
                rotation=90 if element.get("transform") else 0,
                rotation_mode="anchor",
                parse_math=False,
            )
        artist.set_zorder(order)
        axes.add_artist(artist)
    buffer = io.BytesIO()
    title = drawing.get("aria-label", "")
    with matplotlib.rc_context({"pdf.fonttype": 42, "text.usetex": False}):
        FigureCanvasPdf(figure).print_pdf(
            buffer, metadata={"Title": title, "Creator": "temshift", "CreationDate": None}
        )
    return buffer.getvalue()


# --------------------------------------------------------------------------- inside
def _styled(source: str) -> ET.Element:
    """Return a drawing as a flat list of lines, rectangles and texts that have their style.

    What only a page has (links, notes for a pointer) is left out; the marks are explained below.
    """
    page = ET.fromstring(source)
    width, height = _size(page)
    flat = ET.Element("svg", {"aria-label": page.get("aria-label", "")})
    for element, verdict in _leaves(page, ""):
        css = element.get("class", "")
        style = (_TEXT if element.tag == "text" else _SHAPE).get(css, {})
        if element.tag == "text" and css == "tick" and verdict:
            style = _TEXT["name"]
        colour = _COLOURS.get(verdict, _INK)
        own = {k: v for k, v in element.attrib.items() if k != "class"}
        given = {k: colour if v == "c" else v for k, v in style.items()}
        leaf = ET.SubElement(flat, element.tag, {**given, **own})
        leaf.text = element.text
    height = _legend(flat, _verdicts(page), width, height)
    flat.set("viewBox", f"0 0 {width:g} {height:g}")
    return flat


def _leaves(element: ET.Element, verdict: str) -> Iterator[tuple[ET.Element, str]]:
    for child in element:
        if child.tag in ("g", "a"):
            yield from _leaves(child, child.get("class", verdict))
        elif child.tag != "title":
            yield child, verdict


def _verdicts(page: ET.Element) -> list[str]:
    """Return the verdicts whose marks a drawing has, in the order of the palette."""
    drawn = {g.get("class") for g in page.iter("g")}
    return [verdict for verdict in MARKS if f"v-{charts.slug(verdict)}" in drawn]


def _legend(flat: ET.Element, verdicts: list[str], width: float, height: float) -> float:
    """Write below a drawing what its marks mean; return its new height."""
    x, y = 8.0, height + 6
    for verdict in verdicts:
        needed = 16 + 6.4 * len(verdict) + 10
        if x > 8 and x + needed > width:
            x, y = 8.0, y + 15
        mark = {"x": f"{x + 5:.1f}", "y": f"{y + 1:.1f}", "text-anchor": "middle"}
        style = {"font-size": "11", "fill": VERDICT_COLOURS[verdict]}
        ET.SubElement(flat, "text", {**style, **mark}).text = MARKS[verdict]
        words = {"x": f"{x + 14:.1f}", "y": f"{y:.1f}", "text-anchor": "start"}
        ET.SubElement(flat, "text", {**_TEXT["tick"], **words}).text = verdict
        x += needed
    return y + 10 if verdicts else height


def _size(drawing: ET.Element) -> tuple[float, float]:
    _, _, width, height = map(float, drawing.get("viewBox", "0 0 0 0").split())
    return width, height


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:  # a colour, a weight
        return float("nan")

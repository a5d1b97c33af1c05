"""Draw docs/img/rooms.svg and docs/img/flow.svg: ``python docs/drawings.py``.

The drawings are text, so that a change of a room or a pipeline is a change of a line here;
tests/test_rooms.py fails if a room or a pipeline is missing in them.
"""

from html import escape
from pathlib import Path

IMAGES = Path(__file__).parent / "img"
INK, LINE, PAPER = "#1b2733", "#5b6b7a", "#ffffff"

#: From the roof down: imports run downwards only. (name, what is in it, colour)
ROOMS = [
    [("pipelines", "wiring: thin nodes", "#e8eef7")],
    [("runner", "what is up to date", "#e8eef7")],
    [
        ("catalog", "datasets: files are opened here only", "#fdf1dc"),
        ("reporting", "words, figures, pages", "#fdf1dc"),
    ],
    [("learning", "networks, training, inference, metrics", "#e3f3e6")],
    [("study", "table, splits, folds, integrity, statistics", "#e3f3e6")],
    [("microscopy", "specimens, imaging, flat field, patches, fingerprints", "#e3f3e6")],
    [("config", "typed parameters; contract: what a column is", "#f3e8f4")],
]

#: Pipelines of ``kedro run`` in order: (name, what it does, what it hands on)
FLOW = [
    ("simulation", "specimens, exit waves, exposures", "metadata table, micrographs, masks"),
    ("data_curation", "contract, integrity, folds, splits", "rows of each split"),
    ("preprocessing", "x-rays, flat field, standardise, cut", "patches, fingerprint of each split"),
    ("modelling", "all folds of each network together", "networks with their cards"),
    ("evaluation", "every network on the splits of its studies", "pixel counts, examples"),
    (
        "generalization_reporting",
        "matrices, intervals, verdicts, words",
        "report.html, results.json",
    ),
]


def _text(x: float, y: float, text: str, size: int = 14, weight: str = "normal") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" fill="{INK}" '
        f'text-anchor="middle">{escape(text)}</text>'
    )


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="{colour}" '
        f'stroke="{LINE}"/>'
    )


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{LINE}" '
        'stroke-width="1.5" marker-end="url(#head)"/>'
    )


def _page(width: int, height: int, title: str, parts: list[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>'
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>' + "".join(parts) + "</svg>\n"
    )


def rooms() -> str:
    """Return the drawing of the rooms."""
    width, step, parts = 640, 64, []
    for level, row in enumerate(ROOMS):
        y, each = 16 + level * step, (width - 140) / len(row)
        for i, (name, content, colour) in enumerate(row):
            x = 70 + i * each
            inner = each - (10 if len(row) > 1 else 0)
            parts += [
                _box(x, y, inner, 46, colour),
                _text(x + inner / 2, y + 19, name, weight="bold"),
                _text(x + inner / 2, y + 36, content, 11),
            ]
    bottom = 16 + (len(ROOMS) - 1) * step + 46
    parts += [_arrow(40, 24, 40, bottom), _text(40, bottom + 18, "imports", 11)]
    parts += [
        f'<line x1="600" y1="{16 + 3 * step:g}" x2="600" y2="{bottom}" stroke="{LINE}" '
        'stroke-dasharray="3 3"/>',
        f'<text x="0" y="0" font-size="11" fill="{INK}" text-anchor="middle" '
        f'transform="translate(614 {(16 + 3 * step + bottom) / 2:g}) rotate(90)">'
        "no kedro, no files</text>",
    ]
    return _page(width, bottom + 30, "The rooms of temshift, imports running downwards", parts)


def flow() -> str:
    """Return the drawing of the flow of ``kedro run``."""
    width, step, parts = 640, 92, []
    for i, (name, content, result) in enumerate(FLOW):
        y = 16 + i * step
        parts += [
            _box(150, y, 340, 46, "#e8eef7"),
            _text(320, y + 19, name, weight="bold"),
            _text(320, y + 36, content, 11),
            _arrow(320, y + 46, 320, y + step - 2),
            f'<text x="330" y="{y + 72:g}" font-size="11" fill="{INK}">{escape(result)}</text>',
        ]
    parts += [
        _box(10, 16 + 3 * step, 120, 46, "#fdf1dc"),
        _text(70, 35 + 3 * step, "import_published", 12, "bold"),
        _text(70, 52 + 3 * step, "networks of the study", 10),
        _arrow(70, 62 + 3 * step, 148, 36 + 4 * step),
        _box(10, 16, 120, 46, "#fdf1dc"),
        _text(70, 35, "own or published", 12, "bold"),
        _text(70, 52, "table, images, masks", 10),
        _arrow(70, 62, 148, 36 + step),
    ]
    parts += [
        _box(505, 16 + 3 * step, 125, 46, "#fdf1dc"),
        _text(567, 35 + 3 * step, "trust", 12, "bold"),
        _text(567, 52 + 3 * step, "which masks to believe", 10),
        _arrow(490, 39 + 3 * step, 503, 39 + 3 * step),
        _box(505, 16 + 4 * step, 125, 46, "#fdf1dc"),
        _text(567, 35 + 4 * step, "deployment", 12, "bold"),
        _text(567, 52 + 4 * step, "new micrographs, sizes", 10),
        _arrow(567, 62 + 3 * step, 567, 14 + 4 * step),
        _box(505, 16 + 5 * step, 125, 46, "#fdf1dc"),
        _text(567, 35 + 5 * step, "box", 12, "bold"),
        _text(567, 52 + 5 * step, "a network without a study", 10),
        _arrow(567, 14 + 5 * step, 567, 64 + 4 * step),
    ]
    parts += [
        _box(505, 16 + step, 125, 46, "#fdf1dc"),
        _text(567, 35 + step, "sweep", 12, "bold"),
        _text(567, 52 + step, "better settings", 10),
        _arrow(490, 39 + step, 503, 39 + step),
        _box(505, 16 + 2 * step, 125, 46, "#fdf1dc"),
        _text(567, 35 + 2 * step, "fine_tuning", 12, "bold"),
        _text(567, 52 + 2 * step, "a few labels", 10),
        _arrow(490, 26 + 3 * step, 525, 64 + 2 * step),
    ]
    return _page(width, 16 + len(FLOW) * step + 8, "The flow of kedro run", parts)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "rooms.svg").write_text(rooms())
    (IMAGES / "flow.svg").write_text(flow())

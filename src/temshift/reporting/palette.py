"""Marks and colours of verdicts, colours of losses: for any kind of colour vision."""

from __future__ import annotations

import numpy as np

__all__ = [
    "BAND_COLOURS",
    "MARKS",
    "PLOTLY_SYMBOLS",
    "VERDICT_COLOURS",
    "WORST_LOSS",
    "loss_colours",
    "verdict_colour",
]

#: The mark of each verdict, wherever it stands: in badges, matrices and charts. Those between two
#: classes are half of each shape.
MARKS = {
    "robust": "●",
    "robust or degrades": "◐",
    "degrades": "▲",
    "degrades or breaks": "◮",
    "breaks": "■",
    "undecided": "○",
    "reference weak": "✕",
}
#: The same for Plotly, which knows no half shapes: there those between two classes are open.
PLOTLY_SYMBOLS = {
    "robust": "circle",
    "robust or degrades": "triangle-up-open",
    "degrades": "triangle-up",
    "degrades or breaks": "square-open",
    "breaks": "square",
    "undecided": "circle-open",
    "reference weak": "x",
}
#: Of Okabe and Ito (2008), darkened for text on white.
VERDICT_COLOURS = {
    "robust": "#00755a",
    "robust or degrades": "#5b6b00",
    "degrades": "#916000",
    "degrades or breaks": "#a34a00",
    "breaks": "#a81c2c",
    "undecided": "#5b6675",
    "reference weak": "#5b6675",
}
#: Of the areas between thresholds, on white: robust, degrades, breaks.
BAND_COLOURS = ("#e2f3ee", "#fbf0d4", "#fbe6dc")
# no loss … 0.5 Dice lost: lightness falls evenly from nearly white to dark red
_STOPS = np.array(
    [
        [246, 249, 250],
        [252, 228, 205],
        [247, 190, 148],
        [228, 132, 94],
        [186, 68, 55],
        [115, 22, 34],
    ],
    float,
)
#: Losses beyond it have the last colour.
WORST_LOSS = 0.5


def verdict_colour(verdict: str) -> str:
    """Return the colour of a verdict; of what is no verdict, that of undecided."""
    return VERDICT_COLOURS.get(verdict, VERDICT_COLOURS["undecided"])


def loss_colours(loss: float) -> tuple[str, str]:
    """Return background and text colour of a cell by the Dice that is lost in it."""
    if not np.isfinite(loss):
        return "transparent", "inherit"
    place = float(np.clip(loss / WORST_LOSS, 0, 1)) * (len(_STOPS) - 1)
    below = min(int(place), len(_STOPS) - 2)
    rgb = np.round(_STOPS[below] + (place - below) * (_STOPS[below + 1] - _STOPS[below]))
    # relative luminance (WCAG 2); at 0.179 black and white are equally easy to read
    linear = np.where(rgb <= 10, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    dark = linear @ [0.2126, 0.7152, 0.0722] < 0.179
    red, green, blue = (int(value) for value in rgb)
    return f"#{red:02x}{green:02x}{blue:02x}", "#ffffff" if dark else "#000000"

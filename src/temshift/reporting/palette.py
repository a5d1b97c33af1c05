"""Colours of verdicts and of Dice; told apart by people with any kind of colour vision."""

from __future__ import annotations

import numpy as np

__all__ = ["VERDICT_COLOURS", "dice_colours", "verdict_colour"]

#: Of Okabe and Ito (2008), darkened for text on white.
VERDICT_COLOURS = {
    "robust": "#00755a",
    "degrades": "#b57900",
    "breaks": "#b3400a",
    "undecided": "#6b7280",
}
# Dice 0 … 1: lightness falls evenly from nearly white to dark blue
_STOPS = np.array(
    [
        [247, 250, 252],
        [214, 230, 241],
        [160, 202, 225],
        [94, 160, 205],
        [40, 108, 170],
        [12, 56, 112],
    ],
    float,
)


def verdict_colour(verdict: str) -> str:
    """Return the colour of a verdict; one between two classes counts as undecided."""
    return VERDICT_COLOURS.get(verdict, VERDICT_COLOURS["undecided"])


def dice_colours(dice: float) -> tuple[str, str]:
    """Return background and text colour of a cell."""
    if not np.isfinite(dice):
        return "transparent", "inherit"
    place = float(np.clip(dice, 0, 1)) * (len(_STOPS) - 1)
    below = min(int(place), len(_STOPS) - 2)
    rgb = np.round(_STOPS[below] + (place - below) * (_STOPS[below + 1] - _STOPS[below]))
    # relative luminance (WCAG 2); at 0.179 black and white are equally easy to read
    linear = np.where(rgb <= 10, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    dark = linear @ [0.2126, 0.7152, 0.0722] < 0.179
    red, green, blue = (int(value) for value in rgb)
    return f"#{red:02x}{green:02x}{blue:02x}", "#ffffff" if dark else "#000000"

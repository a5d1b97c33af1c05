"""Scale bars of round lengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["round_length", "scale_bar"]


def scale_bar(
    picture: NDArray[np.uint8], pixel_size_nm: float | None, share: float = 0.25
) -> NDArray[np.uint8]:
    """Return a picture, (H, W, 3), with a bar of a round length at its lower left.

    Parameters
    ----------
    picture : ndarray, shape (H, W, 3), uint8
    pixel_size_nm : float, optional
        Side of a pixel of the picture; without it the bar is labelled in px.
    share : float
        The bar is at most this share of the width.
    """
    from PIL import Image, ImageDraw, ImageFont

    length, unit = round_length(picture.shape[1] * share * (pixel_size_nm or 1.0)), "nm"
    bar_px = round(length / (pixel_size_nm or 1.0))
    if not pixel_size_nm:
        unit = "px"
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas, "RGBA")
    size = max(11, picture.shape[1] // 36)
    font = ImageFont.load_default(size)
    text = f"{length:g} {unit}"
    width = max(bar_px, round(draw.textlength(text, font=font)))
    left, bottom, pad = size, picture.shape[0] - size, size // 2
    draw.rectangle(
        (left - pad, bottom - 2 * size - pad, left + width + pad, bottom + pad), fill=(0, 0, 0, 150)
    )
    thick = max(3, size // 4)
    draw.rectangle((left, bottom - thick, left + bar_px, bottom), fill=(255, 255, 255))
    draw.text((left, bottom - thick - round(1.45 * size)), text, font=font, fill=(255, 255, 255))
    return np.asarray(canvas)


def round_length(most: float) -> float:
    """Return the largest of 1, 2, 5 × a power of ten that is not above ``most``.

    Examples
    --------
    >>> [round_length(x) for x in (0.3, 7.0, 21.0)]
    [0.2, 5.0, 20.0]
    """
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most * (1 + 1e-9)))

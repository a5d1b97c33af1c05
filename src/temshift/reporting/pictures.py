"""Pictures inside the page: grey images and masks as data URIs."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

__all__ = ["grey_picture", "outcome_picture"]

#: Indices of an outcome picture: nothing, found, missed, false (Okabe and Ito's colours).
_OUTCOME_COLOURS = ((245, 245, 245), (0, 114, 178), (240, 228, 66), (213, 94, 0))


def grey_picture(image: NDArray[np.uint8]) -> str:
    """Return a grey image as a ``data:`` URI (WebP: noise makes PNG large)."""
    return _data_uri(image, None, "WEBP")


def outcome_picture(label: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> str:
    """Return a ``data:`` URI that shows what was found, what was missed and what is false."""
    outcome = np.select(
        [(label == 1) & (prediction == 1), label == 1, prediction == 1], [1, 2, 3], 0
    )
    return _data_uri(outcome.astype(np.uint8), _OUTCOME_COLOURS, "PNG")


def mask_picture(mask: NDArray[np.uint8]) -> str:
    """Return a mask as a ``data:`` URI: particles white on black."""
    return _data_uri((mask == 1).astype(np.uint8), ((20, 20, 20), (245, 245, 245)), "PNG")


def _data_uri(
    image: NDArray[np.uint8], palette: tuple[tuple[int, int, int], ...] | None, kind: str
) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    if palette is None:
        Image.fromarray(image, "L").save(buffer, kind, quality=60, method=6)
    else:
        picture = Image.fromarray(image, "P")
        picture.putpalette([value for colour in palette for value in colour])
        picture.save(buffer, kind, optimize=True, bits=2)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"

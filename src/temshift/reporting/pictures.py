"""Example micrographs inside the page: the picture, contours over it, a scale bar."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from temshift.learning.examples import Example

__all__ = ["BUDGET", "Picture", "Pictures", "contour_path", "scale_bar"]

#: Most characters that the pictures of a page take; beyond that they are shown smaller.
BUDGET = 9_000_000

_FACTORS = (1, 2, 4, 8)
#: Largest share of the width that a scale bar takes.
_LONGEST_BAR = 0.3
#: A contour may leave its mask by so much, px.
_TOLERANCE_PX = 0.6


@dataclass(frozen=True)
class Picture:
    """What a page shows of an example.

    Attributes
    ----------
    uri : str
        The grey picture (``data:``).
    width, height : int
        Of the example, px: what contours and scale bar are measured in.
    truth, prediction : str
        Contours as paths of SVG.
    bar_px : float
        Length of the scale bar.
    bar : str
        The same in words: ``2 nm``, or ``100 px`` where the pixel size is unknown.
    """

    uri: str
    width: int
    height: int
    truth: str
    prediction: str
    bar_px: float
    bar: str


class Pictures:
    """The pictures of a page, in the finest resolution that its budget allows.

    Parameters
    ----------
    shown : sequence of Example
        Every example of the page, as often as it is shown.
    budget : int
        Most characters of all pictures.
    """

    def __init__(self, shown: Sequence[Example], budget: int = BUDGET) -> None:
        images = {_key(e.image): e.image for e in shown}
        uses = Counter(_key(e.image) for e in shown)
        self._uris: dict[tuple[tuple[int, ...], bytes], str] = {}
        for self.factor in _FACTORS:
            self._uris = {key: _encode(_shrink(im, self.factor)) for key, im in images.items()}
            if sum(len(uri) * uses[key] for key, uri in self._uris.items()) <= budget:
                break

    def show(self, example: Example) -> Picture:
        """Return an example as a page shows it."""
        height, width = example.image.shape
        bar_px, bar = scale_bar(width, example.pixel_size_nm, example.shrunk)
        return Picture(
            self._uris[_key(example.image)],
            width,
            height,
            contour_path(example.label),
            contour_path(example.prediction),
            bar_px,
            bar,
        )


def contour_path(mask: NDArray[np.uint8]) -> str:
    """Return the outlines of a mask, shape (H, W), 1 inside, as a path of SVG.

    Particles that the edge of the picture cuts are not closed along it. The middle of the upper
    left pixel is at (0.5, 0.5).
    """
    from skimage.measure import approximate_polygon, find_contours

    parts = []
    for line in find_contours((mask == 1).astype(float), 0.5):
        points = approximate_polygon(line, _TOLERANCE_PX) + 0.5
        closed = len(points) > 2 and bool((points[0] == points[-1]).all())
        if closed:
            points = points[:-1]
        parts.append("M" + "L".join(f"{x:.4g} {y:.4g}" for y, x in points) + "Z" * closed)
    return "".join(parts)


def scale_bar(width: int, pixel_size_nm: float | None, shrunk: int = 1) -> tuple[float, str]:
    """Return the length of a scale bar in pixels of a picture, and what it stands for.

    Parameters
    ----------
    width : int
        Of the picture, px.
    pixel_size_nm : float, optional
        Of the patch; without it the bar counts pixels of the patch.
    shrunk : int
        Pixels of the patch along a pixel of the picture.

    Examples
    --------
    >>> scale_bar(512, 0.02), scale_bar(256, None, 2)
    ((100.0, '2 nm'), (50.0, '100 px'))
    """
    known = bool(pixel_size_nm and pixel_size_nm > 0)  # NaN is not
    unit = shrunk * (pixel_size_nm if pixel_size_nm and known else 1.0)
    longest = _LONGEST_BAR * width * unit
    power = 10.0 ** math.floor(math.log10(longest))
    length = max(m * power for m in (1, 2, 5) if m * power <= longest * (1 + 1e-9))
    return round(length / unit, 3), f"{length:g} {'nm' if known else 'px'}"


# --------------------------------------------------------------------------- inside
def _key(image: NDArray[np.uint8]) -> tuple[tuple[int, ...], bytes]:
    return image.shape, image.tobytes()


def _shrink(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return block means; an incomplete block at the far edges is dropped."""
    if factor == 1 or min(image.shape) < factor:
        return image
    rows, columns = (side // factor for side in image.shape)
    blocks = image[: rows * factor, : columns * factor].astype(float)
    means = blocks.reshape(rows, factor, columns, factor).mean(axis=(1, 3))
    return means.round().astype(np.uint8)


def _encode(grey: NDArray[np.uint8]) -> str:
    """Return a grey picture as a ``data:`` URI: noise makes all but AVIF large."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "AVIF", quality=40, speed=9, max_threads=1)
    return f"data:image/avif;base64,{base64.b64encode(buffer.getvalue()).decode()}"

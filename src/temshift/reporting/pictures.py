"""Example micrographs inside the page: the picture, contours over it, a scale bar."""

from __future__ import annotations

import base64
import io
import math
import re
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
#: A point of a contour is left out if it lies so near to the line between its neighbours, px.
_TOLERANCE_PX = 0.5
#: How often every second point may be left out.
_PASSES = 4


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
            taken = 0
            for key, image in images.items():
                self._uris[key] = _encode(_shrink(image, self.factor))
                taken += len(self._uris[key]) * uses[key]
                if taken > budget:
                    break
            else:
                return
        self._uris = {key: _encode(_shrink(im, self.factor)) for key, im in images.items()}

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
    from skimage.measure import find_contours

    parts = []
    for line in find_contours((mask == 1).astype(float), 0.5):
        closed = len(line) > 2 and bool((line[0] == line[-1]).all())
        points = _simplified(line + 0.5)
        if closed:
            points = points[:-1]
        parts.append(_path(points) + "z" * closed)
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


def _path(points: NDArray[np.float64]) -> str:
    """Return a line as steps from point to point, which are short to write: halves of pixels.

    The steps stand behind ``l``: pairs that follow ``M`` would be places (SVG 2, section 9.3.3).
    """
    steps = np.diff(points[:, ::-1], axis=0, prepend=0)
    start, rest = (
        " ".join(f"{step:g}" for step in part.ravel()) for part in (steps[:1], steps[1:])
    )
    return re.sub(r"(?<!\d)0\.", ".", f"M{start}l{rest}".replace(" -", "-"))


def _simplified(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a line, shape (N, 2), without points that hardly bend it; its ends stay.

    Every second point at a time: the line moves by less than a pixel in all, and thousands of small
    outlines take milliseconds.
    """
    for _ in range(_PASSES):
        if len(points) < 6:
            break
        before, here, after = points[:-2:2], points[1:-1:2], points[2::2]
        n = min(len(before), len(here), len(after))
        chord, offset = after[:n] - before[:n], here[:n] - before[:n]
        length = np.maximum(np.hypot(*chord.T), 1e-9)
        distance = np.abs(chord[:, 0] * offset[:, 1] - chord[:, 1] * offset[:, 0]) / length
        kept = np.ones(len(points), bool)
        kept[1 : 2 * n : 2] = distance > _TOLERANCE_PX
        points = points[kept]
    return points


def _encode(grey: NDArray[np.uint8]) -> str:
    """Return a grey picture as a ``data:`` URI: noise makes all but AVIF large."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "AVIF", quality=40, speed=9, max_threads=1)
    return f"data:image/avif;base64,{base64.b64encode(buffer.getvalue()).decode()}"

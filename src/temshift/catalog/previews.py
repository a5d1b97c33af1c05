"""Pictures as Kedro-Viz takes them."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from kedro_datasets._typing import ImagePreview
from numpy.typing import NDArray

__all__ = ["PREVIEW_ASPECT", "captioned", "image_preview"]

#: Width by height of the frame of a preview: Kedro-Viz stretches any picture to it, 457 by 300 px.
PREVIEW_ASPECT = 457 / 300
_PAPER, _INK = (245, 247, 250), (28, 36, 48)


def image_preview(picture: NDArray[Any], caption: str = "") -> ImagePreview:
    """Return a picture as a PNG in base64, on a ground of the shape of Kedro-Viz's frame.

    Parameters
    ----------
    picture : (H, W) or (H, W, 3) ndarray of uint8
        Grey or coloured.
    caption : str
        What it shows, in a line below it.
    """
    from PIL import Image

    if caption:  # 13 px high where the frame is 300 px high
        size_px = max(picture.shape[0], picture.shape[1] / PREVIEW_ASPECT) / 22
        picture = captioned(picture, caption, round(size_px))
    shown = Image.fromarray(picture)
    width = max(shown.width, round(shown.height * PREVIEW_ASPECT))
    height = max(shown.height, round(shown.width / PREVIEW_ASPECT))
    ground = Image.new("RGB", (width, height), _PAPER)
    ground.paste(shown, ((width - shown.width) // 2, (height - shown.height) // 2))
    buffer = io.BytesIO()
    ground.save(buffer, "PNG")
    return ImagePreview(base64.b64encode(buffer.getvalue()).decode("ascii"))


def captioned(picture: NDArray[Any], caption: str, size_px: int) -> NDArray[np.uint8]:
    """Return a picture with a line below it; wider if the line needs it.

    Parameters
    ----------
    picture : (H, W) or (H, W, 3) ndarray of uint8
    caption : str
    size_px : int
        Of the letters.

    Returns
    -------
    (H + 2 size_px, W', 3) ndarray of uint8
        The picture is in the middle of its width.
    """
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    # Pillow's own typeface has no Å
    font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", max(size_px, 8))
    shown = Image.fromarray(picture)
    length = ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(caption, font)
    width, height = max(shown.width, round(1.04 * length)), shown.height + 2 * size_px
    ground = Image.new("RGB", (width, height), _PAPER)
    ground.paste(shown, ((width - shown.width) // 2, 0))
    place = (width / 2, height - size_px)
    ImageDraw.Draw(ground).text(place, caption, fill=_INK, font=font, anchor="mm")
    return np.asarray(ground)

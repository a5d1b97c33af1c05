"""Pictures as Kedro-Viz takes them."""

from __future__ import annotations

import base64
import io
from typing import Any

from kedro_datasets._typing import ImagePreview
from numpy.typing import NDArray

__all__ = ["image_preview"]


def image_preview(picture: NDArray[Any]) -> ImagePreview:
    """Return a grey (H, W) or coloured (H, W, 3) uint8 picture as a PNG in base64."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return ImagePreview(base64.b64encode(buffer.getvalue()).decode("ascii"))

"""Pictures inside the page: grey images, masks and outcomes."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

from temshift.microscopy.pictures import outcomes

__all__ = ["Pictures"]

_BACKGROUND, _PARTICLE = (17, 21, 26), (240, 242, 245)
#: As :func:`temshift.microscopy.pictures.outcomes` numbers them (of Okabe and Ito, 2008).
_OUTCOMES = (_BACKGROUND, (86, 180, 233), (240, 228, 66), (213, 94, 0))


class Pictures:
    """The pictures of a page, each stored once however often it is shown.

    A picture becomes a rule of the style sheet (a background image); what shows it only names its
    class, since networks that are tested on one split show the same images and labels.
    """

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}
        self._encoded: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    @property
    def style(self) -> str:
        """The rules of all pictures."""
        return "\n".join(
            f".{name}{{background-image:url({uri})}}" for uri, name in self._classes.items()
        )

    def grey(self, image: NDArray[np.uint8]) -> str:
        """Return the class of a grey image."""
        return self._class("grey", image)

    def mask(self, mask: NDArray[np.uint8]) -> str:
        """Return the class of a mask, particles light on dark."""
        return self._class("mask", (mask == 1).astype(np.uint8))

    def outcome(self, label: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> str:
        """Return the class of a picture of what was found, missed and falsely predicted."""
        return self._class("outcome", outcomes(label, prediction))

    def _class(self, kind: str, values: NDArray[np.uint8]) -> str:
        key = (kind, values.shape, values.tobytes())
        if key not in self._encoded:
            self._encoded[key] = _encode(kind, values)
        return self._classes.setdefault(self._encoded[key], f"p{len(self._classes)}")


def _encode(kind: str, values: NDArray[np.uint8]) -> str:
    """Return a picture as a ``data:`` URI."""
    from PIL import Image

    buffer = io.BytesIO()
    if kind == "grey":  # noise makes PNG large
        media = "webp"
        Image.fromarray(values).save(buffer, "WEBP", quality=60)
    else:
        media = "png"
        picture = Image.fromarray(values)
        colours = _OUTCOMES if kind == "outcome" else (_BACKGROUND, _PARTICLE)
        picture.putpalette([value for colour in colours for value in colour])
        picture.save(buffer, "PNG", optimize=True)
    return f"data:image/{media};base64,{base64.b64encode(buffer.getvalue()).decode()}"

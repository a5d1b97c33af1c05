"""Pictures (PNG, JPEG, BMP, GIF ...): read by Pillow; 16-bit colours by imagecodecs.

A picture's dpi say nothing of the specimen: there is no pixel size.
"""

from __future__ import annotations

import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temshift.catalog.reading.found import MAX_PX, Found, as_pixels, check_bytes, check_shape
from temshift.catalog.reading.refusals import RefusedError

__all__ = ["read"]

_PNG, _GIF, _JPEG, _BMP = b"\x89PNG\r\n\x1a\n", b"GIF8", b"\xff\xd8\xff", b"BM"
_RIFF = b"RIFF"  # WebP

_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "PPM", "WEBP")

#: Most pixels in a byte: JPEG has a bit for a block of 64 at least, GIF and BMP repeat pixels.
_MAX_PX_PER_BYTE = {"JPEG": 1000, "GIF": 3000, "BMP": 256, "DIB": 256, "PPM": 8}
_MAX_PX_PER_BYTE_OF_OTHERS = 8 * 1100

#: Pillow scales grey levels of 2 and 4 bits to 0 … 255.
_SCALED = {"L;2": 85, "L;4": 17}

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGB_ALPHA: 4}

_limit_lock = threading.Lock()


def read(file: Path, header_only: bool) -> Found:
    """Read a picture; see :func:`temshift.catalog.reading.formats.open_image`."""
    from PIL import Image, UnidentifiedImageError

    with _limit_lock:  # ours is larger, and it is checked below
        if (Image.MAX_IMAGE_PIXELS or 0) < MAX_PX:
            Image.MAX_IMAGE_PIXELS = MAX_PX
    with file.open("rb") as stream:
        head = stream.read(64)
    if head.startswith(_PNG):
        _check_png(file)
    elif any(kind.startswith(head) for kind in (_PNG, _GIF)):
        raise RefusedError(f"it is truncated: it has only {len(head)} bytes")
    elif head.startswith((_JPEG, _JPEG[:2])):
        _check_end(file, b"\xff\xd9")
    elif head.startswith(_GIF):
        _check_last_byte(file, b"\x3b")
    elif head.startswith(_RIFF) and len(head) >= 12:
        check_bytes(file, 8 + struct.unpack_from("<I", head, 4)[0])
    elif head.startswith(_BMP):
        _check_bmp(head, file)
    try:
        picture = Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise RefusedError(
            "it is no picture, or its first bytes are damaged: they are of none of the formats "
            + ", ".join(_FORMATS)
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RefusedError(f"its header claims more than {MAX_PX} px: it is damaged") from error
    with picture:
        shape = check_shape((picture.height, picture.width))
        most = _MAX_PX_PER_BYTE.get(picture.format or "", _MAX_PX_PER_BYTE_OF_OTHERS)
        if shape[0] * shape[1] > most * (size := file.stat().st_size):
            raise RefusedError(
                f"its header claims {shape[0]} × {shape[1]} px, but it has only {size} bytes: it "
                "is truncated or damaged"
            )
        if (frames := getattr(picture, "n_frames", 1)) > 1:
            raise RefusedError(f"it holds {frames} pictures, not one")
        if picture.format == "PPM":
            _check_ppm(head)
        if header_only:
            return Found(shape, None)
        if picture.format == "PNG" and head[24] == 16 and head[25] != _GREY:
            return Found(shape, _deep_png(file, shape))
        if picture.mode == "P":
            colours = _palette(picture)
            numbers = as_pixels(picture)
            return Found(shape, numbers, palette=colours)
        if picture.mode == "PA":
            return Found(shape, as_pixels(picture.convert("RGBA")))
        if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            return Found(shape, as_pixels(picture.convert("RGB")))
        if picture.mode not in ("1", "L", "LA", "I", "F", "RGB", "RGBA") and not (
            picture.mode.startswith("I;16")
        ):
            raise RefusedError(f"its colours are of a kind that is not read ({picture.mode})")
        step = _SCALED.get(_raw_mode(picture))
        pixels = as_pixels(picture)
    return Found(shape, pixels // np.uint8(step) if step else pixels)


def _raw_mode(picture: Any) -> str:
    """Return how Pillow unpacks the pixels of a file."""
    tiles = getattr(picture, "tile", None)
    args = tiles[0][3] if tiles else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _palette(picture: Any) -> NDArray[np.uint8]:
    """Return the colours of a palette as red, green, blue and alpha."""
    from PIL import Image

    lookup = Image.fromarray(np.arange(256, dtype=np.uint8)[None]).convert("L")
    numbers = Image.frombytes("P", lookup.size, lookup.tobytes())
    numbers.putpalette(picture.getpalette() or [])
    if "transparency" in picture.info:
        numbers.info["transparency"] = picture.info["transparency"]
    return np.array(numbers.convert("RGBA"))[0]


def _deep_png(file: Path, shape: tuple[int, int]) -> NDArray[Any]:
    """Return the pixels of a PNG with colours or alpha of 16 bits, which Pillow cuts to 8."""
    import imagecodecs

    data = np.asarray(imagecodecs.png_decode(file.read_bytes()))
    if data.shape[:2] != shape or data.dtype != np.uint16:
        raise RefusedError("it is damaged: its pixels are not those of its header")
    return as_pixels(data)


def _check_png(file: Path) -> None:
    """Walk over the chunks of a PNG: a file that ends before its last one is truncated."""
    size, compressed, head = file.stat().st_size, 0, b""
    with file.open("rb") as stream:
        stream.seek(8)
        while True:
            start = stream.read(8)
            if len(start) < 8:
                raise RefusedError(f"it is truncated: it ends after {size} bytes, before its end")
            (length,), kind = struct.unpack(">I", start[:4]), start[4:]
            if stream.tell() + length + 4 > size:
                raise RefusedError(
                    f"it is truncated: it has {size} of at least {stream.tell() + length + 4} bytes"
                )
            if kind == b"IHDR":
                head = stream.read(min(length, 13))
                stream.seek(length - len(head), 1)
            else:
                compressed += length if kind in (b"IDAT", b"fdAT") else 0
                stream.seek(length, 1)
            stream.seek(4, 1)
            if kind == b"IEND":
                break
    if len(head) < 13:
        raise RefusedError("it is damaged: its header is missing")
    width, height, bits, colour = struct.unpack(">IIBB", head[:10])
    check_shape((height, width))
    n_bytes = width * height * bits * _CHANNELS.get(colour, 1) // 8
    if n_bytes > 1100 * compressed + 4096:
        raise RefusedError(
            f"its header claims {height} × {width} px, but it holds only {compressed} bytes of "
            "them: it is truncated or damaged"
        )


def _check_end(file: Path, mark: bytes) -> None:
    """Refuse a file without the mark at its end; programs may add a little after it."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - (1 << 16)))
        if mark not in stream.read():
            raise RefusedError("it is truncated: the mark at its end is missing")


def _check_last_byte(file: Path, mark: bytes) -> None:
    """Refuse a file that does not end with a mark, padded with zeros perhaps."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - (1 << 16)))
        if not stream.read().rstrip(b"\0").endswith(mark):
            raise RefusedError("it is truncated: the mark at its end is missing")


def _check_bmp(head: bytes, file: Path) -> None:
    size = file.stat().st_size
    if len(head) < 30:
        raise RefusedError(f"it is truncated: it has only {size} bytes")
    start, _, width, height = struct.unpack_from("<IIii", head, 10)
    bits, compression = struct.unpack_from("<HI", head, 28) if len(head) >= 34 else (0, 0)
    if compression in (0, 3) and bits in (1, 4, 8, 16, 24, 32) and width > 0:
        needed = start + (width * bits + 31) // 32 * 4 * abs(height)
        if size < needed:
            raise RefusedError(f"it is truncated: it has {size} of {needed} bytes")


def _check_ppm(head: bytes) -> None:
    """Refuse what Pillow would scale or cut: grey levels other than 8 and 16 bits."""
    words = b" ".join(line.split(b"#")[0] for line in head.split(b"\n")).split()
    kind = words[0][:2] if words else b""
    if kind in (b"P1", b"P4") or len(words) < 4:
        return
    top = words[3].decode("latin-1")
    if top not in ("255", "65535") or (top == "65535" and kind in (b"P3", b"P6")):
        raise RefusedError(
            f"its largest grey level is {top}; of such pictures those with 255, and grey ones "
            "with 65535, are read: save it as PNG or TIFF"
        )

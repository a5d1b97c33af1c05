"""Series of FEI's TIA (``.ser``): one image, with its calibration.

Every length is checked against the size of the file before a pixel is read; RosettaSciIO
allocates what the header claims. The format: C. Boothroyd,
https://personal.ntu.edu.sg/cbb/info/TIAformat/
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from temshift.catalog.reading.found import Found, as_pixels, check_bytes, check_shape
from temshift.catalog.reading.refusals import RefusedError
from temshift.catalog.reading.units import Axis

__all__ = ["check", "read"]

_TYPES = dict(
    zip(range(1, 11), ("u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8", "c8", "c16"), strict=True)
)
_LINES, _IMAGES = 0x4120, 0x4122

#: A pixel is never as large (m): the number is in 1/m, as TIA writes it for diffraction patterns.
_LARGEST_M = 1.0


def read(file: Path, header_only: bool) -> Found:
    """Read the image of a series; see :func:`temshift.catalog.reading.formats.open_image`."""
    with file.open("rb") as stream:
        valid, start = _check_head(stream.read(34), file, stream)
        if valid != 1:
            raise RefusedError(f"it holds {valid} images, a stack: save each in its own file")
        shape, dtype, axes = _check_element(start, file, stream)
        pixels = None
        if not header_only:
            stream.seek(start + 50)
            data = np.fromfile(stream, dtype, shape[0] * shape[1])
            pixels = as_pixels(data.reshape(shape)[::-1])  # TIA counts rows from below
    return Found(shape, pixels, axes)


def check(file: Path) -> None:
    """Refuse a series of images whose header claims more than the file holds.

    Raises
    ------
    RefusedError
    """
    with file.open("rb") as stream:
        head = stream.read(34)
        # RosettaSciIO leaves series out in which nothing was recorded
        if len(head) == 34 and (head[6:10] == struct.pack("<I", _LINES) or not any(head[18:22])):
            return
        _, start = _check_head(head, file, stream)
        _check_element(start, file, stream)


def _check_element(
    start: int, file: Path, stream: Any
) -> tuple[tuple[int, int], Any, tuple[Axis, Axis]]:
    """Return shape, number type and calibration of the first image, which must be whole."""
    stream.seek(start)
    element = stream.read(50)
    if len(element) < 50:
        raise RefusedError("it is truncated: it ends before its image")
    x_step, y_step = (struct.unpack_from("<d", element, at + 8)[0] for at in (0, 20))
    kind, columns, rows = struct.unpack_from("<HII", element, 40)
    if kind not in _TYPES:
        raise RefusedError(f"it is damaged: its pixels are of the unknown type {kind}")
    dtype = np.dtype("<" + _TYPES[kind])
    if dtype.kind == "c":
        raise RefusedError("it holds complex numbers (a Fourier transform), no micrograph")
    shape = check_shape((rows, columns))
    check_bytes(file, start + 50 + rows * columns * dtype.itemsize)
    return shape, dtype, (_axis(y_step), _axis(x_step))


def _check_head(head: bytes, file: Path, stream: Any) -> tuple[int, int]:
    """Return the number of images, and where the first begins."""
    if len(head) < 34:
        raise RefusedError(f"it is truncated: it has {len(head)} bytes, fewer than a header")
    order, series, version, kind, _, _, valid = struct.unpack_from("<3H4I", head, 0)
    if (order, series) != (0x4949, 0x0197) or kind not in (_LINES, _IMAGES):
        raise RefusedError("it is no series of TIA, or damaged: its first bytes are of no such")
    if kind == _LINES:
        raise RefusedError("it holds lines or spectra, no image")
    if valid == 0:
        raise RefusedError("it holds no image: nothing was recorded, or its .emi file has it")
    wide = version > 0x0210
    size, code = (8, "Q") if wide else (4, "I")
    offsets_at, _ = struct.unpack_from(f"<{code}I", head + bytes(4), 22)
    check_bytes(file, offsets_at + 2 * size * valid)
    stream.seek(offsets_at)
    start = struct.unpack(f"<{code}", stream.read(size))[0]
    check_bytes(file, start + 50)
    return valid, start


def _axis(step: float) -> Axis:
    if abs(step) > _LARGEST_M:
        return Axis(step, "1/m")
    return Axis(step * 1e9, "nm") if step else Axis()

"""MRC files, by the standard MRC2014 and with the habits of IMOD and FEI.

RosettaSciIO takes mode 0 as unsigned, does not swap the pixels of big-endian files, and gives
1 nm where the header has no calibration; so the header is read here.

The format: A. Cheng et al., "MRC2014: Extensions to the MRC format header for electron
cryo-microscopy and tomography", J. Struct. Biol. 192 (2015) 146, doi:10.1016/j.jsb.2015.04.002;
IMOD's fields: https://bio3d.colorado.edu/imod/doc/mrc_format.txt
"""

from __future__ import annotations

import math
import struct
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from temshift.catalog.reading.found import Found, as_pixels, check_bytes, check_shape
from temshift.catalog.reading.refusals import RefusedError
from temshift.catalog.reading.units import Axis

__all__ = ["is_mrc", "layout", "read"]

_HEADER = 1024
_IMOD_STAMP = 1146047817
_FEI_EXTENDED = 128 * 1024

_MODES = {1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_OTHER_MODES = {
    3: "complex numbers (a Fourier transform)",
    4: "complex numbers (a Fourier transform)",
    16: "colours of IMOD (mode 16)",
    101: "numbers of 4 bits (mode 101)",
}


def is_mrc(file: Path) -> bool:
    """Return whether a file has the mark of MRC in its header (other formats end in .map too)."""
    with file.open("rb") as stream:
        return stream.read(212)[208:] == b"MAP "


def read(file: Path, header_only: bool) -> Found:
    """Read the image of an MRC file; see :func:`temshift.catalog.reading.formats.open_image`."""
    stored, dtype, start, axes = layout(file)
    shape = check_shape(stored)
    pixels = None
    if not header_only:
        pixels = as_pixels(np.fromfile(file, dtype, prod(stored), offset=start).reshape(shape))
    return Found(shape, pixels, axes)


def layout(
    file: Path,
) -> tuple[tuple[int, int, int], np.dtype[Any], int, tuple[Axis, Axis]]:
    """Return sections, rows and columns of an MRC file, type and place of its pixels, calibration.

    Raises
    ------
    RefusedError
        It is truncated, damaged, or holds no counts.
    """
    with file.open("rb") as stream:
        head = stream.read(_HEADER)
    if len(head) < _HEADER:
        raise RefusedError(
            f"it is truncated: it has {len(head)} bytes, fewer than the header of an MRC file"
        )
    order = _byte_order(head)
    columns, rows, sections, mode = struct.unpack_from(f"{order}4i", head, 0)
    if mode in _OTHER_MODES:
        raise RefusedError(f"it holds {_OTHER_MODES[mode]}, no micrograph")
    dtype = np.dtype(order + _MODES[mode]) if mode else np.dtype(_bytes_of_mode_0(order, head))
    extended = struct.unpack_from(f"{order}i", head, 92)[0]
    if extended < 0:
        raise RefusedError("it is damaged: the size of its extended header is negative")
    stored = (sections, rows, columns)
    start = _HEADER + extended
    check_bytes(file, start + prod(stored) * dtype.itemsize)
    axes = _axes_of_fei(file, order, head, extended) or _axes(order, head)
    return stored, dtype, start, axes


def _byte_order(head: bytes) -> str:
    """Return ``<`` or ``>``: by the machine stamp if the header makes sense so, else by sense."""
    stamped = ">" if head[212:214] in (b"\x11\x11", b"\x11\x00") else "<"
    for order in (stamped, "<>"[stamped == "<"]):
        columns, rows, sections, mode = struct.unpack_from(f"{order}4i", head, 0)
        known = mode == 0 or mode in _MODES or mode in _OTHER_MODES
        if known and 0 < columns < 1 << 24 and 0 < rows < 1 << 24 and 0 < sections < 1 << 24:
            return order
    raise RefusedError("it is no MRC file, or its header is damaged: its sizes or mode cannot be")


def _bytes_of_mode_0(order: str, head: bytes) -> str:
    """Return the type of mode 0: signed, unless IMOD wrote the file and its flag says otherwise."""
    stamp, flags = struct.unpack_from(f"{order}2i", head, 152)
    return "u1" if stamp == _IMOD_STAMP and not flags & 1 else "i1"


def _axes(order: str, head: bytes) -> tuple[Axis, Axis]:
    """Return the calibration of rows and columns: the cell (Å) over its number of samples."""
    columns, rows = struct.unpack_from(f"{order}2i", head, 0)
    samples = struct.unpack_from(f"{order}3i", head, 28)
    cell = struct.unpack_from(f"{order}3f", head, 40)
    order_of_axes = struct.unpack_from(f"{order}3i", head, 64)
    if sorted(order_of_axes) != [1, 2, 3]:
        order_of_axes = (1, 2, 3)
    if cell[0] == cell[1] == 1 and (samples[0] > 1 or samples[1] > 1):
        return Axis(), Axis()  # the unit cell of programs that know none
    found = []
    for n, axis in ((rows, order_of_axes[1]), (columns, order_of_axes[0])):
        length, steps = cell[axis - 1], samples[axis - 1]
        usable = n > 0 and steps > 0 and length > 0 and math.isfinite(length)
        found.append(Axis(length / steps, "Å") if usable else Axis())
    return found[0], found[1]


def _axes_of_fei(file: Path, order: str, head: bytes, extended: int) -> tuple[Axis, Axis] | None:
    """Return the calibration in the extended header of FEI's older files (m), if there is one."""
    if extended != _FEI_EXTENDED or head[104:107] == b"FEI":
        return None
    with file.open("rb") as stream:
        stream.seek(_HEADER + 11 * 4)
        value = stream.read(4)
    size = struct.unpack(f"{order}f", value)[0] if len(value) == 4 else 0.0
    return (Axis(size, "m"),) * 2 if math.isfinite(size) and size > 0 else None

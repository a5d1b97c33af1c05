"""What was found in a file: one image, its calibration, and how its numbers are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temshift.catalog.reading.refusals import RefusedError
from temshift.catalog.reading.units import Axis

__all__ = [
    "Found",
    "as_pixels",
    "check_bytes",
    "check_shape",
    "grey",
    "is_coloured",
    "is_picture",
    "refuse_channels",
]

#: No camera has more pixels: a larger image is a damaged header.
MAX_PX = 2**30

#: Names of an axis of channels, in small letters.
_CHANNELS = ("c", "channel", "channels")

#: Channels that a field may have; more of them are frames, which some programs (tifffile for
#: ImageJ) call channels if nobody says what they are.
_MOST_CHANNELS = 16

#: Weights of red, green and blue in the luminance (ITU-R BT.709, as in scikit-image).
LUMINANCE = np.array([0.2125, 0.7154, 0.0721], np.float32)


@dataclass(frozen=True)
class Found:
    """One image of a file.

    Attributes
    ----------
    shape : (int, int)
        Height and width, px.
    pixels : ndarray or None
        ``(H, W)`` numbers, ``(H, W, 2)`` grey and alpha, ``(H, W, 3)`` or ``(H, W, 4)`` colours
        (and alpha); ``None`` if only the header was asked for.
    axes : sequence of Axis
        Calibration of rows and columns; empty if the format has none.
    metadata : dict
        Of the acquisition, under the names of the data contract.
    palette : ndarray, shape (n, 4), uint8, optional
        ``pixels`` are numbers of these colours (red, green, blue, alpha).
    white_is_zero_of : int, optional
        0 is shown white and this number black (TIFF's ``WhiteIsZero``).
    """

    shape: tuple[int, int]
    pixels: NDArray[Any] | None
    axes: Sequence[Axis] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    palette: NDArray[np.uint8] | None = None
    white_is_zero_of: int | None = None


def check_shape(shape: Sequence[int], what: str = "") -> tuple[int, int]:
    """Return height and width of an image; refuse what is none, before a pixel is read.

    Parameters
    ----------
    shape : sequence of int
        Axes of length 1 do not count.
    what : str
        What else is known of it, for the message.
    """
    sides = tuple(shape)
    if 0 in sides:
        raise RefusedError(f"it holds no pixels: its shape is {times(sides)}")
    if len(sides) > 2:
        sides = tuple(n for n in sides if n > 1)
    if len(sides) != 2:
        raise RefusedError(
            f"it holds {times(shape)}{what}: a stack, a line or a spectrum image, not one image"
        )
    if prod(sides) > MAX_PX:
        raise RefusedError(
            f"its header claims {times(sides)} px, more than any camera has ({MAX_PX} px are read "
            "at most): it is damaged, or no micrograph"
        )
    return int(sides[0]), int(sides[1])


def is_coloured(shape: Sequence[int]) -> bool:
    """Return whether an array (H, W, n) has channels rather than frames: no image is so narrow."""
    return len(shape) == 3 and 1 < shape[2] <= 4 < min(shape[:2])


def refuse_channels(axes: Sequence[str], shape: Sequence[int]) -> None:
    """Refuse an array with an axis of up to 16 channels, which show one field several times.

    Parameters
    ----------
    axes : sequence of str
        What the file calls the axes of the array; ``C`` and ``channel`` are channels.
    shape : sequence of int
        Their lengths.
    """
    for axis, n in zip(axes, shape, strict=False):
        if 1 < n <= _MOST_CHANNELS and axis.strip().lower() in _CHANNELS:
            raise RefusedError(
                f"it holds {n} channels of one field ({times(shape)}, axes {', '.join(axes)}), "
                "which are no frames: save the channel to be segmented as a file of its own, or, "
                "if they are frames, with an axis of time (T) or depth (Z)"
            )


def check_bytes(file: Path, needed: int) -> None:
    """Refuse a file that is shorter than its header says.

    Parameters
    ----------
    file : Path
    needed : int
        Bytes up to the end of the pixels.
    """
    size = file.stat().st_size
    if size < needed:
        raise RefusedError(f"it is truncated: it has {size} of {needed} bytes")


def times(shape: Sequence[int]) -> str:
    """Return a shape in words."""
    return " × ".join(map(str, shape))


def as_pixels(data: Any) -> NDArray[Any]:
    """Return pixels as a contiguous array in the byte order of this machine.

    Truth values become 0 and 1, half precision single; records of R, G, B (and A) a last axis.

    Raises
    ------
    RefusedError
        Complex numbers, or elements that are no numbers.
    """
    array = np.asarray(data)
    if array.dtype.names and set("RGB") <= set(array.dtype.names):
        array = np.stack([array[c] for c in "RGBA" if c in array.dtype.names], axis=-1)
    check_numbers(array.dtype)
    if array.dtype.kind == "b":
        # Pillow's truth is 255, and stays so in an array of truth values
        return (np.ascontiguousarray(array).view(np.uint8) != 0).view(np.uint8)
    if array.dtype.kind == "f" and array.dtype.itemsize == 2:
        return np.ascontiguousarray(array, dtype=np.float32)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def check_numbers(dtype: Any) -> None:
    """Refuse elements that are no counts."""
    kind = np.dtype(dtype)
    if kind.names and set("RGB") <= set(kind.names):
        return
    if kind.kind == "c":
        raise RefusedError("it holds complex numbers (a Fourier transform), no micrograph")
    if kind.kind not in "biuf":
        raise RefusedError(f"its elements are no numbers ({kind}): it holds no micrograph")


def grey(found: Found) -> NDArray[Any]:
    """Return the image as one grey channel.

    Colours become their luminance (float32), unless the channels are the same; alpha is left out.
    """
    pixels = found.pixels
    if pixels is None:
        raise ValueError("only the header was read")
    if found.palette is not None:
        colours = found.palette[:, :3]
        lookup = _luminance(colours)
        if pixels.max(initial=0) >= len(lookup):
            raise RefusedError("it is damaged: some of its numbers have no colour in its palette")
        return lookup[pixels]
    if pixels.ndim == 3:
        return _luminance(pixels[..., :3]) if pixels.shape[2] > 2 else pixels[..., 0].copy()
    if found.white_is_zero_of is not None:
        if pixels.dtype.kind != "u":
            raise RefusedError(
                f"its number 0 is shown white (WhiteIsZero), and for {pixels.dtype} the format "
                "does not say which is black: save it with 0 for black"
            )
        return pixels.dtype.type(found.white_is_zero_of) - pixels
    return pixels


def is_picture(found: Found) -> bool:
    """Return whether an image that was read shows colours, which :func:`grey` gives up."""
    if found.palette is not None:
        used = np.unique(found.pixels) if found.pixels is not None else ()
        colours = found.palette[[n for n in used if n < len(found.palette)], :3]
    elif found.pixels is not None and found.pixels.ndim == 3 and found.pixels.shape[2] > 2:
        colours = found.pixels
    else:
        return False
    return not all(np.array_equal(colours[..., 0], colours[..., c]) for c in (1, 2))


def _luminance(colours: NDArray[Any]) -> NDArray[Any]:
    red = colours[..., 0]
    if all(np.array_equal(red, colours[..., c]) for c in (1, 2)):
        return np.ascontiguousarray(red)
    total = red * LUMINANCE[0]
    for c in (1, 2):
        total += colours[..., c] * LUMINANCE[c]
    return total.astype(np.float32, copy=False)

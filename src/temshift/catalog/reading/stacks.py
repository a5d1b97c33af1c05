"""Stacks and movies: the frames of a file, read one by one.

Three-dimensional files of TIFF, MRC, NumPy, HyperSpy and Digital Micrograph. The first axis counts
the frames; where the file says that it counts channels, which show the same particles, the file is
refused. Nothing but the frame that is asked for is read, so that a movie of any length takes the
memory of a frame.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temshift.catalog.reading import hdf5, mrc, tiff
from temshift.catalog.reading.acquisition import acquisition
from temshift.catalog.reading.digital_micrograph import find_image
from temshift.catalog.reading.found import (
    Found,
    as_pixels,
    check_numbers,
    check_shape,
    is_coloured,
    refuse_channels,
)
from temshift.catalog.reading.refusals import RefusedError
from temshift.catalog.reading.rosettasciio import axes_of, close
from temshift.catalog.reading.units import Axis

__all__ = ["count_frames", "read_frame"]


@dataclass(frozen=True)
class _Stack:
    """A stack of an open file."""

    shape: tuple[int, ...]
    frame: Callable[[int], Any]
    axes: tuple[Axis, ...] = ()
    metadata: dict[str, Any] | None = None


def count_frames(file: Path) -> int:
    """Return how many frames a file holds: 0 if it is no stack, or of a format not read as one.

    Raises
    ------
    Exception
        Whatever a library raises on a damaged file.
    """
    with _open(file) as stack:
        return stack.shape[0] if stack is not None else 0


def read_frame(file: Path, number: int) -> Found:
    """Read one frame of a stack.

    Parameters
    ----------
    file : Path
    number : int
        From 0.

    Raises
    ------
    RefusedError
        The file is no stack, or has no such frame.
    """
    with _open(file) as stack:
        if stack is None:
            raise RefusedError("it is no stack of images")
        if not 0 <= number < stack.shape[0]:
            raise RefusedError(f"it has {stack.shape[0]} frames, numbered from 0; found {number}")
        shape = check_shape(stack.shape[1:])
        pixels: NDArray[Any] = as_pixels(np.array(stack.frame(number))).reshape(shape)
        return Found(shape, pixels, stack.axes, stack.metadata or {})


@contextmanager
def _open(file: Path) -> Iterator[_Stack | None]:
    suffix = file.suffix.lower()
    with ExitStack() as files:
        stack = None
        if suffix in (".tif", ".tiff"):
            stack = _tiff(file, files)
        elif suffix in (".mrc", ".mrcs", ".st"):
            stack = _mrc(file)
        elif suffix == ".npy":
            data = np.load(file, mmap_mode="r", allow_pickle=False)
            stack = None if np.ndim(data) == 3 and is_coloured(data.shape) else _array(data)
        elif suffix in (".dm3", ".dm4"):
            stack = _digital_micrograph(file)
        elif suffix == ".hspy":
            stack = _hyperspy(file, files)
        if stack is not None and (len(stack.shape) != 3 or stack.shape[0] < 2):
            stack = None
        yield stack


def _array(data: Any, axes: tuple[Axis, ...] = ()) -> _Stack | None:
    if not isinstance(data, np.ndarray):
        return None
    check_numbers(data.dtype)
    return _Stack(data.shape, lambda i: data[i], axes)


def _tiff(file: Path, files: ExitStack) -> _Stack | None:
    import tifffile

    opened, pages, found = tiff.open_pages(file)
    files.callback(opened.close)
    axes = tuple(found)
    if len(pages) > 1:
        return _Stack((len(pages), *pages[0].shape), lambda i: pages[i].asarray(), axes)
    series = opened.series[0]  # a stack of ImageJ may lie behind one directory
    if len(series.shape) != 3 or series.dataoffset is None or "S" in series.axes:
        return None
    return _array(tifffile.memmap(file, series=0, mode="r"), axes)


def _mrc(file: Path) -> _Stack | None:
    stored, dtype, start, axes = mrc.layout(file)
    data = np.memmap(file, dtype, mode="r", offset=start, shape=stored)
    return _array(data, axes)


def _digital_micrograph(file: Path) -> _Stack | None:
    position = find_image(file, sides=3)
    reader = importlib.import_module("rsciio.digitalmicrograph")
    return _signal(reader.file_reader(str(file), lazy=True)[position])


def _hyperspy(file: Path, files: ExitStack) -> _Stack | None:
    claimed = hdf5.check(file)
    reader = importlib.import_module("rsciio.hspy")
    signals = list(reader.file_reader(str(file), lazy=True))
    for signal in signals:
        files.callback(close, signal)
    if len(signals) != 1:
        return None
    hdf5.check_stored(signals[0]["data"].size, claimed)
    return _signal(signals[0])


def _signal(signal: dict[str, Any]) -> _Stack | None:
    """Return a stack of images, not the maps or lines of a spectroscopist."""
    data, axes = signal["data"], signal["axes"]
    navigating = [bool(axis.get("navigate")) for axis in axes]
    if data.ndim != 3 or navigating != [True, False, False]:
        return None
    check_numbers(data.dtype)
    refuse_channels([str(axis.get("name") or "?") for axis in axes], data.shape)

    def frame(i: int) -> Any:
        one = data[i]
        return one.compute(scheduler="synchronous") if hasattr(one, "dask") else one

    calibration = tuple(axes_of(signal, [1, 2]))
    return _Stack(data.shape, frame, calibration, acquisition(signal))

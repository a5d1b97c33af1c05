"""The one image of a file, through RosettaSciIO: all formats that have no module here."""

from __future__ import annotations

import glob
import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from temshift.catalog.reading import hdf5
from temshift.catalog.reading.acquisition import acquisition
from temshift.catalog.reading.digital_micrograph import find_image
from temshift.catalog.reading.found import (
    Found,
    as_pixels,
    check_numbers,
    check_shape,
    refuse_channels,
    times,
)
from temshift.catalog.reading.refusals import RefusedError
from temshift.catalog.reading.units import axis_of

__all__ = ["axes_of", "close", "read_digital_micrograph", "read_with"]

_log = logging.getLogger(__name__)

#: Options of readers that load lazily.
_LAZY_OPTIONS = {"rsciio.zspy": {"mode": "r"}}

#: Readers whose lazy pixels are wrong (it takes compressed bytes for pixels): read again whole.
_READ_WHOLE = ("rsciio.pantarhei",)

#: Readers that warn of their options, which are chosen here.
_QUIET = ("rsciio.zspy", "rsciio.pantarhei")

#: Larger files are not read whole by readers that cannot read lazily.
_MAX_EAGER_BYTES = 1 << 30

#: No compression of images stores more bytes in one; smaller claims than the second are harmless.
_MAX_RATIO, _HARMLESS_BYTES = 3000, 64 << 20


def read_with(
    reader: str, file: Path, header_only: bool, claimed: set[int], **options: Any
) -> Found:
    """Read the image of a file by one reader of RosettaSciIO.

    Parameters
    ----------
    reader : str
        The module.
    file : Path
    header_only : bool
    claimed : set of int
        From :func:`temshift.catalog.reading.hdf5.check`.
    **options
        For the reader.
    """
    module = importlib.import_module(reader)
    if reader in _QUIET:
        logging.getLogger(f"{reader}._api").setLevel(logging.ERROR)
    signals = _lazy_signals(module, file, options)
    try:
        signal = _only_image(signals)
        data = signal["data"]
        check_numbers(data.dtype)
        shape = check_shape(data.shape)
        hdf5.check_stored(data.size, claimed)
        _check_claim(file, data.size * np.dtype(data.dtype).itemsize)
        keep = [i for i, n in enumerate(data.shape) if n > 1] if data.ndim > 2 else [0, 1]
        axes = axes_of(signal, keep)
        pixels = None
        if not header_only:
            # an only signal is read into one array; through dask it would take two
            if reader in _READ_WHOLE or (reader == "rsciio.hspy" and len(signals) == 1):
                data = _only_image(module.file_reader(str(file), lazy=False, **options))["data"]
            elif hasattr(data, "dask"):
                data = data.compute(scheduler="synchronous")
            pixels = as_pixels(data).reshape(shape + _channels(data.dtype))
    finally:
        for signal in signals:
            close(signal)
    return Found(shape, pixels, axes, acquisition(signal))


def read_digital_micrograph(file: Path, header_only: bool) -> Found:
    """Read a DM3 or DM4 file, whose structure is looked at first.

    See :func:`temshift.catalog.reading.formats.open_image`.
    """
    reader = importlib.import_module("rsciio.digitalmicrograph")
    try:
        position = find_image(file)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    signal = reader.file_reader(str(file), lazy=header_only)[position]
    data = signal["data"]
    shape = check_shape(data.shape)
    axes = axes_of(signal, [0, 1])
    return Found(shape, None if header_only else as_pixels(data), axes, acquisition(signal))


def _lazy_signals(module: Any, file: Path, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the signals of a file, lazily if the reader can."""
    try:
        lazily = _LAZY_OPTIONS.get(module.__name__, {})
        return list(module.file_reader(str(file), lazy=True, **options, **lazily))
    except (RefusedError, ImportError):
        raise
    except Exception:
        # readers that cannot load lazily raise anything; a damaged file fails here again
        _log.debug("%s: not read lazily by %s", file, module.__name__, exc_info=True)
        size = _size_with_companions(file)
        if size > _MAX_EAGER_BYTES:
            raise RefusedError(
                f"it has {size >> 20} MB, and its reader ({module.__name__}) can only read it "
                f"whole, which is done up to {_MAX_EAGER_BYTES >> 20} MB"
            ) from None
    return list(module.file_reader(str(file), lazy=False, **options))


def _only_image(signals: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the one image of a file; a Fourier transform beside it is no second one."""
    signals = [s for s in signals if hasattr(s.get("data"), "shape")]  # models have no data
    if not signals:
        raise ValueError("nothing was found in it")

    def sides(signal: dict[str, Any]) -> int:
        shape = signal["data"].shape
        return sum(n > 1 for n in shape) if len(shape) > 2 else len(shape)

    images = [signal for signal in signals if sides(signal) == 2]
    images = [s for s in images if np.dtype(s["data"].dtype).kind != "c"] or images
    if len(images) == 1:
        return images[0]
    shapes = " and ".join(times(s["data"].shape) for s in signals[:6])
    if images:
        raise RefusedError(f"it holds {len(images)} images ({shapes}): save each in its own file")
    for signal in signals:
        refuse_channels(
            [str(axis.get("name") or "?") for axis in signal["axes"]], signal["data"].shape
        )
    raise RefusedError(f"it holds {shapes}: a stack, a line or a spectrum image, not one image")


def axes_of(signal: dict[str, Any], keep: Sequence[int]) -> list[Any]:
    """Return the calibration of some axes of a signal, by their place in its array."""
    entries = list(signal["axes"])
    if all(entry.get("index_in_array") is not None for entry in entries):
        entries.sort(key=lambda entry: int(entry["index_in_array"]))
    if len(entries) == len(keep):
        keep = range(len(keep))  # axes of length 1 are left out
    elif keep and max(keep) >= len(entries):
        return []
    return [axis_of(entries[i]) for i in keep]


def _channels(dtype: Any) -> tuple[int, ...]:
    names = np.dtype(dtype).names
    return (len([n for n in names if n in "RGBA"]),) if names else ()


def _check_claim(file: Path, n_bytes: int) -> None:
    """Refuse an image that no compression can have put into the file."""
    if n_bytes > _HARMLESS_BYTES and n_bytes > _MAX_RATIO * (size := _size_with_companions(file)):
        raise RefusedError(
            f"its header claims an image of {n_bytes >> 20} MB, but it has only {size} bytes: it "
            "is truncated or damaged"
        )


def _size_with_companions(file: Path) -> int:
    """Return the size of a file and of those of the same name, in which some formats keep pixels.

    Bytes.
    """
    companions = file.parent.glob(glob.escape(file.stem) + "*")
    return sum(p.stat().st_size for p in companions if p.is_file())


def close(signal: dict[str, Any]) -> None:
    """Close the file that a lazy signal keeps open."""
    from rsciio.utils.file import get_file_handle

    data = signal.get("data")
    if not hasattr(data, "dask"):
        return
    handle = get_file_handle(data, warn=False)
    if handle is not None and hasattr(handle, "close"):
        handle.close()

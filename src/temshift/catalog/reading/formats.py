"""Reading one image from a file of any format of the field: the way from bytes to pixels.

:func:`open_image` looks at the file's kind and passes it to the module that knows it. Each of them
looks at shape and structure first, so that what a damaged or hostile file *claims* costs nothing,
and returns a :class:`~temshift.catalog.reading.found.Found` or refuses the file with the reason.
"""

from __future__ import annotations

import glob
import logging
import zipfile
from pathlib import Path

import numpy as np

from temshift.catalog.reading import emd, hdf5, mrc, pictures, rosettasciio, ser, tiff
from temshift.catalog.reading.found import (
    Found,
    as_pixels,
    check_numbers,
    check_shape,
    is_coloured,
    times,
)
from temshift.catalog.reading.refusals import RefusedError, reason_for

__all__ = ["open_image", "pixel_files"]

_log = logging.getLogger(__name__)

#: Files that are pictures, without a calibration of the specimen.
_PICTURES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".dib", ".gif", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)

_TIFFS = (".tif", ".tiff")
_MRC = (".mrc", ".mrcs", ".ali", ".rec", ".st")

#: Endings of headers, and those of the files beside them that are read with them.
_READ_WITH = {".rpl": ".raw", ".mib": ".hdr"}

#: Extensions that are named when a file cannot be read; many others can be, by RosettaSciIO.
_READABLE = ".bmp, .dm3, .dm4, .emd, .gif, .hspy, .jpg, .mrc, .png, .ser, .tif"

#: Reasons that say more than that a reader is for other files.
_TELLING = ("it is truncated", "its image does not fit", "another program", "it may not be read")

_EXPORT = "Save the image alone as TIFF, .npy or .hspy"

#: Readers that come before those that claim an extension, and after them.
_FIRST = {".hdf5": ("rsciio.hspy",)}
_LAST = {".h5": ("rsciio.hspy", "rsciio.emd"), ".hdf5": ("rsciio.emd",)}

#: Formats in zip files.
_ZIPPED = (".zspy", ".prz")


def open_image(file: Path, header_only: bool = False) -> Found:
    """Open a file that holds one image.

    Parameters
    ----------
    file : Path
        An ordinary file that is not empty.
    header_only : bool
        Leave the pixels unread (``Found.pixels`` is then ``None``).

    Returns
    -------
    Found

    Raises
    ------
    RefusedError
        The file holds no single two-dimensional image, or is of a kind that cannot be read.
    Exception
        Whatever a library raises on a damaged file; see :func:`reason_for`.
    """
    suffix = file.suffix.lower()
    if suffix in (*_PICTURES, *_TIFFS):
        # pictures are known by their first bytes: many have another's extension
        if tiff.is_tiff(file) or suffix in _TIFFS:
            return tiff.read(file, header_only)
        return pictures.read(file, header_only)
    if suffix in _MRC or (suffix == ".map" and mrc.is_mrc(file)):
        return mrc.read(file, header_only)
    if suffix == ".ser":
        return ser.read(file, header_only)
    if suffix in (".emd", ".de5"):
        return emd.read(file, header_only)
    if suffix == ".npy":
        return _read_npy(file, header_only)
    if suffix in (".dm3", ".dm4"):
        return rosettasciio.read_digital_micrograph(file, header_only)
    return _read_by_extension(file, header_only)


def pixel_files(file: Path) -> list[Path]:
    """Return the files beside another that are read with it: ``a.raw`` of ``a.rpl``."""
    other = _READ_WITH.get(file.suffix.lower())
    if other is None:
        return []
    beside = file.parent.glob(f"{glob.escape(file.stem)}.*")
    return sorted(path for path in beside if path.suffix.lower() == other and path.is_file())


def _read_by_extension(file: Path, header_only: bool) -> Found:
    """Read a file by the readers that claim its extension, one after another."""
    suffix = file.suffix.lower()
    readers = _readers(suffix)
    if not suffix:
        raise RefusedError(
            "its name has no extension, by which formats are told apart: give it that of its "
            f"format, such as {_READABLE}"
        )
    if not readers:
        raise RefusedError(
            f"files that end in {suffix!r} cannot be read; formats such as {_READABLE} can"
        )
    if suffix in _ZIPPED:
        _check_zip(file)
    claimed = hdf5.check(file) if hdf5.is_hdf5(file) else set()
    if suffix == ".emi":
        for series in file.parent.glob(glob.escape(file.stem) + "_[0-9].ser"):
            ser.check(series)
    refused: RefusedError | None = None
    failed: list[tuple[str, Exception]] = []
    for reader in readers:
        try:
            if reader == "rsciio.emd":
                return emd.read(file, header_only)
            return rosettasciio.read_with(reader, file, header_only, claimed)
        except RefusedError as error:
            refused = refused or error
        except Exception as error:
            _log.debug("%s: %s", file, reader, exc_info=True)
            failed.append((reader.removeprefix("rsciio."), error))
    if refused:
        raise refused
    if len(failed) == 1:
        raise failed[0][1]
    reasons = {name: reason_for(error) for name, error in failed}
    if hdf5.is_hdf5(file) and not any(said.startswith(_TELLING) for said in reasons.values()):
        raise RefusedError(
            f"none of the readers of {suffix} files can read it ({', '.join(reasons)}): it is an "
            f"HDF5 file of a layout that none of them knows, or damaged. {_EXPORT}"
        )
    said = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise RefusedError(f"none of the readers of {suffix} files can read it ({said}). {_EXPORT}")


def _read_npy(file: Path, header_only: bool) -> Found:
    """Read an array of NumPy; no objects are unpickled.

    RosettaSciIO reads arrays in the order of Fortran as if they were in that of C.
    """
    try:
        data = np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "Python objects" in str(error):
            raise RefusedError(
                "it holds Python objects, expected an array of numbers: save the image alone, "
                "numpy.save(path, image), with its numbers in a type such as float32"
            ) from error
        raise
    if not isinstance(data, np.ndarray):
        data.close()
        raise RefusedError("it is an archive of arrays, not one array")
    check_numbers(data.dtype)
    if is_coloured(data.shape):
        if data.shape[2] == 2:
            raise RefusedError(
                f"it holds {times(data.shape)}: two channels of one image. Save one, array[..., 0]"
            )
        shape = check_shape(data.shape[:2])
        return Found(shape, None if header_only else as_pixels(np.array(data)))
    shape = check_shape(data.shape)
    return Found(shape, None if header_only else as_pixels(np.array(data)).reshape(shape))


def _readers(suffix: str) -> list[str]:
    """Return the modules of RosettaSciIO that may read files with an extension, in order."""
    from rsciio import IO_PLUGINS

    claiming = [
        str(plugin["api"])
        for plugin in IO_PLUGINS
        if suffix and suffix[1:] in {e.lower() for e in plugin["file_extensions"]}
    ]
    return list(dict.fromkeys([*_FIRST.get(suffix, ()), *claiming, *_LAST.get(suffix, ())]))


def _check_zip(file: Path) -> None:
    """Refuse a zip file without the directory at its end."""
    with file.open("rb") as stream:
        marked = stream.read(4) == b"PK\3\4"
    if marked and not zipfile.is_zipfile(file):
        raise RefusedError("it is truncated: the directory at its end is missing")

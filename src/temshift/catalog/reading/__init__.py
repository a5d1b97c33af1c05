"""Reading one image from a file of any format of the field: the way from bytes to pixels.

:func:`open_image` looks at the file's kind and passes it to the module that knows it. Each of them
looks at shape and structure first, so that what a damaged or hostile file *claims* costs nothing,
and returns a :class:`~temshift.catalog.reading.found.Found` or refuses the file with the reason.
"""

from __future__ import annotations

from pathlib import Path

from temshift.catalog.reading.found import Found
from temshift.catalog.reading.refusals import RefusedError, reason_for

__all__ = ["PICTURES", "READABLE", "Found", "RefusedError", "open_image", "reason_for"]

#: Files that are pictures, without a calibration of the specimen.
PICTURES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".dib", ".gif", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)

_TIFFS = (".tif", ".tiff")
_MRC = (".mrc", ".mrcs", ".ali")

#: Extensions that are named when a file cannot be read; many others can be, by RosettaSciIO.
READABLE = (".bmp", ".dm3", ".dm4", ".emd", ".gif", ".hspy", ".jpg", ".mrc", ".png", ".ser", ".tif")


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
    from temshift.catalog.reading import emd, mrc, others, pictures, ser, tiff

    suffix = file.suffix.lower()
    if suffix in (*PICTURES, *_TIFFS):
        # pictures are known by their first bytes: many have another's extension
        if tiff.is_tiff(file) or suffix in _TIFFS:
            return tiff.read(file, header_only)
        return pictures.read(file, header_only)
    if suffix in _MRC:
        return mrc.read(file, header_only)
    if suffix == ".ser":
        return ser.read(file, header_only)
    if suffix in (".emd", ".de5"):
        return emd.read(file, header_only)
    if suffix == ".npy":
        return others.read_npy(file, header_only)
    return others.read(file, header_only)

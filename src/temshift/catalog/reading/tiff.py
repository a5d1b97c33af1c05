"""TIFF files: pixels by tifffile, the calibrations of vendors by RosettaSciIO.

RosettaSciIO counts previews as images, knows only one unit of ImageJ and not OME's, and cannot
read colours in planes. The directories are walked first, with every length checked against the
file; see the TIFF 6.0 specification.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from datetime import datetime
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temshift.catalog.reading.found import (
    Found,
    as_pixels,
    check_numbers,
    check_shape,
    refuse_channels,
    times,
)
from temshift.catalog.reading.refusals import RefusedError
from temshift.catalog.reading.units import Axis, axis_of

__all__ = ["is_tiff", "open_pages", "read"]

_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

#: Bytes of a value of each type.
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_BYTES |= {16: 8, 17: 8, 18: 8}

_REDUCED, _MASK = 1, 4
_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_ALPHA = (1, 2)
_PLANES = 2

#: Most bytes of pixels that a byte can hold: stored, deflate, LZW, PackBits; of other compressions
#: a larger image must not hold more than the third.
_MAX_RATIO = {1: 1, 8: 1100, 32946: 1100, 5: 3000, 32773: 64}
_LARGE_BYTES, _MAX_RATIO_IF_LARGE = 64 << 20, 20_000


def is_tiff(file: Path) -> bool:
    """Return whether a file begins as TIFF files do."""
    with file.open("rb") as stream:
        return stream.read(4) in _MARKS


def read(file: Path, header_only: bool) -> Found:
    """Read the image of a TIFF file; see :func:`temshift.catalog.reading.formats.open_image`."""
    import tifffile

    _walk(file)
    with tifffile.TiffFile(file, _multifile=False) as tiff:
        page = _only_page(tiff)
        check_numbers(page.dtype)
        axes = page.axes
        samples = page.shape[axes.index("S")] if "S" in axes else 1
        shape = check_shape([n for n, axis in zip(page.shape, axes, strict=True) if axis != "S"])
        _check_data(page, file.stat().st_size)
        photometric = int(page.photometric)
        extra = [int(e) for e in page.extrasamples]
        _check_colours(page, photometric, samples, extra)
        _check_planes(page, photometric, samples)
        calibration = _calibration(tiff, page, file)
        metadata = _metadata(page)
        palette = _colours(page) if photometric == _PALETTE else None
        inverted = photometric == _MINISWHITE and not _counts_by_number(tiff, page)
        black = (1 << page.bitspersample) - 1 if inverted else None
        pixels = None if header_only else _pixels(page, axes, samples, shape)
    if pixels is not None and palette is not None and _is_display_only(palette, pixels):
        palette = None
    return Found(shape, pixels, calibration, metadata, palette, black)


def open_pages(file: Path) -> tuple[Any, list[Any], list[Axis]]:
    """Return an open TIFF file, its pages of the shape of the first, and their calibration.

    Raises
    ------
    RefusedError
        It is truncated or damaged, its pages are channels or no grey images of counts, or there
        are others of another shape among them.
    """
    import tifffile

    _walk(file)
    opened = tifffile.TiffFile(file, _multifile=False)
    try:
        pages: list[Any] = list(opened.pages)
        pages = [p for p in pages if not int(p.subfiletype) & (_REDUCED | _MASK)]
        _refuse_channels(opened)
        for page in pages:
            if page.shape != pages[0].shape or page.dtype != pages[0].dtype or page.ndim != 2:
                raise RefusedError("its images are not of one shape and type, each in grey")
            if int(page.photometric) != _MINISBLACK and not opened.is_imagej:
                raise RefusedError("its images are no counts with 0 for black")
            check_numbers(page.dtype)
            _check_data(page, file.stat().st_size)
        return opened, pages, _calibration(opened, pages[0], file) if pages else []
    except BaseException:
        opened.close()
        raise


def _walk(file: Path) -> None:
    """Check the lengths in all directories against the size of the file."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(16)
        if head[:4] not in _MARKS:
            if any(mark.startswith(head) for mark in _MARKS):
                raise RefusedError(f"it is truncated: it has only {len(head)} bytes")
            raise RefusedError("it is no TIFF file, or damaged: its first bytes are of no TIFF")
        order, big = ("<" if head[:1] == b"I" else ">"), head[2:4] in (b"+\0", b"\0+")
        offset_code, count_code, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
        inline, width = (8, 8) if big else (4, 4)
        if len(head) < (16 if big else 8):
            raise RefusedError(f"it is truncated: it has only {len(head)} bytes")
        (offset,) = struct.unpack_from(order + offset_code, head, 8 if big else 4)
        seen: set[int] = set()
        walked = 0
        while offset:
            if offset in seen or walked > size:  # they go in circles, or over each other
                raise RefusedError("it is damaged: its directories do not end")
            seen.add(offset)
            _within(offset + struct.calcsize(count_code), size)
            stream.seek(offset)
            (n,) = struct.unpack(order + count_code, stream.read(struct.calcsize(count_code)))
            _within(stream.tell() + n * entry + width, size)
            directory = stream.read(n * entry)
            walked += len(directory) + width
            (offset,) = struct.unpack(order + offset_code, stream.read(width))
            for at in range(0, len(directory), entry):
                _, kind = struct.unpack_from(order + "HH", directory, at)
                (count,) = struct.unpack_from(order + offset_code, directory, at + 4)
                length = count * _BYTES.get(kind, 1)
                if length > inline:
                    (where,) = struct.unpack_from(order + offset_code, directory, at + 4 + inline)
                    _within(where + length, size)


def _within(end: int, size: int) -> None:
    if end > size:
        raise RefusedError(f"it is truncated: it has {size} of at least {end} bytes")


def _only_page(tiff: Any) -> Any:
    """Return the page of the one image; previews, masks and reduced copies are none."""
    pages = list(tiff.pages)
    if not pages:
        raise RefusedError("it is damaged: it holds no image")
    images = [p for p in pages if not int(p.subfiletype) & (_REDUCED | _MASK)] or pages[:1]
    first = images[0]
    if first.is_sis:  # Olympus keeps a preview behind the image, and does not mark it
        images = [first] + [p for p in images[1:] if prod(p.shape[:2]) >= prod(first.shape[:2])]
    if len(images) > 1:
        _refuse_channels(tiff)
        shapes = " and ".join(times(p.shape) for p in images[:4])
        raise RefusedError(
            f"it holds {len(images)} images ({shapes}), a stack: save each in its own file"
        )
    if len(pages) == 1:  # a stack may lie behind one directory
        _refuse_channels(tiff)
        for series in tiff.series:
            if prod(series.shape) > prod(first.shape):
                raise RefusedError(f"it holds {times(series.shape)}: a stack, not one image")
    return first


def _refuse_channels(tiff: Any) -> None:
    """Refuse a file that says (ImageJ, OME and others do) that its images are channels."""
    for series in tiff.series:
        refuse_channels(list(series.axes), series.shape)


def _check_data(page: Any, size: int) -> None:
    """Check that the file holds the pixels that the directory claims."""
    offsets, counts = list(page.dataoffsets), list(page.databytecounts)
    expected = prod(page.chunked)
    if len(offsets) < expected or len(counts) < expected or not all(counts[:expected]):
        raise RefusedError(
            f"it is damaged, or was never written whole: {sum(map(bool, counts))} of {expected} "
            "parts of its image are in the file"
        )
    for offset, count in zip(offsets, counts, strict=False):
        _within(offset + count, size)
    n_bytes = prod(page.shape) * page.bitspersample // 8
    ratio = _MAX_RATIO.get(int(page.compression))
    if ratio is None and n_bytes > _LARGE_BYTES:
        ratio = _MAX_RATIO_IF_LARGE
    if ratio and n_bytes > ratio * sum(counts) + 1:
        raise RefusedError(
            f"its header claims {times(page.shape)} px, but it holds only {sum(counts)} bytes of "
            "them: it is truncated or damaged"
        )


def _check_colours(page: Any, photometric: int, samples: int, extra: list[int]) -> None:
    known = photometric in (_MINISWHITE, _MINISBLACK, _RGB, _PALETTE)
    jpeg = photometric == _YCBCR and int(page.compression) in (6, 7)
    if not known and not jpeg:
        raise RefusedError(
            f"its colours are of a kind that is not read ({page.photometric.name}): save it in "
            "grey or RGB"
        )
    n_colours = samples - len(extra)
    if samples > 1 and not (n_colours == 3 or (n_colours == 1 and extra[0] in _ALPHA)):
        raise RefusedError(
            f"it holds {samples} channels, and the file does not say that they are colours or "
            "transparency: save one"
        )


def _check_planes(page: Any, photometric: int, samples: int) -> None:
    """Refuse colours that may be frames.

    tifffile (and what writes with it: scikit-image, napari) says of an array of three or four
    frames that these are colours, unless it is told otherwise; nobody keeps colours in fractions.
    """
    planes = int(page.planarconfig) == _PLANES
    doubtful = (planes and _by_tifffile(page)) or page.dtype.kind != "u"
    if samples > 1 and photometric == _RGB and doubtful:
        raise RefusedError(
            f"its {samples} channels are said to be colours, but may be the frames of a stack, "
            "which tifffile and scikit-image write alike: save frames with "
            "photometric='minisblack', or a picture in grey"
        )


def _pixels(page: Any, axes: str, samples: int, shape: tuple[int, int]) -> NDArray[Any]:
    data = page.asarray()
    if "S" not in axes:
        return as_pixels(data).reshape(shape)
    data = np.moveaxis(data, axes.index("S"), -1).reshape(*shape, samples)
    return as_pixels(data[..., :4])


def _colours(page: Any) -> NDArray[np.uint8] | None:
    """Return the colours of a palette, red, green, blue and alpha, 8 bits each."""
    table = page.colormap
    if table is None or np.ndim(table) != 2:
        raise RefusedError("it is damaged: its palette is missing")
    table = np.asarray(table)
    colours = (table >> 8 if table.max(initial=0) > 255 else table).astype(np.uint8).T
    return np.column_stack([colours, np.full(len(colours), 255, np.uint8)])


def _is_display_only(palette: NDArray[np.uint8], numbers: NDArray[Any]) -> bool:
    """Return whether brighter colours have higher numbers: then the numbers are the image."""
    used = palette[: int(numbers.max(initial=0)) + 1, :3].astype(np.int64)
    luminance = used @ [2125, 7154, 721]
    return len(used) > 2 and bool((np.diff(luminance) >= 0).all())


def _counts_by_number(tiff: Any, page: Any) -> bool:
    """Return whether the writer means numbers, though it says that 0 is white.

    ImageJ inverts its display only, and tifffile (scikit-image) writes truth values like this.
    """
    return bool(tiff.is_imagej or (_by_tifffile(page) and page.bitspersample == 1))


def _calibration(tiff: Any, page: Any, file: Path) -> list[Axis]:
    """Return the calibration of rows and columns by whoever wrote the file; dpi are none."""
    description = page.description or ""
    if description.lstrip().startswith("<") and "PhysicalSize" in description:
        return list(_axes_of_ome(description))
    if page.is_sis:  # RosettaSciIO fails where the preview has other tags
        return list(_axes_of_olympus(page))
    vendor = page.is_fei or page.is_sem or page.is_tvips
    vendor = vendor or any(tag in page.tags for tag in (65003, 65004, 65009, 65010))
    vendor = vendor or _tag(page, "Make") == "JEOL Ltd."
    if vendor:
        from rsciio.tiff import file_reader

        for series, signal in zip(tiff.series, file_reader(str(file), lazy=True), strict=False):
            if series.keyframe.index == page.index:
                named = {entry.get("name"): entry for entry in signal["axes"]}
                if {"height", "width"} <= set(named):
                    return [axis_of(named[name]) for name in ("height", "width")]
    if description.startswith("ImageJ"):
        return list(_axes_of_imagej(page, description))
    return []


def _axes_of_imagej(page: Any, description: str) -> Iterator[Axis]:
    """Yield the calibration that ImageJ writes: a unit, and pixels in one of it."""
    units = dict(re.findall(r"^(y?unit)=(.*)$", description, re.MULTILINE))
    for name, key in (("YResolution", "yunit"), ("XResolution", "unit")):
        unit = str(units.get(key, units.get("unit", ""))).strip()
        unit = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), unit)
        resolution = _tag(page, name)
        pixels, length = resolution if isinstance(resolution, tuple) else (0, 0)
        yield Axis(length / pixels, unit) if pixels and length and unit else Axis()


def _axes_of_olympus(page: Any) -> Iterator[Axis]:
    """Yield the calibration of Olympus SIS, in m."""
    blocks = [_tag(page, code) for code in (33471, 33560)]
    known = {
        key: value for block in blocks if isinstance(block, dict) for key, value in block.items()
    }
    for side in "yx":
        size = known.get(f"pixelsize{side}")
        yield Axis(float(size), "m") if size else Axis()


def _axes_of_ome(description: str) -> Iterator[Axis]:
    """Yield the calibration of OME's metadata, by default in µm."""
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", description)
    for side in "YX":
        size = re.search(rf'\bPhysicalSize{side}="([^"]+)"', pixels[0] if pixels else "")
        unit = re.search(rf'\bPhysicalSize{side}Unit="([^"]+)"', pixels[0] if pixels else "")
        try:
            yield Axis(float(size[1]), unit[1] if unit else "µm") if size else Axis()
        except ValueError as error:
            raise RefusedError(
                f"its OME metadata give a pixel of {size[1] if size else ''!r}, which is no number"
            ) from error


def _tag(page: Any, name: str | int) -> Any:
    tag = page.tags.get(name)
    return tag.value if tag is not None else None


def _by_tifffile(page: Any) -> bool:
    """Return whether tifffile wrote it, which leaves the shape of the array if not its name."""
    named = str(_tag(page, "Software") or "").startswith("tifffile")
    return named or bool(page.is_shaped)


def _metadata(page: Any) -> dict[str, Any]:
    """Return the date of the image."""
    stated = str(_tag(page, "DateTime") or "").strip()
    for form in ("%Y:%m:%d %H:%M:%S", "%Y/%m/%d %H:%M"):
        try:
            return {"date": datetime.strptime(stated, form).date().isoformat()}
        except ValueError:
            continue
    return {}

"""Write small image files of many formats, right and wrong, for tests.

The bytes are laid down by the formats' descriptions, or by the programs that users have: tifffile,
Pillow, h5py, openNCEM (``ncempy``), ``mrcfile`` and RosettaSciIO.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MRC_MODES = {"int8": 0, "uint8": 0, "int16": 1, "float32": 2, "uint16": 6, "float16": 12}
SER_TYPES = {"u1": 1, "u2": 2, "u4": 3, "i1": 4, "i2": 5, "i4": 6, "f4": 7, "f8": 8, "c8": 9}


# --------------------------------------------------------------------------- MRC
def write_mrc(
    path: Path,
    image: NDArray[Any],
    pixel_size_nm: float | None = None,
    *,
    order: str = "<",
    mode: int | None = None,
    cell_A: Sequence[float] | None = None,
    samples: Sequence[int] | None = None,
    axes: Sequence[int] = (1, 2, 3),
    imod: int | None = None,
    extended: bytes = b"",
    stamp: bytes | None = None,
) -> Path:
    """MRC2014: 1024 bytes of header; the cell is in Å."""
    sections, height, width = image.shape if image.ndim == 3 else (1, *image.shape)
    header = bytearray(1024)
    n = MRC_MODES[image.dtype.name] if mode is None else mode
    struct.pack_into(f"{order}4i", header, 0, width, height, sections, n)
    struct.pack_into(f"{order}3i", header, 28, *(samples or (width, height, 1)))
    side = 10 * (pixel_size_nm or 0)
    cell = cell_A or (width * side, height * side, side)
    struct.pack_into(f"{order}6f", header, 40, *cell, 90, 90, 90)
    struct.pack_into(f"{order}3i", header, 64, *axes)
    struct.pack_into(f"{order}i", header, 92, len(extended))
    if imod is not None:
        struct.pack_into(f"{order}2i", header, 152, 1146047817, imod)
    header[208:212] = b"MAP "
    header[212:216] = stamp or (b"\x44\x44\0\0" if order == "<" else b"\x11\x11\0\0")
    data = image.astype(image.dtype.newbyteorder(order)).tobytes()
    path.write_bytes(bytes(header) + extended + data)
    return path


# --------------------------------------------------------------------------- TIA
def write_ser(
    path: Path,
    image: NDArray[Any],
    pixel_size_nm: float = 0.0,
    *,
    step: float | None = None,
    wide: bool = False,
    n: int = 1,
    kind: int = 0x4122,
) -> Path:
    """TIA series: calibration in m (or ``step`` as it is), rows from below."""
    height, width = image.shape
    size, code = (8, "Q") if wide else (4, "I")
    head = struct.pack("<HHHIIII", 0x4949, 0x0197, 0x0220 if wide else 0x0210, kind, 0x4152, n, n)
    dimension = struct.pack("<IddIII", max(n, 1), 0.0, 1.0, 0, 0, 0)
    offsets_at = len(head) + size + 4 + len(dimension)
    head += struct.pack(f"<{code}I", offsets_at, 1) + dimension
    side = pixel_size_nm * 1e-9 if step is None else step
    axis = struct.pack("<ddI", 0.0, side, 0)
    little = image.astype(image.dtype.newbyteorder("<"))[::-1]
    dtype = SER_TYPES[image.dtype.str[1:]]
    element = axis + axis + struct.pack("<HII", dtype, width, height) + little.tobytes()
    tag = struct.pack("<HHI", 0x4152, 0, 1_600_000_000)
    start = offsets_at + 2 * size * n
    starts = [start + i * (len(element) + len(tag)) for i in range(n)]
    tags = [s + len(element) for s in starts]
    path.write_bytes(head + struct.pack(f"<{2 * n}{code}", *starts, *tags) + (element + tag) * n)
    return path


# --------------------------------------------------------------------------- EMD
def write_emd(
    path: Path,
    data: NDArray[Any],
    steps: Sequence[float | NDArray[Any]],
    names: Sequence[str],
    units: Sequence[str],
    *,
    group: str = "data/image",
    first: int = 1,
    **options: Any,
) -> Path:
    """Berkeley's EMD: the array as it is given, and a vector for each of its axes."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        place = file.create_group(group)
        place.attrs["emd_group_type"] = 1
        place.create_dataset("data", data=data, **options)
        for i, (n, step) in enumerate(zip(data.shape, steps, strict=True)):
            vector = np.arange(n) * step if np.isscalar(step) else step
            axis = place.create_dataset(f"dim{i + first}", data=vector)
            axis.attrs["name"], axis.attrs["units"] = names[i], units[i]
    return path


def write_emd_openncem(path: Path, image: NDArray[Any], pixel_size_nm: float | None) -> Path:
    """As openNCEM's converters write: rows first, named."""
    step, unit = (pixel_size_nm, "n_m") if pixel_size_nm else (1.0, "")
    return write_emd(path, image, (step, step), ("y", "x"), (f"[{unit}]",) * 2)


def write_emd_ncempy(path: Path, image: NDArray[Any], pixel_size_nm: float | None) -> Path:
    """By ``ncempy`` itself, which gives its axes no names."""
    from ncempy.io.emd import emdWriter

    if pixel_size_nm is None:
        emdWriter(path, image)
    else:
        emdWriter(path, image, (pixel_size_nm,) * 2, ("nm", "nm"))
    return path


def write_emd_hyperspy(
    path: Path, image: NDArray[Any], pixel_size_nm: float | None, names: str = "yx"
) -> Path:
    """By RosettaSciIO: x first."""
    from rsciio.emd import file_writer

    file_writer(str(path), signal_dict(image, pixel_size_nm, names=names))
    return path


def write_velox(path: Path, *images: NDArray[Any], pixel_size_m: float = 2e-11) -> Path:
    """Thermo Fisher's EMD: arrays of (rows, columns, frames), a Fourier transform as records."""
    import json

    import h5py

    with h5py.File(path, "w") as file:
        text = h5py.string_dtype()
        version = {"format": "Velox", "version": "11"}
        file.create_dataset("Version", data=[json.dumps(version)], dtype=text)
        for i, image in enumerate(images):
            group = file.create_group(f"Data/Image/{i:032x}")
            data = image
            if image.dtype.kind == "c":
                fields = [("realFloatHalfEven", "<f4"), ("imagFloatHalfEven", "<f4")]
                data = np.empty(image.shape, fields)
                data["realFloatHalfEven"], data["imagFloatHalfEven"] = image.real, image.imag
            data = data if data.ndim == 3 else data[..., None]
            group.create_dataset("Data", data=data, chunks=(*data.shape[:2], 1))
            unit = "1/m" if image.dtype.kind == "c" else "m"
            metadata = {
                "Core": {"MetadataDefinitionVersion": "7.9", "MetadataSchemaVersion": "v1"},
                "Instrument": {"InstrumentClass": "Titan", "InstrumentId": "1"},
                "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1600000000"}},
                "Optics": {"AccelerationVoltage": "300000"},
                "Detectors": {"Detector-0": {"DetectorName": "BM-Ceta"}},
                "Scan": {"FrameTime": "1"},
                "BinaryResult": {
                    "DetectorIndex": "0",
                    "PixelSize": {"width": str(pixel_size_m), "height": str(pixel_size_m)},
                    "Offset": {"x": "0", "y": "0"},
                    "PixelUnitX": unit,
                    "PixelUnitY": unit,
                },
                "CustomProperties": {},
            }
            encoded = np.frombuffer(json.dumps(metadata).encode().ljust(4096, b"\0"), np.uint8)
            group.create_dataset("Metadata", data=encoded[:, None])
    return path


# --------------------------------------------------------------------------- RosettaSciIO
def signal_dict(
    data: NDArray[Any],
    pixel_size: float | Sequence[float] | None = None,
    unit: str | Sequence[str] = "nm",
    names: str | Sequence[str] = "yx",
) -> dict[str, Any]:
    """A signal as RosettaSciIO's writers take it."""
    sizes = [pixel_size] * data.ndim if not isinstance(pixel_size, list | tuple) else pixel_size
    units = [unit] * data.ndim if isinstance(unit, str) else unit
    names = names if len(names) == data.ndim else [f"axis {i}" for i in range(data.ndim)]
    return {
        "data": data,
        "axes": [
            {
                "_type": "UniformDataAxis",
                "name": name,
                "size": size,
                "scale": 1.0 if scale is None else scale,
                "offset": 0.0,
                "units": "" if scale is None else text,
                "navigate": i < data.ndim - 2,
                "is_binned": False,
                "index_in_array": i,
            }
            for i, (name, size, scale, text) in enumerate(
                zip(names, data.shape, sizes, units, strict=True)
            )
        ],
        "metadata": {"General": {"title": "image"}, "Signal": {"signal_type": ""}},
        "original_metadata": {},
        "learning_results": {},
        "models": {},
        "attributes": {"_lazy": False, "ragged": False},
        "package_info": {},
        "tmp_parameters": {},
    }


def write_hspy(path: Path, data: NDArray[Any], *args: Any, **axes: Any) -> Path:
    """HyperSpy's format, as :func:`signal_dict`; ``replace`` gives axes by their number."""
    from rsciio.hspy import file_writer

    replace = axes.pop("replace", {})
    signal = signal_dict(data, *args, **axes)
    for number, entry in replace.items():
        signal["axes"][number] = {**entry, "name": signal["axes"][number]["name"]}
    file_writer(str(path), signal, show_progressbar=False)
    return path


def write_zspy(path: Path, image: NDArray[Any], pixel_size_nm: float) -> Path:
    """HyperSpy's format in a zip file of Zarr, format 2."""
    import zarr

    store = zarr.storage.ZipStore(path, mode="w")
    group = zarr.open_group(store, mode="w", zarr_format=2)
    group.attrs.update({"file_format": "ZSpy", "file_format_version": "3.3"})
    place = group.require_group("Experiments/image")
    place.create_array("data", shape=image.shape, dtype=image.dtype, chunks=image.shape)[:] = image
    for i, axis in enumerate(signal_dict(image, pixel_size_nm)["axes"]):
        place.require_group(f"axis-{i}").attrs.update(axis)
    for name in ("metadata", "original_metadata", "learning_results", "attributes"):
        place.require_group(name)
    store.close()
    return path


# --------------------------------------------------------------------------- pictures
def write_png(path: Path, pixels: NDArray[Any], bits: int | None = None, filters: int = 4) -> Path:
    """PNG of grey, grey and alpha, RGB or RGBA, of 1 to 16 bits, all rows with one filter."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    bits = bits or 8 * pixels.itemsize
    if bits < 8:
        spread = np.unpackbits(pixels[..., None].astype(np.uint8), axis=-1)[..., -bits:]
        rows = np.packbits(spread.reshape(height, -1), axis=-1)
        filters = 0
    else:
        rows = pixels.astype(">u2" if bits == 16 else np.uint8).reshape(height, -1).view(np.uint8)
    step = max(1, channels * bits // 8)
    raw = b"".join(
        bytes([filters]) + _filtered(row, before, step, filters)
        for before, row in zip([np.zeros_like(rows[0]), *rows[:-1]], rows, strict=True)
    )
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", head)
        + png_chunk(b"IDAT", zlib.compress(raw))
        + png_chunk(b"IEND", b"")
    )
    return path


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _filtered(row: NDArray[Any], above: NDArray[Any], step: int, kind: int) -> bytes:
    """Return a row of bytes after PNG's filter 0 (none), 1 (left) or 4 (Paeth)."""
    left = np.concatenate([np.zeros(step, np.uint8), row[:-step]]).astype(int)
    if kind == 0:
        return row.tobytes()
    if kind == 1:
        return ((row - left) & 255).astype(np.uint8).tobytes()
    corner = np.concatenate([np.zeros(step, np.uint8), above[:-step]]).astype(int)
    up = above.astype(int)
    guess = left + up - corner
    near = [np.abs(guess - x) for x in (left, up, corner)]
    first = (near[0] <= near[1]) & (near[0] <= near[2])
    paeth = np.where(first, left, np.where(near[1] <= near[2], up, corner))
    return ((row - paeth) & 255).astype(np.uint8).tobytes()

"""Write small Gatan DM3 and DM4 files, for tests.

The layout follows files saved by GMS 2 and 3: an ``ImageList`` of a thumbnail (RGBA) and the
image, ``ImageData`` with calibrations, data, type and dimensions, ``ImageTags`` with what the
microscope and the camera said, and ``Thumbnails`` that names the thumbnail. Tags are written by
the description of the format by C. Boothroyd
(https://personal.ntu.edu.sg/cbb/info/dmformat/index.html); RosettaSciIO reads the files
(``test_dm3_writer.py``).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

GROUP, DATA = 20, 21
STRUCT, ARRAY = 15, 20

#: NumPy type of an image: (DataType of the image, type of the elements of its array).
IMAGE_TYPES = {
    "int8": (9, 10),
    "uint8": (6, 10),
    "int16": (1, 2),
    "uint16": (10, 4),
    "int32": (7, 3),
    "uint32": (11, 5),
    "float32": (2, 6),
    "float64": (12, 7),
    "complex64": (3, (6, 6)),
}

#: Keyword of :func:`write_dm3`: where GMS puts it in ``ImageTags``.
TAG_PATHS = {
    "exposure_s": ("DataBar", "Exposure Time (s)"),
    "camera": ("DataBar", "Device Name"),
    "date": ("DataBar", "Acquisition Date"),
    "energy_eV": ("Microscope Info", "Voltage"),
    "magnification": ("Microscope Info", "Indicated Magnification"),
    "microscope": ("Microscope Info", "Name"),
    "illumination": ("Microscope Info", "Illumination Mode"),
}


class _Typed:
    """A number of a given DM type (3 int32, 5 uint32, 6 float32, 7 float64, 8 bool)."""

    codes: ClassVar = {2: "h", 3: "i", 4: "H", 5: "I", 6: "f", 7: "d", 8: "?"}

    def __init__(self, kind: int, value: float) -> None:
        self.kind, self.value = kind, value

    def bytes(self) -> bytes:
        return struct.pack("<" + self.codes[self.kind], self.value)


def write_dm3(
    path: Path | str,
    image: NDArray[Any],
    pixel_size_nm: float | tuple[float, float] | None = None,
    *,
    unit: str = "nm",
    version: int = 3,
    thumbnail: bool = True,
    **tags: Any,
) -> Path:
    """Write ``image`` as a Digital Micrograph file.

    Parameters
    ----------
    path : path
        File to be written; its folder must exist.
    image : ndarray, shape (H, W), or 1-D or 3-D for files that are no micrograph
        A type of :data:`IMAGE_TYPES`.
    pixel_size_nm : float or (float, float), optional
        Scale of a pixel in ``unit``, or those along y and x; ``None`` writes an uncalibrated
        image (scale 1, no unit), as GMS does.
    unit : str
        Unit written beside the scale; the number is not converted.
    version : {3, 4}
        DM3 or DM4.
    thumbnail : bool
        Put a thumbnail before the image.
    **tags
        ``exposure_s, camera, date, energy_eV, magnification, microscope, illumination``.

    Returns
    -------
    Path
        ``path``.
    """
    if version not in (3, 4):
        raise ValueError(f"version must be 3 or 4, found {version}")
    scales = pixel_size_nm if isinstance(pixel_size_nm, tuple) else (pixel_size_nm,) * image.ndim
    if pixel_size_nm is None:
        scales, unit = (1.0,) * image.ndim, ""
    image_tags: dict[str, Any] = {"GMS Version": {"Created": "2.32.888.0"}}
    for key, value in tags.items():
        group, name = TAG_PATHS[key]
        image_tags.setdefault(group, {})[name] = (
            value if isinstance(value, str) else _Typed(7, float(value))
        )
    images = [_image_entry(image, scales, unit, "Micrograph", image_tags)]
    if thumbnail:
        picture = np.full((16, 16, 4), 128, np.uint8).view(np.uint32)[..., 0]
        images.insert(0, _image_entry(picture, (1.0, 1.0), "", "Thumbnail", {}, (23, 3)))
    root: dict[str, Any] = {
        "ApplicationBounds": (0, 0, 1024, 1280),
        "DocumentObjectList": [],
        "ImageList": images,
        "InImageMode": _Typed(8, True),
    }
    if thumbnail:
        entry = {"ImageIndex": _Typed(5, 0), "SourceSize_Pixels": image.shape[-2:]}
        root["Thumbnails"] = [entry]
    body = _Writer(version).directory(root, root=True)
    if version == 3:
        header = struct.pack(">iii", 3, len(body) + 4, 1)
    else:
        header = struct.pack(">iqi", 4, len(body), 1)
    path = Path(path)
    path.write_bytes(header + body + bytes(8))
    return path


def _image_entry(
    image: NDArray[Any],
    scales: tuple[Any, ...],
    unit: str,
    name: str,
    tags: dict[str, Any],
    types: tuple[int, Any] | None = None,
) -> dict[str, Any]:
    data_type, _ = types = types or IMAGE_TYPES[image.dtype.name]

    def calibration(scale: float, unit: str) -> dict[str, Any]:
        return {"Origin": _Typed(6, 0.0), "Scale": _Typed(6, scale), "Units": unit}

    return {
        "ImageData": {
            "Calibrations": {
                "Brightness": calibration(1.0, ""),
                # DM counts x, y, z
                "Dimension": [calibration(scale, unit) for scale in reversed(scales)],
                "DisplayCalibratedUnits": _Typed(8, True),
            },
            "Data": (types[1], image),
            "DataType": _Typed(5, data_type),
            "Dimensions": [_Typed(5, n) for n in reversed(image.shape)],
            "PixelDepth": _Typed(5, image.itemsize),
        },
        "ImageTags": tags,
        "Name": name,
        "UniqueID": [_Typed(5, n) for n in (1, 2, 3, 4)],
    }


class _Writer:
    def __init__(self, version: int) -> None:
        self.version = version

    def count(self, *values: int) -> bytes:
        return struct.pack(f">{len(values)}{'i' if self.version == 3 else 'q'}", *values)

    def directory(self, content: Mapping[str, Any] | list[Any], root: bool = False) -> bytes:
        """Return a tag group; the elements of a list have no names."""
        named = content.items() if isinstance(content, Mapping) else [("", v) for v in content]
        body = b"".join(self.tag(name, value) for name, value in named)
        head = struct.pack("bb", 1, 0) + self.count(len(content))
        if self.version == 4 and not root:
            return self.count(len(head) + len(body)) + head + body
        return head + body

    def tag(self, name: str, value: Any) -> bytes:
        encoded = name.encode("latin-1")
        is_group = isinstance(value, Mapping | list)
        head = struct.pack(">bh", GROUP if is_group else DATA, len(encoded)) + encoded
        if is_group:
            return head + self.directory(value)
        body = b"%%%%" + self.data(value)
        return head + (self.count(len(body)) if self.version == 4 else b"") + body

    def data(self, value: Any) -> bytes:
        """Return the description of the type (big-endian) and the value (little-endian)."""
        if isinstance(value, _Typed):
            return self.count(1, value.kind) + value.bytes()
        if isinstance(value, str):
            text = value.encode("utf-16-le")
            return self.count(3, ARRAY, 4, len(text) // 2) + text
        if isinstance(value[-1], np.ndarray):  # the pixels
            kind, array = value
            pixels = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
            if isinstance(kind, int):
                return self.count(3, ARRAY, kind, array.size) + pixels
            fields = [number for k in kind for number in (0, k)]
            info = (ARRAY, STRUCT, 0, len(kind), *fields, array.size)
            return self.count(len(info), *info) + pixels
        info = (STRUCT, 0, len(value), *(number for _ in value for number in (0, 3)))
        return self.count(len(info), *info) + struct.pack(f"<{len(value)}i", *value)

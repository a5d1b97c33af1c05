"""A look at the structure of DM3 and DM4 files before RosettaSciIO reads them.

RosettaSciIO trusts the lengths that a file states. In a damaged file a length may be anything,
and reading it may take hours, allocate many times the file's size, or end in any exception; a
changed type or thumbnail number may even give a wrong picture. Here the tag tree is walked once
with every length checked against the size of the file; no pixel is read.

The format is described by C. Boothroyd, https://personal.ntu.edu.sg/cbb/info/dmformat/
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

__all__ = ["find_image"]

_GROUP, _DATA = 20, 21
_STRUCT, _STRING, _ARRAY = 15, 18, 20

#: Type of a number in a tag: its ``struct`` code (little-endian).
_NUMBERS = dict(zip(range(2, 13), "hiHIfdBbbqQ", strict=True))

#: DataType of an image of counts: types that the elements of its array may have.
_COUNTS = {
    1: (2,),  # int16
    2: (6,),  # float32
    6: (8, 9, 10),  # uint8
    7: (3,),  # int32
    9: (8, 9, 10),  # int8
    10: (4,),  # uint16
    11: (5,),  # uint32
    12: (7,),  # float64
}

#: DataType of an image that is no image of counts.
_OTHER = {
    3: "complex numbers (a Fourier transform)",
    5: "complex numbers (a Fourier transform)",
    8: "a colour picture",
    13: "complex numbers (a Fourier transform)",
    14: "a binary picture",
    23: "a colour picture",
    27: "complex numbers (a Fourier transform)",
    28: "complex numbers (a Fourier transform)",
}

# far above what any file of Gatan's software holds
_MAX_TAGS, _MAX_DEPTH, _MAX_NAME, _MAX_STRING, _MAX_FIELDS = 50_000, 40, 4096, 16384, 256


@dataclass(frozen=True)
class _Array:
    """What a tag says about an array that is not read: type and number of its elements."""

    kind: int
    size: int


def find_image(path: Path, sides: int = 2) -> int:
    """Return which image of a DM3 or DM4 file is the micrograph.

    Parameters
    ----------
    path : Path
    sides : int
        3 to find the one stack of images instead.

    Returns
    -------
    int
        Position among the images that ``rsciio.digitalmicrograph.file_reader`` returns (it leaves
        thumbnails out).

    Raises
    ------
    ValueError
        The file is no DM3 or DM4 file, is truncated or damaged, or holds no image of counts or
        more than one. The message is a reason without the file's name.
    """
    size = path.stat().st_size
    if size < 24:
        raise ValueError(f"it is truncated, or no DM3 or DM4 file: it has only {size} bytes")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            tree = _Walk(data).root()
        except struct.error as error:
            raise ValueError("it is truncated: it ends in the middle of a tag") from error
    return _choose(tree, sides)


class _Walk:
    """One walk through the tag tree of a file."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.end, self.position, self.tags = data, len(data), 0, 0
        # elements outside of images, which RosettaSciIO turns into Python objects of ~50 bytes
        self.elements_left = 100_000 + self.end // 64

    def root(self) -> dict[str, Any]:
        version = self.read(">i")
        if version not in (3, 4):
            raise ValueError("it is no DM3 or DM4 file: its first bytes give another version")
        self.dm4 = version == 4
        stated = self.count() + (24 if self.dm4 else 16)  # newer DM3 files state 4 bytes less
        if stated > self.end:
            raise ValueError(f"it is truncated: it has {self.end} of {stated} bytes")
        if self.read(">i") != 1:
            raise ValueError("its numbers are big-endian, which cannot be read: save it again")
        return self.group(depth=0)

    def read(self, code: str) -> Any:
        (value,) = struct.unpack_from(code, self.data, self.position)
        self.position += struct.calcsize(code)
        return value

    def count(self) -> int:
        return int(self.read(">q" if self.dm4 else ">i"))

    def skip(self, n: int, what: str) -> int:
        """Step over ``n`` bytes that must be in the file; return where they begin."""
        start = self.position
        if not 0 <= n <= self.end - start:
            raise ValueError(
                f"it is damaged: {what} is said to have {n} bytes, {self.end - start} are left"
            )
        self.position += n
        return start

    def bounded(self, maximum: int, what: str) -> int:
        value = self.count()
        if not 0 <= value <= maximum:
            raise ValueError(f"it is damaged: {what} {value} (at most {maximum} are possible)")
        return value

    def group(self, depth: int, name: str = "the file") -> dict[str, Any]:
        if depth > _MAX_DEPTH:
            raise ValueError("it is damaged: its tags are nested too deeply")
        if self.dm4 and depth:
            self.skip(8, "a tag group's size")
        self.skip(2, "a tag group's state")
        left = min(_MAX_TAGS - self.tags, (self.end - self.position) // 3)
        n = self.bounded(left, f"the number of tags in {name!r} is")
        self.tags += n
        content: dict[str, Any] = {}
        for i in range(n):
            kind, length = self.read(">b"), self.read(">h")
            if length > _MAX_NAME:
                raise ValueError(f"it is damaged: a tag's name has {length} characters")
            start = self.skip(length, "a tag's name")
            tag = self.data[start : start + length].decode("latin-1") or f"#{i}"
            if kind == _GROUP:
                content[tag] = self.group(depth + 1, tag)
            elif kind == _DATA:
                content[tag] = self.value(tag, is_image=(name, tag) == ("ImageData", "Data"))
            else:
                raise ValueError(f"it is damaged: a tag of the unknown kind {kind}")
        return content

    def value(self, tag: str, is_image: bool) -> Any:
        if self.dm4:
            self.skip(8, "a tag's size")
        if self.data[(start := self.skip(4, "a tag's mark")) : start + 4] != b"%%%%":
            raise ValueError(f"it is damaged: the mark before the value of tag {tag!r} is missing")
        n_info, kind = self.count(), self.count()
        if n_info == 1:
            return self.read("<" + self.number(kind, tag))
        if kind == _STRING and n_info == 2:
            self.skip(self.bounded(_MAX_STRING, f"the length of the text {tag!r} is"), "a text")
            return None
        if kind == _STRUCT:
            n_fields, n_bytes = self.fields(tag)
            self.expect(n_info, 3 + 2 * n_fields, tag)
            self.spend(n_fields, tag)
            self.skip(n_bytes, f"tag {tag!r}")
            return None
        if kind == _ARRAY:
            element, objects = self.count(), 1
            if element == _STRUCT:
                n_fields, n_bytes = self.fields(tag)
                self.expect(n_info, 5 + 2 * n_fields, tag)
                objects = n_fields + 1
            else:
                n_bytes = struct.calcsize("<" + self.number(element, tag))
                self.expect(n_info, 3, tag)
            size = self.bounded((self.end - self.position) // n_bytes, f"the size of {tag!r} is")
            if not is_image:
                self.spend(size * objects, tag)
            self.skip(size * n_bytes, f"array {tag!r}")
            return _Array(element, size)
        raise ValueError(f"it is damaged: the value of tag {tag!r} is of the unknown type {kind}")

    def fields(self, tag: str) -> tuple[int, int]:
        """Read the description of a struct; return the number of its fields and bytes."""
        self.count()
        n_fields = self.bounded(_MAX_FIELDS, f"the number of fields of {tag!r} is")
        if n_fields == 0:
            raise ValueError(f"it is damaged: the value of tag {tag!r} has no fields")
        n_bytes = 0
        for _ in range(n_fields):
            self.count()
            n_bytes += struct.calcsize("<" + self.number(self.count(), tag))
        return n_fields, n_bytes

    def number(self, kind: int, tag: str) -> str:
        if kind not in _NUMBERS:
            raise ValueError(f"it is damaged: tag {tag!r} holds the unknown type {kind}")
        return _NUMBERS[kind]

    def expect(self, found: int, expected: int, tag: str) -> None:
        if found != expected:
            raise ValueError(f"it is damaged: the type of tag {tag!r} contradicts itself")

    def spend(self, n: int, tag: str) -> None:
        self.elements_left -= n
        if self.elements_left < 0:
            raise ValueError(f"it is damaged: tag {tag!r} outside of an image fills the file")


def _choose(tree: dict[str, Any], sides: int) -> int:
    """Return the position of the one image of counts among all but the thumbnails."""
    try:
        entries = list(tree["ImageList"].values())
        thumbnails = {entry["ImageIndex"] for entry in tree.get("Thumbnails", {}).values()}
        described = [_describe(entry["ImageData"], sides) for entry in entries]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("it is damaged: the tags that describe its image are missing") from error
    for index in thumbnails:
        if index < len(described) and not described[index].startswith("a colour picture"):
            raise ValueError("it is damaged: what it names as its thumbnail is none")
    images = [text for i, text in enumerate(described) if i not in thumbnails]
    micrographs = [i for i, text in enumerate(images) if text == ""]
    if len(micrographs) == 1:
        return micrographs[0]
    if micrographs:
        raise ValueError(f"it holds {len(micrographs)} images: save each in a file of its own")
    raise ValueError(f"it holds {' and '.join(images) or 'no image'}, not one image of counts")


def _describe(image: dict[str, Any], sides: int) -> str:
    """Return what an image is, or an empty string if it is one of counts with so many sides."""
    shape, kind, array = list(image["Dimensions"].values()), image["DataType"], image["Data"]
    if not isinstance(array, _Array):
        raise KeyError("Data")
    if kind in _OTHER:
        return f"{_OTHER[kind]} of {' × '.join(map(str, shape))}"
    if kind not in _COUNTS:
        raise ValueError(f"its images are of the type {kind}, which is unknown")
    if array.kind not in _COUNTS[kind] or prod(shape) != array.size or array.size == 0:
        raise ValueError(
            f"it is damaged: an image of {' × '.join(map(str, shape))} px and type {kind} has "
            f"{array.size} pixels of type {array.kind}"
        )
    if len(shape) == sides:
        return ""
    if len(shape) == 1:
        return f"a line of {shape[0]} values"
    if len(shape) > 2:
        return f"a stack of {' × '.join(map(str, shape))}"
    return f"an image of {' × '.join(map(str, shape))} px"

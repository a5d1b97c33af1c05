"""Why a file is not used: the reasons in words, whatever a library raised."""

from __future__ import annotations

import re
import struct

__all__ = ["RefusedError", "reason_for"]


class RefusedError(ValueError):
    """A file that is refused on purpose; the message is a reason without the file's name."""


#: What libraries say of a file that ends too early.
_CUT_SHORT = re.compile(
    r"truncat|unexpected end|end of file|end-of-file|\beof\b|end-of-stream|premature|"
    r"not enough (data|bytes|image data)|smaller than (expected|requested)|"
    r"mmap length is greater|cannot reshape array|unpack requires|requires a buffer|"
    r"could not broadcast input array|out of bounds for axis 0 with size 0|no element found|"
    r"buffer is too small|incomplete|ended before|failed to read|File is not a zip file",
    re.IGNORECASE,
)

_PACKAGE = re.compile(
    r"requires the '([\w.-]+)' package|the '([\w.-]+)' library was not found", re.IGNORECASE
)


def reason_for(error: BaseException) -> str:
    """Return why a file could not be read, in words.

    *Damaged* is said only of a file that is none of the others: refused on purpose, locked,
    forbidden, truncated, too large for the memory, or readable with a package that is missing.
    """
    if isinstance(error, RefusedError):
        return str(error)
    text = " ".join(str(error).split())[:300]
    package = _PACKAGE.search(text)
    if package or isinstance(error, ImportError):
        name = next((g for g in package.groups() if g), "") if package else ""
        name = name or (getattr(error, "name", None) or "").split(".")[0]
        if not name:
            return f"reading it needs a Python package that is not installed: {text}"
        return (
            f"reading it needs the Python package {name!r}, which is not installed: "
            f"pip install {name}"
        )
    if isinstance(error, BlockingIOError) or "unable to lock file" in text.lower():
        return "another program has it open and locked: close it there"
    if isinstance(error, PermissionError):
        return "it may not be read: its permissions forbid it, or another program holds it"
    if isinstance(error, MemoryError):
        return "its image does not fit into the memory of this machine"
    if isinstance(error, NotImplementedError):
        return f"it is of a kind that cannot be read: {text}"
    if isinstance(error, EOFError | struct.error) or _CUT_SHORT.search(text):
        return f"it is truncated ({text or type(error).__name__})"
    return f"it is damaged or in a form that cannot be read ({type(error).__name__}: {text})"

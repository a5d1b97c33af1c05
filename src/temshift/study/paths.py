"""Paths in a table: which leave the folder, and which file a wrong one was meant to be."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath

__all__ = ["leaves_folder", "meant_paths"]


def leaves_folder(path: str) -> bool:
    r"""Return whether a path is absolute or has ``..`` in it, in the way of any system.

    Links inside the folder are not followed here: whoever made one wants it to be used.

    Examples
    --------
    >>> [leaves_folder(p) for p in ("day 1/a.dm3", "../a.dm3", "/a.dm3", "C:\\a.dm3", "a..dm3")]
    [False, True, True, True, False]
    """
    return any(p.anchor or ".." in p.parts for p in (PurePosixPath(path), PureWindowsPath(path)))


def meant_paths(wrong: str, there: Iterable[str], limit: int = 3) -> list[str]:
    r"""Return the files that a path may mean which is not there.

    The same name in other case, in the other form of its accents (NFC, NFD), with ``\`` for
    ``/``, without its extension or its leading zeros, or in another folder; otherwise names that
    are spelt alike.

    Parameters
    ----------
    wrong : str
    there : iterable of str
        Paths of the files that there are.
    limit : int
        Most that are returned.

    Examples
    --------
    >>> meant_paths("Day1\\A.DM3", ["day1/a.dm3", "day1/b.dm3"])
    ['day1/a.dm3']
    >>> meant_paths("1", ["0001.dm3", "0002.dm3"])
    ['0001.dm3']
    """
    import difflib

    paths = list(there)
    for form in (_plain, _without_extension, _bare, _name, _name_without_extension):
        meant = form(_plain(wrong))
        alike = [path for path in paths if form(_plain(path)) == meant]
        if alike:
            return alike[:limit]
    digits = re.findall(r"\d+", wrong)  # another number is another file
    plain = {_plain(path): path for path in paths if re.findall(r"\d+", path) == digits}
    close = difflib.get_close_matches(_plain(wrong), list(plain), limit, 0.75)
    return [plain[name] for name in close]


def _plain(path: str) -> str:
    text = unicodedata.normalize("NFC", path).replace("\\", "/").strip().casefold()
    return "/".join(part.strip() for part in text.split("/") if part not in ("", "."))


def _without_extension(path: str) -> str:
    return str(PurePosixPath(path).with_suffix("")) if PurePosixPath(path).name else path


def _bare(path: str) -> str:
    """Return a path without extension and without zeros before its number."""
    whole = PurePosixPath(_without_extension(path))
    return str(whole.with_name(whole.name.lstrip("0") or "0")) if whole.name else path


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _name_without_extension(path: str) -> str:
    return PurePosixPath(path).stem

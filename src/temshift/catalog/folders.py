"""The files of a folder with all folders below it, through links and without going in circles."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path, PurePosixPath

__all__ = ["files_below", "is_left_out", "printable"]

#: Files that systems leave in folders, in small letters.
_OF_THE_SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini")


def is_left_out(path: str) -> bool:
    """Return whether a path is hidden, below a hidden folder, or that of a file of the system.

    Examples
    --------
    >>> is_left_out(".Trash/a.tif"), is_left_out("a/Thumbs.db"), is_left_out("a/b.tif")
    (True, True, False)
    """
    place = PurePosixPath(path)
    return place.name.lower() in _OF_THE_SYSTEM or any(p.startswith(".") for p in place.parts)


def printable(path: str) -> str:
    r"""Return a path as text: bytes of a name that are no UTF-8 are written as numbers.

    Examples
    --------
    >>> printable("Probe_\udce4.tif")
    'Probe_\\udce4.tif'
    """
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def files_below(folder: Path, each_once: bool = False) -> tuple[list[str], list[str]]:
    """Return all files below a folder, with those of linked folders.

    Hidden files and folders (those whose names begin with a dot) and files of the system are left
    out. Links that lead nowhere are files: whoever reads one learns what is wrong with it.

    Parameters
    ----------
    folder : Path
    each_once : bool
        Leave out a link to a file that is there under its own name, or under that of another link
        before it.

    Returns
    -------
    paths : list of str
        Relative to the folder, in order, with ``/``.
    remarks : list of str
        What was left out that somebody may miss, in words.
    """
    home = os.path.realpath(folder)
    found: dict[str, str] = {}
    visited: set[str] = set()
    links: list[str] = []
    remarks: list[str] = []
    tops = deque([str(folder)])

    def cannot_be_searched(error: OSError) -> None:
        remarks.append(f"{error.filename}: the folder cannot be searched: {error.strerror}")

    while tops:
        top = tops.popleft()
        target = os.path.realpath(top)
        if visited and (target in visited or Path(home).is_relative_to(target)):
            remarks.append(
                f"{top}: the link to {target} is not followed, which is searched already"
            )
            continue
        for here, names, files in os.walk(top, onerror=cannot_be_searched):
            real = os.path.realpath(here)
            if real in visited:
                names.clear()
                continue
            visited.add(real)
            names[:] = sorted(name for name in names if not name.startswith("."))
            linked = (os.path.join(here, name) for name in names)
            tops.extend(path for path in linked if os.path.islink(path))
            for name in sorted(files):
                path = os.path.join(here, name)
                if is_left_out(name):
                    continue
                if os.path.islink(path):
                    links.append(path)
                elif os.path.isfile(path):
                    found[os.path.join(real, name)] = path
    for path in sorted(links):
        target = os.path.realpath(path)
        key = target if each_once and os.path.isfile(target) else path
        if key in found:
            remarks.append(f"{path}: left out, a link to {found[key]}, which is here already")
        else:
            found[key] = path
    return sorted(Path(path).relative_to(folder).as_posix() for path in found.values()), remarks

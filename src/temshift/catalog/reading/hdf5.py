"""A look into HDF5 files before anything is read from them.

HDF5 lets a file show the bytes of any other (external links, external storage, virtual datasets)
and claim any number of elements without storing one. Both are refused here, by a walk over the
file's own links; no element is read.
"""

from __future__ import annotations

from math import ceil, prod
from pathlib import Path
from typing import Any

from temshift.catalog.reading.refusals import RefusedError

__all__ = ["check", "is_hdf5"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_OBJECTS = 100_000

#: Deflate stores at most this many bytes in one; smaller claims than the second are no danger.
_MAX_RATIO, _HARMLESS_BYTES = 1100, 64 << 20


def is_hdf5(file: Path) -> bool:
    """Return whether a file begins as HDF5 files do."""
    with file.open("rb") as stream:
        return stream.read(8) == _SIGNATURE


def check(file: Path) -> set[int]:
    """Refuse a file that shows another's bytes.

    Returns
    -------
    set of int
        Numbers of elements that datasets claim and have not stored; see :func:`check_stored`.

    Raises
    ------
    RefusedError
        External links, external storage, virtual datasets; a large array that is not stored,
        which some readers load at once.
    OSError
        The file is truncated, locked or damaged.
    """
    import h5py

    claimed: set[int] = set()
    stored: set[int] = set()
    with h5py.File(file, "r") as root:
        groups, seen = [root["/"]], 0
        visited = {root["/"].id.__hash__()}
        while groups:
            group = groups.pop()
            for name in group:
                seen += 1
                if seen > _MAX_OBJECTS:
                    raise RefusedError(f"it holds more than {_MAX_OBJECTS} objects: no micrograph")
                link = group.get(name, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    raise RefusedError(
                        f"its {group.name.rstrip('/')}/{name} is a link into another file "
                        f"({link.filename!r}), which is not followed: save the image itself"
                    )
                if not isinstance(link, h5py.HardLink):
                    continue  # a soft link shows what is visited by its own name
                item = group[name]
                if isinstance(item, h5py.Group):
                    if (key := item.id.__hash__()) not in visited:
                        visited.add(key)
                        groups.append(item)
                elif isinstance(item, h5py.Dataset):
                    _refuse_foreign(item)
                    if item.shape and _is_stored(item):
                        stored.add(item.size)
                    elif item.shape:
                        _refuse_large_claim(item)
                        claimed.add(item.size)
    return claimed - stored


def check_stored(n_elements: int, claimed: set[int]) -> None:
    """Refuse an image whose pixels the file does not hold."""
    if n_elements in claimed:
        raise RefusedError(
            f"its header claims {n_elements} px, but the file does not hold them (all): it is "
            "truncated, or was never written whole"
        )


def _refuse_foreign(dataset: Any) -> None:
    what = "external storage" if dataset.external else "a virtual dataset"
    if dataset.external or dataset.is_virtual:
        raise RefusedError(
            f"its {dataset.name} lies in other files ({what}), which are not followed: save the "
            "image itself"
        )


def _refuse_large_claim(dataset: Any) -> None:
    if dataset.size * dataset.dtype.itemsize > _HARMLESS_BYTES:
        raise RefusedError(
            f"its {dataset.name} claims {' × '.join(map(str, dataset.shape))} px, but the file "
            "does not hold them (all): it is truncated, or was never written whole"
        )


def _is_stored(dataset: Any) -> bool:
    """Return whether all elements of a dataset are in the file."""
    from h5py import h5d

    size, n_bytes = dataset.id.get_storage_size(), dataset.size * dataset.dtype.itemsize
    if n_bytes == 0:
        return True
    if size == 0 or (n_bytes > _HARMLESS_BYTES and n_bytes > _MAX_RATIO * size):
        return False
    if dataset.chunks is None:
        # a contiguous dataset has its whole size from the start, and a place once it is written
        compact = dataset.id.get_create_plist().get_layout() == h5d.COMPACT
        return bool(compact or dataset.id.get_offset() is not None)
    expected = prod(ceil(n / c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    return bool(dataset.id.get_num_chunks() >= expected)

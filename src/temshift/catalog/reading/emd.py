"""Electron microscopy datasets (``.emd``): Berkeley's (NCEM) and Velox's.

Velox's files are read by RosettaSciIO. It transposes Berkeley's as HyperSpy writes them, which is
wrong for those of openNCEM and of other programs, and takes the mean step of an axis whatever the
axis; so those are read here.

Order of Berkeley's axes: by the names of ``dim1``, ``dim2`` if they say x and y; otherwise the
first is x in the files of HyperSpy, and y (rows first, as C counts) in all others, as openNCEM
(``ncempy``) reads and writes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from temshift.catalog.reading import hdf5, rosettasciio
from temshift.catalog.reading.found import Found, as_pixels, check_numbers, check_shape, times
from temshift.catalog.reading.refusals import RefusedError
from temshift.catalog.reading.units import Axis, uniform_step

__all__ = ["read"]


def read(file: Path, header_only: bool) -> Found:
    """Read the image of an EMD file; see :func:`temshift.catalog.reading.formats.open_image`."""
    if not hdf5.is_hdf5(file):
        raise RefusedError("it is no EMD file, or damaged: it is not in the format HDF5")
    claimed = hdf5.check(file)
    found = _berkeley(file, header_only, claimed)
    if found is None:
        found = rosettasciio.read_with(
            "rsciio.emd", file, header_only, claimed, select_type="images"
        )
    return found


def _berkeley(file: Path, header_only: bool, claimed: set[int]) -> Found | None:
    """Return the image of a file of NCEM's kind, ``None`` if there are no groups of that kind."""
    import h5py

    with h5py.File(file, "r") as root:
        datasets = list(_datasets(root))
        if not datasets:
            return None
        images = [d for d in datasets if sum(n > 1 for n in d.shape) == 2 or d.ndim == 2]
        images = [d for d in images if d.dtype.kind != "c"] or images
        if len(images) != 1:
            shapes = " and ".join(times(d.shape) for d in (images or datasets)[:6])
            if images:
                raise RefusedError(
                    f"it holds {len(images)} images ({shapes}): save each in its own file"
                )
            raise RefusedError(
                f"it holds {shapes}: a stack, a line or a spectrum image, not one image"
            )
        (dataset,) = images
        check_numbers(dataset.dtype)
        sides = [i for i, n in enumerate(dataset.shape) if n > 1] if dataset.ndim > 2 else [0, 1]
        shape = check_shape(dataset.shape)
        hdf5.check_stored(dataset.size, claimed)
        first = 0 if "dim0" in dataset.parent else 1
        named = [_dim(dataset.parent, first + i, dataset.shape[i]) for i in sides]
        x_first = _x_is_first(dataset, [name for name, _ in named])
        axes = [axis for _, axis in named]
        data = None if header_only else dataset[()].reshape(shape)
    if x_first:
        shape, axes = shape[::-1], axes[::-1]
    pixels = None if data is None else as_pixels(data.T if x_first else data)
    return Found((shape[0], shape[1]), pixels, axes)


def _datasets(root: Any) -> Iterator[Any]:
    """Yield the arrays of numbers in groups that are marked as EMD's."""
    import h5py

    groups = [root["/"]]
    visited = {groups[0].id.__hash__()}
    while groups:
        group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item = group[name]
            if isinstance(item, h5py.Group) and item.id.__hash__() not in visited:
                visited.add(item.id.__hash__())
                groups.append(item)
            elif (
                isinstance(item, h5py.Dataset)
                and group.attrs.get("emd_group_type")
                and re.match("data|counted_datacube|diffractionslice|realslice", name)
                and item.dtype.kind in "biufc"
                and item.ndim
            ):
                yield item


def _dim(group: Any, number: int, size: int) -> tuple[str, Axis]:
    """Return name and calibration of an axis."""
    if (dim := group.get(f"dim{number}")) is None:
        return "", Axis()
    name, unit = (_text(dim.attrs.get(key)) for key in ("name", "units"))
    if re.fullmatch(r"\[(._)*.\]", unit):
        unit = unit[1:-1].replace("_", "")  # [n_m], as the format's first version had it
    if re.fullmatch(r"unit\d+", unit):
        unit = ""  # what ncempy writes where none is given
    if dim.dtype.kind not in "biuf" or dim.ndim != 1 or dim.size not in (2, size):
        return name, Axis()
    return name, Axis(uniform_step(dim[()], name or f"dim{number}"), unit)


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _x_is_first(dataset: Any, names: list[str]) -> bool:
    """Return whether columns come before rows in a stored array."""
    if "dim0" in dataset.parent:
        return False  # py4DSTEM: rows first, whatever the names
    said = ["".join(re.findall(r"(?<![a-z])[xy](?![a-z])", n.lower())) for n in names]
    if "x" in said or "y" in said:
        return said[0] == "x" or said[1] == "y"
    return bool(dataset.parent.parent.name == "/signals")

"""Patch stacks on disk: HDF5 files whose arrays are memory-mapped when loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from kedro.io import DatasetError
from numpy.typing import NDArray

from temshift.catalog.file_dataset import FileDataset
from temshift.catalog.files import atomic_path
from temshift.config.contract import CONTRACT, Column
from temshift.microscopy.patches import PATCH_COLUMNS, PatchStack, PatchStream
from temshift.microscopy.pictures import contact_sheet, paint, stretch

if TYPE_CHECKING:
    import h5py
    from kedro_datasets._typing import ImagePreview

__all__ = ["PatchStackDataset"]

_TEXT_COLUMNS = ("micrograph_id", "specimen_id", "group")

#: Patches read or written at a time where a file cannot be memory-mapped.
_SLICE = 16


class PatchStackDataset(FileDataset[PatchStack | PatchStream, PatchStack]):
    """One patch stack in one HDF5 file.

    The file holds ``images`` (N, P, P) float32 and ``labels`` (N, P, P) uint8, contiguous and
    uncompressed, a group ``table`` with a dataset a column, and the attribute ``attributes``
    (JSON), which saving extends by ``sha256_of_pixels`` of the two arrays. Loading maps them into
    memory and copies nothing.

    A curated set of the published study is loaded through the same class: two files, ``images`` in
    one and ``labels`` in the other, without a table. Its patches stand in the order of their
    micrographs, which are not named, so each counts as a micrograph of its own and its fold is
    -1 (no fold of the ``grouped`` protocol).

    Parameters
    ----------
    filepath : str
        The HDF5 file.
    labels_filepath : str, optional
        File of the labels, if they have one of their own; such a set can only be loaded.
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    def __init__(
        self,
        filepath: str,
        labels_filepath: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath, metadata)
        self._labels_filepath = PurePosixPath(labels_filepath) if labels_filepath else None

    def load(self) -> PatchStack:
        """Return the stack with its arrays memory-mapped (read-only).

        Raises
        ------
        DatasetError
            A file is missing or is no patch stack; images and labels do not belong together; a
            label is neither 0 nor 1.
        """
        path = Path(self._filepath)
        images = _read(path, "images", np.float32)
        labels = _read(Path(self._labels_filepath or path), "labels", np.uint8)
        if images.shape != labels.shape:
            raise DatasetError(
                f"{path}: the images have shape {images.shape}, but the labels"
                f"{f' in {self._labels_filepath}' if self._labels_filepath else ''} have shape "
                f"{labels.shape}: they do not belong together"
            )
        table, attributes = _read_table(path)
        if table is None:
            table = _table_of_unnamed_patches(path.stem, labels)
        return PatchStack(images, labels, table, attributes)

    def save(self, data: PatchStack | PatchStream) -> None:
        """Write a stack; a stream is written part by part as it is made.

        Raises
        ------
        DatasetError
            The set is one of two files, or a stream holds another number of patches than it said.
        """
        if self._labels_filepath:
            raise DatasetError(
                f"{self._filepath}: a curated set with its labels in a file of their own "
                f"({self._labels_filepath}) is only read, never written"
            )
        import h5py

        stream = _as_stream(data)
        shape = (stream.n_patches, stream.patch_px, stream.patch_px)
        tables, written = [], 0
        digests = hashlib.sha256(), hashlib.sha256()
        with atomic_path(Path(self._filepath)) as temporary, h5py.File(temporary, "w") as file:
            images = file.create_dataset("images", shape, np.float32)
            labels = file.create_dataset("labels", shape, np.uint8)
            for part in stream:
                end = written + len(part)
                if end > stream.n_patches or part.images.shape[1:] != shape[1:]:
                    break
                images[written:end] = part.images
                labels[written:end] = part.labels
                digests[0].update(np.ascontiguousarray(part.images, np.float32).data)
                digests[1].update(np.ascontiguousarray(part.labels, np.uint8).data)
                tables.append(part.table)
                written = end
            if written != stream.n_patches:
                raise DatasetError(
                    f"{self._filepath}: expected {shape[0]} patches of {shape[1]} px, the "
                    f"micrographs gave another number or size (after {written} patches): the "
                    "metadata table and the files disagree; run data_curation again"
                )
            _write_table(file, pd.concat(tables, ignore_index=True))
            sha256 = dict(zip(("images", "labels"), (d.hexdigest() for d in digests), strict=True))
            attributes = {**stream.attributes, "sha256_of_pixels": sha256}
            file.attrs["attributes"] = json.dumps(attributes, sort_keys=True)

    def preview(self) -> ImagePreview:
        """Return a PNG of a few patches with the outlines of their labels, for Kedro-Viz.

        What all of them share is said below: ``Au, 2.2 nm particles, 423 e/Å², 0.020 nm/px``.
        """
        from temshift.catalog.previews import image_preview

        stack = self.load()
        return image_preview(_contact_sheet(stack), _in_words(stack.attributes))

    def _exists(self) -> bool:
        paths = [self._filepath, *([self._labels_filepath] if self._labels_filepath else [])]
        return all(Path(path).is_file() for path in paths)

    def content_paths(self) -> list[Path]:
        """Return the one or two files."""
        paths = (self._filepath, self._labels_filepath)
        return [Path(path) for path in paths if path]

    def _describe(self) -> dict[str, Any]:
        described = {"filepath": str(self._filepath)}
        if self._labels_filepath:
            described["labels_filepath"] = str(self._labels_filepath)
        return described


def _as_stream(data: PatchStack | PatchStream) -> PatchStream:
    if isinstance(data, PatchStream):
        return data
    return PatchStream([data], len(data), data.images.shape[1], data.attributes)


def _read(path: Path, key: str, dtype: type[np.generic]) -> NDArray[Any]:
    """Return an array of a file as (N, P, P): memory-mapped where it lies there so, else read."""
    import h5py

    try:
        with h5py.File(path) as file:
            if key not in file:
                raise DatasetError(
                    f"{path}: expected the dataset {key!r}, found {', '.join(file) or 'nothing'}"
                )
            dataset = file[key]
            offset = dataset.id.get_offset()
            checked = key == "images" or "table" in file  # our own labels are 0 and 1
            if checked and dataset.ndim == 3 and dataset.dtype == dtype and offset is not None:
                return np.memmap(path, dtype, mode="r", offset=offset, shape=dataset.shape)
            return _read_foreign(path, dataset, dtype)
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such file. Run the preprocessing pipeline first") from error
    except OSError as error:
        raise DatasetError(f"{path}: not a readable HDF5 file ({error}). Make it again") from error


def _read_foreign(path: Path, dataset: h5py.Dataset, dtype: type[np.generic]) -> NDArray[Any]:
    """Read an array with a channel axis, of another type, chunked or compressed, in slices."""
    shape = dataset.shape
    channels = shape[3] if dataset.ndim == 4 else 1
    is_label = dtype == np.uint8
    if dataset.ndim not in (3, 4) or shape[1] != shape[2] or channels > (2 if is_label else 1):
        raise DatasetError(
            f"{path}: {dataset.name} has shape {shape}; expected (N, P, P), (N, P, P, 1)"
            f"{' or, one-hot, (N, P, P, 2)' if is_label else ''}"
        )
    result = np.empty(shape[:3], dtype)
    for start in range(0, shape[0], _SLICE):
        rows = slice(start, start + _SLICE)
        # one-hot: background, particle
        block = dataset[rows] if dataset.ndim == 3 else dataset[rows][..., -1]
        if is_label:
            values = np.unique(block)
            if not (set(values.tolist()) <= {0, 1} or set(values.tolist()) <= {0, 255}):
                raise DatasetError(
                    f"{path}: labels must be 0 and 1 (or 0 and 255), found {values[:8].tolist()}"
                )
            block = block > 0
        result[rows] = block
    return result


def _write_table(file: h5py.File, table: pd.DataFrame) -> None:
    import h5py

    group = file.create_group("table")
    for column in PATCH_COLUMNS:
        if column in _TEXT_COLUMNS:
            values = table[column].fillna("").astype(str).tolist()
            group.create_dataset(column, data=values, dtype=h5py.string_dtype())
        else:
            group.create_dataset(column, data=table[column].to_numpy(np.int64))


def _read_table(path: Path) -> tuple[pd.DataFrame | None, dict[str, Any]]:
    import h5py

    with h5py.File(path) as file:
        attributes = json.loads(file.attrs.get("attributes", "{}"))
        if "table" not in file:
            return None, attributes
        group = file["table"]
        columns = {
            name: group[name].asstr()[:] if name in _TEXT_COLUMNS else group[name][:]
            for name in PATCH_COLUMNS
        }
    return pd.DataFrame(columns), attributes


def _table_of_unnamed_patches(stem: str, labels: NDArray[np.uint8]) -> pd.DataFrame:
    n = len(labels)
    return pd.DataFrame(
        {
            "micrograph_id": (names := [f"{stem}_{i:05d}" for i in range(n)]),
            "specimen_id": "",
            "group": names,
            "row": 0,
            "column": 0,
            "labelled_px": [int(np.count_nonzero(label)) for label in labels],
            "fold": -1,
        },
        columns=list(PATCH_COLUMNS),
    )


def _in_words(attributes: Mapping[str, Any]) -> str:
    """Return what the micrographs of a stack share: ``Au, 2.2 nm particles, 423 e/Å²``."""
    forms = {"material": "{}", "diameter_nm": "{} particles"}
    forms |= {"dose_e_per_A2": "{}", "pixel_size_nm": "{}"}
    words = {name: _value(CONTRACT[name], attributes.get(name)) for name in forms}
    return ", ".join(form.format(words[name]) for name, form in forms.items() if words[name])


def _value(column: Column, value: Any) -> str:
    """Return a value with its unit; empty if it is unknown or not shared."""
    if value is None or value == "":
        return ""
    return f"{value:{column.format}} {column.unit}" if column.numeric else str(value)


def _contact_sheet(stack: PatchStack, n: int = 6, side: int = 256) -> NDArray[np.uint8]:
    """Return a picture of n patches spread over the stack, labels outlined, in rows of three."""
    step = max(1, stack.images.shape[1] // side)
    chosen = np.unique(np.linspace(0, len(stack) - 1, n).astype(int))
    tiles = [
        paint(stretch(stack.images[i, ::step, ::step]), label=stack.labels[i, ::step, ::step] != 0)
        for i in chosen
    ]
    return contact_sheet(tiles, columns=3, gap_px=4)

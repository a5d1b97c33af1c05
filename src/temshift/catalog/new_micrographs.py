"""New micrographs, which no table describes: files, or frames of stacks, one or a folder."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from kedro.io import DatasetError
from numpy.typing import NDArray

from temshift.catalog.file_dataset import FileDataset
from temshift.catalog.folders import printable
from temshift.catalog.masks import any_mask
from temshift.catalog.micrographs import MicrographStore, T, as_micrograph
from temshift.catalog.reading.formats import open_image, pixel_files
from temshift.catalog.reading.found import Found
from temshift.catalog.reading.stacks import count_frames, read_frame
from temshift.catalog.reading.units import CalibrationError
from temshift.microscopy.micrograph import Micrograph

__all__ = [
    "MaskStore",
    "MasksDataset",
    "NewMicrographStore",
    "NewMicrographsDataset",
    "frame_of",
    "names_of_owner",
    "owners_of",
]

_log = logging.getLogger(__name__)

#: Files that lie beside micrographs and are none.
_NOT_IMAGES = {
    *(".csv", ".tsv", ".txt", ".json", ".yml", ".yaml", ".xml", ".ini", ".log", ".md", ".html"),
    *(".xls", ".xlsx", ".ods", ".doc", ".docx", ".ppt", ".pptx", ".pdf", ".py", ".ipynb", ".m"),
}


class NewMicrographStore(MicrographStore):
    """The micrographs of a folder, or a single one.

    Every frame of a stack or movie is a micrograph of its own, ``movie.mrc[3]``, numbered from 0.
    A file that is there under several names, by links, is one micrograph.

    Parameters
    ----------
    source : Path or str
        A folder, which is searched with all folders below it, or a file.
    """

    _each_once = True

    def __init__(self, source: Path | str) -> None:
        source = Path(source)
        self._only = None if source.is_dir() else source.name
        super().__init__(source if source.is_dir() else source.parent)
        self._sha256: dict[str, str] = {}

    def paths(self) -> list[str]:
        """Return the files and frames, in order, relative to the folder; no tables and texts."""
        if self._only is not None:
            files = [self._only]
        else:
            files = [p for p in super().paths() if Path(p).suffix.lower() not in _NOT_IMAGES]
            files = _without_tia_headers(_without_cellpose_sessions(files))
            files = _without_pixel_files(self.folder, files)
        return [one for path in files for one in self._frames(path)]

    def read(self, path: str, calibrated: bool = True) -> Micrograph:
        """Read a micrograph.

        Parameters
        ----------
        path : str
        calibrated : bool
            ``False`` where the pixel size is known from elsewhere: a calibration that gives none
            (another unit than a length, a size that cannot be) is then left out of account.

        Raises
        ------
        MicrographReadError
            As :meth:`temshift.catalog.micrographs.MicrographStore.read`.
        """

        def use(found: Found) -> Micrograph:
            try:
                return as_micrograph(found)
            except CalibrationError as error:
                if calibrated:
                    raise
                _log.warning("%s: its own calibration is not used: %s", printable(path), error)
                return as_micrograph(replace(found, axes=()))

        return self._use(path, use)

    def file(self, path: str) -> Path:
        """Return the file of a micrograph, or of a frame."""
        return self.folder / self._split(path)[0]

    def sha256(self, path: str) -> str:
        """Return the SHA-256 of the file, read once for all its frames."""
        file, number = self._split(path)
        if number is None:
            return super().sha256(path)
        if file not in self._sha256:
            self._sha256 = {file: super().sha256(file)}
        return f"{self._sha256[file]}[{number}]"

    def _use(
        self,
        path: str,
        use: Callable[[Found], T],
        open_file: Callable[[Path], Found] = open_image,
    ) -> T:
        """Open a file, or one frame of a stack, and use what it holds."""
        file, number = self._split(path)
        frame = open_file if number is None else partial(read_frame, number=number)
        return super()._use(file, use, frame)

    def _frames(self, path: str) -> list[str]:
        try:
            count = count_frames(self.folder / path)
        except Exception:  # no stack, or damaged: reading it says what is wrong with it
            _log.debug("%s: no stack", path, exc_info=True)
            count = 0
        return [f"{path}[{i:0{len(str(count - 1))}d}]" for i in range(count)] or [path]

    def _split(self, path: str) -> tuple[str, int | None]:
        """Return the file of a path, and the number of its frame if it is one."""
        found = re.fullmatch(r"(.+)\[(\d+)\]", path)
        if found is None or (self.folder / path).exists():
            return path, None
        return found[1], int(found[2])


def _without_cellpose_sessions(paths: Sequence[str]) -> list[str]:
    """Leave out ``a_seg.npy`` beside ``a_cp_masks.png``: Cellpose keeps its settings there."""
    masked = {name.removesuffix("_cp_masks") for name in map(_without_ending, paths)
              if name.endswith("_cp_masks")}  # fmt: skip
    sessions = {f"{name}_seg.npy" for name in masked}
    return [path for path in paths if path not in sessions]


def _without_tia_headers(paths: Sequence[str]) -> list[str]:
    """Leave out ``a.emi`` beside ``a_1.ser``, which has its pixels and their calibration."""
    series = {re.sub(r"_\d+$", "", _without_ending(path)) for path in paths
              if path.lower().endswith(".ser")}  # fmt: skip
    return [
        path
        for path in paths
        if not (path.lower().endswith(".emi") and _without_ending(path) in series)
    ]


def _without_pixel_files(folder: Path, paths: Sequence[str]) -> list[str]:
    """Leave out ``a.raw`` beside ``a.rpl``, which is read with it."""
    read = {
        (PurePosixPath(path).parent / other.name).as_posix()
        for path in paths
        for other in pixel_files(folder / path)
    }
    return [path for path in paths if path not in read]


#: What programs add to the name of the image, in front of the ending.
_ADDED = re.compile(r"[ _-](cp_masks?|masks?|labels?|seg|segmentation|particles|binary)$", re.I)


def owners_of(masks: Iterable[str], micrographs: Iterable[str]) -> dict[str, list[str]]:
    """Return the micrographs that each mask belongs to by its name; of some there are none.

    Parameters
    ----------
    masks, micrographs : iterable of str
        Paths, as of :meth:`NewMicrographStore.paths`.

    Examples
    --------
    >>> owners_of(["a_mask.png", "b.png", "c.tif[1]"], ["a.dm3", "c.mrc[0]", "c.mrc[1]"])
    {'a_mask.png': ['a.dm3'], 'b.png': [], 'c.tif[1]': ['c.mrc[1]']}
    """
    known: dict[str, list[str]] = {}
    for path in micrographs:
        for key in {_without_ending(path), _with_ending(path)}:
            known.setdefault(key, []).append(path)
    return {
        mask: next((known[key] for key in names_of_owner(mask) if key in known), [])
        for mask in masks
    }


def names_of_owner(mask: str) -> tuple[str, str]:
    """Return what the micrograph of a mask may be called: without its ending, and what was added.

    Examples
    --------
    >>> names_of_owner("sub/a_cp_masks.tif[03]")
    ('sub/a_cp_masks[3]', 'sub/a[3]')
    """
    key = _without_ending(mask)
    name, frame = frame_of(key)
    return key, _ADDED.sub("", name) + frame


class MaskStore(NewMicrographStore):
    """Masks made elsewhere, named like the micrographs they belong to.

    ``sub/b.png``, ``sub/b.dm3.png``, ``sub/b_mask.tif`` and ``sub/b_cp_masks.png`` are masks of
    ``sub/b.dm3``; the frames of a stack are those of the stack of that name.

    Parameters
    ----------
    source : Path or str
        A folder, or a file, which is the mask of a single micrograph whatever its name.
    """

    _each_once = False  # micrographs may share a mask

    def others(self, folder: Path, micrographs: Sequence[str]) -> list[str]:
        """Return the files of a folder of micrographs that are none of these masks.

        Raises
        ------
        ValueError
            The masks are in the very folder of the micrographs, so that nobody knows which is what.
        """
        here, there = self.folder.resolve(), folder.resolve()
        places = {path: _resolved_folder(there / path) for path in micrographs}
        if self._only is not None:
            mask = here / self._only
            stacks = {path: _resolved_folder(there / frame_of(path)[0]) for path in micrographs}
            return [path for path in micrographs if mask not in (places[path], stacks[path])]
        if here == there:
            raise ValueError(
                f"{self.folder}: micrographs and masks are in the same folder. Put the masks into "
                "another one, which may lie in that of the micrographs, and name it by "
                "--params deployment.masks=path"
            )
        return [path for path, place in places.items() if not place.is_relative_to(here)]

    def of(self, micrographs: Sequence[str]) -> dict[str, list[str]]:
        """Return the masks of each micrograph that has any; the log names those of none.

        Parameters
        ----------
        micrographs : sequence of str
            Paths, as of :meth:`NewMicrographStore.paths`.
        """
        masks = self.paths()
        if self._only is not None and len(micrographs) == len(masks) == 1:
            return {micrographs[0]: masks}
        owners = owners_of(masks, micrographs)
        found: dict[str, list[str]] = {}
        for mask, own in owners.items():
            for path in own:
                found.setdefault(path, []).append(mask)
        self.tell_lost([mask for mask, own in owners.items() if not own], len(masks))
        return found

    def tell_lost(self, lost: Sequence[str], total: int) -> None:
        """Name masks that belong to no micrograph in the log."""
        if lost:
            few = ", ".join(map(printable, lost[:5])) + (" …" if len(lost) > 5 else "")
            _log.warning(
                "%d of %d masks in %s belong to no micrograph: %s. A mask is named like its "
                "micrograph (sub/b.png for sub/b.dm3)",
                *(len(lost), total, self.folder, few),
            )

    def read(self, path: str) -> NDArray[np.uint8]:  # type: ignore[override]
        """Read a mask: 1 where a particle is (:func:`temshift.catalog.masks.any_mask`).

        Raises
        ------
        MicrographReadError
            It is missing or damaged, or no mask.
        """
        return self._use(path, any_mask)


def _resolved_folder(path: Path) -> Path:
    """Return a path through no linked folder; the file may be a link, or a frame of a stack."""
    return path.parent.resolve() / path.name


def frame_of(path: str) -> tuple[str, str]:
    """Return the file of a path and ``"[3]"``, the number of its frame, if it has one."""
    found = re.fullmatch(r"(.+?)(?:\[0*(\d+)\])?", path)
    assert found is not None
    return found[1], f"[{found[2]}]" if found[2] else ""


def _with_ending(path: str) -> str:
    return "".join(frame_of(path))


def _without_ending(path: str) -> str:
    """Return a path without the ending of its file, the number of a frame kept."""
    file, frame = frame_of(path)
    return f"{PurePosixPath(file).with_suffix('')}{frame}"


_Store = TypeVar("_Store", bound=NewMicrographStore)


class NewMicrographsDataset(FileDataset[None, NewMicrographStore]):
    """A file or a folder of micrographs, to be read only.

    Parameters
    ----------
    filepath : str
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    def load(self) -> NewMicrographStore:
        """Return the store; reads nothing yet.

        Raises
        ------
        DatasetError
            There is no such file or folder, or no file in it.
        """
        return self._opened(NewMicrographStore, "micrograph", "deployment.input")

    def save(self, data: None) -> None:
        """Refuse: micrographs are never written.

        Raises
        ------
        DatasetError
            Always.
        """
        raise DatasetError(f"{self._filepath}: new micrographs are read, never written")

    def _opened(self, kind: type[_Store], what: str, parameter: str) -> _Store:
        source = Path(self._filepath)
        if not source.exists():
            raise DatasetError(
                f"{source}: there is no such file or folder of {what}s. Say where they are: "
                f"--params {parameter}=path (relative to the project's folder, or absolute)"
            )
        store = kind(source)
        if not store.paths():
            raise DatasetError(f"{source}: there is no file of a {what} in this folder")
        return store


class MasksDataset(NewMicrographsDataset):
    """A file or a folder of masks made elsewhere, to be read only."""

    def load(self) -> MaskStore:
        """Return the store; reads nothing yet.

        Raises
        ------
        DatasetError
            There is no such file or folder, or no file in it.
        """
        return self._opened(MaskStore, "mask", "deployment.masks")

"""New micrographs, which no table describes: files, or frames of stacks, one or a folder."""

from __future__ import annotations

import logging
import re
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from temshift.catalog.micrographs import MicrographStore, as_micrograph
from temshift.catalog.reading.stacks import count_frames, read_frame
from temshift.microscopy.micrograph import Micrograph

__all__ = ["NewMicrographStore", "NewMicrographsDataset"]

_log = logging.getLogger(__name__)

#: Files that lie beside micrographs and are none.
_NOT_IMAGES = {
    *(".csv", ".tsv", ".txt", ".json", ".yml", ".yaml", ".xml", ".ini", ".log", ".md", ".html"),
    *(".xls", ".xlsx", ".ods", ".doc", ".docx", ".ppt", ".pptx", ".pdf", ".py", ".ipynb", ".m"),
}


class NewMicrographStore(MicrographStore):
    """The micrographs of a folder, or a single one.

    Every frame of a stack or movie is a micrograph of its own, ``movie.mrc[3]``, numbered from 0.

    Parameters
    ----------
    source : Path or str
        A folder, which is searched with all folders below it, or a file.
    """

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
        return [one for path in files for one in self._frames(path)]

    def read(self, path: str) -> Micrograph:
        """Read a micrograph, or one frame of a stack.

        Raises
        ------
        MicrographReadError
            As :meth:`temshift.catalog.micrographs.MicrographStore.read`.
        """
        file, number = self._split(path)
        if number is None:
            return super().read(path)
        return self._use(file, as_micrograph, open_file=partial(read_frame, number=number))

    def sha256(self, path: str) -> str:
        """Return the SHA-256 of the file, read once for all its frames."""
        file, number = self._split(path)
        if number is None:
            return super().sha256(path)
        if file not in self._sha256:
            self._sha256 = {file: super().sha256(file)}
        return f"{self._sha256[file]}[{number}]"

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


class NewMicrographsDataset(AbstractDataset[None, NewMicrographStore]):
    """A file or a folder of micrographs, to be read only.

    Parameters
    ----------
    filepath : str
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

    def load(self) -> NewMicrographStore:
        """Return the store; reads nothing yet.

        Raises
        ------
        DatasetError
            There is no such file or folder, or no file in it.
        """
        source = Path(self._filepath)
        if not source.exists():
            raise DatasetError(
                f"{source}: there is no such file or folder of micrographs. Say where they are: "
                "--params deployment.input=path (relative to the project's folder, or absolute)"
            )
        store = NewMicrographStore(source)
        if not store.paths():
            raise DatasetError(f"{source}: there is no file of a micrograph in this folder")
        return store

    def save(self, data: None) -> None:
        """Refuse: micrographs are never written.

        Raises
        ------
        DatasetError
            Always.
        """
        raise DatasetError(f"{self._filepath}: new micrographs are read, never written")

    def _exists(self) -> bool:
        return Path(self._filepath).exists()

    def content_paths(self) -> list[Path]:
        """Return the file or folder."""
        return [Path(self._filepath)]

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

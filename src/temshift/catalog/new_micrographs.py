"""New micrographs, which no table describes: a file, or a folder of files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from temshift.catalog.micrographs import MicrographStore

__all__ = ["NewMicrographStore", "NewMicrographsDataset"]

#: Files that lie beside micrographs and are none.
_NOT_IMAGES = {
    *(".csv", ".tsv", ".txt", ".json", ".yml", ".yaml", ".xml", ".ini", ".log", ".md", ".html"),
    *(".xls", ".xlsx", ".ods", ".doc", ".docx", ".ppt", ".pptx", ".pdf", ".py", ".ipynb", ".m"),
}


class NewMicrographStore(MicrographStore):
    """The micrographs of a folder, or a single one.

    Parameters
    ----------
    source : Path or str
        A folder, which is searched with all folders below it, or a file.
    """

    def __init__(self, source: Path | str) -> None:
        source = Path(source)
        self._only = None if source.is_dir() else source.name
        super().__init__(source if source.is_dir() else source.parent)

    def paths(self) -> list[str]:
        """Return the files, in order, as paths relative to the folder; no tables and texts."""
        if self._only is not None:
            return [self._only]
        return [p for p in super().paths() if Path(p).suffix.lower() not in _NOT_IMAGES]


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

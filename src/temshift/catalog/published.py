"""What the published study has made public, as datasets that fetch it.

Saving to one of these datasets means fetching: a node knows which files are needed, but only
datasets open files (docs/decisions/0002-saving-fetches.md). It takes relative paths, gets those
that are not here yet (:mod:`temshift.catalog.downloads`) and checks the others. Loading contacts
nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import DatasetError

from temshift.catalog.downloads import (
    ChangedFileError,
    Downloader,
    DownloadError,
    without_access,
)
from temshift.catalog.file_dataset import FileDataset
from temshift.catalog.micrographs import MicrographsDataset
from temshift.catalog.patch_stack import PatchStackDataset
from temshift.learning.published_networks import weight_file_name
from temshift.microscopy.patches import PatchStack

__all__ = [
    "CuratedSets",
    "CuratedSetsDataset",
    "DownloadedMicrographsDataset",
    "DownloadedTableDataset",
    "WeightsDataset",
]

_log = logging.getLogger(__name__)


class _Fetching(FileDataset[Any, Any]):
    """What the datasets have in common whose saving fetches: a folder and where to fetch from.

    Parameters
    ----------
    filepath : str
        The folder (of a table: its file).
    download : dict
        Arguments of :class:`~temshift.catalog.downloads.Downloader`: ``sources``, ``offline``,
        ``workers``, ``attempts``, ``backoff_s``, ``timeout_s``.
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    adds_to = True

    #: Pattern of the files of which one at least must be there.
    _files = "*"

    def __init__(
        self, filepath: str, download: dict[str, Any], metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath, metadata)
        self._download = dict(download)

    @property
    def _folder(self) -> Path:
        return Path(self._filepath)

    def save(self, data: Iterable[str]) -> None:
        """Fetch the files of these relative paths.

        Raises
        ------
        DownloadError
            Files that cannot be had, or are not what was first fetched.
        """
        self._fetch(data)

    def _fetch(self, files: Iterable[str]) -> None:
        Downloader(self._folder, **self._download).fetch(files)

    def _exists(self) -> bool:
        return any(self._folder.glob(self._files))

    def _describe(self) -> dict[str, Any]:
        sources = without_access(self._download.get("sources"))
        return {"filepath": str(self._filepath), "sources": sources}


class DownloadedTableDataset(_Fetching):
    """A CSV table that is fetched once.

    Parameters
    ----------
    filepath : str
        Where the table is kept; saving fetches the given name into the folder of it.
    download : dict
        ``sources`` and the like.
    load_args : dict, optional
        For :func:`pandas.read_csv`.
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    def __init__(
        self,
        filepath: str,
        download: dict[str, Any],
        load_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath, download, metadata)
        self._load_args = load_args or {}

    @property
    def _folder(self) -> Path:
        return Path(self._filepath.parent)

    def load(self) -> pd.DataFrame:
        """Read the table."""
        return pd.read_csv(self._filepath, **self._load_args)

    def save(self, data: str) -> None:  # type: ignore[override]
        """Fetch the table of this name.

        Raises
        ------
        DatasetError
            It is not the name under which the table is kept.
        DownloadError
            It cannot be had, or is not what was first fetched.
        """
        if data != self._filepath.name:
            raise DatasetError(f"{self._filepath}: keeps a table of this name, not {data!r}")
        self._fetch([data])

    def _exists(self) -> bool:
        return Path(self._filepath).is_file()


class DownloadedMicrographsDataset(_Fetching, MicrographsDataset):  # type: ignore[misc]
    """A folder of micrographs and masks, fetched from a repository of the same layout."""


class WeightsFolder:
    """The weight files of a folder, found whatever the case of their names.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = {p.name.lower(): p.name for p in sorted(folder.glob("*.h5"))}

    def __repr__(self) -> str:
        return f"WeightsFolder('{self._folder}'): {len(self._names)} files; .read(name)"

    def find(self, name: str) -> str | None:
        """Return the file's own name, or ``None`` if there is none."""
        return self._names.get(name.strip().lower())

    def read(self, name: str) -> bytes:
        """Return the content of a file that was found."""
        return (self._folder / name).read_bytes()


class WeightsDataset(_Fetching):
    """The study's folder of weight files.

    Files that cannot be fetched are told, not an error: what is here can be used, and the next run
    tries again.
    """

    _files = "*.h5"

    def __init__(
        self, filepath: str, download: dict[str, Any], metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath, download, metadata)
        # there when all was fetched: until then the next run tries again
        self._complete = Path(self._filepath / ".complete")

    def load(self) -> WeightsFolder:
        """Return the files; reads none yet."""
        return WeightsFolder(self._folder)

    def save(self, data: Iterable[str]) -> None:
        """Fetch the files that the model list names.

        Raises
        ------
        ChangedFileError
            A file that was fetched before is not what it was.
        """
        self._complete.unlink(missing_ok=True)
        try:
            self._fetch(map(weight_file_name, data))
        except ChangedFileError:
            raise
        except DownloadError as error:
            _log.warning("%s: %s", error.what, error.found)
        else:
            self._complete.touch()

    def content_paths(self) -> list[Path]:
        """Return the folder and the file without which files are fetched again."""
        return [self._folder, self._complete]


class CuratedSets:
    """The curated sets of a folder: ``<name>_Images.h5`` and ``<name>_Labels.h5``.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        n = len(list(self._folder.glob("*_Images.h5")))
        return f"CuratedSets('{self._folder}'): {n} sets; .read(name) gives a PatchStack"

    @staticmethod
    def files(name: str) -> tuple[str, str]:
        """Return the file names of a set: images, labels."""
        return f"{name}_Images.h5", f"{name}_Labels.h5"

    def read(self, name: str) -> PatchStack:
        """Return a set, its images memory-mapped where they can be.

        Raises
        ------
        DatasetError
            As :meth:`temshift.catalog.patch_stack.PatchStackDataset.load`.
        """
        images, labels = (str(self._folder / file) for file in self.files(name))
        return PatchStackDataset(filepath=images, labels_filepath=labels).load()


class CuratedSetsDataset(_Fetching):
    """The folder of the study's curated sets; saving takes their names."""

    _files = "*_Images.h5"

    def load(self) -> CuratedSets:
        """Return the sets; reads none yet."""
        return CuratedSets(self._folder)

    def save(self, data: Iterable[str]) -> None:
        """Fetch the files of the sets of these names; raise :class:`DownloadError` as that does."""
        self._fetch(file for name in data for file in CuratedSets.files(name))

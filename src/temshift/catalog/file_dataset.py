"""What the datasets of this project have in common: they are kept in a file or a folder."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from kedro.io import AbstractDataset

__all__ = ["FileDataset"]

_Saved = TypeVar("_Saved")
_Loaded = TypeVar("_Loaded")


class FileDataset(AbstractDataset[_Saved, _Loaded]):
    """A dataset in a file or a folder of this machine.

    One that the catalog keeps in an object store works on a copy here, which the catalog fetches
    and sends (:mod:`temshift.catalog.remote`); it need not know.

    Parameters
    ----------
    filepath : str
        The file or folder.
    metadata : dict, optional
        For Kedro plugins; not used here.

    Attributes
    ----------
    adds_to : bool
        Saving leaves what else is in the folder, so that this must be there before.
    stays_here : bool
        It is never sent to an object store: what an unfinished run of this machine goes on from.
    """

    adds_to = False
    stays_here = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        has_own = "__init__" in vars(cls)
        super().__init_subclass__(**kwargs)
        if not has_own:  # Kedro has put one there, which notes no arguments but *args, **kwargs
            del cls.__init__

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

    def content_paths(self) -> list[Path]:
        """Return the files and folders whose content is that of the dataset."""
        return [Path(self._filepath)]

    def places(self) -> list[Path]:
        """Return the files and folders that it reads and writes."""
        return self.content_paths()

    def _exists(self) -> bool:
        return Path(self._filepath).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

"""The catalog of a session: it knows what a misspelt name was meant to be, saves whole files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.io import DataCatalog, DatasetNotFoundError

from temshift.catalog.whole_files import saved_whole
from temshift.config.base import hint
from temshift.config.cluster import ClusterParameters
from temshift.config.errors import UserError

__all__ = ["NoSuchDatasetError", "Origin", "StudyCatalog"]


@dataclass(frozen=True)
class Origin:
    """Where a catalog comes from, from which another process makes the same one.

    Attributes
    ----------
    project : Path
    conf_source : str
    env : str or None
    parameters : dict
        Those of ``--params``.
    cluster : ClusterParameters or None
        Where the environment wants its nodes run; ``None`` if it does not say.
    folds : int
        Threads that a training can use.
    gpu : bool
        Whether networks may be computed on a GPU.
    """

    project: Path
    conf_source: str
    env: str | None
    parameters: dict[str, Any]
    cluster: ClusterParameters | None
    folds: int
    gpu: bool


class NoSuchDatasetError(UserError, DatasetNotFoundError):
    """A name that no dataset has."""


class StudyCatalog(DataCatalog):
    """Kedro's catalog; an unknown name is answered with the nearest ones.

    Whatever a dataset is saved with, a save that breaks off leaves the file that was there.

    Attributes
    ----------
    origin : Origin or None
        ``None`` if it belongs to no project.
    """

    origin: Origin | None = None

    def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """Return a dataset, ``None`` if there is none of this name."""
        return saved_whole(super().get(key, *args, **kwargs))

    def load(self, ds_name: str, version: str | None = None) -> Any:
        """Load a dataset.

        Raises
        ------
        NoSuchDatasetError
            There is no dataset of this name; with the nearest names.
        """
        try:
            return super().load(ds_name, version)
        except DatasetNotFoundError as error:
            if isinstance(error, UserError):
                raise
            names = [n for n in self.keys() if not n.startswith("params:")]
            raise NoSuchDatasetError(
                f"There is no dataset {ds_name!r}",
                f"Found {ds_name!r}; expected {hint(ds_name, names)}",
                "catalog.keys() lists all; a dataset of a split or network is called "
                "'<its name>.patches' and the like",
            ) from error

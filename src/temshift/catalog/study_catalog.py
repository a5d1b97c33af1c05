"""The catalog of a session: it knows what a misspelt name was meant to be, saves whole files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kedro.io import DataCatalog, DatasetError, DatasetNotFoundError

from temshift.catalog.content import own_paths
from temshift.catalog.remote import copies_here, kept_there
from temshift.catalog.whole_files import saved_whole
from temshift.config.base import close_to, hint
from temshift.config.cluster import ClusterParameters
from temshift.config.errors import UserError, shown

__all__ = ["NoSuchDatasetError", "Origin", "StudyCatalog"]

#: Owners of datasets that a catalog names of itself.
_SHOWN = 12


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
    configuration : str
        A digest of parameters and catalog, by which the other process sees that it has read the
        same.
    """

    project: Path
    conf_source: str
    env: str | None
    parameters: dict[str, Any]
    cluster: ClusterParameters | None
    folds: int
    gpu: bool
    configuration: str = ""


class NoSuchDatasetError(UserError, DatasetNotFoundError):
    """A name that no dataset has."""


class StudyCatalog(DataCatalog):
    """Kedro's catalog; an unknown name is answered with the nearest ones.

    Whatever a dataset is saved with, a save that breaks off leaves the file that was there; and
    whatever has an address (``s3://``) is compared, fetched and sent in one way.

    Attributes
    ----------
    origin : Origin or None
        ``None`` if it belongs to no project.
    known : callable or None
        Gives the names of the datasets of all pipelines, which patterns stand for in the catalog.
    makers : callable or None
        Gives what pipelines write: the names of the datasets, each with that of its pipeline.
    """

    origin: Origin | None = None
    known: Callable[[], Iterable[str]] | None = None
    makers: Callable[[], Mapping[str, str]] | None = None

    def __repr__(self) -> str:
        names = self._names()
        owners = sorted({name.rpartition(".")[0] or name for name in names})
        shown = ", ".join(owners[:_SHOWN]) + (" ..." if len(owners) > _SHOWN else "")
        return (
            f"StudyCatalog: {len(names)} datasets ({shown}); catalog.load(name) reads one, "
            "catalog.keys() lists them"
        )

    def __getitem__(self, ds_name: str) -> Any:
        """Return a dataset.

        Raises
        ------
        NoSuchDatasetError
            There is none of this name; with the nearest names.
        """
        try:
            return super().__getitem__(ds_name)
        except DatasetNotFoundError as error:
            raise self._unknown(ds_name) from error

    def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """Return a dataset, ``None`` if there is none of this name."""
        dataset = super().get(key, *args, **kwargs)
        if dataset is not None and key in self._elsewhere:
            if not hasattr(dataset, "remote_options"):
                paths = dataset.places() if hasattr(dataset, "places") else own_paths(dataset)
                kept_there(saved_whole(dataset), self._elsewhere[key], paths)
            return dataset
        return saved_whole(dataset)

    def load(self, ds_name: str, version: str | None = None) -> Any:
        """Load a dataset.

        Raises
        ------
        NoSuchDatasetError
            There is no dataset of this name; with the nearest names.
        UserError
            A file that a pipeline has written is damaged; with that pipeline.
        """
        try:
            return super().load(ds_name, version)
        except DatasetNotFoundError as error:
            if isinstance(error, UserError):
                raise
            raise self._unknown(ds_name) from error
        except DatasetError as error:
            # "{split}.patches" fits any name; a file that no pipeline makes is a misspelt one
            by_pattern = self.config_resolver.match_dataset_pattern(ds_name) is not None
            if by_pattern and self.known is not None and ds_name not in self.known():
                raise self._unknown(ds_name) from error
            maker = (self.makers() if self.makers is not None else {}).get(ds_name)
            cause = _in_the_content(error)
            if maker is None or cause is None:
                raise
            raise self._damaged(ds_name, maker, cause) from error

    @cached_property
    def _elsewhere(self) -> dict[str, dict[str, Any]]:
        """How to reach the datasets that lie in an object store, by their names."""
        return {}

    def _add_from_config(self, ds_name: str, ds_config: dict[str, Any]) -> None:
        """Register a dataset; what has an address is read and written through a copy here."""
        here, options = copies_here(ds_config)
        super()._add_from_config(ds_name, here)
        if options is not None:
            self._elsewhere[ds_name] = options

    def _names(self) -> list[str]:
        """Return the datasets that are registered, and those that pipelines have."""
        names = {*self.keys(), *(self.known() if self.known is not None else ())}
        return sorted(n for n in names if not n.startswith("params:") and n != "parameters")

    def _damaged(self, ds_name: str, pipeline: str, cause: BaseException) -> UserError:
        path = next(iter(own_paths(self[ds_name])), ds_name)
        return UserError(
            f"{path}: what a pipeline has written there cannot be read (cut short?)",
            f"Found {type(cause).__name__}: {shown(str(cause), 160)}; expected the file as written",
            f"Delete it and run the pipeline that makes it: kedro run --pipelines {pipeline} (in "
            "the same environment: --env)",
        )

    def _unknown(self, ds_name: str) -> NoSuchDatasetError:
        names = [name for name in self._names() if name != ds_name]
        close = " or ".join(map(repr, close_to(ds_name, names)))
        expected = f"one of {len(names)} names, the nearest {close}" if close else hint("", names)
        return NoSuchDatasetError(
            f"There is no dataset {ds_name!r}",
            f"Found {ds_name!r}; expected {expected}",
            "catalog.keys() lists all; a dataset of a split or network is called "
            "'<its name>.patches' and the like",
        )


def _in_the_content(error: DatasetError) -> BaseException | None:
    """Return what went wrong with the content of a file, if that is why it cannot be loaded.

    Not so if the system refused (no such file, no right, no memory), a package is missing, or a
    dataset of ours has said in its own words what is wrong: Kedro puts its words before others.
    """
    told = error.__cause__ if isinstance(error.__cause__, DatasetError) else error  # by a catalog
    refused = (UserError, FileNotFoundError, PermissionError, IsADirectoryError, MemoryError)
    if not str(told).startswith("Failed while loading data from dataset"):
        return None
    return None if isinstance(told.__cause__, (*refused, ImportError)) else told.__cause__

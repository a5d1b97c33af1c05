"""The catalog of a session, which knows what a misspelt name was meant to be."""

from __future__ import annotations

from typing import Any

from kedro.io import DataCatalog, DatasetNotFoundError

from temshift.config.base import hint
from temshift.config.errors import UserError

__all__ = ["NoSuchDatasetError", "StudyCatalog"]


class NoSuchDatasetError(UserError, DatasetNotFoundError):
    """A name that no dataset has."""


class StudyCatalog(DataCatalog):
    """Kedro's catalog; an unknown name is answered with the nearest ones."""

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

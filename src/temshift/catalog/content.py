"""Where the content of a dataset lies, so that a change of it can be noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from temshift.catalog.remote import Remote

__all__ = ["content_paths", "own_paths", "reading_options"]


def content_paths(dataset: Any) -> list[Path | Remote]:
    """Return the files and folders in which a dataset is kept; none if it has no file.

    What the catalog keeps in an object store is a :class:`~temshift.catalog.remote.Remote`.
    """
    paths = own_paths(dataset)
    options = getattr(dataset, "remote_options", None)
    return list(paths) if options is None else [Remote.of(path, options) for path in paths]


def own_paths(dataset: Any) -> list[Path]:
    """Return the files and folders of this machine that a dataset reads and writes itself.

    The datasets of this project say it themselves (``content_paths()``). Those of
    ``kedro-datasets`` have no public way to ask; all that are kept in a file name it
    ``_filepath``, a partitioned one ``_path``, and Kedro's ``CachedDataset`` holds another
    (``_dataset``). This is the only place that knows. What such a dataset reads elsewhere by itself
    (``_protocol``: it keeps versions, or was not made by the catalog) has none here.
    """
    if hasattr(dataset, "content_paths"):
        return [Path(path) for path in dataset.content_paths()]
    if (inner := getattr(dataset, "_dataset", None)) is not None and hasattr(inner, "load"):
        return own_paths(inner)
    if getattr(dataset, "_protocol", "file") not in ("file", "", None):
        return []
    for attribute in ("_filepath", "_path"):
        if value := getattr(dataset, attribute, None):
            return [Path(str(value))]
    return []


def reading_options(dataset: Any, key: str) -> Any:
    """Return ``load_args`` or ``save_args`` as the catalog gives them, ``None`` if it does not.

    Kedro keeps the arguments of every dataset (``_init_args``) but has no public way to ask.
    """
    return getattr(dataset, "_init_args", {}).get(key)

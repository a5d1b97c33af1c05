"""Files of kedro-datasets that take the place of the ones before as a whole."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from temshift.catalog.files import atomic_path

__all__ = ["saved_whole"]


def saved_whole(dataset: Any) -> Any:
    """Return a dataset, from now on saved to a temporary file that takes the place of its own.

    The datasets of kedro-datasets (tables, JSON, figures) write to their file directly: what breaks
    off a save would leave half of the new one and nothing of the old. Those of this project
    (``content_paths()``) see to it themselves. A dataset that lies elsewhere than in a file of this
    machine, or keeps versions (which replace nothing), is left as it is.

    Parameters
    ----------
    dataset : AbstractDataset
    """
    if (
        isinstance(dataset, AbstractDataset)
        and not hasattr(dataset, "content_paths")
        and isinstance(getattr(dataset, "_filepath", None), PurePosixPath)
        and getattr(dataset, "_protocol", "file") in ("file", "", None)
        and getattr(dataset, "_version", None) is None
    ):
        dataset.save = partial(_save, dataset)  # type: ignore[method-assign]
    return dataset


def _save(dataset: Any, data: Any) -> None:
    path = Path(dataset._filepath)
    if path.is_dir():
        type(dataset).save(dataset, data)  # which says what it thinks of that
        return
    with atomic_path(path) as temporary:
        other = copy.copy(dataset)
        other._filepath = PurePosixPath(temporary)
        try:
            type(dataset).save(other, data)
        except DatasetError as error:  # of the file that the catalog names
            raise DatasetError(str(error).replace(str(temporary), str(path))) from error

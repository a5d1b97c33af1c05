"""Trials of a sweep on disk: a folder each, and Optuna's memory of them in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import DatasetError, MemoryDataset
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import CSVDataset

from temshift.catalog.file_dataset import FileDataset
from temshift.catalog.networks import CheckpointsDataset, NetworksDataset
from temshift.catalog.patch_stack import PatchStackDataset
from temshift.catalog.provenance import ProvenanceDataset
from temshift.catalog.study_catalog import StudyCatalog
from temshift.config.errors import UserError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler

__all__ = ["SweepDataset", "SweepStore"]


class SweepStore:
    """The folder of a sweep.

    ``trials.sqlite`` is Optuna's; ``<sweep>/<trial>`` holds the manifest, networks, history and
    scores of a trial; ``patches`` what trials of the same preprocessing share.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def study(self, name: str, sampler: BaseSampler | None = None) -> Study:
        """Return Optuna's study of this name, with what is known of its trials.

        Raises
        ------
        UserError
            Optuna is not installed; the file of the trials is damaged.
        """
        optuna = import_optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "trials.sqlite"
        _check_trials(file)
        study: Study = optuna.create_study(
            storage=f"sqlite:///{file.resolve()}",
            study_name=name,
            sampler=sampler,
            direction="maximize",
            load_if_exists=True,
        )
        return study

    def catalog(
        self, sweep: str, trial: str, preprocessing: str, splits: Sequence[str], data: Mapping
    ) -> StudyCatalog:
        """Return the catalog of the run of one trial.

        Parameters
        ----------
        sweep, trial : str
            Their folder.
        preprocessing : str
            Names the patches.
        splits : sequence of str
        data : mapping
            What is passed in memory, by the names of the datasets.
        """
        folder = self.folder / sweep / trial
        patches = self.folder / "patches" / preprocessing
        table = {"index": False}
        return StudyCatalog(
            {
                "provenance": ProvenanceDataset(str(self.folder / ".provenance")),
                "manifest": JSONDataset(
                    filepath=str(folder / "manifest.json"),
                    save_args={"indent": 1, "sort_keys": True},
                ),
                "networks": NetworksDataset(str(folder / "networks")),
                "checkpoints": CheckpointsDataset(str(folder / ".checkpoints")),
                "history": CSVDataset(filepath=str(folder / "history.csv"), save_args=table),
                "scores": CSVDataset(filepath=str(folder / "scores.csv"), save_args=table),
                **{
                    f"{split}.patches": PatchStackDataset(str(patches / split / "patches.h5"))
                    for split in splits
                },
                **{name: MemoryDataset(value, copy_mode="assign") for name, value in data.items()},
            }
        )

    def clear(self) -> None:
        """Remove nothing: finished trials are what a longer sweep goes on from."""


def _check_trials(file: Path) -> None:
    """Refuse a damaged file of trials; one that another process holds is none."""
    if not file.exists():
        return
    try:
        with closing(sqlite3.connect(file)) as database:
            found = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:
        return
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise UserError(
            f"{file}: the record of the trials is damaged",
            f"Found: {found}; expected a database of SQLite",
            "Delete it and repeat the command: finished trials are kept, in folders of their own",
        )


def import_optuna() -> Any:
    """Return the module, or say how to get it."""
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "A sweep needs the package optuna",
            "Found that it is not installed; expected optuna, which keeps and draws the trials",
            'Install it: pip install -e ".[sweep]"',
        ) from error
    return optuna


class SweepDataset(FileDataset[None, SweepStore]):
    """Hands a sweep its folder; what is up to date does not depend on it (``volatile``).

    Parameters
    ----------
    filepath : str
        The folder.
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    volatile = True
    stays_here = True

    def load(self) -> SweepStore:
        """Return the store; reads nothing."""
        return SweepStore(Path(self._filepath))

    def save(self, data: None) -> None:
        """Refuse: trials are saved while they run, through the loaded store."""
        raise DatasetError("trials are saved through the store that load() returns")

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir()

"""Trained networks on disk: safetensors for the weights, a JSON card for the rest.

Loading a network never unpickles anything.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from kedro.io import DatasetError

from temshift.catalog.file_dataset import FileDataset
from temshift.catalog.files import atomic_folder, atomic_path
from temshift.learning.cards import CardError, NetworkCard, read_card
from temshift.learning.network_set import NetworkSet, TrainedNetwork

__all__ = ["CheckpointStore", "CheckpointsDataset", "NetworksDataset"]

_log = logging.getLogger(__name__)


class NetworksDataset(FileDataset[NetworkSet, NetworkSet]):
    """A folder of networks: ``<key>/model.safetensors`` and ``<key>/card.json``.

    Parameters
    ----------
    filepath : str
        The folder.
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    def load(self) -> NetworkSet:
        """Read all networks of the folder.

        Raises
        ------
        DatasetError
            A network without its card, or a file of it that is damaged; a card of another shape,
            with its file, the keys, what was found there and what was expected.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        networks = {}
        for folder in sorted(p.parent for p in Path(self._filepath).glob("*/model.safetensors")):
            try:
                networks[folder.name] = TrainedNetwork(
                    state=load_file(folder / "model.safetensors"),
                    card=_read_card(folder / "card.json"),
                )
            except (OSError, ValueError, SafetensorError) as error:
                raise DatasetError(
                    f"{folder}: the network cannot be read (cut short? {error}). Delete this "
                    "folder and train or import the network again: kedro run, or its pipeline"
                ) from error
        if not networks:
            raise DatasetError(
                f"{self._filepath}: no network in this folder (*/model.safetensors). Run "
                "modelling first or, for networks of the published study, the pipeline "
                "import_published, both in the same environment (--env). To segment new "
                "micrographs without it: deployment.networks=box"
            )
        return networks

    def save(self, data: NetworkSet) -> None:
        """Write all networks; an earlier set is replaced only when all are written."""
        from safetensors.torch import save_file

        with atomic_folder(Path(self._filepath)) as folder:
            for key, network in data.items():
                (folder / key).mkdir()
                save_file(network.state, folder / key / "model.safetensors")
                text = json.dumps(network.card.to_json(), indent=1, sort_keys=True)
                (folder / key / "card.json").write_text(text + "\n")

    def _exists(self) -> bool:
        return any(Path(self._filepath).glob("*/model.safetensors"))


def _read_card(path: Path) -> NetworkCard:
    try:
        return read_card(json.loads(path.read_text(encoding="utf-8")))
    except CardError as error:
        raise DatasetError(
            f"{path}: not the card of a network of this version of temshift: {error}. Train or "
            "import the network again"
        ) from error


class CheckpointStore:
    """Unfinished folds of one network, a file each; written atomically.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        n = len(list(self._folder.glob("*.pt")))
        return f"CheckpointStore('{self._folder}'): {n} unfinished folds"

    def load(self, key: str, identity: str) -> dict[str, Any] | None:
        """Return the state of a fold, or ``None`` if there is none of the same ``identity``.

        One that is damaged is told and is none: it only saves the time of training again.
        """
        import torch

        path = self._folder / f"{key}.pt"
        if not path.exists():
            return None
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            state: dict[str, Any] = found["state"]
            return state if found["identity"] == identity else None
        except (OSError, MemoryError):
            raise
        except Exception as error:  # whatever damage makes of the bytes
            _log.warning(
                "%s: the checkpoint cannot be read (damaged?), so this fold is trained from its "
                "beginning; the next checkpoint replaces it",
                path,
            )
            _log.debug("The checkpoint", exc_info=error)
            return None

    def save(self, key: str, identity: str, state: dict[str, Any]) -> None:
        """Replace the state of a fold."""
        import torch

        with atomic_path(self._folder / f"{key}.pt") as temporary:
            torch.save({"identity": identity, "state": state}, temporary)

    def keep_of(self, code: str) -> None:
        """Remove all states that other code has made than that of this digest."""
        note = self._folder / "made_by.txt"
        if note.exists() and note.read_text() == code:
            return
        self.clear()
        with atomic_path(note) as temporary:
            temporary.write_text(code)

    def clear(self) -> None:
        """Remove all states (the training is finished and its networks are saved)."""
        for path in (*self._folder.glob("*.pt"), self._folder / "made_by.txt"):
            path.unlink(missing_ok=True)


class CheckpointsDataset(FileDataset[None, CheckpointStore]):
    """Hands a training node the place of its checkpoints.

    A training loads what it finds there and overwrites it as it goes, so this is an input that a
    run changes; what is up to date does not depend on it (``volatile``).

    Parameters
    ----------
    filepath : str
        Folder of the checkpoints of one network.
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    volatile = True
    stays_here = True

    def load(self) -> CheckpointStore:
        """Return the store; reads nothing."""
        return CheckpointStore(Path(self._filepath))

    def save(self, data: None) -> None:
        """Refuse: checkpoints are written while training, through the loaded store."""
        raise DatasetError("checkpoints are saved through the store that load() returns")

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir()

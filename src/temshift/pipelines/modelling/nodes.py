"""Nodes of the modelling pipeline."""

from __future__ import annotations

from typing import Any

from temshift.binding import by_owner
from temshift.config.modelling import ModellingParameters, NetworkParameters
from temshift.types import CheckpointStore, DataFrame, NetworkSet


def train_network(
    name: str,
    modelling: ModellingParameters,
    checkpoints: CheckpointStore,
    network: NetworkParameters | None = None,
    initial: NetworkSet | None = None,
    **datasets: Any,
) -> tuple[NetworkSet, DataFrame]:
    """Train all folds of one network on its splits.

    Parameters
    ----------
    name : str
        Name of the network.
    modelling : ModellingParameters
        Defaults of every network.
    checkpoints : CheckpointStore
        Where a killed training is continued from.
    network : NetworkParameters, optional
        What this network has of its own.
    initial : NetworkSet, optional
        Networks from whose weights it starts.
    **datasets : PatchStack or dict
        ``patches`` and ``fingerprint`` of each of its splits, named like the dataset.

    Returns
    -------
    networks : NetworkSet
    history : DataFrame
        ``network, protocol, fold, restart, step, epoch, train_loss, validation_loss,
        validation_dice``.
    """
    from temshift.learning.modelling import train_network_set

    stacks, fingerprints = (
        by_owner({key: value for key, value in datasets.items() if key.endswith(kind)})
        for kind in (".patches", ".fingerprint")
    )
    return train_network_set(
        name,
        stacks,
        modelling.with_overrides(network),
        checkpoints,
        fingerprints,
        initial,
        network.freeze if network else "none",
    )

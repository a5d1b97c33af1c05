"""Nodes of the modelling pipeline."""

from __future__ import annotations

from temshift.config.modelling import ModellingParameters, NetworkParameters
from temshift.types import CheckpointStore, DataFrame, NetworkSet, PatchStack


def train_network(
    name: str,
    modelling: ModellingParameters,
    checkpoints: CheckpointStore,
    network: NetworkParameters | None = None,
    **stacks: PatchStack,
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
    **stacks : PatchStack
        Its splits, by name.

    Returns
    -------
    networks : NetworkSet
    history : DataFrame
        ``network, protocol, fold, step, epoch, train_loss, validation_loss, validation_dice``.
    """
    from temshift.learning.modelling import train_network_set

    return train_network_set(name, stacks, modelling.with_overrides(network), checkpoints)

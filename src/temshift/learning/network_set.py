"""Trained networks as plain data: what training returns and evaluation takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["NetworkSet", "TrainedNetwork", "network_key"]


def network_key(protocol: str, fold: int) -> str:
    """Return the key of one fold in a network set, e.g. ``grouped_fold0``."""
    return f"{protocol}_fold{fold}"


@dataclass(frozen=True)
class TrainedNetwork:
    """Weights of one fold and the card that describes them.

    Attributes
    ----------
    state : dict of str to Tensor
        The state dict, on the CPU.
    card : dict
        JSON-serialisable description: ``architecture`` (arguments of
        :func:`temshift.learning.networks.build_network`), ``network``, ``protocol``, ``fold``,
        ``seed``, ``train_on``, ``pixel_size_nm``, ``dose_e_per_A2``, ``training``,
        ``augmentation``, ``history``, ``version`` ...
    """

    state: dict[str, Tensor]
    card: dict[str, Any]

    def build(self) -> nn.Module:
        """Return the network with its weights, in evaluation mode on the CPU."""
        from temshift.learning.networks import build_network

        network = build_network(**self.card["architecture"])
        network.load_state_dict(self.state)
        return network.eval()


NetworkSet = dict[str, TrainedNetwork]

"""Trained networks as plain data: what training returns and evaluation takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from temshift.learning.cards import NetworkCard

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
    card : NetworkCard
        Where they come from and what images they are for.
    """

    state: dict[str, Tensor]
    card: NetworkCard

    def __repr__(self) -> str:
        card = self.card
        values = sum(tensor.numel() for tensor in self.state.values())
        architecture = " ".join(filter(None, (card.architecture.name, card.architecture.encoder)))
        return (
            f"TrainedNetwork: {architecture}, {values / 1e6:.2g} million values, "
            f"{card.protocol} fold {card.fold} of {card.folds}, trained on "
            f"{', '.join(card.train_on)}; .card, .build()"
        )

    def build(self) -> nn.Module:
        """Return the network with its weights, in evaluation mode on the CPU."""
        from temshift.learning.devices import own_random_state
        from temshift.learning.networks import build_network

        # the weights of the encoder are among these: none is downloaded
        settings = self.card.architecture.model_dump() | {"encoder_weights": None}
        with own_random_state():  # initial weights, which are then replaced
            network = build_network(**settings)
        network.load_state_dict(self.state)
        return network.eval()


NetworkSet = dict[str, TrainedNetwork]

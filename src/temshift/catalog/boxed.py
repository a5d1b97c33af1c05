"""The network that comes with the package, and what is known of its trust.

Weights, cards and evidence are data of the package, made by ``make box``.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files

import pandas as pd

from temshift.catalog.networks import NetworksDataset
from temshift.config.trust import TrustParameters
from temshift.learning.box import BOX
from temshift.learning.network_set import NetworkSet
from temshift.learning.trust import TrustModel

__all__ = ["BOX_NOTE", "boxed_networks", "boxed_trust"]

#: What is said of every micrograph that it segments.
BOX_NOTE = (
    "Segmented with the network that comes with the package. It has seen simulated specimens only, "
    "and so has what is said of its trust."
)


def boxed_networks() -> dict[str, NetworkSet]:
    """Return the network that comes with the package, by its name."""
    with as_file(files("temshift") / "data" / "box" / "networks") as folder:
        return {BOX: NetworksDataset(str(folder)).load()}


def boxed_trust(parameters: TrustParameters | None = None) -> TrustModel:
    """Return its trust model, fitted to the evidence on simulated fields that it has not seen."""
    with as_file(files("temshift") / "data" / "box" / "trust") as folder:
        evidence = pd.read_parquet(folder / "evidence.parquet")
        agreement = pd.read_parquet(folder / "agreement.parquet")
    known = {str(name): [BOX] for name in evidence["network"].unique()}
    model = TrustModel.fit(evidence, agreement, known, parameters or TrustParameters())
    return replace(model, jury="the other folds of the network")

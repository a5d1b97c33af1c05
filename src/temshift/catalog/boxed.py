"""The network that comes with the package, and what is known of its trust.

Weights, cards and evidence are data of the package, made by ``make box``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import as_file, files
from typing import Any

import pandas as pd

from temshift.catalog.networks import NetworksDataset
from temshift.config.trust import TrustParameters
from temshift.learning.box import BOX
from temshift.learning.network_set import NetworkSet
from temshift.learning.trust import TrustModel

__all__ = ["BOX_NOTE", "LENT_NOTE", "boxed_networks", "boxed_trust", "lent_trust"]

#: What is said of every micrograph that it segments.
BOX_NOTE = (
    "Segmented with the network that comes with the package. It has seen simulated specimens only, "
    "and so has what is said of its trust."
)

#: What is said of every micrograph whose masks it judges for others.
LENT_NOTE = (
    "The networks were imported without a study. Their jury are the folds of the network that "
    "comes with the package, on which trust was learned too, on simulated specimens only."
)


def boxed_networks() -> dict[str, NetworkSet]:
    """Return the network that comes with the package, by its name."""
    with as_file(files("temshift") / "data" / "box" / "networks") as folder:
        return {BOX: NetworksDataset(str(folder)).load()}


def boxed_trust(parameters: TrustParameters | None = None) -> TrustModel:
    """Return its trust model, fitted to the evidence on simulated fields that it has not seen.

    Fitted once a process for the same parameters: a script calls :func:`temshift.segment` often.
    """
    return _fitted((parameters or TrustParameters()).model_dump_json())


@cache
def _fitted(parameters: str) -> TrustModel:
    with as_file(files("temshift") / "data" / "box" / "trust") as folder:
        evidence = pd.read_parquet(folder / "evidence.parquet")
        agreement = pd.read_parquet(folder / "agreement.parquet")
    known = {str(name): [BOX] for name in evidence["network"].unique()}
    model = TrustModel.fit(
        evidence, agreement, known, TrustParameters.model_validate_json(parameters)
    )
    return replace(model, jury="the other folds of the network")


def lent_trust(
    networks: Mapping[str, NetworkSet], parameters: TrustParameters | None = None
) -> dict[str, Any]:
    """Return what judges networks that were imported and have no study to learn trust from.

    That the calibration of the network in the box holds for others is measured by
    ``benchmarks/imported.py``.

    Parameters
    ----------
    networks : mapping of str to NetworkSet
    parameters : TrustParameters, optional

    Returns
    -------
    dict
        ``trust, jurors, notes`` of a :class:`temshift.learning.segmentation.Segmenter`; empty if a
        network was not imported, or tuned since: nothing is known of how the calibration holds for
        it.
    """
    cards = [trained.card for own in networks.values() for trained in own.values()]
    if not cards or not all(card.imported and not card.fine_tuned for card in cards):
        return {}
    folds = boxed_networks()[BOX]
    return {
        "trust": replace(
            boxed_trust(parameters),
            jury="the folds of the network in the box and the other networks",
        ),
        "jurors": {f"{BOX} {key}": trained for key, trained in folds.items()},
        "notes": [LENT_NOTE],
    }

"""Networks trained further on a few labelled micrographs of the split that they are to meet."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.errors import UserError
from temshift.config.fine_tuning import FineTuning
from temshift.config.modelling import TargetTuning
from temshift.learning.devices import single_threaded_operations
from temshift.learning.fine_tuning import fine_tune_network
from temshift.learning.network_set import NetworkSet, TrainedNetwork
from temshift.microscopy.patches import PatchLayout, PatchStack, micrograph_layouts
from temshift.parallel import available_cores, map_ordered

__all__ = ["labelled_micrographs", "tune_to_target"]


def labelled_micrographs(
    table: pd.DataFrame, fold: int, micrographs: int, seed: int, key: str = "fine_tuning"
) -> NDArray[np.str_]:
    """Choose the micrographs that a fold may see the labels of.

    Parameters
    ----------
    table : DataFrame
        Patch table of the split (``micrograph_id, group, fold, labelled_px``).
    fold : int
        The fold that is tested: none of its groups is chosen from.
    micrographs : int
        How many; of different groups, as long as there are enough. Those chosen for fewer are
        always among those chosen for more.
    seed : int
        Of the order.
    key : str
        Where these settings stand, for messages.

    Returns
    -------
    ndarray of str, shape (micrographs,)

    Raises
    ------
    UserError
        There are not as many with a labelled pixel.
    """
    known = table.assign(labelled_px=table["labelled_px"].astype(float))
    known = known.groupby("micrograph_id", sort=False).agg(
        {"group": "first", "fold": "first", "labelled_px": "sum"}
    )
    known = known[(known["fold"] != fold) & (known["labelled_px"] > 0)]
    if len(known) < micrographs:
        raise UserError(
            f"{key}.micrographs: there are not as many labelled micrographs",
            f"Found {micrographs}; expected at most {len(known)}, as there are {len(known)} "
            f"micrographs with a labelled particle outside of fold {fold}",
            f"Set {key}.micrographs to {len(known)} or less"
            if len(known)
            else f"Label some, or leave {key} out",
        )
    digests = [hashlib.sha256(f"{seed}:{name}".encode()).hexdigest() for name in known.index]
    known = known.assign(digest=digests).sort_values("digest")
    # the first of every group, then the second ones
    known = known.assign(turn=known.groupby("group").cumcount())
    chosen = known.sort_values(["turn", "digest"]).index[:micrographs]
    return np.asarray(chosen, dtype=str)


def tune_to_target(
    name: str,
    networks: NetworkSet,
    stack: PatchStack,
    tuning: TargetTuning,
    device: str,
) -> NetworkSet:
    """Train every fold of a network further on a few labelled micrographs of a split.

    Folds of the protocol ``published`` are left out: there nothing keeps these micrographs out of
    the test.

    Parameters
    ----------
    name : str
        Of the tuned network, for the progress bar and messages.
    networks : NetworkSet
    stack : PatchStack
        Of the split.
    tuning : TargetTuning
    device : str

    Raises
    ------
    UserError
        No fold of the protocol ``grouped``; too few labelled micrographs.
    """
    grouped = {k: trained for k, trained in networks.items() if trained.card.protocol == "grouped"}
    if not grouped:
        raise UserError(
            f"networks.{name}.fine_tuning needs networks of the protocol 'grouped'",
            "Found none; expected folds that keep its micrographs out of the test",
            "Add 'grouped' to modelling.protocols, or leave this network out",
        )
    layouts = micrograph_layouts(stack.table, stack.images.shape[1])
    parameters = FineTuning(
        steps=tuning.steps, learning_rate=tuning.learning_rate, seed=tuning.seed
    )

    def tune(trained: TrainedNetwork) -> TrainedNetwork:
        chosen = labelled_micrographs(
            stack.table,
            trained.card.fold,
            tuning.micrographs,
            tuning.seed,
            f"networks.{name}.fine_tuning",
        )
        rows = np.flatnonzero(stack.table["micrograph_id"].isin(chosen).to_numpy())
        first = {int(old): new for new, old in enumerate(rows)}
        kept = [
            PatchLayout(first[layout.first], layout.height_px, layout.width_px, layout.columns)
            for layout in layouts.values()
            if layout.first in first
        ]
        images, labels = stack.images[rows], stack.labels[rows]
        return fine_tune_network(trained, images, labels, parameters, kept, device)

    workers = min(available_cores(), len(grouped)) if device == "cpu" else 1
    with single_threaded_operations(device):
        done = list(map_ordered(tune, list(grouped.values()), workers, f"fine-tuning {name}"))
    return dict(zip(grouped, done, strict=True))

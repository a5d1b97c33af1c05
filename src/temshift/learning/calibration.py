"""Evidence of a finished study: what trust is learned from.

The honest protocol needs no fresh images. In the protocol ``grouped`` a micrograph of fold f has
been seen by fold f of *no* network, whatever split that was trained on. So its mask by fold f of
one network is judged by fold f of all the others, as a new micrograph would be; folds of one
network are no evidence, for the other ones have seen it. Where only some folds are trained
(``modelling.folds``), the micrographs of the others were seen by every network: they are left out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from torch import nn

from temshift.learning.devices import choose_device, single_threaded_operations
from temshift.learning.evidence import gather_evidence
from temshift.learning.inference import optimise_for_inference, predict_micrograph
from temshift.learning.metrics import dice
from temshift.learning.network_set import NetworkSet, TrainedNetwork, network_key
from temshift.learning.segmentation import PreparedMicrograph
from temshift.microscopy.micrograph import Store
from temshift.parallel import available_cores, map_ordered

__all__ = ["gather_study", "trained_on"]

_log = logging.getLogger(__name__)

#: Fewer image sets or networks: nothing can be left out.
_FEWEST = 3


def trained_on(networks: Mapping[str, NetworkSet]) -> dict[str, list[str]]:
    """Return the splits that each network was trained on."""
    return {
        name: list(next(iter(folds.values())).card.train_on)
        for name, folds in networks.items()
        if folds
    }


def gather_study(
    networks: Mapping[str, NetworkSet],
    micrographs: Mapping[str, pd.DataFrame],
    store: Store,
    label_kind: Literal["binary", "instance"] = "binary",
    device: str = "auto",
    most: int | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Gather the evidence on labelled micrographs of a study, and the true Dice.

    Parameters
    ----------
    networks : mapping of str to NetworkSet
        By name; only folds of the protocol ``grouped`` count.
    micrographs : mapping of str to DataFrame
        By split: its rows of the micrograph table.
    store : Store
    label_kind : {"binary", "instance"}
    device : str
    most : int, optional
        Micrographs of each fold of a split, the first ones of its table; by default all.

    Returns
    -------
    evidence : DataFrame
        ``micrograph_id, test_split, fold, network, dice`` and the evidence of
        :func:`temshift.learning.evidence.gather_evidence`; a row a network and micrograph.
    agreement : DataFrame
        ``micrograph_id, test_split, fold, network, juror, dice``.

    Raises
    ------
    ValueError
        Fewer than three image sets with micrographs of a fold that was trained, or fewer than three
        networks with grouped folds whose cards say how images are prepared for them; or a label
        of another shape than its image.
    """
    device = choose_device(device)
    folds = {name: _grouped(own) for name, own in networks.items()}
    unknown = [name for name, own in folds.items() if not _known(own)]
    usable = {name: own for name, own in folds.items() if _known(own)}
    if unknown:
        _log.warning(
            "trust is learned without %s: no folds of the protocol 'grouped', or a card that does "
            "not say how its images were prepared",
            ", ".join(unknown),
        )
    unseen = {fold for own in usable.values() for fold in own}
    rows: list[dict[str, Any]] = [
        {str(k): v for k, v in row.items()} | {"test_split": split}
        for split, table in micrographs.items()
        for row in (table if most is None else table.groupby("fold").head(most)).to_dict("records")
        if int(row["fold"]) in unseen
    ]
    sets = {row["test_split"] for row in rows}
    if len(usable) < _FEWEST or len(sets) < _FEWEST:
        raise ValueError(
            f"trust is learned by leaving image sets out in turn: it needs at least {_FEWEST} "
            f"labelled image sets and {_FEWEST} networks of the protocol 'grouped', found "
            f"{len(sets)} and {len(usable)}. Add splits and studies, or segment without "
            "judgement (deployment.judge: false)"
        )
    built: dict[tuple[str, int], tuple[nn.Module, nn.Module]] = {}
    for name, own in usable.items():
        for fold, trained in own.items():
            network = trained.build().to(device)
            built[name, fold] = network, optimise_for_inference(network)

    def gather(row: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
        fold = int(row["fold"])
        able = {name: own[fold] for name, own in usable.items() if fold in own}
        return _gather_one(row, able, built, store, label_kind, device)

    workers = min(4, available_cores()) if device == "cpu" else 1
    with single_threaded_operations(device):
        found = list(map_ordered(gather, rows, workers, "evidence on micrographs"))
    evidence, agreement = zip(*found, strict=True)
    return pd.concat(evidence, ignore_index=True), pd.concat(agreement, ignore_index=True)


def _grouped(networks: NetworkSet) -> dict[int, TrainedNetwork]:
    found = {}
    for trained in networks.values():
        if trained.card.protocol == "grouped":
            found[trained.card.fold] = networks[network_key("grouped", trained.card.fold)]
    return found


def _known(folds: Mapping[int, TrainedNetwork]) -> bool:
    return bool(folds) and all(trained.card.preprocessing for trained in folds.values())


def _gather_one(
    row: dict[str, Any],
    networks: Mapping[str, TrainedNetwork],
    built: Mapping[tuple[str, int], tuple[nn.Module, nn.Module]],
    store: Store,
    label_kind: Literal["binary", "instance"],
    device: str,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    micrograph = store.read(row["path"])
    given = float(row.get("pixel_size_nm") or "nan")
    pixel_size_nm = given if np.isfinite(given) else micrograph.pixel_size_nm
    label = store.read_label(row["label_path"], label_kind) == 1
    if label.shape != micrograph.image.shape:
        raise ValueError(
            f"{row['micrograph_id']}: the label has {label.shape[0]} × {label.shape[1]} px, the "
            f"image {micrograph.image.shape[0]} × {micrograph.image.shape[1]}"
        )
    prepared = PreparedMicrograph(micrograph.image, pixel_size_nm)
    fold = int(row["fold"])
    able = {name: own for name, own in networks.items() if prepared.fits(own.card)}
    images = {name: prepared.of(own.card) for name, own in able.items()}
    predicted = {
        name: predict_micrograph([built[name, fold][1]], images[name], device) for name in able
    }
    masks = {name: prepared.back(part) > 0.5 for name, part in predicted.items()}
    evidence, agreement = gather_evidence(
        predicted, images, {name: built[name, fold][0] for name in able}, masks, device
    )
    evidence["dice"] = [
        float(
            dice(
                int((masks[name] & label).sum()),
                int((masks[name] & ~label).sum()),
                int((~masks[name] & label).sum()),
            )
        )
        for name in evidence["network"]
    ]
    for table in (evidence, agreement):
        table.insert(0, "fold", fold)
        table.insert(0, "test_split", row["test_split"])
        table.insert(0, "micrograph_id", str(row["micrograph_id"]))
    return evidence, agreement

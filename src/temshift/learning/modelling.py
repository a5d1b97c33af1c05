"""From patch stacks to a set of trained networks: folds, seeds, cards."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

import temshift
from temshift.config.modelling import ModellingParameters, Training
from temshift.learning.cards import agreed, read_card
from temshift.learning.devices import choose_device, choose_precision
from temshift.learning.network_set import NetworkSet, TrainedNetwork, network_key
from temshift.learning.training import Checkpoints, TrainingData, train_folds
from temshift.microscopy.patches import PatchLayout, PatchStack, micrograph_layouts, on_grid
from temshift.study.folds import (
    FoldIndices,
    fewer_groups,
    grouped_folds,
    published_folds,
)

__all__ = ["fold_seeds", "make_folds", "train_network_set"]

_log = logging.getLogger(__name__)

#: What a card says of the training images, if the training splits agree in it.
_IMAGES = ("preprocessing", "pixel_size_nm", "dose_e_per_A2", "material", "diameter_nm")


def make_folds(
    table: pd.DataFrame,
    patch_px: int,
    protocol: str,
    folds: int,
    background_threshold: int,
    hold_out: bool = True,
    groups: int | None = None,
    seed: int = 0,
    splits: Sequence[int] | None = None,
) -> list[FoldIndices]:
    """Return the patches of each fold.

    Parameters
    ----------
    table : DataFrame
        Patch table of the training splits, one behind the other.
    patch_px : int
        Side of a patch.
    protocol : {"grouped", "published"}
    folds : int
    background_threshold : int
        ``published``: patches with at most this many labelled px are left out. ``grouped``: a
        fold whose training patches all have at most this many has nothing to train on.
    hold_out : bool
        Whether something is held out for validation; if not, it is trained on.
    groups, seed : int
        Train on so many groups only (:func:`temshift.study.folds.fewer_groups`).
    splits : sequence of int, optional
        Patches of each training split, if there are several: ``published`` cuts the list of each by
        itself, as that of a test split is cut.

    Returns
    -------
    list of FoldIndices
        Positions in ``table``.
    """
    filled = table["labelled_px"].to_numpy() > background_threshold
    if protocol == "published":
        kept = np.flatnonzero(filled & on_grid(table, patch_px))
        ends = np.cumsum(splits if splits is not None else [len(table)])
        parts = np.split(kept, np.searchsorted(kept, ends[:-1]))
        cut = [
            [part[p] for p in fold] for part in parts for fold in published_folds(len(part), folds)
        ]
        made = [
            FoldIndices(*map(np.concatenate, zip(*cut[fold::folds], strict=True)))
            for fold in range(folds)
        ]
    else:
        made = grouped_folds(table["fold"].to_numpy(), table["group"].to_numpy(), folds)
    if not hold_out:
        made = [
            FoldIndices(np.union1d(f.train, f.validation), f.validation[:0], f.test) for f in made
        ]
    if groups is not None:
        made = fewer_groups(made, table["fold"], table["group"], groups, seed)
    # crops of a micrograph without particles teach something, but not alone
    return [f if filled[f.train].any() else f._replace(train=f.train[:0]) for f in made]


def train_network_set(
    name: str,
    stacks: Mapping[str, PatchStack],
    parameters: ModellingParameters,
    checkpoints: Checkpoints | None = None,
    fingerprints: Mapping[str, dict[str, Any]] | None = None,
    initial: NetworkSet | None = None,
    freeze: str = "none",
) -> tuple[NetworkSet, pd.DataFrame]:
    """Train every fold of every protocol of one network.

    Parameters
    ----------
    name : str
        Name of the network.
    stacks : mapping of str to PatchStack
        The splits it is trained on.
    parameters : ModellingParameters
        Merged with the network's own settings.
    checkpoints : Checkpoints, optional
    fingerprints : mapping of str to dict, optional
        Of each split, for the cards; no weight depends on them.
    initial : NetworkSet, optional
        Networks from whose weights it starts, fold by fold: of the same folds, so that no fold
        has seen what it is tested on.
    freeze : {"none", "encoder", "decoder"}
        What of these weights stays as it is.

    Returns
    -------
    networks : NetworkSet
    history : DataFrame
        ``network, protocol, fold, restart, step, epoch, train_loss, validation_loss,
        validation_dice``.

    Raises
    ------
    ValueError
        A fold without patches; splits with different patch sizes; initial networks of other folds.
    """
    device = choose_device(parameters.device)
    table = pd.concat([s.table for s in stacks.values()], ignore_index=True)
    patch_px = next(iter(stacks.values())).images.shape[1]
    training = parameters.training
    drawn: TrainingData | None = None
    folds: dict[str, FoldIndices] = {}
    data, seeds, places = {}, {}, {}
    for protocol in parameters.protocols:
        made = make_folds(
            table,
            patch_px,
            protocol,
            parameters.folds,
            training.background_threshold,
            training.hold_out,
            training.groups,
            training.seed,
            [len(s.table) for s in stacks.values()],
        )
        layouts = _layouts(stacks.values()) if protocol == "grouped" else None
        if drawn is None:
            images, labels = (
                [getattr(s, x) for s in stacks.values()] for x in ("images", "labels")
            )
            drawn = TrainingData.from_arrays(images, labels, device, layouts, list(stacks), name)
        else:
            drawn = drawn.with_areas(layouts)
        for fold, indices in enumerate(made):
            key = network_key(protocol, fold)
            folds[key], data[key], places[key] = indices, drawn, (protocol, fold)
            seeds[key] = fold_seeds(name, protocol, fold, training)
    description = {
        "network": name,
        "train_on": list(stacks),
        "architecture": parameters.architecture.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "augmentation": parameters.augmentation.model_dump(mode="json"),
        "precision": choose_precision(parameters.precision, device),
        "folds": parameters.folds,
        "splits": {split: _plain(s.attributes) for split, s in stacks.items()},
        **{key: agreed((_plain(s.attributes) for s in stacks.values()), key) for key in _IMAGES},
        "version": temshift.__version__,
    }
    starts = _starts(name, folds, places, table, initial) if initial is not None else {}
    if initial is not None:
        first = next(iter(initial.values())).card
        description |= {"initial": first.network, "freeze": freeze}
        description["splits"] = {**first.splits, **description["splits"]}
    results = train_folds(
        data,
        folds,
        parameters,
        seeds,
        device,
        title=f"training {name}",
        checkpoints=checkpoints,
        identity=_hash([description, seeds, device, _data_hash(stacks), _state_hash(starts)]),
        starts=starts,
        freeze=freeze,
    )
    networks, histories, groups = {}, [], table["group"]
    for key, result in results.items():
        protocol, fold = places[key]
        if not result.learned:
            _log.warning(
                "%s, fold %d of the protocol %s: has not learned in %d attempts (Dice %.2f on its "
                "own training patches, training.learned_above is %g); it is flagged in the report. "
                "Train longer, or look at its micrographs and labels",
                name,
                fold,
                protocol,
                result.restarts + 1,
                result.train_dice,
                training.learned_above,
            )
        rows = [
            {"network": name, "protocol": protocol, "fold": fold, **row} for row in result.history
        ]
        histories += rows
        networks[key] = TrainedNetwork(
            state=result.state,
            card=read_card(
                {
                    **description,
                    "protocol": protocol,
                    "fold": fold,
                    "seed": result.seed,
                    "restarts": result.restarts,
                    "learned": result.learned,
                    "train_dice": result.train_dice,
                    "kept_step": result.kept_step,
                    "history": result.history,
                    "fold_hash": _hash([part.tolist() for part in folds[key]]),
                    "train_groups": sorted(
                        {str(g) for g in groups[folds[key].train]}
                        | (set(initial[key].card.train_groups) if initial is not None else set())
                    ),
                    "test_groups": sorted({str(g) for g in groups[folds[key].test]}),
                    "fingerprints": dict(fingerprints or {}),
                }
            ),
        )
    _log.debug("trained %s: %d folds on %d patches", name, len(networks), len(table))
    return networks, pd.DataFrame(histories)


def fold_seeds(name: str, protocol: str, fold: int, training: Training) -> list[int]:
    """Return the seed of one fold, and those that it may be started again from.

    The first of the protocol ``published`` stands in ``training.seeds``; every other is a digest
    of ``training.seed``, network, protocol, fold and attempt, so that no two networks share one.

    Parameters
    ----------
    name : str
        Name of the network.
    protocol : {"grouped", "published"}
    fold : int
    training : Training
    """
    seeds = [
        int(_hash([training.seed, name, protocol, fold, attempt])[:8], 16) >> 1
        for attempt in range(training.restarts + 1)
    ]
    if protocol == "published":
        seeds[0] = training.seeds[fold]
    return seeds


def _starts(
    name: str,
    folds: Mapping[str, FoldIndices],
    places: Mapping[str, tuple[str, int]],
    table: pd.DataFrame,
    initial: NetworkSet,
) -> dict[str, Mapping[str, Any]]:
    """Return the weights that each fold starts from; of networks that saw what it tests, none."""
    starts: dict[str, Mapping[str, Any]] = {}
    for key in folds:
        if key not in initial:
            protocol, fold = places[key]
            raise ValueError(
                f"{name} cannot start from another network: it has no fold {fold} of the protocol "
                f"{protocol!r}, only {', '.join(sorted(initial))}. Train both with the same "
                "modelling.folds and modelling.protocols"
            )
        tested = {str(g) for g in table["group"][folds[key].test]}
        if places[key][0] == "grouped" and (seen := tested & set(initial[key].card.train_groups)):
            raise ValueError(
                f"{name} cannot start from {initial[key].card.network}: its {key} was trained on "
                f"{min(seen)!r}, which the same fold is tested on. Train it again with the same "
                "folds"
            )
        starts[key] = initial[key].state
    return starts


def _state_hash(starts: Mapping[str, Mapping[str, Any]]) -> str:
    digest = hashlib.sha256()
    for key, state in sorted(starts.items()):
        for weight, values in sorted(state.items()):
            digest.update(f"{key} {weight}".encode() + values.numpy().tobytes())
    return digest.hexdigest()


def _layouts(stacks: Iterable[PatchStack]) -> list[PatchLayout]:
    """Return the layouts of all micrographs in stacks that stand one behind the other."""
    layouts, before = [], 0
    for stack in stacks:
        for layout in micrograph_layouts(stack.table, stack.images.shape[1]).values():
            layouts.append(replace(layout, first=layout.first + before))
        before += len(stack)
    return layouts


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON would give it back."""
    return json.loads(json.dumps(value, default=float))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _data_hash(stacks: Mapping[str, PatchStack]) -> str:
    """Return a digest of all patches and their tables.

    That of the pixels was taken when they were written; without it all of them are read here.
    """
    digest = hashlib.sha256()
    for stack in stacks.values():
        digest.update(stack.table.to_csv(index=False).encode())
        pixels = stack.attributes.get("sha256_of_pixels") or {
            "images": hashlib.sha256(np.ascontiguousarray(stack.images).data).hexdigest(),
            "labels": hashlib.sha256(np.ascontiguousarray(stack.labels).data).hexdigest(),
        }
        digest.update(json.dumps(pixels, sort_keys=True).encode())
    return digest.hexdigest()

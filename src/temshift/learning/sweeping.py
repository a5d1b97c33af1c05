"""How a trial of a sweep is judged: by what its folds held out, never by what they test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.errors import UserError
from temshift.config.modelling import ModellingParameters
from temshift.learning.devices import choose_device
from temshift.learning.evaluation import patch_counts
from temshift.learning.inference import optimise_for_inference, predict_patches
from temshift.learning.metrics import dice
from temshift.learning.modelling import make_folds
from temshift.learning.network_set import NetworkSet
from temshift.microscopy.patches import PatchStack
from temshift.study.folds import fewer_groups, grouped_folds

__all__ = ["check_held_out", "check_training_groups", "held_out_scores", "positions_beside"]


def check_held_out(
    tables: Mapping[str, pd.DataFrame], choices: Sequence[Sequence[str]], judged: Sequence[str]
) -> None:
    """Refuse sets in which trials cannot be judged alike, before any is trained.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Micrographs of each split, with ``group`` and ``fold``.
    choices : sequence of sequence of str
        Splits that a trial may train on together.
    judged : sequence of str
        Splits that every trial is judged on.

    Raises
    ------
    UserError
        So few groups that nothing can be held out, or other groups are held out by other choices.
    """
    alone = _held_out(tables, judged, judged)
    for choice in choices:
        held = _held_out(tables, choice, judged)
        if held != alone:
            raise UserError(
                f"sweep.space.train_on: {list(choice)} cannot be compared with {list(judged)}",
                f"Found that other groups of {list(judged)} are held out for validation; expected "
                "the same, as with sets that show the same specimens",
                "Leave it out of sweep.space.train_on, and compare such sets in a study",
            )


def _held_out(
    tables: Mapping[str, pd.DataFrame], trained: Sequence[str], judged: Sequence[str]
) -> list[set[str]]:
    table = pd.concat([tables[name].assign(split=name) for name in trained], ignore_index=True)
    folds = int(table["fold"].max()) + 1
    held = []
    for number, fold in enumerate(grouped_folds(table["fold"], table["group"], folds)):
        rows = table.iloc[fold.validation]
        if set(fold.validation) & set(fold.train):
            groups = table.loc[table["fold"] != number, "group"].nunique()
            raise UserError(
                f"A sweep of {list(trained)} has nothing to judge its trials by",
                f"Found {groups} groups (curation.group_by) beside the test fold {number}; "
                "expected at least 3, of which one is held out for validation",
                "Take sets of more specimens, or fewer folds (modelling.folds)",
            )
        held.append(set(rows.loc[rows["split"].isin(judged), "group"]))
    return held


def positions_beside(
    trained: pd.DataFrame, other: pd.DataFrame, folds: int
) -> list[NDArray[np.intp]]:
    """Return where in another set each fold is measured: what it would hold out of that set itself.

    Without the groups that any trial may be trained on, however few it takes, and without the test
    fold.

    Parameters
    ----------
    trained, other : DataFrame
        Rows of the sets of the trials and of the other set, with ``group`` and ``fold``.
    folds : int

    Raises
    ------
    UserError
        A fold of which nothing is left.
    """
    found = []
    own = grouped_folds(trained["fold"], trained["group"], folds)
    for number, beside in enumerate(grouped_folds(other["fold"], other["group"], folds)):
        seen = set(trained["group"].iloc[own[number].train])
        held = beside.validation[~other["group"].iloc[beside.validation].isin(seen).to_numpy()]
        if len(held) == 0:
            raise UserError(
                "sweep.also_on: a set has nothing that no trial is trained on",
                f"Found that fold {number} is trained on all groups that it holds out of this set; "
                "expected the groups of sweep.train_on, or others altogether",
                "Leave it out of sweep.also_on, and compare such sets in a study",
            )
        found.append(held)
    return found


def check_training_groups(trained: pd.DataFrame, folds: int, groups: int | None) -> None:
    """Refuse more groups to train on than each fold has.

    Parameters
    ----------
    trained : DataFrame
        Rows of the sets of a trial, with ``group`` and ``fold``.
    folds : int
    groups : int, optional
        ``modelling.training.groups``.

    Raises
    ------
    FoldError
    """
    if groups is not None:
        made = grouped_folds(trained["fold"], trained["group"], folds)
        fewer_groups(made, trained["fold"], trained["group"], groups, seed=0)


def held_out_scores(
    networks: NetworkSet,
    stacks: Mapping[str, PatchStack],
    judged: Sequence[str],
    modelling: ModellingParameters,
    also_on: Mapping[str, PatchStack] | None = None,
) -> pd.DataFrame:
    """Return the Dice of every fold on the patches that it held out for validation.

    Parameters
    ----------
    networks : NetworkSet
        Of the protocol ``grouped``.
    stacks : mapping of str to PatchStack
        The splits they were trained on.
    judged : sequence of str
        Those of them that count.
    modelling : ModellingParameters
        With which they were trained.
    also_on : mapping of str to PatchStack, optional
        Sets that are measured beside (:func:`positions_beside`).

    Returns
    -------
    DataFrame
        ``fold, validation_dice`` (of all pixels together), ``learned``, ``training_groups`` (how
        many) and ``dice_on_<set>`` of each set beside.
    """
    table = pd.concat([s.table.assign(split=name) for name, s in stacks.items()], ignore_index=True)
    first = dict(zip(stacks, np.cumsum([0, *map(len, stacks.values())]), strict=False))
    side = next(iter(stacks.values())).images.shape[1]
    threshold = modelling.training.background_threshold
    folds = make_folds(table, side, "grouped", modelling.folds, threshold, hold_out=True)
    device = choose_device(modelling.device)
    beside = {
        name: positions_beside(table, stack.table, modelling.folds)
        for name, stack in (also_on or {}).items()
    }
    rows: list[dict[str, Any]] = []
    for network in sorted(networks.values(), key=lambda n: n.card.fold):
        fold = folds[network.card.fold]
        built = optimise_for_inference(network.build()).to(device)
        counts = np.zeros(3, np.int64)
        for split in judged:
            positions = fold.validation[(table["split"] == split).to_numpy()[fold.validation]]
            counts += _counts(built, stacks[split], positions - first[split], device)
        elsewhere = {
            f"dice_on_{name}": float(
                dice(*_counts(built, stack, beside[name][network.card.fold], device).tolist())
            )
            for name, stack in (also_on or {}).items()
        }
        rows.append(
            {
                "fold": network.card.fold,
                "validation_dice": float(dice(*counts.tolist())),
                "learned": network.card.learned,
                "training_groups": len(network.card.train_groups),
                **elsewhere,
            }
        )
    return pd.DataFrame(rows)


def _counts(
    network: Any, stack: PatchStack, positions: NDArray[np.intp], device: str
) -> NDArray[np.int64]:
    """Return pixels rightly, wrongly and not found, of some patches together."""
    counts = np.zeros(3, np.int64)
    predicted = predict_patches(network, stack.images[positions], device)
    for place, probability in zip(positions, predicted, strict=True):
        found = patch_counts(probability, stack.labels[place])
        counts += [found["tp"], found["fp"], found["fn"]]
    return counts

"""How a trial of a sweep is judged: by what its folds held out, never by what they test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from temshift.config.errors import UserError
from temshift.config.modelling import ModellingParameters
from temshift.learning.devices import choose_device
from temshift.learning.evaluation import patch_counts
from temshift.learning.inference import optimise_for_inference, predict_patches
from temshift.learning.metrics import dice
from temshift.learning.modelling import make_folds
from temshift.learning.network_set import NetworkSet
from temshift.microscopy.patches import PatchStack
from temshift.study.folds import grouped_folds

__all__ = ["check_held_out", "held_out_scores"]


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


def held_out_scores(
    networks: NetworkSet,
    stacks: Mapping[str, PatchStack],
    judged: Sequence[str],
    modelling: ModellingParameters,
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

    Returns
    -------
    DataFrame
        ``fold, validation_dice`` (of all pixels together) and ``learned``.
    """
    table = pd.concat([s.table.assign(split=name) for name, s in stacks.items()], ignore_index=True)
    first = dict(zip(stacks, np.cumsum([0, *map(len, stacks.values())]), strict=False))
    side = next(iter(stacks.values())).images.shape[1]
    threshold = modelling.training.background_threshold
    folds = make_folds(table, side, "grouped", modelling.folds, threshold, hold_out=True)
    device = choose_device(modelling.device)
    rows = []
    for network in sorted(networks.values(), key=lambda n: n.card.fold):
        fold = folds[network.card.fold]
        built = optimise_for_inference(network.build()).to(device)
        counts = np.zeros(3, np.int64)
        for split in judged:
            positions = fold.validation[(table["split"] == split).to_numpy()[fold.validation]]
            positions = positions - first[split]
            stack = stacks[split]
            predicted = predict_patches(built, stack.images[positions], device)
            for place, probability in zip(positions, predicted, strict=True):
                found = patch_counts(probability, stack.labels[place])
                counts += [found["tp"], found["fp"], found["fn"]]
        rows.append(
            {
                "fold": network.card.fold,
                "validation_dice": float(dice(*counts.tolist())),
                "learned": network.card.learned,
            }
        )
    return pd.DataFrame(rows)

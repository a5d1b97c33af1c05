"""Folds: which micrographs a network is trained, validated and tested on.

``grouped`` (the default): a specimen, micrograph or session is a *group* that is never divided,
and belongs to the same fold in all splits, so that no network meets in a test what it was trained
on, whatever split it comes from. ``published``: the patches of a split in their order, cut as in
the study (patches of one micrograph may stand on both sides).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from temshift.config.errors import UserError

__all__ = [
    "FoldError",
    "FoldIndices",
    "assign_groups_to_folds",
    "fewer_groups",
    "group_names",
    "grouped_folds",
    "published_folds",
]


class FoldError(UserError):
    """Folds that cannot be made, or that share what must be kept apart."""


class FoldIndices(NamedTuple):
    """Positions in a patch table, in ascending order.

    Attributes
    ----------
    train, validation, test : ndarray of int
    """

    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    test: NDArray[np.intp]


def group_names(table: pd.DataFrame, group_by: str = "specimen_id") -> pd.Series:
    """Return the group of each row: its ``group_by`` or, where that is unknown, its micrograph.

    This is the independent unit of a study. Curation writes it into the micrograph table (column
    ``group``); patches and results carry it from there, and nothing else decides it again.

    Parameters
    ----------
    table : DataFrame
        With ``micrograph_id`` and the column ``group_by``.
    group_by : str
    """
    group = table[group_by].fillna("").astype(str)
    return group.where(group != "", table["micrograph_id"].astype(str))


def assign_groups_to_folds(
    splits: Mapping[str, pd.DataFrame], folds: int, group_by: str, seed: int
) -> dict[str, int]:
    """Give every group one fold, the same in all splits, each split balanced.

    Split by split, those with the fewest groups first: groups that an earlier split has placed
    stay, the others go, largest first, to the fold in which the split has the fewest micrographs
    so far (of those, the one with the fewest in all splits). Groups of one size come in an order
    drawn from ``seed`` and their name alone, so that another split does not change it.

    Parameters
    ----------
    splits : mapping of str to DataFrame
        Micrograph table of each split.
    folds : int
    group_by : {"specimen_id", "micrograph_id", "session"}
        See :func:`group_names`.
    seed : int

    Returns
    -------
    dict of str to int
        Group to fold, 0 … ``folds`` − 1.

    Raises
    ------
    FoldError
        A split with fewer groups than folds, or one that leaves a fold empty (all such at once).
    """
    sizes = {name: Counter(group_names(table, group_by)) for name, table in splits.items()}
    problems = [
        f"split {name!r} has {len(groups)} groups ({group_by}) for {folds} folds"
        for name, groups in sizes.items()
        if len(groups) < folds
    ]

    def order(group: str) -> str:
        return hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()

    fold_of: dict[str, int] = {}
    total = [0] * folds
    for name in sorted(sizes, key=lambda name: len(sizes[name])):
        groups, here = sizes[name], [0] * folds
        for group in groups.keys() & fold_of.keys():
            here[fold_of[group]] += groups[group]
        new = groups.keys() - fold_of.keys()
        for group in sorted(new, key=lambda group: (-groups[group], order(group))):
            fold = min(range(folds), key=lambda f: (here[f], total[f]))
            fold_of[group] = fold
            here[fold] += groups[group]
            total[fold] += groups[group]
        if len(groups) >= folds and 0 in here:
            problems.append(
                f"split {name!r} has no micrograph in fold {here.index(0)}, since it shares its "
                "groups with other splits"
            )
    if problems:
        *others, last = problems
        raise FoldError(
            f"The micrographs cannot be divided into {folds} folds (modelling.folds)",
            f"{last}; expected at least one group in each fold",
            "Take fewer folds (modelling.folds), smaller groups (curation.group_by) or more "
            "micrographs",
            [f"- {problem}" for problem in others],
        )
    return fold_of


def grouped_folds(fold: ArrayLike, group: ArrayLike, folds: int) -> list[FoldIndices]:
    """Return the patches of each fold of the protocol ``grouped``.

    The test set is the fold itself. Of the groups of all other folds, one in eight, at least
    one, is for validation and never trained on (taken from the next fold first); if only one or
    two groups are left, that would cost too much, and validation is on the training patches.

    Parameters
    ----------
    fold : array_like of int, shape (N,)
        Fold of each patch.
    group : array_like of str, shape (N,)
        What must not be divided (:func:`group_names`).
    folds : int

    Returns
    -------
    list of FoldIndices
        ``folds`` of them.

    Raises
    ------
    FoldError
        A group with patches in two folds, a fold number out of range, or a fold without a patch.
    """
    fold_of, groups = np.asarray(fold, np.intp), np.asarray(group, object).astype(str)
    if fold_of.shape != groups.shape:
        raise ValueError(f"{fold_of.shape} folds and {groups.shape} groups do not belong together")
    places: dict[str, int] = {}
    for name, number in zip(groups.tolist(), fold_of.tolist(), strict=True):
        if places.setdefault(name, number) != number:
            raise FoldError(
                f"A group of micrographs is divided: {name!r}",
                f"group {name!r} has patches in folds {places[name]} and {number}; expected one "
                "fold, since a network would be tested on what it was trained on",
                "Run data_curation and preprocessing again",
            )
    present = set(places.values())
    if present != set(range(folds)):
        raise FoldError(
            f"The patches do not belong to {folds} folds (modelling.folds)",
            f"there must be patches in the folds 0 to {folds - 1}, found the folds "
            f"{sorted(present)}",
            "Run data_curation and preprocessing again after a change of modelling.folds",
        )
    made = []
    for i in range(folds):
        test = fold_of == i
        rest = [name for name, number in places.items() if number != i]
        rest.sort(key=lambda name: ((places[name] - i - 1) % folds, name))
        held = rest[: max(1, len(rest) // 8)] if len(rest) >= 3 else []
        validation = np.isin(groups, held)
        train = ~test & ~validation
        made.append(
            FoldIndices(
                *map(np.flatnonzero, (train, validation if held else train, test)),
            )
        )
    return made


def fewer_groups(
    made: Sequence[FoldIndices], fold: ArrayLike, group: ArrayLike, groups: int, seed: int
) -> list[FoldIndices]:
    """Return folds that are trained on so many of their groups only; tests stay the same.

    Of each fold those of the fold before come first, then those of the one before that: folds that
    are trained on few groups do not share them. Within a fold the order follows from ``seed`` and
    the name. Fewer groups are always among more, and validation stays as it is, unless it was on
    the training patches.

    Parameters
    ----------
    made : sequence of FoldIndices
        Of :func:`grouped_folds`.
    fold : array_like of int, shape (N,)
    group : array_like of str, shape (N,)
        Of each patch, as there.
    groups : int
    seed : int

    Raises
    ------
    FoldError
        A fold that has fewer.
    """
    fold_of, names = np.asarray(fold, np.intp), np.asarray(group, object).astype(str)
    result = []
    for i, indices in enumerate(made):
        places = dict(
            zip(names[indices.train].tolist(), fold_of[indices.train].tolist(), strict=True)
        )
        if len(places) < groups:
            raise FoldError(
                f"training.groups: {groups} groups are more than there are",
                f"Fold {i} has {len(places)} groups (curation.group_by) to train on; expected at "
                f"least {groups}",
                "Take fewer, or null for all",
            )

        def order(name: str, i: int = i, places: dict[str, int] = places) -> tuple[int, str]:
            digest = hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
            return (i - 1 - places[name]) % len(made), digest

        chosen = sorted(places, key=order)[:groups]
        train = indices.train[np.isin(names[indices.train], chosen)]
        same = np.array_equal(indices.train, indices.validation)
        result.append(FoldIndices(train, train if same else indices.validation, indices.test))
    return result


def published_folds(n_patches: int, folds: int = 5) -> list[FoldIndices]:
    """Return the patches of each fold of the study's own protocol.

    ``array_split`` of the patches in their order. For test fold i the rest has n patches;
    v = ⌊n / 8⌋, f = ⌊N / folds⌋; validation is rest[i f : i f + v], and for the last fold
    rest[(folds − 1) f − v :]; training is what remains.

    Parameters
    ----------
    n_patches : int
        N, patches of the split that are not empty.
    folds : int

    Raises
    ------
    FoldError
        Fewer patches than folds.

    Examples
    --------
    >>> first = published_folds(10, folds=5)[0]
    >>> [part.tolist() for part in first]
    [[3, 4, 5, 6, 7, 8, 9], [2], [0, 1]]
    """
    if n_patches < folds:
        raise FoldError(
            f"There are too few patches for {folds} folds (modelling.folds)",
            f"{n_patches} patches cannot be divided into {folds} folds; expected one each",
            "Take fewer folds, or a smaller preprocessing.patch_px or background_threshold",
        )
    patches = np.arange(n_patches)
    parts, size = np.array_split(patches, folds), n_patches // folds
    made = []
    for i, test in enumerate(parts):
        rest = np.concatenate([part for j, part in enumerate(parts) if j != i])
        v = len(rest) // 8
        if i < folds - 1:
            chosen = slice(i * size, i * size + v)
        else:
            chosen = slice((folds - 1) * size - v, None)
        made.append(FoldIndices(np.delete(rest, chosen), rest[chosen], test))
    return made

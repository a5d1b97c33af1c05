"""Folds: what is trained on is never tested, in any split; the published arithmetic."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temshift.study.folds import (
    FoldError,
    assign_groups_to_folds,
    fewer_groups,
    group_names,
    grouped_folds,
    published_folds,
)


def micrographs(*specimens):
    return pd.DataFrame(
        {"micrograph_id": [f"m{i}" for i in range(len(specimens))], "specimen_id": specimens}
    )


def test_unknown_specimens_are_groups_of_their_own():
    table = micrographs("s1", "", "s1", None)
    assert group_names(table).tolist() == ["s1", "m1", "s1", "m3"]
    assert group_names(table, "micrograph_id").tolist() == ["m0", "m1", "m2", "m3"]


@given(
    counts=st.lists(st.integers(1, 4), min_size=5, max_size=25),
    folds=st.integers(2, 5),
    seed=st.integers(0, 5),
)
def test_groups_are_balanced_within_a_split(counts, folds, seed):
    specimens = [f"s{i}" for i, n in enumerate(counts) for _ in range(n)]
    table = micrographs(*specimens)
    fold_of = assign_groups_to_folds({"a": table}, folds, "specimen_id", seed)
    assert set(fold_of) == set(specimens)
    per_fold = np.bincount([fold_of[s] for s in specimens], minlength=folds)
    assert per_fold.min() > 0
    assert per_fold.max() - per_fold.min() <= max(counts)


def test_folds_are_the_same_in_all_splits_and_balanced_in_each():
    few = micrographs(*[f"s{i}" for i in range(3)])
    many = micrographs(*[f"s{i}" for i in range(12)])
    fold_of = assign_groups_to_folds({"many": many, "few": few}, 3, "specimen_id", 1)
    assert sorted(fold_of[f"s{i}"] for i in range(3)) == [0, 1, 2]
    assert np.bincount([fold_of[f"s{i}"] for i in range(12)]).tolist() == [4, 4, 4]


def test_a_further_split_of_other_groups_changes_no_fold():
    one = {"a": micrographs(*"pqrstu")}
    two = {**one, "b": micrographs(*"vwxyzabc")}
    before, after = (assign_groups_to_folds(s, 3, "specimen_id", 4) for s in (one, two))
    assert {g: after[g] for g in before} == before


def test_the_seed_decides_and_repeats():
    table = {"a": micrographs(*"abcdefghijkl")}
    made = [assign_groups_to_folds(table, 3, "specimen_id", seed) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]


def test_too_few_groups_are_told_with_what_to_do():
    splits = {"small": micrographs("a", "b", "b"), "fine": micrographs(*"cdefg")}
    with pytest.raises(FoldError) as caught:
        assign_groups_to_folds(splits, 3, "specimen_id", 0)
    assert "split 'small' has 2 groups (specimen_id) for 3 folds" in str(caught.value)
    assert "modelling.folds" in str(caught.value)
    assert "fine" not in str(caught.value)


@given(n_groups=st.integers(6, 40), folds=st.integers(2, 5), data=st.data())
def test_grouped_folds_never_share_a_group(n_groups, folds, data):
    fold_of_group = [
        *range(folds),
        *data.draw(st.lists(st.integers(0, folds - 1), min_size=n_groups, max_size=n_groups)),
    ]
    group = np.repeat([f"g{i}" for i in range(len(fold_of_group))], 3)
    fold = np.repeat(fold_of_group, 3)
    made = grouped_folds(fold, group, folds)
    assert len(made) == folds
    for i, (train, validation, test) in enumerate(made):
        np.testing.assert_array_equal(test, np.flatnonzero(fold == i))
        assert len(train)
        assert len(validation)
        assert not set(group[train]) & set(group[test])
        assert not set(group[validation]) & set(group[test])
        rest = len(set(group[fold != i]))
        if rest >= 3:
            assert not set(group[train]) & set(group[validation])
            assert len(set(group[validation])) == max(1, rest // 8)
            np.testing.assert_array_equal(
                np.sort(np.concatenate([train, validation])), np.flatnonzero(fold != i)
            )
        else:
            np.testing.assert_array_equal(train, validation)


def test_two_groups_to_train_on_are_validated_on_themselves():
    train, validation, test = grouped_folds([0, 1, 1, 2], ["a", "b", "b", "c"], 3)[0]
    assert train.tolist() == validation.tolist() == [1, 2, 3]
    assert test.tolist() == [0]


def test_a_divided_group_is_refused():
    with pytest.raises(FoldError, match="'b' has patches in folds 1 and 0"):
        grouped_folds([0, 1, 0], ["a", "b", "b"], 2)


@pytest.mark.parametrize("fold", [[0, 0, 0], [0, 1, 3]])
def test_folds_that_do_not_fit_are_refused(fold):
    with pytest.raises(FoldError, match="folds 0 to 2, found the folds"):
        grouped_folds(fold, ["a", "b", "c"], 3)


@pytest.mark.parametrize("n_patches", [40, 41, 423, 997])
def test_published_index_arithmetic(n_patches):
    """Each fold worked out by plain list slicing."""
    parts = [p.tolist() for p in np.array_split(np.arange(n_patches), 5)]
    for i, (train, validation, test) in enumerate(published_folds(n_patches)):
        rest = [p for j, part in enumerate(parts) if j != i for p in part]
        v, f = len(rest) // 8, n_patches // 5
        if i < 4:
            expected = rest[i * f : i * f + v]
            kept = rest[: i * f] + rest[i * f + v :]
        else:
            expected, kept = rest[4 * f - v :], rest[: 4 * f - v]
        assert test.tolist() == parts[i]
        assert validation.tolist() == expected
        assert train.tolist() == kept


def test_published_folds_by_hand():
    """N = 20: f = 4, n = 16, v = 2."""
    made = published_folds(20)
    assert made[0].test.tolist() == [0, 1, 2, 3]
    assert made[0].validation.tolist() == [4, 5]
    assert made[1].validation.tolist() == [8, 9]
    assert made[2].validation.tolist() == [12, 13]
    assert made[3].validation.tolist() == [16, 17]
    assert made[4].validation.tolist() == [14, 15]
    assert made[4].train.tolist() == list(range(14))


def test_too_few_patches():
    with pytest.raises(FoldError, match="3 patches cannot be divided into 5 folds"):
        published_folds(3)


# ------------------------------------------------------------------ fewer groups
def test_fewer_groups_are_nested_and_tests_stay_the_same():
    fold = np.repeat(np.arange(20) % 5, 3)
    group = np.repeat([f"g{i}" for i in range(20)], 3)
    made = grouped_folds(fold, group, 5)
    before = [set() for _ in made]
    for groups in (1, 2, 5, 9, 14):
        fewer = fewer_groups(made, fold, group, groups, seed=3)
        for i, (few, whole) in enumerate(zip(fewer, made, strict=True)):
            names = set(group[few.train])
            assert len(names) == groups
            assert before[i] < names
            assert set(few.train) <= set(whole.train)
            assert (few.test == whole.test).all()
            assert (few.validation == whole.validation).all()
            assert all((group[few.train] == name).sum() == 3 for name in names)
            before[i] = names
        if groups == 1:
            assert len(set.union(*before)) == 5, "folds do not share the one that they have"
    other = fewer_groups(made, fold, group, 1, seed=4)
    first = fewer_groups(made, fold, group, 1, seed=3)
    assert any(set(a.train) != set(b.train) for a, b in zip(other, first, strict=True))


def test_more_groups_than_there_are_are_refused():
    fold, group = np.arange(6) % 3, [f"g{i}" for i in range(6)]
    made = grouped_folds(fold, group, 3)
    with pytest.raises(FoldError, match=r"training\.groups: 4") as error:
        fewer_groups(made, fold, group, 4, seed=0)
    assert "Fold 0 has 3 groups" in error.value.found

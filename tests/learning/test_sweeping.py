"""Trials are judged by what was held out of their training, or not at all."""

import numpy as np
import pandas as pd
import pytest

from temshift.config.errors import UserError
from temshift.config.modelling import ModellingParameters
from temshift.learning.modelling import make_folds, train_network_set
from temshift.learning.sweeping import (
    check_held_out,
    check_training_groups,
    held_out_scores,
    positions_beside,
)
from temshift.microscopy.patches import PATCH_COLUMNS, PatchStack
from temshift.study.folds import grouped_folds


def table(groups, folds=3, prefix=""):
    rows = [{"group": f"{prefix}g{i}", "fold": i % folds} for i in range(groups)]
    return pd.DataFrame(rows)


def test_sets_with_too_few_specimens_are_refused():
    check_held_out({"a": table(6)}, [["a"]], ["a"])
    with pytest.raises(UserError, match="nothing to judge its trials by") as error:
        check_held_out({"a": table(3)}, [["a"]], ["a"])
    assert "Found 2 groups" in error.value.found


def test_sets_that_hold_out_other_specimens_are_not_compared():
    tables = {"a": table(6), "same": table(6), "other": table(6, prefix="a")}
    check_held_out(tables, [["a"], ["a", "same"]], ["a"])
    with pytest.raises(UserError, match="cannot be compared"):
        check_held_out(tables, [["a"], ["a", "other"]], ["a"])


@pytest.fixture
def stacks(rng):
    def stack(seed):
        draw = np.random.default_rng(seed)
        images = draw.normal(size=(6, 64, 64)).astype(np.float32)
        labels = np.zeros((6, 64, 64), np.uint8)
        labels[:, 16:48, 16:48] = 1
        images[labels == 1] += 3
        row = {"specimen_id": "", "row": 0, "column": 0, "labelled_px": 1024}
        rows = [
            {**row, "micrograph_id": f"m{i}", "group": f"g{i}", "fold": i % 3} for i in range(6)
        ]
        return PatchStack(images, labels, pd.DataFrame(rows, columns=list(PATCH_COLUMNS)))

    return {"low": stack(1), "high": stack(2)}


def test_scores_see_the_held_out_patches_of_the_judged_set_and_no_others(stacks):
    modelling = ModellingParameters.model_validate(
        {
            "device": "cpu",
            "precision": "float32",
            "folds": 3,
            "training": {
                **{"steps": 2, "batch_size": 2, "crop_px": 32, "keep": "last"},
                "learned_above": 0.0,
            },
        }
    )
    networks, history = train_network_set("sweep", stacks, modelling)
    before = held_out_scores(networks, stacks, ["low", "high"], modelling)
    last = history.groupby("fold")["validation_dice"].last()
    assert before["validation_dice"].tolist() == pytest.approx(last.tolist(), abs=1e-3)

    # all that is neither held out nor judged is made worthless: nothing changes
    alone = held_out_scores(networks, stacks, ["high"], modelling)
    tables = pd.concat([s.table for s in stacks.values()], ignore_index=True)
    folds = make_folds(tables, 64, "grouped", 3, 400)
    for fold, indices in enumerate(folds):
        spoilt = {
            name: PatchStack(s.images.copy(), s.labels.copy(), s.table, s.attributes)
            for name, s in stacks.items()
        }
        spoilt["low"].labels[:] = 0
        rest = np.setdiff1d(np.arange(6), indices.validation[indices.validation >= 6] - 6)
        spoilt["high"].labels[rest] = 0
        now = held_out_scores(networks, spoilt, ["high"], modelling)
        assert now["validation_dice"][fold] == alone["validation_dice"][fold]
        spoilt["high"].labels[:] = 0  # and of what is judged something does
        now = held_out_scores(networks, spoilt, ["high"], modelling)
        assert now["validation_dice"][fold] != alone["validation_dice"][fold]


def of_groups(seeds, folds=3):
    """Patches of a specimen each, whose pixels follow from its seed."""
    images, labels = np.zeros((2, len(seeds), 64, 64), np.float32)
    for i, seed in enumerate(seeds):
        draw = np.random.default_rng(seed)
        y, x = draw.integers(8, 24, 2)
        labels[i, y : y + 32, x : x + 32] = 1
        images[i] = draw.normal(size=(64, 64)) + 3 * labels[i]
    rows = [
        {
            **{"micrograph_id": f"m{i}", "specimen_id": "", "group": f"g{i}", "fold": i % folds},
            **{"row": 0, "column": 0, "labelled_px": 1024},
        }
        for i in range(len(seeds))
    ]
    return PatchStack(
        images, labels.astype(np.uint8), pd.DataFrame(rows, columns=list(PATCH_COLUMNS))
    )


def scores_of(stack, groups):
    training = {"steps": 4, "batch_size": 12, "crop_px": 64, "keep": "last", "learned_above": 0.0}
    modelling = ModellingParameters.model_validate(
        {
            **{"device": "cpu", "precision": "float32", "folds": 3},
            "training": {**training, "groups": groups},
        }
    )
    networks, _ = train_network_set("sweep", {"a": stack}, modelling)
    beside = {"copy": PatchStack(stack.images + 1, stack.labels, stack.table)}
    return held_out_scores(networks, {"a": stack}, ["a"], modelling, beside)


@pytest.mark.parametrize("copies", [True, False])
def test_copies_of_one_specimen_give_a_flat_learning_curve(copies):
    """More of the same teaches nothing more: the same weights; of other specimens, others."""
    stack = of_groups([1] * 9 if copies else range(9))
    few, many = scores_of(stack, 1), scores_of(stack, 4)
    assert few["training_groups"].tolist() == [1, 1, 1]
    assert many["training_groups"].tolist() == [4, 4, 4]
    assert few["dice_on_copy"].between(0, 1).all()
    difference = (few["validation_dice"] - many["validation_dice"]).abs()
    assert (difference.max() < 1e-6) == copies


def test_sets_beside_are_measured_where_no_trial_is_trained_and_no_fold_tests():
    one, other = table(9), table(9, prefix="other ")
    for beside in (one, other):
        for number, positions in enumerate(positions_beside(one, beside, 3)):
            assert len(positions)
            assert (beside["fold"].iloc[positions] != number).all()
            rest = grouped_folds(one["fold"], one["group"], 3)[number]
            assert not set(beside["group"].iloc[positions]) & set(one["group"].iloc[rest.train])


def test_a_set_of_which_all_is_trained_on_is_refused_beside():
    other = table(9).iloc[[3, 4, 5, 6, 7, 8]]  # without the groups that are held out
    with pytest.raises(UserError, match=r"sweep\.also_on"):
        positions_beside(table(9), other.reset_index(drop=True), 3)


def test_more_training_groups_than_there_are_are_refused_before_any_trial():
    check_training_groups(table(9), 3, None)
    check_training_groups(table(9), 3, 5)
    with pytest.raises(UserError, match=r"training\.groups") as error:
        check_training_groups(table(9), 3, 6)
    assert "has 5 groups" in error.value.found

"""Trials are judged by what was held out of their training, or not at all."""

import numpy as np
import pandas as pd
import pytest

from temshift.config.errors import UserError
from temshift.config.modelling import ModellingParameters
from temshift.learning.modelling import make_folds, train_network_set
from temshift.learning.sweeping import check_held_out, held_out_scores
from temshift.microscopy.patches import PATCH_COLUMNS, PatchStack


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

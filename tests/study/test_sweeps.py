"""The best of many equal trials is no better than the defaults, and a better one is."""

import json

import numpy as np
import pandas as pd
import pytest

from temshift.study.sweeps import (
    CURVE_COLUMNS,
    DEFAULTS,
    HELD_OUT,
    best_sentence,
    curve_sentences,
    learning_curve,
    rank_trials,
)


def scores(dice):
    """Scores of trials, a row of folds each; the first are the defaults."""
    rows = []
    for i, folds in enumerate(dice):
        trial = DEFAULTS if i == 0 else f"{i - 1:04d}"
        for fold, value in enumerate(folds):
            row = {"trial": trial, "settings": json.dumps({"x": i}), "fold": fold}
            rows.append({**row, "validation_dice": value, "learned": True, "failed": None})
    return pd.DataFrame(rows)


def test_of_equal_trials_the_best_is_rarely_called_better():
    rng = np.random.default_rng(3)
    called = sum(
        "; better than" in best_sentence(rank_trials(scores(rng.normal(0.8, 0.03, (21, 6)))))
        for _ in range(80)
    )
    assert called <= 9, "of 20 equal trials, at 5 %: 4 of 80 are expected"


def test_without_allowing_for_the_number_of_trials_it_would_be():
    """So that the test above can fail: each trial tested alone is called better far more often."""
    rng = np.random.default_rng(3)
    called = 0
    for _ in range(40):
        dice = rng.normal(0.8, 0.03, (11, 6))
        alone = [rank_trials(scores([dice[0], own])) for own in dice[1:]]
        called += any("; better than" in best_sentence(table) for table in alone)
    assert called > 7, "at 5 % of 10 trials alone: 40 %, less for their common defaults"


def test_a_better_trial_is_found_and_named():
    rng = np.random.default_rng(4)
    dice = rng.normal(0.8, 0.01, (6, 6))
    dice[3] += 0.1
    table = rank_trials(scores(dice))
    assert table["trial"].iloc[0] == "0002"
    assert table["p"].iloc[0] == pytest.approx(1 / 64)
    assert "trial 0002" in best_sentence(table)
    assert "; better than" in best_sentence(table)


def test_a_trial_that_changes_nothing_gains_nothing():
    dice = np.tile(np.linspace(0.7, 0.9, 6), (3, 1))
    table = rank_trials(scores(dice))
    assert (table["gain"] == 0).all()
    assert (table["p"].dropna() == 1).all()
    assert "no more than luck" in best_sentence(table)


def test_few_folds_cannot_tell():
    dice = np.array([[0.5] * 3, [0.9] * 3])
    assert "3 folds cannot tell it from luck: at least 5 are needed" in best_sentence(
        rank_trials(scores(dice))
    )


def test_a_failed_trial_is_a_row_without_scores():
    failed = pd.DataFrame(
        [
            {
                "trial": "0001",
                "settings": "{}",
                "fold": None,
                "failed": "the training loss became nan",
            }
        ]
    )
    table = rank_trials(pd.concat([scores([[0.8, 0.7], [0.9, 0.8]]), failed], ignore_index=True))
    assert table["trial"].tolist() == ["0000", DEFAULTS, "0001"]
    assert table["folds"].tolist() == [2, 2, 0]


def curve_scores(dice, amounts, elsewhere=0.0, key="modelling.training.groups", **others):
    """Scores of trials of some amounts, a row of folds each; the defaults train on all."""
    rows = []
    for i, folds in enumerate(dice):
        own = {key: amounts[i - 1], **others} if i else {}
        n = (amounts[i - 1] if i else None) or max(a for a in amounts if a) + 4
        for fold, value in enumerate(folds):
            row = {"trial": f"{i - 1:04d}" if i else DEFAULTS, "settings": json.dumps(own)}
            row |= {"fold": fold, "validation_dice": value, "learned": True, "failed": None}
            row |= {"training_groups": n, "dice_on_other": value - elsewhere}
            rows.append(row)
    return pd.DataFrame(rows)


def test_where_more_specimens_bring_nothing_few_curves_show_a_gain():
    rng = np.random.default_rng(7)
    shown, inside = [], []
    for _ in range(300):
        difficulty = rng.normal(0, 0.05, 5)  # of the groups that a fold holds out
        dice = 0.8 + difficulty + rng.normal(0, 0.02, (5, 5))
        curve = learning_curve(curve_scores(dice, [1, 2, 4, 8]))
        own = curve[curve["tested_on"] == HELD_OUT]
        shown.append((own["effect"].dropna() != "not shown").any())
        inside.append(((own["dice_low"] <= 0.8) & (own["dice_high"] >= 0.8)).mean())
    assert np.mean(shown) <= 0.05
    assert np.mean(inside) >= 0.93


def test_a_rising_curve_is_shown_in_and_out_of_the_domain():
    rng = np.random.default_rng(8)
    dice = np.array([0.9, 0.6, 0.8, 0.9])[:, None] + rng.normal(0, 0.01, (4, 5))
    curve = learning_curve(curve_scores(dice, [2, 4, None], elsewhere=0.1))
    assert tuple(curve.columns) == CURVE_COLUMNS
    assert curve["amount"].tolist() == [2, 4, 8] * 2, "null is what a fold was trained on"
    own, other = (curve[curve["tested_on"] == name] for name in (HELD_OUT, "other"))
    assert own["dice"].tolist() == pytest.approx(dice[1:].mean(axis=1))
    assert other["dice"].tolist() == pytest.approx(dice[1:].mean(axis=1) - 0.1)
    assert own["effect"].tolist()[1:] == ["gain", "gain"]
    assert own["gain"].tolist()[1:] == pytest.approx((dice[2:] - dice[1]).mean(axis=1))
    assert [s.split(":")[0] for s in curve_sentences(curve)] == [HELD_OUT, "other"]
    assert "from 2 to 8 training groups the Dice rises" in curve_sentences(curve)[0]


def test_a_falling_and_a_flat_curve_are_not_said_to_rise():
    falling = np.array([[0.8], [0.8], [0.6]]) + np.linspace(0, 0.01, 5) * [[1], [1], [2]]
    assert "the Dice falls" in curve_sentences(learning_curve(curve_scores(falling, [1, 2])))[0]
    flat = np.tile(np.linspace(0.7, 0.9, 5), (3, 1))
    said, _ = curve_sentences(learning_curve(curve_scores(flat, [1, 2])))
    assert "shows neither gain nor loss (+0.000 [0.000, 0.000])" in said


def test_other_settings_have_curves_of_their_own_and_steps_are_an_axis():
    dice = np.random.default_rng(9).normal(0.8, 0.01, (3, 5))
    steps = "modelling.training.steps"
    one, two = (
        curve_scores(dice, [10, 20], key=steps, **{"modelling.training.crop_px": px})
        for px in (96, 128)
    )
    two["trial"] = two["trial"].where(two["trial"] == DEFAULTS, "1" + two["trial"])
    both = pd.concat([one, two[two["trial"] != DEFAULTS]], ignore_index=True)
    curve = learning_curve(both)
    assert curve["settings"].nunique() == 2
    assert set(curve["axis"]) == {"training steps"}
    assert curve["amount"].tolist() == [10, 20] * 4


def test_without_an_amount_that_is_varied_there_is_no_curve():
    assert learning_curve(scores([[0.8, 0.7], [0.9, 0.8]])).empty
    alone = learning_curve(curve_scores(np.full((2, 5), 0.8), [4]))
    assert alone.empty
    assert curve_sentences(alone) == []

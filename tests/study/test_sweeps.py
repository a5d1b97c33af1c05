"""The best of many equal trials is no better than the defaults, and a better one is."""

import json

import numpy as np
import pandas as pd
import pytest

from temshift.study.sweeps import DEFAULTS, best_sentence, rank_trials


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

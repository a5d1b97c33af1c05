"""Counts and ratios, with cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temshift.learning.evaluation import patch_counts
from temshift.learning.metrics import dice, scores


def test_counts_of_a_case_worked_by_hand():
    label = np.array([[1, 1, 0], [0, 0, 0]], dtype=np.uint8)
    probability = np.array([[0.9, 0.2, 0.8], [0.1, 0.0, 0.5]], dtype=np.float32)
    counts = patch_counts(probability, label)
    assert (counts["tp"], counts["fp"], counts["fn"], counts["tn"]) == (1, 1, 1, 3)


def test_scores_of_a_case_worked_by_hand():
    result = scores(tp=6, fp=2, fn=4)
    assert result["dice"] == pytest.approx(13 / 19)
    assert result["iou"] == pytest.approx(0.5)
    assert result["precision"] == pytest.approx(0.75)
    assert result["recall"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("tp", "fp", "fn", "precision", "recall", "iou"),
    [(0, 0, 0, 1, 1, 1), (0, 5, 0, 0, 0, 0), (0, 0, 5, 0, 0, 0)],
)
def test_zero_divisions_are_decided_in_the_open(tp, fp, fn, precision, recall, iou):
    result = scores(tp, fp, fn)
    assert (result["precision"], result["recall"], result["iou"]) == (precision, recall, iou)


def test_dice_of_two_empty_masks_is_one_and_false_alarms_cost():
    assert dice(0, 0, 0) == 1
    assert dice(0, 99, 0) == pytest.approx(0.01)


@given(*(st.integers(0, 10**6) for _ in range(3)))
def test_dice_is_between_zero_and_one_and_symmetric(tp, fp, fn):
    assert 0 < dice(tp, fp, fn) <= 1
    assert dice(tp, fp, fn) == dice(tp, fn, fp)

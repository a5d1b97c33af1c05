"""Gains of a learning curve that survive a null; which micrograph to label next."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temshift.study.few_labels import curve_sentences, curve_table, label_order

HELD = "held out"


def scores(gains, before=0.6, scatter=0.05, parts=5, seed=0, tested_on=HELD, each=2):
    """Scores of parts with two micrographs each; ``gains`` by number of labels."""
    rng = np.random.default_rng(seed)
    rows = []
    for part in range(parts):
        for one in range(each):
            own = before + rng.normal(0, scatter)
            for k, gain in {0: 0.0, **gains}.items():
                noise = rng.normal(0, scatter) if k else 0.0
                rows.append((tested_on, k, part, f"{part}-{one}", own + gain + noise))
    columns = ["tested_on", "labelled_micrographs", "part", "micrograph", "dice"]
    return pd.DataFrame(rows, columns=columns)


def test_a_gain_is_found_and_said_with_its_interval():
    table = curve_table(scores({1: 0.1, 4: 0.25}, scatter=0.01), 0.95)
    assert list(table["labelled_micrographs"]) == [0, 1, 4]
    row = table.iloc[-1]
    assert row["effect"] == "gain"
    assert row["gain_low"] < 0.25 < row["gain_high"]
    (sentence,) = curve_sentences(table, HELD)
    assert sentence.startswith("Labels of 4 micrographs raise the Dice on micrographs held out by")


def test_a_loss_is_said_to_be_one():
    table = curve_table(scores({2: -0.2}, scatter=0.01), 0.95)
    assert table.iloc[-1]["effect"] == "loss"
    assert "use the network as it was" in curve_sentences(table, HELD)[0]


def test_without_an_effect_hardly_a_curve_claims_one():
    claimed = 0
    for seed in range(80):
        table = curve_table(scores({1: 0.0, 2: 0.0, 4: 0.0}, seed=seed), 0.95)
        claimed += (table["effect"].isin(["gain", "loss"])).any()
        if not table["effect"].isin(["gain", "loss"]).any():
            assert curve_sentences(table, HELD)[0].startswith("No gain is shown")
    assert claimed <= 0.05 * 80


def test_one_part_has_no_interval_and_claims_nothing():
    table = curve_table(scores({1: 0.5}, parts=1), 0.95)
    assert table.iloc[-1]["effect"] == "not shown"
    assert "[no interval]" in curve_sentences(table, HELD)[0]


def test_a_cost_elsewhere_is_said_beside_what_is_not_known_here():
    table = curve_table(scores({3: -0.3}, scatter=0.01, tested_on="au_5nm"), 0.95)
    said = curve_sentences(table, HELD)
    assert "is not known" in said[0]
    assert "test set au_5nm, the Dice falls by 0.3" in said[1]


def test_first_comes_what_is_typical_and_its_likeness_waits():
    like = [9.0, 1.0, 1.1, 0.9, 1.2, 0.8, -3.0, -3.1, -2.9]  # one apart, five alike, three alike
    assert label_order([like]).tolist()[:3] == [1, 6, 0]


def test_of_those_that_are_all_alike_the_first_comes_first():
    assert label_order([[1.0, 1.0, 1.0]]).tolist() == [0, 1, 2]


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=12))
def test_each_next_one_covers_most_of_what_is_left(rows):
    features = list(np.array(rows).T)
    order = label_order(features)
    places = np.stack(
        [np.zeros_like(x) if x.std() == 0 else (x - x.mean()) / x.std() for x in features], axis=1
    )
    likeness = 1 / (1 + np.linalg.norm(places[:, None] - places, axis=2))

    def covered(chosen):
        return float(likeness[:, chosen].max(axis=1).sum())

    for i in range(len(order)):
        best = max(covered([*order[:i], j]) for j in range(len(order)) if j not in order[:i])
        assert covered(order[: i + 1]) == pytest.approx(best, abs=1e-9)


def test_of_hundreds_of_micrographs_only_the_first_are_chosen_by_what_they_cover():
    order = label_order([np.arange(200.0)])
    assert sorted(order.tolist()) == list(range(200))
    assert (np.diff(order[64:]) > 0).all()
    assert not (np.diff(order[:64]) > 0).all()


@pytest.mark.parametrize("n", [0, 1, 7])
def test_each_micrograph_stands_in_the_order_once_whatever_is_unknown(n):
    rng = np.random.default_rng(n)
    order = label_order([rng.normal(size=n), np.full(n, np.nan)])
    assert sorted(order.tolist()) == list(range(n))

import itertools

import numpy as np
import pandas as pd
import pytest
from tests import synthetic_study as synthetic

from temshift.config.reporting import ReportingParameters
from temshift.microscopy.fingerprints import fingerprint_distance
from temshift.study.explain import (
    ALL_STUDIES,
    COMPONENTS,
    explain_gaps,
    fingerprint_distances,
    fingerprint_table,
)
from temshift.study.statistics import compare_with_in_domain

PARAMETERS = ReportingParameters(permutations=200)


@pytest.fixture(scope="module")
def fingerprints():
    return {split: synthetic.split_fingerprint(split) for split in synthetic.METADATA}


@pytest.fixture(scope="module")
def distances(fingerprints):
    parameters = ReportingParameters()
    gaps = compare_with_in_domain(synthetic.results_table(), synthetic.plan(), parameters)
    return fingerprint_distances(gaps, synthetic.plan(), fingerprints)


def test_every_default_network_has_its_distances(distances, fingerprints):
    pairs = set(zip(distances["train_split"], distances["test_split"], strict=True))
    assert len(pairs) == 6 + 2
    assert "high_noise" not in set(distances["train_split"])
    row = distances[
        (distances["train_split"] == "high")
        & (distances["test_split"] == "low")
        & (distances["component"] == "noise")
    ].iloc[0]
    expected = fingerprint_distance(fingerprints["high"], fingerprints["low"])["noise"]
    assert row["distance"] == expected
    assert row["gap"] == pytest.approx(0.39, abs=0.05)


def test_components_known_here_are_those_of_the_distance(fingerprints):
    given = fingerprint_distance(fingerprints["high"], fingerprints["low"])
    assert set(given) == set(COMPONENTS)


def test_noise_goes_along_with_the_dose_gaps(distances, fingerprints):
    explanation = explain_gaps(distances, fingerprints, ReportingParameters()).set_index(
        ["scope", "component"]
    )
    assert explanation.loc[("dose", "noise"), "rho"] > 0.5
    assert explanation.loc[("dose", "noise"), "n_pairs"] == 6
    assert explanation.loc[("dose", "noise"), "n_distances"] == 3  # distances are symmetric
    assert explanation.loc[(ALL_STUDIES, "noise"), "n_pairs"] == 8
    assert np.isnan(explanation.loc[("material", "noise"), "rho"])  # two pairs say nothing


def of_noise(**noise):
    """Fingerprints that differ in nothing but their noise."""
    one = synthetic.split_fingerprint("mid")
    return {split: {**one, "noise": value} for split, value in noise.items()}


def pairs(fingerprints, gap):
    """Distances of all ordered pairs, with a gap for each."""
    rows = [
        {
            "study": "s",
            "protocol": "grouped",
            "train_split": a,
            "test_split": b,
            "component": component,
            "distance": distance,
            "gap": value,
        }
        for (a, b), value in ((p, gap(*p)) for p in itertools.permutations(fingerprints, 2))
        for component, distance in fingerprint_distance(fingerprints[a], fingerprints[b]).items()
        if distance is not None
    ]
    return pd.DataFrame(rows)


def test_rank_correlation_worked_by_hand():
    fingerprints = of_noise(a=1.0, b=2.0, c=4.0, d=8.0)
    table = pairs(fingerprints, lambda a, b: 0.0)
    table = table[table["component"] == "noise"].iloc[[0, 4, 8, 9]]  # a–b, b–c, c–d and back: 1 2 4
    table = table.assign(distance=[1.0, 2.0, 3.0, 4.0], gap=[0.1, 0.3, 0.2, 0.9])
    # ranks 1 2 3 4 against 1 3 2 4: 1 − 6 · 2 / (4 · 15)
    explanation = explain_gaps(table, fingerprints, PARAMETERS)
    assert explanation["rho"].tolist() == pytest.approx([0.8, 0.8])
    equal = explain_gaps(table.assign(distance=1.0), fingerprints, PARAMETERS)
    assert equal[["rho", "p_value"]].isna().all(axis=None)


def test_permutations_worked_by_hand():
    """Of the 24 orders of four splits at unequal distances, only the right one fits."""
    noise = {"a": 1.0, "b": 2.0, "c": 8.0, "d": 64.0}
    fingerprints = of_noise(**noise)
    table = pairs(fingerprints, lambda a, b: abs(np.log(noise[a] / noise[b])))
    row = explain_gaps(table, fingerprints, PARAMETERS).set_index(["scope", "component"])
    row = row.loc[("s", "noise")]
    assert row["rho"] == pytest.approx(1)
    assert row["p_value"] == pytest.approx(1 / 24)


def test_three_splits_never_say_more_than_chance():
    noise = {"a": 1.0, "b": 2.0, "c": 8.0}
    fingerprints = of_noise(**noise)
    table = pairs(fingerprints, lambda a, b: abs(np.log(noise[a] / noise[b])))
    assert explain_gaps(table, fingerprints, PARAMETERS)["p_value"].min() >= 1 / 6


def test_gaps_without_order_are_rarely_said_to_have_one(rng):
    """All components at once, gaps that belong to networks and sets: at most 5 % of studies."""
    said, one = 0, synthetic.split_fingerprint("mid")
    for _ in range(60):
        fingerprints = {}
        for split in "abcde":
            changed = {k: v * rng.uniform(0.5, 2) for k, v in one.items() if isinstance(v, float)}
            fingerprints[split] = {**one, **changed}
        network, tested = (dict(zip("abcde", rng.normal(size=5), strict=True)) for _ in range(2))
        table = pairs(fingerprints, lambda a, b, n=network, t=tested: n[a] + t[b] + rng.normal())
        said += explain_gaps(table, fingerprints, PARAMETERS)["p_value"].min() <= 0.05
    assert said <= 3 + 3.1 * np.sqrt(60 * 0.05 * 0.95)


def test_permutations_repeat_with_their_seed():
    fingerprints = of_noise(**{f"s{i}": float(i**2) for i in range(8)})
    table = pairs(fingerprints, lambda a, b: float(int(a[1]) * 3 % 5 + int(b[1])))
    first, again = (explain_gaps(table, fingerprints, PARAMETERS) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    other = ReportingParameters(permutation_seed=8)
    assert not first.equals(explain_gaps(table, fingerprints, other))


def test_pair_in_two_studies_counts_once(distances, fingerprints):
    twice = pd.concat([distances, distances.assign(study="again")])
    explanation = explain_gaps(twice, fingerprints, ReportingParameters()).set_index(
        ["scope", "component"]
    )
    assert explanation.loc[(ALL_STUDIES, "noise"), "n_pairs"] == 8


def test_fingerprint_table(fingerprints):
    table = fingerprint_table(fingerprints).set_index("split")
    assert table.index.tolist() == list(fingerprints)
    assert table.loc["low", "noise"] == fingerprints["low"]["noise"]
    assert table.loc["low", "autocorrelation_1_0"] == fingerprints["low"]["autocorrelation"]["1,0"]
    assert "power_spectrum" not in table


def test_nothing_to_explain():
    empty = pd.DataFrame(columns=["study", "protocol", "network", "test_split", "gap", "reason"])
    distances = fingerprint_distances(empty, synthetic.plan(), {})
    assert explain_gaps(distances, {}, ReportingParameters()).empty


def test_distances_that_are_equal_but_for_rounding_are_tied(fingerprints):
    """Else the order as it is need not be among the permutations, and p could be 0."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        prints = of_noise(**dict(zip("abc", rng.uniform(1, 2, 3), strict=True)))
        table = pairs(prints, lambda train, test: float(rng.normal()))
        rounded = table.assign(distance=table["distance"] + rng.choice([-1, 1], len(table)) * 1e-15)
        for part in (table, rounded):
            found = explain_gaps(part, prints, PARAMETERS)
            assert (found["p_value"].dropna() > 0).all()
        assert explain_gaps(rounded, prints, PARAMETERS).equals(
            explain_gaps(table, prints, PARAMETERS)
        )

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


@pytest.fixture(scope="module")
def fingerprints():
    return {split: synthetic.split_fingerprint(split) for split in synthetic.METADATA}


@pytest.fixture(scope="module")
def distances(fingerprints):
    parameters = ReportingParameters(bootstrap=100)
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


def test_noise_goes_along_with_the_dose_gaps(distances):
    explanation = explain_gaps(distances).set_index(["scope", "component"])
    assert explanation.loc[("dose", "noise"), "rho"] > 0.5
    assert explanation.loc[("dose", "noise"), "n_pairs"] == 6
    assert explanation.loc[("dose", "noise"), "n_distances"] == 3  # distances are symmetric
    assert explanation.loc[(ALL_STUDIES, "noise"), "n_pairs"] == 8
    assert np.isnan(explanation.loc[("material", "noise"), "rho"])  # two pairs say nothing


def test_rank_correlation_worked_by_hand():
    table = pd.DataFrame(
        {
            "study": "s",
            "protocol": "grouped",
            "train_split": list("abcd"),
            "test_split": list("bcda"),
            "component": "noise",
            "distance": [1.0, 2.0, 3.0, 4.0],
            "gap": [0.1, 0.3, 0.2, 0.9],
        }
    )
    # ranks 1 2 3 4 against 1 3 2 4: 1 − 6 · 2 / (4 · 15)
    assert explain_gaps(table)["rho"].tolist() == pytest.approx([0.8, 0.8])
    assert explain_gaps(table.assign(distance=1.0))["rho"].isna().all()


def test_pair_in_two_studies_counts_once(distances):
    twice = pd.concat([distances, distances.assign(study="again")])
    explanation = explain_gaps(twice).set_index(["scope", "component"])
    assert explanation.loc[(ALL_STUDIES, "noise"), "n_pairs"] == 8


def test_fingerprint_table(fingerprints):
    table = fingerprint_table(fingerprints).set_index("split")
    assert table.index.tolist() == list(fingerprints)
    assert table.loc["low", "noise"] == fingerprints["low"]["noise"]
    assert table.loc["low", "autocorrelation_1_0"] == fingerprints["low"]["autocorrelation"]["1,0"]
    assert "power_spectrum" not in table


def test_nothing_to_explain():
    empty = pd.DataFrame(columns=["study", "protocol", "network", "test_split", "gap"])
    assert explain_gaps(fingerprint_distances(empty, synthetic.plan(), {})).empty

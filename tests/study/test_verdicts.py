import numpy as np
import pandas as pd
import pytest

from temshift.config.reporting import ReportingParameters
from temshift.study.verdicts import (
    classify,
    folds_to_decide,
    judge,
    study_verdict,
    surely_above,
    surest,
)

PARAMETERS = ReportingParameters(degrades_above=0.03, breaks_above=0.15)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.05, 0.02, "robust"),
        (0.04, 0.1, "degrades"),
        (0.16, 0.5, "breaks"),
        (0.01, 0.1, "robust or degrades"),
        (0.1, 0.3, "degrades or breaks"),
        (0.0, 0.4, "undecided"),
        (np.nan, np.nan, "undecided"),
    ],
)
def test_verdict_needs_the_whole_interval(low, high, verdict):
    assert classify(low, high, PARAMETERS) == verdict


def gaps(*rows):
    defaults = {
        "protocol": "grouped",
        "reference_protocol": "grouped",
        "network": "guest",
        "test_split": "own",
        "gap": 0.0,
        "low": -0.01,
        "high": 0.01,
        "p_value": 1.0,
        "standard_error": 0.005,
        "df": 20.0,
        "n_folds": 3,
        "own_failure": "",
        "failure": "",
        "guest": True,
        "verdict": "robust",
        "reason": "",
    }
    return pd.DataFrame([{**defaults, **row} for row in rows])


BETTER = {"gap": -0.05, "low": -0.06, "high": -0.04, "p_value": 1e-4}


def test_a_better_guest_leaves_its_whole_column_without_a_standard():
    judged = judge(gaps({"network": "a", **BETTER}, {"network": "b"}), PARAMETERS)
    assert judged["verdict"].tolist() == ["reference weak"] * 2
    assert set(judged["reason"]) == {"a is better there by 0.05 [0.04, 0.06]"}
    elsewhere = judge(gaps({"network": "a", **BETTER}, {"test_split": "other"}), PARAMETERS)
    assert elsewhere["verdict"].tolist() == ["reference weak", "robust"]


@pytest.mark.parametrize(
    "row",
    [
        {**BETTER, "guest": False},  # trained on the set too, only better: no weakness
        {**BETTER, "p_value": 0.03},  # not sure among three guests
        {**BETTER, "gap": -0.02, "low": -0.03, "high": -0.01},  # less than counts as a loss
    ],
)
def test_what_does_not_make_a_reference_weak(row):
    judged = judge(gaps({"network": "a", **row}, {"network": "b"}, {"network": "c"}), PARAMETERS)
    assert set(judged["verdict"]) == {"robust"}


def test_an_imported_guest_counts_for_the_protocol_of_the_reference():
    judged = judge(
        gaps({"network": "imported", "protocol": "published", **BETTER}, {"network": "b"}),
        PARAMETERS,
    )
    assert set(judged["verdict"]) == {"reference weak"}


def test_failures_are_named():
    judged = judge(
        gaps({"own_failure": "fold 0 did not learn"}, {"failure": "fold 1 did not learn"}),
        PARAMETERS,
    )
    assert judged["verdict"].tolist() == ["reference weak", "undecided"]
    assert judged["reason"].tolist() == ["fold 0 did not learn", "fold 1 did not learn"]


def test_no_gaps_no_verdicts():
    assert judge(gaps().reindex(columns=gaps({}).columns), PARAMETERS).empty


@pytest.mark.parametrize(
    ("verdicts", "of_study"),
    [
        (["breaks", "undecided"], "breaks"),
        (["robust", "robust"], "robust"),
        (["robust", "undecided"], "undecided"),
        (["robust", "robust or degrades"], "robust or degrades"),
        (["robust", "reference weak"], "undecided"),
        (["reference weak"], "reference weak"),
        (["degrades", "reference weak"], "degrades"),
    ],
)
def test_a_study_is_its_surest_loss_and_robust_only_as_a_whole(verdicts, of_study):
    lows = {"breaks": 0.2, "degrades": 0.04, "robust": -0.005, "reference weak": 0.5}
    found = {"breaks": 0.3, "degrades": 0.08}
    reasons = {"reference weak": "a fold reaches only 0.1"}
    rows = [
        {
            "verdict": v,
            "low": lows.get(v, -0.1),
            "gap": found.get(v, 0.0),
            "reason": reasons.get(v, ""),
        }
        for v in verdicts
    ]
    assert study_verdict(gaps(*rows), PARAMETERS) == of_study


def test_the_loss_that_is_spoken_of_stands_the_number_of_shifts():
    """A loss that is one by itself is none that twenty shifts were searched for."""
    one = {"gap": 0.05, "standard_error": 0.01, "df": 20.0, "low": 0.029, "verdict": "degrades"}
    others = [{"gap": 0.0, "standard_error": 0.01, "verdict": "robust"}] * 19
    assert study_verdict(gaps(one), PARAMETERS) == "degrades"
    assert study_verdict(gaps(one, *others), PARAMETERS) == "robust or degrades"
    large = {**one, "gap": 0.3, "low": 0.28, "verdict": "breaks"}
    assert study_verdict(gaps(large, *others), PARAMETERS) == "breaks"
    # surely a loss, but that it breaks is not sure among so many
    near = {**one, "gap": 0.17, "low": 0.149, "verdict": "breaks"}
    assert study_verdict(gaps(near), PARAMETERS) == "breaks"
    assert study_verdict(gaps(near, *others), PARAMETERS) == "degrades or breaks"


def test_what_was_not_judged_is_surely_above_nothing():
    failed = {"gap": 0.5, "verdict": "undecided", "reason": "fold 1 did not learn"}
    table = gaps(failed, {"gap": 0.5, "verdict": "breaks"}, {"standard_error": np.nan})
    assert surely_above(table, 0.15, PARAMETERS).tolist() == [False, True, False]


def test_the_surest_loss_has_the_largest_lower_end():
    table = gaps({"gap": 0.3, "low": 0.0}, {"gap": 0.1, "low": 0.08}, {"gap": 0.5, "low": np.nan})
    assert surest(table)["gap"] == 0.1
    assert surest(table.assign(low=np.nan))["gap"] == 0.5  # no interval at all


def test_folds_that_would_decide():
    rows = gaps(
        {"gap": 0.02, "standard_error": 0.01, "df": 2.0, "verdict": "robust or degrades"},
        {"gap": 0.03, "verdict": "robust or degrades"},  # on the limit: nothing decides it
        {"verdict": "robust"},
        {"verdict": "undecided", "reason": "fold 1 did not learn"},
        {"verdict": "undecided", "standard_error": np.nan},
    )
    few, on_limit, *rest = folds_to_decide(rows, PARAMETERS)
    assert 3 < few < 60
    assert on_limit == np.inf
    assert np.isnan(rest).all()


def test_a_verdict_rests_on_one_sided_bounds():
    # t of 20 df: 1.725 one-sided, 2.086 two-sided
    error = {"standard_error": 0.01, "df": 20.0}
    rows = [
        {"gap": 0.012, "low": -0.009, "high": 0.033, **error},  # upper bound 0.029
        {"gap": 0.013, "low": -0.008, "high": 0.034, **error},  # 0.030
        {"gap": 0.050, "low": 0.029, "high": 0.071, **error},  # 0.033 to 0.067
        {"gap": 0.168, "low": 0.147, "high": 0.189, **error},  # 0.151
        {"gap": 0.100, "low": np.nan, "high": np.nan, "standard_error": np.nan, "df": 1.0},
    ]
    judged = judge(gaps(*rows), PARAMETERS)
    assert judged["bound_high"].iloc[0] == pytest.approx(0.012 + 1.7247 * 0.01, abs=1e-5)
    assert judged["verdict"].tolist() == [
        "robust",
        "robust or degrades",
        "degrades",
        "breaks",
        "undecided",
    ]


def test_no_loss_is_called_one_whose_interval_holds_0():
    wide = {"gap": 0.4, "low": -0.02, "high": 0.82, "standard_error": 0.2, "df": 20.0}
    judged = judge(gaps(wide), PARAMETERS)
    assert judged["bound_low"].iloc[0] > PARAMETERS.degrades_above
    assert judged["verdict"].tolist() == ["undecided"]

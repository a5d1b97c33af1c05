import copy
import dataclasses

import pytest
from tests import synthetic_study as synthetic

from temshift.reporting.sentences import (
    condition,
    explanation_sentence,
    headlines,
    number,
    paper_checks,
    with_interval,
)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(0.456, 2, "0.46"), (-0.456, 2, "−0.46"), (-0.001, 2, "0.00"), (float("nan"), 2, "–")],
)
def test_numbers(value, digits, text):
    assert number(value, digits) == text


def test_interval_in_brackets():
    assert with_interval(0.456, 0.4, 0.512) == "0.46 [0.40, 0.51]"
    assert with_interval(0.456, float("nan"), float("nan")) == "0.46"


def test_conditions_are_named_by_what_the_study_varies(content):
    assert condition(content, "dose", "high") == "884 e/Å²"
    assert condition(content, "material", "silver") == "Ag"


def test_equal_or_missing_values_fall_back_to_names():
    metadata = copy.deepcopy(synthetic.METADATA)
    metadata["low"]["dose_e_per_A2"] = 423
    metadata["high"]["dose_e_per_A2"] = None
    content = synthetic.report_content(metadata=metadata)
    assert [condition(content, "dose", s) for s in ("low", "mid", "high")] == ["low", "mid", "high"]


def test_headlines_say_how_much_with_interval_and_verdict(content):
    dose, material = headlines(content)
    assert (dose.study, dose.title, dose.verdict) == ("dose", "Dose", "breaks")
    assert dose.text.startswith("A network trained at 884 e/Å² loses 0.3")
    assert "] Dice at 80 e/Å² (the network trained there reaches 0.8" in dose.text
    assert dose.tally.startswith("Of 6 shifts, ")
    assert dose.remedy.startswith("high_noise changes Dice there by +0.3")
    assert dose.caveat == ""
    assert material.remedy == ""
    assert "differ in session" in material.caveat


def test_no_loss_is_said_as_such():
    dice = {**synthetic.DICE, ("mid", "silver"): 0.95, ("silver", "mid"): 0.95}
    finding = headlines(synthetic.report_content(synthetic.results_table(dice)))[1]
    assert finding.text.startswith("No network loses Dice; one trained on ")


def by_claim(content):
    names = ("dose", "magnification", "material", "in-domain")
    return dict(zip(names, paper_checks(content), strict=True))


def test_the_published_findings_are_seen_where_they_are(content):
    checks = by_claim(content)
    assert checks["dose"].status == "visible"
    assert "884 e/Å² loses 0.3" in checks["dose"].evidence
    assert checks["magnification"].status == "not tested"
    assert checks["material"].status == "visible"
    assert checks["in-domain"].status == "visible"


def test_the_published_findings_are_not_claimed_where_they_are_not():
    dice = dict.fromkeys(synthetic.DICE, 0.9)
    dice |= {("mid", "silver"): 0.4, ("silver", "mid"): 0.4, ("mid", "mid"): 0.75}
    checks = by_claim(synthetic.report_content(synthetic.results_table(dice)))
    assert checks["dose"].status == "not visible"
    assert checks["material"].status == "not visible"
    assert checks["in-domain"].status == "partly visible"
    assert "Not so for mid (0.7" in checks["in-domain"].evidence


def test_networks_that_have_learned_nothing_are_called_so():
    dice = dict.fromkeys(synthetic.DICE, 0.3)
    finding = headlines(synthetic.report_content(synthetic.results_table(dice)))[0]
    assert finding.caveat.startswith("In-domain Dice is only 0.")
    assert "on low, 0." in finding.caveat
    assert finding.caveat.endswith("verdicts on these sets say little.")


def test_a_wide_interval_leaves_a_finding_open():
    results = synthetic.results_table(dict.fromkeys(synthetic.DICE, 0.8), noise=0.15, groups=3)
    assert by_claim(synthetic.report_content(results))["dose"].status == "unclear"


def test_magnification_counts_cells_off_the_diagonal():
    parameters = copy.deepcopy(synthetic.PARAMETERS)
    parameters["studies"] = {
        "magnification": {"varies": "pixel_size_nm", "splits": ["mid", "high"]}
    }
    metadata = copy.deepcopy(synthetic.METADATA)
    metadata["high"]["pixel_size_nm"] = 0.042
    dice = {("mid", "mid"): 0.9, ("mid", "high"): 0.5, ("high", "mid"): 0.9, ("high", "high"): 0.9}
    parameters["networks"] = {}
    content = synthetic.report_content(synthetic.results_table(dice), parameters, metadata)
    check = by_claim(content)["magnification"]
    assert check.status == "visible"
    assert check.evidence.startswith("1 of 2 cells off the diagonal lose")
    assert "trained at 0.020 nm/px loses 0.4" in check.evidence


def test_explanations_are_cautious(content):
    text = explanation_sentence(content, "dose")
    assert text.startswith("The losses are ordered best by the distance in ")
    assert "over 6 pairs" in text
    assert "not what causes it" in explanation_sentence(content)
    assert explanation_sentence(content, "material") == ""  # two pairs say nothing


def test_weak_correlations_are_called_weak(content):
    weak = dataclasses.replace(content, explanation=content.explanation.assign(rho=0.2))
    assert "No single component" in explanation_sentence(weak)
    none = dataclasses.replace(content, explanation=content.explanation.iloc[:0])
    assert explanation_sentence(none).startswith("Too few pairs")

import copy
import dataclasses

import pytest
from tests import synthetic_study as synthetic

from temshift.config.reporting import ReportingParameters
from temshift.reporting.sentences import (
    both_ways_sentence,
    condition,
    explanation_sentence,
    first_sentences,
    headlines,
    limits,
    number,
    paper_checks,
    separation_notes,
    unseen,
    with_interval,
)
from temshift.study.statistics import compare_with_in_domain


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
    quiet = synthetic.results_table(
        dict.fromkeys(synthetic.DICE, 0.9), noise=0.002, folds=6, groups=12
    )
    finding = headlines(synthetic.report_content(quiet))[0]
    assert finding.verdict == "robust"
    assert finding.text.startswith("No shift costs more than 0.03 Dice;")
    noisy = synthetic.results_table(dict.fromkeys(synthetic.DICE, 0.8), noise=0.08)
    finding = headlines(synthetic.report_content(noisy))[0]
    assert finding.verdict == "undecided"
    assert finding.text.startswith("No loss is sure; nearest to one: a network trained at ")


def test_the_headline_is_the_surest_loss_not_the_largest(content):
    """One shift loses most, by a network whose folds differ; another less, but for sure."""
    gaps = content.gaps.copy()
    dose = (gaps["study"] == "dose") & gaps["network"].isin(["mid", "high"])
    large = dose & (gaps["network"] == "high") & (gaps["test_split"] == "mid")
    gaps.loc[large, ["gap", "low", "high", "verdict"]] = [0.5, 0.01, 0.99, "undecided"]
    finding = headlines(dataclasses.replace(content, gaps=gaps))[0]
    assert "at 80 e/Å²" in finding.text
    assert finding.verdict == "breaks"


def test_a_loss_that_may_be_one_of_many_by_chance_is_called_so(content):
    gaps = content.gaps.copy()
    dose = gaps["study"] == "dose"
    columns = ["gap", "low", "high", "p_value", "p_holm", "verdict"]
    gaps.loc[dose, columns] = [0.01, -0.02, 0.04, 0.4, 1.0, "robust or degrades"]
    gaps.loc[gaps[dose].index[0], columns] = [0.06, 0.01, 0.11, 0.02, 0.18, "robust or degrades"]
    finding = headlines(dataclasses.replace(content, gaps=gaps))[0]
    assert finding.verdict == "robust or degrades"
    assert "among 9 comparisons that may be chance (p = 0.18" in finding.text


def test_power_says_what_could_have_been_seen_and_what_would_decide(content):
    noisy = synthetic.report_content(
        synthetic.results_table(dict.fromkeys(synthetic.DICE, 0.8), noise=0.04)
    )
    finding = headlines(noisy)[0]
    gaps = noisy.default_gaps("dose")
    assert f"would see a loss of {gaps['detectable'].median():.2f} Dice" in finding.power
    assert "open shift" in finding.power
    assert "folds with" in finding.power
    assert "specimens" in finding.power
    decided = content.gaps.assign(folds_to_decide=float("nan"))
    assert "open" not in headlines(dataclasses.replace(content, gaps=decided))[0].power


# ------------------------------------------------------------------ weak references
def with_learned(results, network, fold, learned=False):
    flags = results.assign(learned=True)
    failed = (flags["network"] == network) & (flags["fold"] == fold)
    flags.loc[failed, "learned"] = learned
    return flags


def test_nothing_is_robust_against_a_reference_that_failed():
    """A fold of the network of ``low`` is flagged: no loss at 80 e/Å² is judged, others are."""
    dice = {**dict.fromkeys(synthetic.DICE, 0.9)}
    results = synthetic.results_table(dice, noise=0.002)
    sound = synthetic.report_content(with_learned(results, "low", 1, learned=True))
    assert set(sound.default_gaps("dose")["verdict"]) == {"robust"}
    content = synthetic.report_content(with_learned(results, "low", 1))
    gaps = content.default_gaps("dose").set_index(["network", "test_split"])
    assert set(gaps.loc[(slice(None), "low"), "verdict"]) == {"reference weak"}
    assert set(gaps.loc[(slice(None), "low"), "point_verdict"]) == {"reference weak"}
    assert gaps.loc[("low", "mid"), "verdict"] == "undecided"  # it is the one that failed
    assert gaps.loc[("high", "mid"), "verdict"] == "robust"
    finding = headlines(content)[0]
    assert finding.verdict != "robust"
    assert "2 have a weak reference" in finding.tally
    assert "Losses at 80 e/Å² are not judged: fold 1 of low did not learn." in finding.caveat
    assert "Fold 1 of low did not learn: its losses are not judged." in finding.caveat


def test_a_guest_that_is_surely_better_makes_the_reference_weak():
    dice = {**synthetic.DICE, ("mid", "silver"): 0.95, ("silver", "mid"): 0.95}
    finding = headlines(synthetic.report_content(synthetic.results_table(dice)))[1]
    assert finding.verdict == "reference weak"
    assert finding.text.startswith("No shift can be judged")
    assert "mid is better there by 0.0" in finding.caveat


def test_a_guest_that_is_better_by_chance_does_not():
    """Of twelve guests without any difference, some look better in most studies."""
    weak = 0
    for seed in range(30):
        results = synthetic.results_table(
            dict.fromkeys(synthetic.DICE, 0.85), noise=0.04, fold_sd=0.04, seed=seed
        )
        gaps = compare_with_in_domain(results, synthetic.plan(), ReportingParameters())
        weak += (gaps["verdict"] == "reference weak").any()
    assert weak <= 5


# ------------------------------------------------------------------ training and test apart
def test_specimens_on_both_sides_are_said(content):
    assert separation_notes(content) == []
    assert unseen(content) == "specimens that it has not seen"
    divided = content.results.assign(specimen_id=content.results["specimen_id"].str[:-1] + "x")
    apart = dataclasses.replace(content, results=divided)
    (note,) = separation_notes(apart)
    assert note.startswith("1 of 1 specimens have micrographs on both sides")
    assert "specimens" not in unseen(apart)


@pytest.mark.parametrize("missing", ["", None])
def test_missing_specimens_are_said(content, missing):
    alone = content.results["micrograph_id"]  # such a micrograph is a group by itself
    results = content.results.assign(specimen_id=missing, group=alone)
    (note,) = separation_notes(dataclasses.replace(content, results=results))
    assert note.startswith("No specimen is named")
    some = content.results.copy()
    first = some["micrograph_id"] == "mid/0"
    some.loc[first, "specimen_id"], some.loc[first, "group"] = missing, "mid/0"
    partly = dataclasses.replace(content, results=some)
    assert separation_notes(partly)[0].startswith("1 of 24 micrographs name no specimen")
    assert unseen(partly) == "micrographs that it has not seen"


def test_the_published_protocol_shares_micrographs():
    content = synthetic.report_content(synthetic.results_table(protocol="published"))
    assert "Patches of one micrograph stand in training and in test" in separation_notes(content)[0]
    assert unseen(content) == "patches that it was not trained on"


# ------------------------------------------------------------------ the published findings
def by_claim(content):
    names = ("dose", "magnification", "material", "in-domain")
    return dict(zip(names, paper_checks(content), strict=True))


def test_the_published_findings_are_seen_where_they_are(content):
    checks = by_claim(content)
    assert checks["dose"].status == "visible"
    assert "884 e/Å² loses 0.3" in checks["dose"].evidence
    assert checks["magnification"].status == "not tested"
    assert checks["in-domain"].status == "visible"


def test_small_gaps_are_only_seen_if_all_are_robust():
    """Never beside a shift that degrades, and not where the intervals are wide."""
    dice = {**dict.fromkeys(synthetic.DICE, 0.9)}
    exact = {"noise": 0.004, "folds": 6, "groups": 12}
    content = synthetic.report_content(synthetic.results_table(dice, **exact))
    assert by_claim(content)["material"].status == "visible"
    wide = synthetic.report_content(synthetic.results_table(dice, noise=0.05))
    assert by_claim(wide)["material"].status == "unclear"
    one = {**dice, ("mid", "silver"): 0.8}
    degrades = synthetic.report_content(synthetic.results_table(one, **exact))
    assert "degrades" in set(degrades.default_gaps("material")["verdict"])
    assert by_claim(degrades)["material"].status == "partly visible"


def test_the_published_findings_are_not_claimed_where_they_are_not():
    dice = dict.fromkeys(synthetic.DICE, 0.9)
    dice |= {("mid", "silver"): 0.4, ("silver", "mid"): 0.4, ("mid", "mid"): 0.75}
    checks = by_claim(synthetic.report_content(synthetic.results_table(dice, noise=0.01)))
    assert checks["dose"].status == "not visible"
    assert checks["material"].status == "not visible"
    assert checks["in-domain"].status == "partly visible"
    assert "Not so for mid (0.7" in checks["in-domain"].evidence


def test_networks_that_have_learned_nothing_are_called_so():
    dice = dict.fromkeys(synthetic.DICE, 0.3)
    finding = headlines(synthetic.report_content(synthetic.results_table(dice)))[0]
    assert finding.verdict == "reference weak"
    assert "Losses at 884 e/Å² are not judged: a fold of high reaches only 0." in finding.caveat
    assert "In-domain Dice is only 0." in finding.caveat
    assert finding.power == ""
    assert "on low, 0." in finding.caveat
    assert finding.caveat.endswith("verdicts on these sets say little.")


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        ("robust or degrades", "unclear"),
        ("degrades", "partly visible"),
        ("degrades or breaks", "partly visible"),
        ("breaks", "visible"),
    ],
)
def test_a_loss_at_low_dose_is_only_seen_where_its_verdict_says_so(content, verdict, status):
    """One that is larger than the limit by its estimate alone may be smaller."""
    gaps = content.gaps.copy()
    there = (gaps["study"] == "dose") & (gaps["network"] == "high") & (gaps["test_split"] == "low")
    columns = ["gap", "low", "high", "p_value", "p_holm", "verdict"]
    gaps.loc[there, columns] = [0.04, 0.01, 0.07, 0.01, 0.09, verdict]
    check = by_claim(dataclasses.replace(content, gaps=gaps))["dose"]
    assert check.status == status
    assert check.evidence.endswith(f": {verdict}.")


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
    assert check.evidence.startswith("1 of 2 cells off the diagonal surely lose")
    assert "trained at 0.020 nm/px loses 0.4" in check.evidence


def test_explanations_are_cautious(content):
    sure = content.explanation.assign(p_value=content.explanation["rho"].map(lambda r: 1 - r))
    sure.loc[sure["rho"] > 0.5, "p_value"] = 0.02
    told = dataclasses.replace(content, explanation=sure)
    text = explanation_sentence(told, "dose")
    assert text.startswith("The losses are ordered best by the distance in ")
    assert "over 6 pairs of image sets (p = 0.020, corrected" in text
    assert "not what causes it" in explanation_sentence(told)
    assert explanation_sentence(told, "material") == ""  # two pairs say nothing


def test_a_weak_order_is_not_said_to_be_chance(content):
    """ρ = 0.50 with p = 0.04 was said to order the losses no better than chance may."""
    order = content.explanation.assign(rho=0.4986, p_value=0.044)
    text = explanation_sentence(dataclasses.replace(content, explanation=order))
    assert text.startswith("No component orders the losses clearly, by a ρ of 0.5 or more")
    assert "chance" not in text
    assert "p = 0.04" in text


def test_networks_that_are_trained_otherwise_are_named_where_they_matter(content):
    """Such a network was compared with the others of its study without a word."""
    assert not any("trained alike" in finding.caveat for finding in headlines(content))
    parameters = copy.deepcopy(synthetic.PARAMETERS)
    own = {"train_on": ["low"], "training": {"steps": 600, "crop_px": 64}}
    parameters["networks"]["low"] = own
    unlike = synthetic.report_content(parameters=parameters)
    caveats = {finding.study: finding.caveat for finding in headlines(unlike)}
    said = "Networks are not trained alike: low (training.steps 600, training.crop_px 64)."
    assert said in caveats["dose"]
    assert "alike" not in caveats["material"]
    said = [limit for limit in limits(unlike) if "not trained alike" in limit]
    assert said == [
        "In Dose the networks of the sets are not trained alike: a loss there may come from that."
    ]
    assert not any("not trained alike" in limit for limit in limits(content))


def test_nothing_that_was_not_judged_is_called_unbroken(content):
    """Of a run whose networks had all failed it was said that no shift breaks one, and that more
    data would not help."""
    failed = content.gaps.assign(verdict="reference weak", reason="a fold reaches only 0.1")
    (_, first), (_, second), (_, last) = first_sentences(dataclasses.replace(content, gaps=failed))
    assert first.startswith("No shift can be judged (")
    assert second.startswith("No shift surely")
    assert last.endswith("because a network failed or is no standard).")
    some = content.gaps.copy()
    some["verdict"], some["reason"] = "robust", ""
    some.loc[some.index[0], ["verdict", "reason"]] = ["reference weak", "a fold reaches only 0.1"]
    total = len(content.default_gaps("dose")) + len(content.default_gaps("material"))
    first = first_sentences(dataclasses.replace(content, gaps=some))[0][1]
    assert first.startswith(f"No shift of the {total - 1} of {total} that can be judged is sure")


def test_orders_that_chance_may_give_are_not_spoken_of(content):
    """Three splits have six orders: even a perfect one says nothing."""
    text = explanation_sentence(content, "dose")
    assert text.startswith("No component orders the losses better than chance may (over 6 pairs")
    weak = dataclasses.replace(content, explanation=content.explanation.assign(rho=0.2))
    assert "No component" in explanation_sentence(weak)
    none = dataclasses.replace(content, explanation=content.explanation.iloc[:0])
    assert explanation_sentence(none).startswith("Too few pairs")


# ------------------------------------------------------------------ what failed or is unknown
def all_failed(results, network):
    return results.assign(learned=results["learned"] & (results["network"] != network))


def test_the_loss_of_a_training_that_failed_is_no_finding():
    content = synthetic.report_content(all_failed(synthetic.results_table(), "high"))
    finding = headlines(content)[0]
    gaps = content.default_gaps("dose")
    assert gaps.sort_values("low").iloc[-1]["network"] == "high", "the largest by far"
    assert "trained at 884" not in finding.text
    assert finding.remedy == ""
    assert "of high did not learn: its losses are not judged" in finding.caveat
    only = {**synthetic.PARAMETERS["studies"]["dose"], "splits": ["low", "high"]}
    parameters = {**synthetic.PARAMETERS, "studies": {"dose": only}}
    results = all_failed(all_failed(synthetic.results_table(), "high"), "low")
    none = headlines(synthetic.report_content(results, parameters))[0]
    assert none.text.startswith("No shift can be judged")


def test_what_a_remedy_whose_training_failed_changes_is_not_said():
    content = synthetic.report_content(all_failed(synthetic.results_table(), "high_noise"))
    finding = headlines(content)[0]
    assert "trained at 884" in finding.text
    assert finding.remedy == ""


def test_the_cost_of_a_remedy_of_several_sets_is_against_the_network_of_the_set():
    """The network of another set, which is bad here, would make a gain of the cost."""
    networks = {"all": {"train_on": ["low", "high"]}}
    dose = {**synthetic.PARAMETERS["studies"]["dose"], "networks": ["all"]}
    studies = {**synthetic.PARAMETERS["studies"], "dose": dose}
    parameters = {**synthetic.PARAMETERS, "networks": networks, "studies": studies}
    dice = {cell: d for cell, d in synthetic.DICE.items() if cell[0] != "high_noise"}
    dice |= {("low", "high"): 0.6}
    dice |= {("all", s): d for s, d in {"low": 0.84, "mid": 0.86, "high": 0.86}.items()}
    results = synthetic.results_table(dice, train_on=synthetic.plan(parameters).train_on)
    finding = headlines(synthetic.report_content(results, parameters))[0]
    assert "loses 0.3" in finding.text
    assert "and its own condition by −0.0" in finding.remedy


def test_what_would_decide_is_not_told_where_it_is_not_known(content):
    wide = synthetic.report_content(
        synthetic.results_table(dict.fromkeys(synthetic.DICE, 0.8), noise=0.04)
    )
    for folds, said in (
        (80.0, "would take more than 60 folds, if the estimates stay"),
        (float("inf"), "would take more than 60 folds"),
        (float("nan"), "what would decide them cannot be told"),
    ):
        gaps = wide.gaps.assign(folds_to_decide=folds)
        assert said in first_sentences(dataclasses.replace(wide, gaps=gaps))[2][1]


def test_networks_with_a_failed_fold_have_not_all_learned():
    dice = dict.fromkeys(synthetic.DICE, 0.93)
    results = with_learned(synthetic.results_table(dice), "low", 1)
    check = by_claim(synthetic.report_content(results))["in-domain"]
    assert check.status == "partly visible"
    assert "a fold has not learned: low" in check.evidence


def test_one_loss_by_its_own_bounds_does_not_make_gaps_large(content):
    """Of six gaps of just the limit one is called a loss in a quarter of runs."""
    gaps = content.gaps.copy()
    there = (gaps["study"] == "material") & (gaps["network"] == "mid")
    columns = ["gap", "low", "high", "standard_error", "bound_low", "bound_high", "verdict"]
    gaps.loc[there, columns] = [0.06, 0.026, 0.094, 0.0161, 0.031, 0.089, "degrades"]
    gaps.loc[gaps["study"] == "material", "df"] = 8.0
    check = by_claim(dataclasses.replace(content, gaps=gaps))["material"]
    assert check.status == "unclear"
    assert "0 surely" in check.evidence


@pytest.mark.parametrize("column", ["session", "instrument"])
def test_one_value_that_only_some_sets_name_is_not_that_of_all(content, column):
    names = ["A", "", "A", None]
    some = dataclasses.replace(content, splits=content.splits.assign(**{column: names}))
    said = " ".join(limits(some))
    assert f"The only {column} that is named is A, and 2 of 4 sets name none" in said
    assert f"All sets come from one {column}" not in said


def test_sessions_that_are_missing_are_said_where_they_keep_training_and_test_apart(content):
    curation = content.curation.model_copy(update={"group_by": "session"})
    results = content.results.assign(specimen_id="", group="2024-01-15")
    named = dataclasses.replace(content, curation=curation, results=results)
    assert separation_notes(named) == [], "micrographs of no specimen are kept apart by session"
    assert unseen(named) == "sessions that it has not seen"
    first = results["micrograph_id"] == "mid/0"
    some = results.assign(group=results["group"].mask(first, "mid/0"))
    partly = dataclasses.replace(named, results=some)
    assert separation_notes(partly)[0].startswith("1 of 24 micrographs name no session")
    assert unseen(partly) == "micrographs that it has not seen"


def test_the_surest_way_is_named_where_corrected_p_values_are_the_same(content):
    table = content.transfer.copy()
    rows = table[(table["study"] == "dose") & (table["train_on"] < table["test_split"])].index[:2]
    table.loc[table["study"] == "dose", "direction"] = "not shown"
    columns = ["asymmetry", "low", "high", "p_value", "p_holm", "direction"]
    table.loc[rows[0], columns] = [0.20, 0.15, 0.25, 0.001, 0.003, "harder"]
    table.loc[rows[1], columns] = [0.03, 0.02, 0.04, 0.0012, 0.003, "harder"]
    said = both_ways_sentence(dataclasses.replace(content, transfer=table), "dose")
    assert "loses 0.20 [0.15, 0.25] Dice more" in said

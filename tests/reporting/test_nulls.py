"""What the report says of studies in which nothing has any effect: almost always nothing."""

import copy
import dataclasses

import numpy as np
import pytest
from tests import synthetic_study as synthetic

from temshift.reporting.sentences import first_sentences, headlines, paper_checks
from temshift.study.statistics import compare_with_in_domain
from temshift.study.verdicts import LOSSES

STUDIES = 30
SETS = ["low", "mid", "high", "silver"]

PARAMETERS = copy.deepcopy(synthetic.PARAMETERS)
PARAMETERS["networks"] = {}
PARAMETERS["studies"] = {
    "magnification": {"varies": "pixel_size_nm", "splits": SETS},
    "dose": {"varies": "dose_e_per_A2", "splits": SETS},
    "material": {"varies": "material", "splits": SETS},
}
METADATA = {
    s: {**v, "pixel_size_nm": 0.02 + 0.01 * i}
    for i, (s, v) in enumerate(synthetic.METADATA.items())
}
TRUTH = {(network, tested): 0.85 for network in SETS for tested in SETS}


@pytest.fixture(scope="module")
def base():
    results = synthetic.results_table(TRUTH, train_on=lambda network: [network])
    return synthetic.report_content(results, PARAMETERS, METADATA)


def study(base, seed, truth=TRUTH, **design):
    """A run of other networks and specimens."""
    results = synthetic.results_table(
        truth, seed=seed, train_on=lambda network: [network], **design
    )
    return dataclasses.replace(
        base,
        results=results,
        gaps=compare_with_in_domain(results, base.plan, base.reporting),
    )


def rarely(count, trials=STUDIES):
    """Not more than an event of 5 % happens in 999 of 1000 series."""
    return count <= 0.05 * trials + 3.1 * np.sqrt(trials * 0.05 * 0.95)


@pytest.mark.parametrize(
    "design",
    [
        {"folds": 3, "groups": 6, "noise": 0.05, "fold_sd": 0.04},
        {"folds": 6, "groups": 12, "noise": 0.05, "fold_sd": 0.08},
        {"folds": 5, "groups": 12, "noise": 0.05, "fold_sd": 0.04, "protocol": "published"},
    ],
    ids=str,
)
def test_nothing_is_seen_where_there_is_nothing(base, design):
    design = dict(design)
    visible = dict.fromkeys(("dose", "magnification"), 0)
    lost, said, answered, degraded = 0, 0, 0, 0.0
    for seed in range(STUDIES):
        content = study(base, seed, **design)
        dose, magnification, *_ = paper_checks(content)
        visible["dose"] += dose.status in ("visible", "partly visible")
        visible["magnification"] += "visible" in magnification.status and (
            magnification.status != "not visible"
        )
        finding = next(f for f in headlines(content) if f.study == "magnification")
        lost += finding.verdict in LOSSES
        (_, breaks), (_, degrades), _ = first_sentences(content)
        answered += not (breaks.startswith("No ") and degrades.startswith("No "))
        said += (
            "loses" in finding.text
            and not finding.text.startswith("No ")
            and ("may be chance" not in finding.text)
        )
        degraded += content.default_gaps("magnification")["verdict"].isin(LOSSES).mean()
    assert rarely(visible["dose"])
    assert rarely(visible["magnification"])
    assert rarely(said)
    assert rarely(answered)
    assert degraded / STUDIES <= 0.05
    assert rarely(lost)


def test_no_study_is_headed_a_loss_whose_losses_are_all_at_the_limit(base):
    """The surest of twelve is picked; by its own bounds alone it would often be called a loss."""
    limit = base.reporting.degrades_above
    truth = {(n, t): 0.85 if n == t else 0.85 - limit for n, t in TRUTH}
    lost, answered, alone = 0, 0, 0
    for seed in range(STUDIES):
        content = study(base, seed, truth, folds=6, groups=12, noise=0.05, fold_sd=0.04)
        lost += next(f for f in headlines(content) if f.study == "magnification").verdict in LOSSES
        answered += not first_sentences(content)[1][1].startswith("No ")
        alone += content.default_gaps("magnification")["verdict"].isin(LOSSES).any()
    assert rarely(lost)
    assert rarely(answered)
    assert not rarely(alone)


def test_large_gaps_are_not_called_small(base):
    truth = {(n, t): 0.85 if n == t else 0.75 for n, t in TRUTH}
    small = 0
    for seed in range(10):
        content = study(base, seed, truth, noise=0.05, fold_sd=0.02)
        small += paper_checks(content)[2].status == "visible"
    assert small == 0


def test_what_is_there_is_seen(base):
    """The same sentences on a true effect: they can say something."""
    truth = {(n, t): 0.85 if n == t else 0.6 for n, t in TRUTH}
    content = study(base, 0, truth, folds=6, groups=12, noise=0.03, fold_sd=0.02)
    dose, magnification, material, _ = paper_checks(content)
    assert [dose.status, magnification.status] == ["visible", "visible"]
    assert material.status == "not visible"
    assert {f.verdict for f in headlines(content)} == {"breaks"}
    assert next(sentence for _, sentence in first_sentences(content)).startswith(
        "36 of 36 shifts surely break a network"
    )

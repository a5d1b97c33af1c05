"""The section on what helps says what the table of remedies says, and no more."""

import re

import pytest
import tests.synthetic_study as synthetic
import yaml

from temshift.config.plan import StudyPlan
from temshift.reporting.html import render_report
from temshift.reporting.remedies import remedies_section, remedy_in_words


@pytest.fixture(scope="module")
def content():
    return synthetic.report_content()


def copies_of_the_baseline():
    """The same study in which ``high_noise`` is the plain network once more."""
    high = {k: v for k, v in synthetic.DICE.items() if k[0] == "high"}
    again = {("high_noise", split): dice for (_, split), dice in high.items()}
    return synthetic.report_content(synthetic.results_table({**synthetic.DICE, **again}))


def section_of(content):
    return re.search(r'<section id="remedies">.*?</section>', render_report(content), re.S)[0]


def test_what_helps_is_said_with_gain_cost_and_what_is_left(content):
    section = remedies_section(content)
    assert section["answer"] == (
        "Of 3 shifts that degrade or break a network, 1 has a tested remedy, which surely helps "
        "for 1."
    )
    row = section["rows"][0]
    assert row["shift"] == "trained at 884 e/Å², tested at 80 e/Å²"
    assert (row["verdict"], row["effect"]) == ("breaks", "helps")
    assert row["words"] == "noise up to ρ = 1.75"
    html = section_of(content)
    assert "<strong>helps</strong>" in html
    for key in ("before", "after", "gain", "cost", "left"):
        assert row[key] in html


def test_a_copy_of_the_baseline_is_not_said_to_help():
    content = copies_of_the_baseline()
    assert "surely helps for 0" in remedies_section(content)["answer"]
    html = section_of(content)
    assert "<strong>helps</strong>" not in html
    assert "not shown" in html


def test_what_was_not_tested_comes_with_parameters_that_are_valid(content):
    section = remedies_section(content)
    assert [entry["network"] for entry in section["untested"]] == [
        "trained at 80 e/Å², loses at 884 e/Å²",
        "trained at 423 e/Å², loses at 80 e/Å²",
    ]
    for entry in section["untested"]:
        new = yaml.safe_load(entry["parameters"])
        merged = {**synthetic.PARAMETERS}
        merged["networks"] = {**merged["networks"], **new["networks"]}
        (study,) = new["studies"]
        merged["studies"] = {**merged["studies"]}
        merged["studies"][study] = {**merged["studies"][study], **new["studies"][study]}
        assert set(new["networks"]) < set(StudyPlan.from_parameters(merged).rows)
        assert entry["parameters"].splitlines()[0] in section_of(content)


def test_without_a_loss_there_is_nothing_to_mend():
    flat = dict.fromkeys(synthetic.DICE, 0.9)
    content = synthetic.report_content(synthetic.results_table(flat))
    section = remedies_section(content)
    assert "nothing to mend" in section["answer"]
    assert not section["untested"]
    assert "<strong>helps</strong>" not in section_of(content)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"train_on": ["high"]}, "the same settings, another seed"),
        ({"train_on": ["low", "high"]}, "trained on 2 sets"),
        (
            {"train_on": ["high"], "augmentation": {"pixel_size_factor": [0.5, 2.0]}},
            "pixel size times 0.5 to 2",
        ),
        (
            {"weights_of": "high", "adaptation": {"pixel_size": True, "batch_norm": True}},
            "images resampled to the training pixel size, batch norms adapted to the images, "
            "without labels",
        ),
        (
            {"weights_of": "high", "fine_tuning": {"split": "low", "micrographs": 2}},
            "fine-tuned on 2 labelled micrographs",
        ),
        (
            {"train_on": ["high"], "architecture": {"normalisation": "group"}},
            "group normalisation",
        ),
        ({"train_on": ["high"], "training": {"steps": 9}}, "other settings"),
    ],
)
def test_a_remedy_in_words(row, words):
    parameters = {**synthetic.PARAMETERS, "networks": {"high_noise": row}}
    content = synthetic.report_content(parameters=parameters)
    assert remedy_in_words(content, "high_noise") == words


def test_a_network_with_the_weights_of_another_is_not_said_to_be_trained():
    row = {"weights_of": "high", "adaptation": {"pixel_size": True}}
    content = synthetic.report_content(
        parameters={**synthetic.PARAMETERS, "networks": {"high_noise": row}}
    )
    page = render_report(content)
    said = re.search(r"<li><strong>high_noise</strong> ([^<]*)</li>", page)[1]
    assert said == (
        "has the weights of high, in the test: images resampled to the training pixel size."
    )
    assert "Robust training" not in page

"""``results.json`` is what its published schema says."""

import copy
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from temshift.reporting import schema
from temshift.reporting.schema import results_schema
from temshift.reporting.summary import summarise

ROOT = Path(__file__).parents[2]
PUBLISHED = (
    ROOT / "docs" / "reference" / "results.schema.json",
    Path(schema.__file__).with_name("results.schema.json"),
)


@pytest.fixture(scope="module")
def results(content):
    return json.loads(json.dumps(summarise(content), allow_nan=False))


def complaints(results):
    return [e.message for e in Draft202012Validator(results_schema()).iter_errors(results)]


def test_the_schema_is_one():
    Draft202012Validator.check_schema(results_schema())


@pytest.mark.parametrize("file", PUBLISHED, ids=["docs", "package"])
def test_the_published_schema_is_that_of_the_code(file):
    assert json.loads(file.read_text(encoding="utf-8")) == results_schema(), (
        f"python -m temshift.reporting.schema {file}"
    )


def test_results_are_what_the_schema_says(results):
    assert complaints(results) == []


def wrong(results):
    """Return results that the schema must refuse, each by what is wrong."""

    def changed(change):
        other = copy.deepcopy(results)
        change(other)
        return other

    return {
        "a table is missing": changed(lambda r: r.pop("gaps")),
        "an unknown table": changed(lambda r: r.update(more=[])),
        "a Dice above 1": changed(lambda r: r["matrix"][0].update(dice=1.2)),
        "a count that is none": changed(lambda r: r["gaps"][0].update(n_folds=-1)),
        "a column is missing": changed(lambda r: r["gaps"][0].pop("p_holm")),
        "a column that is not described": changed(lambda r: r["gaps"][0].update(extra=1)),
        "an unknown verdict": changed(lambda r: r["findings"][0].update(verdict="bad")),
        "text for a number": changed(lambda r: r["gains"][0].update(gain="0.2")),
        "another version": changed(lambda r: r.update(schema_version=2)),
    }


def test_what_is_wrong_is_refused(results):
    found = {what: complaints(other) for what, other in wrong(results).items()}
    assert [what for what, said in found.items() if not said] == []

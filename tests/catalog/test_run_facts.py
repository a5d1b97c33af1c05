import json
import subprocess

import pytest
from kedro.io import DatasetError

from temshift.catalog import run_facts
from temshift.catalog.provenance import ProvenanceStore
from temshift.catalog.run_facts import RunFactsDataset
from temshift.study.run_facts import busy_seconds


def record(outputs, inputs=(), **times):
    parts = {"inputs": dict.fromkeys(inputs)}
    return {"form": 2, "parts": parts, "outputs": dict.fromkeys(outputs), **times}


@pytest.fixture
def folder(tmp_path):
    store = ProvenanceStore(tmp_path)
    store.put("simulate", record(["raw"], began=1000.0, ended=1060.0))
    store.put("train", record(["network"], ["raw"], began=1050.0, ended=1100.0))
    store.put("test", record(["results"], ["network", "raw"], began=2000.0, ended=2010.0))
    store.put("other", record(["masks"], ["network"], began=0.0, ended=9000.0))
    return tmp_path


def test_the_steps_behind_the_results_count_and_no_others(folder):
    facts = RunFactsDataset(str(folder), ["results"]).load()
    assert (facts.began, facts.ended) == ("1970-01-01T00:16:40Z", "1970-01-01T00:33:30Z")
    assert facts.busy_s == 110.0  # neither what lies between two runs, nor the overlap twice
    assert (facts.timed_steps, facts.steps) == (3, 3)


def test_steps_without_times_are_told(folder):
    ProvenanceStore(folder).put("train", record(["network"], ["raw"]))
    facts = RunFactsDataset(str(folder), ["results"]).load()
    assert (facts.timed_steps, facts.steps, facts.busy_s) == (2, 3, 70.0)


def test_nothing_recorded_is_no_time(tmp_path):
    facts = RunFactsDataset(str(tmp_path), ["results"]).load()
    assert (facts.began, facts.ended, facts.busy_s, facts.steps) == ("", "", 0.0, 0)


def test_the_time_is_that_of_the_clock_or_of_the_build(tmp_path, monkeypatch):
    dataset = RunFactsDataset(str(tmp_path), [])
    assert dataset.load().written > "2026-01-01"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert dataset.load().written == "1970-01-01T00:00:00Z"


def test_facts_are_not_saved(tmp_path):
    with pytest.raises(DatasetError, match="looked up"):
        RunFactsDataset(str(tmp_path), []).save("today")


def test_the_commit_is_that_of_the_code(tmp_path):
    def git(*arguments):
        command = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    package = tmp_path / "package"
    package.mkdir()
    file = package / "__init__.py"
    file.write_text("")
    assert run_facts._commit(package) == ("", False)
    git("init")
    assert run_facts._commit(package) == ("", False), "in a repository, but not of it"
    git("add", ".")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert run_facts._commit(package) == (commit, False)
    (tmp_path / "notes").write_text("beside the code")
    assert run_facts._commit(package) == (commit, False)
    file.write_text("changed")
    assert run_facts._commit(package) == (commit, True)


def test_a_machine_says_what_it_is(tmp_path):
    machine = RunFactsDataset(str(tmp_path), []).load().machine
    assert any("core" in part for part in machine)
    assert json.dumps(machine)


def test_steps_side_by_side_count_once():
    assert busy_seconds([]) == 0
    assert busy_seconds([(5, 6), (0, 10), (2, 3), (20, 21)]) == 11


def test_records_that_are_just_written_or_damaged_are_none(folder):
    before = RunFactsDataset(str(folder), ["results"]).load().steps
    (folder / "nodes" / ".test.0123.part.json").write_text("")
    (folder / "nodes" / "damaged.json").write_text('{"outputs": ')
    assert RunFactsDataset(str(folder), ["results"]).load().steps == before

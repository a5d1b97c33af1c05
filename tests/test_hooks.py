"""What is asked before the first node runs, and what is said after the last."""

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro_datasets.pandas import CSVDataset

from temshift import context
from temshift.catalog.provenance import ProvenanceDataset
from temshift.config.modelling import ModellingParameters, Training
from temshift.hooks import ProjectHooks

TRAINING = Pipeline([Node(lambda modelling: modelling, "params:modelling", "out", name="train")])


def ask(pipeline: Pipeline, device: str) -> None:
    modelling = ModellingParameters(device=device, training=Training(epochs=1))
    catalog = DataCatalog({"params:modelling": MemoryDataset(modelling)})
    ProjectHooks().before_pipeline_run({}, pipeline, catalog)


def test_an_absent_device_is_refused_before_the_run():
    with pytest.raises(ValueError, match=r"modelling\.device is 'cuda:99'"):
        ask(TRAINING, "cuda:99")


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_what_every_machine_has_is_not_asked_for(device):
    ask(TRAINING, device)


def test_pipelines_that_compute_nothing_on_it_do_not_care():
    other = Pipeline([Node(lambda x: x, "table", "out", name="other")])
    ask(other, "cuda:99")


@pytest.mark.parametrize(("namespace", "said"), [("modelling.low", 1), ("deployment", 0)])
def test_what_no_study_names_is_told_once_where_it_would_be_made(
    monkeypatch, caplog, namespace, said
):
    places = {"splits.idle": "conf/case/parameters.yml", "networks.n1": "--params"}
    monkeypatch.setattr(context, "declared_in_vain", lambda: places)
    node = Node(lambda x: x, "table", "out", name="other", namespace=namespace)
    ask(Pipeline([node]), "auto")
    told = [m for m in caplog.messages if m.startswith("Declared, but")]
    assert len(told) == said
    if told:
        assert "splits.idle (conf/case/parameters.yml), networks.n1 (--params)" in told[0]


REPORT = "generalization_reporting.reporting.report"
SUMMARY = "generalization_reporting.reporting.summary"


class _Report(MemoryDataset):
    def _describe(self):
        return {"filepath": "data/08_reporting/report.html"}


def said_after(outputs, caplog):
    pipeline = Pipeline([Node(lambda x: (x, x), "x", outputs, name="write_report")])
    summary = {"answers": [{"verdict": "breaks", "sentence": "3 of 9 shifts surely break it."}]}
    catalog = DataCatalog({REPORT: _Report("page"), SUMMARY: MemoryDataset(summary)})
    with caplog.at_level("INFO", logger="temshift"):
        ProjectHooks().after_pipeline_run(pipeline, catalog)
    return [record.getMessage() for record in caplog.records if record.name == "temshift.hooks"]


def test_a_run_that_reports_ends_with_its_findings_and_the_path(caplog):
    assert said_after([REPORT, SUMMARY], caplog) == [
        "3 of 9 shifts surely break it.",
        "Report: data/08_reporting/report.html",
    ]


def test_a_run_without_a_report_finds_nothing(caplog):
    assert said_after(["a", "b"], caplog) == []


@pytest.mark.parametrize("damage", [False, True])
def test_an_input_that_is_not_what_was_written_is_told(tmp_path, caplog, damage):
    file = tmp_path / "histories.csv"
    file.write_text("a\n1\n2\n")
    records = ProvenanceDataset(str(tmp_path / ".provenance"))
    store = records.load()
    written = {"histories": store.content([file])}
    store.put("evaluation.gather", {"parts": {"inputs": {}}, "outputs": written})
    if damage:
        file.write_text("a\n1\n")
    catalog = DataCatalog(
        {"provenance": records, "histories": CSVDataset(filepath=str(file)), "x": MemoryDataset(1)}
    )
    node = Node(lambda histories, x: x, ["histories", "x"], "out", name="report")
    ProjectHooks().before_pipeline_run({}, Pipeline([node]), catalog)
    told = [m for m in caplog.messages if "is not what was written there" in m]
    assert len(told) == damage
    assert all(m.startswith(str(file)) for m in told)

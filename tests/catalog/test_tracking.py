"""Runs in MLflow: off unless asked for; what is listed, once; with the real package."""

import builtins
import subprocess
import sys

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from tests import synthetic_study as synthetic

from temshift.config.errors import UserError
from temshift.config.tracking import TrackingParameters
from temshift.hooks import ProjectHooks
from temshift.reporting.summary import summarise

REPORT = "generalization_reporting.reporting.report"
SUMMARY = "generalization_reporting.reporting.summary"
PIPELINE = Pipeline([Node(lambda x: (x, x), "x", [REPORT, SUMMARY], name="write_report")])


class _Report(MemoryDataset):
    def _describe(self):
        return {"filepath": "data/08_reporting/report.html"}


@pytest.fixture(scope="module")
def summary():
    return summarise(synthetic.report_content())


def catalog(summary, **parameters):
    return DataCatalog(
        {
            REPORT: _Report("page"),
            SUMMARY: MemoryDataset(summary),
            "parameters": MemoryDataset({**synthetic.PARAMETERS, **parameters}),
        }
    )


@pytest.fixture
def absent(monkeypatch):
    """Whether it is installed or not: no import of mlflow succeeds."""
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "mlflow":
            raise ImportError("No module named 'mlflow'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_it_is_off_unless_asked_for(absent, summary):
    assert not TrackingParameters().mlflow
    for given in ({}, {"tracking": {}}, {"tracking": {"mlflow": False}}):
        ProjectHooks().before_pipeline_run({}, PIPELINE, catalog(summary, **given))
        ProjectHooks().after_pipeline_run(PIPELINE, catalog(summary, **given))


def test_without_mlflow_the_run_is_refused_before_its_first_node(absent, summary):
    asked = catalog(summary, tracking={"mlflow": True})
    with pytest.raises(UserError, match=r"\[tracking\]"):
        ProjectHooks().before_pipeline_run({}, PIPELINE, asked)


def test_a_database_in_an_object_store_is_refused_if_it_is_asked_for():
    assert TrackingParameters(database="s3://bucket/mlflow.db"), "the default of such data"
    with pytest.raises(ValueError, match="a file of this machine only"):
        TrackingParameters(mlflow=True, database="s3://bucket/mlflow.db")


def test_a_run_that_writes_no_report_does_not_ask_for_it(absent, summary):
    other = Pipeline([Node(lambda x: x, "x", "y", name="other")])
    ProjectHooks().before_pipeline_run({}, other, catalog(summary, tracking={"mlflow": True}))


def test_hooks_import_no_mlflow():
    code = "import sys, temshift.hooks, temshift.settings; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ------------------------------------------------------------------ the real package
@pytest.fixture
def mlflow():
    pytest.importorskip("mlflow.store.tracking.sqlalchemy_store")
    return pytest.importorskip("mlflow")


def track(summary, database, **parameters):
    tracking = {"mlflow": True, "database": str(database), "experiment": "doses"}
    given = catalog(summary, tracking=tracking, **parameters)
    ProjectHooks().before_pipeline_run({}, PIPELINE, given)
    ProjectHooks().after_pipeline_run(PIPELINE, given)


def listed(mlflow, database):
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    return client.search_runs([client.get_experiment_by_name("doses").experiment_id])


def test_a_run_is_listed_with_parameters_dice_and_report(mlflow, summary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    database = tmp_path / "new folder" / "runs.db"
    many = {f"column {i} (µm)": "x" * 7000 for i in range(150)}
    track(summary, database, curation={"columns": many})
    (run,) = listed(mlflow, database)
    assert run.info.status == "FINISHED"
    assert run.data.params["modelling.folds"] == "3"
    assert run.data.params["studies.dose.splits"] == '["low", "mid", "high"]'
    assert run.data.params["networks.high_noise.augmentation.noise.rho_max"] == "1.75"
    assert len([key for key in run.data.params if key.startswith("curation")]) == 150
    assert run.data.tags["temshift.report"] == "data/08_reporting/report.html"
    own = {
        f"in_domain_dice/{r['protocol']}/{r['network']}/{r['test_split']}": r["dice"]
        for r in summary["matrix"]
        if r["in_domain"]
    }
    assert run.data.metrics == pytest.approx(own)
    assert "in_domain_dice/grouped/low/low" in own
    assert [path.name for path in tmp_path.iterdir()] == ["new folder"]
    assert [path.name for path in database.parent.iterdir()] == ["runs.db"]


def test_the_same_run_is_listed_once_and_another_beside_it(mlflow, summary, tmp_path, caplog):
    database = tmp_path / "runs.db"
    with caplog.at_level("INFO", logger="temshift"):
        track(summary, database)
        track(summary, database)
    assert "already listed" in caplog.text
    assert len(listed(mlflow, database)) == 1
    track(summary, database, calibration={"summary": "other"})
    assert len(listed(mlflow, database)) == 2


def test_a_file_that_is_no_database_is_told_and_left_alone(mlflow, summary, tmp_path):
    database = tmp_path / "runs.db"
    database.write_text("no database " * 100)
    with pytest.raises(UserError, match=r"tracking\.database"):
        track(summary, database)
    assert database.read_text() == "no database " * 100

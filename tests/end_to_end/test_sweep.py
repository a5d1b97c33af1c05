"""kedro run --pipelines sweep: trials, stopped and resumed, and what is refused before any."""

import json
import shutil
import subprocess
import sys
import time

import pandas as pd
import pytest
from tests.end_to_end.conftest import Project, copy_of

pytest.importorskip("optuna")
pytestmark = pytest.mark.slow

SWEEP = """
sweep:
  method: tpe
  trials: 2
  train_on: [high_dose]
  space:
    modelling.training.learning_rate: {min: 1.0e-3, max: 1.0e-2, log: true}
    modelling.augmentation.noise: null  # removed
    preprocessing.standardise: [true, false]
    train_on: [[high_dose], [high_dose, low_dose]]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """Six fields, of which a fold can hold one out; three steps a training."""
    project = Project(tmp_path_factory.mktemp("sweep"))
    smoke = project.folder / "conf" / "smoke"
    for name, old, new in (
        ("parameters_simulation.yml", "fields: 3", "fields: 6"),
        ("parameters_modelling.yml", "steps: 8", "steps: 3"),
    ):
        text = (smoke / name).read_text()
        assert old in text
        (smoke / name).write_text(text.replace(old, new))
    (smoke / "parameters_sweep.yml").write_text(SWEEP)
    project.run("--pipelines", "simulation,data_curation")
    return project


def results(project):
    folder = project.data / "08_reporting" / "sweep"
    return (folder / "trials.csv").read_bytes()


def trained(project: Project) -> int:
    """Return how many trainings have begun, in all runs."""
    return project.log().count("Running node: train_")


def test_a_sweep_stopped_and_resumed_is_one_that_was_not(project, tmp_path):
    runs = project.data / "07_model_output" / "sweep"
    run = subprocess.Popen(
        [sys.executable, "-m", "kedro", "run", "--env", "smoke", "--pipelines", "sweep"],
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 300
    while not list(runs.glob("*/0000/networks")) and time.monotonic() < until:
        assert run.poll() is None
        time.sleep(0.02)
    run.kill()
    run.wait()
    assert not (project.data / "08_reporting" / "sweep").exists()
    before = trained(project)
    output = project.run("--pipelines", "sweep")
    assert trained(project) > before
    assert output.count("training of defaults") == 0
    assert len([line for line in output.splitlines() if "validation Dice" in line]) == 2
    table = pd.read_csv(project.data / "08_reporting" / "sweep" / "trials.csv", dtype=str)
    assert sorted(table["trial"]) == ["0000", "0001", "defaults"]
    first = results(project)

    # a manifest says all that a trial was made with
    manifest = json.loads(next(runs.glob("*/0001/manifest.json")).read_text())
    rate = manifest["settings"]["modelling.training.learning_rate"]
    assert manifest["modelling"]["training"]["learning_rate"] == rate
    assert manifest["modelling"]["training"]["hold_out"] is True
    page = (project.data / "08_reporting" / "sweep" / "sweep.html").read_text()
    assert "3 folds cannot tell" in page
    assert "from_sweep" in page

    # from nothing, and not stopped: the same bytes
    whole = copy_of(project, tmp_path)
    shutil.rmtree(whole.folder / "conf")
    shutil.copytree(project.folder / "conf", whole.folder / "conf")
    shutil.rmtree(whole.data / "07_model_output")
    shutil.rmtree(whole.data / "08_reporting" / "sweep")
    whole.run("--pipelines", "sweep")
    assert results(whole) == first

    # only the further trial is run
    before = trained(project)
    project.run("--pipelines", "sweep", "--params", "sweep.trials=3")
    assert trained(project) == before + 1

    # without a block there is nothing to do, and the error says what is missing
    (project.folder / "conf" / "smoke" / "parameters_sweep.yml").unlink()
    output = project.run("--pipelines", "sweep", fails=True)
    assert "Found no block 'sweep' in its parameters" in output, output[-2000:]

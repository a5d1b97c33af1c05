"""Nodes run by workers, and what may happen to these, by the commands of users."""

import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time

import psutil
import pytest
from tests.end_to_end.conftest import Project, copy_of, differing, ran

pytestmark = pytest.mark.slow

#: The job runs here; its number is that of its process group.
SBATCH = """#!{python}
import subprocess, sys
job = subprocess.Popen(["bash", sys.argv[-1]], start_new_session=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
script = open(sys.argv[-1]).read()
open({log!r}, "a").write(script)
import time; time.sleep(0.5)  # bash reads the script before dask-jobqueue removes it
print("Submitted batch job", job.pid)
"""
SCANCEL = """#!{python}
import os, signal, sys
try:
    os.killpg(int(sys.argv[-1]), signal.SIGKILL)
except ProcessLookupError:
    pass
"""


def use_cluster(project: Project, text: str) -> None:
    (project.folder / "conf" / "smoke" / "cluster.yml").write_text(text)


def start(project: Project, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "kedro", "run", "--env", "smoke", *arguments],
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def follow(project: Project, run: subprocess.Popen, what: str, then) -> str:
    """Return what a run printed; when its log has ``what``, do ``then`` once."""
    log = project.folder / "info.log"
    done = threading.Event()

    def watch() -> None:
        while run.poll() is None:
            if log.exists() and what in project.log():
                done.set()
                then()
                return
            time.sleep(0.05)

    watching = threading.Thread(target=watch)
    watching.start()
    output, _ = run.communicate(timeout=600)
    watching.join()
    assert done.is_set(), output[-3000:]
    return output


def kill_workers(run: subprocess.Popen) -> None:
    """Kill every worker that has taken a node; none of them can tidy up."""
    for child in psutil.Process(run.pid).children(recursive=True):
        if any("spawn_main" in part for part in child.cmdline()):
            child.kill()


def test_two_workers_write_what_one_process_writes(pristine, fresh):
    use_cluster(fresh, "{scheduler: local, workers: 2}")
    output = fresh.run()
    assert "Nodes are run by 2 processes" in output
    assert "dashboard: http://127.0.0.1:" in output
    assert "Running node: train" in fresh.log(), "what workers log is told here"
    nodes = len(ran(output))
    assert nodes > 30
    assert f"{nodes} steps run in" in output
    one, two = pristine.tables(), fresh.tables()
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
    # a plain run finds all of it up to date, and so do workers, which are then not started
    output = fresh.run("--runner-params", "workers=1")
    assert f"Nothing to do: all {nodes} steps are up to date" in output
    again = fresh.run("--params", "reporting.confidence=0.9")
    assert "parameter reporting.confidence changed (0.95 -> 0.9)" in again
    report = (fresh.data / "08_reporting" / "report.html").read_text()
    assert "90 %" in report, "--params reached the worker"


@pytest.mark.parametrize(
    ("pipeline", "node", "folder"),
    [
        ("modelling", "train", "06_models/high_dose"),
        ("preprocessing", "preprocess", "05_model_input/low_dose"),
    ],
)
def test_a_node_whose_worker_is_killed_is_run_again(pristine, tmp_path, pipeline, node, folder):
    project = copy_of(pristine, tmp_path)
    use_cluster(project, "{scheduler: local, workers: 2}")
    shutil.rmtree(project.data / folder)
    run = start(project, "--pipelines", pipeline)
    output = follow(project, run, f"Running node: {node}", lambda: kill_workers(run))
    assert run.returncode == 0, output[-3000:]
    assert "was lost; run again elsewhere" in output
    assert project.log().count(f"Running node: {node}") >= 2
    assert differing(project.tables(), pristine.tables()) == []


def test_a_node_that_kills_every_worker_is_given_up(pristine, tmp_path):
    project = copy_of(pristine, tmp_path)
    use_cluster(project, "{scheduler: local, workers: 1, retries: 0}")
    shutil.rmtree(project.data / "06_models" / "high_dose")
    run = start(project, "--pipelines", "modelling")
    output = follow(project, run, "Running node: train", lambda: kill_workers(run))
    assert run.returncode == 1
    assert "modelling.high_dose.train' was given up: the workers that ran it died" in output
    assert "Remedy:" in output.splitlines()[-1]


def test_a_worker_that_starts_after_the_configuration_was_edited_is_refused(pristine, tmp_path):
    """It would do its nodes by the new values, and the run record them as made by its own."""
    project = copy_of(pristine, tmp_path)
    use_cluster(project, "{scheduler: local, workers: 1}")
    shutil.rmtree(project.data / "06_models" / "high_dose")
    run = start(project, "--pipelines", "modelling")
    settings = project.folder / "conf" / "smoke" / "parameters_modelling.yml"
    before = settings.read_text()
    assert "steps: 8" in before

    def edit() -> None:
        settings.write_text(before.replace("steps: 8", "steps: 9"))
        kill_workers(run)

    output = follow(project, run, "Running node: train", edit)
    assert run.returncode == 1
    assert "The configuration was changed while the run was at work" in output
    settings.write_text(before)
    assert "1 steps run" in project.run("--pipelines", "modelling")
    assert differing(project.tables(), pristine.tables()) == []


def test_jobs_of_slurm(pristine, fresh, tmp_path, monkeypatch):
    commands = tmp_path / "bin"
    commands.mkdir()
    log = tmp_path / "scripts.log"
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        file = commands / name
        file.write_text(text.format(python=sys.executable, log=str(log)))
        file.chmod(file.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    use_cluster(
        fresh,
        "{scheduler: slurm, slurm: {jobs: 2, cores: 1, memory_GB: 4, host: 127.0.0.1,"
        ' queue: short, walltime: "00:10:00"}}',
    )
    output = fresh.run("--pipelines", "simulation")
    assert "Nodes are run by 2 SLURM jobs" in output
    script = log.read_text()
    assert "#SBATCH -p short" in script
    assert "#SBATCH --cpus-per-task=1" in script
    assert "export OMP_NUM_THREADS=1" in script
    one, two = pristine.tables(), fresh.tables()
    assert len(two) >= 2
    assert [name for name in two if one[name] != two[name]] == []
    time.sleep(1)
    left = [p for p in psutil.process_iter(["cmdline"]) if str(fresh.folder) in str(p.info)]
    assert left == [], "no job outlives the run"


@pytest.fixture
def scheduler(tmp_path):
    """A scheduler with one worker, both of them processes of their own."""
    port = 0
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    here = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    python = [sys.executable, "-m"]
    hub = subprocess.Popen(
        [
            *python,
            "distributed.cli.dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--no-dashboard",
        ],
        **here,
    )
    worker = subprocess.Popen(
        [
            *python,
            "distributed.cli.dask_worker",
            address,
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
            "--death-timeout",
            "60",
        ],
        **here,
    )
    yield address, hub
    for process in (worker, hub):
        process.kill()
        process.wait()


def test_a_scheduler_that_is_lost_loses_nothing_finished(pristine, fresh, scheduler):
    address, hub = scheduler
    use_cluster(fresh, f'{{scheduler: "{address}"}}')
    run = start(fresh, "--pipelines", "simulation,data_curation")
    output = follow(fresh, run, "Running node: acquire_micrographs", hub.kill)
    assert run.returncode == 1
    assert "The scheduler does not answer any more" in output
    (fresh.folder / "conf" / "smoke" / "cluster.yml").unlink()
    output = fresh.run("--pipelines", "simulation,data_curation")
    assert "simulate_au_2nm" not in ran(output), "it was finished"
    one, two = pristine.tables(), fresh.tables()
    assert len(two) > 5
    assert [name for name in two if one[name] != two[name]] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{scheduler: lokal}", "cluster.scheduler.*found 'lokal'"),
        ("{worker: 2}", "did you mean 'workers'"),
        ("{scheduler: slurm}", "needs the block 'slurm'"),
        ("{scheduler: slurm, slurm: {jobs: 2}}", "give exactly one of 'interface'"),
        ("{scheduler: slurm, slurm: {host: h, walltime: soon}}", "walltime"),
        ("{workers: 0}", "cluster.workers"),
        ("{workers: [", "no valid YAML"),
    ],
)
def test_mistakes_in_the_file_are_told_in_three_lines(fresh, text, message):
    use_cluster(fresh, text)
    output = fresh.run(fails=True)
    assert re.search(message, output, re.DOTALL | re.IGNORECASE), output[-2000:]
    assert re.search(r"Error: .*\n {8}.*\nRemedy: .*cluster\.yml|YAML", output), output[-2000:]
    assert not fresh.data.exists()

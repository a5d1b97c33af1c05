"""New micrographs with the network in the box: stopped and resumed, and repeated from a file."""

import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

pytestmark = pytest.mark.slow

COMMAND = ["run", "--env", "smoke", "--pipelines", "deployment", "--params"]
ASKED = "deployment.input=new,deployment.pixel_size_nm=0.05,deployment.judge=false"
PLACE = "08_reporting/deployment/new_micrographs"


def write_micrographs(folder, count=5):
    folder.mkdir()
    rows, columns = np.mgrid[:256, :256]
    for number in range(count):
        rng = np.random.default_rng(number)
        expected = np.full((256, 256), 200.0)
        for row, column in rng.integers(40, 216, (2, 2)):
            expected[(rows - row) ** 2 + (columns - column) ** 2 < 30**2] = 140
        np.save(folder / f"m{number}.npy", rng.poisson(expected).astype(np.uint16))


def results(place):
    """Return the bytes of everything that was written."""
    return {str(f.relative_to(place)): f.read_bytes() for f in place.rglob("*") if f.is_file()}


def differing(first, second):
    return sorted(f for f in {*first, *second} if first.get(f) != second.get(f))


@pytest.fixture
def whole(fresh):
    """A run that nothing stops: its folder, and what it wrote."""
    write_micrographs(fresh.folder / "new")
    fresh.kedro(*COMMAND, ASKED)
    found = results(fresh.data / PLACE)
    assert len([f for f in found if f.endswith("mask.tif")]) == 5
    return fresh, found


def stopped_after(project, masks, how):
    """Start a run, and stop it as soon as so many masks are there."""
    run = subprocess.Popen(
        [sys.executable, "-m", "kedro", *COMMAND, ASKED],
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # a shell lets what it starts in the background ignore Ctrl-C, and so its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    end = time.monotonic() + 300
    try:
        while run.poll() is None and time.monotonic() < end:
            if len(list((project.data / PLACE).rglob("result.json"))) >= masks:
                break
            time.sleep(0.01)
        assert run.poll() is None, "it was done before it could be stopped"
        run.send_signal(how)
        run.wait(60)
    finally:
        if run.poll() is None:
            run.kill()
            run.wait()
    assert run.returncode != 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_and_resumed_it_writes_what_an_unbroken_run_writes(whole, how):
    project, expected = whole
    shutil.rmtree(project.data)
    stopped_after(project, 2, how)
    done = {
        f: content
        for f, content in results(project.data / PLACE).items()
        if f.startswith("masks/micrographs/m0.npy/")
    }
    assert done, "the first micrograph was done"
    assert not differing(done, {f: expected[f] for f in done}), "what was written is whole"
    output = project.kedro(*COMMAND, ASKED)
    kept = int(output.partition(" segmented, ")[2].split()[0])
    assert 2 <= kept < 5, "what was done is not done again"
    assert differing(results(project.data / PLACE), expected) == []


def test_the_saved_parameters_repeat_the_analysis(whole):
    project, expected = whole
    file = project.data / PLACE / "analysis.yml"
    saved = yaml.safe_load(file.read_text())
    assert saved["run"]["params"]["deployment"]["pixel_size_nm"] == 0.05
    shutil.copy(file, project.folder / "analysis.yml")
    shutil.rmtree(project.data)
    # a parameter that has changed since is not what counts
    path = project.folder / "conf" / "base" / "parameters_deployment.yml"
    path.write_text(path.read_text().replace("neck: 0.8", "neck: 0.1"))
    project.kedro("run", "--env", "smoke", "--config", "analysis.yml")
    assert differing(results(project.data / PLACE), expected) == []

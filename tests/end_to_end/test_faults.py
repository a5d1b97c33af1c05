"""What may happen to a run; the table in docs/faults.md names the tests."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from benchmarks import kill
from tests.end_to_end.conftest import copy_of, differing, ran

pytestmark = pytest.mark.slow


def test_killed_at_random_moments_and_resumed_the_results_are_the_same(pristine, fresh):
    found = kill.killed_and_resumed(fresh.folder, kill.moments(kills=3, nodes=33, seed=1))
    expected = kill.tables(pristine.folder)
    assert len(expected) > 50
    assert differing(expected, found) == []


def test_files_that_are_cut_short_are_noticed_and_made_again(pristine, tmp_path):
    project = copy_of(pristine, tmp_path)
    cut = [
        "05_model_input/low_dose/patches.h5",
        "06_models/high_dose/grouped_fold1/model.safetensors",
        "06_models/large_pixels/grouped_fold0/card.json",
        "04_feature/low_dose/fingerprint.json",
        "07_model_output/results/low_dose.parquet",
        ".provenance/nodes/generalization_reporting.compare.json",
    ]
    for name in cut:
        file = project.data / name
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    output = project.run()
    for reason in (
        "preprocessing.low_dose.preprocess is run: output low_dose.patches was changed",
        "modelling.high_dose.train is run: output high_dose.networks was changed",
        "modelling.large_pixels.train is run: output large_pixels.networks was changed",
        "preprocessing.low_dose.fingerprint is run: ",
        "evaluation.low_dose.evaluate is run: output low_dose.results was changed",
        "generalization_reporting.compare is run: never run, or not to its end",
    ):
        assert reason in project.log(), reason
    assert not {"simulate_au_2nm", "acquire_micrographs"} & set(ran(output))
    assert differing(project.tables(), pristine.tables()) == []


def mounted(folder: Path, options: str) -> None:
    """Mount a disk of its own at a folder."""
    folder.mkdir(parents=True)
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if not done or done.returncode:
        pytest.skip("no disk can be mounted here: it takes the right to mount")


@pytest.fixture
def small_disk(tmp_path):
    """A folder that holds 1.5 MB."""
    folder = tmp_path / "small"
    mounted(folder, "size=1500k")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_and_what_was_finished_is_used_again(fresh, small_disk):
    path = fresh.folder / "conf" / "smoke" / "globals.yml"
    path.write_text(f"data: {small_disk}\n")
    output = fresh.run("--pipelines", "simulation", fails=True)
    assert "the disk is full" in output, output[-2000:]
    assert output.splitlines()[-1].startswith("Remedy: Make room")
    assert not list(small_disk.rglob("*.part*")), "no half file is left"
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = fresh.run("--pipelines", "simulation")
    assert "plan_acquisitions" not in ran(again), "it was finished"
    assert len(list(small_disk.rglob("*_80e_20pm.hspy"))) == 3


@pytest.fixture
def read_only(fresh):
    """A project whose folder of data may not be written: by permission, or for root by its disk."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        mounted(fresh.data, "ro")
        yield fresh
        subprocess.run(["umount", "-l", str(fresh.data)], check=True)
    else:
        fresh.data.mkdir(parents=True)
        fresh.data.chmod(0o555)
        yield fresh
        fresh.data.chmod(0o755)


def test_a_folder_that_may_not_be_written(read_only):
    output = read_only.run(fails=True)
    assert "data/smoke" in output
    assert "not allowed" in output, output[-2000:]
    assert output.splitlines()[-1].startswith("Remedy: ")
    assert ran(output) == [], "nothing was computed in vain"


def test_script_tags_in_the_metadata_stay_text(pristine, tmp_path):
    project = copy_of(pristine, tmp_path)
    evil = "<script>alert(1)</script>"
    path = project.folder / "conf" / "smoke" / "parameters_data_curation.yml"
    path.write_text(
        path.read_text().replace(
            "{varies: dose_e_per_A2,", f'{{title: "{evil}", varies: dose_e_per_A2,'
        )
    )
    project.run("--pipelines", "generalization_reporting")
    report = (project.data / "08_reporting" / "report.html").read_text()
    assert evil not in report
    assert "&lt;script&gt;alert(1)" in report
    summary = json.loads((project.data / "08_reporting" / "results.json").read_text())
    assert summary

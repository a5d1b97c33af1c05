"""The tutorial for a labelled study: its commands are run with its files, and show what it says."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.end_to_end.conftest import ROOT, Project
from tests.tutorials import blocks, follow

from temshift.example import write_labelled_example

pytestmark = pytest.mark.slow

NAME = "tutorial_study.md"
PAGE = (ROOT / "docs" / NAME).read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())
PERCENTILES = [2.3, 16, 50, 84, 97.7]


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> tuple[Project, list[tuple[str, Path]]]:
    """The project when the page is done, and each command with a copy of the data after it."""
    project = Project(tmp_path_factory.mktemp("tutorial"))
    copies = tmp_path_factory.mktemp("copies")
    seen = []

    def keep(command: str) -> None:
        seen.append((command, copies / str(len(seen))))
        shutil.copytree(project.folder / "data", seen[-1][1])

    follow(NAME, project, keep)
    return project, seen


def after(followed, command: str, which: int = 0) -> Path:
    """Return the copy of the data after the first (second) command that begins so."""
    return [copy for ran, copy in followed[1] if ran.startswith(command)][which]


def table(data: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(data / "gold" / f"{name}.csv")


def weights(data: Path) -> dict[str, bytes]:
    files = (data / "gold" / "06_models").rglob("*.safetensors")
    return {str(f.relative_to(data)): f.read_bytes() for f in files}


def test_the_example_is_what_the_page_shows(followed):
    made = after(followed, "make example") / "01_raw/gold"
    numbers = [f"{i:04d}" for i in range(1, 13)]
    expected = {f"{n}.tif" for n in numbers} | {f"masks/{n}.png" for n in numbers} | {"table.csv"}
    assert {f.relative_to(made).as_posix() for f in made.rglob("*.*")} == expected
    assert (made / "table.csv").read_text().startswith(blocks(NAME, "text")[0])


def test_the_data_are_in_order_and_a_sample_has_one_fold(followed):
    checked = after(followed, ".venv/bin/kedro")
    assert table(checked, "08_reporting/integrity").empty
    micrographs = table(checked, "03_primary/micrographs")
    assert len(micrographs) == 12
    assert (micrographs.groupby("specimen_id")["fold"].nunique() == 1).all()
    assert (micrographs["group"] == micrographs["specimen_id"]).all()
    assert micrographs["pixel_size_nm"].round(4).eq(0.03).all()


def test_the_first_report_says_what_the_page_says(followed):
    ran = after(followed, "make run")
    gaps = table(ran, "08_reporting/gaps").set_index(["network", "test_split"])
    worst = gaps.loc[("high_dose", "low_dose")]
    assert worst["verdict"] in {"degrades or breaks", "breaks"}
    assert worst["low"] > 0
    told = {
        key: float(re.search(pattern, WORDS).group(1))
        for key, pattern in {
            "gap": r"loses about ([\d.]+) Dice",
            "high": r"about ([\d.]+) at 1500",
            "low": r"and ([\d.]+) at 40 e",
        }.items()
    }
    assert worst["gap"] == pytest.approx(told["gap"], abs=0.1)
    matrix = table(ran, "08_reporting/matrix").set_index(["network", "test_split"])["dice"]
    assert matrix["high_dose", "high_dose"] == pytest.approx(told["high"], abs=0.04)
    assert matrix["low_dose", "low_dose"] == pytest.approx(told["low"], abs=0.08)
    report = (ran / "gold/08_reporting/report.html").read_text(encoding="utf-8")
    assert "No other column of the metadata table differs" in report
    assert "high_dose_noise" in report  # the parameters that would test a remedy


def test_the_remedy_alone_is_trained_and_has_its_row(followed):
    first, second = (after(followed, "make run", i) for i in (0, 1))
    before, now = weights(first), weights(second)
    assert len(before) == 2 * 6
    assert before.items() <= now.items()
    assert sorted("high_dose_noise" in name for name in now) == [False] * 12 + [True] * 6
    assert table(first, "08_reporting/remedies")["remedy"].isna().all()
    row = table(second, "08_reporting/remedies").set_index("remedy").loc["high_dose_noise"]
    assert row["gain"] > 0
    assert row["effect"] == ("helps" if row["gain_low"] > 0 else "not shown")


def test_nothing_is_left_when_the_page_is_done(followed):
    project, seen = followed
    assert seen[-1][0].startswith("rm -r")
    assert not list((project.folder / "conf").glob("gold"))
    assert not list((project.folder / "data").rglob("gold"))


def test_the_files_are_those_of_the_template_and_one_more():
    """The template's parameters that no file replaces still hold, and no key is in two files."""
    named = set(re.findall(r'title="conf/gold/([^"]+)"', PAGE))
    there = {f.name for f in (ROOT / "conf/mine").iterdir()}
    assert named - there == {"parameters_studies.yml"}
    assert "parameters_preprocessing.yml" in there - named  # the patches of 256 px
    patch_px = yaml.safe_load((ROOT / "conf/mine/parameters_preprocessing.yml").read_text())
    assert f"Patches of {patch_px['preprocessing']['patch_px']} px" in WORDS


def test_only_the_dose_differs_between_the_doses(tmp_path):
    """Without another dose there is nothing to find: means and spread of the images agree."""
    write_labelled_example(tmp_path, doses_e_per_A2=(1500.0, 1500.0))
    from temshift.catalog.micrographs import MicrographStore

    store = MicrographStore(tmp_path)
    table = pd.read_csv(tmp_path / "table.csv")
    for _, pair in table.groupby("Sample"):
        first, second = (store.read(name).image.astype(float) for name in pair["File"])
        masks = [store.read_label(f"masks/{name[:4]}.png") for name in pair["File"]]
        assert (masks[0] == masks[1]).all()
        assert not (first == second).all()
        assert first.mean() == pytest.approx(second.mean(), rel=0.01)
        # percentiles, as a single x-ray may make a third of a standard deviation
        assert np.percentile(first, PERCENTILES) == pytest.approx(
            np.percentile(second, PERCENTILES), rel=0.01
        )

"""New micrographs segmented with the networks of the smoke study, by the command users type."""

import json
import shutil

import pandas as pd
import pytest
from tests.end_to_end.conftest import ran

import temshift
from temshift.api import load_networks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def segmented(smoke):
    """Results of two good files, a broken one and a text, in a folder."""
    folder = smoke.folder / "new"
    (folder / "sub").mkdir(parents=True)
    found = sorted((smoke.data / "01_raw").rglob("*.hspy"))
    shutil.copy(found[0], folder / "one.hspy")
    shutil.copy(found[4], folder / "sub" / "two.hspy")
    (folder / "<b>broken.dm3").write_text("nothing")
    (folder / "notes.txt").write_text("nothing")
    smoke.run("--pipelines", "deployment", "--params", "deployment.input=new")
    return smoke.data / "08_reporting" / "deployment" / "new_micrographs"


def test_masks_tables_and_page_are_there_and_the_broken_file_is_reported(segmented):
    sizes = pd.read_csv(segmented / "sizes.csv").set_index("micrograph")
    assert set(sizes.index) == {"one.hspy", "sub/two.hspy", "<b>broken.dm3"}
    assert sizes.loc["<b>broken.dm3", "verdict"] == "failed"
    assert "DM3" in sizes.loc["<b>broken.dm3", "reasons"]
    assert (segmented / "masks/micrographs/sub/two.hspy/mask.tif").exists()
    text = (segmented / "micrographs.html").read_text()
    assert "&lt;b&gt;broken.dm3" in text
    assert "<b>broken" not in text
    particles = pd.read_csv(segmented / "particles.csv")
    assert set(particles["micrograph"]) <= {"one.hspy", "sub/two.hspy"}
    book = pd.read_excel(segmented / "sizes.xlsx", sheet_name=None)
    assert set(book) == {"micrographs", "particles", "networks", "columns"}
    assert set(book["columns"]["column"]) >= set(sizes.columns)


def test_networks_that_have_learned_nothing_are_not_trusted(segmented):
    sizes = pd.read_csv(segmented / "sizes.csv")
    assert "trust" not in set(sizes["verdict"])


def test_a_second_run_does_nothing_and_a_new_file_only_itself(smoke, segmented):
    again = smoke.run("--pipelines", "deployment", "--params", "deployment.input=new")
    assert ran(again) == []
    shutil.copy(smoke.folder / "new" / "one.hspy", smoke.folder / "new" / "three.hspy")
    more = smoke.run("--pipelines", "deployment", "--params", "deployment.input=new")
    assert "4 micrographs: 1 segmented, 2 up to date, 1 could not" in more
    assert "gather_evidence" not in more


def test_without_judgement_nothing_is_judged(smoke, segmented):
    smoke.run(
        *("--pipelines", "deployment", "--params"),
        "deployment.input=new/one.hspy,deployment.name=plain,deployment.judge=false",
    )
    place = segmented.parent / "plain"
    found = json.loads((place / "masks/micrographs/one.hspy/result.json").read_text())
    assert found["judgement"]["verdict"] == "not judged"
    assert "No mask is judged" in (place / "micrographs.html").read_text()
    assert (segmented / "sizes.csv").exists()


def test_a_folder_that_is_not_there_is_refused_before_any_work(fresh):
    output = fresh.run(
        "--pipelines", "deployment", "--params", "deployment.input=nowhere", fails=True
    )
    assert "no such file or folder of micrographs" in output
    assert ran(output) == []


def test_the_function_gives_what_the_pipeline_gives(smoke, segmented):
    from temshift.catalog.micrographs import MicrographStore

    micrograph = MicrographStore(smoke.folder / "new").read("one.hspy")
    found = temshift.segment(
        micrograph.image, micrograph.pixel_size_nm, networks=smoke.data / "06_models"
    )
    assert found.judgement["verdict"] != "not judged", "evidence lies beside the networks"
    with pytest.raises(FileNotFoundError, match="no trained network"):
        load_networks(smoke.data / "05_model_input")

"""The tutorial for new micrographs: its commands and code are run, and show what it says."""

import io
import re

import pandas as pd
import pytest
from tests.end_to_end.conftest import ROOT, Project
from tests.notebook import run_notebook
from tests.tutorials import blocks, follow

pytestmark = pytest.mark.slow

NAME = "tutorial_new_micrographs.md"
PAGE = (ROOT / "docs" / NAME).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> tuple[Project, list[pd.DataFrame]]:
    """The project after all commands of the page, and networks.csv after each segmentation."""
    project = Project(tmp_path_factory.mktemp("tutorial"))
    tables = []

    def keep(command: str) -> None:
        table = project.folder / "data/08_reporting/deployment/new_micrographs/networks.csv"
        if table.exists():
            tables.append(pd.read_csv(table))

    follow(NAME, project, keep)
    return project, tables


def test_the_files_are_those_that_the_page_names(followed):
    project, _ = followed
    place = project.folder / "data" / "example"
    named = re.findall(r"`((?:micrographs|masks)/[^`]+)`", PAGE.partition("## Segment")[0])
    found = {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()}
    assert found == set(named)


def test_the_verdicts_are_those_that_the_page_tells(followed):
    project, (first, second) = followed
    assert len(first) == 3
    rows = second.set_index(["micrograph", "network"])["verdict"]
    assert rows["bare_film.tif", "box"] == "do not trust"
    assert rows["gold.tif", "mask: gold.png"] == "trust"
    assert rows["gold.tif", "mask: gold_mask.png"] != "trust"
    assert rows["gold_low_dose.tif", "mask: gold_low_dose.png"] != "do not trust"
    sizes = pd.read_csv(project.folder / "data/08_reporting/deployment/new_micrographs/sizes.csv")
    gold = sizes.set_index("micrograph").loc["gold.tif"]
    assert (gold["n_particles"], gold["n_cut"]) == (2, 2)
    assert gold["mean"] == pytest.approx(4.0, rel=0.1)
    page = project.folder / "data/08_reporting/deployment/new_micrographs/micrographs.html"
    assert "Masks made elsewhere" in page.read_text(encoding="utf-8")


def test_the_code_runs_and_does_not_trust_the_moved_mask(followed, monkeypatch, capsys):
    monkeypatch.chdir(followed[0].folder)
    exec("".join(blocks(NAME, "python")), {})
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("trust ")
    assert not said[-1].startswith("trust ")


def test_the_notebook_needs_no_study_and_its_prediction_falls_with_the_truth(followed):
    notebook = run_notebook(followed[0].folder / "notebooks" / "segment_micrographs.ipynb", "local")
    data = [o.get("data", {}) for cell in notebook.cells for o in cell.get("outputs", [])]
    assert sum("image/png" in one for one in data) == 2
    html = [one["text/html"] for one in data if "text/html" in one]
    tables = [pd.read_html(io.StringIO(text), index_col=0, header=0)[0] for text in html]
    verdicts, *_, asked, elsewhere = tables
    assert verdicts["verdict"].to_dict() == {
        "gold": "trust",
        "gold_low_dose": verdicts.loc["gold_low_dose", "verdict"],
        "bare_film": "do not trust",
    }
    asked = asked.loc[asked.index != "noise"]  # the name of the index
    true, predicted = (asked[name].astype(float) for name in ("true_dice", "predicted_dice"))
    assert true.iloc[0] > 0.9
    assert true.iloc[-1] < 0.6
    assert predicted.iloc[-1] < predicted.iloc[0] - 0.2
    assert asked["verdict"].iloc[0] == "trust"
    assert asked["verdict"].iloc[-1] != "trust"
    assert elsewhere["verdict"].to_dict() == {
        "true": "trust",
        "moved": "do not trust",
        "full": "do not trust",
    }

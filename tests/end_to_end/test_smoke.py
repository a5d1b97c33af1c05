"""The whole study in miniature, by the commands its users type."""

import ast
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tests.end_to_end.conftest import ROOT, ran
from tests.notebook import run_notebook
from tests.page_numbers import Study, unexplained, wrong_tables

import temshift

pytestmark = pytest.mark.slow


def test_the_report_is_whole_and_says_what_the_data_are(smoke):
    text = (smoke.data / "08_reporting" / "report.html").read_text()
    assert "simulated" in text.lower()
    for split in ("low_dose", "high_dose", "large_pixels", "high_dose_noise"):
        assert split in text
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text), "needs no network to be read"
    assert len(text) < 15e6


def test_every_number_of_the_report_comes_from_the_tables(smoke):
    source = (smoke.data / "08_reporting" / "report.html").read_text()
    parameters = re.search(r"All parameters</summary><pre[^>]*>(.*?)</pre>", source, re.DOTALL)
    study = Study.read(smoke.data, yaml.safe_load(html.unescape(parameters[1])))
    assert wrong_tables(study) == []
    assert unexplained(source, study) == []


def test_results_have_a_row_for_each_network_fold_and_micrograph(smoke):
    results = pd.read_parquet(smoke.data / "07_model_output" / "results.parquet")
    cells = results.groupby(["network", "test_split"]).size()
    # three specimens, each tested by the network of its own fold
    assert (cells == 3).all()
    assert set(cells.index) == {
        ("high_dose", "high_dose"),
        ("high_dose", "large_pixels"),
        ("high_dose", "low_dose"),
        ("large_pixels", "high_dose"),
        ("large_pixels", "large_pixels"),
        ("low_dose", "low_dose"),
        ("low_dose", "high_dose"),
        ("high_dose_noise", "low_dose"),
        ("high_dose_noise", "high_dose"),
        ("large_pixels_resampled", "high_dose"),
        ("large_pixels_resampled", "large_pixels"),
    }
    assert results["dice"].between(0, 1).all()


def test_no_specimen_seen_in_training_is_tested(smoke):
    results = pd.read_parquet(smoke.data / "07_model_output" / "results.parquet")
    for (network, fold), rows in results.groupby(["network", "fold"]):
        trained = network.removesuffix("_resampled")  # which has the weights of another
        card = smoke.data / "06_models" / trained / f"grouped_fold{fold}" / "card.json"
        seen = set(json.loads(card.read_text())["train_groups"])
        assert seen
        assert not seen & set(rows["specimen_id"])


def test_notebook_explores_the_smoke_study(smoke):
    notebook = run_notebook(smoke.folder / "notebooks" / "explore_study.ipynb", "smoke")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    kinds = [set(o.get("data", {})) for cell in code for o in cell.get("outputs", [])]
    shown = set().union(*kinds)
    assert {"image/png", "image/svg+xml", "text/html"} <= shown
    # what needs a script shows nothing on GitHub, nor in a page made of the notebook
    assert shown <= {"image/png", "image/svg+xml", "text/html", "text/plain"}
    text = "".join(o.get("text", "") for o in code[-1].outputs)
    assert text.strip().endswith("08_reporting/report.html")


def test_the_pictures_of_the_pages_are_drawn_from_a_finished_study(smoke):
    code = (
        "import runpy; from pathlib import Path\n"
        f"script = runpy.run_path({str(ROOT / 'docs/pictures.py')!r})\n"
        f"content = script['content_of'](Path({str(smoke.folder / 'data')!r}))\n"
        "print(sorted(script['drawings'](content)))\n"
        "print(script['words_of']('overlay.png', script['overlay'](content))[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=smoke.folder,
        env={**os.environ, "KEDRO_ENV": "smoke"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "['matrix.svg', 'overview.svg']\nThe same part of a simulated micr" in done.stdout


def test_the_shell_is_that_of_the_environment_and_knows_the_catalog(smoke, tmp_path, monkeypatch):
    other = tmp_path / "ipython"
    other.write_text("#!/bin/sh\necho another ipython\nexit 1\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    output = smoke.kedro(
        "ipython", "--env", "smoke", "-c", "print(catalog.load('low_dose.patches'))"
    )
    assert "PatchStack of low_dose: 12 patches of 192 px" in output
    assert "another ipython" not in output


def test_a_second_run_does_nothing_and_a_change_only_what_depends_on_it(smoke, tmp_path):
    assert ran(smoke.run()) == []
    source = tmp_path / "src"
    shutil.copytree(
        Path(temshift.__file__).parent,
        source / "temshift",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for path in source.rglob("*.py"):
        path.write_text(f"# a comment\n{path.read_text()}\n# another\n")
    style = source / "temshift" / "reporting" / "report.css"
    style.write_text(style.read_text() + "\np { color: black; }\n")
    assert ran(smoke.run(source=source)) == ["write_report"]

    # two changes at once: patches are made again, but they are the same; a parameter of the report
    path = source / "temshift" / "microscopy" / "flat_field.py"
    tree = ast.parse(path.read_text())
    for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
        function.body.append(ast.parse("assert True").body[0])
    path.write_text(ast.unparse(tree))
    output = smoke.run("--params", "reporting.confidence=0.9", source=source)
    again = ran(output)
    assert again.count("preprocess") == 3
    assert {"compare", "write_report"} <= set(again)
    assert not {"simulate_au_2nm", "acquire_micrographs"} & set(again)
    assert not {"fingerprint", "train", "evaluate"} & set(again)
    assert "code of temshift.microscopy.flat_field changed" in output
    assert "parameter reporting.confidence changed (0.95 -> 0.9)" in output


def test_imaging_parameters_do_not_repeat_the_multislice(smoke):
    again = ran(
        smoke.run("--pipelines", "simulation", "--params", "simulation.imaging.absorption=0.09")
    )
    assert "acquire_micrographs" in again
    assert "simulate_au_2nm" not in again


def test_the_same_seed_gives_the_same_bytes(smoke):
    smoke.run()
    first = smoke.tables()
    smoke.run("--runner-params", "force=true")
    second = smoke.tables()
    assert len(first) > 20
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_a_split_a_study_and_an_architecture_are_added_by_parameters_only(smoke):
    path = smoke.folder / "conf" / "smoke" / "parameters_data_curation.yml"
    parameters = yaml.safe_load(path.read_text())
    parameters["splits"]["high_dose_raw"] = {
        "where": {"dose_e_per_A2": 884, "pixel_size_nm": 0.020},
        "preprocessing": {"flat_field": {"mode": "none"}},
    }
    parameters["studies"]["flat_field"] = {
        "varies": "preprocessing",
        "splits": ["high_dose", "high_dose_raw"],
        "networks": ["resnet"],
    }
    path.write_text(yaml.safe_dump(parameters))
    path = smoke.folder / "conf" / "smoke" / "parameters_modelling.yml"
    parameters = yaml.safe_load(path.read_text())
    parameters["networks"]["resnet"] = {
        "train_on": ["high_dose"],
        "architecture": {"name": "Unet", "encoder": "resnet18"},
        "training": {"steps": 2},
    }
    path.write_text(yaml.safe_dump(parameters))

    output = smoke.run()
    assert ran(output).count("train") == 2, "the new split and the new network, nothing else"
    matrix = pd.read_csv(smoke.data / "08_reporting" / "matrix.csv")
    study = matrix[matrix["study"] == "flat_field"]
    assert set(study["network"]) == {"high_dose", "high_dose_raw", "resnet"}
    assert set(study["test_split"]) == {"high_dose", "high_dose_raw"}
    card = smoke.data / "06_models" / "resnet" / "grouped_fold0" / "card.json"
    assert json.loads(card.read_text())["architecture"]["encoder"] == "resnet18"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--params", "modelling.training.steps=-3"), "steps.*greater than 0"),
        (("--params", "modelling.device=cuda"), "modelling.device is 'cuda', but this machine"),
        (("--params", "splits.low_dose.where.dose=80"), "unknown column 'dose'"),
        (("--params", "splits.low_dose.where.dose_e_per_A2=81"), "low_dose.*selects no"),
        (("--params", "studies.dose.varies=dosage"), "unknown column 'dosage'"),
    ],
)
def test_wrong_parameters_are_refused_before_any_work(fresh, arguments, message):
    if "cuda" in arguments[1]:
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
    output = fresh.run(*arguments, fails=True)
    assert re.search(message, output, re.DOTALL), output[-3000:]
    assert not list((fresh.data).rglob("*.hspy")), "nothing was simulated"


def test_a_study_naming_an_unknown_split_is_refused(fresh):
    path = fresh.folder / "conf" / "smoke" / "parameters_data_curation.yml"
    path.write_text(path.read_text().replace("[low_dose, high_dose]", "[low_dose, hihg_dose]"))
    output = fresh.run(fails=True)
    assert "studies.dose names the unknown split 'hihg_dose'; did you mean 'high_dose'" in output

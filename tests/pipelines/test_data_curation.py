"""The pipeline on files: from a foreign table to splits, and what bad data do to it."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from PIL import Image
from tests.dm3_writer import write_dm3

from temshift.config.curation import CurationParameters
from temshift.config.plan import StudyPlan
from temshift.learning.metrics import COUNTS
from temshift.pipelines.data_curation import pipeline as wiring
from temshift.study.integrity import IntegrityError
from temshift.study.splits import SplitError
from temshift.study.statistics import find_confounds, splits_table
from temshift.study.tables import TableError, known_values

CONF = Path(__file__).parents[2] / "conf"
CURATION = CurationParameters(
    columns={
        "path": "{Folder}/{File}",
        "label_path": "masks/{File.stem}.png",
        "dose_e_per_A2": "Dose",
        "specimen_id": "Grid",
        "session": "Date",
    },
    constants={"material": "Au"},
    date_format="%d.%m.%Y",
)
PARAMETERS = {
    "splits": {
        "low": {"where": {"dose_e_per_A2": 80}},
        "high": {"where": {"dose_e_per_A2": {"min": 400}, "session": ["2021-08-26"]}},
        "unused": {"where": {"material": "Pt"}},
    },
    "studies": {"dose": {"varies": "dose_e_per_A2", "splits": ["low", "high"]}},
}


@pytest.fixture
def project(tmp_path, rng, monkeypatch):
    """Eight micrographs with masks and a table; the catalog of conf/base on ``tmp_path``."""
    raw = tmp_path / "data/01_raw"
    (raw / "micrographs/day 1").mkdir(parents=True)
    (raw / "micrographs/masks").mkdir()
    rows = []
    for i in range(8):
        image = rng.integers(0, 4000, (48, 64)).astype(np.uint16)
        write_dm3(raw / f"micrographs/day 1/{i}.dm3", image, 0.02)
        mask = np.zeros((48, 64), np.uint8)
        mask[i : i + 30, 2:32] = 1  # 0.6 nm, nowhere twice
        Image.fromarray(mask).save(raw / f"micrographs/masks/{i}.png")
        dose = 80 if i < 4 else 423
        grid = f"00{i % 4}"
        rows.append(
            {
                "File": f"{i}.dm3",
                "Folder": "day 1",
                "Dose": dose,
                "Grid": grid,
                "Date": "26.08.2021",
            }
        )
    pd.DataFrame(rows).to_csv(raw / "micrographs.csv", index=False, encoding="utf-8-sig")
    shutil.copytree(CONF / "base", tmp_path / "conf/base")
    (tmp_path / "conf/test").mkdir()
    (tmp_path / "conf/test/globals.yml").write_text(f"data: {tmp_path / 'data'}\n")
    monkeypatch.setattr(wiring, "study_plan", lambda: StudyPlan.from_parameters(PARAMETERS))
    return tmp_path


def catalog_of(project):
    loader = OmegaConfigLoader(
        conf_source=str(project / "conf"), base_env="base", default_run_env="test"
    )
    catalog = DataCatalog.from_config(loader["catalog"])
    plan = StudyPlan.from_parameters(PARAMETERS)
    catalog["params:curation"] = MemoryDataset(CURATION)
    catalog["params:modelling.folds"] = MemoryDataset(2)
    catalog["params:preprocessing.patch_px"] = MemoryDataset(16)
    catalog["params:modelling.protocols"] = MemoryDataset(["grouped"])
    catalog["params:preprocessing.pixel_size_nm"] = MemoryDataset(None)
    for name, split in plan.splits.items():
        catalog[f"params:splits.{name}"] = MemoryDataset(split)
    return catalog


def run(project):
    catalog = catalog_of(project)
    SequentialRunner().run(wiring.create_pipeline(), catalog)
    return catalog


def test_every_dataset_is_kept(project):
    catalog = catalog_of(project)
    for name in wiring.create_pipeline().datasets():
        if not name.startswith("params:"):
            assert not isinstance(catalog.get(name), MemoryDataset), name


def test_from_table_to_splits(project):
    catalog = run(project)
    low, high = catalog.load("low.micrographs"), catalog.load("high.micrographs")
    assert low["path"].tolist() == [f"day 1/{i}.dm3" for i in range(4)]
    assert high["path"].tolist() == [f"day 1/{i}.dm3" for i in range(4, 8)]
    assert low["specimen_id"].tolist() == ["000", "001", "002", "003"]  # no numbers
    assert low["support"].tolist() == [""] * 4
    assert low["session"].tolist() == ["2021-08-26"] * 4
    assert set(low["pixel_size_source"]) == {"header"}
    np.testing.assert_allclose(low["pixel_size_nm"], 0.02, rtol=1e-6)
    assert low["fold"].tolist() == high["fold"].tolist()  # the same specimens
    assert sorted(low["fold"]) == [0, 0, 1, 1]
    report = catalog.load("data_curation.reporting.integrity")
    assert report.empty
    assert list(report.columns) == ["severity", "file", "column", "found", "expected"]
    assert not catalog.exists("unused.micrographs")


def test_numbers_survive_the_files_to_the_last_bit(project):
    catalog = run(project)
    table = catalog.load("data_curation.primary.micrographs")
    sizes = {
        catalog.load("data_curation.raw.micrographs").read(p).pixel_size_nm for p in table["path"]
    }
    assert set(table["pixel_size_nm"]) == sizes


def test_same_input_same_bytes(project):
    def contents():
        folder = project / "data"
        return {p: p.read_bytes() for p in sorted(folder.rglob("*.csv"))}

    run(project)
    first = contents()
    run(project)
    assert contents() == first
    assert len(first) == 9


def test_bad_data_are_reported_and_leave_earlier_results(project):
    catalog = run(project)
    before = (project / "data/03_primary/micrographs.csv").read_bytes()
    micrographs = project / "data/01_raw/micrographs"
    (micrographs / "masks/1.png").unlink()
    truncated = (micrographs / "day 1/2.dm3").read_bytes()[:-100]
    (micrographs / "day 1/2.dm3").write_bytes(truncated)
    write_dm3(micrographs / "day 1/3.dm3", np.full((48, 64), np.nan, np.float32), 0.02)
    Image.fromarray(np.full((48, 64), 7, np.uint8)).save(micrographs / "masks/4.png")
    Image.fromarray(np.zeros((48, 63), np.uint8)).save(micrographs / "masks/5.png")
    with pytest.raises(IntegrityError, match="5 errors"):
        run(project)
    report = catalog.load("data_curation.reporting.integrity")
    found = dict(zip(report["file"], report["found"], strict=True))
    assert found["day 1/1.dm3"] == "no file 'masks/1.png'"
    assert "truncated" in found["day 1/2.dm3"]
    assert "NaN" in found["day 1/3.dm3"]
    assert "found 1 values (7)" in found["day 1/4.dm3"]
    assert "48 × 63 px" in found["day 1/5.dm3"]
    assert (project / "data/03_primary/micrographs.csv").read_bytes() == before


def test_a_split_that_selects_nothing(project, monkeypatch):
    parameters = {
        **PARAMETERS,
        "splits": {**PARAMETERS["splits"], "low": {"where": {"dose_e_per_A2": 90}}},
    }
    monkeypatch.setitem(globals(), "PARAMETERS", parameters)
    with pytest.raises(SplitError, match=r"(?s)'low' selects none of 8.*nearest values.*80, 423"):
        run(project)


# --------------------------------------------------------------------------- own columns
OWN = {
    "temperature_K": {"from": "Temp", "type": "number", "unit": "K"},
    "frame": {"from": "{File.stem}", "type": "text", "confounds": False},
    "loaded_on": {"from": "Loaded", "type": "date"},
}


@pytest.fixture
def with_own_columns(project, monkeypatch):
    """A table with a temperature in digits that float would change, a number and a date."""
    path = project / "data/01_raw/micrographs.csv"
    table = pd.read_csv(path, dtype=str, encoding="utf-8-sig")
    table["Temp"] = ["0.1", "0.30000000000000004", "", "0.1", "295", "295", "295.5", "295"]
    table["Loaded"] = ["01.02.2024"] * 4 + [""] * 4
    table.to_csv(path, index=False)
    parameters = {
        "splits": {
            "low": {"where": {"temperature_K": {"max": 100}}},
            "high": {"where": {"temperature_K": [295, 295.5], "material": "Au"}},
        },
        "studies": {"temperature": {"varies": "temperature_K", "splits": ["low", "high"]}},
    }
    columns = {**CURATION.columns, **OWN}
    own = CurationParameters(**{**CURATION.model_dump(), "columns": columns})
    monkeypatch.setitem(globals(), "CURATION", own)
    monkeypatch.setitem(globals(), "PARAMETERS", {**parameters, "curation": own})
    return project


def test_own_columns_are_selected_on_and_kept(with_own_columns):
    catalog = run(with_own_columns)
    low, high = catalog.load("low.micrographs"), catalog.load("high.micrographs")
    assert low["path"].tolist() == ["day 1/0.dm3", "day 1/1.dm3", "day 1/3.dm3"]
    assert high["path"].tolist() == [f"day 1/{i}.dm3" for i in range(4, 8)]
    assert low["frame"].tolist() == ["0", "1", "3"]
    assert low["loaded_on"].tolist() == ["2024-02-01"] * 3
    columns = StudyPlan.from_parameters(PARAMETERS).columns
    assert known_values(low, columns["temperature_K"]).tolist() == [0.1, 0.1 + 0.2, 0.1]
    assert high["loaded_on"].tolist() == [""] * 4


def test_own_columns_reach_confounds_and_the_table_of_splits(with_own_columns):
    catalog = run(with_own_columns)
    plan = StudyPlan.from_parameters(PARAMETERS)
    rows = {s: catalog.load(f"{s}.micrographs") for s in plan.used_splits}
    confounds = find_confounds(plan, rows)
    assert set(confounds["column"]) == {"dose_e_per_A2", "loaded_on"}
    results = pd.DataFrame(columns=["test_split", "micrograph_id", "n_patches", *COUNTS])
    matrix = pd.DataFrame(columns=["network", "test_split"])
    splits = splits_table(results, matrix, plan, rows)
    dataset = "generalization_reporting.reporting.splits"
    catalog.save(dataset, splits)
    kept = catalog.load(dataset).set_index("split")
    assert kept.loc["low", ["temperature_K_min", "temperature_K_max"]].tolist() == [0.1, 0.1 + 0.2]
    assert kept.loc["high", ["temperature_K_min", "temperature_K_max"]].tolist() == [295, 295.5]
    assert kept["loaded_on"].tolist() == ["2024-02-01", ""]
    assert "frame" not in kept


def test_own_numbers_and_dates_are_checked(with_own_columns):
    path = with_own_columns / "data/01_raw/micrographs.csv"
    table = pd.read_csv(path, dtype=str)
    table.loc[0, "Temp"], table.loc[1, "Loaded"] = "cold", "yesterday"
    table.to_csv(path, index=False)
    with pytest.raises(IntegrityError, match="2 errors") as error:
        run(with_own_columns)
    assert "temperature_K is wrong\nFound cold; expected a number" in str(error.value)
    assert "loaded_on: found yesterday; expected a date in the form" in str(error.value)


def test_an_own_column_that_the_table_lacks(with_own_columns):
    path = with_own_columns / "data/01_raw/micrographs.csv"
    pd.read_csv(path, dtype=str).rename(columns={"Temp": "Temperature"}).to_csv(path, index=False)
    with pytest.raises(TableError, match=r"maps 'temperature_K' to 'Temp'.*did you mean 'Temper"):
        run(with_own_columns)


@pytest.mark.parametrize("group_by", ["specimen_id", "micrograph_id", "session"])
def test_the_group_is_what_group_by_says(project, monkeypatch, group_by):
    path = project / "data/01_raw/micrographs.csv"
    table = pd.read_csv(path, dtype=str, encoding="utf-8-sig")
    table["Date"] = ["26.08.2021", "27.08.2021"] * 3 + ["26.08.2021", ""]
    table.to_csv(path, index=False)
    own = CurationParameters(**{**CURATION.model_dump(), "group_by": group_by})
    monkeypatch.setitem(globals(), "CURATION", own)
    splits = {"low": {"where": {"material": "Au"}}, "high": {"where": {"dose_e_per_A2": 423}}}
    monkeypatch.setitem(globals(), "PARAMETERS", {**PARAMETERS, "splits": splits})
    found = run(project).load("data_curation.primary.micrographs")
    unknown = found[group_by] == ""
    assert (found["group"] == found[group_by].where(~unknown, found["micrograph_id"])).all()
    assert unknown.sum() == (group_by == "session")
    assert (found.groupby("group")["fold"].nunique() == 1).all()


# --------------------------------------------------------------------------- conf/mine
def test_template_for_own_images(tmp_path, rng, monkeypatch):
    """A folder in the form that conf/mine describes, with pictures of unknown pixel size."""
    shutil.copytree(CONF, tmp_path / "conf")
    images = tmp_path / "images"
    (images / "masks").mkdir(parents=True)
    rows = []
    for i in range(8):
        picture = rng.integers(0, 255, (300, 280, 3)).astype(np.uint8)
        Image.fromarray(picture).save(images / f"{i}.png")
        Image.fromarray(np.eye(300, 280, dtype=np.uint8) * np.uint8(255)).save(
            images / f"masks/{i}.png"
        )
        dose = 80 if i % 2 else 423
        rows.append(
            {
                "File": f"{i}.png",
                "Sample": i // 2,
                "Material": "Au",
                "Date": "2021-08-26",
                "Dose (e/A2)": dose,
            }
        )
    pd.DataFrame(rows).to_csv(images / "table.csv", index=False)
    (tmp_path / "conf/mine/globals.yml").write_text(
        f"data: {tmp_path}/data\nimages: {images}\ntable: {images}/table.csv\n"
    )
    loader = OmegaConfigLoader(
        conf_source=str(tmp_path / "conf"),
        base_env="base",
        default_run_env="mine",
        merge_strategy={"parameters": "soft", "globals": "soft"},
    )
    parameters = loader["parameters"]
    plan = StudyPlan.from_parameters(parameters)
    assert plan.used_splits == plan.rows == ["low_dose", "high_dose"]
    assert not parameters["simulation"]
    monkeypatch.setattr(wiring, "study_plan", lambda: plan)
    catalog = DataCatalog.from_config(loader["catalog"])
    catalog["params:curation"] = MemoryDataset(CurationParameters(**parameters["curation"]))
    catalog["params:modelling.folds"] = MemoryDataset(parameters["modelling"]["folds"])
    catalog["params:modelling.protocols"] = MemoryDataset(["grouped"])
    for key in ("patch_px", "pixel_size_nm"):
        value = parameters["preprocessing"][key]
        catalog[f"params:preprocessing.{key}"] = MemoryDataset(value)
    for name, split in plan.splits.items():
        catalog[f"params:splits.{name}"] = MemoryDataset(split)
    SequentialRunner().run(wiring.create_pipeline(), catalog)
    low = catalog.load("low_dose.micrographs")
    assert low["path"].tolist() == ["1.png", "3.png", "5.png", "7.png"]
    assert low["label_path"].tolist() == [f"masks/{i}.png" for i in (1, 3, 5, 7)]
    assert set(low["pixel_size_source"]) == {"unknown"}
    assert low["pixel_size_nm"].isna().all()
    assert sorted(set(low["fold"])) == [0, 1, 2]

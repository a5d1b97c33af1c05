"""The simulation pipeline: from parameters to files that the next pipeline reads."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from kedro.framework.project import configure_project
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from kedro_datasets.pandas import CSVDataset
from pydantic import ValidationError

from temshift.catalog.exit_waves import ExitWavesDataset
from temshift.catalog.micrographs import MicrographsDataset, label_path_beside
from temshift.config.contract import MICROGRAPH_COLUMNS
from temshift.config.plan import StudyPlan
from temshift.config.simulation import SimulationParameters
from temshift.microscopy import acquisitions
from temshift.pipelines.simulation import pipeline as module
from temshift.study.splits import SplitError

SIMULATION = {
    "seed": 3,
    "field_width_nm": 6.4,
    "fields": 2,
    "multislice": {"grid_px": 192, "slice_thickness_A": 10.0},
    "supports": {
        "carbon": {"composition": {"C": 1}, "atoms_per_A3": 0.1, "thickness_nm": [1.0, 1.0]}
    },
    "specimens": {
        "au": {"material": "Au", "diameter_nm": 2.0, "support": "carbon", "particles": [1, 2]},
        "cdse": {
            "material": "CdSe",
            "diameter_nm": 2.0,
            "aspect_ratio": 1.3,
            "support": "carbon",
            "particles": [1, 1],
        },
        "unused": {"material": "Ag", "diameter_nm": 2.0, "support": "carbon", "particles": [1, 1]},
    },
    "sessions": {"2024-01-15": {}, "2024-03-20": {"unevenness": 0.5}},
    "imaging": {"contrast_factor": 1.0, "absorption": 0.05, "xray_per_Mpx": 0.0},
    "acquisitions": [
        {
            "specimens": ["au", "cdse"],
            "session": "2024-01-15",
            "dose_e_per_A2": 423,
            "pixel_size_nm": 0.02,
        },
        {"specimens": ["au"], "session": "2024-01-15", "dose_e_per_A2": 80, "pixel_size_nm": 0.02},
        {"specimens": ["au"], "session": "2024-01-15", "dose_e_per_A2": 423, "pixel_size_nm": 0.04},
        {"specimens": ["au"], "session": "2024-03-20", "dose_e_per_A2": 423, "pixel_size_nm": 0.02},
    ],
}
SPLITS = {
    "low": {"where": {"dose_e_per_A2": 80}},
    "high": {"where": {"dose_e_per_A2": 423, "pixel_size_nm": 0.02, "material": "Au"}},
}
STUDIES = {"dose": {"varies": "dose_e_per_A2", "splits": ["low", "high"]}}


@pytest.fixture
def pipeline(monkeypatch):
    configure_project("temshift")
    parameters = {"simulation": SIMULATION, "splits": SPLITS, "studies": STUDIES}
    monkeypatch.setattr(module, "project_parameters", lambda: parameters)
    monkeypatch.setattr(module, "study_plan", lambda: StudyPlan.from_parameters(parameters))
    return module.create_pipeline()


def catalog_in(folder, splits=SPLITS):
    blocks = SIMULATION["specimens"]
    simulation = SimulationParameters.model_validate(SIMULATION)
    parameters = {
        "params:simulation": simulation,
        **{f"params:simulation.{key}": value for key, value in SIMULATION.items()},
        **{f"params:simulation.specimens.{name}": blocks[name] for name in blocks},
        **{f"params:splits.{name}": split for name, split in splits.items()},
    }
    waves = folder / "waves"
    return DataCatalog(
        {
            **{name: MemoryDataset(value) for name, value in parameters.items()},
            "simulation.intermediate.acquisitions": CSVDataset(
                filepath=str(folder / "plan.csv"), save_args={"index": False}
            ),
            "simulation.intermediate.au_waves": ExitWavesDataset(str(waves / "au")),
            "simulation.intermediate.cdse_waves": ExitWavesDataset(str(waves / "cdse")),
            "data_curation.raw.micrographs": MicrographsDataset(str(folder / "micrographs")),
            "data_curation.raw.metadata": CSVDataset(
                filepath=str(folder / "micrographs.csv"), save_args={"index": False}
            ),
        }
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of one complete run."""
    folder = tmp_path_factory.mktemp("simulation")
    with pytest.MonkeyPatch.context() as patch:
        SequentialRunner().run(pipeline.__wrapped__(patch), catalog_in(folder))
    return folder


def table_of(folder):
    return pd.read_csv(folder / "micrographs.csv")


def read(folder, rows):
    """Return images and labels of some rows of the table."""
    store = MicrographsDataset(str(folder / "micrographs")).load()
    return (
        [store.read(p) for p in rows["path"]],
        [store.read_label(p) for p in rows["label_path"]],
    )


def test_a_node_for_each_type_that_is_imaged(pipeline):
    names = {node.name for node in pipeline.nodes}
    assert names == {"plan_acquisitions", "simulate_au", "simulate_cdse", "acquire_micrographs"}


def test_the_table_follows_the_contract(finished):
    table = table_of(finished)
    assert list(table.columns) == [c for c in MICROGRAPH_COLUMNS if c != "sha256"]
    assert len(table) == 2 * (2 + 1 + 1 + 1)
    assert table["micrograph_id"].is_unique
    assert set(table["source"]) == {"simulated"}
    assert dict(zip(table["material"], table["shape"], strict=True)) == {
        "Au": "sphere",
        "CdSe": "oblong",
    }


def test_every_micrograph_has_its_file_mask_and_calibration(finished):
    table = table_of(finished)
    images, labels = read(finished, table)
    for row, image, label in zip(table.itertuples(), images, labels, strict=True):
        assert label_path_beside(row.path) == row.label_path
        assert image.image.dtype == np.uint16
        assert image.image.shape == label.shape
        assert image.pixel_size_source == "header"
        assert image.pixel_size_nm == pytest.approx(row.pixel_size_nm, rel=0.01)
        assert image.metadata["dose_e_per_A2"] == row.dose_e_per_A2
        assert image.metadata["energy_eV"] == 300e3
        electrons = row.dose_e_per_A2 * (10 * image.pixel_size_nm) ** 2
        assert image.image.mean() == pytest.approx(20 * electrons, rel=0.05)
        assert 0.03 < label.mean() < 0.5


def test_one_specimen_has_one_mask_and_one_defocus_under_all_conditions(finished):
    table = table_of(finished)
    for _, rows in table.groupby("specimen_id"):
        assert rows["defocus_A"].nunique() == 1
        _, labels = read(finished, rows)
        fine = [label for label in labels if label.shape == (320, 320)]
        assert all(np.array_equal(label, fine[0]) for label in fine)
        for coarse in labels:
            assert coarse.mean() == pytest.approx(fine[0].mean(), rel=0.03)


def test_exposures_of_one_specimen_differ_in_their_noise_only(finished):
    table = table_of(finished)
    rows = table[(table["specimen_id"] == "au_00") & (table["pixel_size_nm"] == 0.02)]
    rows = rows[rows["session"] == "2024-01-15"].sort_values("dose_e_per_A2")
    (low, high), _ = read(finished, rows)
    relative = [i.image / i.image.mean() for i in (low, high)]
    assert relative[0].std() > 1.4 * relative[1].std()
    smooth = [r[:320, :320].reshape(20, 16, 20, 16).mean((1, 3)) for r in relative]
    assert np.corrcoef(smooth[0].ravel(), smooth[1].ravel())[0, 1] > 0.2  # chance: 0.00 ± 0.05


def test_the_second_session_is_unevenly_lit(finished):
    table = table_of(finished)
    rows = table[(table["dose_e_per_A2"] == 423) & (table["pixel_size_nm"] == 0.02)]
    rows = rows[rows["specimen_id"] == "au_01"].sort_values("session")
    (even, uneven), _ = read(finished, rows)
    quarters = [
        i.image.reshape(2, 160, 2, 160).mean((1, 3)) / i.image.mean() for i in (even, uneven)
    ]
    assert np.ptp(quarters[1]) > 0.1 + np.ptp(quarters[0])


def test_the_same_seed_gives_the_same_bytes(finished, tmp_path, pipeline):
    SequentialRunner().run(pipeline, catalog_in(tmp_path))
    files = sorted(p.relative_to(finished) for p in finished.rglob("*") if p.is_file())
    assert len(files) > 20
    for file in files:
        if file.parts[0] == "waves":  # HDF5 stamps: compare what is in them
            continue
        assert (tmp_path / file).read_bytes() == (finished / file).read_bytes(), file
    for kind in ("au", "cdse"):
        first, second = (
            ExitWavesDataset(str(f / "waves" / kind)).load() for f in (finished, tmp_path)
        )
        for name in first:
            assert first[name].wave.tobytes() == second[name].wave.tobytes()


def test_a_split_that_would_select_nothing_stops_the_run_before_any_simulation(tmp_path, pipeline):
    splits = {**SPLITS, "high": {"where": {"dose_e_per_A2": 884}}}
    with pytest.raises(SplitError, match=r"'high' selects none of 10 micrographs"):
        SequentialRunner().run(pipeline, catalog_in(tmp_path, splits))
    assert not (tmp_path / "waves").exists()


def test_specimens_depend_on_their_own_name_and_the_seed_only():
    seeds = {acquisitions.stable_seed(s, n) for s in (1, 2) for n in ("au_00", "au_01", "ag_00")}
    assert len(seeds) == 6
    assert acquisitions.stable_seed(1, "au_00") == acquisitions.stable_seed(1, "au_00")
    assert acquisitions.stable_seed(1, "a", "b") != acquisitions.stable_seed(1, "b", "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"specimens": {**SIMULATION["specimens"], "au": {**SIMULATION["specimens"]["au"],
          "support": "carbn"}}}, "unknown support 'carbn'; did you mean 'carbon'"),
        ({"acquisitions": [{**SIMULATION["acquisitions"][0], "specimens": ["gold"]}]},
         r"acquisitions\[0\] names the unknown specimen 'gold'"),
        ({"acquisitions": [{**SIMULATION["acquisitions"][0], "session": "2024-01-16"}]},
         "unknown session '2024-01-16'; did you mean '2024-01-15'"),
        ({"field_width_nm": -1}, "field_width_nm"),
        ({"imaging": {"contrast_factor": 0.5}}, "contrast_factor"),
        ({"imaging": {"mtf_width": 0.4, "ntf_width": 0.3}},
         r"'ntf_width' \(0.3\) must not be below 'mtf_width' \(0.4\)"),
        ({"supports": {"carbon": {**SIMULATION["supports"]["carbon"], "thickness_nm": [9, 4]}}},
         r"'thickness_nm' must be \[thinnest, thickest\], found \[9.0, 4.0\]"),
        ({"colour": "blue"}, "colour"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(change, message):
    with pytest.raises(ValidationError, match=message):
        SimulationParameters.model_validate({**SIMULATION, **change})


def test_the_same_acquisition_twice_is_refused():
    twice = [SIMULATION["acquisitions"][1]] * 2
    parameters = SimulationParameters.model_validate({**SIMULATION, "acquisitions": twice})
    with pytest.raises(ValueError, match="make the same micrographs"):
        acquisitions.plan(parameters)


def test_a_defocus_of_an_acquisition_overrides_that_of_the_specimens():
    series = [{**SIMULATION["acquisitions"][1], "defocus_A": d} for d in (-100, 100)]
    parameters = SimulationParameters.model_validate({**SIMULATION, "acquisitions": series})
    table = acquisitions.plan(parameters)
    assert sorted(table["defocus_A"].unique()) == [-100, 100]
    assert table["micrograph_id"].is_unique

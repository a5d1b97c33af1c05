"""What one sees of data in a shell: short descriptions, and names that were meant."""

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.io import DatasetError, MemoryDataset
from tests.network_cards import network_card

from temshift.catalog.exit_waves import ExitWaveStore
from temshift.catalog.micrographs import MicrographStore
from temshift.catalog.networks import CheckpointStore
from temshift.catalog.segmentations import SegmentationStore
from temshift.catalog.study_catalog import NoSuchDatasetError, StudyCatalog
from temshift.config.errors import UserError
from temshift.learning.examples import Example
from temshift.learning.network_set import TrainedNetwork
from temshift.microscopy.micrograph import Micrograph
from temshift.microscopy.multislice import ExitWave
from temshift.microscopy.patches import PATCH_COLUMNS, PatchStack, PatchStream


@pytest.fixture
def catalog(tmp_path):
    made = StudyCatalog.from_config(
        {
            "{split}.patches": {"type": "pandas.CSVDataset", "filepath": str(tmp_path / "{split}")},
            "reporting.gaps": {"type": "pandas.CSVDataset", "filepath": str(tmp_path / "gaps")},
        }
    )
    made["memory"] = MemoryDataset(1)
    made.known = lambda: {"low_dose.patches", "reporting.gaps", "params:x"}
    (tmp_path / "low_dose").write_text("a\n1\n")
    return made


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("low_dose.patchs", "low_dose.patches"),  # no pattern fits
        ("lowdose.patches", "low_dose.patches"),  # the pattern fits, but no split is called so
        ("reporting.gap", "reporting.gaps"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(catalog, wrong, meant):
    for _ in range(2):  # a pattern is remembered under the name that was asked for
        with pytest.raises(NoSuchDatasetError, match=f"the nearest '{meant}'"):
            catalog.load(wrong)


def test_a_dataset_is_not_found_by_a_misspelt_name_either(catalog):
    with pytest.raises(NoSuchDatasetError, match=r"nearest 'low_dose\.patches'"):
        catalog["low_dose.patchs"]


def test_what_exists_is_loaded_and_what_was_not_made_yet_says_so(catalog):
    assert catalog.load("low_dose.patches")["a"].tolist() == [1]
    with pytest.raises(DatasetError) as caught:
        catalog.load("reporting.gaps")
    assert not isinstance(caught.value, NoSuchDatasetError)


def test_a_catalog_is_described_in_a_line(catalog):
    assert repr(catalog).startswith("StudyCatalog: 3 datasets (low_dose, memory, reporting);")


N = 40
IMAGES = np.zeros((N, 256, 256), np.float32)
LABELS = np.zeros((N, 256, 256), np.uint8)
TABLE = pd.DataFrame({column: range(N) for column in PATCH_COLUMNS})


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (PatchStack(IMAGES, LABELS, TABLE, {"split": "au"}), "of au: 40 patches of 256 px"),
        (PatchStream([], 40, 256), "40 patches of 256 px"),
        (Micrograph(IMAGES[0], 0.02), "256 × 256 px, float32, pixels 0.02 nm"),
        (Micrograph(IMAGES[0]), "pixels of unknown size"),
        (ExitWave(IMAGES[0], IMAGES[0], LABELS[0], 120.0, 3e5), "field of 12 nm at 300 keV"),
        (Example("au", "m1", "best", 0.91, LABELS[0], LABELS[0], LABELS[0]), "best, Dice 0.91"),
        (
            TrainedNetwork({"w": torch.zeros(2_000_000)}, network_card()),
            "2 million values, grouped fold 0 of 2",
        ),
    ],
)
def test_objects_describe_themselves_in_a_line(thing, said):
    assert said in repr(thing)
    assert "\n" not in repr(thing)
    assert len(repr(thing)) < 250


@pytest.mark.parametrize(
    "store", [MicrographStore, ExitWaveStore, CheckpointStore, SegmentationStore]
)
def test_stores_say_how_much_they_hold(store, tmp_path):
    assert f"{store.__name__}('{tmp_path}'): 0 " in repr(store(tmp_path))


TABLE = pd.DataFrame({"micrograph_id": ["a", "b"], "pixel_size_nm": [0.02, 0.03]})


@pytest.mark.parametrize(
    ("kind", "file", "data", "damage"),
    [
        ("pandas.ParquetDataset", "a.parquet", TABLE, lambda whole: whole[: len(whole) // 2]),
        ("json.JSONDataset", "a.json", {"a": [1, 2]}, lambda whole: whole[: len(whole) // 2]),
        ("pandas.CSVDataset", "a.csv", TABLE, lambda whole: b""),
        ("pandas.CSVDataset", "a.csv", TABLE, lambda whole: b"\xff\xfe\x9d"),
        (
            "temshift.catalog.tables.TypedTableDataset",
            "a.csv",
            TABLE,
            lambda whole: whole.replace(b"0.03", b"0x"),
        ),
    ],
)
def test_a_damaged_file_that_a_pipeline_makes_is_named_with_it(tmp_path, kind, file, data, damage):
    path = tmp_path / file
    catalog = StudyCatalog.from_config({"low.made": {"type": kind, "filepath": str(path)}})
    catalog.save("low.made", data)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError):
        catalog.load("low.made")  # no pipeline is known to make it: a user's own file
    catalog.makers = lambda: {"low.made": "evaluation"}
    with pytest.raises(UserError) as caught:
        catalog.load("low.made")
    assert caught.value.what.startswith(f"{path}: what a pipeline has written there cannot be read")
    assert "Delete it and run the pipeline that makes it: kedro run --pipelines evaluation" in (
        caught.value.remedy
    )
    path.unlink()
    with pytest.raises(DatasetError) as absent:
        catalog.load("low.made")
    assert "Delete it" not in str(absent.value), "it is not there at all"

"""Whatever of kedro-datasets saves a file, a save that breaks off leaves the one before."""

import os
import pickle

import pandas as pd
import plotly.graph_objects as go
import pytest
from kedro.io import DatasetError, MemoryDataset
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import CSVDataset, ParquetDataset
from kedro_datasets.plotly import JSONDataset as FigureDataset

from temshift.catalog.study_catalog import StudyCatalog
from temshift.catalog.tables import TypedTableDataset
from temshift.mistakes import as_user_error


class Broken:
    """What cannot be written, found out when half of the file is."""

    def __str__(self) -> str:
        raise OSError(28, "No space left on device")

    __repr__ = __str__


def broken_table() -> pd.DataFrame:
    return pd.DataFrame({"a": [*range(100_000), Broken()]})


CASES = {
    "table.csv": (CSVDataset, pd.DataFrame({"a": [1, 2]}), broken_table()),
    "typed.csv": (TypedTableDataset, pd.DataFrame({"path": ["1", "2"]}), broken_table()),
    "table.parquet": (ParquetDataset, pd.DataFrame({"a": [1, 2]}), broken_table()),
    "data.json": (JSONDataset, {"a": [1]}, {"a": list(range(100_000)), "b": {1, 2}}),
    "figure.json": (FigureDataset, go.Figure(), Broken()),
}


@pytest.mark.parametrize("name", CASES)
def test_a_save_that_breaks_off_leaves_the_file_before(tmp_path, name):
    kind, good, bad = CASES[name]
    path = tmp_path / "new" / name
    catalog = StudyCatalog({"it": kind(filepath=str(path))})
    catalog.save("it", good)
    before = path.read_bytes()
    for save in (lambda: catalog.save("it", bad), lambda: catalog["it"].save(bad)):
        with pytest.raises(DatasetError) as error:
            save()
        assert str(path) in str(error.value)
        assert ".part" not in str(error.value), "the file is told by the name it has in the catalog"
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == [name]
    # without the catalog of the project the file would be lost: the test can fail
    with pytest.raises(DatasetError):
        kind(filepath=str(path)).save(bad)
    assert path.read_bytes() != before


def test_what_is_saved_is_what_the_dataset_writes_and_loads(tmp_path):
    table = pd.DataFrame({"a": [1.5, 2.5]})
    plain = CSVDataset(filepath=str(tmp_path / "plain.csv"), save_args={"index": False})
    plain.save(table)
    config = {
        "type": "pandas.CSVDataset",
        "filepath": str(tmp_path / "whole.csv"),
        "save_args": {"index": False},
    }
    catalog = StudyCatalog.from_config({"it": config})
    catalog.save("it", table)
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
    assert catalog.load("it").equals(table)
    pickle.loads(pickle.dumps(catalog["it"])).save(table)  # as ParallelRunner sends it


def test_a_full_disk_is_told_with_the_file_s_own_name(tmp_path):
    catalog = StudyCatalog({"it": CSVDataset(filepath=str(tmp_path / "table.csv"))})
    with pytest.raises(DatasetError) as error:
        catalog.save("it", broken_table())
    told = as_user_error(error.value)
    assert told.what.endswith("table.csv: the disk is full")
    assert ".part" not in told.what


def test_versions_and_what_has_no_file_are_saved_as_ever(tmp_path):
    config = {
        "type": "pandas.CSVDataset",
        "filepath": str(tmp_path / "table.csv"),
        "versioned": True,
    }
    catalog = StudyCatalog.from_config({"it": config})
    catalog.save("it", pd.DataFrame({"a": [1]}))
    assert len(list((tmp_path / "table.csv").glob("*/table.csv"))) == 1
    memory = StudyCatalog({"it": MemoryDataset()})
    memory.save("it", 3)
    assert memory.load("it") == 3

"""Tables of micrographs on disk: types are those of the contract, whatever the cells look like."""

import numpy as np
import pandas as pd
import pytest

from temshift.catalog.tables import TypedTableDataset
from temshift.config.contract import CONTRACT, DERIVED

EXAMPLES = {
    "text": (["001", "", "1e5", "nan"], str),
    "date": (["2024-01-15", "", "2024-03-20", ""], str),
    "number": ([0.1 + 0.2, np.nan, 1e-320, 423.0], np.float64),
    "count": ([0, 3, 2**53 + 1, 7], np.int64),
}


@pytest.fixture
def dataset(tmp_path):
    return TypedTableDataset(filepath=str(tmp_path / "table.csv"))


def test_every_column_of_the_contract_comes_back_as_it_was(dataset):
    columns = {**CONTRACT, **DERIVED}
    table = pd.DataFrame({name: EXAMPLES[column.type][0] for name, column in columns.items()})
    dataset.save(table)
    loaded = dataset.load()
    pd.testing.assert_frame_equal(loaded, table, check_exact=True)
    for name, column in columns.items():
        if column.numeric:
            assert loaded[name].dtype == EXAMPLES[column.type][1]


def test_ranges_are_numbers_and_own_columns_stay_text(dataset):
    table = pd.DataFrame(
        {
            "split": ["5"],
            "tilt_min": [0.1 + 0.2],
            "tilt_max": [np.nan],
            "holder": ["007"],
            "n_groups": [3],
        }
    )
    dataset.save(table)
    pd.testing.assert_frame_equal(dataset.load(), table, check_exact=True)

"""What the conditions of a split select, and what is said when they select nothing."""

import numpy as np
import pandas as pd
import pytest
from tests.real_data import SHARED

from temshift.config.curation import CurationParameters
from temshift.config.splits import SplitParameters
from temshift.study.splits import SplitError, select_split, select_splits
from temshift.study.tables import standardise_table

PUBLISHED = SHARED / "published" / "Dataset_metadata.csv"


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "micrograph_id": list("abcdef"),
            "material": ["Au", "Au", "Au", "Ag", "CdSe", ""],
            "diameter_nm": [5, 5, 2.2, 5, 5, np.nan],
            "dose_e_per_A2": [80.0, 423.0, 423.0, 423.0, 421.0, np.nan],
            "pixel_size_nm": [0.02, 0.020001, 0.026, 0.02, 0.033, np.nan],
            "session": ["2021-08-26", "2021-10-06", "2021-10-06", "2022-02-02", "", ""],
        }
    )


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"material": "Au"}, "abc"),
        ({"material": ["Ag", "CdSe"]}, "de"),
        ({"diameter_nm": 5}, "abde"),
        ({"diameter_nm": "5"}, "abde"),
        ({"pixel_size_nm": 0.02}, "abd"),
        ({"pixel_size_nm": [0.026, 0.033]}, "ce"),
        ({"dose_e_per_A2": {"value": 423, "tolerance": 2}}, "bcde"),
        ({"dose_e_per_A2": {"value": 423}}, "bcd"),
        ({"dose_e_per_A2": {"min": 100}}, "bcde"),
        ({"dose_e_per_A2": {"min": 80, "max": 421}}, "ae"),
        ({"pixel_size_nm": {"value": 0.023, "tolerance": 0.003}}, "abcd"),
        ({"session": ["2021-10-06"], "diameter_nm": 5}, "b"),
    ],
)
def test_selection(table, where, expected):
    found = select_split(table, "s", SplitParameters(where=where))
    assert "".join(found["micrograph_id"]) == expected
    assert found.index.tolist() == list(range(len(expected)))


def test_nothing_selected_lists_the_nearest_values(table):
    split = SplitParameters(where={"material": "Au", "diameter_nm": 5, "dose_e_per_A2": 884})
    with pytest.raises(SplitError) as caught:
        select_split(table, "high_dose", split)
    text = str(caught.value)
    assert "Split 'high_dose' selects none of 6 micrographs" in text
    assert "dose_e_per_A2: 884 is fulfilled by 0; nearest values where the other" in text
    assert "conditions hold: 80, 423" in text
    assert "diameter_nm: 5 is fulfilled by 4" in text
    assert ".yml" not in text  # which file it was read from is not known here


def test_nothing_selected_by_a_text_or_an_empty_column(table):
    with pytest.raises(SplitError, match=r"material: 'Ag0' .* nearest values.*: 'Ag'"):
        select_split(table, "s", SplitParameters(where={"material": "Ag0"}))
    with pytest.raises(SplitError, match="support: 'C' is fulfilled by 0; the column is empty"):
        select_split(table.assign(support=""), "s", SplitParameters(where={"support": "C"}))


def test_all_empty_splits_are_told_at_once(table):
    splits = {
        "good": SplitParameters(where={"material": "Au"}),
        "one": SplitParameters(where={"material": "Pt"}),
        "two": SplitParameters(where={"dose_e_per_A2": 1}),
    }
    with pytest.raises(SplitError, match=r"(?s)'one' selects none.*'two' selects none"):
        select_splits(table, splits)
    assert list(select_splits(table, {"good": splits["good"]})) == ["good"]


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published table is not here")
@pytest.mark.parametrize(
    ("where", "n"),
    [
        ({"diameter_nm": 2.2, "pixel_size_nm": 0.02, "session": "2021-10-06"}, 14),
        (
            {
                "diameter_nm": 5,
                "pixel_size_nm": 0.02,
                "dose_e_per_A2": 423,
                "session": "2021-08-26",
            },
            8,
        ),
        ({"diameter_nm": 10, "pixel_size_nm": 0.02, "session": "2021-09-02"}, 15),
        ({"dose_e_per_A2": 884, "pixel_size_nm": 0.02, "session": "2022-06-15"}, 13),
    ],
)
def test_published_table(where, n):
    columns = {
        "path": "{Folder}/{File name}",
        "label_path": "{Folder}/Labels/{File name.stem}_label.png",
        "session": "Date",
        "material": "Material",
        "diameter_nm": "Nanoparticle Size (nm)",
        "support": "Support",
        "dose_e_per_A2": "Dosage (e/A2)",
        "pixel_size_nm": "Pixel Scale (nm)",
    }
    raw = pd.read_csv(PUBLISHED, dtype=str, keep_default_na=False)
    parameters = CurationParameters(columns=columns, date_format="%m/%d/%y")
    table, findings = standardise_table(raw, parameters)
    assert findings.empty
    split = SplitParameters(where={"material": "Au", "support": "UT Carbon", **where})
    assert len(select_split(table, "s", split)) == n

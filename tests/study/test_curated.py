"""Ready-made patches as splits."""

import numpy as np
import pandas as pd
import pytest

from temshift.config.contract import MICROGRAPH_COLUMNS
from temshift.config.plan import StudyPlan
from temshift.config.preprocessing import PUBLISHED
from temshift.config.splits import SplitParameters
from temshift.microscopy.patches import PatchStack
from temshift.study import curated

SPLIT = SplitParameters(
    curated="Au_80e",
    where={
        "material": "Au",
        "dose_e_per_A2": {"value": 80, "tolerance": 1},
        "pixel_size_nm": 0.02,
        "session": ["2021-08-26", "2021-10-06"],
    },
)


def stack(n=20, side=32):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(n, side, side)).astype(np.float32)
    labels = (images > 1).astype(np.uint8)
    table = pd.DataFrame(
        {
            "micrograph_id": "unnamed",
            "specimen_id": "",
            "group": "unnamed",
            "row": 0,
            "column": 0,
            "labelled_px": labels.sum((1, 2)),
            "fold": -1,
        }
    )
    return PatchStack(images, labels, table)


def test_patches_of_a_side_no_network_takes_are_refused():
    odd = stack(3)
    odd.images, odd.labels = odd.images[:, :20, :20], odd.labels[:, :20, :20]
    with pytest.raises(ValueError, match="'low': its patches have 20 px"):
        curated.adopt("low", SPLIT, odd)


def test_only_what_is_certain_describes_a_set():
    table = curated.describe("low", SPLIT, stack(3))
    assert set(MICROGRAPH_COLUMNS) < set(table)
    assert list(table["micrograph_id"]) == ["low_00000", "low_00001", "low_00002"]
    assert set(table["material"]) == {"Au"}
    assert set(table["dose_e_per_A2"]) == {80}
    assert set(table["pixel_size_nm"]) == {0.02}
    assert table["session"].isna().all()  # one of two
    assert table["diameter_nm"].isna().all()
    assert set(table["fold"]) == {-1}


def test_patches_are_taken_as_they_are():
    given = stack()
    stream = curated.adopt("low", SPLIT, given)
    parts = list(stream)
    assert len(stream) == 20
    assert stream.attributes == {
        "split": "low",
        "curated": "Au_80e",
        "pixel_size_nm": 0.02,
        "dose_e_per_A2": 80,
        "material": "Au",
        "diameter_nm": None,
        "preprocessing": PUBLISHED.model_dump(),
    }
    np.testing.assert_array_equal(np.concatenate([p.images for p in parts]), given.images)
    np.testing.assert_array_equal(np.concatenate([p.labels for p in parts]), given.labels)
    table = pd.concat([p.table for p in parts])
    assert list(table["micrograph_id"]) == list(curated.describe("low", SPLIT, given).micrograph_id)


def test_patches_with_nan_are_refused_by_number():
    given = stack()
    given.images[17, 3, 3] = np.nan
    with pytest.raises(ValueError, match=r"'Au_80e' of split 'low': patches \[17\]"):
        list(curated.adopt("low", SPLIT, given))


def plan(**modelling):
    return StudyPlan.from_parameters(
        {
            "splits": {
                "low": {"curated": "Au_80e", "where": {"dose_e_per_A2": 80}},
                "high": {"where": {"dose_e_per_A2": 884}},
            },
            "studies": {"dose": {"varies": "dose_e_per_A2", "splits": ["low", "high"]}},
            "modelling": modelling,
        }
    )


def test_only_the_published_protocol_fits_patches_of_unknown_micrographs():
    assert plan(protocols=["published"]).curated_splits == {"low": "Au_80e"}
    with pytest.raises(ValueError, match=r"splits\.low is a curated set.*Set it to \[published\]"):
        plan(protocols=["published", "grouped"])


def test_a_curated_set_takes_no_preprocessing():
    with pytest.raises(ValueError, match="preprocessed already"):
        SplitParameters(
            curated="x", where={"material": "Au"}, preprocessing={"flat_field": {"mode": "none"}}
        )

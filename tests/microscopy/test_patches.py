"""Cutting micrographs into patches, and whole splits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from temshift.config.preprocessing import PreprocessingParameters
from temshift.microscopy.micrograph import Micrograph
from temshift.microscopy.patches import (
    PatchStack,
    cut_patches,
    micrograph_layouts,
    on_grid,
    shuffled,
    whole_micrograph,
)
from temshift.microscopy.split_patches import patch_split
from temshift.parallel import map_ordered


@settings(max_examples=30)
@given(height=st.integers(16, 70), width=st.integers(16, 70), patch_px=st.sampled_from([1, 5, 16]))
def test_patches_show_all_of_a_micrograph(height, width, patch_px):
    image = np.arange(height * width, dtype=np.float32).reshape(height, width)
    label = (image % 2).astype(np.uint8)
    images, labels, corners = cut_patches(image, label, patch_px)
    assert len(images) == -(-height // patch_px) * -(-width // patch_px), "as few as can be"
    table = pd.DataFrame(corners, columns=["row", "column"]).assign(micrograph_id="a")
    layout = micrograph_layouts(table, patch_px)["a"]
    assert (layout.height_px, layout.width_px) == image.shape
    np.testing.assert_array_equal(whole_micrograph(images, layout, table), image)
    np.testing.assert_array_equal(whole_micrograph(labels, layout, table), label)


def test_patches_come_row_by_row_and_the_published_protocol_leaves_the_overlapping_ones_out():
    image = np.zeros((70, 105), np.float32)
    images, _, corners = cut_patches(image, image.astype(np.uint8), 32)
    assert images.shape == (12, 32, 32)
    assert corners[:5].tolist() == [[0, 0], [0, 32], [0, 64], [0, 73], [32, 0]]
    kept = on_grid(pd.DataFrame(corners, columns=["row", "column"]), 32)
    assert corners[kept].tolist() == [[0, 0], [0, 32], [0, 64], [32, 0], [32, 32], [32, 64]]


def test_a_stack_that_shows_a_micrograph_only_in_part_is_refused():
    corners = cut_patches(np.zeros((70, 70), np.float32), np.zeros((70, 70), np.uint8), 32)[2]
    table = pd.DataFrame(corners, columns=["row", "column"]).assign(micrograph_id="a")
    with pytest.raises(ValueError, match=r"'a' do not show all of its 70 x 70 px.*preprocessing"):
        micrograph_layouts(table.drop(index=4), 32)


def test_refuses_a_micrograph_smaller_than_a_patch():
    with pytest.raises(ValueError, match=r"31 x 64 px, less than one patch of 32 px"):
        cut_patches(np.zeros((31, 64), np.float32), np.zeros((31, 64), np.uint8), 32)


def test_refuses_a_label_of_another_shape():
    with pytest.raises(ValueError, match=r"found \(32, 32\) and \(32, 33\)"):
        cut_patches(np.zeros((32, 32), np.float32), np.zeros((32, 33), np.uint8), 32)


def test_a_stack_whose_parts_do_not_belong_together_is_refused():
    with pytest.raises(ValueError, match=r"found \(2, 4, 4\), \(2, 4, 4\) and 3 rows"):
        PatchStack(
            np.zeros((2, 4, 4), np.float32),
            np.zeros((2, 4, 4), np.uint8),
            pd.DataFrame(index=[0, 1, 2]),
        )


def test_the_order_is_that_of_the_published_code():
    # np.random.seed(34522); i = np.arange(10); np.random.shuffle(i), as NumPy's frozen legacy
    # generator gives it
    assert shuffled(10, 34522).tolist() == [8, 6, 5, 2, 4, 3, 7, 0, 9, 1]


class Memory:
    """A store without files."""

    def __init__(self, images: dict[str, Micrograph]) -> None:
        self.images = images
        self.held = 0

    def read(self, path: str) -> Micrograph:
        return self.images[path]

    def read_label(self, path: str, kind: str = "binary") -> np.ndarray:
        label = np.zeros(self.images[path].image.shape, np.uint8)
        label[:5, :7] = 1
        return label


@pytest.fixture
def split(rng):
    images = {
        f"m{i}": Micrograph(rng.poisson(500 + i, (64, 100)).astype(np.uint16)) for i in range(5)
    }
    table = pd.DataFrame(
        {
            "micrograph_id": list(images),
            "path": list(images),
            "label_path": list(images),
            "specimen_id": ["s0", "s0", "s1", None, "s2"],
            "group": ["s0", "s0", "s1", "m3", "s2"],
            "pixel_size_nm": 0.02,
            "dose_e_per_A2": [420.0, 423.0, 425.0, 423.0, 423.0],
            "sha256": [f"{i:064x}" for i in range(5)],
            "height_px": 64,
            "width_px": 100,
            "fold": [0, 0, 1, 2, 0],
        }
    )
    return table, Memory(images)


PARAMETERS = PreprocessingParameters(patch_px=32)


def test_a_split_is_shuffled_cut_and_described(split):
    table, store = split
    stream = patch_split("au", table, store, PARAMETERS)
    assert len(stream) == 5 * 8
    parts = list(stream)
    order = [part.table["micrograph_id"].iloc[0] for part in parts]
    assert order == [f"m{i}" for i in shuffled(5, PARAMETERS.shuffle_seed)]
    part = parts[order.index("m3")]
    assert part.table["specimen_id"].tolist() == [""] * 8
    assert part.table["group"].tolist() == ["m3"] * 8
    assert part.table["fold"].tolist() == [2] * 8
    assert part.table["labelled_px"].tolist() == [35, 0, 0, 0, 0, 0, 0, 0]
    assert part.table["column"].tolist() == [0, 32, 64, 68, 0, 32, 64, 68]
    assert part.images.dtype == np.float32
    assert stream.attributes["split"] == "au"
    assert stream.attributes["pixel_size_nm"] == 0.02
    assert stream.attributes["dose_e_per_A2"] == 423
    assert stream.attributes["preprocessing"]["patch_px"] == 32
    assert stream.attributes["sha256"]["m2"] == f"{2:064x}"


def test_the_same_split_twice_is_the_same(split):
    table, store = split
    first, second = (
        np.concatenate([p.images for p in patch_split("au", table, store, PARAMETERS)])
        for _ in range(2)
    )
    assert first.tobytes() == second.tobytes()


def test_the_pixel_size_of_the_table_wins_over_the_header(split):
    table, store = split
    store.images["m0"] = Micrograph(store.images["m0"].image, 0.5, "header")
    to_double = PARAMETERS.with_overrides({"pixel_size_nm": 0.01})
    stream = patch_split("au", table, store, to_double)
    assert len(stream) == 5 * 4 * 7
    assert sum(len(part) for part in stream) == len(stream)
    assert stream.attributes["pixel_size_nm"] == 0.01


def test_unlike_pixel_sizes_count_as_unknown(split, caplog):
    table, store = split
    table.loc[0, "pixel_size_nm"] = 0.04
    assert patch_split("au", table, store, PARAMETERS).attributes["pixel_size_nm"] is None
    assert "differs within the split (0.02 to 0.04)" in caplog.text


def test_an_unknown_pixel_size_is_no_obstacle(split):
    table, store = split
    table["pixel_size_nm"] = np.nan
    stream = patch_split("au", table, store, PARAMETERS)
    assert stream.attributes["pixel_size_nm"] is None
    assert sum(len(part) for part in stream) == 40


def test_too_small_a_micrograph_is_named_before_any_is_read(split):
    table, _ = split
    table.loc[3, "height_px"] = 30
    with pytest.raises(ValueError, match=r"m3 \(m3\): the micrograph has 30 x 100 px, less than"):
        patch_split("au", table, None, PARAMETERS)


def test_a_micrograph_that_cannot_be_preprocessed_is_named(split):
    table, store = split
    store.images["m2"] = Micrograph(np.ones((64, 100)))
    with pytest.raises(ValueError, match=r"m2 \(m2\): the image is constant"):
        list(patch_split("au", table, store, PARAMETERS))


def test_results_come_in_order_and_a_bounded_number_ahead():
    started = []

    def work(i):
        started.append(i)
        return i

    for taken, i in enumerate(map_ordered(work, range(20), workers=3, description="work")):
        assert i == taken
        assert len(started) <= taken + 3

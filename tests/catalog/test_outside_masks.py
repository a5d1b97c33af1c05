"""Masks made elsewhere: which belongs to which micrograph, and what of them is read."""

import json
import logging

import numpy as np
import pandas as pd
import pytest
import tifffile
from kedro.io import DatasetError
from PIL import Image
from tests.learning.test_segmentation import field, network_set

from temshift.catalog.micrographs import MicrographReadError
from temshift.catalog.new_micrographs import MasksDataset, MaskStore, NewMicrographStore
from temshift.catalog.segmentations import SegmentationsDataset
from temshift.learning.segmentation import Segmenter, plan_work
from temshift.study.sizes import ranking_table

TRUTH = field() > 150


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.mark.parametrize(
    "name",
    [
        "b.png",
        "b.dm3.png",
        "b_mask.png",
        "b-labels.tif",
        "b_cp_masks.png",
        "b_seg.bmp",
        "b mask.gif",
    ],
)
def test_masks_are_named_like_their_micrographs(tmp_path, name):
    write(tmp_path / "sub" / name, TRUTH.astype(np.uint8))
    assert MaskStore(tmp_path).of(["a.dm3", "sub/b.dm3"]) == {"sub/b.dm3": [f"sub/{name}"]}


def test_a_mask_of_none_is_named_and_several_of_one_are_all_taken(tmp_path, caplog):
    for name in ("a.png", "a_mask.tif", "c.png"):
        write(tmp_path / name, TRUTH.astype(np.uint8))
    with caplog.at_level(logging.WARNING):
        found = MaskStore(tmp_path).of(["a.tif", "b.tif"])
    assert found == {"a.tif": ["a.png", "a_mask.tif"]}
    assert "1 of 3 masks" in caplog.text
    assert "c.png" in caplog.text


def test_a_micrograph_whose_own_name_ends_like_a_mask_keeps_its_mask(tmp_path):
    write(tmp_path / "a_mask.png", TRUTH.astype(np.uint8))
    assert MaskStore(tmp_path).of(["a_mask.tif", "a.tif"]) == {"a_mask.tif": ["a_mask.png"]}


def test_a_single_mask_is_that_of_a_single_micrograph(tmp_path):
    write(tmp_path / "whatever.png", TRUTH.astype(np.uint8))
    store = MaskStore(tmp_path / "whatever.png")
    assert store.of(["a.tif"]) == {"a.tif": ["whatever.png"]}
    assert store.of(["a.tif", "b.tif"]) == {}


def test_frames_of_a_stack_have_the_frames_of_a_stack_of_masks(tmp_path):
    frames = np.stack([255 * TRUTH.astype(np.uint8)] * 11)
    frames[3] = 0
    tifffile.imwrite(tmp_path / "movie_mask.tif", frames, photometric="minisblack")
    store = MaskStore(tmp_path)
    found = store.of([f"movie.mrc[{i:02d}]" for i in range(11)])
    assert found["movie.mrc[03]"] == ["movie_mask.tif[03]"]
    assert not store.read("movie_mask.tif[03]").any()
    assert np.array_equal(store.read("movie_mask.tif[04]"), TRUTH)


def test_a_single_stack_of_masks_beside_its_movie_is_no_micrograph(tmp_path):
    frames = np.stack([255 * TRUTH.astype(np.uint8)] * 3)
    for name in ("movie.tif", "movie_masks.tif"):
        tifffile.imwrite(tmp_path / name, frames, photometric="minisblack")
    store = MaskStore(tmp_path / "movie_masks.tif")
    paths = NewMicrographStore(tmp_path).paths()
    assert store.others(tmp_path, paths) == [f"movie.tif[{i}]" for i in range(3)]


NUMBERED = np.zeros((60, 60), np.uint16)
NUMBERED[5:20, 5:20], NUMBERED[5:20, 20:40], NUMBERED[40:50, 40:50] = 1, 2, 300


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("m.png", (NUMBERED > 0).astype(np.uint8)),
        ("m.png", (255 * (NUMBERED > 0)).astype(np.uint8)),
        ("m.png", NUMBERED > 0),
        ("m.tif", NUMBERED),
        ("m.tif", NUMBERED.astype(np.int32)),
        ("m.png", (NUMBERED % 7).astype(np.uint8)),
        ("m.png", np.stack([40 * (NUMBERED % 7), NUMBERED, 0 * NUMBERED], -1).astype(np.uint8)),
    ],
)
def test_labels_of_any_kind_are_read(tmp_path, name, array):
    if name.endswith("tif"):
        tifffile.imwrite(tmp_path / name, array)
    else:
        write(tmp_path / name, array)
    assert np.array_equal(MaskStore(tmp_path).read(name), NUMBERED > 0)


def test_an_image_is_no_mask(tmp_path):
    write(tmp_path / "a.png", np.clip(field(), 0, 255).astype(np.uint8))
    with pytest.raises(MicrographReadError, match=r"a\.png: .*grey levels.*binarise"):
        MaskStore(tmp_path).read("a.png")


@pytest.mark.parametrize(
    "image", [field().astype(np.float32), np.random.default_rng(1).random((64, 64))]
)
def test_an_image_of_fractions_is_no_mask(tmp_path, image):
    np.save(tmp_path / "a.npy", image)
    with pytest.raises(MicrographReadError, match=r"a\.npy: .*no whole number.*binarise"):
        MaskStore(tmp_path).read("a.npy")


def test_the_folder_of_masks_may_lie_in_that_of_the_micrographs_but_not_be_it(tmp_path):
    write(tmp_path / "a.png", field().astype(np.uint8))
    write(tmp_path / "masks" / "a.png", TRUTH.astype(np.uint8))
    store, masks = NewMicrographStore(tmp_path), MaskStore(tmp_path / "masks")
    plan = plan_work(store, Segmenter({"a": network_set()}), "", masks)
    assert [work.path for work in plan] == ["a.png"]
    with pytest.raises(ValueError, match="in the same folder"):
        plan_work(store, Segmenter({"a": network_set()}), "", MaskStore(tmp_path))


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no such file or folder of masks"):
        MasksDataset(str(tmp_path / "no")).load()
    with pytest.raises(DatasetError, match="no file of a mask"):
        MasksDataset(str(tmp_path)).load()


def test_masks_are_measured_written_and_in_the_table(tmp_path):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "a.tif", field().astype(np.float32))
    write(tmp_path / "masks" / "a.png", TRUTH.astype(np.uint8))
    write(tmp_path / "masks" / "a_mask.png", np.clip(field(), 0, 255).astype(np.uint8))
    plan = plan_work(
        NewMicrographStore(tmp_path / "in"),
        Segmenter({"a": network_set()}),
        "",
        MaskStore(tmp_path / "masks"),
    )
    dataset = SegmentationsDataset(str(tmp_path / "out"))
    dataset.save(plan)
    store = dataset.load()
    place = store.place("a.tif") / "outside" / "a.png"
    assert tifffile.imread(place / "particles.tif").max() == 2
    assert len(pd.read_csv(place / "particles.csv")) == 2
    assert (place / "overlay.png").exists()
    found = json.loads((store.place("a.tif") / "result.json").read_text())
    assert [own["file"] for own in found["outside"]] == ["a.png"]
    assert any("a_mask.png was not judged" in note for note in found["notes"])
    table = ranking_table(store.results()).set_index("network")
    row = table.loc["mask: a.png"]
    assert row["n_particles"] == 2
    assert row["verdict"] == "not judged"
    assert not row["drew"]
    assert table.loc["a", "drew"]

"""Micrographs and masks are paired by their names; what does not fit is refused with its file."""

import logging

import numpy as np
import pytest
import tifffile
from kedro.io import DatasetError
from PIL import Image

from temshift.catalog.labelled import LabelledMicrographsDataset
from temshift.catalog.micrographs import MicrographReadError


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    rng = np.random.default_rng(0)
    disc = np.zeros((64, 70), np.uint8)
    disc[10:20, 10:30] = 255
    for name in ("a.tif", "b.png", "sub/c.tif", "unlabelled.tif"):
        write(images / name, rng.integers(0, 255, (64, 70), np.uint8))
    write(masks / "a.png", disc)
    write(masks / "b_mask.png", disc)
    write(masks / "sub" / "c_label.tif", disc)
    return images, masks


def load(images, masks):
    return LabelledMicrographsDataset(str(images), str(masks)).load()


def test_names_pair_whatever_their_endings(folders):
    store = load(*folders)
    assert store.pairs == {"a.tif": "a.png", "b.png": "b_mask.png", "sub/c.tif": "sub/c_label.tif"}
    assert store.unlabelled == ["unlabelled.tif"]
    found = store.read("a.tif")
    assert found.label.sum() == 200
    assert found.image.shape == found.label.shape


def test_micrographs_and_masks_may_lie_in_one_folder(tmp_path):
    write(tmp_path / "a.png", np.arange(64 * 64, dtype=np.uint8).reshape(64, 64))
    write(tmp_path / "a_mask.png", np.eye(64, dtype=np.uint8))
    assert load(tmp_path, tmp_path).pairs == {"a.png": "a_mask.png"}


def test_a_mask_of_another_size_is_refused(folders):
    images, masks = folders
    write(masks / "a.png", np.eye(32, dtype=np.uint8))
    with pytest.raises(MicrographReadError, match=r"a.png: the mask has 32 × 32 px.*64 × 70 px"):
        load(images, masks).read("a.tif")


def test_numbered_particles_name_the_parameter_that_reads_them(folders):
    images, masks = folders
    numbered = np.zeros((64, 70), np.uint8)
    numbered[:5], numbered[20:25] = 1, 2
    write(masks / "a.png", numbered)
    store = load(images, masks)
    with pytest.raises(MicrographReadError, match=r"set fine_tuning.label_kind: instance"):
        store.read("a.tif")
    assert store.read("a.tif", "instance").label.sum() == 700


def test_two_masks_of_one_micrograph_are_refused(folders):
    write(folders[1] / "a_label.png", np.eye(64, dtype=np.uint8))
    with pytest.raises(DatasetError, match=r"a.tif has 2 masks, a.png, a_label.png"):
        load(*folders)


def test_what_is_missing_is_said_with_the_command(folders, tmp_path):
    images, masks = folders
    with pytest.raises(DatasetError, match="no such file or folder of micrographs"):
        load(tmp_path / "nowhere", masks)
    with pytest.raises(DatasetError, match=r"no such folder of masks.*fine_tuning.masks=path"):
        load(images, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"none of the 4 files in .* has a mask here"):
        load(images, tmp_path / "empty")


@pytest.fixture
def stack(tmp_path):
    rng = np.random.default_rng(1)
    (tmp_path / "images").mkdir()
    frames = rng.integers(0, 255, (3, 64, 70), np.uint8)
    tifffile.imwrite(tmp_path / "images" / "movie.tif", frames, photometric="minisblack")
    return tmp_path / "images", tmp_path / "masks"


@pytest.mark.parametrize("name", ["movie.png", "movie_mask.png", "movie.tif.png"])
def test_one_mask_of_a_stack_is_refused(stack, name):
    images, masks = stack
    write(masks / name, np.eye(64, 70, dtype=np.uint8))
    with pytest.raises(DatasetError, match=rf"{name}: .*3 frames of a stack \(movie.tif\[0\]"):
        load(images, masks)


def test_frames_have_those_of_a_stack_of_masks(stack):
    images, masks = stack
    masks.mkdir()
    drawn = np.zeros((3, 64, 70), np.uint8)
    for i in range(3):
        drawn[i, : i + 1] = 255
    tifffile.imwrite(masks / "movie_mask.tif", drawn, photometric="minisblack")
    store = load(images, masks)
    assert [store.read(path).label.sum() for path in store.pairs] == [70, 140, 210]


def test_one_frame_may_be_labelled_by_its_number(stack):
    images, masks = stack
    write(masks / "movie[1].png", np.eye(64, 70, dtype=np.uint8))
    assert load(images, masks).pairs == {"movie.tif[1]": "movie[1].png"}


def test_micrographs_that_share_a_mask_are_refused(folders):
    images, masks = folders
    write(images / "a.png", np.arange(64 * 70, dtype=np.uint8).reshape(64, 70))
    with pytest.raises(DatasetError, match=r"a\.png: .* of 2 micrographs, a.png and a.tif.*Move"):
        load(images, masks)
    (masks / "a.png").rename(masks / "a.tif.png")
    assert load(images, masks).pairs["a.tif"] == "a.tif.png"


@pytest.mark.parametrize("ending", ["_cp_masks", "_MASK", "-labels", "_seg", " particles"])
def test_masks_are_called_as_those_made_elsewhere(folders, ending):
    images, masks = folders
    (masks / "a.png").rename(masks / f"a{ending}.png")
    assert load(images, masks).pairs["a.tif"] == f"a{ending}.png"


def test_what_cellpose_keeps_beside_its_masks_is_neither_mask_nor_micrograph(tmp_path):
    grey = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    for name in ("a.tif", "sub/b.tif"):
        write(tmp_path / name, grey)
        kept = tmp_path / name.replace(".tif", "_seg.npy")
        np.save(kept, np.array({"masks": grey > 9}, dtype=object), allow_pickle=True)
        write(tmp_path / name.replace(".tif", "_cp_masks.png"), np.eye(64, dtype=np.uint8))
    write(tmp_path / "c.tif", grey)
    np.save(tmp_path / "c_seg.npy", grey > 9)  # of another program, and the only one
    store = load(tmp_path, tmp_path)
    assert store.unlabelled == []
    assert store.pairs == {
        "a.tif": "a_cp_masks.png",
        "c.tif": "c_seg.npy",
        "sub/b.tif": "sub/b_cp_masks.png",
    }
    assert store.read("c.tif").label.any()


def test_masks_of_no_micrograph_are_named(folders, caplog):
    images, masks = folders
    (masks / "a.png").rename(masks / "Lost.png")
    with caplog.at_level(logging.WARNING):
        assert "a.tif" in load(images, masks).unlabelled
    assert "1 of 3 masks" in caplog.text
    assert "Lost.png" in caplog.text


def test_a_single_micrograph_leaves_the_masks_of_others_unsaid(folders, caplog):
    images, masks = folders
    with caplog.at_level(logging.WARNING):
        assert load(images / "a.tif", masks).pairs == {"a.tif": "a.png"}
    assert not caplog.text


def test_in_one_folder_a_mask_is_no_micrograph_and_an_export_no_mask(tmp_path):
    grey = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    write(tmp_path / "a.tif", grey)
    write(tmp_path / "a.png", grey)
    with pytest.raises(DatasetError, match=r"none of the 2 files .*something like _mask"):
        load(tmp_path, tmp_path)
    (tmp_path / "a.png").unlink()
    write(tmp_path / "b.tif", grey)
    write(tmp_path / "a_cp_masks.png", np.eye(64, dtype=np.uint8))
    store = load(tmp_path, tmp_path)
    assert (store.pairs, store.unlabelled) == ({"a.tif": "a_cp_masks.png"}, ["b.tif"])


def test_the_folder_of_masks_may_lie_in_that_of_the_micrographs(folders):
    images, masks = folders
    masks.rename(images / "masks")
    store = load(images, images / "masks")
    assert len(store) == 3
    assert store.unlabelled == ["unlabelled.tif"]


def test_a_micrograph_that_is_a_mask_is_refused_with_its_file(folders):
    images, masks = folders
    disc = np.zeros((64, 70), np.uint8)
    disc[10:40, 10:30] = 255
    write(images / "a.tif", disc)
    with pytest.raises(MicrographReadError, match=r"images/a\.tif: .*as a mask.*fine_tuning.masks"):
        load(images, masks).read("a.tif")

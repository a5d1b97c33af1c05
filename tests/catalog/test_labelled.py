"""Micrographs and masks are paired by their names; what does not fit is refused with its file."""

import numpy as np
import pytest
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

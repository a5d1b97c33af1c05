"""What a checkpoint must have in common with a training that resumes it."""

import json

import numpy as np
import pandas as pd
import pytest

from temshift.catalog.patch_stack import PatchStackDataset
from temshift.config.modelling import ModellingParameters, Training
from temshift.config.preprocessing import PUBLISHED
from temshift.learning.cards import agreed, read_card
from temshift.learning.modelling import _data_hash, train_network_set
from temshift.microscopy.patches import PATCH_COLUMNS, PatchStack

SIDE = 512  # as in the study


@pytest.fixture(params=["in memory", "from a file"])
def digest(request, tmp_path):
    def of(images, labels, micrograph="a"):
        row = {"micrograph_id": micrograph, "specimen_id": "", "group": micrograph}
        row |= {"row": 0, "column": 0, "fold": 0}
        rows = [{**row, "labelled_px": int(label.sum())} for label in labels]
        stack = PatchStack(images, labels, pd.DataFrame(rows, columns=list(PATCH_COLUMNS)))
        if request.param == "from a file":
            dataset = PatchStackDataset(filepath=str(tmp_path / "patches.h5"))
            dataset.save(stack)
            stack = dataset.load()
        return _data_hash({"split": stack})

    return of


@pytest.fixture
def patches(rng):
    images = rng.normal(size=(2, SIDE, SIDE)).astype(np.float32)
    labels = np.zeros((2, SIDE, SIDE), np.uint8)
    labels[:, 20:40, 10:30] = 1
    return images, labels


def test_the_same_patches_have_the_same_digest(patches, digest):
    images, labels = patches
    assert digest(images, labels) == digest(images.copy(), labels.copy())


@pytest.mark.parametrize("changed", ["one pixel", "mask", "order", "micrograph"])
def test_other_patches_have_another(patches, digest, changed):
    images, labels = patches
    before = digest(images, labels)
    if changed == "one pixel":
        images = images.copy()
        images[1, 101, 203] += 1e-6
    if changed == "mask":
        labels = labels.copy()
        labels[0, 20, 9:30] = 1, *labels[0, 20, 9:29]
    if changed == "order":
        images = images[::-1].copy()
    assert digest(images, labels, "b" if changed == "micrograph" else "a") != before


def split(attributes, seed=0, folds=2):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(4, 32, 32)).astype(np.float32)
    labels = (images > 0.5).astype(np.uint8)
    table = pd.DataFrame(
        {
            "micrograph_id": [f"{seed}/{i}" for i in range(4)],
            "specimen_id": ["s0", "s1", "s2", "s3"],
            "group": ["s0", "s1", "s2", "s3"],
            "row": 0,
            "column": 0,
            "labelled_px": labels.sum(axis=(1, 2)),
            "fold": [0, 1, 0, 1],
        }
    )
    return PatchStack(images, labels, table, attributes)


def test_a_card_says_what_images_its_network_is_for():
    parameters = ModellingParameters(
        device="cpu",
        folds=2,
        training=Training(
            steps=1, batch_size=2, hold_out=False, keep="last", background_threshold=10
        ),
    )
    known = {
        "preprocessing": PUBLISHED.model_dump(),
        "pixel_size_nm": 0.02,
        "dose_e_per_A2": 400.0,
        "material": "Au",
        "diameter_nm": 5.0,
    }
    stacks = {"a": split(known), "b": split({**known, "dose_e_per_A2": 80.0}, seed=1)}
    fingerprints = {"a": {"noise": 0.5}, "b": {"noise": 0.9}}
    networks, _ = train_network_set("ab", stacks, parameters, fingerprints=fingerprints)
    card = networks["grouped_fold1"].card
    assert card.preprocessing == PUBLISHED
    assert (card.pixel_size_nm, card.material, card.diameter_nm) == (0.02, "Au", 5.0)
    assert card.dose_e_per_A2 is None, "the splits differ in it"
    assert card.fingerprints == fingerprints
    assert (card.train_on, card.fold, card.folds) == (["a", "b"], 1, 2)
    assert (card.train_groups, card.test_groups) == (["s0", "s2"], ["s1", "s3"])
    assert not card.imported
    assert np.isnan(card.history[0]["validation_loss"]), "nothing is held out"
    text = json.dumps(card.to_json(), allow_nan=False)
    assert json.dumps(read_card(json.loads(text)).to_json()) == text


def test_what_not_all_splits_state_is_unknown():
    assert agreed([{"x": 1}, {"x": 1}], "x") == 1
    assert agreed([{"x": 1}, {"x": 2}], "x") is None
    assert agreed([{"x": 1}, {}], "x") is None
    assert agreed([{"x": {"y": [1]}}, {"x": {"y": [1]}}], "x") == {"y": [1]}
    assert agreed([], "x") is None

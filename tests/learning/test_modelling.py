"""What a checkpoint must have in common with a training that resumes it."""

import numpy as np
import pandas as pd
import pytest

from temshift.catalog.patch_stack import PatchStackDataset
from temshift.learning.modelling import _data_hash
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

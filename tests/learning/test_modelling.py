"""What a checkpoint must have in common with a training that resumes it."""

import numpy as np
import pandas as pd
import pytest

from temshift.learning.modelling import _data_hash
from temshift.learning.training import TrainingData
from temshift.microscopy.patches import PATCH_COLUMNS, PatchStack


def digest(images, labels, micrograph="a"):
    row = {"micrograph_id": micrograph, "specimen_id": "", "row": 0, "column": 0, "fold": 0}
    rows = [{**row, "labelled_px": int(label.sum())} for label in labels]
    stack = PatchStack(images, labels, pd.DataFrame(rows, columns=list(PATCH_COLUMNS)))
    return _data_hash({"split": stack}, TrainingData.from_arrays([images], [labels], "cpu"))


@pytest.fixture
def patches(rng):
    images = rng.normal(size=(3, 64, 64)).astype(np.float32)
    labels = np.zeros((3, 64, 64), np.uint8)
    labels[:, 20:40, 10:30] = 1
    return images, labels


def test_the_same_patches_have_the_same_digest(patches):
    images, labels = patches
    assert digest(images, labels) == digest(images.copy(), labels.copy())


@pytest.mark.parametrize("changed", ["scaled", "shifted", "moved", "turned", "order", "micrograph"])
def test_other_patches_have_another(patches, changed):
    images, labels = patches
    moved = np.roll(labels, 1, axis=2)
    assert (
        digest(images, labels)
        != {
            "scaled": lambda: digest(images * np.float32(1.001), labels),
            "shifted": lambda: digest(images + np.float32(1e-6), labels),
            "moved": lambda: digest(images, moved),
            "turned": lambda: digest(np.rot90(images, axes=(1, 2)).copy(), labels),
            "order": lambda: digest(images[::-1].copy(), labels),
            "micrograph": lambda: digest(images, labels, "b"),
        }[changed]()
    )

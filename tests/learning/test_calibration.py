"""Evidence of a study: only micrographs that no network has seen count."""

import numpy as np
import pandas as pd
import pytest
from tests.learning.test_segmentation import field, network_set

from temshift.learning.calibration import gather_study
from temshift.microscopy.micrograph import Micrograph


class Store:
    def read(self, path):
        return Micrograph(field(seed=int(path)), 0.1)

    def read_label(self, path, kind="binary"):
        return (field(seed=int(path)) > 130).astype(np.uint8)


def tables(folds):
    return {
        split: pd.DataFrame(
            [
                {"micrograph_id": f"{split}/{i}", "path": str(i), "label_path": str(i), "fold": f}
                for i, f in enumerate(folds)
            ]
        )
        for split in ("x", "y", "z")
    }


NETWORKS = {name: network_set(name, folds=2) for name in ("x", "y", "z")}


def test_micrographs_of_folds_that_were_not_trained_are_left_out():
    evidence, agreement = gather_study(NETWORKS, tables([0, 1, 2, 3]), Store(), device="cpu")
    assert set(evidence["fold"]) == set(agreement["fold"]) == {0, 1}
    assert len(evidence) == 3 * 2 * 3
    assert (evidence["dice"] > 0.9).all()


def test_a_study_of_which_no_micrograph_is_unseen_is_refused():
    with pytest.raises(ValueError, match=r"at least 3 labelled image sets .* found 0 and 3"):
        gather_study(NETWORKS, tables([2, 3]), Store(), device="cpu")


def test_a_part_of_the_micrographs_of_each_fold_and_set_can_do():
    evidence, _ = gather_study(NETWORKS, tables([0, 0, 0, 1]), Store(), device="cpu", most=2)
    for split in ("x", "y", "z"):
        shown = evidence.loc[evidence["test_split"] == split, "micrograph_id"].unique()
        assert list(shown) == [f"{split}/0", f"{split}/1", f"{split}/3"]

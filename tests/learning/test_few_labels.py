"""A few labels help a network that fails; where nothing is to be learned no gain is said."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from tests.learning.test_segmentation import FILTERS, PLAIN, network_set
from tests.network_cards import network_card

from temshift.config.fine_tuning import FewLabelsParameters
from temshift.learning.few_labels import HELD_OUT, divide, tune_on_few_labels
from temshift.learning.network_set import TrainedNetwork, network_key
from temshift.learning.networks import build_network
from temshift.microscopy.micrograph import LabelledMicrograph
from temshift.microscopy.patches import PatchStack

QUICK = {"steps": 60, "crop_px": 32, "learning_rate": 1e-2, "labelled": [1, 2], "held_out": 4}


def micrographs(n=4, contrast=-50.0, shape=(70, 81), seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        image = rng.normal(100, 5, shape).astype(np.float32)
        label = np.zeros(shape, np.uint8)
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        row, column = rng.integers(16, shape[0] - 16, 2)
        label[(rows - row) ** 2 + (columns - column) ** 2 < 130] = 1
        image[label == 1] += contrast
        found.append(LabelledMicrograph(f"m{i}", image, label))
    return found


@pytest.fixture(scope="module")
def untrained():
    networks = {}
    for fold in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(fold)
            state = build_network("published_unet", options=FILTERS).state_dict()
        card = network_card(
            fold=fold,
            architecture={"name": "published_unet", "options": FILTERS},
            preprocessing=PLAIN,
        )
        networks[network_key("grouped", fold)] = TrainedNetwork(state, card)
    return {"a": networks}


@pytest.fixture(scope="module")
def helped(untrained):
    return tune_on_few_labels(untrained, micrographs(), FewLabelsParameters(**QUICK, name="mine"))


def test_labels_help_a_network_that_fails(helped):
    own = helped.curve.set_index("labelled_micrographs")
    assert own.loc[2, "effect"] == "gain"
    assert own.loc[2, "dice"] > 0.8 > own.loc[0, "dice"]
    assert (own["tested"] == 4).all()
    assert "raise the Dice" in helped.sentences[0]
    assert any("elsewhere is not known" in note for note in helped.notes)


def test_the_tuned_network_has_all_folds_and_says_what_it_is(helped):
    assert list(helped.networks) == ["grouped_fold0", "grouped_fold1"]
    card = helped.networks["grouped_fold0"].card
    assert card.network == "mine"
    assert card.fine_tuned["from"] == "a"
    assert card.fine_tuned["on"] == ["m0", "m1", "m2", "m3"]


def test_labels_of_noise_are_not_said_to_help(untrained):
    noise = micrographs(contrast=0.0)
    found = tune_on_few_labels(untrained, noise, FewLabelsParameters(**QUICK))
    assert "gain" not in set(found.curve["effect"])
    assert not any("raise" in sentence for sentence in found.sentences)


def test_a_network_that_fits_already_is_not_said_to_gain():
    fits = {"a": network_set(folds=2)}
    bright = micrographs(contrast=80.0)
    found = tune_on_few_labels(fits, bright, FewLabelsParameters(**QUICK | {"learning_rate": 1e-4}))
    own = found.curve.set_index("labelled_micrographs")
    assert own.loc[0, "dice"] > 0.9
    assert "gain" not in set(found.curve["effect"])


def test_the_same_labels_give_the_same_curve_and_weights(untrained, helped):
    again = tune_on_few_labels(untrained, micrographs(), FewLabelsParameters(**QUICK, name="mine"))
    pd.testing.assert_frame_equal(again.curve, helped.curve)
    for key, trained in helped.networks.items():
        other = again.networks[key].state
        assert all(torch.equal(value, other[name]) for name, value in trained.state.items())


def test_what_it_costs_at_home_is_measured_on_the_test_patches_of_each_fold():
    dark = micrographs(3, contrast=-60.0)
    images, labels = [], []
    for own in micrographs(6, contrast=60.0, shape=(64, 64), seed=3):
        images.append((own.image - own.image.mean()) / own.image.std())
        labels.append(own.label)
    table = pd.DataFrame({"micrograph_id": [f"h{i}" for i in range(6)], "fold": [0, 0, 1, 1, 2, 2]})
    home = PatchStack(np.stack(images).astype(np.float32), np.stack(labels), table)
    found = tune_on_few_labels(
        {"a": network_set(folds=3)}, dark, FewLabelsParameters(**QUICK), {"a": home, "b": home}
    )
    at_home = found.curve[found.curve["tested_on"] == "a"]
    assert list(at_home["labelled_micrographs"]) == [0, 3]
    assert (at_home["tested"] == 6).all()
    assert "b" not in set(found.curve["tested_on"])
    assert not any("not known" in note for note in found.notes)


def test_one_labelled_micrograph_tunes_but_proves_nothing(untrained):
    brief = FewLabelsParameters(**QUICK | {"steps": 2})
    found = tune_on_few_labels(untrained, micrographs(1), brief)
    assert found.curve.empty
    assert "not known" in found.sentences[0]
    assert len(found.networks) == 2


def test_fewer_labels_are_among_more_and_none_is_tested_by_what_it_taught():
    names = [f"m{i}" for i in range(7)]
    parts = divide(names, 3, 5)
    assert sorted(i for held, _ in parts for i in held) == list(range(7))
    assert all(not {*held} & {*others} for held, others in parts)
    assert all(len(held) + len(others) == 7 for held, others in parts)
    assert len({others[0] for _, others in parts}) == 3
    assert divide(names, 3, 5) == parts
    assert divide(names, 3, 6) != parts
    assert divide(["one"], 3, 5) == []


def test_empty_masks_are_left_out_and_only_empty_ones_refused(untrained):
    brief = FewLabelsParameters(**QUICK | {"steps": 2})
    some = micrographs(3)
    some[1].label[:] = 0
    found = tune_on_few_labels(untrained, some, brief)
    assert any("m1" in note for note in found.notes)
    assert set(found.scores["micrograph"]) == {"m0", "m2"}
    with pytest.raises(ValueError, match="none of the 1 masks"):
        tune_on_few_labels(untrained, some[1:2], brief)


def test_a_network_that_is_not_there_is_named_with_its_neighbours(untrained):
    with pytest.raises(ValueError, match="'aa', which is not there; did you mean 'a'"):
        tune_on_few_labels(untrained, micrographs(2), FewLabelsParameters(network="aa"))


def test_held_out_is_the_name_in_the_table(helped):
    assert set(helped.curve["tested_on"]) == {HELD_OUT}


def test_the_function_of_the_package_gives_the_same(untrained, helped):
    import temshift

    labelled = micrographs(2)
    images, masks = [m.image for m in labelled], [m.label * 7 for m in labelled]
    found = temshift.fine_tune(images, masks, untrained, **QUICK | {"steps": 2})
    assert set(found.curve["labelled_micrographs"]) == {0, 1}
    shown = temshift.segment(images[0], networks={"mine": found.networks})
    assert shown.network == "mine"
    with pytest.raises(ValueError, match="2 images and 1 masks"):
        temshift.fine_tune(images, masks[:1], untrained)


def test_an_inverted_mask_is_told(untrained, caplog):
    brief = FewLabelsParameters(**QUICK | {"steps": 2})
    some = micrographs(2)
    some[1].label[:] = 1 - some[1].label
    with caplog.at_level(logging.WARNING):
        found = tune_on_few_labels(untrained, some, brief)
    told = [note for note in found.notes if "inverted" in note]
    assert len(told) == 1
    assert told[0].startswith("The mask of m1 has 9")
    assert told[0] in caplog.text


GREY = np.random.default_rng(0).normal(100, 5, (70, 81))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mask": GREY}, r"mask 1: .*no whole number"),
        ({"mask": np.where(GREY > 100, 0.5, 0.25)}, r"mask 1: .*no whole number"),
        ({"mask": np.where(GREY > 100, 1, 2)}, r"mask 1: .*no 0"),
        ({"mask": np.where(GREY > 100, 1, np.nan)}, r"mask 1: a mask holds 0"),
        ({"mask": np.zeros((70, 80), np.uint8)}, r"mask 1: the mask has 70 × 80 px"),
        ({"mask": np.zeros((70, 81, 3), np.uint8)}, r"mask 1: .*\(H, W\)"),
        ({"image": GREY.astype(complex)}, r"image 1: .*complex128"),
        ({"image": GREY.tolist()}, r"image 1: .*found list"),
        ({"image": torch.tensor(GREY)}, r"image 1: .*found Tensor"),
        ({"image": np.stack([GREY] * 3)}, r"image 1: one grey image"),
        ({"image": micrographs(1)[0].label}, r"image 1: .*as a mask has.*fine_tuning.masks"),
    ],
)
def test_images_and_masks_from_python_are_refused_with_their_number(untrained, wrong, said):
    import temshift

    good, other = micrographs(2)
    images = [good.image, wrong.get("image", other.image)]
    masks = [good.label, wrong.get("mask", other.label)]
    with pytest.raises(ValueError, match=said):
        temshift.fine_tune(images, masks, untrained, **QUICK | {"steps": 2})


def test_masks_from_python_may_be_of_any_kind_that_is_unmistakable(untrained):
    import temshift

    labelled = micrographs(3)
    one, two, three = (m.label for m in labelled)
    images = [m.image for m in labelled]
    masks = [one.tolist(), -two.astype(np.int8), torch.tensor(three) > 0]
    quick = QUICK | {"steps": 2}
    found = temshift.fine_tune(iter(images), iter(masks), untrained, **quick)
    plain = temshift.fine_tune(images, [one, two, three], untrained, **quick)
    pd.testing.assert_frame_equal(found.scores, plain.scores)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"networks": 5}, "networks is 5; expected a folder"),
        ({"images": 5}, "images is of type int; expected a list"),
        ({"masks": "folder"}, "masks is of type str; expected a list"),
        ({"input": "folder"}, "'input' is of the pipeline fine_tuning"),
    ],
)
def test_what_is_no_list_and_no_network_is_refused(given, said):
    import temshift

    images, masks = [m.image for m in micrographs(1)], [m.label for m in micrographs(1)]
    with pytest.raises(ValueError, match=said):
        temshift.fine_tune(**{"images": images, "masks": masks} | given)

"""Seeds, folds and cards of a network set; what a checkpoint must have in common with it."""

import json

import numpy as np
import pandas as pd
import pytest

from temshift.catalog.patch_stack import PatchStackDataset
from temshift.config.modelling import ModellingParameters, Training
from temshift.config.preprocessing import PUBLISHED
from temshift.learning.cards import agreed, read_card
from temshift.learning.modelling import _data_hash, fold_seeds, make_folds, train_network_set
from temshift.microscopy.patches import PATCH_COLUMNS, PatchStack, cut_patches

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


def test_no_two_networks_share_a_seed_but_those_of_the_published_protocol():
    training = Training(steps=1, restarts=2)
    seeds = [
        seed
        for name in ("au_5nm_423e", "au_5nm_80e")
        for fold in range(6)
        for seed in fold_seeds(name, "grouped", fold, training)
    ]
    assert len(set(seeds)) == len(seeds) == 2 * 6 * 3
    again = fold_seeds("au_5nm_80e", "grouped", 5, training)
    assert again == seeds[-3:], "the same in every process"
    other = fold_seeds("au_5nm_80e", "grouped", 5, Training(steps=1, seed=7))
    assert not set(other) & set(seeds)
    published = [fold_seeds("x", "published", fold, training)[0] for fold in range(5)]
    assert published == [962, 1662, 621, 72115, 45521]


def study(rng, folds=3):
    """Micrographs of 48 × 40 px, one a fold, in patches of 32 px."""
    tables, images, labels = [], [], []
    for i in range(2 * folds):
        image = rng.normal(size=(48, 40)).astype(np.float32)
        x, y, corners = cut_patches(image, (image > 1).astype(np.uint8), 32)
        table = pd.DataFrame(corners, columns=["row", "column"])
        tables.append(
            table.assign(
                micrograph_id=f"m{i}",
                specimen_id=f"s{i}",
                group=f"s{i}",
                labelled_px=y.sum((1, 2)),
                fold=i % folds,
            )
        )
        images.append(x)
        labels.append(y)
    return PatchStack(
        np.concatenate(images), np.concatenate(labels), pd.concat(tables, ignore_index=True)
    )


def test_a_card_says_whether_its_fold_has_learned(rng, caplog):
    hopeless = ModellingParameters(
        folds=3,
        device="cpu",
        protocols=["grouped", "published"],
        training=Training(
            steps=2,
            batch_size=2,
            learned_above=1.0,
            restarts=1,
            background_threshold=0,
            validations=1,
        ),
    )
    networks, history = train_network_set("au", {"a": study(rng)}, hopeless)
    assert len(networks) == 6
    for network in networks.values():
        assert network.card.learned is False
        assert network.card.restarts == 1
        assert 0 <= network.card.train_dice < 1
        assert network.card.seed in fold_seeds(
            "au", network.card.protocol, network.card.fold, hopeless.training
        )
    assert history.groupby(["protocol", "fold"])["restart"].max().eq(1).all()
    assert "au, fold 2 of the protocol grouped: has not learned in 2 attempts" in caplog.text
    easy = hopeless.training.model_copy(update={"learned_above": 0.0})
    networks, _ = train_network_set(
        "au", {"a": study(rng)}, hopeless.model_copy(update={"training": easy})
    )
    assert all(n.card.learned and n.card.restarts == 0 for n in networks.values())


def test_the_published_protocol_knows_no_overlapping_patches(rng):
    table = study(rng).table
    assert len(table) == 6 * 4
    published = make_folds(table, 32, "published", 3, 0)
    used = np.concatenate([np.concatenate(fold) for fold in published])
    assert set(used) == set(np.flatnonzero((table["row"] == 0) & (table["column"] == 0)))
    grouped = make_folds(table, 32, "grouped", 3, 0)
    assert sorted(np.concatenate([fold.test for fold in grouped])) == list(range(24))


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


# ------------------------------------------------------------------ transfer
def small_stack(seed, groups=6, folds=3):
    draw = np.random.default_rng(seed)
    images = draw.normal(size=(groups, 64, 64)).astype(np.float32)
    labels = np.zeros((groups, 64, 64), np.uint8)
    labels[:, 16:48, 16:48] = 1
    row = {"specimen_id": "", "row": 0, "column": 0, "labelled_px": 1024}
    rows = [
        {**row, "micrograph_id": f"m{i}", "group": f"g{i}", "fold": i % folds}
        for i in range(groups)
    ]
    return PatchStack(images, labels, pd.DataFrame(rows, columns=list(PATCH_COLUMNS)))


def quick(**training):
    return ModellingParameters.model_validate(
        {
            "device": "cpu",
            "precision": "float32",
            "folds": 3,
            "training": {
                **{"steps": 2, "batch_size": 2, "crop_px": 32, "keep": "last"},
                **{"learned_above": 0.0, "initialisation": "standardised", **training},
            },
        }
    )


@pytest.fixture(scope="module")
def pretrained():
    return train_network_set("first", {"a": small_stack(1)}, quick())[0]


@pytest.mark.parametrize("freeze", ["none", "encoder", "decoder"])
def test_a_transfer_keeps_what_is_frozen_and_trains_the_rest(pretrained, freeze):
    networks, _ = train_network_set(
        "second", {"b": small_stack(2)}, quick(), initial=pretrained, freeze=freeze
    )
    card = networks["grouped_fold1"].card
    assert (card.network, card.initial, card.freeze) == ("second", "first", freeze)
    for key, network in networks.items():
        changed = {
            name
            for name, weights in network.state.items()
            if not np.array_equal(weights, pretrained[key].state[name])
        }
        decoder = {name for name in network.state if name.startswith(("ups", "final_conv"))}
        encoder = set(network.state) - decoder
        assert bool(changed & encoder) == (freeze != "encoder")
        assert bool(changed & decoder) == (freeze != "decoder")


def test_a_transfer_starts_from_the_same_fold_and_from_nothing_else(pretrained):
    """With a rate of almost nothing, each fold ends where the same fold of the first began."""
    networks, _ = train_network_set(
        "second", {"b": small_stack(2)}, quick(learning_rate=1e-12), initial=pretrained
    )
    for key, network in networks.items():
        for name, weights in pretrained[key].state.items():
            if "running" not in name and "num_batches" not in name:
                np.testing.assert_allclose(network.state[name], weights, atol=1e-9)
    plain, _ = train_network_set("second", {"b": small_stack(2)}, quick(learning_rate=1e-12))
    assert not np.allclose(
        plain["grouped_fold0"].state["final_conv.weight"],
        networks["grouped_fold0"].state["final_conv.weight"],
    )


def test_a_transfer_from_a_network_that_saw_the_test_fold_is_refused(pretrained):
    turned = small_stack(2)
    turned.table["fold"] = (turned.table["fold"] + 1) % 3
    with pytest.raises(ValueError, match="which the same fold is tested on"):
        train_network_set("second", {"b": turned}, quick(), initial=pretrained)
    fewer = {key: n for key, n in pretrained.items() if key != "grouped_fold2"}
    with pytest.raises(ValueError, match="it has no fold 2 of the protocol 'grouped'"):
        train_network_set("second", {"b": small_stack(2)}, quick(), initial=fewer)

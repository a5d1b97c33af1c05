import numpy as np
import pandas as pd
import pytest
import torch
from tests.network_cards import network_card

from temshift.config.evaluation import EvaluationParameters
from temshift.learning.adaptation import Predictor
from temshift.learning.evaluation import (
    RESULT_COLUMNS,
    evaluate_network,
    patches_to_test,
    pool_micrographs,
    predict_and_count,
    seen_micrographs,
    telling_patches,
)
from temshift.learning.metrics import dice
from temshift.learning.modelling import make_folds
from temshift.learning.network_set import TrainedNetwork, network_key
from temshift.learning.networks import PublishedUNet
from temshift.microscopy.patches import PatchStack, cut_patches
from temshift.study.folds import published_folds

SIDE = 32


def stack(micrographs=4, patches=3, seed=0, folds=2):
    """Micrographs ``m0 …`` of specimens ``s0 …``, the last patch of each empty."""
    rng = np.random.default_rng(seed)
    n = micrographs * patches
    images = rng.normal(size=(n, SIDE, SIDE)).astype("float32")
    labels = (images > 0.5).astype("uint8")
    labels[patches - 1 :: patches] = 0
    m = np.repeat(np.arange(micrographs), patches)
    table = pd.DataFrame(
        {
            "micrograph_id": [f"m{i}" for i in m],
            "specimen_id": [f"s{i}" for i in m],
            "group": [f"s{i}" for i in m],
            "row": 0,
            "column": np.tile(np.arange(patches) * SIDE, micrographs),
            "labelled_px": labels.sum((1, 2)),
            "fold": m % folds,
        }
    )
    return PatchStack(images, labels, table, {})


def network_set(protocol="grouped", folds=2, train_on=("a",)):
    result = {}
    for fold in range(folds):
        torch.manual_seed(fold)
        card = network_card(protocol=protocol, fold=fold, folds=folds, train_on=list(train_on))
        result[network_key(protocol, fold)] = TrainedNetwork(PublishedUNet().state_dict(), card)
    return result


def test_each_micrograph_is_tested_once_by_the_network_of_its_fold():
    stacks = {"a": stack(), "b": stack(seed=1)}
    results, _ = evaluate_network("a", network_set(), stacks, EvaluationParameters(), "cpu")
    assert tuple(results.columns) == RESULT_COLUMNS
    assert len(results) == 8
    assert not results.duplicated(["test_split", "micrograph_id"]).any()
    assert (results["fold"] == results["specimen_id"].str[1:].astype(int) % 2).all()
    assert results.set_index("test_split")["in_domain"].to_dict() == {"a": True, "b": False}
    assert results["group"].tolist() == results["specimen_id"].tolist()
    assert (results["n_patches"] == 3).all(), "empty patches are tested too"


def test_every_pixel_of_a_micrograph_counts_once_though_patches_overlap(monkeypatch):
    """Fields of 76 x 45 px in 3 x 2 overlapping patches; predicted in one go, or in tiles."""
    rng = np.random.default_rng(3)
    whole = rng.normal(size=(76, 45)).astype("float32")
    truth = (whole > 0.5).astype("uint8")
    images, labels, corners = cut_patches(whole, truth, SIDE)
    table = pd.DataFrame(corners, columns=["row", "column"]).assign(
        micrograph_id="m0", specimen_id="s0", group="s0", labelled_px=labels.sum((1, 2)), fold=0
    )
    s = PatchStack(images, labels, table, {})
    networks = {k: v for k, v in network_set().items() if k == "grouped_fold0"}
    network = networks["grouped_fold0"].build()
    padded = np.pad(whole, ((0, 4), (0, 3)), mode="symmetric")
    with torch.inference_mode():
        logits = network(torch.from_numpy(padded)[None, None])[0, :, :76, :45]
    predicted, label = (logits[1] > logits[0]).numpy(), truth == 1
    results, examples = evaluate_network("a", networks, {"a": s}, EvaluationParameters(), "cpu")
    (row,) = results.to_dict("records")
    assert row["tp"] == (predicted & label).sum()
    assert row["fp"] == (predicted & ~label).sum()
    assert row["fn"] == (~predicted & label).sum()
    assert row["tp"] + row["fp"] + row["fn"] + row["tn"] == 76 * 45
    assert row["n_patches"] == 6
    assert row["patch_dice"] == row["dice"]
    (example,) = examples
    best = int(labels.sum((1, 2)).argmax())
    top, left = corners[best]
    cut = np.s_[top : top + SIDE, left : left + SIDE]
    np.testing.assert_array_equal(example.label, labels[best])
    np.testing.assert_array_equal(example.prediction, predicted[cut])


def seen_set(train_on=("a",), folds=3, states=None, **card):
    """Networks that were trained on all groups of other folds than their own."""
    networks = {}
    for fold in range(folds):
        torch.manual_seed(fold if states is None else states)
        known = [f"s{i}" for i in range(6) if i % folds != fold]
        more = {"fold": fold, "folds": folds, "train_on": list(train_on), "train_groups": known}
        made = network_card(**{**more, **card})
        networks[network_key("grouped", fold)] = TrainedNetwork(PublishedUNet().state_dict(), made)
    return networks


def test_seen_dice_is_that_of_the_next_fold_on_the_same_micrograph():
    stacks = {"a": stack(6, folds=3), "b": stack(6, seed=1, folds=3)}
    networks = seen_set()
    results, _ = evaluate_network("a", networks, stacks, EvaluationParameters(), "cpu")
    assert results["seen_dice"].notna().sum() == 3, "one a fold, of its own set"
    assert set(results.loc[results["seen_dice"].notna(), "test_split"]) == {"a"}
    for _, row in results[results["seen_dice"].notna()].iterrows():
        reader = networks[f"grouped_fold{(row['fold'] + 1) % 3}"]
        assert row["group"] in reader.card.train_groups
        one = stacks["a"].table["micrograph_id"] == row["micrograph_id"]
        card = reader.card.model_copy(update={"fold": row["fold"]})
        alone = PatchStack(
            stacks["a"].images[one], stacks["a"].labels[one], stacks["a"].table[one].reset_index()
        )
        known, _ = evaluate_network(
            "a", {"x": TrainedNetwork(reader.state, card)}, {"a": alone}, EvaluationParameters()
        )
        assert known["dice"].item() == pytest.approx(row["seen_dice"], abs=1e-6)


def test_networks_that_do_not_depend_on_what_they_saw_know_nothing_by_heart():
    parameters = EvaluationParameters(seen_micrographs=5)
    results, _ = evaluate_network(
        "a", seen_set(states=1), {"a": stack(6, folds=3)}, parameters, "cpu"
    )
    assert (results["seen_dice"] == results["dice"]).all()


@pytest.mark.parametrize(
    "card", [{"protocol": "published"}, {"imported": True}, {"fine_tuned": {}}]
)
def test_nothing_is_called_seen_that_may_not_have_been(card):
    for trained in seen_set(**card).values():
        assert len(seen_micrographs(trained, "a", stack(6, folds=3), 2)) == 0


def test_what_was_held_out_for_validation_was_not_seen():
    s = stack(6, folds=3)
    for trained in seen_set(train_groups=["s0"]).values():
        found = set(s.table["group"].iloc[seen_micrographs(trained, "a", s, 9)])
        assert found == ({"s0"} if trained.card.fold == 1 else set())


def test_a_result_says_whether_its_network_has_learned():
    networks = network_set()
    failed = networks["grouped_fold1"]
    card = failed.card.model_copy(update={"learned": False})
    networks["grouped_fold1"] = TrainedNetwork(failed.state, card)
    results, _ = evaluate_network("a", networks, {"a": stack()}, EvaluationParameters(), "cpu")
    assert results.groupby("fold")["learned"].first().to_dict() == {0: True, 1: False}


def test_counts_are_those_of_the_whole_micrograph():
    s = stack(micrographs=2)
    results, examples = evaluate_network(
        "a", network_set(), {"a": s}, EvaluationParameters(), "cpu"
    )
    row = results[results["micrograph_id"] == "m0"].iloc[0]
    network = network_set()["grouped_fold0"].build()
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.hstack(s.images[:3]))[None, None])
    predicted = (logits[:, 1] > logits[:, 0]).numpy()
    label = np.hstack(s.labels[:3])[None] == 1
    tp, fp, fn = ((predicted & label).sum(), (predicted & ~label).sum(), (~predicted & label).sum())
    assert (row["tp"], row["fp"], row["fn"]) == (tp, fp, fn)
    assert row[["tp", "fp", "fn", "tn"]].sum() == 3 * SIDE**2
    assert row["dice"] == pytest.approx(dice(tp, fp, fn))
    assert {e.test_split for e in examples} == {"a"}


def test_a_network_of_several_sets_is_tested_on_no_patch_that_it_was_trained_on():
    """The list of each set is cut by itself, in training as in the test."""
    first, second = stack(micrographs=5), stack(micrographs=4, seed=1)
    table = pd.concat([first.table, second.table], ignore_index=True)
    sizes = [len(first.table), len(second.table)]
    made = make_folds(table, SIDE, "published", 3, 10, splits=sizes)
    for fold, indices in enumerate(made):
        tested = [patches_to_test(s, "published", fold, 3, True, 10) for s in (first, second)]
        assert np.array_equal(indices.test, np.concatenate([tested[0], sizes[0] + tested[1]]))
        assert not set(indices.test) & {*indices.train, *indices.validation}
        assert (np.diff(indices.train) > 0).all()
    alone = make_folds(first.table, SIDE, "published", 3, 10)
    named = make_folds(first.table, SIDE, "published", 3, 10, splits=sizes[:1])
    for one, other in zip(alone, named, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_network_is_tested_on_nothing_that_the_one_it_starts_from_was_trained_on():
    stacks = {"a": stack(), "b": stack(seed=1)}
    begun = {
        key: TrainedNetwork(
            own.state,
            own.card.model_copy(update={"initial": "first", "splits": {"a": {}, "b": {}}}),
        )
        for key, own in network_set("published", train_on=("b",)).items()
    }
    results, _ = evaluate_network("t", begun, stacks, EvaluationParameters(examples=False), "cpu")
    patches = results.groupby(["test_split", "fold"])["n_patches"].sum()
    assert patches.loc["a"].tolist() == patches.loc["b"].tolist() == [4, 4], "half of 8 each"


def test_the_published_protocol_leaves_empty_patches_out_and_averages_the_copies():
    s = stack()
    stacks = {"a": s, "b": stack(seed=1)}
    results, _ = evaluate_network(
        "a", network_set("published"), stacks, EvaluationParameters(examples=False), "cpu"
    )
    filled = np.flatnonzero(s.table["labelled_px"] > 10)
    own = results[results["test_split"] == "a"].groupby("fold")["n_patches"].sum()
    assert own.tolist() == [len(f.test) for f in published_folds(len(filled), 2)]
    # all folds see all of another split
    assert (results[results["test_split"] == "b"].groupby("fold")["n_patches"].sum() == 8).all()

    network = network_set("published")["published_fold0"].build()
    index = filled[published_folds(len(filled), 2)[0].test]
    expected = []
    for i in index:
        for flip in (False, True):
            for k in range(4):
                image, label = (np.rot90(a[i], k) for a in (s.images, s.labels))
                if flip:
                    image, label = image[:, ::-1], label[:, ::-1]
                with torch.inference_mode():
                    logits = network(torch.from_numpy(image.copy())[None, None])[0]
                p, t = (logits[1] > logits[0]).numpy(), label == 1
                expected.append(dice((p & t).sum(), (p & ~t).sum(), (~p & t).sum()))
    tested = results[(results["test_split"] == "a") & (results["fold"] == 0)]
    mean = np.average(tested["patch_dice"], weights=tested["n_patches"])
    assert mean == pytest.approx(np.mean(expected), abs=1e-6)


def test_predictions_are_counted_patch_by_patch_and_kept_where_asked_for():
    s, network = stack(micrographs=1), network_set()["grouped_fold0"].build()
    counts, kept = predict_and_count(Predictor(network, "cpu"), s.images, s.labels, 2, keep=[1])
    assert list(kept) == [1]
    assert len(counts) == 3
    assert (counts[["tp", "fp", "fn", "tn"]].sum(axis=1) == SIDE**2).all()
    with torch.inference_mode():
        p = torch.softmax(network(torch.from_numpy(s.images)[:, None]), dim=1)[:, 1].numpy()
    assert np.array_equal(kept[1], p[1] > 0.5)
    assert counts["mean_certainty"].to_numpy() == pytest.approx(
        np.maximum(p, 1 - p).mean(axis=(1, 2)), abs=1e-6
    )
    assert counts["tp"].tolist() == ((p > 0.5) & (s.labels == 1)).sum(axis=(1, 2)).tolist()


def test_pooling_a_case_worked_by_hand():
    patches = pd.DataFrame(
        {
            "micrograph_id": ["b", "a", "b"],
            "specimen_id": ["s", "t", "s"],
            "group": ["s", "t", "s"],
            "tp": [6, 0, 0],
            "fp": [2, 0, 0],
            "fn": [0, 0, 4],
            "tn": [2, 10, 6],
            "mean_certainty": [0.8, 1.0, 0.6],
            "patch_dice": [0.9, 1.0, 0.1],
        }
    )
    b, a = pool_micrographs(patches)
    assert (b["micrograph_id"], b["specimen_id"], b["n_patches"]) == ("b", "s", 2)
    assert (b["tp"], b["fp"], b["fn"], b["tn"]) == (6, 2, 4, 8)
    assert b["dice"] == pytest.approx(13 / 19), "of the sums, not the mean over patches"
    assert b["patch_dice"] == pytest.approx(0.5)
    assert b["mean_certainty"] == pytest.approx(0.7)
    assert (a["dice"], a["n_patches"]) == (1.0, 1)


def test_the_patch_with_the_most_labelled_pixels_tells_most():
    table = pd.DataFrame(
        {"micrograph_id": ["b", "a", "b", "b", "a"], "labelled_px": [3, 0, 9, 9, 0]},
        index=[7, 7, 1, 0, 2],
    )
    assert telling_patches(table) == {"b": 2, "a": 1}


def test_patches_of_a_grouped_test_are_those_of_the_fold():
    assert patches_to_test(stack(), "grouped", 1, 2, True, 10).tolist() == [3, 4, 5, 9, 10, 11]


def test_grouped_folds_show_whole_micrographs_and_share_no_specimen():
    table = stack(micrographs=6, folds=3).table
    for fold in make_folds(table, SIDE, "grouped", 3, 10):
        groups = [set(table["specimen_id"].iloc[part]) for part in fold]
        assert not groups[0] & groups[1]
        assert not groups[0] & groups[2]
        assert not groups[1] & groups[2]
        for part in fold:
            shown = table.iloc[part]
            assert shown["micrograph_id"].value_counts().eq(3).all(), "its empty patch too"


def test_grouped_folds_have_nothing_to_train_on_where_nothing_is_labelled():
    table = stack(micrographs=6, folds=3).table
    table.loc[table["fold"] > 0, "labelled_px"] = 10
    folds = make_folds(table, SIDE, "grouped", 3, 10)
    assert [len(fold.train) > 0 for fold in folds] == [False, True, True]


def test_published_folds_are_positions_in_the_whole_table():
    table = stack(micrographs=6).table
    for fold in make_folds(table, SIDE, "published", 5, 10):
        for part in fold:
            assert (table["labelled_px"].iloc[part] > 10).all()


def test_groups_decide_what_is_kept_together_whatever_the_specimens():
    table = stack(micrographs=12, folds=3).table
    days = table["group"].map({f"s{i}": f"day{i % 6}" for i in range(12)})
    table = table.assign(specimen_id="one", group=days)
    for fold in make_folds(table, SIDE, "grouped", 3, 10):
        groups = [set(table["group"].iloc[part]) for part in fold]
        assert not groups[0] & groups[1]
        assert not groups[0] & groups[2]


def test_without_hold_out_everything_but_the_test_set_is_trained_on():
    table = stack(micrographs=6, folds=3).table
    for protocol in ("grouped", "published"):
        for fold in make_folds(table, SIDE, protocol, 3, 10, hold_out=False):
            filled = table["labelled_px"] > (10 if protocol == "published" else -1)
            used = set(np.flatnonzero(filled)) - set(fold.test)
            assert set(fold.train) == used
            assert len(fold.validation) == 0

"""Fine-tuning on a few labelled micrographs of the target, which are then not tested."""

import numpy as np
import pandas as pd
import pytest
import torch
from tests.network_cards import network_card

from temshift.config.errors import UserError
from temshift.config.evaluation import EvaluationParameters
from temshift.config.modelling import NetworkParameters, TargetTuning
from temshift.learning.evaluation import evaluate_network
from temshift.learning.network_set import TrainedNetwork, network_key
from temshift.learning.networks import PublishedUNet
from temshift.learning.tuned import labelled_micrographs, tune_to_target
from temshift.microscopy.patches import PatchStack

SIDE = 64


def stack(n=8, folds=2, per_group=1, seed=0):
    """Bright discs on noise, a micrograph of one patch each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    labels = np.stack(
        [((x - cx) ** 2 + (y - cy) ** 2 < 150) for cx, cy in rng.uniform(15, 49, (n, 2))]
    ).astype("uint8")
    images = (rng.normal(size=labels.shape) + 2.0 * labels).astype("float32")
    group = np.arange(n) // per_group
    table = pd.DataFrame(
        {
            "micrograph_id": [f"m{k}" for k in range(n)],
            "specimen_id": "",
            "group": [f"g{k}" for k in group],
            "row": 0,
            "column": 0,
            "labelled_px": labels.sum((1, 2)),
            "fold": group % folds,
        }
    )
    return PatchStack(images, labels, table, {"split": "b"})


def networks(protocol="grouped"):
    found = {}
    for fold in range(2):
        torch.manual_seed(fold)
        card = network_card(protocol=protocol, fold=fold, folds=2)
        found[network_key(protocol, fold)] = TrainedNetwork(PublishedUNet().state_dict(), card)
    return found


TUNING = TargetTuning(split="b", micrographs=2, steps=3)


@pytest.mark.parametrize("fold", [0, 1])
def test_chosen_micrographs_are_of_other_folds_and_nested(fold):
    table = stack(12, per_group=2).table
    one, two, four = (labelled_micrographs(table, fold, k, 17) for k in (1, 2, 4))
    assert set(one) < set(two) < set(four)
    folds = table.set_index("micrograph_id")["fold"]
    assert (folds[four] != fold).all()
    groups = table.set_index("micrograph_id")["group"]
    assert groups[labelled_micrographs(table, fold, 3, 17)].is_unique, "one of each group first"
    assert set(labelled_micrographs(table, fold, 4, 18)) != set(four), "drawn from the seed"


def test_empty_micrographs_are_not_chosen_and_too_few_are_told():
    table = stack().table
    table.loc[table["fold"] == 1, "labelled_px"] = [0, 10, 0, 10]
    assert set(labelled_micrographs(table, 0, 2, 17)) == {"m3", "m7"}
    with pytest.raises(ValueError, match="there are 2 micrographs"):
        labelled_micrographs(table, 0, 3, 17)


def test_too_few_micrographs_are_told_with_the_network():
    many = TUNING.model_copy(update={"micrographs": 1000})
    with pytest.raises(UserError) as caught:
        tune_to_target("n1", networks(), stack(), many, "cpu")
    assert caught.value.what.startswith("networks.n1.fine_tuning.micrographs: ")
    assert "Found 1000; expected at most " in caught.value.found
    assert caught.value.remedy.startswith("Set networks.n1.fine_tuning.micrographs to ")


def test_labels_of_what_is_tested_change_no_weight():
    first, second = stack(), stack()
    tested = (second.table["fold"] == 0).to_numpy()
    second.labels[tested] = 1 - second.labels[tested]
    tuned = [
        tune_to_target("t", networks(), s, TUNING, "cpu")["grouped_fold0"] for s in (first, second)
    ]
    before = networks()["grouped_fold0"].state
    for key, value in tuned[0].state.items():
        assert torch.equal(value, tuned[1].state[key])
    assert any(not torch.equal(v, before[k]) for k, v in tuned[0].state.items())
    assert tuned[0].card.fine_tuned["steps"] == 3


def test_all_that_was_tested_before_still_is():
    s = stack()
    plain, _ = evaluate_network("a", networks(), {"b": s}, EvaluationParameters(), "cpu")
    few = tune_to_target("t", networks(), s, TUNING, "cpu")
    tuned, _ = evaluate_network("t", few, {"b": s}, EvaluationParameters(), "cpu")
    assert tuned["micrograph_id"].tolist() == plain["micrograph_id"].tolist()
    assert tuned["fold"].tolist() == plain["fold"].tolist()
    assert not tuned["dice"].equals(plain["dice"])


def test_more_steps_on_the_target_help_there():
    s, few = stack(16), TargetTuning(split="b", micrographs=4, steps=60, learning_rate=5e-3)
    tried = networks(), tune_to_target("t", networks(), s, few, "cpu")
    score = [
        evaluate_network("t", tested, {"b": s}, EvaluationParameters(), "cpu")[0]["dice"].mean()
        for tested in tried
    ]
    assert score[1] > score[0] + 0.1


def test_the_published_protocol_is_left_out():
    both = networks() | networks("published")
    assert set(tune_to_target("t", both, stack(), TUNING, "cpu")) == set(networks())
    with pytest.raises(ValueError, match="protocol 'grouped'"):
        tune_to_target("t", networks("published"), stack(), TUNING, "cpu")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"weights_of": "a"}, "one of the two"),
        ({"train_on": ["a"], "adaptation": {"pixel_size": True}}, "needs 'weights_of'"),
        (
            {"train_on": ["a"], "fine_tuning": {"split": "b", "micrographs": 1}},
            "needs 'weights_of'",
        ),
        (
            {"weights_of": "a", "train_on": ["a"], "adaptation": {"batch_norm": True}},
            "takes no 'train_on'",
        ),
        ({"weights_of": "a", "adaptation": {}}, "at least one"),
    ],
)
def test_rows_that_make_no_sense_are_refused(row, said):
    with pytest.raises(ValueError, match=said):
        NetworkParameters.model_validate(row)

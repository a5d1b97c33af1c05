"""A network trained further on a few patches learns them, and keeps what is frozen."""

import numpy as np
import pytest
import torch
from tests.network_cards import network_card

from temshift.config.fine_tuning import FineTuning
from temshift.learning.fine_tuning import fine_tune_network
from temshift.learning.network_set import TrainedNetwork
from temshift.learning.networks import build_network

OPTIONS = {"filters": [4, 8]}
QUICK = {"steps": 40, "crop_px": 32, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state = build_network("published_unet", options=OPTIONS).state_dict()
    return TrainedNetwork(
        state, network_card(architecture={"name": "published_unet", "options": OPTIONS})
    )


def patches(n=3, side=64, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 0.3, (n, side, side)).astype(np.float32)
    labels = np.zeros((n, side, side), np.uint8)
    rows, columns = np.mgrid[:side, :side]
    for i in range(n):
        row, column = rng.integers(16, side - 16, 2)
        labels[i][(rows - row) ** 2 + (columns - column) ** 2 < 100] = 1
    images[labels == 1] -= 2
    return images, labels


def dice_of(network, images, labels):
    with torch.no_grad():
        logits = network.build()(torch.from_numpy(images)[:, None])
    mask = (logits[:, 1] > logits[:, 0]).numpy()
    return 2 * (mask & (labels == 1)).sum() / (mask.sum() + labels.sum())


def test_it_learns_what_it_is_shown_for_patches_that_it_is_not_shown(network):
    tuned = fine_tune_network(network, *patches(), FineTuning(**QUICK))
    unseen = patches(seed=5)
    assert dice_of(tuned, *unseen) > 0.9 > dice_of(network, *unseen)


def test_labels_of_noise_teach_nothing(network):
    images, labels = patches()
    images = np.random.default_rng(1).normal(0, 1, images.shape).astype(np.float32)
    tuned = fine_tune_network(network, images, labels, FineTuning(**QUICK))
    unseen = np.random.default_rng(2).normal(0, 1, images.shape).astype(np.float32)
    assert dice_of(tuned, unseen, patches(seed=5)[1]) < 0.5


def test_the_same_seed_gives_the_same_weights_and_leaves_the_network_alone(network):
    before = {key: value.clone() for key, value in network.state.items()}
    brief = FineTuning(**QUICK | {"steps": 5})
    one, other = (fine_tune_network(network, *patches(), brief) for _ in range(2))
    third = fine_tune_network(network, *patches(), brief.model_copy(update={"seed": 1}))
    assert all(torch.equal(one.state[key], other.state[key]) for key in one.state)
    assert any(not torch.equal(one.state[key], third.state[key]) for key in one.state)
    assert all(torch.equal(network.state[key], before[key]) for key in before)
    assert one.card.fine_tuned["patches"] == 3
    assert network.card.fine_tuned is None


@pytest.mark.parametrize("freeze", ["none", "encoder", "all_but_batch_norm"])
def test_what_is_frozen_stays(network, freeze):
    tuned = fine_tune_network(
        network, *patches(), FineTuning(**QUICK | {"steps": 5, "freeze": freeze})
    )
    changed = {k for k, v in network.state.items() if not torch.equal(v, tuned.state[k])}
    encoder = {k for k in network.state if k.startswith(("downs.", "bottleneck."))}
    norms = {k for k in network.state if ".bn" in k}
    if freeze == "none":
        assert changed & encoder
        assert changed - encoder
    elif freeze == "encoder":
        assert changed
        assert not changed & encoder
    else:
        assert changed
        assert changed <= norms


def test_an_smp_network_has_an_encoder_to_freeze():
    architecture = {"name": "Unet", "encoder": "resnet18", "options": {}}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = build_network(**architecture).state_dict()
    own = TrainedNetwork(state, network_card(architecture=architecture))
    tuned = fine_tune_network(own, *patches(1), FineTuning(steps=1, crop_px=64, freeze="encoder"))
    changed = {k for k, v in state.items() if not torch.equal(v, tuned.state[k])}
    assert changed
    assert not any(key.startswith("encoder.") for key in changed)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 32, 32)), np.zeros((2, 32, 32)), "none of the 2 patches"),
        (np.zeros((2, 32, 32)), np.zeros((1, 32, 32)), r"one shape \(N, P, P\)"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(network, images, labels, message):
    with pytest.raises(ValueError, match=message):
        fine_tune_network(network, images.astype(np.float32), labels.astype(np.uint8), FineTuning())

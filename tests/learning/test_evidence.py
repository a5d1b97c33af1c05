import numpy as np
import pytest
import torch

from temshift.learning.evidence import (
    IMAGE_EVIDENCE,
    MASK_EVIDENCE,
    NETWORK_EVIDENCE,
    gather_evidence,
    image_evidence,
    mask_evidence,
    network_evidence,
    pairwise_dice,
)
from temshift.learning.networks import build_network


def noise(shape=(130, 97), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_pairwise_dice_is_that_of_each_pair_also_over_many_blocks():
    rng = np.random.default_rng(0)
    masks = rng.random((3, 1500, 1501)) > [[[0.5]], [[0.7]], [[0.9]]]
    found = pairwise_dice(masks)
    for i in range(3):
        for j in range(3):
            tp = np.sum(masks[i] & masks[j])
            expected = (2 * tp + 1) / (masks[i].sum() + masks[j].sum() + 1)
            assert found[i, j] == pytest.approx(expected, abs=1e-6)


def test_empty_masks_agree_and_an_empty_one_disagrees_with_a_full_one():
    found = pairwise_dice(np.stack([np.zeros((9, 9), bool)] * 2 + [np.ones((9, 9), bool)]))
    assert found[0, 1] == 1
    assert found[0, 2] < 0.02


@pytest.mark.parametrize("shape", [(64, 64), (65, 301), (700, 513)])
def test_images_of_any_size_are_measured(shape):
    found = image_evidence(noise(shape))
    assert set(found) == set(IMAGE_EVIDENCE)
    assert np.isfinite(list(found.values())).all()


def test_blur_shows_in_roughness_and_noise_and_stripes_in_anisotropy():
    sharp = noise((256, 256))
    blurred = (sharp + np.roll(sharp, 1, 0) + np.roll(sharp, 1, 1) + np.roll(sharp, (1, 1))) / 2
    assert image_evidence(blurred)["roughness_per_px2"] < image_evidence(sharp)["roughness_per_px2"]
    stripes = sharp + 3 * np.sin(np.arange(256))[:, None].astype(np.float32)
    assert image_evidence(stripes)["anisotropy"] > 5 * image_evidence(sharp)["anisotropy"] + 0.5


def test_a_sure_mask_is_surer_than_an_unsure_one():
    image = noise((80, 80))
    sure = np.zeros((80, 80), np.float32)
    sure[20:40, 20:40] = 1
    unsure = np.where(sure > 0, 0.55, 0.45).astype(np.float32)
    first, second = mask_evidence(sure, image), mask_evidence(unsure, image)
    assert set(first) == set(MASK_EVIDENCE)
    assert first["soft_dice"] == pytest.approx(1)
    assert second["soft_dice"] < 0.3
    assert first["labelled_share"] == second["labelled_share"] == pytest.approx(400 / 6400)


def test_nothing_and_everything_are_measured_too():
    image = noise((64, 64))
    for value in (0.0, 1.0):
        found = mask_evidence(np.full((64, 64), value, np.float32), image)
        assert np.isfinite(list(found.values())).all()
        assert found["contrast"] == 0


def test_activations_tell_images_that_the_batch_norms_know_from_others():
    torch.manual_seed(0)
    network = build_network("published_unet").train()
    with torch.no_grad():
        for seed in range(60):
            network(torch.from_numpy(noise((64, 64), seed))[None, None])
    network.eval()
    known = network_evidence(network, noise((128, 128), 99))
    smooth = np.linspace(-2, 2, 128 * 128, dtype=np.float32).reshape(128, 128)
    strange = network_evidence(network, smooth)
    assert set(known) == set(NETWORK_EVIDENCE)
    assert strange["activation_shift"] > 3 * known["activation_shift"]
    assert strange["activation_spread"] > 3 * known["activation_spread"]


def test_all_evidence_on_odd_images_by_several_networks_side_by_side():
    networks = {name: build_network("published_unet").eval() for name in "abc"}
    image = noise((97, 131))
    probabilities = {n: np.clip(0.5 + noise((97, 131), i), 0, 1) for i, n in enumerate("abc")}
    images = dict.fromkeys("abc", image)
    evidence, agreement = gather_evidence(probabilities, images, networks, workers=2)
    assert list(evidence["network"]) == ["a", "b", "c"]
    assert len(agreement) == 6
    pair = agreement.set_index(["network", "juror"])["dice"]
    assert pair["a", "b"] == pair["b", "a"]
    again, _ = gather_evidence(probabilities, images, networks)
    assert evidence.equals(again)

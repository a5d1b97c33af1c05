"""Networks adapted to other images: what changes, and what must not."""

import numpy as np
import pandas as pd
import pytest
import torch
from tests.network_cards import network_card

from temshift.config.evaluation import EvaluationParameters
from temshift.config.modelling import Adaptation
from temshift.learning.adaptation import Predictor, adapt, adapt_batch_norm
from temshift.learning.evaluation import evaluate_network
from temshift.learning.inference import optimise_for_inference
from temshift.learning.network_set import TrainedNetwork
from temshift.learning.networks import PublishedUNet, build_network
from temshift.microscopy.patches import PatchStack
from temshift.microscopy.preprocess import resample

SIDE = 64


def stack(scale=1.0, offset=0.0, n=6, pixel_size_nm=0.02):
    rng = np.random.default_rng(4)
    images = (scale * rng.normal(size=(n, SIDE, SIDE)) + offset).astype("float32")
    labels = (rng.random((n, SIDE, SIDE)) > 0.7).astype("uint8")
    i = np.arange(n)
    table = pd.DataFrame(
        {
            "micrograph_id": [f"m{k}" for k in i],
            "specimen_id": "",
            "group": [f"m{k}" for k in i],
            "row": 0,
            "column": 0,
            "labelled_px": labels.sum((1, 2)),
            "fold": i % 2,
        }
    )
    return PatchStack(images, labels, table, {"split": "b", "pixel_size_nm": pixel_size_nm})


def trained(images=None, **card):
    """A random network whose batch norms know some images."""
    torch.manual_seed(3)
    network = PublishedUNet().eval()
    adapt_batch_norm(network, list(stack().images if images is None else images))
    return TrainedNetwork(network.state_dict(), network_card(folds=2, **card))


def test_statistics_are_those_of_the_images_layer_by_layer():
    network = trained().build()
    images = stack(3.0, 1.0).images
    x = torch.from_numpy(images)[:, None]
    adapt_batch_norm(network, list(images))
    with torch.inference_mode():
        expected = network.downs[0].conv1(x)
        bn = network.downs[0].bn1
        assert torch.allclose(bn.running_mean, expected.mean((0, 2, 3)), atol=1e-5)
        assert torch.allclose(bn.running_var, expected.var((0, 2, 3)), rtol=1e-4)
        # deeper layers see what adapted ones give: all of it equals a pass with batch statistics
        deep = network(x)
        network.train()
        # (but for n - 1 in the variance that is kept)
        assert torch.allclose(network(x), deep, rtol=0.01, atol=0.05)


def test_the_same_images_change_nothing_and_no_weight_is_touched():
    network = trained()
    again = network.build()
    adapt_batch_norm(again, list(stack().images))
    for name, tensor in again.state_dict().items():
        if "num_batches" not in name:
            assert torch.allclose(tensor, network.state[name], atol=1e-5), name
    other = network.build()
    adapt_batch_norm(other, list(stack(2.0, 1.0).images))
    changed = {k for k, v in other.state_dict().items() if not torch.equal(v, network.state[k])}
    assert changed
    assert all("running_" in name or "num_batches" in name for name in changed)
    assert not other.training


def test_a_change_of_scale_and_offset_is_undone_without_labels():
    """Contrast and brightness are what batch norms take up; a network of one shows it exactly."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Conv2d(1, 2, 1)).eval()
    known, shifted = stack().images, stack(0.5, 2.0).images

    def mask(images):
        with torch.inference_mode():
            logits = network(torch.from_numpy(images)[:, None])
        return (logits[:, 1] > logits[:, 0]).numpy()

    adapt_batch_norm(network, list(known))
    truth, plain = mask(known), mask(shifted)
    adapt_batch_norm(network, list(shifted))
    assert (plain == truth).mean() < 0.9
    assert (mask(shifted) == truth).mean() > 0.999


def test_labels_are_never_looked_at():
    first, second = stack(2.0), stack(2.0)
    second.labels[:] = 1 - second.labels
    chosen = np.arange(len(first.images))
    states = [
        adapt(trained(), Adaptation(batch_norm=True), s, chosen, "cpu").network.state_dict()
        for s in (first, second)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))


def test_statistics_come_from_the_tested_patches_only():
    s = stack(2.0)
    chosen = np.array([0, 2, 4])
    states = []
    for value in (0.0, 9.0):
        s.images[1::2] = value
        adapted = adapt(trained(), Adaptation(batch_norm=True), s, chosen, "cpu")
        states.append(list(adapted.network.state_dict().values()))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_networks_without_batch_norm_are_refused():
    with pytest.raises(ValueError, match="no batch norm"):
        adapt_batch_norm(torch.nn.Conv2d(1, 2, 3), list(stack().images))
    network = PublishedUNet(normalisation="group")
    card = network_card(folds=2, network="g", architecture={"normalisation": "group"})
    with pytest.raises(ValueError, match=r"the network 'g' has no batch norm\nFound .*'group'"):
        adapt(
            TrainedNetwork(network.state_dict(), card),
            Adaptation(batch_norm=True),
            stack(),
            np.arange(2),
            "cpu",
        )


@pytest.mark.parametrize("name", ["Unet"])
def test_networks_of_the_library_are_adapted_too(name):
    torch.manual_seed(0)
    network = build_network(name, encoder="resnet18").eval()
    adapt_batch_norm(network, list(stack(2.0).images))
    assert not network.training
    with torch.inference_mode():
        assert network(torch.from_numpy(stack().images[:1])[:, None]).isfinite().all()


# --------------------------------------------------------------------------- pixel size
def test_an_image_of_another_pixel_size_is_seen_at_that_of_the_training():
    network = trained(pixel_size_nm=0.02)
    s = stack(pixel_size_nm=0.04)
    adapted = adapt(network, Adaptation(pixel_size=True), s, np.arange(6), "cpu")
    seen = next(adapted.seen(s.images[:1]))
    assert seen.shape == (2 * SIDE, 2 * SIDE)
    expected = resample(s.images[0], 0.04, 0.02)
    assert seen == pytest.approx((expected - expected.mean()) / expected.std(), abs=1e-5)
    assert adapted.micrograph(s.images[0]).shape == (SIDE, SIDE)
    both = list(adapted.patches(s.images[:2], 1))
    assert [p.shape for p in both] == [(SIDE, SIDE)] * 2


def test_at_the_training_pixel_size_nothing_changes():
    network = trained(pixel_size_nm=0.02)
    s = stack(3.0, 1.0, pixel_size_nm=0.02)
    adapted = adapt(network, Adaptation(pixel_size=True), s, np.arange(6), "cpu")
    plain = Predictor(optimise_for_inference(network.build()), "cpu")
    assert np.array_equal(adapted.micrograph(s.images[0]), plain.micrograph(s.images[0]))
    stacks = {"a": s}
    tables = [
        evaluate_network("r", {"k": network}, stacks, EvaluationParameters(), "cpu", a)[0]
        for a in (None, Adaptation(pixel_size=True))
    ]
    pd.testing.assert_frame_equal(*tables)


def test_a_network_that_knows_one_size_of_particles_is_helped_by_resampling():
    """A local mean over 9 px finds discs of that size, and not such half as large in pixels."""
    conv = torch.nn.Conv2d(1, 2, 9, padding=4, bias=True)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[1] = 1 / 81
        conv.bias.copy_(torch.tensor([0.5, 0.0]))
    image = np.zeros((SIDE, SIDE), np.float32)
    image[30:35, 30:35] = 1.0
    label = image > 0

    def found(target):
        predictor = Predictor(conv.eval(), "cpu", 0.04, target, standardised=False)
        return predictor.micrograph(image) > 0.5

    assert not found(0.04).any()
    assert (found(0.016) & label).sum() >= 0.5 * label.sum()


@pytest.mark.parametrize(("card", "images"), [(None, 0.02), (0.02, None)])
def test_a_pixel_size_that_is_not_known_is_asked_for(card, images):
    with pytest.raises(ValueError, match="metadata table"):
        adapt(
            trained(pixel_size_nm=card),
            Adaptation(pixel_size=True),
            stack(pixel_size_nm=images),
            np.arange(6),
            "cpu",
        )


def test_both_adaptations_at_once_and_the_published_protocol():
    network = trained(pixel_size_nm=0.02, protocol="published")
    s = stack(2.0, 1.0, pixel_size_nm=0.04)
    both = Adaptation(batch_norm=True, pixel_size=True)
    results, _ = evaluate_network(
        "r", {"k": network}, {"b": s}, EvaluationParameters(batch_size=2), "cpu", both
    )
    assert len(results) == 6
    assert results["patch_dice"].between(0, 1).all()

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tests.network_cards import network_card

from temshift.config.modelling import Architecture
from temshift.learning import inference
from temshift.learning.cards import read_card
from temshift.learning.devices import own_random_state
from temshift.learning.inference import (
    _tiles,
    optimise_for_inference,
    predict_micrograph,
    predict_patches,
    receptive_margin_px,
)
from temshift.learning.network_set import TrainedNetwork
from temshift.learning.networks import PublishedUNet, build_network, standardise_outputs


@pytest.fixture(params=[(4, 8, 16, 32)], ids=str)
def network(request) -> PublishedUNet:
    torch.manual_seed(1)
    net = PublishedUNet(request.param)
    with torch.no_grad():  # batch norms as after training, so that folding them is tested
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
    return net.eval()


def plain(net, x):
    with torch.inference_mode():
        return torch.softmax(net(torch.from_numpy(x)[None, None]), 1)[0, 1].numpy()


def test_the_published_unet_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in PublishedUNet().parameters()) == 130_682


@pytest.mark.parametrize("network", [(4, 8, 16, 32), (3, 5, 12)], indirect=True, ids=str)
def test_optimised_network_is_equal(network):
    x = torch.randn(2, 1, 48, 80)
    with torch.inference_mode():
        expected = network(x)
        torch.testing.assert_close(
            optimise_for_inference(network)(x), expected, rtol=1e-4, atol=1e-4
        )
    assert isinstance(network.downs[0].conv1, torch.nn.Conv2d), "the original is left alone"


@pytest.mark.parametrize("strip_values", [1, 1 << 20])
@pytest.mark.parametrize("shape", [(433, 250), (273, 870), (17, 300)])
def test_tiles_and_strips_leave_no_seams(network, shape, strip_values, rng, monkeypatch):
    monkeypatch.setattr(inference, "_STRIP_VALUES", strip_values)
    image = rng.normal(size=shape).astype("float32")
    height, width = (-(-s // 16) * 16 for s in shape)
    padded = np.pad(image, ((0, height - shape[0]), (0, width - shape[1])), mode="symmetric")
    expected = plain(network, padded)[: shape[0], : shape[1]]
    tiled = predict_micrograph([optimise_for_inference(network)], image, tile_Mpx=0.07)
    assert abs(tiled - expected).max() < 1e-4


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    margins=st.integers(0, 8),
    stride=st.sampled_from([16, 32]),
    tile_pixels=st.integers(256, 2_000_000),
)
def test_tiles_cover_the_image_once_and_keep_their_margin(
    height, width, margins, stride, tile_pixels
):
    margin_px = margins * stride
    try:
        tiles = _tiles(height, width, margin_px, stride, tile_pixels)
    except ValueError:
        least = [
            min(-(-side // stride) * stride, 2 * margin_px + stride) for side in (height, width)
        ]
        assert tile_pixels < least[0] * least[1]
        return
    covered = np.zeros((height, width), np.uint8)
    for rows, columns in tiles:
        covered[rows.taken, columns.taken] += 1
        for tile, side in ((rows, height), (columns, width)):
            assert tile.covers.start % stride == tile.covers.stop % stride == 0
            assert 0 <= tile.covers.start < side
            assert tile.covers.stop < side + stride
            assert tile.covers.start == 0 or tile.taken_of_tile.start >= margin_px
            assert tile.covers.stop >= side or tile.covers.stop - tile.taken.stop >= margin_px
    assert (covered == 1).all()
    shapes = {(rows.px, columns.px) for rows, columns in tiles}
    assert len(shapes) == 1
    assert np.prod(shapes.pop()) <= tile_pixels


def test_a_micrograph_is_divided_into_few_tiles():
    tiles = _tiles(4096, 4096, 112, 16, 5_000_000)
    halves = slice(0, 2048), slice(2048, 4096)
    assert [(r.taken, c.taken) for r, c in tiles] == [(r, c) for r in halves for c in halves]
    assert tiles[0][0].covers == slice(0, 2160)


def test_a_tile_smaller_than_its_margins_is_refused(network):
    with pytest.raises(ValueError, match=r"at least 0\.058 Mpx"):
        predict_micrograph([network], np.zeros((512, 512), "float32"), tile_Mpx=0.05)


def test_an_ensemble_of_none_is_refused():
    with pytest.raises(ValueError, match="at least one network"):
        predict_micrograph([], np.zeros((64, 64), "float32"))


@pytest.mark.parametrize("shape", [(304, 80), (640, 592)])
@pytest.mark.parametrize("name", ["FPN", "published_unet"])
def test_networks_of_stride_32_take_any_size(name, shape):
    torch.manual_seed(0)
    if name == "FPN":
        net = build_network(name, encoder="resnet18")
    else:
        net = build_network(name, options={"filters": (2, 2, 2, 2, 2)})
    probability = predict_micrograph(
        [optimise_for_inference(net)], np.zeros(shape, "float32"), tile_Mpx=0.33
    )
    assert probability.shape == shape
    assert np.isfinite(probability).all()


def test_the_margin_is_enough_and_not_wasteful(network, rng):
    margin = receptive_margin_px(network)
    x = torch.from_numpy(rng.normal(size=(1, 1, 512, 512)).astype("float32")).requires_grad_()
    network(x)[0, :, 256, 256].sum().backward()
    rows = torch.nonzero(x.grad[0, 0].abs().sum(1)).flatten()
    reach = max(256 - rows.min().item(), rows.max().item() - 256)
    assert 0.7 * margin < reach <= margin


def test_ensemble_is_the_mean(network, rng):
    torch.manual_seed(2)
    other = PublishedUNet().eval()
    image = rng.normal(size=(64, 64)).astype("float32")
    both = predict_micrograph([network, other], image)
    assert abs(both - (plain(network, image) + plain(other, image)) / 2).max() < 1e-5


def test_patches_keep_their_order(network, rng):
    images = rng.normal(size=(5, 32, 32)).astype("float32")
    for image, probability in zip(
        images, predict_patches(network, images, batch_size=2), strict=True
    ):
        assert abs(probability - plain(network, image)).max() < 1e-5


def test_any_smp_model_takes_one_channel_and_gives_two():
    net = build_network("unet", encoder="resnet18")
    assert net.eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 2, 64, 64)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [({"name": "Unett"}, "Unet"), ({"name": "Unet", "encoder": "resnet81"}, "resnet18")],
)
def test_an_unknown_architecture_lists_the_nearest(arguments, hint):
    with pytest.raises(ValueError, match=f"did you mean.*{hint}"):
        build_network(**arguments)


def test_a_trained_network_is_built_without_the_weights_that_its_encoder_began_with(monkeypatch):
    asked = {"name": "Unet", "encoder": "resnet18", "encoder_weights": "imagenet"}
    state = build_network("Unet", "resnet18").state_dict()
    monkeypatch.setattr(smp.encoders, "hf_hub_download", None)  # none is fetched
    built = TrainedNetwork(state, network_card(architecture=asked)).build()
    assert all(torch.equal(a, state[key]) for key, a in built.state_dict().items())


def test_weights_do_not_depend_on_networks_that_other_threads_load():
    trained = TrainedNetwork(PublishedUNet().state_dict(), network_card())
    ended = threading.Event()

    def load_again_and_again():
        while not ended.is_set():
            trained.build()

    def seeded():
        with own_random_state(1):
            # in parts, so that the others have their chance between them
            return torch.cat([torch.randn(50_000) for _ in range(20)])

    expected, state = seeded(), torch.get_rng_state()
    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(load_again_and_again) for _ in range(2)]
        try:
            assert all(torch.equal(seeded(), expected) for _ in range(20))
        finally:
            ended.set()
        for other in others:
            other.result()
    assert torch.equal(torch.get_rng_state(), state), "of the process: as it was"


def test_published_unet_takes_no_encoder():
    with pytest.raises(ValueError, match="no 'encoder'"):
        build_network("published_unet", encoder="resnet18")


def test_forward_written_out(network):
    """The network equals the procedure of the paper, written with functional calls only."""
    s = network.state_dict()

    def block(x, p):
        def bn(y, n):
            return F.batch_norm(
                y,
                s[f"{p}.{n}.running_mean"],
                s[f"{p}.{n}.running_var"],
                s[f"{p}.{n}.weight"],
                s[f"{p}.{n}.bias"],
            )

        y = F.conv2d(x, s[f"{p}.conv1.weight"], s[f"{p}.conv1.bias"], padding=1)
        y = F.relu(bn(y, "bn1"))
        y = bn(F.conv2d(y, s[f"{p}.conv2.weight"], s[f"{p}.conv2.bias"], padding=1), "bn2")
        return F.relu(y + F.conv2d(x, s[f"{p}.conv_add.weight"], s[f"{p}.conv_add.bias"]))

    x = image = torch.randn(1, 1, 32, 48)
    skips = []
    for i in range(4):
        x = block(x, f"downs.{i}")
        skips.append(x)
        x = F.max_pool2d(x, 2)
    x = block(x, "bottleneck")
    for i in range(4):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = block(torch.cat([skips[3 - i], x], 1), f"ups.{i}")
    expected = F.conv2d(x, s["final_conv.weight"], s["final_conv.bias"])
    torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-4)


def alive(net, x):
    """Share of positive values of each channel that the last convolution reads; logits."""
    seen = []
    net.final_conv.register_forward_pre_hook(lambda module, x: seen.append(x[0]))
    with torch.inference_mode():
        logits = net.train()(x)
    return (seen[-1] > 0).float().mean(dim=(0, 2, 3)), logits


def test_standardised_networks_start_alive_from_every_seed():
    """As published, untrained networks have logits of a hundred and channels that pass nothing."""
    x = torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    dead = {"published": 0, "standardised": 0}
    for seed in range(12):
        torch.manual_seed(seed)
        net = PublishedUNet()
        before, _ = alive(net, x)
        dead["published"] += int((before < 0.02).sum())
        buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
        standardise_outputs(net, x)
        assert all(torch.equal(buffer, buffers[name]) for name, buffer in net.named_buffers())
        after, logits = alive(net, x)
        dead["standardised"] += int((after < 0.02).sum())
        assert logits.std(dim=(0, 2, 3)).allclose(torch.tensor(0.5), atol=1e-3)
        assert logits.mean(dim=(0, 2, 3)).abs().max() < 1e-3
    assert dead["published"] > 5
    assert dead["standardised"] == 0


def test_networks_without_unnormalised_sums_are_left_as_they_are():
    net = build_network("Unet", "resnet18")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    standardise_outputs(net, torch.randn(2, 1, 64, 64))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


# --------------------------------------------------------------------------- normalisation
@pytest.mark.parametrize("normalisation", ["instance", "group"])
def test_other_normalisations_have_the_published_weights_and_no_memory(normalisation):
    torch.manual_seed(0)
    network = build_network("published_unet", normalisation=normalisation)
    assert sum(p.numel() for p in network.parameters()) == 130_682
    assert not list(network.named_buffers()), "nothing is kept of the training images"
    x = torch.randn(2, 1, 48, 80)
    trained = network(x)
    torch.testing.assert_close(network.eval()(x), trained)
    # of each image alone: its neighbours in the batch do not matter
    torch.testing.assert_close(network(x[:1]), trained[:1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normalisation", ["batch", "instance", "group"])
def test_what_predicts_is_the_network_whatever_its_normalisation(normalisation):
    torch.manual_seed(0)
    network = build_network("published_unet", normalisation=normalisation)
    standardise_outputs(network, torch.randn(4, 1, 64, 64))
    network.eval()
    x = torch.randn(2, 1, 64, 96)
    with torch.inference_mode():
        expected = network(x)
        assert expected.std() < 5, "standardised"
        torch.testing.assert_close(
            optimise_for_inference(network)(x), expected, rtol=1e-4, atol=1e-4
        )


def test_groups_of_channels_that_no_four_divide_are_one():
    network = PublishedUNet((3, 5, 12), normalisation="group")
    assert [b.bn1.num_groups for b in network.downs] == [1, 1, 3]
    assert network(torch.randn(1, 1, 32, 32)).shape == (1, 2, 32, 32)


def test_normalisation_is_a_choice_of_the_published_network_and_stands_in_the_card():
    with pytest.raises(ValueError, match="leave it out"):
        Architecture(name="Unet", normalisation="group")
    card = network_card(architecture={"name": "published_unet", "normalisation": "group"})
    network = PublishedUNet(normalisation="group")
    trained = TrainedNetwork(network.state_dict(), read_card(card.to_json()))
    assert isinstance(trained.build().downs[0].bn1, torch.nn.GroupNorm)
    assert network_card().architecture.normalisation == "batch", "older cards, imported weights"

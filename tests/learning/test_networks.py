import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from temshift.learning.inference import (
    _tiles,
    optimise_for_inference,
    predict_micrograph,
    predict_patches,
    receptive_margin_px,
)
from temshift.learning.networks import PublishedUNet, build_network


@pytest.fixture
def network() -> PublishedUNet:
    torch.manual_seed(1)
    net = PublishedUNet()
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


def test_optimised_network_is_equal(network):
    x = torch.randn(2, 1, 48, 80)
    with torch.inference_mode():
        expected = network(x)
        torch.testing.assert_close(
            optimise_for_inference(network)(x), expected, rtol=1e-4, atol=1e-4
        )
    assert isinstance(network.downs[0].conv1, torch.nn.Conv2d), "the original is left alone"


@pytest.mark.parametrize("shape", [(433, 250), (272, 288), (17, 300)])
def test_tiles_leave_no_seams(network, shape, rng):
    image = rng.normal(size=shape).astype("float32")
    height, width = (-(-s // 16) * 16 for s in shape)
    padded = np.pad(image, ((0, height - shape[0]), (0, width - shape[1])), mode="symmetric")
    expected = plain(network, padded)[: shape[0], : shape[1]]
    tiled = predict_micrograph([optimise_for_inference(network)], image, tile_px=272)
    assert abs(tiled - expected).max() < 1e-4


@given(length=st.integers(1, 5000), tile_px=st.integers(16, 1500), margin_px=st.integers(0, 120))
def test_tiles_cover_the_image_once_and_keep_their_margin(length, tile_px, margin_px):
    assume(tile_px // 16 * 16 > 2 * -(-margin_px // 16) * 16)
    tiles = _tiles(length, tile_px, margin_px)
    assert [first for _, first, _ in tiles] == [0, *(last for _, _, last in tiles[:-1])]
    assert tiles[-1][2] == length
    assert len({tile.stop - tile.start for tile, _, _ in tiles}) == 1
    for tile, first, last in tiles:
        assert tile.start % 16 == tile.stop % 16 == 0
        assert tile.start == 0 or first - tile.start >= margin_px
        assert tile.stop >= length or tile.stop - last >= margin_px
        assert tile.stop - tile.start <= max(tile_px, -(-length // 16) * 16)
        assert len(tiles) == 1 or tile.stop - tile.start <= tile_px


def test_a_tile_smaller_than_its_margins_is_refused(network):
    with pytest.raises(ValueError, match="needs at least 240 px"):
        predict_micrograph([network], np.zeros((512, 64), "float32"), tile_px=200)


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

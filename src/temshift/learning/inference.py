"""Prediction: patches, whole micrographs in tiles, ensembles.

Before predicting, a network is rewritten into an equal one with fewer operations: batch norm is
folded into the convolution before it, and the two convolutions of a residual block that read the
same input become one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from temshift.learning.networks import PublishedUNet, ResidualBlock

__all__ = ["optimise_for_inference", "predict_micrograph", "predict_patches", "receptive_margin_px"]


class _FusedBlock(nn.Module):
    """A :class:`ResidualBlock` in evaluation, with half the operations."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        assert isinstance(block, ResidualBlock)
        conv1 = fuse_conv_bn_eval(block.conv1, block.bn1)
        self.conv2 = fuse_conv_bn_eval(block.conv2, block.bn2)
        self.filters = conv1.out_channels
        # conv1 (3×3) and the shortcut (1×1, the centre of a 3×3) read the same input
        shortcut = F.pad(block.conv_add.weight, (1, 1, 1, 1))
        assert conv1.bias is not None
        assert block.conv_add.bias is not None
        self.both = nn.Conv2d(conv1.in_channels, 2 * self.filters, 3, padding=1)
        self.both.weight = nn.Parameter(torch.cat([conv1.weight, shortcut]))
        self.both.bias = nn.Parameter(torch.cat([conv1.bias, block.conv_add.bias]))

    def forward(self, x: Tensor) -> Tensor:
        y, shortcut = self.both(x).split(self.filters, dim=1)
        return F.relu_(self.conv2(F.relu(y)).add_(shortcut))


def optimise_for_inference(network: nn.Module) -> nn.Module:
    """Return an equal network that predicts faster (channels-last, fused where it can be).

    Parameters
    ----------
    network : nn.Module
        In any mode; it is not changed.
    """
    import copy

    network = copy.deepcopy(network).eval()
    if isinstance(network, PublishedUNet):
        network.downs = nn.ModuleList(_FusedBlock(b) for b in network.downs)
        network.bottleneck = _FusedBlock(network.bottleneck)  # type: ignore[assignment]
        network.ups = nn.ModuleList(_FusedBlock(b) for b in network.ups)
    network.requires_grad_(False)
    return network.to(memory_format=torch.channels_last)


def receptive_margin_px(network: nn.Module) -> int:
    """Return the distance in px beyond which a pixel cannot influence a prediction.

    Published U-Net: two 3×3 convolutions a block reach 2 px at the block's scale, on the way down
    and up, and pooling and upsampling each align to blocks of ``2^d`` px; 107 px for the default
    depth 4. For segmentation-models-pytorch networks, whose encoders see the whole tile, 256 px
    is a practical margin, not a bound.
    """
    if isinstance(network, PublishedUNet):
        depth = len(network.downs)
        blocks = 2 * (2 * sum(2**level for level in range(depth))) + 2 * 2**depth
        return blocks + 2**depth - 1
    return 256


@torch.inference_mode()
def predict_patches(
    network: nn.Module,
    images: NDArray[np.float32],
    device: str = "cpu",
    precision: str = "float32",
    batch_size: int = 8,
) -> Iterator[NDArray[np.float32]]:
    """Yield the particle probability of each patch.

    Parameters
    ----------
    network : nn.Module
        On ``device``, best from :func:`optimise_for_inference`.
    images : ndarray, shape (N, H, W), float32
        Standardised patches, sides multiples of 16; may be memory-mapped.
    device, precision : str
    batch_size : int

    Yields
    ------
    ndarray, shape (H, W), float32
        In the order of ``images``.
    """
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(np.array(images[start : start + batch_size], dtype=np.float32))
        yield from _probability(network, batch.unsqueeze(1).to(device), precision).cpu().numpy()


def _probability(network: nn.Module, x: Tensor, precision: str) -> Tensor:
    """Return softmax probability of the particle class: ``(N, 1, H, W)`` to ``(N, H, W)``."""
    autocast = (
        torch.autocast(x.device.type, dtype=torch.bfloat16)
        if precision == "bfloat16"
        else nullcontext()
    )
    with autocast:
        logits = network(x.contiguous(memory_format=torch.channels_last))
    logits = logits.float()
    # softmax over two classes
    return torch.sigmoid(logits[:, 1] - logits[:, 0])


@torch.inference_mode()
def predict_micrograph(
    networks: Sequence[nn.Module],
    image: NDArray[np.float32],
    device: str = "cpu",
    precision: str = "float32",
    tile_px: int = 1024,
) -> NDArray[np.float32]:
    """Return the mean particle probability of an ensemble for an image of any size.

    The image is continued by reflection to a multiple of 16 px and predicted in tiles that
    overlap by the networks' receptive margin, so that tiles leave no seams: away from the border
    the result is that of the whole image at once.

    Parameters
    ----------
    networks : sequence of nn.Module
        On ``device``, best from :func:`optimise_for_inference`.
    image : ndarray, shape (H, W), float32
        Standardised intensity.
    device, precision : str
    tile_px : int
        Side of a tile without its overlap, a multiple of 16. Memory grows with its square.

    Returns
    -------
    ndarray, shape (H, W), float32
    """
    if tile_px % 16:
        raise ValueError(f"tile_px must be a multiple of 16, found {tile_px}")
    height, width = image.shape
    margin = -(-max(receptive_margin_px(n) for n in networks) // 16) * 16
    whole = [-(-side // 16) * 16 for side in (height, width)]
    padded = np.pad(
        np.asarray(image, dtype=np.float32),
        ((0, whole[0] - height), (0, whole[1] - width)),
        mode="symmetric",
    )
    result = np.empty((height, width), dtype=np.float32)
    for top in range(0, height, tile_px):
        for left in range(0, width, tile_px):
            rows = slice(max(0, top - margin), min(whole[0], top + tile_px + margin))
            columns = slice(max(0, left - margin), min(whole[1], left + tile_px + margin))
            x = torch.from_numpy(padded[rows, columns].copy())[None, None].to(device)
            mean = sum(_probability(n, x, precision) for n in networks) / len(networks)
            assert isinstance(mean, Tensor)
            core = mean[0, top - rows.start :, left - columns.start :].cpu().numpy()
            core = core[: min(tile_px, height - top), : min(tile_px, width - left)]
            result[top : top + core.shape[0], left : left + core.shape[1]] = core
    return result

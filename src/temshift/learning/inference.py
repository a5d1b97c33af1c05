"""Prediction: patches, whole micrographs in tiles, ensembles.

Before predicting, a network is rewritten into an equal one with fewer operations: batch norm is
folded into the convolution before it, and the two convolutions of a residual block that read the
same input become one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from temshift.learning.devices import keeping_freed_memory
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
        return self.conv2(F.relu(y)).add_(shortcut).relu_()


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
    batch_size: int = 8,
) -> Iterator[NDArray[np.float32]]:
    """Yield the particle probability of each patch.

    Parameters
    ----------
    network : nn.Module
        On ``device``, best from :func:`optimise_for_inference`.
    images : ndarray, shape (N, H, W), float32
        Standardised patches, sides multiples of 16; may be memory-mapped.
    device : str
    batch_size : int

    Yields
    ------
    ndarray, shape (H, W), float32
        In the order of ``images``.
    """
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(np.array(images[start : start + batch_size], dtype=np.float32))
        yield from _probability(network, batch.unsqueeze(1).to(device)).cpu().numpy()


def _probability(network: nn.Module, x: Tensor) -> Tensor:
    """Return softmax probability of the particle class: ``(N, 1, H, W)`` to ``(N, H, W)``."""
    logits = network(x.contiguous(memory_format=torch.channels_last))
    # softmax over two classes
    return torch.sigmoid(logits[:, 1] - logits[:, 0])


@torch.inference_mode()
def predict_micrograph(
    networks: Sequence[nn.Module],
    image: NDArray[np.float32],
    device: str = "cpu",
    tile_px: int = 1248,
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
    device : str
    tile_px : int
        Largest side of a tile, its overlap included. Memory grows with its square; the smaller
        it is, the more pixels are predicted twice.

    Returns
    -------
    ndarray, shape (H, W), float32

    Raises
    ------
    ValueError
        ``tile_px`` leaves nothing between the margins.
    """
    height, width = image.shape
    margin = max(receptive_margin_px(n) for n in networks)
    result = np.empty((height, width), dtype=np.float32)
    with keeping_freed_memory(device):
        for rows, above, below in _tiles(height, tile_px, margin):
            for columns, left, right in _tiles(width, tile_px, margin):
                tile = np.pad(
                    np.asarray(image[rows, columns], dtype=np.float32),
                    ((0, max(0, rows.stop - height)), (0, max(0, columns.stop - width))),
                    mode="symmetric",
                )
                x = torch.from_numpy(tile)[None, None].to(device)
                total = torch.zeros_like(x[0, 0])
                for network in networks:
                    total += _probability(network, x)[0]
                core = total[above - rows.start : below - rows.start]
                core = core[:, left - columns.start : right - columns.start] / len(networks)
                result[above:below, left:right] = core.cpu().numpy()
    return result


def _tiles(length: int, tile_px: int, margin_px: int) -> list[tuple[slice, int, int]]:
    """Divide one side of an image into tiles of one length, as few and as small as can be.

    Tiles begin and end at multiples of 16 px, the last one perhaps beyond the image.

    Returns
    -------
    list of (slice, int, int)
        What a tile covers, and the first and last (exclusive) pixel that are taken from it: at
        least ``margin_px`` away from the tile's ends, unless they are the image's.
    """
    margin, whole = -(-margin_px // 16) * 16, -(-length // 16) * 16
    inner = tile_px // 16 * 16 - 2 * margin
    if whole <= inner + 2 * margin:
        return [(slice(0, whole), 0, length)]
    if inner <= 0:
        raise ValueError(
            f"tile_px is {tile_px}, but the networks see {margin_px} px to each side: a tile "
            f"needs at least {2 * margin + 16} px"
        )
    count = -(-(whole - 2 * margin) // inner)
    inner = -(-(whole - 2 * margin) // (16 * count)) * 16
    starts = [min(i * inner, whole - inner - 2 * margin) for i in range(count)]
    cuts = [0, *(start + margin for start in starts[1:]), length]
    return [
        (slice(start, start + inner + 2 * margin), cuts[i], cuts[i + 1])
        for i, start in enumerate(starts)
    ]

"""Prediction: patches, whole micrographs in tiles, ensembles.

Before predicting, a network is rewritten into an equal one with fewer operations: batch norm is
folded into the convolution before it (instance and group norms cannot be: what they do depends on
the image), the two convolutions of a residual block that read the same
input become one, and what is upsampled is convolved before. Blocks go through a large image strip
by strip, so that only what other blocks need is ever held for all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from temshift.learning.devices import keeping_freed_memory
from temshift.learning.networks import PublishedUNet, ResidualBlock
from temshift.parallel import map_ordered

__all__ = [
    "optimise_for_inference",
    "predict_micrograph",
    "predict_patches",
    "predict_tiles",
    "receptive_margin_px",
    "stride_px",
]


#: Values in the result of a block for one strip, on the CPU; intermediate ones are 6 times as many.
_STRIP_VALUES = 1 << 18


class _FusedBlock(nn.Module):
    """A :class:`ResidualBlock` in evaluation, with fewer operations.

    Parameters
    ----------
    block : ResidualBlock
    from_below : bool
        Whether its input channels, but for the first ``filters``, come from the level below by
        nearest-neighbour upsampling. A convolution of an upsampled image is a transposed
        convolution of the image itself: four taps an output pixel instead of nine, and nothing to
        upsample or concatenate.
    """

    def __init__(self, block: nn.Module, from_below: bool = False) -> None:
        super().__init__()
        assert isinstance(block, ResidualBlock)
        assert isinstance(block.bn1, nn.BatchNorm2d)
        assert isinstance(block.bn2, nn.BatchNorm2d)
        conv1 = fuse_conv_bn_eval(block.conv1, block.bn1)
        self.conv2 = fuse_conv_bn_eval(block.conv2, block.bn2)
        self.filters = conv1.out_channels
        # conv1 (3×3) and the shortcut (1×1, the centre of a 3×3) read the same input
        shortcut = F.pad(block.conv_add.weight, (1, 1, 1, 1))
        weight = torch.cat([conv1.weight, shortcut])
        assert conv1.bias is not None
        assert block.conv_add.bias is not None
        inputs = weight.shape[1]
        beside = self.filters if from_below else inputs
        self.both = nn.Conv2d(beside, 2 * self.filters, 3, padding=1)
        self.both.weight = nn.Parameter(weight[:, :beside])
        self.both.bias = nn.Parameter(torch.cat([conv1.bias, block.conv_add.bias]))
        self.then: nn.Module = nn.Identity()
        self.both_below: nn.Module | None = None
        if from_below:
            # each pixel of the image below stands for 2 × 2: four shifted copies of the kernel
            shifts = [(right, 1 - right, down, 1 - down) for right in (0, 1) for down in (0, 1)]
            kernel = torch.stack([F.pad(weight[:, beside:], shift) for shift in shifts]).sum(dim=0)
            self.both_below = nn.ConvTranspose2d(
                inputs - beside, 2 * self.filters, 4, stride=2, padding=1, bias=False
            )
            self.both_below.weight = nn.Parameter(kernel.flip(2, 3).transpose(0, 1))

    def forward(self, x: Tensor, below: Tensor | None = None) -> Tensor:
        both = self.both(x)
        if self.both_below is not None:
            both += self.both_below(below)
        y, shortcut = both.split(self.filters, dim=1)
        return self.then(self.conv2(F.relu(y)).add_(shortcut).relu_())


class _FusedUNet(nn.Module):
    """A :class:`PublishedUNet` in evaluation, with fewer operations and little memory."""

    def __init__(self, network: PublishedUNet) -> None:
        super().__init__()
        self.downs = nn.ModuleList(_FusedBlock(b) for b in network.downs)
        self.bottleneck = _FusedBlock(network.bottleneck)
        self.ups = nn.ModuleList(_FusedBlock(b, from_below=True) for b in network.ups)
        self.ups[-1].then = network.final_conv

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.downs:
            skips.append(_in_strips(block, x))
            x = _halved(skips[-1])
        x = _in_strips(self.bottleneck, x)
        for block in self.ups:
            x = _in_strips(block, skips.pop(), x)
        return x


def _halved(x: Tensor) -> Tensor:
    """Return ``max_pool2d(x, 2)``, which is slow for few channels that lie side by side."""
    rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


def _in_strips(block: nn.Module, x: Tensor, below: Tensor | None = None) -> Tensor:
    """Apply a block, whose two 3×3 convolutions reach 2 rows, to strips of rows.

    Parameters
    ----------
    block : _FusedBlock
    x : Tensor, shape (N, C, H, W)
    below : Tensor, shape (N, D, H/2, W/2), optional
        Second input of the block.

    Returns
    -------
    Tensor, shape (N, B, H, W)
    """
    n, _, height, width = x.shape
    assert isinstance(block, _FusedBlock)
    rows = max(16, _STRIP_VALUES // (n * block.filters * width) // 2 * 2)
    if rows >= height or not x.is_cpu:
        return block(x, below)
    result: Tensor | None = None
    for top in range(0, height, rows):
        start, stop = max(0, top - 2), min(height, top + rows + 2)
        under = None if below is None else below[:, :, start // 2 : stop // 2]
        y = block(x[:, :, start:stop], under)
        if result is None:
            result = torch.empty((n, y.shape[1], height, width), memory_format=torch.channels_last)
        result[:, :, top : top + rows] = y[:, :, top - start : top - start + rows]
    assert result is not None
    return result


def optimise_for_inference(network: nn.Module) -> nn.Module:
    """Return an equal network that predicts faster (channels-last, fused where it can be).

    Parameters
    ----------
    network : nn.Module
        In any mode; it is not changed.
    """
    import copy

    network = copy.deepcopy(network).eval()
    if isinstance(network, PublishedUNet) and network.normalisation == "batch":
        network = _FusedUNet(network)
    network.requires_grad_(False)
    return network.to(memory_format=torch.channels_last)


def receptive_margin_px(network: nn.Module) -> int:
    """Return the distance in px beyond which a pixel cannot influence a prediction.

    Published U-Net: two 3×3 convolutions a block reach 2 px at the block's scale, on the way down
    and up, and pooling and upsampling each align to blocks of ``2^d`` px; 107 px for the default
    depth 4. For segmentation-models-pytorch networks, whose encoders see the whole tile, 256 px
    is a practical margin, not a bound.
    """
    if isinstance(network, PublishedUNet | _FusedUNet):
        depth = len(network.downs)
        blocks = 2 * (2 * sum(2**level for level in range(depth))) + 2 * 2**depth
        return blocks + 2**depth - 1
    return 256


def stride_px(network: nn.Module) -> int:
    """Return of what the sides of a network's input must be multiples, px.

    ``2^depth`` for the published U-Net; for networks of segmentation-models-pytorch at least 32,
    that of encoders of the usual depth 5.
    """
    if isinstance(network, PublishedUNet | _FusedUNet):
        return int(2 ** len(network.downs))
    return max(32, int(getattr(getattr(network, "encoder", None), "output_stride", 32)))


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
        Standardised patches, sides multiples of :func:`stride_px`; may be memory-mapped.
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


def predict_micrograph(
    networks: Sequence[nn.Module],
    image: NDArray[np.float32],
    device: str = "cpu",
    tile_Mpx: float | None = None,
) -> NDArray[np.float32]:
    """Return the mean particle probability of an ensemble for an image of any size.

    See :func:`predict_tiles`.

    Parameters
    ----------
    networks : sequence of nn.Module
        On ``device``, best from :func:`optimise_for_inference`.
    image : ndarray, shape (H, W), float32
        Standardised intensity.
    device : str
    tile_Mpx : float, optional
        See :func:`predict_tiles`.

    Returns
    -------
    ndarray, shape (H, W), float32

    Raises
    ------
    ValueError
        No network; tiles so small that nothing is left between the margins.
    """
    if not networks:
        raise ValueError("an ensemble needs at least one network, found none")
    result = np.zeros(image.shape, dtype=np.float32)
    with keeping_freed_memory(device):
        for _, where, part in predict_tiles(networks, image, device, tile_Mpx):
            result[where] += part
        if len(networks) > 1:
            result /= len(networks)
    return result


def predict_tiles(
    networks: Sequence[nn.Module],
    image: NDArray[np.float32],
    device: str = "cpu",
    tile_Mpx: float | None = None,
    workers: int = 1,
) -> Iterator[tuple[int, tuple[slice, slice], NDArray[np.float32]]]:
    """Yield the particle probability of each network, tile by tile, network after network.

    The image is continued by reflection to a multiple of the networks' stride and predicted in
    tiles that overlap by the networks' receptive margin, so that tiles leave no seams: away from
    the border the result is that of the whole image at once. Instance and group norms are an
    exception: their statistics are those of each tile.

    Parameters
    ----------
    networks : sequence of nn.Module
        On ``device``, best from :func:`optimise_for_inference`.
    image : ndarray, shape (H, W), float32
        Standardised intensity.
    device : str
    tile_Mpx : float, optional
        Largest size of a tile, its overlap included, in 10⁶ px. Memory grows with it (about 50
        bytes a pixel of the published network on a CPU) and with ``workers``; the smaller it is,
        the more pixels are predicted twice. By default 1.5 on a CPU, 20 (a whole micrograph) on a
        GPU.
    workers : int
        Tiles that are predicted side by side.

    Yields
    ------
    network : int
        Its place in ``networks``.
    where : (slice, slice)
        Rows and columns of the image; those of a network cover it once.
    probability : ndarray, shape of ``image[where]``, float32

    Raises
    ------
    ValueError
        Tiles so small that nothing is left between the margins.
    """
    height, width = image.shape
    stride = max((stride_px(n) for n in networks), default=1)
    margin = _up_to(stride, max((receptive_margin_px(n) for n in networks), default=0))
    if tile_Mpx is None:
        tile_Mpx = 1.5 if device == "cpu" else 20.0
    tiles = _tiles(height, width, margin, stride, round(1e6 * tile_Mpx))
    work = [(i, rows, columns) for i in range(len(networks)) for rows, columns in tiles]

    @torch.inference_mode()  # of this thread alone
    def predict(one: tuple[int, _Side, _Side]) -> NDArray[np.float32]:
        i, rows, columns = one
        tile = np.pad(
            np.asarray(image[rows.covers, columns.covers], dtype=np.float32),
            ((0, max(0, rows.covers.stop - height)), (0, max(0, columns.covers.stop - width))),
            mode="symmetric",
        )
        x = torch.from_numpy(tile)[None, None].to(device)
        core = rows.taken_of_tile, columns.taken_of_tile
        # a copy, so that the margins are not kept with it
        return _probability(networks[i], x)[0][core].clone().cpu().numpy()

    found = map_ordered(predict, work, workers) if workers > 1 else map(predict, work)
    for (i, rows, columns), part in zip(work, found, strict=True):
        yield i, (rows.taken, columns.taken), part


@dataclass(frozen=True)
class _Side:
    """One side of a tile, in pixels of the image: what it covers and what is taken of it."""

    covers: slice
    taken: slice

    @property
    def taken_of_tile(self) -> slice:
        """What is taken, counted from the tile's first pixel."""
        return slice(self.taken.start - self.covers.start, self.taken.stop - self.covers.start)

    @property
    def px(self) -> int:
        return int(self.covers.stop - self.covers.start)


def _tiles(
    height: int, width: int, margin: int, stride: int, tile_pixels: int
) -> list[tuple[_Side, _Side]]:
    """Divide an image into tiles of one shape, such that the fewest pixels are predicted twice.

    Parameters
    ----------
    height, width : int
        Of the image, px.
    margin, stride : int
        See :func:`_divide`.
    tile_pixels : int
        The most pixels of a tile.

    Returns
    -------
    list of (rows, columns)
    """
    across = _up_to(stride, width)
    best: tuple[int, list[_Side], list[_Side]] | None = None
    for count in range(1, across // stride + 1):
        inner = _up_to(stride, -(-(across - 2 * margin) // count))
        if count > 1 and (inner < stride or (best and inner < 2 * margin)):
            break
        columns = _divide(width, across if count == 1 else inner + 2 * margin, margin, stride)
        rows = _divide(height, tile_pixels // columns[0].px, margin, stride)
        total = sum(r.px for r in rows) * sum(c.px for c in columns)
        if rows and (best is None or total < best[0]):
            best = total, rows, columns
    if best is None:
        least = prod(min(_up_to(stride, side), 2 * margin + stride) for side in (height, width))
        raise ValueError(
            f"tile_Mpx is {tile_pixels / 1e6:g}, but {margin} px to each side are only margin: "
            f"a tile needs at least {least / 1e6:.2g} Mpx"
        )
    return [(rows, columns) for rows in best[1] for columns in best[2]]


def _divide(length: int, tile_px: int, margin: int, stride: int) -> list[_Side]:
    """Divide one side of an image into tiles of one length, as few and as short as can be.

    Tiles begin and end at multiples of ``stride``, the last one perhaps beyond the image. What is
    taken of a tile is at least ``margin`` (a multiple of ``stride``) away from its ends, unless
    they are the image's. Tiles of ``tile_px`` or less; none if they would consist of margins.
    """
    whole = _up_to(stride, length)
    if whole <= tile_px:
        return [_Side(slice(0, whole), slice(0, length))]
    inner = tile_px // stride * stride - 2 * margin
    if inner <= 0:
        return []
    count = -(-(whole - 2 * margin) // inner)
    inner = _up_to(stride, -(-(whole - 2 * margin) // count))
    starts = [min(i * inner, whole - inner - 2 * margin) for i in range(count)]
    cuts = [0, *(start + margin for start in starts[1:]), length]
    return [
        _Side(slice(start, start + inner + 2 * margin), slice(cuts[i], cuts[i + 1]))
        for i, start in enumerate(starts)
    ]


def _up_to(stride: int, length: int) -> int:
    """Return the next multiple of ``stride``."""
    return -(-length // stride) * stride

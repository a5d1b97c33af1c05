"""Segmentation networks: the study's small U-Net and any of segmentation-models-pytorch.

Every network maps ``(N, 1, H, W)`` float32 (standardised intensity) to ``(N, 2, H, W)`` logits
(background, particle). ``H`` and ``W`` are multiples of the network's stride
(:func:`temshift.learning.inference.stride_px`): 16 for the published U-Net, 32 for most others.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temshift.learning.few_channels import BatchNorm

__all__ = ["PublishedUNet", "build_network", "standardise_outputs", "train_mode"]


#: Channels of a group of the group normalisation.
_GROUP = 4


def _norm(kind: str, channels: int) -> nn.Module:
    """Return a normalisation layer with a factor and an offset of every channel."""
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if kind == "group":
        return nn.GroupNorm(channels // _GROUP if channels % _GROUP == 0 else 1, channels)
    return BatchNorm(channels)


class ResidualBlock(nn.Module):
    """conv3×3 – BN – ReLU – conv3×3 – BN, plus a 1×1 convolution of the input, then ReLU.

    With another ``normalisation`` that stands where the batch norms do, under their names.
    """

    def __init__(self, inputs: int, outputs: int, normalisation: str = "batch") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.bn1 = _norm(normalisation, outputs)
        self.bn2 = _norm(normalisation, outputs)
        self.conv_add = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, H, W)``."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.conv_add(x))


class PublishedUNet(nn.Module):
    """The U-Net of Sytwu, Rangel DaCosta & Scott (2024); 130,682 parameters by default.

    Residual down blocks, max-pooling by 2, nearest-neighbour upsampling, concatenation
    (skip, up), residual up blocks and a 1×1 convolution. Parameter names are those of the
    published weights.

    Parameters
    ----------
    filters : sequence of int
        Filters of the down blocks; the bottleneck has twice the last.
    normalisation : {"batch", "instance", "group"}
        The published one is ``batch``; groups have four channels.
    """

    def __init__(
        self, filters: tuple[int, ...] = (4, 8, 16, 32), normalisation: str = "batch"
    ) -> None:
        super().__init__()
        self.normalisation = normalisation
        self.downs = nn.ModuleList()
        self.ups = nn.ModuleList()
        channels = 1
        for n in filters:
            self.downs.append(ResidualBlock(channels, n, normalisation))
            channels = n
        self.bottleneck = ResidualBlock(channels, 2 * channels, normalisation)
        channels = 2 * channels
        for n in reversed(filters):
            self.ups.append(ResidualBlock(n + channels, n, normalisation))
            channels = n
        self.final_conv = nn.Conv2d(channels, 2, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, 1, H, W)`` to logits ``(N, 2, H, W)``."""
        skips = []
        for block in self.downs:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottleneck(x)
        for block in self.ups:
            x = block(torch.cat([skips.pop(), F.interpolate(x, scale_factor=2.0)], dim=1))
        return self.final_conv(x)


@torch.no_grad()
def standardise_outputs(network: nn.Module, x: Tensor) -> None:
    """Rescale untrained convolutions that no normalisation follows, by what they give for ``x``.

    The shortcuts of the published U-Net and its last convolution add up and grow from block to
    block: untrained, it starts with logits of about 100 and, from some seeds, with a last ReLU
    that passes nothing, from which no training recovers. Here every channel of these convolutions
    is given mean 0 and standard deviation 1 (the last one: 0.5) on a batch of training images
    (Mishkin & Matas 2016, "All you need is a good init"). Other networks are left alone: they
    have none.

    Parameters
    ----------
    network : nn.Module
        Untrained; changed in place.
    x : Tensor, shape (N, 1, H, W), float32
        Training images, standardised.
    """
    if not isinstance(network, PublishedUNet):
        return

    def rescale(module: nn.Module, _: object, y: Tensor, std: float) -> Tensor:
        assert isinstance(module, nn.Conv2d)
        assert module.bias is not None
        mean, factor = y.mean(dim=(0, 2, 3)), std / y.std(dim=(0, 2, 3)).clamp(min=1e-6)
        module.weight *= factor[:, None, None, None]
        module.bias -= mean
        module.bias *= factor
        return (y - mean[:, None, None]) * factor[:, None, None]

    hooks = [
        module.register_forward_hook(partial(rescale, std=0.5 if name == "final_conv" else 1.0))
        for name, module in network.named_modules()
        if name == "final_conv" or name.endswith("conv_add")
    ]
    training = network.training
    state = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.train()  # batch norm as in the first step
    network(x)
    network.train(training)
    for name, buffer in network.named_buffers():
        buffer.copy_(state[name])
    for hook in hooks:
        hook.remove()


def train_mode(network: nn.Module, freeze: str = "none") -> None:
    """Put a network into training mode, apart from what is to stay as it is.

    Parameters
    ----------
    network : nn.Module
    freeze : {"none", "encoder", "decoder", "all_but_batch_norm"}
        See :class:`temshift.config.fine_tuning.FineTuning`. A frozen encoder or decoder (with the
        last convolution) keeps the statistics of its batch norms, too.

    Raises
    ------
    ValueError
        The network has no part to be frozen, or no batch norm.
    """
    network.train()
    if freeze in ("encoder", "decoder"):
        if isinstance(network, PublishedUNet):
            encoder = [*network.downs, network.bottleneck]
            parts = encoder if freeze == "encoder" else [*network.ups, network.final_conv]
        else:
            names = {freeze} | ({"segmentation_head"} if freeze == "decoder" else set())
            children = dict(network.named_children())
            parts = [children[n] for n in sorted(names) if freeze in children and n in children]
        if not parts:
            raise ValueError(f"the network has no {freeze} to freeze: choose freeze: none")
        for part in parts:
            part.eval().requires_grad_(False)
    elif freeze == "all_but_batch_norm":
        network.requires_grad_(False)
        norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
        if not norms:
            raise ValueError("the network has no batch norm to train: choose another freeze")
        for norm in norms:
            norm.requires_grad_(True)


def build_network(
    name: str,
    encoder: str | None = None,
    encoder_weights: str | None = None,
    options: dict[str, Any] | None = None,
    normalisation: str = "batch",
) -> nn.Module:
    """Build an untrained network; draw its weights from torch's current random state.

    Parameters
    ----------
    name : str
        ``"published_unet"`` or a model class of segmentation-models-pytorch (``"Unet"``,
        ``"FPN"`` ...), in any case.
    encoder : str, optional
        Encoder of an smp model, e.g. ``"resnet18"`` (default ``"resnet34"``).
    encoder_weights : str, optional
        Pretrained weights of the encoder; ``None`` downloads nothing.
    options : dict, optional
        Further arguments of the model class.
    normalisation : {"batch", "instance", "group"}
        Of the published U-Net.

    Raises
    ------
    ValueError
        Unknown architecture or encoder; lists the nearest valid names.
    """
    options = dict(options or {})
    if name == "published_unet":
        if encoder or encoder_weights:
            raise ValueError(
                "architecture 'published_unet' has no 'encoder' and no 'encoder_weights': "
                "leave them out, or choose a segmentation-models-pytorch model such as 'Unet'"
            )
        return PublishedUNet(
            **{k: tuple(v) for k, v in options.items()}, normalisation=normalisation
        )

    import segmentation_models_pytorch as smp

    from temshift.config.base import nearest

    models = {cls.__name__.lower(): cls for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    if name.lower() not in models:
        valid = ["published_unet", *(cls.__name__ for cls in models.values())]
        raise ValueError(f"unknown architecture {name!r}; {nearest(name, valid)}")
    encoder = encoder or "resnet34"
    try:
        return models[name.lower()](
            encoder_name=encoder,
            encoder_weights=encoder_weights,
            in_channels=1,
            classes=2,
            **options,
        )
    except KeyError as error:
        valid = smp.encoders.get_encoder_names()
        raise ValueError(f"unknown encoder {encoder!r}; {nearest(encoder, valid)}") from error

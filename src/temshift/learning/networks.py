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

from temshift.config.errors import UserError
from temshift.learning.few_channels import BatchNorm

__all__ = [
    "PublishedUNet",
    "build_network",
    "encoder_source",
    "no_weights",
    "other_encoders",
    "out_of_reach",
    "standardise_outputs",
    "timm_encoder",
    "train_mode",
]


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
    UserError
        Weights of the encoder that cannot be downloaded.
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

    from temshift.config.base import close_to, nearest

    models = {cls.__name__.lower(): cls for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    if name.lower() not in models:
        valid = ["published_unet", *(cls.__name__ for cls in models.values())]
        raise ValueError(f"unknown architecture {name!r}; {nearest(name, valid)}")
    encoder = encoder or "resnet34"
    if (timm_name := timm_encoder(encoder)) is not None and (known := other_encoders(timm_name)):
        near = " or ".join(repr(f"tu-{close}") for close in close_to(timm_name, known))
        raise ValueError(
            f"unknown encoder {encoder!r}; {f'did you mean {near}? ' if near else ''}Valid: 'tu-' "
            "and any name that timm.list_models() gives"
        )
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
    except Exception as error:
        if encoder_weights is None or not _of_a_download(error):
            raise
        raise no_weights(encoder, encoder_weights, str(error)) from error


def timm_encoder(encoder: str) -> str | None:
    """Return the name in timm of an encoder that smp takes from there, otherwise ``None``."""
    from segmentation_models_pytorch.encoders import is_equivalent_to_timm_universal

    if is_equivalent_to_timm_universal(encoder):  # older names of the same
        encoder = encoder.replace("timm-", "tu-tf_" if "mobilenetv3" in encoder else "tu-")
    return encoder.removeprefix("tu-") if encoder.startswith("tu-") else None


def encoder_source(encoder: str, weights: str) -> tuple[str, str | None] | None:
    """Return where on huggingface.co the weights of an encoder are: repository and revision.

    ``None`` if they are elsewhere, or there are none.
    """
    import timm
    from segmentation_models_pytorch.encoders import encoders

    name = timm_encoder(encoder)
    if name is None:
        settings = encoders.get(encoder, {}).get("pretrained_settings", {}).get(weights, {})
        return (settings["repo_id"], settings["revision"]) if "repo_id" in settings else None
    known = timm.models.get_pretrained_cfg(name) if timm.models.is_model_pretrained(name) else None
    return (known.hf_hub_id, None) if known is not None and known.hf_hub_id else None


def no_weights(encoder: str, weights: str, why: str, key: str = "") -> UserError:
    """Return the error for weights of an encoder that cannot be fetched.

    Parameters
    ----------
    encoder, weights : str
    why : str
        What stands in the way.
    key : str, optional
        Where they are asked for.
    """
    source = encoder_source(encoder, weights)
    place = f"https://huggingface.co/{source[0]}" if source else "where timm says"
    return UserError(
        f"{key or 'architecture.encoder_weights'}: the weights {weights!r} of the encoder "
        f"{encoder!r} cannot be downloaded",
        f"Found {' '.join(why.split()).rstrip('.')}; expected them from {place}, or in the cache "
        "of huggingface_hub",
        "Repeat the command with access to the network (once: they are kept), copy that cache (by "
        "default ~/.cache/huggingface, otherwise $HF_HOME) from a machine that has them, or set "
        "encoder_weights: null for random ones",
    )


def out_of_reach(repository: str, revision: str | None = None) -> str:
    """Return why weights on huggingface.co cannot be fetched, nothing if they can; fetch none."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    try:
        get_hf_file_metadata(
            hf_hub_url(repository, "model.safetensors", revision=revision), timeout=5
        )
    except EntryNotFoundError:
        return ""  # it has them in a file of another name
    except Exception as error:
        if not _of_a_download(error):
            raise
        return str(error) or type(error).__name__
    return ""


def other_encoders(name: str) -> list[str]:
    """Return what could have been meant by an encoder that timm lacks; nothing if it has it."""
    import timm

    base, _, tag = name.partition(".")
    if base not in timm.list_models():
        return list(timm.list_models())
    tagged = list(timm.list_pretrained(base)) if hasattr(timm, "list_pretrained") else []
    return [] if not tag or not tagged or name in tagged else [base, *tagged]


def _of_a_download(error: BaseException) -> bool:
    """Whether weights could not be fetched: what huggingface_hub and its transport raise."""
    kinds = ("huggingface_hub", "httpx", "requests", "urllib")
    return isinstance(error, ConnectionError) or type(error).__module__.startswith(kinds)

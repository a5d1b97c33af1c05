"""Whether the networks that the parameters ask for can be built, and take the patches."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from temshift.config.base import hint
from temshift.config.errors import UserError
from temshift.config.modelling import Architecture, ModellingParameters
from temshift.config.plan import StudyPlan
from temshift.config.preprocessing import PreprocessingParameters

if TYPE_CHECKING:
    from torch import nn

__all__ = ["check_architectures"]

#: What torch, smp and timm raise for a network that cannot be built, or an image it cannot take.
_REFUSALS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    RuntimeError,
)


def check_architectures(
    plan: StudyPlan,
    modelling: ModellingParameters,
    preprocessing: PreprocessingParameters,
    trained: Collection[str] | None = None,
    downloaded: Collection[str] | None = None,
) -> None:
    """Build every architecture once; see whether it takes the images that it is to see.

    Architectures of segmentation-models-pytorch are given one batch of the side of their crops, in
    training, and one patch of each side that they meet. The random state of the process stays.

    Parameters
    ----------
    plan : StudyPlan
    modelling : ModellingParameters
    preprocessing : PreprocessingParameters
    trained : collection of str, optional
        Networks that are to be trained: they are given images. By default all.
    downloaded : collection of str, optional
        Those of them for which this machine must have the weights of their encoders. By default
        all.

    Raises
    ------
    UserError
        An architecture, an encoder, weights or an option that do not exist; a patch or crop whose
        side is no multiple of the network's stride, or that the network cannot take; a result
        other than two channels of logits of the same side; splits to be trained on together whose
        patches have several sizes; batch norms to be adapted where there are none; weights of an
        encoder that cannot be downloaded.
    """
    built: dict[str, _Built] = {}
    trained = plan.trained if trained is None else trained
    downloaded = trained if downloaded is None else downloaded
    for name in plan.trained:
        _check_one_patch_size(name, plan, preprocessing)
    for name in plan.trained:
        network = modelling.with_overrides(plan.networks.get(name))
        architecture = network.architecture
        known = json.dumps(architecture.model_dump(), sort_keys=True)
        if known not in built:
            built[known] = _build(architecture, partial(_key, name, plan, "architecture"))
        if name in downloaded and plan.initial(name) is None:
            _check_download(architecture, _key(name, plan, "architecture", "encoder_weights"))
        stride = built[known].stride
        for where, side in _sides(name, plan, network, preprocessing):
            if side % stride:
                raise UserError(
                    f"{where} does not suit the network {name!r} ({architecture.name})",
                    f"Found {side} px; expected a multiple of {stride} px, its stride",
                    f"Set {where} to {side // stride * stride or stride} or "
                    f"{(side // stride + 1) * stride}, or choose another architecture",
                )
        if name in trained and built[known].network is not None:
            for seen in _images(name, plan, network, preprocessing):
                _check_pass(name, plan, architecture, built[known], seen)
    for name in plan.rows:
        _check_adapted(name, plan, modelling)


def _key(name: str, plan: StudyPlan, *path: str) -> str:
    """Return the key in which a setting of a network stands: its own, or that of all."""
    own = plan.networks.get(name)
    block = getattr(own, path[0]) if own else {}
    for part in path[1:]:
        block = block.get(part) if isinstance(block, Mapping) else None
    return ".".join((f"networks.{name}" if block not in (None, {}) else "modelling", *path))


def _patch_sides(
    name: str, plan: StudyPlan, preprocessing: PreprocessingParameters
) -> dict[str, tuple[str, int]]:
    """Return what sets the side of the patches, and that side, of every split a network meets.

    Those of curated sets are known from their files only.
    """
    sides = {}
    for split in dict.fromkeys([*plan.train_on(name), *plan.tested_on(name)]):
        own = plan.splits[split]
        if own.curated is None:
            where = "preprocessing.patch_px"
            if "patch_px" in own.preprocessing:
                where = f"splits.{split}.{where}"
            sides[split] = where, preprocessing.with_overrides(own.preprocessing).patch_px
    return sides


def _check_one_patch_size(
    name: str, plan: StudyPlan, preprocessing: PreprocessingParameters
) -> None:
    """Refuse a network that is to be trained on patches of several sizes."""
    patches = _patch_sides(name, plan, preprocessing)
    trained = {split: patches[split] for split in plan.train_on(name) if split in patches}
    if len({side for _, side in trained.values()}) > 1:
        found = ", ".join(f"{split} {side} px ({key})" for split, (key, side) in trained.items())
        raise UserError(
            f"networks.{name}.train_on: the patches of its splits have several sizes",
            f"Found {found}; expected one size",
            f"Give these splits the same preprocessing.patch_px, or leave all but one size out of "
            f"networks.{name}.train_on",
        )


def _check_adapted(name: str, plan: StudyPlan, modelling: ModellingParameters) -> None:
    """Refuse batch norms to be adapted in a network that has none."""
    own = plan.networks.get(name)
    if own is None or own.adaptation is None or not own.adaptation.batch_norm:
        return
    base = plan.weights_of(name)
    if base not in plan.trained:
        return  # imported: what it has is on its card
    kind = modelling.with_overrides(plan.networks.get(base)).architecture.normalisation
    if kind != "batch":
        raise UserError(
            f"networks.{name}.adaptation.batch_norm: the network {base!r} has no batch norm",
            f"Found {_key(base, plan, 'architecture', 'normalisation')}: {kind}; expected batch",
            "Leave this adaptation out (with this normalisation the statistics are those of each "
            "image already), or name another network in weights_of",
        )


def _sides(
    name: str, plan: StudyPlan, network: ModellingParameters, preprocessing: PreprocessingParameters
) -> Iterator[tuple[str, int]]:
    """Yield the sides of the images that a network sees, and what sets each."""
    yield from _patch_sides(name, plan, preprocessing).values()
    if network.training.crop_px is not None:
        yield _key(name, plan, "training", "crop_px"), network.training.crop_px


class _Image(NamedTuple):
    """Images that a network sees: their side, what sets it, and how many together."""

    where: str
    side: int
    batch: int
    training: bool


def _images(
    name: str, plan: StudyPlan, network: ModellingParameters, preprocessing: PreprocessingParameters
) -> Iterator[_Image]:
    """Yield the batch that a network is trained on, and the patches that it is tested on."""
    patches, crop = _patch_sides(name, plan, preprocessing), network.training.crop_px
    trained = [] if crop is None else [(_key(name, plan, "training", "crop_px"), crop)]
    trained += [patches[split] for split in plan.train_on(name) if split in patches]
    if trained:
        where, side = min(trained, key=lambda known: known[1])  # crops are no larger than patches
        # two images are as good as many, for a batch norm too
        yield _Image(where, side, min(2, network.training.batch_size), training=True)
    for where, side in patches.values():
        yield _Image(where, side, 1, training=False)


@dataclass
class _Built:
    """A network, its stride, and the images that it has taken; the default one is not built."""

    stride: int
    network: nn.Module | None = None
    taken: set[tuple[int, int, bool]] = field(default_factory=set)


def _build(architecture: Architecture, key: Callable[..., str]) -> _Built:
    """Build an architecture, unless it is the default one; ``key`` returns where a part stands."""
    if architecture == Architecture():
        return _Built(16)
    from temshift.learning.devices import own_random_state
    from temshift.learning.inference import stride_px
    from temshift.learning.networks import build_network

    _check_weights(architecture, key)
    _check_options(architecture, key)
    settings = architecture.model_dump() | {"encoder_weights": None}  # nothing is downloaded here
    if architecture.name == "published_unet":
        settings["encoder_weights"] = architecture.encoder_weights
    try:
        with own_random_state():
            network = build_network(**settings)
    except UserError:
        raise
    except _REFUSALS as error:
        raise UserError(
            f"{key()}: this network cannot be built",
            f"Found {_described(architecture)}: {' '.join(str(error).split())}",
            "Mend its name, encoder or options; those of segmentation-models-pytorch are in its "
            "documentation",
        ) from error
    # the published U-Net takes every multiple of its stride
    return _Built(stride_px(network), None if architecture.name == "published_unet" else network)


def _check_pass(
    name: str, plan: StudyPlan, architecture: Architecture, built: _Built, seen: _Image
) -> None:
    """Give images to a network; refuse what it cannot take, and a result of another form."""
    case = (seen.side, seen.batch, seen.training)
    if case in built.taken:
        return
    key, side = _key(name, plan, "architecture"), seen.side
    size, batch_size = f"{side} × {side} px", _key(name, plan, "training", "batch_size")
    kind = "crop" if seen.training else "patch"
    wanted = f"logits of {size} in two channels"
    try:
        form = _form(built, seen)
    except _REFUSALS as error:
        alone = seen.training and seen.batch == 1
        given = f"one crop of {size} at a time" if alone else f"a {kind} of {size}"
        another = f"another {seen.where} (now {side})"
        if alone:
            another = f"{batch_size} to 2 or more (now 1), {another}"
        raise UserError(
            f"{key}: the network {name!r} cannot take {given}",
            f"Found {_described(architecture)}: {_one_line(error)}; expected {wanted}",
            f"Set {another}, or choose another encoder or architecture; some encoders take "
            "images of one size only",
        ) from error
    if form != (seen.batch, 2, side, side):
        found = f"shape {form}" if isinstance(form, tuple) else form
        raise UserError(
            f"{key}: the network {name!r} does not give {wanted} for a {kind} of this size",
            f"Found {_described(architecture)}, which gives {found}; "
            f"expected the shape {(seen.batch, 2, side, side)}",
            f"Leave out of {_key(name, plan, 'architecture', 'options')} what changes the form of "
            "the result (such as upsampling or aux_params), or choose another architecture",
        )
    built.taken.add(case)


def _form(built: _Built, seen: _Image) -> tuple[int, ...] | str:
    """Return the shape of what a network gives for images, or in words what is no tensor."""
    import torch

    from temshift.learning.devices import own_random_state

    assert built.network is not None
    built.network.train(seen.training)
    with own_random_state(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # training gives the same ones again
        given = built.network(torch.randn(seen.batch, 1, seen.side, seen.side))
    return tuple(given.shape) if isinstance(given, torch.Tensor) else f"a {type(given).__name__}"


def _check_weights(architecture: Architecture, key: Callable[..., str]) -> None:
    """Refuse weights of an encoder that neither smp nor timm has."""
    weights, encoder = architecture.encoder_weights, architecture.encoder or "resnet34"
    if weights is None or architecture.name == "published_unet":
        return
    import timm
    from segmentation_models_pytorch.encoders import encoders

    from temshift.learning.networks import other_encoders, timm_encoder

    known: Collection[str] | None = encoders.get(encoder, {}).get("pretrained_settings")
    remedy = "Name one of these, or null for random ones"
    if (name := timm_encoder(encoder)) is not None:
        base = name.partition(".")[0]
        if other_encoders(name):
            return  # told when it is built
        known = []
        if timm.models.is_model_pretrained(name):
            # smp takes any word for yes: the weights are those that the encoder's name says
            config = timm.models.get_pretrained_cfg(name)
            known = ["imagenet", *([config.tag] if config and config.tag else [])]
            remedy += f"; others are named with the encoder: {_tagged(base, known)}"
    if known is not None and weights not in known:
        raise UserError(
            f"{key('encoder_weights')}: there are no such weights",
            f"Found {weights!r}; expected {hint(weights, known)}"
            + ("" if known else f", since {encoder} has no pretrained weights"),
            remedy if known else "Set it to null",
        )


def _tagged(base: str, without: Collection[str]) -> str:
    """Return encoders of timm with other weights, as they are named in the parameters."""
    import timm

    tags = [str(name) for name in timm.list_pretrained(base)]
    others = [name for name in tags if name.partition(".")[2] not in without]
    return ", ".join(f"tu-{name}" for name in others[:5]) or f"tu-{base}.<tag>"


def _check_download(architecture: Architecture, key: str) -> None:
    """Refuse weights of an encoder that are neither here nor within reach."""
    weights, encoder = architecture.encoder_weights, architecture.encoder or "resnet34"
    if weights is None or architecture.name == "published_unet":
        return
    from huggingface_hub import constants, try_to_load_from_cache

    from temshift.learning.networks import encoder_source, no_weights, out_of_reach

    source = encoder_source(encoder, weights)
    if source is None:
        return
    repository, revision = source
    for file in ("model.safetensors", "pytorch_model.bin"):
        if isinstance(try_to_load_from_cache(repository, file, revision=revision), str):
            return
    if constants.HF_HUB_OFFLINE:
        raise no_weights(encoder, weights, "HF_HUB_OFFLINE is set", key)
    if why := out_of_reach(repository, revision):
        raise no_weights(encoder, weights, why, key)


def _check_options(architecture: Architecture, key: Callable[..., str]) -> None:
    """Refuse options of a model of smp that it would pass over in silence, or that do harm."""
    activation = architecture.options.get("activation")
    if architecture.name != "published_unet" and activation not in (None, "identity"):
        raise UserError(
            f"{key('options', 'activation')}: the loss takes logits, not what an activation gives",
            f"Found {activation!r}; expected null",
            "Leave it out: what the network gives is turned into probabilities later",
        )
    if not architecture.options or (architecture.encoder or "").startswith("tu-"):
        return  # what timm's encoders take is theirs to say
    import inspect

    import segmentation_models_pytorch as smp

    models = {cls.__name__.lower(): cls for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    model = models.get(architecture.name.lower())
    if model is None:
        return
    ours = {"self", "kwargs", "encoder_name", "encoder_weights", "in_channels", "classes"}
    known = set(inspect.signature(model.__init__).parameters) - ours
    for name in architecture.options:
        if name not in known:
            raise UserError(
                f"{key('options')}: {architecture.name} has no option {name!r}",
                f"Found {name!r}; expected {hint(name, known)}",
                "Mend its name, or leave it out",
            )


def _described(architecture: Architecture) -> str:
    given = architecture.model_dump(exclude_defaults=True)
    return ", ".join(f"{key}: {value}" for key, value in given.items())


def _one_line(error: Exception, width: int = 240) -> str:
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= width else f"{text[: width - 1]}…"

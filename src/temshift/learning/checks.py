"""Whether the networks that the parameters ask for can be built, and take the patches."""

from __future__ import annotations

import json
from collections.abc import Iterator

from temshift.config.base import hint
from temshift.config.errors import UserError
from temshift.config.modelling import Architecture, ModellingParameters
from temshift.config.plan import StudyPlan
from temshift.config.preprocessing import PreprocessingParameters

__all__ = ["check_architectures"]


def check_architectures(
    plan: StudyPlan, modelling: ModellingParameters, preprocessing: PreprocessingParameters
) -> None:
    """Build every architecture once, and compare its stride with the patches it is to see.

    Parameters
    ----------
    plan : StudyPlan
    modelling : ModellingParameters
    preprocessing : PreprocessingParameters

    Raises
    ------
    UserError
        An architecture, an encoder, weights or an option that do not exist; a patch or crop whose
        side is no multiple of the network's stride.
    """
    strides: dict[str, int] = {}
    for name in plan.trained:
        network = modelling.with_overrides(plan.networks.get(name))
        architecture, key = network.architecture, _key(name, plan)
        known = json.dumps(architecture.model_dump(), sort_keys=True)
        if known not in strides:
            strides[known] = _stride(architecture, key)
        stride = strides[known]
        for where, side in _sides(name, plan, network, preprocessing):
            if side % stride:
                raise UserError(
                    f"{where} does not suit the network {name!r} ({architecture.name})",
                    f"Found {side} px; expected a multiple of {stride} px, its stride",
                    f"Set {where} to {side // stride * stride or stride} or "
                    f"{(side // stride + 1) * stride}, or choose another architecture",
                )


def _key(name: str, plan: StudyPlan) -> str:
    own = plan.networks.get(name)
    return f"networks.{name}" if own and own.architecture else "modelling"


def _sides(
    name: str, plan: StudyPlan, network: ModellingParameters, preprocessing: PreprocessingParameters
) -> Iterator[tuple[str, int]]:
    """Yield the sides of the images that a network sees, and what sets each."""
    for split in dict.fromkeys([*plan.train_on(name), *plan.tested_on(name)]):
        own = plan.splits[split]
        if own.curated is None:
            where = "preprocessing.patch_px"
            if "patch_px" in own.preprocessing:
                where = f"splits.{split}.{where}"
            yield where, preprocessing.with_overrides(own.preprocessing).patch_px
    if network.training.crop_px is not None:
        yield f"{_key(name, plan)}.training.crop_px", network.training.crop_px


def _stride(architecture: Architecture, key: str) -> int:
    """Return the stride of an architecture; build it, unless it is the default one."""
    if architecture == Architecture():
        return 16
    import torch

    from temshift.learning.inference import stride_px
    from temshift.learning.networks import build_network

    _check_weights(architecture, key)
    _check_options(architecture, key)
    settings = architecture.model_dump() | {"encoder_weights": None}  # nothing is downloaded here
    if architecture.name == "published_unet":
        settings["encoder_weights"] = architecture.encoder_weights
    try:
        with torch.random.fork_rng(devices=[]):
            return stride_px(build_network(**settings))
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, AssertionError, RuntimeError) as error:
        raise UserError(
            f"{key}.architecture: this network cannot be built",
            f"Found {_described(architecture)}: {' '.join(str(error).split())}",
            "Mend its name, encoder or options; those of segmentation-models-pytorch are in its "
            "documentation",
        ) from error


def _check_weights(architecture: Architecture, key: str) -> None:
    if architecture.encoder_weights is None or architecture.name == "published_unet":
        return
    from segmentation_models_pytorch.encoders import encoders

    known = encoders.get(architecture.encoder or "resnet34", {}).get("pretrained_settings")
    if known is not None and architecture.encoder_weights not in known:
        raise UserError(
            f"{key}.architecture.encoder_weights: there are no such weights",
            f"Found {architecture.encoder_weights!r}; expected "
            f"{hint(architecture.encoder_weights, known)}",
            "Name one of these, or null for random ones",
        )


def _check_options(architecture: Architecture, key: str) -> None:
    """Refuse options of a model of smp that it would pass over in silence."""
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
                f"{key}.architecture.options: {architecture.name} has no option {name!r}",
                f"Found {name!r}; expected {hint(name, known)}",
                "Mend its name, or leave it out",
            )


def _described(architecture: Architecture) -> str:
    given = architecture.model_dump(exclude_defaults=True)
    return ", ".join(f"{key}: {value}" for key, value in given.items())

"""Evidence on whether a predicted mask can be believed, without knowing the true one.

Three kinds. *The jury*: networks trained under other conditions segment the same image; where a
mask is right, networks that know other conditions agree with it, and where it is wrong they
disagree in ways that the folds of one condition, which share their blind spots, do not. *The
network itself*: how sure its probabilities are, whether it gives the same mask for the turned
image, and how far its activations lie from the statistics that its batch norms kept from training
(these need no training data, so that they serve imported networks too). *The image*: noise,
roughness, correlation, contrast.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.ndimage import label as connected_regions
from torch import Tensor, nn

from temshift.learning.metrics import dice
from temshift.microscopy.fingerprints import LAGS_PX, fingerprint
from temshift.microscopy.patches import patch_grid
from temshift.parallel import map_ordered

__all__ = [
    "IMAGE_EVIDENCE",
    "MASK_EVIDENCE",
    "NETWORK_EVIDENCE",
    "agreement_table",
    "describe_images",
    "evidence_of",
    "gather_evidence",
    "image_evidence",
    "mask_evidence",
    "network_evidence",
    "packed",
    "pairwise_dice",
    "unpacked",
]

#: What is measured on the image alone, in words.
IMAGE_EVIDENCE = {
    "noise": "pixel noise",
    "roughness_per_px2": "roughness",
    **{f"autocorrelation_{r}_{c}": f"correlation over ({r}, {c}) px" for r, c in LAGS_PX},
    "skewness": "asymmetry of its grey values",
    "kurtosis": "weight of the extremes of its grey values",
    "low_frequencies": "share of coarse structure",
    "anisotropy": "difference between rows and columns",
}

#: What is measured on a network's prediction, in words.
MASK_EVIDENCE = {
    "soft_dice": "sureness of the outline",
    "certainty": "mean certainty of a pixel",
    "unsure_share": "share of unsure pixels beside the mask",
    "labelled_share": "share of the area that is called particle",
    "regions_per_Mpx": "number of regions",
    "log_region_px": "size of the regions in px",
    "contrast": "contrast between particles and background",
}

#: What is measured on the network itself while it predicts, in words.
NETWORK_EVIDENCE = {
    "turned_dice": "agreement with the mask of the turned image",
    "activation_shift": "shift of its activations from those in training",
    "activation_spread": "spread of its activations beside that in training",
}

_CROP_PX = 512
_PATCH_PX = 256
_COARSE_PX = 32


def pairwise_dice(masks: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
    """Return the Dice of every mask with every other.

    Parameters
    ----------
    masks : iterable of ndarray of bool, all of one shape
        Or what :func:`packed` made of them.

    Returns
    -------
    ndarray, shape (N, N), float64
        Smoothed by one pixel: two empty masks agree.

    Examples
    --------
    >>> pairwise_dice([np.array([True, True]), np.array([True, False])]).round(3)
    array([[1.  , 0.75],
           [0.75, 1.  ]])
    """
    bits = [mask if mask.dtype == np.uint8 else packed(mask) for mask in masks]
    common = np.zeros((len(bits), len(bits)))
    for i, first in enumerate(bits):
        for j, second in enumerate(bits[: i + 1]):
            common[i, j] = common[j, i] = np.bitwise_count(first & second).sum(dtype=np.int64)
    size = np.diagonal(common)
    false, missed = size[:, None] - common, size[None, :] - common
    result: NDArray[np.float64] = dice(common, false, missed)
    return result


def packed(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a mask in an eighth of its memory, flat; :func:`unpacked` gives it back."""
    return np.packbits(mask)


def unpacked(bits: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask of a shape that was packed.

    Examples
    --------
    >>> mask = np.array([[True, False, True], [False, False, True]])
    >>> bool((unpacked(packed(mask), (2, 3)) == mask).all())
    True
    """
    height, width = shape
    return np.unpackbits(bits, count=height * width).view(np.bool_).reshape(shape)


def image_evidence(image: NDArray[np.float32]) -> dict[str, float]:
    """Measure an image.

    Parameters
    ----------
    image : ndarray, shape (H, W), float32
        Standardised, sides of at least 64 px.

    Returns
    -------
    dict of str to float
        Keys :data:`IMAGE_EVIDENCE`.
    """
    side = min(_PATCH_PX, *(s // 2 * 2 for s in image.shape))
    corners = patch_grid(image.shape, side)
    patches = np.stack([image[r : r + side, c : c + side] for r, c in corners])
    described = fingerprint(patches)
    values = image.ravel()[:: max(1, image.size // 1_000_000)].astype(np.float64)
    centred = (values - values.mean()) / max(values.std(), 1e-12)
    steps = [float(np.square(np.diff(image, axis=axis)).mean()) for axis in (0, 1)]
    blocks = [s // _COARSE_PX * _COARSE_PX for s in image.shape]
    coarse = image[: blocks[0], : blocks[1]].reshape(
        blocks[0] // _COARSE_PX, _COARSE_PX, blocks[1] // _COARSE_PX, _COARSE_PX
    )
    return {
        "noise": float(described["noise"]),
        "roughness_per_px2": float(described["roughness_per_px2"] or 0.0),
        **{
            f"autocorrelation_{r}_{c}": float(described["autocorrelation"][f"{r},{c}"])
            for r, c in LAGS_PX
        },
        "skewness": float(np.mean(centred**3)),
        "kurtosis": float(np.log(max(np.mean(centred**4), 1e-12))),
        "low_frequencies": float(coarse.mean(axis=(1, 3)).std() / max(image.std(), 1e-12)),
        "anisotropy": abs(float(np.log(max(steps[0], 1e-12) / max(steps[1], 1e-12)))),
    }


def mask_evidence(probability: NDArray[np.float32], image: NDArray[np.float32]) -> dict[str, float]:
    """Measure a prediction.

    Parameters
    ----------
    probability : ndarray, shape (H, W), float32
        Of a particle, 0 … 1.
    image : ndarray, shape (H, W), float32
        The standardised image.

    Returns
    -------
    dict of str to float
        Keys :data:`MASK_EVIDENCE`.
    """
    mask = probability > 0.5
    area = float(mask.sum())
    soft_tp = float(probability.sum(dtype=np.float64, where=mask))
    total = float(probability.sum(dtype=np.float64))
    unsure = float(((probability > 0.1) & (probability < 0.9)).sum())
    _, regions = connected_regions(mask)
    inside = float(image.mean(where=mask)) if area else 0.0
    outside = float(image.mean(where=~mask)) if area < mask.size else 0.0
    return {
        "soft_dice": (2 * soft_tp + 1) / (area + total + 1),
        "certainty": float(np.abs(probability - 0.5).mean() * 2),
        "unsure_share": unsure / (area + 1000.0),
        "labelled_share": area / mask.size,
        "regions_per_Mpx": 1e6 * regions / mask.size,
        "log_region_px": float(np.log(area / regions)) if regions else 0.0,
        "contrast": abs(inside - outside) if area and area < mask.size else 0.0,
    }


@torch.inference_mode()
def network_evidence(
    network: nn.Module,
    image: NDArray[np.float32],
    device: str = "cpu",
    optimised: nn.Module | None = None,
) -> dict[str, float]:
    """Watch a network while it predicts the middle of an image, upright and turned.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode on ``device``, with its batch norms (not optimised for inference).
    image : ndarray, shape (H, W), float32
        Standardised.
    device : str
    optimised : nn.Module, optional
        The same network rewritten for prediction, for the turned image: it takes half the time.

    Returns
    -------
    dict of str to float
        Keys :data:`NETWORK_EVIDENCE`; the two of the activations are NaN for a network without
        batch norms. ``activation_shift`` is the root mean square over all channels of
        (mean − running mean) / running standard deviation, ``activation_spread`` that of
        ln(variance / running variance).
    """
    side = min(_CROP_PX, *(s // 32 * 32 for s in image.shape))
    top, left = ((s - side) // 2 for s in image.shape)
    crop = np.ascontiguousarray(image[top : top + side, left : left + side])
    shifts: list[Tensor] = []
    spreads: list[Tensor] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        if module.running_mean is None or module.running_var is None:
            return
        # of one image, in two passes: a third of the time of torch.var_mean
        values = inputs[0][0].flatten(1).float()
        mean = values.mean(dim=1)
        variance = (values - mean[:, None]).square_().mean(dim=1)
        kept = module.running_var.clamp_min(1e-8)
        shifts.append((mean - module.running_mean).square() / kept)
        spreads.append(torch.log(variance.clamp_min(1e-8) / kept).square())

    hooks = [
        module.register_forward_hook(watch)
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    try:
        upright = _mask(network, crop, device)
    finally:
        for hook in hooks:
            hook.remove()
    turned = _mask(optimised or network, np.ascontiguousarray(np.rot90(crop)[:, ::-1]), device)
    back = np.rot90(turned[:, ::-1], -1)
    agreement = pairwise_dice([upright, back])[0, 1]
    nan = float("nan")
    return {
        "turned_dice": float(agreement),
        "activation_shift": float(torch.cat(shifts).mean().sqrt()) if shifts else nan,
        "activation_spread": float(torch.cat(spreads).mean().sqrt()) if spreads else nan,
    }


def _mask(network: nn.Module, image: NDArray[np.float32], device: str) -> NDArray[np.bool_]:
    logits = network(torch.from_numpy(image)[None, None].to(device))
    mask: NDArray[np.bool_] = (logits[0, 1] > logits[0, 0]).cpu().numpy()
    return mask


def agreement_table(names: list[str], agreement: NDArray[np.float64]) -> pd.DataFrame:
    """Return the agreement of every network with every other one, a row an ordered pair.

    Returns
    -------
    DataFrame
        ``network, juror, dice``.
    """
    rows = [
        {"network": first, "juror": second, "dice": float(agreement[i, j])}
        for i, first in enumerate(names)
        for j, second in enumerate(names)
        if i != j
    ]
    return pd.DataFrame(rows, columns=["network", "juror", "dice"])


def evidence_of(
    probability: NDArray[np.float32],
    image: NDArray[np.float32],
    described: Mapping[str, float],
    network: nn.Module,
    device: str = "cpu",
    optimised: nn.Module | None = None,
) -> dict[str, float]:
    """Gather the evidence on what one network predicts.

    Parameters
    ----------
    probability : ndarray, shape (H, W), float32
    image : ndarray, shape (H, W), float32
        As the network gets it.
    described : mapping of str to float
        What :func:`image_evidence` says of it; many networks share an image.
    network, device, optimised
        See :func:`network_evidence`.

    Returns
    -------
    dict of str to float
        Keys :data:`IMAGE_EVIDENCE`, :data:`MASK_EVIDENCE`, :data:`NETWORK_EVIDENCE`.
    """
    return {
        **described,
        **mask_evidence(probability, image),
        **network_evidence(network, image, device, optimised),
    }


def gather_evidence(
    probabilities: Mapping[str, NDArray[np.float32]],
    images: Mapping[str, NDArray[np.float32]],
    networks: Mapping[str, nn.Module],
    masks: Mapping[str, NDArray[np.bool_]] | None = None,
    device: str = "cpu",
    workers: int = 1,
    optimised: Mapping[str, nn.Module] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Gather all evidence on one micrograph.

    Parameters
    ----------
    probabilities : mapping of str to ndarray, shape (H, W), float32
        What each network predicts.
    images : mapping of str to ndarray, shape (H, W), float32
        The image as each network gets it.
    networks : mapping of str to nn.Module
        With their batch norms.
    masks : mapping of str to ndarray of bool, all of one shape, optional
        What each network predicts on the pixels of the micrograph, where images are resampled.
    device : str
    workers : int
        Networks that are watched side by side.
    optimised : mapping of str to nn.Module, optional
        The same networks rewritten for prediction (:func:`network_evidence`).

    Returns
    -------
    evidence : DataFrame
        A row a network: ``network`` and the keys of :data:`IMAGE_EVIDENCE`,
        :data:`MASK_EVIDENCE`, :data:`NETWORK_EVIDENCE`.
    agreement : DataFrame
        See :func:`agreement_table`.
    """
    names = list(probabilities)
    described = describe_images(images[name] for name in names)

    def look(name: str) -> dict[str, Any]:
        image, rewritten = images[name], (optimised or {}).get(name)
        found = evidence_of(
            probabilities[name], image, described[id(image)], networks[name], device, rewritten
        )
        return {"network": name, **found}

    rows = list(map_ordered(look, names, workers))
    drawn = [masks[name] if masks else probabilities[name] > 0.5 for name in names]
    return pd.DataFrame(rows), agreement_table(names, pairwise_dice(drawn))


def describe_images(images: Iterable[NDArray[np.float32]]) -> dict[int, dict[str, float]]:
    """Return :func:`image_evidence` of each different image by its ``id``."""
    different = {id(image): image for image in images}  # networks share recipes
    return {key: image_evidence(image) for key, image in different.items()}

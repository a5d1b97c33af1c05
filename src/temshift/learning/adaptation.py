"""Networks adapted to the images they are to segment: without labels, and without training.

*Pixel size*: an image is resampled to the pixel size of the network's training images, and the
prediction back, so that labels and the pixels that count stay those of the image.

*Batch norm*: the mean and variance of every channel, which a batch norm has kept from training, are
taken from images of the new condition instead (Li et al. 2018, Pattern Recognition 80, 109:
"AdaBN"). All images go through the network together, so that each layer sees what the adapted
layers before it give.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from temshift.config.errors import UserError
from temshift.config.modelling import Adaptation
from temshift.learning.cards import NetworkCard
from temshift.learning.inference import (
    optimise_for_inference,
    predict_micrograph,
    predict_patches,
    stride_px,
)
from temshift.learning.network_set import TrainedNetwork
from temshift.microscopy.patches import PatchStack
from temshift.microscopy.preprocess import resample, resampled_back

__all__ = ["Predictor", "adapt", "adapt_batch_norm"]

#: Pixels whose statistics are taken; many more change a Dice by less than .002 (docs/remedies.md).
_STATISTICS_PX = 1 << 20


@dataclass(frozen=True)
class Predictor:
    """A network, and what is done to an image before and after.

    Attributes
    ----------
    network : nn.Module
        Best from :func:`temshift.learning.inference.optimise_for_inference`, on ``device``.
    device : str
    pixel_size_nm, target_nm : float, optional
        Of the images, and that to which they are resampled; ``None`` leaves them.
    standardised : bool
        Whether resampled images are standardised again, as the training images were.
    """

    network: nn.Module
    device: str
    pixel_size_nm: float | None = None
    target_nm: float | None = None
    standardised: bool = True

    def micrograph(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the particle probability of an image of any size, shape (H, W), float32."""
        return next(self._images(image[None]))

    def patches(
        self, images: NDArray[np.float32], batch_size: int
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the particle probability of each patch, shape (H, W), float32.

        Resampled patches are standardised together: what is empty stays so.
        """
        if self._resamples:
            return self._images(images)
        return predict_patches(self.network, images, self.device, batch_size)

    def seen(self, images: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Yield images, shape (N, H, W), as the network sees them."""
        if not self._resamples:
            yield from images
            return
        mean, deviation = 0.0, 1.0
        if self.standardised:
            mean, deviation = _moments(self._resampled(image) for image in images)
        for image in images:
            yield (self._resampled(image) - np.float32(mean)) / np.float32(deviation)

    def _images(self, images: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        for image, seen in zip(images, self.seen(images), strict=True):
            probability = predict_micrograph([self.network], seen, self.device)
            if self.pixel_size_nm is not None and self.target_nm is not None and self._resamples:
                scale = self.pixel_size_nm / self.target_nm
                probability = resampled_back(probability, image.shape, scale)
            yield probability

    def _resampled(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self.target_nm is not None
        return resample(np.ascontiguousarray(image), self.pixel_size_nm, self.target_nm)

    @property
    def _resamples(self) -> bool:
        return self.target_nm is not None and self.target_nm != self.pixel_size_nm


def adapt(
    trained: TrainedNetwork,
    adaptation: Adaptation,
    stack: PatchStack,
    chosen: NDArray[np.intp],
    device: str,
) -> Predictor:
    """Adapt a network to the images of a split.

    Parameters
    ----------
    trained : TrainedNetwork
    adaptation : Adaptation
    stack : PatchStack
        Of the split. Its labels are not looked at.
    chosen : ndarray of int
        The patches that it is to be tested on; batch norms take their statistics from these, or
        from some of them, evenly, if they are many.
    device : str

    Raises
    ------
    ValueError
        A pixel size that is not known; a network without batch norms.
    """
    card, images = trained.card, stack.images
    predictor = Predictor(trained.build().to(device), device)
    if adaptation.pixel_size:
        predictor = _resampling(predictor, card, stack)
    if adaptation.batch_norm:
        if not _batch_norms(predictor.network):
            raise UserError(
                f"adaptation.batch_norm: the network {card.network!r} has no batch norm",
                "Found the architecture "
                f"{card.architecture.model_dump(mode='json', exclude_defaults=True)}; expected one "
                "with batch norms: without them, the statistics are those of each image already",
                "Leave this adaptation out, or name another network in weights_of",
            )
        most = max(1, _STATISTICS_PX // images.shape[1] ** 2)
        picked = np.linspace(0, len(chosen) - 1, min(most, len(chosen))).round().astype(int)
        seen = predictor.seen(images[chosen[picked]])
        adapt_batch_norm(predictor.network, list(seen), device)
    return Predictor(
        optimise_for_inference(predictor.network).to(device),
        device,
        predictor.pixel_size_nm,
        predictor.target_nm,
        predictor.standardised,
    )


@torch.inference_mode()
def adapt_batch_norm(
    network: nn.Module, images: list[NDArray[np.float32]], device: str = "cpu"
) -> None:
    """Replace what batch norms know of the training images by what these images give.

    Parameters
    ----------
    network : nn.Module
        On ``device``; its batch norms are changed in place, nothing else is.
    images : list of ndarray, each of shape (H, W), float32
        As the network sees them, all of one shape.
    device : str

    Raises
    ------
    ValueError
        The network has no batch norm.
    """
    norms = _batch_norms(network)
    if not norms:
        raise ValueError(
            "adaptation.batch_norm was asked for, but the network has no batch norm, and its "
            "statistics are those of each image already: leave this adaptation out"
        )
    stride = stride_px(network)
    height, width = (side // stride * stride for side in images[0].shape)
    if not (height and width):
        raise ValueError(
            f"patches of {images[0].shape[0]} × {images[0].shape[1]} px are less than the "
            f"network's stride, {stride} px: take a larger preprocessing.patch_px"
        )
    batch = torch.from_numpy(np.stack([image[:height, :width] for image in images]))
    training, momentum = network.training, [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.momentum = 1.0  # the statistics of this batch alone
        norm.train()
    network(batch.unsqueeze(1).to(device).contiguous(memory_format=torch.channels_last))
    for norm, before in zip(norms, momentum, strict=True):
        norm.momentum = before
    network.train(training)


def _batch_norms(network: nn.Module) -> list[_BatchNorm]:
    return [part for part in network.modules() if isinstance(part, _BatchNorm)]


def _resampling(predictor: Predictor, card: NetworkCard, stack: PatchStack) -> Predictor:
    """Return a predictor that resamples the images of a split as the network's card asks."""
    pixel_size_nm = stack.attributes.get("pixel_size_nm")
    for known, whose in (
        (card.pixel_size_nm, f"training images of {card.network}"),
        (pixel_size_nm, f"images of {stack.attributes.get('split', 'the set')}"),
    ):
        if known is None:
            raise ValueError(
                f"adaptation.pixel_size needs one pixel size of the {whose}; found none, or "
                "several: give pixel_size_nm in the metadata table, or leave this adaptation out"
            )
    standardised = card.preprocessing is None or card.preprocessing.standardise
    return Predictor(
        predictor.network, predictor.device, pixel_size_nm, card.pixel_size_nm, standardised
    )


def _moments(images: Iterable[NDArray[np.float32]]) -> tuple[float, float]:
    """Return mean and standard deviation of all pixels of several images."""
    n, total, squares = 0, 0.0, 0.0
    for image in images:
        pixels = image.astype(np.float64)
        n, total = n + pixels.size, total + float(pixels.sum())
        squares += float((pixels**2).sum())
    mean = total / n
    deviation = max(squares / n - mean**2, 0.0) ** 0.5
    if deviation <= 1e-6 * max(abs(mean), 1e-12):
        raise ValueError("the images to be resampled are constant: there is nothing to standardise")
    return mean, deviation

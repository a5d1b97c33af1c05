"""Augmentation of whole batches on the device.

Flip, quarter turn, rotation, change of pixel size and crop are one affine map, so a batch is
sampled once: bilinear for images, nearest neighbour for labels (interpolating and truncating
labels, as the published code did, erodes the masks). What falls outside the patch gets the
median background of that patch and label 0.

Random numbers are drawn on the CPU from the fold's own generator, many steps at a time: the
sequence is the same on every device and no step waits for the host.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from temshift.config.modelling import Augmentation

__all__ = ["BatchPlan", "augment", "draw_plan"]


@dataclass(frozen=True)
class BatchPlan:
    """What is to happen to each of ``S`` samples (drawn patches).

    Attributes
    ----------
    index : Tensor, shape (S,), int64
        Patch of each sample.
    affine : Tensor, shape (S, 2, 3), float32
        Map from output to input coordinates in ``[-1, 1]`` (``torch.affine_grid``).
    rho : Tensor, shape (S,), float32
        Standard deviation of the added noise.
    contrast : Tensor, shape (S,), float32
        Factor on the intensity.
    """

    index: Tensor
    affine: Tensor
    rho: Tensor
    contrast: Tensor

    def slice(self, start: int, stop: int) -> BatchPlan:
        """Return samples ``start`` to ``stop``."""
        return BatchPlan(*(getattr(self, f)[start:stop] for f in self.__dataclass_fields__))

    def to(self, device: str) -> BatchPlan:
        """Return the plan on another device."""
        return BatchPlan(
            *(getattr(self, f).to(device, non_blocking=True) for f in self.__dataclass_fields__)
        )


def draw_plan(
    index: Tensor,
    copy: Tensor,
    patch_px: int,
    crop_px: int,
    parameters: Augmentation,
    generator: Generator,
    particles: Tensor | None = None,
    foreground: float = 0.0,
) -> BatchPlan:
    """Draw the augmentation of each sample.

    Parameters
    ----------
    index : Tensor, shape (S,), int64
        Patch of each sample.
    copy : Tensor, shape (S,), int64
        Dihedral copy 0 … 7 of each sample; −1 draws one.
    patch_px, crop_px : int
        Side of a patch and of what is cut from it.
    parameters : Augmentation
    generator : torch.Generator
        On the CPU; advanced by the same amount whatever the parameters' values.
    particles : Tensor, shape (N, K, 2), optional
        Row and column of some particle pixels of each patch.
    foreground : float
        Share of the samples whose crop is centred on one of them, as far as the patch allows.
    """
    n = len(index)

    def uniform() -> Tensor:
        return torch.rand(n, generator=generator)

    drawn = torch.randint(0, 8, (n,), generator=generator)
    copy = torch.where(copy < 0, drawn, copy)
    flip = torch.where(copy >= 4, -1.0, 1.0)
    quarter = (copy % 4).to(torch.float32) * (math.pi / 2)

    turned = uniform() < parameters.rotate_probability
    angle = quarter + torch.where(turned, uniform() * (2 * math.pi), torch.zeros(n))
    low, high = parameters.pixel_size_factor or (1.0, 1.0)
    magnify = torch.exp(math.log(low) + uniform() * (math.log(high) - math.log(low)))

    # output -> input: crop scale, then flip and turn, then shift to the crop's centre
    scale = (crop_px / patch_px) * magnify
    cos, sin = torch.cos(angle), torch.sin(angle)
    room = patch_px - crop_px
    # whole pixels keep unrotated crops free of interpolation
    corner = (torch.stack([uniform(), uniform()]) * (room + 1)).floor().clamp(max=room)
    aimed, which = uniform() < foreground, uniform()
    if particles is not None and foreground > 0:
        pixel = particles[index, (which * particles.shape[1]).long()].to(torch.float32)
        centred = (pixel.T.flip(0) - crop_px // 2).clamp(0, room)  # column (x) first
        corner = torch.where(aimed, centred, corner)
    shift = corner * 2 / patch_px - room / patch_px
    affine = torch.empty(n, 2, 3)
    affine[:, 0, 0] = scale * cos * flip
    affine[:, 0, 1] = -scale * sin
    affine[:, 1, 0] = scale * sin * flip
    affine[:, 1, 1] = scale * cos
    affine[:, :, 2] = shift.T

    noise = parameters.noise
    amount, chosen = uniform(), uniform()
    rho = torch.zeros(n)
    if noise is not None:
        rho = amount * noise.rho_max if noise.rho_max else torch.full((n,), float(noise.rho or 0))
        rho = torch.where(chosen < noise.probability, rho, torch.zeros(n))
    contrast = 1.0 + (2 * uniform() - 1) * (parameters.contrast or 0.0)
    return BatchPlan(index, affine, rho, contrast)


def augment(
    images: Tensor,
    labels: Tensor,
    background: Tensor,
    plan: BatchPlan,
    crop_px: int,
    generator: Generator | None,
) -> tuple[Tensor, Tensor]:
    """Return one augmented batch.

    Parameters
    ----------
    images : Tensor, shape (N, P, P), float32
        All patches, on the device.
    labels : Tensor, shape (N, P, P), uint8
    background : Tensor, shape (N,), float32
        Median background intensity of each patch.
    plan : BatchPlan
        ``B`` samples, on the device.
    crop_px : int
        Side of the result.
    generator : torch.Generator, optional
        On the device; draws the pixel noise. ``None`` adds none.

    Returns
    -------
    x : Tensor, shape (B, 1, crop_px, crop_px), float32
    y : Tensor, shape (B, crop_px, crop_px), int64
    """
    n = len(plan.index)
    grid = F.affine_grid(plan.affine, [n, 1, crop_px, crop_px], align_corners=False)
    fill = background[plan.index].view(n, 1, 1, 1)
    x = images[plan.index].unsqueeze(1) - fill
    x = F.grid_sample(x, grid, mode="bilinear", align_corners=False) + fill
    y = labels[plan.index].unsqueeze(1).to(torch.float32)
    y = F.grid_sample(y, grid, mode="nearest", align_corners=False).squeeze(1)
    x = x * plan.contrast.view(n, 1, 1, 1)
    if generator is not None:
        rho = plan.rho.view(n, 1, 1, 1)
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        x = (x + rho * noise) / torch.sqrt(1 + rho * rho)
    return x, y.to(torch.int64)

"""Augmentation of whole batches on the device.

Crops are drawn from *areas*: whole micrographs, whose patches lie side by side on the device, or
single patches (the published protocol). Flip, quarter turn, rotation, change of pixel size and
crop are one affine map of a window of the area, so a batch is sampled once: bilinear for images,
nearest neighbour for labels (interpolating and truncating labels, as the published code did,
erodes the masks). What falls outside the area gets its median background and label 0.

Random numbers are drawn on the CPU from the fold's own generator, many steps at a time: the
sequence is the same on every device and no step waits for the host.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from temshift.config.modelling import Augmentation

__all__ = ["Areas", "BatchPlan", "augment", "draw_plan", "window_px"]


@dataclass(frozen=True)
class Areas:
    """What crops are drawn from: ``A`` whole micrographs, or single patches.

    Attributes
    ----------
    first, columns : Tensor, shape (A,), int64
        First patch of each, and its patches a row
        (:class:`temshift.microscopy.patches.PatchLayout`).
    height, width : Tensor, shape (A,), int64
        Px.
    background : Tensor, shape (A,), float32
        Median intensity of the unlabelled pixels, of a grid of pixels.
    particles : Tensor, shape (A, K, 2), int64
        Row and column of K labelled pixels, evenly through all of them; negative in an area
        without any.
    """

    first: Tensor
    columns: Tensor
    height: Tensor
    width: Tensor
    background: Tensor
    particles: Tensor

    def __len__(self) -> int:
        return len(self.first)

    @property
    def longest_px(self) -> int:
        """Longest side of all areas."""
        return int(torch.maximum(self.height, self.width).max())


@dataclass(frozen=True)
class BatchPlan:
    """What is to happen to each of ``S`` samples.

    Attributes
    ----------
    first, columns, height, width, background : Tensor, shape (S,)
        Of each sample's area (:class:`Areas`).
    corner : Tensor, shape (S, 2), int64
        Row and column of the window's upper left pixel in the area.
    affine : Tensor, shape (S, 2, 3), float32
        Map from the crop's to the window's coordinates in ``[-1, 1]`` (``torch.affine_grid``).
    rho : Tensor, shape (S,), float32
        Standard deviation of the added noise.
    contrast : Tensor, shape (S,), float32
        Factor on the intensity.
    """

    first: Tensor
    columns: Tensor
    height: Tensor
    width: Tensor
    background: Tensor
    corner: Tensor
    affine: Tensor
    rho: Tensor
    contrast: Tensor

    def __len__(self) -> int:
        return len(self.first)

    def slice(self, start: int, stop: int) -> BatchPlan:
        """Return samples ``start`` to ``stop``."""
        return BatchPlan(*(getattr(self, f.name)[start:stop] for f in fields(self)))

    def to(self, device: str) -> BatchPlan:
        """Return the plan on another device."""
        return BatchPlan(
            *(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self))
        )


def window_px(crop_px: int, longest_px: int, parameters: Augmentation) -> int:
    """Return the side of the square that holds all a crop can show, turned and scaled, px.

    At most ``longest_px``, the longest side of any area: beyond it there is nothing to show.
    """
    turned = math.sqrt(2) if parameters.rotate_probability > 0 else 1.0
    largest = max(1.0, *(parameters.pixel_size_factor or (1.0,)))
    needed = math.ceil(crop_px * turned * largest)
    if needed > crop_px:  # a neighbour to interpolate with on each side; the centre stays
        needed += 2
        needed += (needed - crop_px) % 2
    return min(needed, longest_px)


def draw_plan(
    index: Tensor,
    copy: Tensor,
    areas: Areas,
    crop_px: int,
    parameters: Augmentation,
    generator: Generator,
    foreground: Tensor | float = 0.0,
) -> BatchPlan:
    """Draw the augmentation of each sample.

    Parameters
    ----------
    index : Tensor, shape (S,), int64
        Area of each sample.
    copy : Tensor, shape (S,), int64
        Dihedral copy 0 … 7 of each sample; −1 draws one.
    areas : Areas
        On the CPU.
    crop_px : int
        Side of what is cut out, anywhere in the area.
    parameters : Augmentation
    generator : torch.Generator
        On the CPU; advanced by the same amount whatever the parameters' values.
    foreground : float or Tensor, shape (S,)
        Probability that a crop is centred on a labelled pixel, as far as the area allows.
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

    # whole pixels keep unrotated crops free of interpolation
    side = torch.stack([areas.height[index], areas.width[index]])
    room = side - crop_px
    crop = (torch.stack([uniform(), uniform()]) * (room + 1)).long().clamp(max=room)
    aimed, which = uniform() < foreground, uniform()
    pixel = areas.particles[index, (which * areas.particles.shape[1]).long()].T
    centred = torch.minimum((pixel - crop_px // 2).clamp(min=0), room)
    crop = torch.where(aimed & (pixel[0] >= 0), centred, crop)

    # output -> window: scale, then flip and turn, then shift to the crop's centre
    window = window_px(crop_px, areas.longest_px, parameters)
    corner = (crop - (window - crop_px) // 2).clamp(min=0)
    corner = torch.minimum(corner, (side - window).clamp(min=0))
    shift = (2 * (crop - corner) + crop_px - window) / window
    scale = (crop_px / window) * magnify
    cos, sin = torch.cos(angle), torch.sin(angle)
    affine = torch.empty(n, 2, 3)
    affine[:, 0, 0] = scale * cos * flip
    affine[:, 0, 1] = -scale * sin
    affine[:, 1, 0] = scale * sin * flip
    affine[:, 1, 1] = scale * cos
    affine[:, :, 2] = shift.flip(0).T  # column (x) first

    noise = parameters.noise
    amount, chosen = uniform(), uniform()
    rho = torch.zeros(n)
    if noise is not None:
        rho = amount * noise.rho_max if noise.rho_max else torch.full((n,), float(noise.rho or 0))
        rho = torch.where(chosen < noise.probability, rho, torch.zeros(n))
    contrast = 1.0 + (2 * uniform() - 1) * (parameters.contrast or 0.0)
    return BatchPlan(
        areas.first[index],
        areas.columns[index],
        areas.height[index],
        areas.width[index],
        areas.background[index],
        corner.T,
        affine,
        rho,
        contrast,
    )


def augment(
    images: Tensor,
    labels: Tensor,
    plan: BatchPlan,
    crop_px: int,
    window_px: int,
    generator: Generator | None,
) -> tuple[Tensor, Tensor]:
    """Return one augmented batch.

    Parameters
    ----------
    images : Tensor, shape (N, P, P), float32
        All patches, on the device.
    labels : Tensor, shape (N, P, P), uint8
    plan : BatchPlan
        ``B`` samples, on the device.
    crop_px : int
        Side of the result.
    window_px : int
        Side of the windows for which the plan was drawn (:func:`window_px`).
    generator : torch.Generator, optional
        On the device; draws the pixel noise. ``None`` adds none.

    Returns
    -------
    x : Tensor, shape (B, 1, crop_px, crop_px), float32
    y : Tensor, shape (B, crop_px, crop_px), int64
    """
    n = len(plan)
    grid = F.affine_grid(plan.affine, [n, 1, crop_px, crop_px], align_corners=False)
    fill = plan.background.view(n, 1, 1, 1)
    image, label = _windows(images, labels, plan, window_px)
    x = F.grid_sample(image - fill, grid, mode="bilinear", align_corners=False) + fill
    y = F.grid_sample(label.float(), grid, mode="nearest", align_corners=False).squeeze(1)
    x = x * plan.contrast.view(n, 1, 1, 1)
    if generator is not None:
        rho = plan.rho.view(n, 1, 1, 1)
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        x = (x + rho * noise) / torch.sqrt(1 + rho * rho)
    return x, y.to(torch.int64)


def _windows(
    images: Tensor, labels: Tensor, plan: BatchPlan, window_px: int
) -> tuple[Tensor, Tensor]:
    """Return image and label of each sample's window, ``(B, 1, window_px, window_px)``.

    What lies outside the area has its background and label 0.
    """
    side = images.shape[-1]

    def along(corner: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return number of the patch, pixel in it, and whether outside, each (B, window_px)."""
        length = length[:, None]
        place = corner[:, None] + torch.arange(window_px, device=corner.device)
        outside = place >= length
        place = torch.minimum(place, length - 1)
        patch = torch.div(place, side, rounding_mode="floor")
        return patch, place - torch.minimum(patch * side, length - side), outside

    i, row, below = along(plan.corner[:, 0], plan.height)
    j, column, beside = along(plan.corner[:, 1], plan.width)
    start = (plan.first[:, None] + i * plan.columns[:, None]) * side + row
    at = start[:, :, None] * side + (j * side * side + column)[:, None, :]
    image, label = torch.take(images, at), torch.take(labels, at)
    outside = below[:, :, None] | beside[:, None, :]
    image = torch.where(outside, plan.background[:, None, None], image)
    return image[:, None], label.masked_fill(outside, 0)[:, None]

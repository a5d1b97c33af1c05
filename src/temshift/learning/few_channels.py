"""Batch normalisation of few channels, on a CPU.

torch works along the channels of an image in channels-last memory. With fewer of them than a vector
of the processor holds, as the published U-Net has at full resolution, it goes number by number, and
normalisation takes a quarter of a training step. Here a row of pixels is taken at a time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["BatchNorm"]

#: Numbers (float32) of a vector of the processor, at least.
_VECTOR = 8


def _by_channel(columns: Tensor, channels: int) -> Tensor:
    """Sum ``(pixels × channels,)`` over the pixels."""
    return columns.view(-1, channels).sum(0)


class _Normalise(torch.autograd.Function):
    """Batch normalisation of ``(N, C, H, W)`` in channels-last memory, a row of pixels at a time.

    Ioffe & Szegedy (2015), "Batch normalization", algorithm 1 and the derivatives below it.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        n, c, h, w = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(n * h, w * c).to(weight.dtype)
        pixels = n * h * w
        mean = _by_channel(rows.sum(0), c) / pixels
        centred = rows - mean.repeat(w)
        variance = _by_channel((centred * centred).sum(0), c) / pixels
        inverse_std = torch.rsqrt(variance + eps)
        y = torch.addcmul(bias.repeat(w), centred, (weight * inverse_std).repeat(w))
        ctx.save_for_backward(centred, weight, inverse_std)
        ctx.mark_non_differentiable(mean, variance)
        return y.to(x.dtype).view(n, h, w, c).permute(0, 3, 1, 2), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        centred, weight, inverse_std = ctx.saved_tensors
        n, c, h, w = gradients[0].shape
        g = gradients[0].permute(0, 2, 3, 1).reshape(n * h, w * c).to(weight.dtype)
        pixels = n * h * w
        of_bias = _by_channel(g.sum(0), c)
        of_weight = _by_channel((g * centred).sum(0), c) * inverse_std
        factor = weight * inverse_std
        of_x = torch.addcmul((-factor * of_bias / pixels).repeat(w), g, factor.repeat(w))
        of_x.addcmul_(centred, (-factor * inverse_std * of_weight / pixels).repeat(w))
        of_x = of_x.to(gradients[0].dtype).view(n, h, w, c).permute(0, 3, 1, 2)
        return of_x, of_weight, of_bias, None


class BatchNorm(nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d``, faster in training on a CPU if it has fewer than 8 channels.

    Its results are the same but for rounding; it has the same parameters and buffers.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)``, float32 or bfloat16."""
        pixels = x.numel() // self.num_features
        if (
            not self.training
            or self.num_features >= _VECTOR
            or x.device.type != "cpu"
            or not x.is_contiguous(memory_format=torch.channels_last)
            or pixels < 2
        ):
            return super().forward(x)
        y, mean, variance = _Normalise.apply(x, self.weight, self.bias, self.eps)
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            for buffer, found in (
                (self.running_mean, mean),
                (self.running_var, variance * (pixels / (pixels - 1))),
            ):
                assert buffer is not None
                buffer.lerp_(found, self.momentum)
        result: Tensor = y
        return result

"""Batch norm of few channels: what torch's gives, and its derivatives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from temshift.learning.few_channels import BatchNorm, _Normalise
from temshift.learning.networks import PublishedUNet


def channels_last(*shape, dtype=torch.float32, seed=0):
    x = 3 + 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def trained(kind, x, gradient):
    """Output, gradients and buffers after a step."""
    norm = kind(x.shape[1])
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, x.shape[1]))
        norm.bias.copy_(torch.linspace(-1, 1, x.shape[1]))
    x.grad = None
    y = norm(x)
    y.backward(gradient)
    return [y.detach(), x.grad, norm.weight.grad, norm.bias.grad, *norm.state_dict().values()]


@pytest.fixture
def only_ours(monkeypatch):
    def fail(*_):
        raise AssertionError("torch's batch norm")

    monkeypatch.setattr(torch.nn.functional, "batch_norm", fail)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(*[st.integers(1, n) for n in (3, 7, 9, 9)]),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.integers(0, 99),
)
def test_it_is_torchs_but_for_rounding(shape, dtype, seed):
    n, _c, h, w = shape
    if n * h * w < 3:
        return
    x = channels_last(*shape, dtype=dtype, seed=seed)
    gradient = torch.randn(*shape, generator=torch.Generator().manual_seed(seed + 1)).to(dtype)
    tolerance = 1e-3 if dtype == torch.float32 else 5e-2
    names = ["y", "dx", "dweight", "dbias", "weight", "bias", "mean", "variance", "batches"]
    ours, theirs = (trained(kind, x, gradient) for kind in (BatchNorm, nn.BatchNorm2d))
    for name, a, b in zip(names, ours, theirs, strict=True):
        assert a.dtype == b.dtype, name
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, msg=name)


def test_derivatives():
    x = channels_last(2, 3, 4, 5, dtype=torch.float64)
    weight, bias = (torch.rand(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda *a: _Normalise.apply(*a, 1e-5)[0], (x, weight, bias))


def test_far_from_zero_the_variance_is_right():
    x = (channels_last(2, 4, 64, 64).detach() + 3000).requires_grad_()
    ours, theirs = (trained(kind, x, torch.ones_like(x))[0] for kind in (BatchNorm, nn.BatchNorm2d))
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)


def test_where_it_concerns(only_ours):
    BatchNorm(4)(channels_last(2, 4, 8, 8))  # not by torch
    for norm, x in (
        (BatchNorm(8), channels_last(2, 8, 8, 8)),
        (BatchNorm(4), torch.zeros(2, 4, 8, 8)),
        (BatchNorm(4).eval(), channels_last(2, 4, 8, 8)),
    ):
        with pytest.raises(AssertionError, match="torch's"):
            norm(x)


def test_one_pixel_is_refused_as_by_torch():
    with pytest.raises(ValueError, match="more than 1 value"):
        BatchNorm(4)(channels_last(1, 4, 1, 1))


def test_the_published_network_trains_as_with_torchs():
    gradients = []
    for torchs in (False, True):
        torch.manual_seed(0)
        network = PublishedUNet().to(memory_format=torch.channels_last)
        for module in network.modules():
            if torchs and isinstance(module, BatchNorm):
                module.__class__ = nn.BatchNorm2d
        network(channels_last(2, 1, 32, 32)).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    difference = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert difference < 1e-3

"""Flat field: against a direct weighted least squares, and what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from temshift.microscopy.flat_field import (
    bernstein_basis,
    correct_flat_field,
    downsampling_matrix,
    fit_flat_field,
    flat_field,
)


def illuminated(rng, shape=(96, 128)) -> np.ndarray:
    """Counts under uneven illumination, with dark particles on one side."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]] / np.array([[shape]]).T
    field = 900 * (1 - 0.5 * (y - 0.3) ** 2 - 0.4 * (x - 0.6) ** 2 + 0.1 * x * y)
    field[10:40, 5:50] *= 0.7
    return rng.poisson(field).astype(np.float32)


def direct_fit(image: np.ndarray, times: int) -> np.ndarray:
    """The fit as the study writes it: a (pixels x 9) matrix, the weight on both sides."""
    v, u = np.meshgrid(np.linspace(0, 1, image.shape[1]), np.linspace(0, 1, image.shape[0]))

    def bernstein(t):
        return [(1 - t) ** 2, 2 * t * (1 - t), t**2]

    basis = np.stack([(a * b).ravel() for a in bernstein(u) for b in bernstein(v)], axis=1)
    pixels, weight = image.ravel().astype(float), np.ones(image.size)
    for _ in range(times):
        solution = np.linalg.lstsq(basis * weight[:, None], pixels * weight, rcond=None)[0]
        squared = (pixels - basis @ solution) ** 2
        weight = np.exp(-3 * squared / (2 * squared.mean()))
    return solution.reshape(3, 3)


def test_bernstein_basis_by_hand():
    np.testing.assert_allclose(
        bernstein_basis(5),
        [
            [1, 0, 0],
            [9 / 16, 6 / 16, 1 / 16],
            [1 / 4, 1 / 2, 1 / 4],
            [1 / 16, 6 / 16, 9 / 16],
            [0, 0, 1],
        ],
    )


def test_equals_a_direct_weighted_least_squares(rng):
    image = illuminated(rng)
    coefficients = fit_flat_field(image, downsample=1)
    np.testing.assert_allclose(coefficients, direct_fit(image, times=2), rtol=1e-4)
    # and the second fit matters on this image: one pass alone gives something else
    assert np.abs(coefficients - direct_fit(image, times=1)).max() > 5


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("shape", [(64, 96), (61, 101), (130, 42)])
def test_downsamples_as_scikit_image_does(shape, factor, rng):
    from skimage.transform import rescale

    image = rng.normal(100, 10, shape).astype(np.float32)
    rows, columns = (downsampling_matrix(n, factor) for n in shape)
    expected = rescale(image.astype(float), 1 / factor, anti_aliasing=factor > 1)
    np.testing.assert_allclose(rows @ image @ columns.T, expected, rtol=1e-5)


def test_a_pure_field_is_recovered_and_divided_out(rng):
    wanted = 1000 + 300 * rng.random((3, 3))
    image = flat_field(wanted, (256, 192)).astype(np.float32)
    np.testing.assert_allclose(correct_flat_field(image), wanted, rtol=1e-4)
    np.testing.assert_allclose(image, 1, rtol=1e-5)


@settings(max_examples=20)
@given(scale=st.floats(1e-3, 1e4), seed=st.integers(0, 2**16))
def test_the_corrected_image_does_not_depend_on_the_gain(scale, seed):
    image = illuminated(np.random.default_rng(seed), (80, 72))
    louder = image * np.float32(scale)
    correct_flat_field(image)
    correct_flat_field(louder)
    np.testing.assert_allclose(louder, image, rtol=1e-4)


@settings(max_examples=20)
@given(k=st.integers(0, 3), seed=st.integers(0, 2**16))
def test_turning_the_image_turns_the_result(k, seed):
    image = illuminated(np.random.default_rng(seed), (80, 72))
    turned = np.ascontiguousarray(np.rot90(image, k))
    correct_flat_field(image)
    correct_flat_field(turned)
    np.testing.assert_allclose(turned, np.rot90(image, k), rtol=1e-4)


def test_an_exact_fit_needs_no_second_pass():
    np.testing.assert_allclose(fit_flat_field(np.full((32, 32), 5, np.float32)), 5, rtol=1e-5)


def test_refuses_a_field_that_is_not_positive():
    image = np.zeros((64, 64), np.float32)
    image[:8] = 1000
    with pytest.raises(ValueError, match=r"falls from [\d.e+]+ to -?[\d.e+]+ counts.*mode to none"):
        correct_flat_field(image)


def test_refuses_an_image_too_small_for_the_fit():
    with pytest.raises(ValueError, match=r"3 x 3 px after downsampling by 4, found .*\(8, 64\)"):
        fit_flat_field(np.ones((8, 64), np.float32), downsample=4)

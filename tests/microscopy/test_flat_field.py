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
    fit_background,
    fit_flat_field,
    flat_field,
)
from temshift.microscopy.imaging import illumination

MODES = ("background", "published")


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


@pytest.mark.parametrize("mode", MODES)
def test_a_pure_field_is_recovered_and_divided_out(mode, rng):
    wanted = 1000 + 300 * rng.random((3, 3))
    image = flat_field(wanted, (256, 192)).astype(np.float32)
    np.testing.assert_allclose(correct_flat_field(image, mode=mode), wanted, rtol=1e-4)
    np.testing.assert_allclose(image, 1, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=20)
@given(scale=st.floats(1e-3, 1e4), seed=st.integers(0, 2**16))
def test_the_corrected_image_does_not_depend_on_the_gain(mode, scale, seed):
    image = illuminated(np.random.default_rng(seed), (80, 72))
    louder = image * np.float32(scale)
    correct_flat_field(image, mode=mode)
    correct_flat_field(louder, mode=mode)
    np.testing.assert_allclose(louder, image, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=20)
@given(k=st.integers(0, 3), seed=st.integers(0, 2**16))
def test_turning_the_image_turns_the_result(mode, k, seed):
    image = illuminated(np.random.default_rng(seed), (80, 72))
    turned = np.ascontiguousarray(np.rot90(image, k))
    correct_flat_field(image, mode=mode)
    correct_flat_field(turned, mode=mode)
    np.testing.assert_allclose(turned, np.rot90(image, k), rtol=1e-4)


def unevenly_lit(
    rng, contrast: float, discs: list[tuple[float, float]], unevenness: float = 0.3
) -> tuple[np.ndarray, np.ndarray, float]:
    """Counts of discs a third of the field wide on grainy carbon, true field, share covered."""
    side = 512
    y, x = np.mgrid[0:side, 0:side] / side
    radius = 0.23
    thickness = np.zeros((side, side))
    for row, column in discs:
        squared = ((y - row) ** 2 + (x - column) ** 2) / radius**2
        thickness = np.maximum(thickness, np.sqrt(np.clip(1 - squared, 0, None)))
    field = illumination(side, unevenness, rng).astype(np.float64)
    counts = 17 * field * (1 - contrast * np.sqrt(thickness)) * rng.normal(1, 0.03, (side, side))
    return 20 * rng.poisson(counts).astype(np.float32), field, float((thickness > 0).mean())


def worst_error(coefficients: np.ndarray, field: np.ndarray) -> float:
    """Largest relative deviation of a fitted field from the true one, but for its scale."""
    ratio = flat_field(coefficients, field.shape) / field
    return float(np.abs(ratio / np.median(ratio) - 1).max())


@pytest.mark.parametrize("contrast", [0.3, -0.3], ids=["dark", "bright"])
@pytest.mark.parametrize("discs", [[(0.25, 0.3), (0.7, 0.72)], [(0.5, 0.25), (0.4, 0.76)]])
def test_particles_on_a_third_of_the_image_leave_the_background_fit_alone(discs, contrast, rng):
    image, field, covered = unevenly_lit(rng, contrast, discs)
    assert 0.32 < covered < 0.34
    assert worst_error(fit_background(image), field) < 0.012
    assert worst_error(fit_flat_field(image), field) > 0.13


@pytest.mark.parametrize("unevenness", [0.0, 0.1, 0.5])
def test_on_empty_carbon_both_fits_agree(unevenness, rng):
    image, field, _ = unevenly_lit(rng, 0.3, [], unevenness)
    ours, published = fit_background(image), fit_flat_field(image)
    assert worst_error(ours, field) < 0.012
    assert worst_error(ours, flat_field(published, field.shape)) < 0.012


@pytest.mark.parametrize("shape", [(12, 12), (16, 40), (32, 32), (300, 200)])
def test_a_constant_image_stays_constant(shape):
    image = np.full(shape, 7, np.float32)
    np.testing.assert_allclose(fit_background(image), 7, rtol=1e-5)
    correct_flat_field(image)
    np.testing.assert_allclose(image, 1, rtol=1e-5)


def test_an_exact_fit_needs_no_second_pass():
    np.testing.assert_allclose(fit_flat_field(np.full((32, 32), 5, np.float32)), 5, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lit", [8, 30])
def test_refuses_a_field_that_is_not_positive(mode, lit):
    image = np.zeros((64, 64), np.float32)
    image[:lit] = 1000
    number = r"-?[\d.e+-]+"
    with pytest.raises(ValueError, match=rf"from {number} to {number} counts.*mode to none"):
        correct_flat_field(image, mode=mode)


def test_refuses_an_image_too_small_for_the_fit():
    for fit in (fit_flat_field, fit_background):
        with pytest.raises(ValueError, match=r"3 x 3 px after downsampling by 4, .*\(8, 64\)"):
            fit(np.ones((8, 64), np.float32), downsample=4)


def test_a_fit_outside_a_mask_is_the_light_whatever_the_mask_covers():
    from temshift.microscopy.flat_field import divide_out, fit_outside, relative_contrast

    rows, columns = np.mgrid[:160, :200]
    light = (1 - 0.3 * (rows / 160 - 0.4) ** 2 - 0.2 * columns / 200).astype(np.float32)
    mask = columns < 130
    image = (100 * light * np.where(mask, 0.6, 1)).astype(np.float32)
    coefficients = fit_outside(image, mask)
    assert relative_contrast(image, mask, coefficients) == pytest.approx((0.4, 0.4), abs=0.02)
    divide_out(image, coefficients)
    assert image[~mask].std() < 0.01
    assert relative_contrast(image, np.zeros_like(mask), coefficients) == (0, 0)
    assert fit_outside(image, np.ones_like(mask)) is None

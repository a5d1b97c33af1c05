"""The chain from counts to the image a network sees."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from temshift.config.preprocessing import PreprocessingParameters
from temshift.microscopy.preprocess import (
    clean_counts,
    preprocess_micrograph,
    resample,
    share_below_zero,
    standardise,
)
from temshift.microscopy.xrays import remove_xrays

NOTHING = PreprocessingParameters(
    flat_field={"mode": "none"}, xray={"passes": 0}, standardise=False
)


def counts(rng, shape=(128, 160)) -> np.ndarray:
    return rng.poisson(500, shape).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_without_any_step_few_negatives_are_clipped_and_nothing_else(dtype, rng):
    image = rng.normal(50, 15, (40, 50)).clip(1, 99)
    if np.dtype(dtype).kind != "u":
        image[7, 9] = -20
    image = image.astype(dtype)
    before = image.copy()
    result, pixel_size = preprocess_micrograph(image, NOTHING, 0.02)
    np.testing.assert_array_equal(result, np.maximum(image, 0).astype(np.float32))
    np.testing.assert_array_equal(image, before)
    assert result.dtype == np.float32
    assert pixel_size == 0.02


@pytest.mark.parametrize("mode", ["background", "none"])
@pytest.mark.parametrize("change", ["mean", "background", "int16"])
@pytest.mark.parametrize("shape", [(128, 160), (700, 900)])
def test_an_image_less_a_constant_is_prepared_as_the_image(mode, change, shape, rng):
    image = counts(rng, shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image[np.hypot(y - 60, x - 70) < 25] -= 200
    less = {
        "mean": lambda: image - image.mean(),
        "background": lambda: image - 500,
        "int16": lambda: (image - 32768).astype(np.int16),
    }[change]()
    parameters = PreprocessingParameters(flat_field={"mode": mode})
    whole, _ = preprocess_micrograph(image, parameters)
    shifted, _ = preprocess_micrograph(less, parameters)
    assert np.corrcoef(whole.ravel(), shifted.ravel())[0, 1] > 0.995


def test_the_published_procedure_sets_negatives_to_0_and_says_so(rng, caplog):
    image = counts(rng) - 500
    parameters = NOTHING.with_overrides({"flat_field": {"mode": "published"}})
    with caplog.at_level(logging.WARNING):
        found = clean_counts(image, parameters)
    np.testing.assert_array_equal(found, np.maximum(image, 0))
    assert "% of the pixels lie below 0 and were set to 0, as in the published" in caplog.text


def test_the_share_below_zero_is_counted_in_all_bands(rng):
    image = rng.normal(0, 1, (900, 700)).astype(np.float32)
    assert share_below_zero(image) == (image < 0).mean()
    assert share_below_zero(np.full((3, 3), 7, np.uint16)) == 0


def test_every_variant_does_what_it_says(rng):
    image = counts(rng) * np.linspace(0.6, 1, 160, dtype=np.float32)
    image[30, 40] = 9000

    clean = image.copy()
    remove_xrays(clean, 1500)
    only_xray, _ = preprocess_micrograph(
        image, NOTHING.with_overrides({"xray": {"passes": 2, "threshold_counts": 1500}})
    )
    np.testing.assert_array_equal(only_xray, clean)

    flat, _ = preprocess_micrograph(
        clean, NOTHING.with_overrides({"flat_field": {"mode": "background"}})
    )
    columns = flat.mean(axis=0)
    assert np.ptp(clean.mean(axis=0)) / clean.mean() > 0.4
    assert np.ptp(columns) < 0.05
    assert flat.mean() == pytest.approx(1, abs=0.01)

    standard, _ = preprocess_micrograph(clean, NOTHING.with_overrides({"standardise": True}))
    np.testing.assert_allclose(standard, (clean - clean.mean()) / clean.std(), atol=1e-4)

    both, _ = preprocess_micrograph(image, PreprocessingParameters())
    np.testing.assert_allclose(both, (flat - flat.mean()) / flat.std(), atol=1e-4)


@settings(max_examples=40)
@given(
    height=st.integers(1, 300),
    width=st.integers(2, 400),
    mean=st.floats(-1e3, 1e3),
    deviation=st.floats(0.1, 1e3),
    seed=st.integers(0, 2**16),
)
def test_standardised_images_have_mean_0_and_deviation_1(height, width, mean, deviation, seed):
    generator = np.random.default_rng(seed)
    image = (mean + deviation * generator.normal(size=(height, width))).astype(np.float32)
    expected = image.mean(dtype=float), image.std(dtype=float)
    assert standardise(image) == pytest.approx(expected, rel=1e-4, abs=1e-4 * deviation)
    assert image.mean(dtype=float) == pytest.approx(0, abs=2e-3)
    assert image.std(dtype=float) == pytest.approx(1, abs=1e-3)


def test_resampling_halves_and_keeps_the_field_of_view():
    y, x = np.mgrid[0:128, 0:200] + 0.5
    image = (3 * x + 2 * y).astype(np.float32)
    half = resample(image, 0.02, 0.04)
    assert half.shape == (64, 100)
    y, x = np.mgrid[0:64, 0:100] + 0.5
    inner = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(half[inner], (2 * (3 * x + 2 * y))[inner], rtol=1e-4)


def test_resampling_drops_what_fills_no_whole_pixel():
    y, x = np.mgrid[0:101, 0:103] + 0.5
    third = resample((3 * x + 2 * y).astype(np.float32), 0.01, 0.03)
    assert third.shape == (33, 34)
    y, x = np.mgrid[0:33, 0:34] + 0.5
    inner = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(third[inner], (3 * (3 * x + 2 * y))[inner], rtol=1e-4)


def test_resampling_suppresses_what_the_new_pixels_cannot_hold():
    stripes = np.tile(np.float32([[1, -1]]), (64, 64))
    assert np.abs(resample(stripes, 0.02, 0.05)[4:-4, 4:-4]).max() < 0.05


def test_labels_are_resampled_to_the_nearest_pixel():
    label = np.zeros((90, 120), np.uint8)
    label[30:60, 30:90] = 1
    third = resample(label, 0.02, 0.06)
    expected = np.zeros((30, 40), np.uint8)
    expected[10:20, 10:30] = 1
    np.testing.assert_array_equal(third, expected)
    assert set(np.unique(resample(label, 0.02, 0.033))) == {0, 1}


def test_a_common_pixel_size_comes_before_standardising(rng):
    parameters = PreprocessingParameters(pixel_size_nm=0.042)
    image, pixel_size = preprocess_micrograph(counts(rng, (210, 420)), parameters, 0.021)
    assert image.shape == (105, 210)
    assert pixel_size == 0.042
    assert image.std() == pytest.approx(1, abs=1e-3)


def test_the_own_pixel_size_leaves_the_image_alone(rng):
    image = counts(rng)
    same, _ = preprocess_micrograph(image, NOTHING.with_overrides({"pixel_size_nm": 0.02}), 0.02)
    np.testing.assert_array_equal(same, image)


def test_refuses_to_resample_what_has_no_pixel_size(rng):
    with pytest.raises(ValueError, match=r"pixel_size_nm = 0.04 .* unknown: give pixel_size_nm"):
        preprocess_micrograph(counts(rng), PreprocessingParameters(pixel_size_nm=0.04))


@pytest.mark.parametrize("value", [9, 0, -5])
def test_refuses_a_constant_image_by_its_own_number(value):
    with pytest.raises(ValueError, match=rf"the image is constant \({value}\)"):
        preprocess_micrograph(np.full((64, 64), value), PreprocessingParameters())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda image: np.where(image == image[3, 4], np.nan, image), r"has \d+ pixels .* NaN or"),
        (lambda image: np.where(image == image.max(), np.inf, image), "has 1 pixels that are NaN"),
        (lambda image: np.where(image == image.max(), -np.inf, image), "NaN or infinite; repair"),
        (lambda image: image * 1e200, r"from .*e\+202 to .*e\+202, expected numbers .* float32"),
        (lambda image: -image * 1e200, "up to 3.4e.38.: divide it by a constant"),
        (lambda image: image * 1e-80, "float32 cannot tell apart: .* multiply it"),
        (lambda image: 1e15 + image, "float32 cannot tell apart: subtract the lowest"),
        (lambda image: np.ma.masked_less(image, 450), r"\d+ masked pixels.*image\.filled"),
    ],
)
def test_numbers_that_are_none_are_refused_without_a_warning(change, said, recwarn):
    image = np.random.default_rng(5).permutation(64 * 64).reshape(64, 64) / 64 + 440.0
    with pytest.raises(ValueError, match=said):
        preprocess_micrograph(change(image), PreprocessingParameters())
    assert not recwarn.list


def test_an_array_of_which_nothing_is_masked_is_an_image(rng):
    image = counts(rng)
    whole, _ = preprocess_micrograph(image, PreprocessingParameters())
    same, _ = preprocess_micrograph(np.ma.masked_array(image), PreprocessingParameters())
    assert type(same) is np.ndarray
    np.testing.assert_array_equal(same, whole)


def test_standardising_refuses_infinity(rng):
    image = counts(rng)
    image[3, 4] = np.inf
    with pytest.raises(ValueError, match="NaN or infinite"):
        standardise(image)


def test_warns_of_a_threshold_that_eats_the_image(rng, caplog):
    image = counts(rng)
    image[:20] += 3000
    with caplog.at_level(logging.WARNING):
        preprocess_micrograph(image, PreprocessingParameters())
    assert "raise preprocessing.xray.threshold_counts" in caplog.text

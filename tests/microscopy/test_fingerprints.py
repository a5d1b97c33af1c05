"""Fingerprints: against values known beforehand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temshift.microscopy.fingerprints import fingerprint, fingerprint_distance
from temshift.microscopy.patches import cut_patches


def white(rng, n=4, side=128, sigma=1.0):
    return (sigma * rng.normal(size=(n, side, side))).astype(np.float32)


def discs(side=128, radius=20.0, centres=((40, 40), (88, 88))):
    y, x = np.mgrid[0:side, 0:side]
    inside = np.zeros((side, side), bool)
    for row, column in centres:
        inside |= (y - row) ** 2 + (x - column) ** 2 <= radius**2
    return inside.astype(np.uint8)


def test_white_noise(rng):
    result = fingerprint(white(rng, sigma=1.7))
    assert result["noise"] == pytest.approx(1.7, rel=0.02)
    # white over the square |kx|, |ky| <= 1/2: <k²> = 2/12
    assert result["roughness_per_px2"] == pytest.approx(1 / 6, rel=0.02)
    assert all(abs(value) < 0.02 for value in result["autocorrelation"].values())
    spectrum = np.array(result["power_spectrum"]["power"])
    assert spectrum[4:].std() / spectrum[4:].mean() < 0.1
    assert result["contrast"] is result["labelled_share"] is result["diameter_px"] is None


def test_a_single_wave():
    # 16 periods of 8 px along x: k = 1/8; cos(2π/8 · lag) along x, 1 along y
    x = np.tile(np.cos(2 * np.pi * np.arange(128) / 8), (128, 1)).astype(np.float32)
    result = fingerprint(x[None])
    assert result["roughness_per_px2"] == pytest.approx(1 / 64, rel=0.01)
    assert result["autocorrelation"]["1,0"] == pytest.approx((1 + np.cos(np.pi / 4)) / 2, abs=0.01)
    assert result["autocorrelation"]["2,2"] == pytest.approx(np.cos(np.pi / 2), abs=0.01)
    spectrum = result["power_spectrum"]
    peak = spectrum["frequency_per_px"][int(np.argmax(spectrum["power"]))]
    assert peak == pytest.approx(1 / 8, abs=0.5 / 64)


def test_contrast_labelled_share_and_size(rng):
    label = np.stack([discs()] * 3)
    images = white(rng, 3, sigma=0.1) - 0.6 * label
    result = fingerprint(images, label, pixel_size_nm=0.02)
    assert result["contrast"] == pytest.approx(0.6, abs=0.01)
    assert result["contrast_to_noise"] == pytest.approx(6, rel=0.05)
    assert result["labelled_share"] == label.mean()
    assert result["n_particles"] == 6
    assert result["diameter_px"] == pytest.approx(40, rel=0.01)
    assert result["diameter_nm"] == pytest.approx(0.8, rel=0.01)


def test_particles_at_the_edge_have_no_size(rng):
    label = discs(centres=((10, 40), (70, 70)))[None]
    result = fingerprint(white(rng, 1), label)
    assert result["n_particles"] == 1
    assert result["diameter_nm"] is None


def test_particles_larger_than_a_patch_are_measured_in_their_micrograph(rng):
    whole = discs(256, radius=100, centres=((128, 128),))
    images, labels, corners = cut_patches(rng.normal(size=whole.shape).astype("f4"), whole, 64)
    images, labels = np.concatenate([images] * 2), np.concatenate([labels] * 2)
    table = pd.DataFrame(np.tile(corners, (2, 1)), columns=["row", "column"])
    table["micrograph_id"] = ["a"] * 16 + ["b"] * 16
    order = rng.permutation(32)
    found = fingerprint(images[order], labels[order], 0.05, table.iloc[order])
    assert found["n_particles"] == 2
    assert found["diameter_nm"] == pytest.approx(200 * 0.05, rel=0.01)
    assert fingerprint(images, labels)["n_particles"] == 0


def test_flat_patches_are_no_obstacle(rng):
    images = white(rng, 3)
    images[0] = 0
    assert fingerprint(images)["roughness_per_px2"] == pytest.approx(1 / 6, rel=0.05)


def test_empty_labels_give_no_contrast_and_no_size(rng):
    images = white(rng, 2)
    result = fingerprint(images, np.zeros(images.shape, np.uint8), 0.02)
    assert result["labelled_share"] == 0
    assert result["contrast"] is result["diameter_px"] is result["diameter_nm"] is None


def test_the_unlabelled_parts_of_a_fingerprint_do_not_depend_on_the_mean(rng):
    images = white(rng)
    first, second = fingerprint(images), fingerprint(images + 3)
    assert first["roughness_per_px2"] == pytest.approx(second["roughness_per_px2"], rel=1e-3)
    assert first["autocorrelation"] == pytest.approx(second["autocorrelation"], abs=1e-4)


@given(first=st.integers(0, 3), second=st.integers(0, 3))
def test_a_distance_is_symmetric_and_zero_to_itself(first, second):
    generator = np.random.default_rng(5)
    prints = []
    for i in range(4):
        label = np.stack([discs(radius=15 + 2 * i)] * 2)
        images = white(generator, 2, sigma=1 + i) - i * label
        prints.append(fingerprint(images, label, None if i == 3 else 0.02 + 0.01 * i))
    forth = fingerprint_distance(prints[first], prints[second])
    back = fingerprint_distance(prints[second], prints[first])
    assert forth == pytest.approx(back, nan_ok=True)
    if first == second:
        assert not any(forth.values())


def test_distances_are_logarithms_of_ratios(rng):
    label = np.stack([discs()] * 2)
    images = white(rng, 2, sigma=0.2) - label
    one = fingerprint(images, label, 0.02)
    two = fingerprint(2 * images, label, 0.04)
    distance = fingerprint_distance(one, two)
    assert distance["contrast"] == pytest.approx(np.log(2), rel=1e-3)
    assert distance["noise"] == pytest.approx(np.log(2), rel=1e-3)
    assert distance["contrast_to_noise"] == pytest.approx(0, abs=1e-3)
    assert distance["diameter_px"] == 0
    assert distance["diameter_nm"] == pytest.approx(np.log(2))
    assert distance["power_spectrum"] == pytest.approx(0, abs=1e-3)
    assert distance["power_spectrum_nm"] > 0.1


def test_physical_spectra_agree_for_one_specimen_at_two_pixel_sizes(rng):
    from scipy.ndimage import gaussian_filter

    fine = gaussian_filter(white(rng, 8, 256), (0, 6, 6))
    coarse = fine.reshape(8, 128, 2, 128, 2).mean(axis=(2, 4))
    distance = fingerprint_distance(fingerprint(fine, None, 0.02), fingerprint(coarse, None, 0.04))
    assert distance["power_spectrum_nm"] < 0.5 < distance["power_spectrum"]


def test_a_fingerprint_is_json(rng):
    result = fingerprint(white(rng), np.zeros((4, 128, 128), np.uint8), 0.02)
    assert json.loads(json.dumps(result)) == result

"""Lens and camera against what is known analytically."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temshift.microscopy.imaging import (
    aberration_phase,
    camera_mtf,
    electron_counts,
    illumination,
    image_intensity,
    pixel_grid,
    record,
    resample_mask,
)
from temshift.microscopy.multislice import ExitWave, electron_wavelength

WIDTH_A = 64.0
N = 64
CAMERA = {"mtf": "lorentzian", "mtf_width": 0.33, "ntf_width": 0.33, "counts_per_electron": 20.0}


def grating(periods, strength, absorption=0.0):
    """A wave behind a weak phase grating of ``periods`` over the field."""
    x = np.arange(N) / N
    phase = (strength * np.cos(2 * np.pi * periods * x))[:, None] * np.ones(N)
    return ExitWave(
        wave=np.exp(1j * phase).astype(np.complex64),
        phase=np.ones((N, N), np.float32),
        mask=np.zeros((2 * N, 2 * N), np.uint8),
        width_A=WIDTH_A,
        energy_eV=300e3,
    )


def contrast_of(intensity, periods):
    """Signed amplitude of ``cos(2π periods x)`` in an image."""
    return 2 * np.fft.fft(intensity.mean(axis=1))[periods].real / len(intensity)


def test_aberrations_follow_the_formula():
    k = np.array([0.0, 0.5])
    chi = aberration_phase(k, energy_eV=300e3, defocus_A=100.0, Cs_A=1e7)
    wavelength = electron_wavelength(300e3)
    expected = np.pi / 2 * 1e7 * wavelength**3 * 0.5**4 - np.pi * wavelength * 100 * 0.5**2
    assert chi == pytest.approx([0.0, expected])


@pytest.mark.parametrize("defocus_A", [-300.0, -80.0, 60.0, 400.0])
@pytest.mark.parametrize("periods", [4, 11])
def test_a_weak_phase_object_has_the_contrast_of_the_sine_transfer(defocus_A, periods):
    """I = 1 + 2 φ sin χ: dark where the phase is positive in underfocus (χ < 0)."""
    strength = 1e-3
    intensity = image_intensity(grating(periods, strength), defocus_A=defocus_A, Cs_A=-5e4)
    chi = aberration_phase(
        np.array(periods / WIDTH_A), energy_eV=300e3, defocus_A=defocus_A, Cs_A=-5e4
    )
    assert contrast_of(intensity, periods) == pytest.approx(
        2 * strength * np.sin(chi), rel=0.01, abs=2e-6
    )


def test_contrast_vanishes_at_the_zeros_of_the_transfer_function():
    """Without Cs the first zero lies at k = 1 / sqrt(λ Δf)."""
    periods = 16
    k = periods / WIDTH_A
    zero_A = 1 / (electron_wavelength(300e3) * k**2)
    at_zero, between = (
        contrast_of(image_intensity(grating(periods, 1e-3), defocus_A=d, Cs_A=0.0), periods)
        for d in (zero_A, zero_A / 2)
    )
    assert abs(at_zero) < 1e-2 * abs(between)
    assert between == pytest.approx(-2e-3, rel=0.01)


def test_focal_spread_damps_by_the_temporal_envelope_and_keeps_all_electrons():
    periods, spread_A = 20, 30.0
    k = periods / WIDTH_A
    quarter_A = 0.5 / (electron_wavelength(300e3) * k**2)
    sharp, damped = (
        image_intensity(grating(periods, 1e-3), defocus_A=quarter_A, Cs_A=0.0, focal_spread_A=s)
        for s in (0.0, spread_A)
    )
    envelope = np.exp(-0.5 * (np.pi * electron_wavelength(300e3) * spread_A * k**2) ** 2)
    ratio = contrast_of(damped, periods) / contrast_of(sharp, periods)
    assert ratio == pytest.approx(envelope, rel=0.01)
    assert damped.mean() == pytest.approx(1.0, abs=1e-5)


def test_vibration_damps_like_a_gaussian():
    still, shaken = (
        image_intensity(grating(10, 1e-3), defocus_A=300.0, Cs_A=0.0, vibration_A=v)
        for v in (0.0, 1.2)
    )
    expected = np.exp(-2 * (np.pi * 1.2 * 10 / WIDTH_A) ** 2)
    assert contrast_of(shaken, 10) / contrast_of(still, 10) == pytest.approx(expected, rel=1e-3)


def test_absorption_and_contrast_factor():
    wave = grating(3, 0.0)  # phase 1 rad everywhere
    assert image_intensity(wave, defocus_A=0, Cs_A=0, absorption=0.1).mean() == pytest.approx(
        np.exp(-0.2), rel=1e-5
    )
    plain = image_intensity(grating(5, 0.1), defocus_A=300.0, Cs_A=0.0)
    divided = image_intensity(grating(5, 0.1), defocus_A=300.0, Cs_A=0.0, contrast_factor=2.5)
    assert np.allclose(divided - 1, (plain - 1) / 2.5, atol=1e-6)


@given(pixel_size_nm=st.floats(0.015, 0.1), width_nm=st.floats(5, 30))
def test_the_field_is_a_whole_number_of_pixels(pixel_size_nm, width_nm):
    shape_px, exact_nm = pixel_grid(10 * width_nm, pixel_size_nm)
    assert shape_px * exact_nm == pytest.approx(width_nm)
    assert exact_nm == pytest.approx(pixel_size_nm, rel=pixel_size_nm / width_nm)


@pytest.mark.parametrize("pixel_size_nm", [0.020, 0.026, 0.033, 0.042])
def test_pixels_collect_the_dose(pixel_size_nm, rng):
    intensity = (1 + 0.1 * rng.standard_normal((128, 128))).astype(np.float32)
    counts = electron_counts(
        intensity, width_A=WIDTH_A, pixel_size_nm=pixel_size_nm, dose_e_per_A2=400.0
    )
    assert counts.min() >= 0
    # no electron is lost or made: the sum over all pixels is dose times area
    assert counts.sum() == pytest.approx(400.0 * WIDTH_A**2 * intensity.mean(), rel=1e-4)


def test_a_pixel_averages_over_its_area():
    x = np.arange(128) / 128
    intensity = (1 + 0.5 * np.cos(2 * np.pi * 12 * x))[:, None] * np.ones(128, np.float32)
    counts = electron_counts(
        intensity.astype(np.float32), width_A=WIDTH_A, pixel_size_nm=0.1, dose_e_per_A2=1.0
    )
    amplitude = contrast_of(counts, 12)
    assert amplitude == pytest.approx(0.5 * np.sinc(12 / 64), rel=1e-3)


def test_mtf_at_zero_and_nyquist():
    q = np.array([0.0, 1.0])
    assert camera_mtf(q, width=0.33, kind="lorentzian") == pytest.approx([1, 1 / (1 + 0.33**-2)])
    assert camera_mtf(q, width=0.35, kind="exponential") == pytest.approx([1, np.exp(-1 / 0.35)])


def test_counts_are_poisson_before_the_camera_blurs_them(rng):
    electrons = np.full((512, 512), 17.0, np.float32)
    sharp = {**CAMERA, "mtf_width": 1e6, "ntf_width": 1e6}
    counts = record(electrons, rng, **sharp)
    assert counts.dtype == np.uint16
    assert counts.mean() == pytest.approx(17 * 20, rel=2e-3)
    assert counts.var() == pytest.approx(17 * 20**2, rel=0.02)


def test_the_camera_keeps_the_mean_and_shapes_the_noise_by_its_mtf(rng):
    electrons = np.full((512, 512), 100.0, np.float32)
    counts = record(electrons, rng, **CAMERA).astype(float)
    assert counts.mean() == pytest.approx(2000, rel=1e-3)
    q = 2 * np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512)))
    expected = 100 * 20**2 * np.mean(camera_mtf(q, width=0.33) ** 2)
    assert counts.var() == pytest.approx(expected, rel=0.02)
    spectrum = np.abs(np.fft.fft2(counts - counts.mean())) ** 2 / 512**2
    for low, high in ((0.1, 0.2), (0.45, 0.55), (0.9, 1.0)):
        ring = (q >= low) & (q < high)
        assert spectrum[ring].mean() == pytest.approx(
            100 * 20**2 * np.mean(camera_mtf(q[ring], width=0.33) ** 2), rel=0.05
        )


def autocorrelation(image):
    """Normalised periodic autocorrelation, shape of the image."""
    power = np.abs(np.fft.fft2(image - image.mean())) ** 2
    found = np.fft.ifft2(power).real
    return found / found[0, 0]


def test_noise_follows_the_ntf_and_the_signal_the_mtf(rng):
    """An even field has the noise's autocorrelation, that of NTF²; a grating the MTF's damping."""
    camera = {**CAMERA, "mtf_width": 0.25, "ntf_width": 0.6}
    n, periods = 512, 64  # a quarter of Nyquist
    even = record(np.full((n, n), 400.0, np.float32), rng, **camera).astype(float)
    q = 2 * np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n)))
    expected = np.fft.ifft2(camera_mtf(q, width=0.6) ** 2).real
    expected /= expected[0, 0]
    found = autocorrelation(even)
    lags = [(1, 0), (1, 1), (2, 0), (2, 2)]
    assert [found[lag] for lag in lags] == pytest.approx([expected[lag] for lag in lags], abs=0.01)
    too_smooth = np.fft.ifft2(camera_mtf(q, width=0.25) ** 2).real
    assert too_smooth[1, 0] / too_smooth[0, 0] > found[1, 0] + 0.1  # that of the MTF is another

    x = np.arange(n) / n
    grating = 400 * (1 + 0.5 * np.cos(2 * np.pi * periods * x))[:, None] * np.ones(n)
    counts = record(grating.astype(np.float32), rng, **camera).astype(float)
    assert contrast_of(counts, periods) == pytest.approx(
        20 * 400 * 0.5 * camera_mtf(np.array(0.25), width=0.25), rel=0.01
    )


def test_xrays_are_rare_bright_and_found_by_the_published_threshold(rng):
    electrons = np.full((1000, 1000), 17.0, np.float32)
    counts = record(electrons, rng, **CAMERA, xray_per_Mpx=20.0)
    bright = (counts > np.median(counts) + 1500).sum()
    assert 5 < bright < 40
    assert (record(electrons, rng, **CAMERA) > np.median(counts) + 1500).sum() == 0


@given(unevenness=st.floats(0.01, 0.9), seed=st.integers(0, 999), n=st.integers(16, 64))
def test_illumination_has_mean_one_and_the_asked_range(unevenness, seed, n):
    field = illumination(n, unevenness, np.random.default_rng(seed))
    assert field.mean() == pytest.approx(1.0, abs=1e-4)
    assert np.ptp(field) == pytest.approx(unevenness, rel=1e-3)
    assert field.min() > 0


def test_even_illumination_is_one(rng):
    assert (illumination(8, 0.0, rng) == 1).all()


@pytest.mark.parametrize("shape_px", [64, 100, 128, 300])
def test_masks_keep_their_area_on_every_grid(shape_px):
    x = np.arange(600)
    mask = (np.hypot(x[:, None] - 250, x[None, :] - 330) < 150).astype(np.uint8)
    sampled = resample_mask(mask, shape_px)
    assert sampled.shape == (shape_px, shape_px)
    assert sampled.mean() == pytest.approx(mask.mean(), rel=0.02)

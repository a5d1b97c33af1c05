"""Exit waves and the resampling that stores them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temshift.microscopy.multislice import (
    _slices,
    electron_wavelength,
    exit_wave,
    fourier_resample,
    interaction_constant,
)
from temshift.microscopy.specimens import Particle, Specimen


# Williams & Carter, Transmission Electron Microscopy, table 1.2 (pm)
@pytest.mark.parametrize(
    ("energy_eV", "wavelength_pm"), [(100e3, 3.70), (200e3, 2.51), (300e3, 1.97)]
)
def test_wavelength_equals_the_textbook(energy_eV, wavelength_pm):
    assert electron_wavelength(energy_eV) * 100 == pytest.approx(wavelength_pm, abs=0.006)


# Kirkland, Advanced Computing in Electron Microscopy, figure 5.1
@pytest.mark.parametrize(
    ("energy_eV", "sigma"), [(100e3, 0.924e-3), (200e3, 0.729e-3), (300e3, 0.653e-3)]
)
def test_interaction_constant_equals_the_textbook(energy_eV, sigma):
    assert interaction_constant(energy_eV) == pytest.approx(sigma, rel=2e-3)


@given(n=st.integers(8, 40), m=st.integers(8, 40), seed=st.integers(0, 999))
def test_resampling_keeps_the_mean_and_real_stays_real(n, m, seed):
    array = np.random.default_rng(seed).random((n, n))
    resampled = fourier_resample(array, m)
    assert resampled.shape == (m, m)
    assert resampled.dtype == np.float64
    assert resampled.mean() == pytest.approx(array.mean())


@given(n=st.integers(9, 30), extra=st.integers(0, 30), seed=st.integers(0, 999))
def test_resampling_up_and_down_again_changes_nothing(n, extra, seed):
    rng = np.random.default_rng(seed)
    array = fourier_resample(rng.random((n, n)) + 1j * rng.random((n, n)), n + 1)  # band-limited
    there = fourier_resample(array, n + 1 + extra)
    assert np.allclose(fourier_resample(there, n + 1), array)


@pytest.mark.parametrize(("n", "m"), [(32, 48), (48, 32), (33, 50), (48, 31)])
def test_a_cosine_is_sampled_exactly(n, m):
    def wave(points):
        x = np.arange(points) / points
        return np.cos(2 * np.pi * (3 * x[:, None] + 5 * x[None, :]) + 0.7)

    assert np.allclose(fourier_resample(wave(n), m), wave(m))


def vacuum_with(numbers, positions, width_A=30.0):
    return Specimen(
        numbers=np.array(numbers),
        positions_A=np.array(positions, float),
        in_particle=np.ones(len(numbers), bool),
        width_A=width_A,
        height_A=8.0,
        particles=(Particle(width_A / 2, width_A / 2, 3.0),),
    )


def test_one_atom_is_where_it_should_be_and_scatters_weakly():
    specimen = vacuum_with([6], [[9.0, 15.0, 4.0]])
    result = exit_wave(specimen, energy_eV=300e3, grid_px=192, slice_thickness_A=4.0)
    assert result.wave.shape == result.phase.shape == (128, 128)
    assert result.wave.dtype == np.complex64
    assert result.mask.shape == (384, 384)
    peak = np.unravel_index(result.phase.argmax(), result.phase.shape)
    assert np.array(peak) * 30.0 / 128 == pytest.approx([9.0, 15.0], abs=0.15)
    centre = np.mean(np.nonzero(result.mask), axis=1) * 30.0 / 384
    assert centre == pytest.approx([9.0, 15.0], abs=0.05)
    assert np.mean(np.abs(result.wave) ** 2) == pytest.approx(1.0, abs=2e-3)


def test_the_mean_phase_is_the_forward_scattering_factor():
    """Mean of σ·∫V dz over the field is σ·(h²/2πme)·f(0)/area: 47.878 V Å² times f(0) in Å."""
    specimen = vacuum_with([79], [[15.0, 15.0, 4.0]])
    result = exit_wave(specimen, energy_eV=300e3, grid_px=192, slice_thickness_A=4.0)
    f0_A = result.phase.mean() * 30.0**2 / (interaction_constant(300e3) * 47.878)
    # Lobato & Van Dyck 2014 for gold; Doyle & Turner give 10.57 Å, Peng 10.4 Å
    assert f0_A == pytest.approx(10.6, rel=0.05)


def test_a_weak_object_only_shifts_the_phase_by_its_potential():
    """First order: arg ψ is the projected potential times σ (thin object at the exit face)."""
    specimen = vacuum_with([6], [[15.0, 15.0, 7.9]])
    result = exit_wave(specimen, energy_eV=300e3, grid_px=192, slice_thickness_A=0.5)
    phase = np.angle(result.wave)
    assert np.corrcoef(phase.ravel(), result.phase.ravel())[0, 1] > 0.99
    assert np.ptp(phase) == pytest.approx(np.ptp(result.phase), rel=0.1)


def test_the_same_specimen_gives_the_same_bytes():
    specimen = vacuum_with([79, 79, 6], [[9, 15, 4], [12, 15, 2], [20, 3, 6]])
    a, b = (exit_wave(specimen, energy_eV=300e3, grid_px=96, slice_thickness_A=2.0) for _ in "ab")
    assert a.wave.tobytes() == b.wave.tobytes()
    assert a.phase.tobytes() == b.phase.tobytes()
    assert a.mask.tobytes() == b.mask.tobytes()


def film_with_a_particle(width_A=40.0):
    """Scattered carbon from 0 to 60 Å with a clump of gold on it, from 62 Å upwards."""
    rng = np.random.default_rng(0)
    film = rng.uniform(0, [width_A, width_A, 60.0], size=(6000, 3))
    gold = np.array([20.0, 20.0, 62.0]) + 4.0 * np.stack(np.indices((3, 3, 4)), -1).reshape(-1, 3)
    return Specimen(
        numbers=np.repeat([6, 79], [len(film), len(gold)]),
        positions_A=np.concatenate([film, gold]),
        in_particle=np.repeat([False, True], [len(film), len(gold)]),
        width_A=width_A,
        height_A=80.0,
        particles=(Particle(24.0, 24.0, 12.0),),
    )


def test_only_the_film_below_the_particles_gets_thick_slices():
    slices = _slices(film_with_a_particle(), 4.0, 10.0)
    assert sum(slices) == pytest.approx(80.0)
    assert slices[:7] == pytest.approx([62 / 7] * 7)
    assert slices[7:] == pytest.approx([18 / 5] * 5)


def test_thick_slices_of_the_film_change_the_wave_little():
    specimen = film_with_a_particle()

    def wave(film_A):
        return exit_wave(
            specimen,
            energy_eV=300e3,
            grid_px=144,
            slice_thickness_A=4.0,
            film_slice_thickness_A=film_A,
        ).wave

    fine, coarse = wave(4.0), wave(12.0)
    assert not np.array_equal(fine, coarse)
    scattered = fine - fine.mean()
    assert np.sqrt((abs(fine - coarse) ** 2).mean() / (abs(scattered) ** 2).mean()) < 0.1

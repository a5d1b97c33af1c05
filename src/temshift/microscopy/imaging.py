"""From an exit wave to counts: lens, specimen contrast, camera.

Sign conventions: aberration function ``χ(k) = π λ k² (−Δf) + π/2 Cs λ³ k⁴`` and transfer function
``exp(−i χ)``, so that a positive defocus Δf is underfocus (as in abTEM).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from temshift.microscopy.multislice import ExitWave, electron_wavelength, fourier_resample

__all__ = [
    "aberration_phase",
    "camera_mtf",
    "electron_counts",
    "illumination",
    "image_intensity",
    "pixel_grid",
    "record",
    "resample_mask",
]

Floats = NDArray[np.float32]


def aberration_phase(
    k_per_A: NDArray[np.floating], *, energy_eV: float, defocus_A: float, Cs_A: float
) -> NDArray[np.floating]:
    """Return χ(k) in rad: ``−π λ Δf k² + π/2 Cs λ³ k⁴``.

    Parameters
    ----------
    k_per_A : ndarray
        Spatial frequency, 1/Å.
    energy_eV : float
    defocus_A : float
        Underfocus is positive.
    Cs_A : float
        Spherical aberration.
    """
    wavelength_A = electron_wavelength(energy_eV)
    k2 = np.square(k_per_A)
    return np.pi * wavelength_A * k2 * (0.5 * Cs_A * wavelength_A**2 * k2 - defocus_A)


def image_intensity(
    exit_wave: ExitWave,
    *,
    defocus_A: float,
    Cs_A: float,
    focal_spread_A: float = 0.0,
    vibration_A: float = 0.0,
    absorption: float = 0.0,
    contrast_factor: float = 1.0,
    focal_points: int = 5,
) -> Floats:
    """Return the image intensity for a mean incident intensity of 1.

    Chromatic focal spread is an incoherent mean over defocus (Gauss–Hermite quadrature), which
    keeps the electrons; an envelope on the wave would lose those of high frequency and so make
    particles dark. The lateral coherence of a field-emission source (below 0.1 mrad) changes
    nothing at the few tens of Å of defocus used here and is left out.

    Parameters
    ----------
    exit_wave : ExitWave
    defocus_A : float
        Underfocus is positive; 0 focuses on the exit surface.
    Cs_A : float
    focal_spread_A : float
        Standard deviation of the defocus.
    vibration_A : float
        Standard deviation of the Gaussian that blurs the image.
    absorption : float
        Ratio of the imaginary to the real part of the potential: the wave is multiplied by
        ``exp(−absorption · phase)``.
    contrast_factor : float
        Stobbs factor s: ``I → 1 + (I − 1) / s``.
    focal_points : int
        Points of the quadrature.

    Returns
    -------
    ndarray, shape (2n, 2n) for a wave of shape (n, n), float32
        Twice as fine as the wave, since the intensity has twice its band width. Not negative.
    """
    from scipy import fft

    n = exit_wave.wave.shape[0]
    pixel_A = exit_wave.width_A / n
    wave = exit_wave.wave
    if absorption:
        wave = wave * np.exp(-absorption * exit_wave.phase)
    spectrum = fft.fft2(wave.astype(np.complex64))
    k = np.fft.fftfreq(n, pixel_A)
    k_per_A = np.hypot(k[:, None], k[None, :])

    nodes, weights = np.polynomial.hermite_e.hermegauss(focal_points if focal_spread_A else 1)
    weights = weights / weights.sum()
    intensity = np.zeros((2 * n, 2 * n), np.float32)
    for node, weight in zip(nodes, weights, strict=True):
        chi = aberration_phase(
            k_per_A,
            energy_eV=exit_wave.energy_eV,
            defocus_A=defocus_A + focal_spread_A * float(node),
            Cs_A=Cs_A,
        )
        transfer = np.exp(-1j * chi).astype(np.complex64)
        focused = _pad_spectrum(spectrum * transfer, 2 * n)
        amplitude = fft.ifft2(focused, overwrite_x=True) * 4
        intensity += np.float32(weight) * (amplitude.real**2 + amplitude.imag**2)
    if vibration_A:
        k = np.fft.fftfreq(2 * n, pixel_A / 2)
        blur = np.exp(-2 * (np.pi * vibration_A) ** 2 * (k[:, None] ** 2 + k[None, : n + 1] ** 2))
        intensity = fft.irfft2(fft.rfft2(intensity) * blur.astype(np.float32), s=intensity.shape)
    return np.maximum(1 + (intensity - 1) / np.float32(contrast_factor), 0).astype(np.float32)


def _pad_spectrum(spectrum: NDArray[Any], shape_px: int) -> NDArray[Any]:
    """Zero-pad an FFT (zero frequency first) to a finer grid."""
    n = spectrum.shape[0]
    half = n // 2
    padded = np.zeros((shape_px, shape_px), spectrum.dtype)
    for rows in (slice(0, half), slice(half - n, None)):
        for columns in (slice(0, half), slice(half - n, None)):
            padded[rows, columns] = spectrum[rows, columns]
    return padded


def pixel_grid(width_A: float, pixel_size_nm: float) -> tuple[int, float]:
    """Return the whole number of pixels nearest to a field's width, and their exact size in nm."""
    shape_px = max(1, round(width_A / (10 * pixel_size_nm)))
    return shape_px, width_A / 10 / shape_px


def resample_mask(mask: NDArray[np.uint8], shape_px: int) -> NDArray[np.uint8]:
    """Sample a mask at the pixels of another grid over the same square, periodic field."""
    index = np.rint(np.arange(shape_px) * (mask.shape[0] / shape_px)).astype(int) % mask.shape[0]
    return mask[np.ix_(index, index)]


def camera_mtf(
    q_nyquist: NDArray[np.floating],
    *,
    width: float,
    kind: Literal["lorentzian", "exponential"] = "lorentzian",
) -> NDArray[np.floating]:
    """Return the transfer of modulation (or noise) of a scintillator camera, 1 at frequency 0.

    Parameters
    ----------
    q_nyquist : ndarray
        Spatial frequency in units of the Nyquist frequency.
    width : float
        ``1 / (1 + (q / width)²)`` for ``lorentzian``, ``exp(−q / width)`` for ``exponential``.
    """
    if kind == "lorentzian":
        return 1 / (1 + np.square(q_nyquist / width))
    return np.exp(-np.abs(q_nyquist) / width)


def illumination(shape_px: int, unevenness: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a smooth uneven illumination of mean 1, between ``1 ± unevenness / 2`` of it.

    A tilted plane plus a broad off-centre dome, at random: what a beam that is condensed and not
    centred leaves on a camera.
    """
    if unevenness == 0:
        return np.ones((shape_px, shape_px), np.float32)
    u = np.linspace(-1, 1, shape_px, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    centre = rng.uniform(-0.5, 0.5, size=2)
    tilt = np.cos(angle) * u[:, None] + np.sin(angle) * u[None, :]
    dome = -((u[:, None] - centre[0]) ** 2 + (u[None, :] - centre[1]) ** 2)
    field = rng.uniform(0.3, 1.0) * tilt + rng.uniform(0.3, 1.0) * dome
    field = field - field.mean()
    spread = (field.max() - field.min()) / 2
    return (1 + unevenness / 2 * field / spread).astype(np.float32)


def electron_counts(
    intensity: Floats, *, width_A: float, pixel_size_nm: float, dose_e_per_A2: float
) -> Floats:
    """Return the mean number of electrons in each pixel.

    The intensity is integrated over square pixels: multiplied with their sinc in Fourier space
    and resampled.

    Returns
    -------
    ndarray, shape (m, m), float32
        Mean ``dose · pixel area`` where the intensity's mean is 1.
    """
    from scipy import fft

    shape_px, exact_nm = pixel_grid(width_A, pixel_size_nm)
    n = intensity.shape[0]
    k = np.fft.fftfreq(n, width_A / n)
    sinc = np.sinc(k * exact_nm * 10)
    blurred = fft.ifft2(fft.fft2(intensity) * (sinc[:, None] * sinc[None, :]).astype(np.float32))
    electrons_per_pixel = dose_e_per_A2 * (10 * exact_nm) ** 2
    counts = fourier_resample(blurred.real, shape_px) * electrons_per_pixel
    return np.maximum(counts, 0).astype(np.float32)


def record(
    electrons: Floats,
    rng: np.random.Generator,
    *,
    mtf: Literal["lorentzian", "exponential"],
    mtf_width: float,
    ntf_width: float,
    counts_per_electron: float,
    offset_counts: float = 0.0,
    readout_noise_counts: float = 0.0,
    xray_per_Mpx: float = 0.0,
    xray_counts: tuple[float, float] = (2000.0, 20000.0),
) -> NDArray[np.uint16]:
    """Return what the camera reads for a mean number of electrons in each pixel.

    Electrons arrive at random (Poisson) and spread their light over neighbouring pixels. On
    average they do it as the modulation transfer function says; but the light of single electrons
    differs, so that shot noise is blurred less, by the noise transfer function (Meyer & Kirkland,
    Microsc. Res. Tech. 49 (2000) 269), and the detective quantum efficiency falls as
    (MTF / NTF)². The reading adds noise, and rare x-rays add bright pixels.

    Parameters
    ----------
    electrons : ndarray, shape (m, m), float32
    rng : numpy Generator

    Returns
    -------
    ndarray, shape (m, m), uint16
    """
    from scipy import fft

    m = electrons.shape[0]
    noise = (rng.poisson(electrons) - electrons).astype(np.float32)
    k = np.fft.fftfreq(m)
    q = np.hypot(k[:, None], k[None, : m // 2 + 1]) * 2
    spectrum = fft.rfft2(electrons) * camera_mtf(q, width=mtf_width, kind=mtf).astype(np.float32)
    spectrum += fft.rfft2(noise) * camera_mtf(q, width=ntf_width, kind=mtf).astype(np.float32)
    counts = fft.irfft2(spectrum, s=electrons.shape) * counts_per_electron
    counts += offset_counts
    if readout_noise_counts:
        counts += rng.normal(0, readout_noise_counts, counts.shape)
    events = rng.poisson(xray_per_Mpx * m * m / 1e6)
    rows, columns = rng.integers(0, m, size=(2, events))
    np.add.at(counts, (rows, columns), rng.uniform(*xray_counts, size=events))
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)

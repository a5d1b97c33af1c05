"""Exit waves by multislice (abTEM), stored without what the calculation cannot resolve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temshift.microscopy.specimens import Specimen, outline_mask

__all__ = ["ExitWave", "exit_wave", "fourier_resample"]

#: abTEM keeps spatial frequencies up to this share of the grid's Nyquist frequency.
ANTIALIAS_CUTOFF = 2 / 3


@dataclass(frozen=True)
class ExitWave:
    """What imaging needs to know of a specimen.

    Attributes
    ----------
    wave : ndarray, shape (n, n), complex64
        Wave at the exit surface for an incident wave of unit intensity. Axis 0 is x, 1 is y.
    phase : ndarray, shape (n, n), float32
        Interaction constant times projected potential, rad (0 in vacuum).
    mask : ndarray, shape (m, m), uint8
        1 where a particle is; finer than the wave.
    width_A : float
        Side of the periodic field.
    energy_eV : float
    """

    wave: NDArray[np.complex64]
    phase: NDArray[np.float32]
    mask: NDArray[np.uint8]
    width_A: float
    energy_eV: float

    def __repr__(self) -> str:
        return (
            f"ExitWave: field of {self.width_A / 10:.4g} nm at {self.energy_eV / 1e3:.4g} keV; "
            f".wave and .phase {self.wave.shape}, .mask {self.mask.shape}"
        )


def exit_wave(
    specimen: Specimen,
    *,
    energy_eV: float,
    grid_px: int,
    slice_thickness_A: float,
    film_slice_thickness_A: float | None = None,
) -> ExitWave:
    """Send a plane wave through a specimen.

    The calculation is abTEM's: independent atoms (Lobato & Van Dyck, Acta Cryst. A 70 (2014) 636),
    infinitely projected slices, Fresnel propagation, band limit at two thirds of Nyquist. Only the
    frequencies inside that limit are kept, which is lossless and makes the wave 2/3 as wide.
    NumPy's FFT is used, since FFTW chooses its algorithm by timing, and so its rounding: the same
    specimen always gives the same bytes. (This sets ``fft`` in abTEM's configuration.)

    Parameters
    ----------
    specimen : Specimen
    energy_eV : float
    grid_px : int
        Points of the calculation in each direction; the wave has two thirds of them.
    slice_thickness_A : float
    film_slice_thickness_A : float, optional
        The same below the lowest atom of a particle, where there is amorphous film only.

    Returns
    -------
    ExitWave
    """
    import abtem
    from ase import Atoms

    abtem.config.set({"fft": "numpy", "precision": "float32"})
    atoms = Atoms(
        numbers=specimen.numbers,
        positions=specimen.positions_A,
        cell=[specimen.width_A, specimen.width_A, specimen.height_A],
        pbc=True,
    )
    slices = abtem.Potential(
        atoms,
        gpts=grid_px,
        slice_thickness=_slices(
            specimen, slice_thickness_A, film_slice_thickness_A or slice_thickness_A
        ),
        parametrization="lobato",
        projection="infinite",
    ).build(lazy=False)
    plane_wave: Any = abtem.PlaneWave(energy=energy_eV)
    wave = plane_wave.multislice(slices, lazy=False).array
    phase = interaction_constant(energy_eV) * slices.array.sum(axis=0)
    kept_px = 2 * int(np.ceil(ANTIALIAS_CUTOFF * grid_px / 2))
    return ExitWave(
        wave=fourier_resample(wave, kept_px).astype(np.complex64),
        phase=fourier_resample(phase, kept_px).astype(np.float32),
        mask=outline_mask(
            specimen.positions_A[specimen.in_particle, :2], specimen.width_A, 2 * grid_px
        ),
        width_A=specimen.width_A,
        energy_eV=energy_eV,
    )


def _slices(specimen: Specimen, thickness_A: float, film_A: float) -> tuple[float, ...]:
    """Return the thickness of every slice: of the film below all particles, then of the rest."""
    lowest_A = specimen.positions_A[specimen.in_particle, 2].min(initial=specimen.height_A)
    rest_A = specimen.height_A - lowest_A
    slices: list[float] = []
    for height_A, most_A in ((float(lowest_A), film_A), (float(rest_A), thickness_A)):
        n = int(np.ceil(height_A / most_A))
        slices += [height_A / n] * n if n else []
    return tuple(slices)


def electron_wavelength(energy_eV: float) -> float:
    """Return the relativistic electron wavelength in Å.

    ``λ = hc / sqrt(E (E + 2 m c²))`` with hc = 12398.4198 eV Å and m c² = 510998.95 eV.

    Examples
    --------
    >>> round(electron_wavelength(300e3), 5)
    0.01969
    """
    return float(12398.4198 / np.sqrt(energy_eV * (energy_eV + 2 * 510998.95)))


def interaction_constant(energy_eV: float) -> float:
    """Return σ = 2π m e λ / h² of an electron in rad/(V Å).

    ``σ = 2π (m c² + E) / (λ E (2 m c² + E))`` (Kirkland, Advanced Computing in Electron Microscopy,
    eq. 5.6).
    """
    rest_eV = 510998.95
    wavelength_A = electron_wavelength(energy_eV)
    return float(
        2 * np.pi * (rest_eV + energy_eV) / (wavelength_A * energy_eV * (2 * rest_eV + energy_eV))
    )


def fourier_resample(array: NDArray[Any], shape_px: int) -> NDArray[Any]:
    """Resample a periodic square array by cropping or zero-padding its Fourier transform.

    The mean is kept; point values are kept where the array is band-limited to both grids.

    Parameters
    ----------
    array : ndarray, shape (n, n), real or complex
    shape_px : int
        Points wanted in each direction.

    Returns
    -------
    ndarray, shape (shape_px, shape_px)
        Complex if ``array`` is complex, real otherwise.
    """
    from scipy import fft

    n = array.shape[0]
    if shape_px == n:
        return array
    spectrum = fft.fftshift(fft.fft2(array))
    m = min(n, shape_px)
    # centred crop: frequency 0 sits at index n // 2 on both grids
    kept = spectrum[_centred(n, m), _centred(n, m)]
    if m % 2 == 0:
        # The Nyquist frequency of an even grid has no partner: drop it, real stays real.
        kept = kept.copy()
        kept[0, :] = 0
        kept[:, 0] = 0
    if shape_px > n:
        padded = np.zeros((shape_px, shape_px), kept.dtype)
        padded[_centred(shape_px, m), _centred(shape_px, m)] = kept
        kept = padded
    result = fft.ifft2(fft.ifftshift(kept)) * (shape_px / n) ** 2
    return result if np.iscomplexobj(array) else result.real


def _centred(n: int, m: int) -> slice:
    start = n // 2 - m // 2
    return slice(start, start + m)

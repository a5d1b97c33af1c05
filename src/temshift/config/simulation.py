"""Typed parameters of the simulation: specimens, microscope, camera and what is acquired.

Lengths carry their unit in the name; nothing heavy is imported.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from temshift.config.base import NAME, Ascending, EachOnce, PixelSize, Strict, nearest

__all__ = [
    "AcquisitionParameters",
    "ImagingParameters",
    "MultisliceParameters",
    "SessionParameters",
    "SimulationParameters",
    "SpecimenParameters",
    "SupportParameters",
]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class SupportParameters(Strict):
    """An amorphous film (``simulation.supports.<name>``).

    Attributes
    ----------
    composition : dict of str to float
        Relative number of atoms of each element.
    atoms_per_A3 : float
        Number density, 1/Å³.
    thickness_nm : (float, float)
        Thinnest and thickest: the film of each specimen has a thickness of its own, uniformly
        distributed between them.
    roughness_nm : float
        Standard deviation of the upper surface's height.
    roughness_length_nm : float
        Lateral length over which that height varies.
    """

    composition: dict[str, Positive] = Field(min_length=1)
    atoms_per_A3: Positive
    thickness_nm: tuple[Positive, Positive]
    roughness_nm: NotNegative = 0.0
    roughness_length_nm: Positive = 2.0

    @model_validator(mode="after")
    def _ordered(self) -> SupportParameters:
        if self.thickness_nm[0] > self.thickness_nm[1]:
            raise ValueError(
                f"'thickness_nm' must be [thinnest, thickest], found {list(self.thickness_nm)}"
            )
        return self


class SpecimenParameters(Strict):
    """A kind of specimen (``simulation.specimens.<name>``): particles on a support.

    Attributes
    ----------
    material : {"Au", "Ag", "CdSe"}
    diameter_nm : float
        Nominal diameter, the one in the micrograph table.
    diameter_spread_nm : float
        Standard deviation of the single particles' diameters.
    aspect_ratio : float
        Length along the crystal's c axis over the diameter; 1 is a sphere.
    height_ratio : float
        Height along the beam over the diameter; below 1 the particles are flattened domes.
    support : str
        A name in ``simulation.supports``.
    particles : (int, int)
        Fewest and most particles in a field.
    touching : float
        Share of particles put in contact with another one.
    twinned : float
        Share of (cubic) particles with one {111} twin plane.
    faceted : float
        Share of particles with flat faces along the crystal's planes of lowest energy; the others
        are spheres (ellipsoids).
    field_width_nm : float, optional
        Side of the field where it is not ``simulation.field_width_nm``: large particles need wider
        fields if most of the image is to be background. The points of the wave grow with it.
    """

    material: Literal["Au", "Ag", "CdSe"]
    diameter_nm: Positive
    diameter_spread_nm: NotNegative = 0.0
    aspect_ratio: Annotated[float, Field(ge=1, le=3)] = 1.0
    height_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    support: str
    particles: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    touching: Share = 0.0
    twinned: Share = 0.0
    faceted: Share = 0.0
    field_width_nm: Positive | None = None

    @model_validator(mode="after")
    def _ordered(self) -> SpecimenParameters:
        if self.particles[0] > self.particles[1]:
            raise ValueError(f"'particles' must be [fewest, most], found {list(self.particles)}")
        if 3 * self.diameter_spread_nm >= self.diameter_nm:
            raise ValueError(
                f"'diameter_spread_nm' ({self.diameter_spread_nm}) must be below a third of "
                f"'diameter_nm' ({self.diameter_nm})"
            )
        return self

    @property
    def shape(self) -> str:
        """``sphere`` or ``oblong``, as in the micrograph table."""
        return "sphere" if self.aspect_ratio == 1 else "oblong"


class MultisliceParameters(Strict):
    """How the exit wave is computed.

    Attributes
    ----------
    energy_eV : float
        Kinetic energy of the electrons.
    grid_px : int
        Points of the (square) wave in each direction, for a field of ``simulation.field_width_nm``.
    slice_thickness_A : float
    film_slice_thickness_A : float
        The same for the part of the film below the lowest atom of a particle: an amorphous film
        scatters weakly and needs fewer slices than a crystal.
    thermal_displacement_A : float
        Root mean square displacement of an atom in one direction (one frozen configuration).
    """

    energy_eV: Positive = 300e3
    grid_px: Annotated[int, Field(ge=64)] = 768
    slice_thickness_A: Positive = 2.0
    film_slice_thickness_A: Positive = 10.0
    thermal_displacement_A: NotNegative = 0.085


class ImagingParameters(Strict):
    """Microscope and camera (``simulation.imaging``).

    Attributes
    ----------
    Cs_A : float
        Spherical aberration.
    defocus_A, defocus_spread_A : float
        Mean and standard deviation of the defocus of the single specimens (underfocus positive,
        measured from the specimen's exit side).
    focal_spread_A : float
        Standard deviation of the defocus during one exposure (chromatic, high-tension ripple).
    vibration_A : float
        Standard deviation of the image's movement during one exposure, at the specimen.
    absorption : float
        Imaginary over real part of the specimen's projected potential.
    contrast_factor : float
        The Stobbs factor: simulated contrast is divided by it.
    mtf : {"lorentzian", "exponential"}
        ``1 / (1 + (q / w)²)`` or ``exp(-q / w)`` with q in units of the Nyquist frequency.
    mtf_width, ntf_width : float
        ``w`` above, for the signal and for the shot noise. Each electron spreads its light in
        another way, so noise is blurred less than the signal: ``ntf_width`` is the larger one.
    counts_per_electron : float
        Camera gain.
    offset_counts, readout_noise_counts : float
        Mean and standard deviation of the counts without electrons.
    xray_per_Mpx : float
        Mean number of x-ray events in a million pixels.
    xray_counts : (float, float)
        Fewest and most counts of an x-ray event.
    """

    Cs_A: float = -5e4
    defocus_A: float = 0.0
    defocus_spread_A: NotNegative = 60.0
    focal_spread_A: NotNegative = 12.0
    vibration_A: NotNegative = 0.0
    absorption: NotNegative = 0.0
    contrast_factor: Annotated[float, Field(ge=1)] = 1.0
    mtf: Literal["lorentzian", "exponential"] = "lorentzian"
    mtf_width: Positive = 0.35
    ntf_width: Positive = 0.35
    counts_per_electron: Positive = 20.0
    offset_counts: NotNegative = 0.0
    readout_noise_counts: NotNegative = 0.0
    xray_per_Mpx: NotNegative = 0.0
    xray_counts: Annotated[tuple[Positive, Positive], Ascending] = (2000.0, 20000.0)

    @model_validator(mode="after")
    def _noise_is_transferred_at_least_as_well(self) -> ImagingParameters:
        if self.ntf_width < self.mtf_width:
            raise ValueError(
                f"'ntf_width' ({self.ntf_width:g}) must not be below 'mtf_width' "
                f"({self.mtf_width:g}): no camera transfers the signal better than its noise"
            )
        return self


class SessionParameters(Strict):
    """A day at the microscope (``simulation.sessions.<ISO date>``).

    Attributes
    ----------
    unevenness : float
        Illumination varies over a micrograph between ``1 ± unevenness / 2`` times its mean.
    instrument : str
    """

    unevenness: Annotated[float, Field(ge=0, lt=1)] = 0.0
    instrument: str = "simulated"


class AcquisitionParameters(Strict):
    """One condition under which all fields of some specimen types are imaged.

    Attributes
    ----------
    specimens : list of str
        Names in ``simulation.specimens``.
    session : str
        A key of ``simulation.sessions``, ISO date.
    dose_e_per_A2, pixel_size_nm : float
    defocus_A : float, optional
        The same for all fields; without it each specimen has its own, from ``imaging``.
    """

    specimens: Annotated[list[str], Field(min_length=1), EachOnce]
    session: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    dose_e_per_A2: Positive
    pixel_size_nm: PixelSize
    defocus_A: float | None = None


class SimulationParameters(Strict):
    """The block ``simulation``.

    Attributes
    ----------
    seed : int
        Every random draw follows from it.
    field_width_nm : float
        Side of a (square, periodic) field.
    fields : int
        Specimens made of each type.
    multislice : MultisliceParameters
    supports, specimens, sessions : dict
    imaging : ImagingParameters
    acquisitions : list of AcquisitionParameters
    """

    seed: Annotated[int, Field(ge=0)] = 0
    field_width_nm: Positive
    fields: Annotated[int, Field(ge=1)]
    multislice: MultisliceParameters = MultisliceParameters()
    supports: dict[str, SupportParameters] = Field(min_length=1)
    specimens: dict[Annotated[str, Field(pattern=NAME)], SpecimenParameters] = Field(min_length=1)
    sessions: dict[str, SessionParameters] = Field(min_length=1)
    imaging: ImagingParameters = ImagingParameters()
    acquisitions: list[AcquisitionParameters] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_exist(self) -> SimulationParameters:
        problems = []
        for name, specimen in self.specimens.items():
            if specimen.support not in self.supports:
                problems.append(
                    f"specimens.{name} lies on the unknown support {specimen.support!r}; "
                    f"{nearest(specimen.support, self.supports)}"
                )
        for i, acquisition in enumerate(self.acquisitions):
            for specimen_type in acquisition.specimens:
                if specimen_type not in self.specimens:
                    problems.append(
                        f"acquisitions[{i}] names the unknown specimen {specimen_type!r}; "
                        f"{nearest(specimen_type, self.specimens)}"
                    )
            if acquisition.session not in self.sessions:
                problems.append(
                    f"acquisitions[{i}] names the unknown session {acquisition.session!r}; "
                    f"{nearest(acquisition.session, self.sessions)}"
                )
        if problems:
            raise ValueError("the simulation does not fit together:\n- " + "\n- ".join(problems))
        return self

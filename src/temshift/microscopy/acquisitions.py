"""What is simulated: the plan of all micrographs, one specimen, one exposure.

All random draws follow from ``simulation.seed`` and the names of what is drawn, so that adding a
specimen type or a condition leaves the others as they were.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.contract import MICROGRAPH_COLUMNS
from temshift.config.simulation import (
    ImagingParameters,
    MultisliceParameters,
    SimulationParameters,
    SpecimenParameters,
    SupportParameters,
)
from temshift.microscopy.imaging import (
    electron_counts,
    illumination,
    image_intensity,
    pixel_grid,
    record,
    resample_mask,
)
from temshift.microscopy.micrograph import Micrograph
from temshift.microscopy.multislice import ExitWave, exit_wave
from temshift.microscopy.specimens import build_specimen
from temshift.parallel import available_cores, map_ordered

__all__ = [
    "PLAN_COLUMNS",
    "Exposures",
    "expose",
    "plan",
    "simulate_specimen",
    "simulate_specimens",
    "specimen_ids",
    "stable_seed",
]

#: Columns of the plan beyond those of the micrograph table.
PLAN_COLUMNS = ("specimen_type", "exposure_seed", "unevenness")


def stable_seed(seed: int, *names: str) -> int:
    """Return a 32-bit seed that depends on ``seed`` and on every name, and on nothing else."""
    words = [zlib.crc32(name.encode()) for name in names]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0])


def plan(parameters: SimulationParameters) -> pd.DataFrame:
    """Return one row for each micrograph to be made.

    Returns
    -------
    DataFrame
        The columns of the micrograph table (``sha256`` empty) and :data:`PLAN_COLUMNS`.

    Raises
    ------
    ValueError
        If two acquisitions are the same.
    """
    rows = []
    for acquisition in parameters.acquisitions:
        session = parameters.sessions[acquisition.session]
        dose, pixel_size_nm = acquisition.dose_e_per_A2, acquisition.pixel_size_nm
        for specimen_type in acquisition.specimens:
            specimen = parameters.specimens[specimen_type]
            for specimen_id in specimen_ids(specimen_type, parameters.fields):
                defocus_A = acquisition.defocus_A
                if defocus_A is None:  # one draw a specimen: its conditions differ in nothing else
                    seed = stable_seed(parameters.seed, specimen_id, "defocus")
                    defocus_A = np.random.default_rng(seed).normal(
                        parameters.imaging.defocus_A, parameters.imaging.defocus_spread_A
                    )
                name = f"{specimen_id}_{dose:g}e_{1000 * pixel_size_nm:g}pm"
                if acquisition.defocus_A is not None:
                    name += f"_{defocus_A:g}A"
                micrograph_id = f"{acquisition.session}/{name}"
                rows.append(
                    {
                        "micrograph_id": micrograph_id,
                        "path": f"{micrograph_id}.hspy",
                        "label_path": f"{micrograph_id}_label.png",
                        "specimen_id": specimen_id,
                        "material": specimen.material,
                        "diameter_nm": specimen.diameter_nm,
                        "shape": specimen.shape,
                        "support": specimen.support,
                        "instrument": session.instrument,
                        "session": acquisition.session,
                        "dose_e_per_A2": dose,
                        "pixel_size_nm": pixel_size_nm,
                        "defocus_A": round(float(defocus_A), 1),
                        "source": "simulated",
                        "sha256": None,
                        "specimen_type": specimen_type,
                        "exposure_seed": stable_seed(parameters.seed, micrograph_id),
                        "unevenness": session.unevenness,
                    }
                )
    table = pd.DataFrame(rows, columns=[*MICROGRAPH_COLUMNS, *PLAN_COLUMNS])
    repeated = table.loc[table["micrograph_id"].duplicated(), "micrograph_id"].tolist()
    if repeated:
        raise ValueError(
            "two entries of simulation.acquisitions make the same micrographs "
            f"({', '.join(repeated[:3])}{' ...' if len(repeated) > 3 else ''}): remove one"
        )
    return table


def simulate_specimen(
    specimen: SpecimenParameters,
    support: SupportParameters,
    multislice: MultisliceParameters,
    field_width_nm: float,
    seed: int,
) -> ExitWave:
    """Build one specimen and compute its exit wave.

    Parameters
    ----------
    specimen, support, multislice : SpecimenParameters, SupportParameters, MultisliceParameters
    field_width_nm : float
        Of specimens that have none of their own; ``multislice.grid_px`` belongs to it.
    seed : int
    """
    width_nm = specimen.field_width_nm or field_width_nm
    atoms = build_specimen(
        specimen,
        support,
        thermal_displacement_A=multislice.thermal_displacement_A,
        width_A=10 * width_nm,
        seed=seed,
    )
    return exit_wave(
        atoms,
        energy_eV=multislice.energy_eV,
        grid_px=round(multislice.grid_px * width_nm / field_width_nm),
        slice_thickness_A=multislice.slice_thickness_A,
        film_slice_thickness_A=multislice.film_slice_thickness_A,
    )


def specimen_ids(specimen_type: str, fields: int) -> list[str]:
    """Return the names of the specimens of one type."""
    return [f"{specimen_type}_{field:02d}" for field in range(fields)]


def simulate_specimens(
    specimen_type: str,
    specimen: SpecimenParameters,
    support: SupportParameters,
    multislice: MultisliceParameters,
    field_width_nm: float,
    fields: int,
    seed: int,
) -> Iterator[tuple[str, ExitWave]]:
    """Simulate all specimens of one type, one on each core.

    What they are does not depend on how they will be imaged, nor on other types.

    Yields
    ------
    specimen_id : str
    exit_wave : ExitWave
    """
    names = specimen_ids(specimen_type, fields)

    def simulate(name: str) -> ExitWave:
        return simulate_specimen(
            specimen, support, multislice, field_width_nm, stable_seed(seed, name)
        )

    waves = map_ordered(simulate, names, available_cores(), f"specimens {specimen_type}")
    yield from zip(names, waves, strict=True)


def expose(
    exit_wave: ExitWave, row: dict[str, Any], imaging: ImagingParameters
) -> tuple[Micrograph, NDArray[np.uint8]]:
    """Take one micrograph of a specimen.

    Parameters
    ----------
    exit_wave : ExitWave
    row : dict
        A row of :func:`plan`.
    imaging : ImagingParameters

    Returns
    -------
    micrograph : Micrograph
        uint16 counts; its pixel size is exact (the field is a whole number of pixels wide), the
        table's is nominal.
    label : ndarray, shape (H, W), uint8
        1 where a particle is.
    """
    rng = np.random.default_rng(int(row["exposure_seed"]))
    intensity = image_intensity(
        exit_wave,
        defocus_A=row["defocus_A"],
        Cs_A=imaging.Cs_A,
        focal_spread_A=imaging.focal_spread_A,
        vibration_A=imaging.vibration_A,
        absorption=imaging.absorption,
        contrast_factor=imaging.contrast_factor,
    )
    electrons = electron_counts(
        intensity,
        width_A=exit_wave.width_A,
        pixel_size_nm=row["pixel_size_nm"],
        dose_e_per_A2=row["dose_e_per_A2"],
    )
    shape_px, exact_nm = pixel_grid(exit_wave.width_A, row["pixel_size_nm"])
    counts = record(
        electrons * illumination(shape_px, row["unevenness"], rng),
        rng,
        mtf=imaging.mtf,
        mtf_width=imaging.mtf_width,
        ntf_width=imaging.ntf_width,
        counts_per_electron=imaging.counts_per_electron,
        offset_counts=imaging.offset_counts,
        readout_noise_counts=imaging.readout_noise_counts,
        xray_per_Mpx=imaging.xray_per_Mpx,
        xray_counts=imaging.xray_counts,
    )
    micrograph = Micrograph(
        image=counts,
        pixel_size_nm=exact_nm,
        pixel_size_source="header",
        metadata={
            "energy_eV": exit_wave.energy_eV,
            "camera": "simulated",
            **{
                key: row[key]
                for key in (
                    "dose_e_per_A2",
                    "defocus_A",
                    "instrument",
                    "session",
                    "specimen_id",
                    "material",
                    "support",
                )
            },
        },
    )
    return micrograph, resample_mask(exit_wave.mask, shape_px)


class Exposures:
    """All micrographs of a plan, taken while they are iterated over, one on each core.

    Iterating gives ``(path, Micrograph, label)`` in the order of the plan.

    Parameters
    ----------
    table : DataFrame
        A :func:`plan`.
    exit_waves : mapping of str to (mapping of str to ExitWave)
        By specimen type and ``specimen_id``.
    parameters : SimulationParameters
    """

    def __init__(
        self,
        table: pd.DataFrame,
        exit_waves: Mapping[str, Mapping[str, ExitWave]],
        parameters: SimulationParameters,
    ) -> None:
        self.table = table
        self.exit_waves = exit_waves
        self.parameters = parameters

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[tuple[str, Micrograph, NDArray[np.uint8]]]:
        rows: list[dict[str, Any]] = self.table.to_dict("records")  # type: ignore[assignment]
        taken = map_ordered(self._expose, rows, available_cores())
        for row, (micrograph, label) in zip(rows, taken, strict=True):
            yield row["path"], micrograph, label

    def _expose(self, row: dict[str, Any]) -> tuple[Micrograph, NDArray[np.uint8]]:
        exit_wave = self.exit_waves[row["specimen_type"]][row["specimen_id"]]
        return expose(exit_wave, row, self.parameters.imaging)

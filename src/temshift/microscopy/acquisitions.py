"""What is simulated: the plan of all micrographs, one specimen, one exposure.

All random draws follow from ``simulation.seed`` and the names of what is drawn, so that adding a
specimen type or a condition leaves the others as they were.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from temshift.config import MICROGRAPH_COLUMNS
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
from temshift.microscopy.simulation_parameters import SimulationParameters
from temshift.microscopy.specimens import build_specimen

__all__ = [
    "PLAN_COLUMNS",
    "Exposures",
    "expose",
    "plan",
    "simulate_specimen",
    "simulate_specimens",
    "stable_seed",
]

#: Columns of the plan beyond those of the micrograph table.
PLAN_COLUMNS = ("specimen_type", "specimen_seed", "exposure_seed", "unevenness")


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
            for field in range(parameters.fields):
                specimen_id = f"{specimen_type}_{field:02d}"
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
                        "specimen_seed": stable_seed(parameters.seed, specimen_id),
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


def simulate_specimen(parameters: SimulationParameters, specimen_type: str, seed: int) -> ExitWave:
    """Build one specimen and compute its exit wave."""
    specimen = parameters.specimens[specimen_type]
    support = parameters.supports[specimen.support]
    atoms = build_specimen(
        material=specimen.material,
        diameter_A=10 * specimen.diameter_nm,
        diameter_spread_A=10 * specimen.diameter_spread_nm,
        aspect_ratio=specimen.aspect_ratio,
        height_ratio=specimen.height_ratio,
        particles=specimen.particles,
        touching=specimen.touching,
        twinned=specimen.twinned,
        composition=support.composition,
        atoms_per_A3=support.atoms_per_A3,
        thickness_A=10 * support.thickness_nm,
        roughness_A=10 * support.roughness_nm,
        roughness_length_A=10 * support.roughness_length_nm,
        thermal_displacement_A=parameters.multislice.thermal_displacement_A,
        width_A=10 * parameters.field_width_nm,
        seed=seed,
    )
    return exit_wave(
        atoms,
        energy_eV=parameters.multislice.energy_eV,
        grid_px=parameters.multislice.grid_px,
        slice_thickness_A=parameters.multislice.slice_thickness_A,
    )


def simulate_specimens(
    table: pd.DataFrame, parameters: SimulationParameters, specimen_type: str
) -> Iterator[tuple[str, ExitWave]]:
    """Simulate all specimens of one type, ``workers`` at a time in threads.

    Parameters
    ----------
    table : DataFrame
        A :func:`plan`.
    parameters : SimulationParameters
    specimen_type : str

    Yields
    ------
    specimen_id : str
    exit_wave : ExitWave
    """
    rows = table[table["specimen_type"] == specimen_type].drop_duplicates("specimen_id")
    seeds = dict(zip(rows["specimen_id"], map(int, rows["specimen_seed"]), strict=True))

    def simulate(seed: int) -> ExitWave:
        return simulate_specimen(parameters, specimen_type, seed)

    with ThreadPoolExecutor(parameters.workers) as pool:
        waves = pool.map(simulate, seeds.values())
        progress = tqdm(waves, total=len(seeds), desc=f"specimens {specimen_type}")
        yield from zip(seeds, progress, strict=True)


def expose(
    exit_wave: ExitWave, row: dict[str, Any], parameters: SimulationParameters
) -> tuple[Micrograph, NDArray[np.uint8]]:
    """Take one micrograph of a specimen.

    Parameters
    ----------
    exit_wave : ExitWave
    row : dict
        A row of :func:`plan`.
    parameters : SimulationParameters

    Returns
    -------
    micrograph : Micrograph
        uint16 counts; its pixel size is exact (the field is a whole number of pixels wide), the
        table's is nominal.
    label : ndarray, shape (H, W), uint8
        1 where a particle is.
    """
    imaging = parameters.imaging
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
    """All micrographs of a plan, taken one at a time while they are iterated over.

    Iterating gives ``(path, Micrograph, label)``, specimen by specimen.

    Parameters
    ----------
    table : DataFrame
        A :func:`plan`.
    exit_waves : mapping of str to (mapping of str to ExitWave)
        By specimen type and ``specimen_id``; each is looked up once.
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
        specimens = self.table.groupby(["specimen_type", "specimen_id"], sort=False)
        for (specimen_type, specimen_id), rows in specimens:
            exit_wave = self.exit_waves[specimen_type][specimen_id]
            for row in rows.to_dict("records"):
                yield row["path"], *expose(exit_wave, row, self.parameters)

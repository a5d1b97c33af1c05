"""Write the small examples of the tutorials: ``python -m temshift.example FOLDER``.

Three simulated micrographs with their pixel size, and where the particles are; with ``--labelled``
micrographs, masks and a metadata table for a whole study. Both take seconds.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from temshift.microscopy.randomised import Condition, RandomField

__all__ = ["main", "write_example", "write_labelled_example"]

_log = logging.getLogger(__name__)

_PIXEL_SIZE_NM, _WIDTH_NM, _GRID_PX, _SEED = 0.03, 14.0, 420, 3

#: Dose in e/Å² and whether there are particles, by the name of the micrograph.
_MICROGRAPHS = {"gold": (600.0, True), "gold_low_dose": (60.0, True), "bare_film": (600.0, False)}

#: Of the labelled example: its samples, and the doses at which each is imaged, in e/Å².
_SAMPLES, _DOSES_E_PER_A2 = 6, (1500.0, 40.0)


def write_example(folder: str | Path) -> list[Path]:
    """Write three simulated micrographs of one specimen, and masks of two of them.

    Gold of 4 nm on carbon, 0.03 nm a pixel, at 600 and at 60 e/Å², and a film without particles,
    as TIFF calibrated in nm. Masks: the true one of each micrograph with particles and, of the
    first, the same moved by 3 nm, as if an image and a mask had been mixed up.

    Parameters
    ----------
    folder : path
        Becomes ``micrographs/*.tif`` and ``masks/*.png``; files of these names are written anew.

    Returns
    -------
    list of Path
        The files.
    """
    from dataclasses import replace

    from temshift.microscopy.randomised import simulate_field, take

    micrographs, masks = Path(folder) / "micrographs", Path(folder) / "masks"
    waves = {there: simulate_field(_field("example", _SEED, there)) for there in (True, False)}
    drawn = _microscope()
    written = []
    for name, (dose_e_per_A2, there) in _MICROGRAPHS.items():
        condition = replace(drawn, dose_e_per_A2=dose_e_per_A2)
        image, label, pixel_size_nm = take(waves[there], condition)
        written.append(_write_micrograph(micrographs / f"{name}.tif", image, pixel_size_nm))
        if there:
            written.append(_write_mask(masks / f"{name}.png", label))
        if name == "gold":
            moved = np.roll(label, round(3.0 / pixel_size_nm), axis=1)
            written.append(_write_mask(masks / f"{name}_mask.png", moved))
    return written


def write_labelled_example(
    folder: str | Path, doses_e_per_A2: tuple[float, ...] = _DOSES_E_PER_A2
) -> list[Path]:
    """Write simulated micrographs of six samples at two doses, their masks and a metadata table.

    Gold of 4 nm on carbon, 0.03 nm a pixel. Every sample is imaged at each dose by the same
    microscope, so nothing but the dose differs between the doses.

    Parameters
    ----------
    folder : path
        Becomes ``table.csv``, ``*.tif`` and ``masks/*.png``; files of these names are written anew.
    doses_e_per_A2 : tuple of float
        Each sample is imaged once at each.

    Returns
    -------
    list of Path
        The files, the table last. Its columns are those that ``conf/mine`` names.
    """
    from dataclasses import replace

    import pandas as pd

    from temshift.catalog.files import atomic_path
    from temshift.microscopy.acquisitions import stable_seed
    from temshift.microscopy.randomised import simulate_field, take

    folder = Path(folder)
    drawn = _microscope()
    written: list[Path] = []
    rows: list[dict[str, object]] = []
    for number in range(_SAMPLES):
        sample = f"grid_{number + 1}"
        wave = simulate_field(_field(sample, stable_seed(_SEED, sample), True))
        for dose_e_per_A2 in doses_e_per_A2:
            name = f"{len(rows) + 1:04d}"
            seed = stable_seed(_SEED, name)
            condition = replace(drawn, dose_e_per_A2=dose_e_per_A2, seed=seed)
            image, label, pixel_size_nm = take(wave, condition)
            written.append(_write_micrograph(folder / f"{name}.tif", image, pixel_size_nm))
            written.append(_write_mask(folder / "masks" / f"{name}.png", label))
            rows.append(
                {
                    "File": f"{name}.tif",
                    "Sample": sample,
                    "Material": "Au",
                    "Date": "2024-01-15",
                    "Dose (e/A2)": f"{dose_e_per_A2:g}",
                }
            )
    with atomic_path(folder / "table.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    return [*written, folder / "table.csv"]


def _field(name: str, seed: int, particles: bool) -> RandomField:
    from temshift.config.simulation import SpecimenParameters, SupportParameters
    from temshift.microscopy.randomised import RandomField

    film = SupportParameters(composition={"C": 1}, atoms_per_A3=0.1, thickness_nm=(5.0, 5.0))
    gold = SpecimenParameters(
        material="Au", diameter_nm=4.0, support="carbon", particles=(3, 3), faceted=1.0
    )
    return RandomField(name, gold if particles else None, film, _WIDTH_NM, _GRID_PX, seed)


def _microscope() -> Condition:
    """Return a condition with a microscope and a camera as good ones are; its dose is to be set."""
    from dataclasses import replace

    from temshift.config.box import RandomExposures
    from temshift.microscopy.randomised import draw_condition

    plain = RandomExposures(uncorrected=0, bars=0, pictures=0, opaque=0)
    drawn = draw_condition(plain, 1, "example", 0)
    return replace(drawn, pixel_size_nm=_PIXEL_SIZE_NM)


def _write_micrograph(path: Path, image: NDArray[Any], pixel_size_nm: float) -> Path:
    import tifffile

    from temshift.catalog.files import atomic_path

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            image,
            imagej=True,
            resolution=(1 / pixel_size_nm, 1 / pixel_size_nm),
            resolutionunit=1,
            metadata={"unit": "nm", "axes": "YX"},
        )
    return path


def _write_mask(path: Path, label: NDArray[np.uint8]) -> Path:
    from PIL import Image

    from temshift.catalog.files import atomic_path

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        Image.fromarray(255 * label).save(temporary, format="PNG")
    return path


def main() -> None:
    """Write an example into the folder of the command line."""
    parser = argparse.ArgumentParser(prog="python -m temshift.example", description=__doc__)
    parser.add_argument("folder", help="where it goes, such as data/example")
    parser.add_argument(
        "--labelled", action="store_true", help="masks of all, and a table: for a whole study"
    )
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write = write_labelled_example if asked.labelled else write_example
    for path in write(asked.folder):
        _log.info("wrote %s", path)


if __name__ == "__main__":
    main()

"""Write the small example of the tutorial: ``python -m temshift.example FOLDER``.

Three simulated micrographs with their pixel size, and where the particles are; it takes seconds.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["main", "write_example"]

_log = logging.getLogger(__name__)

_PIXEL_SIZE_NM, _WIDTH_NM, _GRID_PX, _SEED = 0.03, 14.0, 420, 3

#: Dose in e/Å² and whether there are particles, by the name of the micrograph.
_MICROGRAPHS = {"gold": (600.0, True), "gold_low_dose": (60.0, True), "bare_film": (600.0, False)}


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

    from temshift.config.box import RandomExposures
    from temshift.config.simulation import SpecimenParameters, SupportParameters
    from temshift.microscopy.randomised import RandomField, draw_condition, simulate_field, take

    micrographs, masks = Path(folder) / "micrographs", Path(folder) / "masks"
    film = SupportParameters(composition={"C": 1}, atoms_per_A3=0.1, thickness_nm=(5.0, 5.0))
    gold = SpecimenParameters(
        material="Au", diameter_nm=4.0, support="carbon", particles=(3, 3), faceted=1.0
    )
    waves = {
        there: simulate_field(
            RandomField("example", gold if there else None, film, _WIDTH_NM, _GRID_PX, _SEED)
        )
        for there in (True, False)
    }
    plain = RandomExposures(uncorrected=0, bars=0, pictures=0, opaque=0)
    drawn = draw_condition(plain, 1, "example", 0)
    written = []
    for name, (dose_e_per_A2, there) in _MICROGRAPHS.items():
        condition = replace(drawn, pixel_size_nm=_PIXEL_SIZE_NM, dose_e_per_A2=dose_e_per_A2)
        image, label, pixel_size_nm = take(waves[there], condition)
        written.append(_write_micrograph(micrographs / f"{name}.tif", image, pixel_size_nm))
        if there:
            written.append(_write_mask(masks / f"{name}.png", label))
        if name == "gold":
            moved = np.roll(label, round(3.0 / pixel_size_nm), axis=1)
            written.append(_write_mask(masks / f"{name}_mask.png", moved))
    return written


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
    """Write the example into the folder of the command line."""
    parser = argparse.ArgumentParser(prog="python -m temshift.example", description=__doc__)
    parser.add_argument("folder", help="where it goes, such as data/example")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for path in write_example(parser.parse_args().folder):
        _log.info("wrote %s", path)


if __name__ == "__main__":
    main()

"""Both flat-field fits against the illumination that the simulation put into each micrograph.

    python benchmarks/flat_field.py [--micrographs data/01_raw/micrographs]

Reads the micrographs that ``kedro run --pipelines simulation`` wrote with the parameters as they
stand, draws the illumination of each again from its seed and prints for every condition the largest
and the root mean square deviation of the fitted from the true field, as means over micrographs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pandas as pd
import yaml

from temshift.config.simulation import SimulationParameters
from temshift.microscopy.acquisitions import plan
from temshift.microscopy.flat_field import fit_background, fit_flat_field, flat_field
from temshift.microscopy.imaging import illumination
from temshift.microscopy.xrays import remove_xrays

ROOT = Path(__file__).parents[1]
FITS = {"background": fit_background, "published": fit_flat_field}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--micrographs", type=Path, default=ROOT / "data/01_raw/micrographs")
    parser.add_argument(
        "--parameters", type=Path, default=ROOT / "conf/base/parameters_simulation.yml"
    )
    arguments = parser.parse_args()
    blocks = yaml.safe_load(arguments.parameters.read_text())
    table = plan(SimulationParameters.model_validate(blocks["simulation"]))
    condition = ["specimen_type", "dose_e_per_A2", "pixel_size_nm", "session"]
    found = []
    for row in table.to_dict("records"):
        path = arguments.micrographs / row["path"]
        if not path.exists():
            raise SystemExit(f"{path} is missing: run kedro run --pipelines simulation first")
        image = hs.load(path).data.astype(np.float32)
        remove_xrays(image, 1500)
        rng = np.random.default_rng(int(row["exposure_seed"]))
        true = illumination(image.shape[0], row["unevenness"], rng)
        for name, fit in FITS.items():
            ratio = flat_field(fit(image), image.shape) / true
            ratio /= np.median(ratio)
            found.append(
                {key: row[key] for key in condition}
                | {"fit": name, "largest": np.abs(ratio - 1).max(), "rms": ratio.std()}
            )
    mean = pd.DataFrame(found).pivot_table(
        index=condition, columns="fit", values=["largest", "rms"], aggfunc="mean"
    )
    print(mean.round(3).to_string())


if __name__ == "__main__":
    main()

"""Memory for curating and preprocessing a split of 4096 x 4096 micrographs.

    python benchmarks/preprocessing_memory.py [--count 40] [--side 4096] [--folder /tmp]

DM3 files (float32, 64 MB each, as the published ones) are written to a temporary folder, which
needs about 150 MB of disk a micrograph. A fresh process then checks them as data_curation does,
preprocesses them into a patch stack, and takes its fingerprint; after each stage the highest
resident memory so far is printed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

LIMIT_GB = 1.5


def resident_gb() -> float:
    """Return the highest resident memory of this process so far."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1e9 if sys.platform == "darwin" else 1e6 / 1.024)


def write_micrographs(folder: Path, count: int, side: int) -> None:
    """Write synthetic micrographs, masks and their table; one image, moved and brightened."""
    from benchmarks.preprocessing import synthetic_micrograph
    from PIL import Image
    from tests.dm3_writer import write_dm3

    image, label = synthetic_micrograph(side)
    rows = []
    for i in range(count):
        move = 97 * i
        write_dm3(folder / f"m{i:02d}.dm3", np.roll(image, move, axis=1) + np.float32(i), 0.02)
        mask = np.roll(label, move, axis=1) * np.uint8(255)
        Image.fromarray(mask).save(folder / f"m{i:02d}_label.png", compress_level=1)
        rows.append((f"m{i:02d}", f"m{i:02d}.dm3", f"m{i:02d}_label.png", "Au", 423.0))
    columns = ["micrograph_id", "path", "label_path", "material", "dose_e_per_A2"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "table.csv", index=False)


def work(folder: Path) -> None:
    """Curate, preprocess and describe what stands in the folder."""
    from temshift.catalog.micrographs import MicrographsDataset
    from temshift.catalog.patch_stack import PatchStackDataset
    from temshift.config.curation import CurationParameters
    from temshift.config.preprocessing import PreprocessingParameters
    from temshift.config.splits import SplitParameters
    from temshift.microscopy.fingerprints import fingerprint
    from temshift.microscopy.split_patches import patch_split
    from temshift.study import integrity, splits, tables

    curation = CurationParameters(group_by="micrograph_id")
    wanted = {"au": SplitParameters(where={"material": "Au"})}
    store = MicrographsDataset(filepath=str(folder)).load()

    start = time.perf_counter()
    table, findings = tables.standardise_table(
        pd.read_csv(folder / "table.csv", dtype=str), curation
    )
    report, measured = integrity.inspect_micrographs(table, findings, store, curation, wanted)
    accepted = integrity.accept(table, report, measured, curation, wanted, folds=5)
    micrographs = splits.select_split(accepted, "au", wanted["au"])
    now = time.perf_counter()
    print(f"  curation       {now - start:6.1f} s   at most {resident_gb():.2f} GB", flush=True)

    start, dataset = now, PatchStackDataset(filepath=str(folder / "patches.h5"))
    dataset.save(patch_split("au", micrographs, store, PreprocessingParameters()))
    now = time.perf_counter()
    print(f"  preprocessing  {now - start:6.1f} s   at most {resident_gb():.2f} GB", flush=True)

    start, stack = now, dataset.load()
    fingerprint(stack.images, stack.labels, stack.attributes["pixel_size_nm"], stack.table)
    now, peak = time.perf_counter(), resident_gb()
    print(f"  fingerprint    {now - start:6.1f} s   at most {peak:.2f} GB", flush=True)
    print(f"{len(micrographs)} micrographs, {len(stack)} patches: {peak:.2f} GB resident, "
          f"target < {LIMIT_GB} GB")  # fmt: skip
    sys.exit(peak >= LIMIT_GB)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--side", type=int, default=4096, help="px")
    parser.add_argument("--folder", type=Path, help="where there is room on disk")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        write_micrographs(Path(folder), arguments.count, arguments.side)
        child = subprocess.run([sys.executable, __file__, "--work", folder], check=False)
    sys.exit(child.returncode)


if __name__ == "__main__":
    main()

"""Loading a split for training against reading its file once.

    python benchmarks/loading.py [--patches 400] [--repeats 5]

A patch stack of 512 px patches is written to a temporary folder. ``read`` takes the whole file
into fresh memory with one ``readinto``; ``load`` opens the stack through its catalog class and
makes of it what training works with (``TrainingData``: images and labels as tensors, the median
background and some labelled pixels of each patch; on the CPU the images stay in the mapped file).
Both are run alternately, with the file in the system's cache (warm) and after it was told to forget
it (cold, as far as the file system obeys). Wall time, medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from temshift.catalog.patch_stack import PatchStackDataset
from temshift.learning.training import TrainingData
from temshift.microscopy.patches import PatchStack, PatchStream

PATCH_PX = 512


def write_stack(path: Path, n_patches: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, PATCH_PX, PATCH_PX)).astype(np.float32)
    labels = (images > 1).astype(np.uint8)
    row = {"specimen_id": "", "row": 0, "column": 0, "labelled_px": int(labels.sum()), "fold": 0}

    def parts() -> Iterator[PatchStack]:
        for i in range(n_patches):
            yield PatchStack(images, labels, pd.DataFrame([{"micrograph_id": f"m{i}", **row}]))

    PatchStackDataset(filepath=str(path)).save(PatchStream(parts(), n_patches, PATCH_PX))


def read(path: Path) -> Any:
    buffer = np.empty(path.stat().st_size, np.uint8)
    with path.open("rb", buffering=0) as file:
        at = 0
        while at < buffer.size:
            at += file.readinto(memoryview(buffer)[at:])
    return buffer


def load(path: Path) -> TrainingData:
    stack = PatchStackDataset(filepath=str(path)).load()
    return TrainingData.from_arrays([stack.images], [stack.labels], "cpu")


def forget(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def seconds(function: Callable[[Path], Any], path: Path, cold: bool) -> float:
    if cold:
        forget(path)
    start = time.perf_counter()
    function(path)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the file is written")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "patches.h5"
        write_stack(path, arguments.patches)
        print(f"{arguments.patches} patches of {PATCH_PX} px, {path.stat().st_size / 1e6:.0f} MB")
        seconds(load, path, cold=False)
        for cold in (False, True):
            times: dict[str, list[float]] = {"read": [], "load": []}
            for _ in range(arguments.repeats):
                times["read"].append(seconds(read, path, cold))
                times["load"].append(seconds(load, path, cold))
            reading, loading = (statistics.median(times[key]) for key in ("read", "load"))
            state = "cold" if cold else "warm"
            print(f"  {state}  read {reading:6.3f} s   load {loading:6.3f} s   "
                  f"load / read {loading / reading:.2f}   target <= 1")  # fmt: skip


if __name__ == "__main__":
    main()

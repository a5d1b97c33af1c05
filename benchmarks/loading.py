"""Loading a split for training against reading its file once.

    python benchmarks/loading.py [--patches 400] [--repeats 5]

A patch stack of 512 px patches is written to a temporary folder. ``read`` takes the whole file
into fresh memory with one ``readinto``; ``load`` opens the stack through its catalog class and
makes of it what training works with (``TrainingData``: images and labels as tensors, the median
background and some labelled pixels of each patch). On the CPU the images stay in the mapped file,
so ``load`` reads only part of them; ``all`` is the same and then one pass over every pixel, as the
first epoch makes it. ``two`` loads the patches from two files as one set, which copies them. All
are run alternately, with the files in the system's cache (warm) and after it was told to forget
them (cold, as far as the file system obeys). Wall time, medians.
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
    row = {
        "specimen_id": "",
        "group": "",
        "row": 0,
        "column": 0,
        "labelled_px": int(labels.sum()),
        "fold": 0,
    }

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


def load_all(path: Path) -> TrainingData:
    data = load(path)
    for image in data.images:
        image.max()
    return data


def load_two(path: Path) -> TrainingData:
    stacks = [PatchStackDataset(filepath=str(path.with_name(f"half{i}.h5"))).load() for i in (0, 1)]
    return TrainingData.from_arrays([s.images for s in stacks], [s.labels for s in stacks], "cpu")


def forget(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def seconds(function: Callable[[Path], Any], path: Path, cold: bool) -> float:
    if cold:
        for file in path.parent.glob("*.h5"):
            forget(file)
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
        for i in (0, 1):
            write_stack(path.with_name(f"half{i}.h5"), arguments.patches // 2)
        print(f"{arguments.patches} patches of {PATCH_PX} px, {path.stat().st_size / 1e6:.0f} MB")
        seconds(load, path, cold=False)
        for cold in (False, True):
            ways = {"read": read, "load": load, "all": load_all, "two": load_two}
            times: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(arguments.repeats):
                for way, function in ways.items():
                    times[way].append(seconds(function, path, cold))
            median = {way: statistics.median(t) for way, t in times.items()}
            state = "cold" if cold else "warm"
            print(f"  {state}  read {median['read']:6.3f} s  target: at most as long", *(
                f"  {way} {median[way]:6.3f} s ({median[way] / median['read']:.2f})"
                for way in ("load", "all", "two")
            ))  # fmt: skip


if __name__ == "__main__":
    main()

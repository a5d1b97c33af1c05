"""Time and memory from new micrographs to their page, with every mask judged.

    python benchmarks/deployment.py [--networks data/06_models] [--count 200] [--side 4096]

Two parts, each in a fresh process: one DM3 of 4096 x 4096 px (float32, 64 MB), and ``--count``
micrographs of 1024 px (``.npy`` of uint16, each another field). Written, read, segmented, judged
and shown by what the pipeline ``deployment`` calls. Without ``--networks`` the network in the box
draws and judges; with it the networks of a study do, by the evidence beside them
(``07_model_output/trust``). CPU seconds are those of all threads: on a shared machine they say
more than the clock.
"""

from __future__ import annotations

import argparse
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import temshift  # noqa: F401  # isort: skip  (first, as in a run: threads then share a heap)

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

SECONDS, GIGABYTES, MINUTES = 60, 1.5, 10
REPORTED = (10, 50, 100, 200, 500, 1000)


def peak_gb() -> float:
    """Return the highest resident memory of this process so far."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1e9 if sys.platform == "darwin" else 1e6 / 1.024)


def resident_gb() -> float:
    """Return the resident memory of this process now; its peak where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_gb()
    return pages * resource.getpagesize() / 1e9


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def field(side: int, seed: int) -> np.ndarray:
    """Return counts: dark discs of 5 nm at 0.02 nm/px on uneven light, one in 250 px squared."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32) / (side - 1)
    expected = 170 * (1 - 0.25 * (columns - 0.4) ** 2 - 0.2 * (rows - 0.6) ** 2)
    radius = 125
    inside = np.hypot(*np.mgrid[-radius:radius, -radius:radius]) < radius
    for row, column in rng.integers(radius, side - radius, ((side // 500) ** 2, 2)):
        expected[row - radius : row + radius, column - radius : column + radius][inside] *= 0.8
    return rng.poisson(expected).astype(np.float32)


def write_input(folder: Path, side: int, count: int) -> None:
    from tests.dm3_writer import write_dm3

    (folder / "one").mkdir()
    (folder / "many").mkdir()
    write_dm3(folder / "one" / "large.dm3", field(side, 0), 0.02)
    for i in range(count):
        np.save(folder / "many" / f"m{i:04d}.npy", field(1024, 1 + i).astype(np.uint16))


def work(source: Path, networks: Path | None, place: Path) -> None:
    """Do what the pipeline does, and print time and memory."""
    began, used = time.perf_counter(), cpu_seconds()
    from temshift.api import load_networks, load_trust
    from temshift.catalog.boxed import BOX_NOTE, boxed_networks, boxed_trust
    from temshift.catalog.new_micrographs import NewMicrographsDataset
    from temshift.catalog.reports import HTMLReportDataset
    from temshift.catalog.segmentations import SegmentationsDataset
    from temshift.catalog.workbooks import WorkbookDataset
    from temshift.config.deployment import DeploymentParameters
    from temshift.config.trust import TrustParameters
    from temshift.learning.segmentation import Segmenter, plan_work
    from temshift.pipelines.deployment import nodes

    logging.disable(logging.INFO)
    parameters = DeploymentParameters(pixel_size_nm=0.02)
    if networks:
        sets = load_networks(networks)
        evidence = networks.parent / "07_model_output" / "trust"
        trust = load_trust(evidence, sets) if evidence.exists() else None
        segmenter = Segmenter(sets, parameters, trust)
    else:
        segmenter = Segmenter(boxed_networks(), parameters, boxed_trust(), notes=[BOX_NOTE])
    if segmenter.trust is None:
        print("  nothing is judged: there is no evidence beside the networks")
    plan = plan_work(NewMicrographsDataset(filepath=str(source)).load(), segmenter)
    print(f"  {'ready':14} {time.perf_counter() - began:7.1f} s, {cpu_seconds() - used:7.1f} s of "
          f"CPU, {resident_gb():.2f} GB", flush=True)  # fmt: skip

    memory: dict[int, float] = {}

    class Watched:
        """The plan, with the memory noted as it goes."""

        def __len__(self) -> int:
            return len(plan)

        def __iter__(self) -> Iterator[Any]:
            for done, item in enumerate(plan):
                if done in REPORTED:
                    memory[done] = resident_gb()
                yield item
            memory[len(plan)] = resident_gb()

    segmentations = SegmentationsDataset(filepath=str(place / "masks"))
    segmentations.save(Watched())
    store = segmentations.load()
    print(f"  {'masks':14} {time.perf_counter() - began:7.1f} s, {cpu_seconds() - used:7.1f} s of "
          f"CPU, {resident_gb():.2f} GB", flush=True)  # fmt: skip
    *_, book = nodes.summarise(store, parameters)
    WorkbookDataset(filepath=str(place / "sizes.xlsx")).save(book)
    page = nodes.write_page(store, parameters, TrustParameters())
    HTMLReportDataset(filepath=str(place / "micrographs.html")).save(page)
    wall, cpu, n = time.perf_counter() - began, cpu_seconds() - used, len(plan)
    failed = sum(bool(r.get("failed")) for r in store.results())
    print(f"  {'page':14} {wall:7.1f} s, {cpu:7.1f} s of CPU, at most {peak_gb():.2f} GB; "
          f"{len(page) / 1e6:.1f} MB")  # fmt: skip
    if n > 1:
        shown = ", ".join(f"{gb:.2f} after {done}" for done, gb in memory.items())
        print(f"  resident memory, GB: {shown}")
    target = f"{SECONDS} s and {GIGABYTES} GB" if n == 1 else f"{MINUTES} minutes"
    print(f"  {n} micrographs, {failed} failed; target: less than {target} on two quiet cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=Path, help="folder 06_models of a study")
    parser.add_argument("--count", type=int, default=200, help="micrographs of 1024 px; 0: none")
    parser.add_argument("--side", type=int, default=4096, help="of the DM3, px; 0: none")
    parser.add_argument("--work", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work[0], arguments.networks, arguments.work[1])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_input(folder, arguments.side or 256, arguments.count)
        sources = [
            ("one", arguments.side, f"a DM3 of {arguments.side} x {arguments.side} px"),
            ("many", arguments.count, f"{arguments.count} micrographs of 1024 x 1024 px"),
        ]
        for source, wanted, title in sources:
            if not wanted:
                continue
            print(title, flush=True)
            command = [
                sys.executable,
                __file__,
                "--work",
                folder / source,
                folder / f"{source}_out",
            ]
            if arguments.networks:
                command += ["--networks", arguments.networks.resolve()]
            subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()

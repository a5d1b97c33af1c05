"""Start-up: ``kedro registry list`` against Kedro's own start; the smoke study from end to end.

    python benchmarks/startup.py [--repeats 5]

CPU time of the process and its children (wall time says little on a shared machine) and wall time;
Kedro's start (``kedro --version``) and the list alternately, lower quartiles. The smoke study
(``kedro run --env smoke``) is run once, in a project folder of its own.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]


def seconds(*arguments: str, folder: Path = ROOT) -> tuple[float, float]:
    """CPU and wall time of a kedro command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "kedro", *arguments], cwd=folder, check=True, capture_output=True
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime), wall


def smoke() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copytree(ROOT / "conf", folder / "conf")
        for name in ("pyproject.toml", ".telemetry"):
            shutil.copy(ROOT / name, folder / name)
        (folder / "src").mkdir()  # the package is installed; Kedro only wants the folder
        return seconds("run", "--env", "smoke", folder=folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    bare, listed = [], []
    for _ in range(repeats):
        bare.append(seconds("--version"))
        listed.append(seconds("registry", "list"))
    a, b = (np.quantile(t, 0.25, axis=0) for t in (bare, listed))
    print(
        f"kedro --version {a[0]:.2f} s, kedro registry list {b[0]:.2f} s of CPU time, ratio "
        f"{b[0] / a[0]:.2f}; wall {a[1]:.2f} and {b[1]:.2f} s; target: registry list < 3 s"
    )
    cpu, wall = smoke()
    print(f"kedro run --env smoke: {wall:.0f} s, {cpu:.0f} s of CPU time; target < 60 s")


if __name__ == "__main__":
    main()

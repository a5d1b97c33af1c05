"""Start-up: ``kedro registry list`` against Kedro's own start (``kedro --version``).

    python benchmarks/startup.py [--repeats 5]

CPU time of the process and its children (wall time says little on a shared machine), alternately;
lower quartiles.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]


def cpu_seconds(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "kedro", *arguments], cwd=ROOT, check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    bare, listed = [], []
    for _ in range(repeats):
        bare.append(cpu_seconds("--version"))
        listed.append(cpu_seconds("registry", "list"))
    a, b = (float(np.quantile(t, 0.25)) for t in (bare, listed))
    print(
        f"kedro --version {a:.2f} s, kedro registry list {b:.2f} s (CPU time), ratio {b / a:.2f}; "
        "target: registry list < 3 s"
    )


if __name__ == "__main__":
    main()

"""Two workers of one core against one worker of one core, on the same study, alternately.

    python benchmarks/cluster.py [--env smoke] [--params ...] [--repeats 1] [--logs FOLDER]

Wall time from the start of ``kedro run`` to its end, and the CPU time of all its processes, which
tells whether two at once cost more than one after another; the results must be the same byte for
byte. ``--env base`` is the default study and takes two hours; ``--params`` as for ``kedro run``
make it smaller. ``--logs`` keeps what the runs wrote. Nothing else should be running.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from kill import project, tables  # type: ignore[import-not-found]


def cpu_s() -> float:
    """Return the CPU time of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(folder: Path, env: str, workers: int, params: str, log: Path) -> tuple[float, float]:
    """Return the seconds that the whole study takes, by the clock and of CPU time."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    conf = folder / "conf" / (env if env != "base" else "cluster")
    (conf / "cluster.yml").write_text(yaml.safe_dump({"workers": workers}))
    begin, cpu_before = time.perf_counter(), cpu_s()
    with log.open("w") as out:
        subprocess.run(
            [sys.executable, "-m", "kedro", "run", "--env", conf.name]
            + (["--params", params] if params else []),
            cwd=folder,
            env={**os.environ, "TEMSHIFT_CORES": "1", "CUDA_VISIBLE_DEVICES": ""},
            check=True,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    return time.perf_counter() - begin, cpu_s() - cpu_before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="smoke")
    parser.add_argument("--params", default="")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--logs", type=Path, help="an existing folder")
    options = parser.parse_args()
    study = f"{options.env} {options.params}".rstrip()
    seconds: dict[int, list[tuple[float, float]]] = {2: [], 1: []}
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = project(Path(name) / "project")
        for repeat in range(options.repeats):
            for workers, times in seconds.items():
                log = (options.logs or Path(name)) / f"workers-{workers}-{repeat}.log"
                times.append(run(folder, options.env, workers, options.params, log))
                found[workers] = tables(folder)
                clock, cpu = times[-1]
                print(f"{workers} workers: {clock:.0f} s, {cpu:.0f} s of CPU time", flush=True)
    one, two = (float(np.median([clock for clock, _ in seconds[n]])) for n in (1, 2))
    same = "the same" if found[1] == found[2] else "DIFFERENT"
    print(f"study {study}: one worker {one:.0f} s, two {two:.0f} s, ratio {one / two:.2f}, "
          f"target >= 1.7 (default study); {len(found[1])} results, {same}")  # fmt: skip


if __name__ == "__main__":
    main()

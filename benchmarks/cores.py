"""How much faster four cores run a study than two, by accounting on any machine.

    python benchmarks/cores.py [--env base] [--params ...] [--keep FOLDER]

The study runs once with four threads of work (``TEMSHIFT_CORES=4``). Many times a second the
threads that want a core are counted, and the CPU time that all of them have had since. Work that
r threads do at a time takes 1 / min(r, n) of its CPU time on n cores; what no thread works on
(the disk) takes as long as it takes. That cores share a memory is not accounted for.
``--env base`` is the default study: twenty minutes and more. ``--keep`` runs it in a new folder
that stays, to be looked at.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from kill import project  # type: ignore[import-not-found]

CORES = (1, 2, 4)
_STEP_S = 0.05

#: Else a study starts no more threads than there are cores here.
_WITH_MORE_CORES = """
import os, runpy, sys
os.sched_getaffinity = lambda process: set(range({cores}))
sys.argv = {words}
runpy.run_module("kedro", run_name="__main__")
"""


def running(process: psutil.Process) -> tuple[int, float]:
    """Return how many threads of a process and its children want a core, and their CPU seconds."""
    wanted, cpu_s = 0, 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            for stat in Path(f"/proc/{one.pid}/task").glob("*/stat"):
                wanted += stat.read_text().rpartition(")")[2].split()[0] == "R"
            times = one.cpu_times()
        except (OSError, psutil.Error):  # it has ended
            continue
        cpu_s += times.user + times.system
    return wanted, cpu_s


def account(samples: list[tuple[int, float, float]], cores: int) -> float:
    """Return the seconds that the work of the samples takes on so many cores.

    Parameters
    ----------
    samples : list of (int, float, float)
        Threads that wanted a core, CPU seconds and wall seconds of each step.
    cores : int

    Examples
    --------
    >>> account([(4, 2.0, 1.0), (1, 1.0, 1.0), (0, 0.0, 0.5)], 2)
    2.5
    """
    return sum(
        cpu_s / min(max(wanted, 1), cores) if cpu_s else (0.0 if wanted else wall_s)
        for wanted, cpu_s, wall_s in samples
    )


def measure(folder: Path, env: str, params: str = "") -> list[tuple[int, float, float]]:
    """Run the study and return its samples."""
    words = ["kedro", "run", *(["--env", env] if env != "base" else [])]
    words += ["--params", params] if params else []
    command = [sys.executable, "-c", _WITH_MORE_CORES.format(cores=max(CORES), words=words)]
    environment = {**os.environ, "TEMSHIFT_CORES": str(max(CORES)), "CUDA_VISIBLE_DEVICES": ""}
    with (folder / "run.log").open("w") as log:
        run = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        process = psutil.Process(run.pid)
        samples, before, begin = [], 0.0, time.perf_counter()
        while run.poll() is None:
            wanted, cpu_s = running(process)
            now = time.perf_counter()
            samples.append((wanted, max(0.0, cpu_s - before), now - begin))
            before, begin = max(before, cpu_s), now
            time.sleep(_STEP_S)
    if run.returncode:
        raise SystemExit((folder / "run.log").read_text()[-3000:])
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="base")
    parser.add_argument("--params", default="", help="as for kedro run, to make it smaller")
    parser.add_argument("--keep", type=Path, help="new folder for the study and its log")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        samples = measure(
            project(options.keep or Path(name) / "project"), options.env, options.params
        )
    one, two, four = (account(samples, cores) for cores in CORES)
    study = f"{options.env} {options.params}".strip()
    print(
        f"study {study}: {sum(s[1] for s in samples):.0f} CPU s; accounted for one core "
        f"{one:.0f} s, two {two:.0f} s, four {four:.0f} s; four against two {two / four:.2f}, "
        "target >= 1.7 (default study)"
    )


if __name__ == "__main__":
    main()

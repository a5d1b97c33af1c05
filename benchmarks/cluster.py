"""Two workers of one core against one worker of one core, on the same study, alternately.

    python benchmarks/cluster.py [--env smoke] [--params ...] [--repeats 1]

Wall time from the start of ``kedro run`` to its end; the results must be the same byte for byte.
``--env base`` is the default study and takes hours; ``--params`` as for ``kedro run`` make it
smaller. Nothing else should be running.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from kill import project, tables  # type: ignore[import-not-found]


def run(folder: Path, env: str, workers: int, params: str = "") -> float:
    """Return the seconds that the whole study takes."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    conf = folder / "conf" / (env if env != "base" else "cluster")
    (conf / "cluster.yml").write_text(yaml.safe_dump({"workers": workers}))
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "kedro", "run", "--env", conf.name]
        + (["--params", params] if params else []),
        cwd=folder,
        env={**os.environ, "TEMSHIFT_CORES": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="smoke")
    parser.add_argument("--params", default="")
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    seconds: dict[int, list[float]] = {1: [], 2: []}
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = project(Path(name) / "project")
        for _ in range(options.repeats):
            for workers, times in seconds.items():
                times.append(run(folder, options.env, workers, options.params))
                found[workers] = tables(folder)
    one, two = (float(np.median(times)) for times in seconds.values())
    same = "the same" if found[1] == found[2] else "DIFFERENT"
    study = f"{options.env} {options.params}".rstrip()
    print(f"study {study}: one worker {one:.0f} s, two {two:.0f} s, ratio {one / two:.2f}, "
          f"target >= 1.7 (default study); {len(found[1])} results, {same}")  # fmt: skip


if __name__ == "__main__":
    main()

"""kill -9 at random moments of the smoke study; resumed, the results must be those of another run.

    python benchmarks/kill.py --kills 20

A moment is a number of nodes done and a time after that, both drawn at random; each run goes on
where the one before was killed, the last one to the end.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "kedro", "run", "--env", "smoke"]
#: The report itself says when it was written; what it says else is in results.json.
TABLES = ("*.csv", "*.parquet", "*.safetensors", "*.h5", "*.json")


def project(folder: Path) -> Path:
    """Make a folder in which the study can be run."""
    shutil.copytree(ROOT / "conf", folder / "conf")
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "src").mkdir()
    return folder


def moments(kills: int, nodes: int, seed: int) -> list[tuple[int, float]]:
    """Draw moments: nodes begun in this or an earlier run, and seconds after that."""
    draw = random.Random(seed)
    return sorted((draw.randrange(nodes), draw.uniform(0.0, 2.0)) for _ in range(kills))


def run_until(folder: Path, begun: int, moment: tuple[int, float]) -> int:
    """Run and kill at a moment; return how many nodes have begun, in all."""
    log = folder / "info.log"
    log.unlink(missing_ok=True)
    run = subprocess.Popen(
        COMMAND,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    node, after = moment

    def begun_now() -> int:
        return begun + (
            log.read_text(encoding="utf-8").count("Running node") if log.exists() else 0
        )

    while run.poll() is None:
        if begun_now() > node:
            time.sleep(after)
            os.killpg(run.pid, signal.SIGKILL)
            break
        time.sleep(0.02)
    run.wait()
    return begun_now()


def tables(folder: Path) -> dict[str, str]:
    """Return a hash of every result; what is hidden (records, files not finished) is none."""
    data = folder / "data"
    names = {f.relative_to(data): f for kind in TABLES for f in data.rglob(kind)}
    return {
        str(name): hashlib.sha256(file.read_bytes()).hexdigest()
        for name, file in names.items()
        if not any(part.startswith(".") for part in name.parts)
    }


def left_over(folder: Path) -> list[str]:
    """Return temporary files of killed runs that are still there."""
    return [str(f.relative_to(folder)) for f in (folder / "data").rglob("*.part*")]


def killed_and_resumed(folder: Path, at: list[tuple[int, float]]) -> dict[str, str]:
    """Run the study, killing it at these moments, and then to its end; return its tables."""
    begun = 0
    for moment in at:
        begun = run_until(folder, begun, moment)
    done = subprocess.run(
        COMMAND,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return tables(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        whole = project(Path(name) / "whole")
        expected = killed_and_resumed(whole, [])
        killed = project(Path(name) / "killed")
        at = moments(options.kills, 33, options.seed)
        found = killed_and_resumed(killed, at)
        different = [f for f in {*expected, *found} if expected.get(f) != found.get(f)]
        print(f"killed {len(at)} times at (nodes begun, s after): ")
        print(" ".join(f"{node}+{after:.1f}" for node, after in at))
        print(f"{len(expected)} results, {len(different)} of them different; target 0")
        for name in different:
            print(f"different: {name}")
        print("temporary files left:", *left_over(killed))


if __name__ == "__main__":
    main()

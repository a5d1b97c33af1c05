"""Run the CPU benchmarks and write their output to docs/performance.md (``make bench``)."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "performance.md"
MARK = "<!-- below: written by benchmarks/run_all.py -->"

COMMANDS = (
    ["preprocessing.py", "--repeats", "5"],
    ["preprocessing_memory.py"],
    ["loading.py"],
    ["training.py", "--repeats", "3"],
    ["inference.py", "--repeats", "3"],
    ["startup.py"],
)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


def commit() -> str:
    """Return the commit of the code, marked ``-dirty`` if files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE.parent,
    )
    return done.stdout.strip() or "unknown"


def heading() -> str:
    """Return when, of what and on what is measured, and how busy the machine is with other work."""
    packages = ("numpy", "torch", "scipy", "scikit-image", "h5py", "kedro")
    return (
        f"Measured {time.strftime('%Y-%m-%d')} at commit {commit()} on {processor()} (load "
        f"{os.getloadavg()[0]:.1f} before the first), {platform.system()}, Python "
        f"{platform.python_version()}, {', '.join(f'{p} {version(p)}' for p in packages)}."
    )


def main() -> None:
    parts = [MARK, "", heading()]
    failed = []
    for script, *arguments in COMMANDS:
        command = " ".join(["python", f"benchmarks/{script}", *arguments])
        print(command, flush=True)
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(HERE / script), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=HERE.parent,
        )
        print(done.stdout, f"  [{time.perf_counter() - start:.0f} s]", flush=True)
        if done.returncode:
            failed.append(command)
            print(done.stderr[-2000:])
        parts += ["", f"### `{command}`", "```", done.stdout.strip(), "```"]
    text = DOCUMENT.read_text() if DOCUMENT.exists() else f"# Performance\n\n{MARK}\n"
    DOCUMENT.write_text(text.partition(MARK)[0] + "\n".join(parts) + "\n")
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()

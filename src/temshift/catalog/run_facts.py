"""When, by which code and on which machine a report is made."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kedro.io import DatasetError

from temshift.catalog.file_dataset import FileDataset
from temshift.catalog.provenance import ProvenanceStore
from temshift.parallel import available_cores
from temshift.study.run_facts import RunFacts, busy_seconds

__all__ = ["RunFactsDataset"]


class RunFactsDataset(FileDataset[None, RunFacts]):
    """What the report says of the run: looked up when it is loaded.

    What is up to date does not depend on it (``volatile``): a report is not written again because
    the date has changed. The time is that of the clock, or of ``SOURCE_DATE_EPOCH`` (seconds since
    1970), with which the same input gives the same page to the last byte.

    Parameters
    ----------
    filepath : str
        The folder of provenance records, which hold when steps began and ended.
    results : list of str
        Datasets; the steps behind them count.
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    volatile = True

    def __init__(
        self, filepath: str, results: list[str], metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath, metadata)
        self._results = results

    def load(self) -> RunFacts:
        """Return what is known of the run."""
        import temshift

        records = ProvenanceStore(Path(self._filepath)).behind(self._results)
        timed = [(r["began"], r["ended"]) for r in records if "began" in r and "ended" in r]
        commit, modified = _commit(Path(temshift.__file__).parent)
        now = float(os.environ.get("SOURCE_DATE_EPOCH") or datetime.now(UTC).timestamp())
        return RunFacts(
            written=_iso(now),
            commit=commit,
            modified=modified,
            machine=_machine(),
            began=_iso(min(began for began, _ in timed)) if timed else "",
            ended=_iso(max(ended for _, ended in timed)) if timed else "",
            busy_s=busy_seconds(timed),
            timed_steps=len(timed),
            steps=len(records),
        )

    def save(self, data: None) -> None:
        """Refuse: these are facts."""
        raise DatasetError("the facts of a run are looked up, not saved")

    def _exists(self) -> bool:
        return True

    def content_paths(self) -> list[Path]:
        """Return nothing: they are in no file."""
        return []

    def places(self) -> list[Path]:
        """Return the folder of the records."""
        return [Path(self._filepath)]

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "results": self._results}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _commit(folder: Path) -> tuple[str, bool]:
    """Return the commit of the code and whether it was modified; empty if it is in no repository.

    A package that only lies inside of another project's repository is not of its commit.
    """
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return "", False
    commit = _git(folder, "rev-parse", "HEAD") or ""
    return commit, bool(_git(folder, "status", "--porcelain", "--", "."))


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git says; ``None`` if there is no git, or it says no."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _machine() -> list[str]:
    cores = available_cores()
    known = [f"{platform.system()} {platform.machine()}", _processor()]
    known.append(f"{cores} core{'s' if cores > 1 else ''}")
    if memory := _memory_GB():
        known.append(f"{memory:.0f} GB memory")
    return [part for part in (*known, *_graphics()) if part]


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if file.is_file():
        for line in file.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor()


def _memory_GB() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):  # not on every system
        return None


def _graphics() -> list[str]:
    """Return the names of NVIDIA's processors, as their driver tells them (Linux)."""
    names = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in file.read_text(errors="replace").splitlines():
            if line.startswith("Model"):
                names.append(" ".join(line.partition(":")[2].split()))
    return names

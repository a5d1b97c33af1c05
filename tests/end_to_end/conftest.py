"""A project folder of its own, in which the smoke environment is run once for all tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def ran(output: str) -> list[str]:
    """Return the steps that were run to their ends, as the console tells them, without owner."""
    return re.findall(r"(?m)^\S+ INFO +\d+/\d+  (?:\S+ +)+?(\S+) +\d[\d.]* (?:s|min|h)\b", output)


class Project:
    """A copy of the project's configuration in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "conf", folder / "conf")
        shutil.copytree(ROOT / "notebooks", folder / "notebooks")
        for name in ("pyproject.toml", ".telemetry"):
            shutil.copy(ROOT / name, folder / name)
        (folder / "src").mkdir()  # the package is installed; Kedro only wants the folder

    @property
    def data(self) -> Path:
        return self.folder / "data" / "smoke"

    def kedro(self, *arguments: str, fails: bool = False, source: Path | None = None) -> str:
        """Run a kedro command here, with other sources if asked; return what it printed."""
        environment = {**os.environ, **({"PYTHONPATH": str(source)} if source else {})}
        done = subprocess.run(
            [sys.executable, "-m", "kedro", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output[-6000:]
        return output

    def run(self, *arguments: str, fails: bool = False, source: Path | None = None) -> str:
        return self.kedro("run", "--env", "smoke", *arguments, fails=fails, source=source)

    def log(self) -> str:
        """Return what info.log holds: also when each step began, and why."""
        return (self.folder / "info.log").read_text(encoding="utf-8")

    def tables(self) -> dict[str, bytes]:
        """Return the bytes of every table and of every network."""
        return tables_of(self.data)


def tables_of(data: Path) -> dict[str, bytes]:
    """Return the bytes of every table and of every network in a folder of data."""
    kinds = ("*.csv", "*.parquet", "*.safetensors", "results.json", "fingerprint.json")
    files = (f for kind in kinds for f in data.rglob(kind))
    return {str(f.relative_to(data)): f.read_bytes() for f in files}


def differing(first: dict[str, bytes], second: dict[str, bytes]) -> list[str]:
    """Return the names of the files that are not alike: pytest need not show their bytes."""
    return sorted(f for f in {*first, *second} if first.get(f) != second.get(f))


def copy_of(project: Project, folder: Path) -> Project:
    """Return another project with the same data."""
    other = Project(folder)
    shutil.copytree(project.folder / "data", other.folder / "data", dirs_exist_ok=True)
    return other


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after one complete run of the smoke environment, which no test changes."""
    project = Project(tmp_path_factory.mktemp("pristine"))
    project.run()
    return project


@pytest.fixture(scope="session")
def smoke(pristine: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of it, whose parameters and data the tests of one file change one after the other."""
    return copy_of(pristine, tmp_path_factory.mktemp("project"))


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    """A project in which nothing has been run."""
    return Project(tmp_path)

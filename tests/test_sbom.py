"""``make sbom``: the bill of materials has what the lock file pins, the table what is installed."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    out = tmp_path_factory.mktemp("lists of packages")
    there = {f.name for f in Path(sys.executable).parent.iterdir()}
    if not {"cyclonedx-py", "pip-licenses"} <= there:
        pytest.skip("cyclonedx-bom and pip-licenses are not installed beside this Python")
    offline = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
    done = subprocess.run(
        [
            *(make, "sbom", f"VENV={sys.prefix}", f"LISTS={out}"),
            *("--assume-old", f"{sys.prefix}/.installed"),  # nothing is installed by a test
        ],
        cwd=ROOT,
        env=os.environ | offline,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_bill_of_materials_has_every_line_of_the_lock_file(lists):
    bill = json.loads((lists / "sbom.cdx.json").read_text(encoding="utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "temshift"
    found = sorted((plain(c["name"]), c["version"]) for c in bill["components"])
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = [line.split(" ;")[0].split("==") for line in lines if line.strip()]
    assert found == sorted((plain(name), version) for name, version in pinned)
    assert all(c["purl"].startswith("pkg:pypi/") for c in bill["components"])
    assert "timestamp" not in bill["metadata"]  # the same lock file, the same bytes
    assert "serialNumber" not in bill


def test_the_table_of_licences_has_every_installed_package(lists):
    lines = (lists / "licences.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    licences = {plain(row[0]): row[2] for row in rows}
    # of this Python's environment only: tests may see more, by PYTHONPATH
    installed = {plain(d.metadata["Name"]) for d in distributions() if _is_inside(d)}
    assert installed <= set(licences)
    assert licences["temshift"] == "GPL-3.0-or-later"
    assert "BSD" in licences["numpy"]
    assert all(licences.values())


def _is_inside(distribution):
    return Path(str(distribution.locate_file(""))).resolve().is_relative_to(Path(sys.prefix))

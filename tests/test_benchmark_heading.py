"""What stands above the figures of ``make bench``: of which code and on what machine they are."""

import re
import subprocess
from pathlib import Path

from tests.scripts import load_script

ROOT = Path(__file__).parents[1]


def test_the_heading_names_commit_machine_and_load(monkeypatch):
    script = load_script("benchmarks/run_all.py")
    monkeypatch.setattr(script, "processor", lambda: "a processor, 3 cores")
    monkeypatch.setattr(script, "commit", lambda: "0123abc-dirty")
    heading = script.heading()
    assert "at commit 0123abc-dirty on a processor, 3 cores (load " in heading
    assert re.search(r"numpy \d+\.", heading)


def test_changed_code_is_not_passed_off_as_a_commit(tmp_path, monkeypatch):
    script = load_script("benchmarks/run_all.py")
    (tmp_path / "benchmarks").mkdir()
    monkeypatch.setattr(script, "HERE", tmp_path / "benchmarks")
    assert script.commit() == "unknown"

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    clean = script.commit()
    assert re.fullmatch(r"[0-9a-f]{7,}", clean)
    (tmp_path / "code.py").write_text("2")
    assert script.commit() == f"{clean}-dirty"


def test_the_page_names_the_commit():
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    assert re.search(r"(?m)^Measured \d{4}-\d\d-\d\d at commit [0-9a-f]{7}", page)

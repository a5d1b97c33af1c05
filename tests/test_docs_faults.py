"""Each row of docs/faults.md has its test, and it is there."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
ROWS = [
    line.strip("|").split("|")
    for line in (TESTS.parent / "docs" / "faults.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "---" not in line
][1:]

#: What issue 14 asks for: a word of the row that is about it.
ASKED = (
    *("while it trains", "while it preprocesses", "scheduler is lost", "kill -9", "disk is full"),
    *("HDF5, safetensors, JSON", "two runs", "may not be written", "leave the folder"),
    "script tags",
)


def missing(cell: str, files: list[Path]) -> list[str]:
    """Return what a cell names that is no test of these files, "no test" if it names none.

    A name may be cut short by …; in brackets stands one of its parameters.
    """
    names = [n for n in re.findall(r"`([^`]+)`", cell) if not n.endswith(".py")]
    names = [n for n in names if not n.startswith("python ")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    absent = []
    for name in names:
        stem, _, parameter = name.partition("[")
        part = stem.strip("…_")
        if part and not re.search(rf"def (test_)?\w*{part}", text):
            absent.append(name)
        if parameter and f'"{parameter.rstrip("]")}"' not in text:
            absent.append(name)
    return absent


def test_each_fault_has_a_test_that_is_there():
    files = list(TESTS.rglob("test_*.py"))
    before: list[Path] = files
    assert len(ROWS) >= 14
    for row in ROWS:
        cell = row[-1]
        named = re.findall(r"`([\w/]+\.py)`", cell)
        found = [f for f in files if any(str(f).endswith(f"/{name}") for name in named)]
        assert len(found) == len(named), row
        before = found or before  # "the same": the file of the row above
        assert "`" in cell, row
        assert missing(cell, before) == [], row


def test_what_is_not_there_would_be_missed():
    files = [Path(__file__)]
    assert missing("`test_docs_faults.py`: `each_fault_…`", files) == []
    assert missing("`no_such_test_…`", files) == ["no_such_test_…"]


def test_all_faults_that_were_asked_for_have_a_row():
    said = "\n".join(row[0] for row in ROWS)
    assert [fault for fault in ASKED if fault not in said] == []

"""Following a page of the documentation: its commands are run, its files are written."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.conftest import ROOT, Project

_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.S | re.M)


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of one language of a page of ``docs``."""
    return [text for found, _, text in _BLOCK.findall(_text(page)) if found == language]


def follow(
    page: str, project: Project, after: Callable[[str], None] = lambda command: None
) -> None:
    """Do what a page says, from top to bottom: write the titled blocks, run those of the console.

    Parameters
    ----------
    page : str
        File in ``docs``.
    project : Project
    after : callable
        Is told every command when it has run.
    """
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(ROOT / name, project.folder / name)
    (project.folder / "installed").touch()
    programs = Path(sys.executable).parent
    made = {"INSTALLED": "installed", "BIN": str(programs)}
    for language, title, text in _BLOCK.findall(_text(page)):
        if title:
            (project.folder / title).write_text(text, encoding="utf-8")
        elif language == "console":
            for command in text.splitlines():
                words = command.replace(".venv/bin", str(programs)).split()
                if words[0] == "make":
                    words += [f"{key}={value}" for key, value in made.items()]
                _run(words, project.folder)
                after(command)


def _text(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def _run(words: list[str], folder: Path) -> None:
    """Run one command; whatever it has started ends with it, also when it takes too long."""
    with subprocess.Popen(
        words,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=900)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, f"{' '.join(words)}\n{output}"

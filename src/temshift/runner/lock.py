"""One run at a time in a folder of data, and one process at a node."""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from temshift.catalog.files import atomic_path

__all__ = ["StudyInUseError", "alone_at", "hold"]

_log = logging.getLogger(__name__)


class StudyInUseError(RuntimeError):
    """Another run is at work in the same folder of data."""


@contextmanager
def hold(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold the folder for the time of a run.

    The operating system gives the lock back when the process ends, however it ends: what a killed
    run leaves behind stops nobody.

    Parameters
    ----------
    folder : Path
        Where the records of the runs lie.
    wait : bool
        Wait for the other run to end instead of stopping.

    Raises
    ------
    StudyInUseError
        Another run holds the folder, and ``wait`` is false.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "run.lock.json"
    lock = FileLock(folder / "run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise StudyInUseError(
                f"{folder.parent}: another run is at work here ({_holder(note)}). Two runs in one "
                "folder would overwrite each other's results. Wait until it has ended "
                "(kedro run --runner-params wait=true does), stop it, or give this run an "
                "environment (--env) whose globals.yml names another folder as 'data'"
            ) from None
        _log.info("%s: waiting for another run to end (%s)", folder.parent, _holder(note))
        lock.acquire()
    try:
        with atomic_path(note) as temporary:
            temporary.write_text(json.dumps(_self()))
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


@contextmanager
def alone_at(lock: Path, node: str) -> Iterator[None]:
    """Hold a node for the time that it is run.

    A worker that its run has given up, or that has outlived it, may still be at it and would write
    beside whoever runs it now: its end is waited for.

    Parameters
    ----------
    lock : Path
        Of the node (:meth:`temshift.catalog.provenance.ProvenanceStore.lock_of`).
    node : str
        Its name.
    """
    from filelock import FileLock, Timeout

    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        _log.warning("%s: a worker of an earlier run is still at this node; waiting for it", node)
        held.acquire()
    try:
        yield
    finally:
        held.release()


def _self() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(sys.argv),
    }


def _holder(note: Path) -> str:
    try:
        who = json.loads(note.read_text())
        return f"process {who['pid']} on {who['host']} since {who['since']}: {who['command'][:120]}"
    except (OSError, ValueError, KeyError) as error:  # it has only just begun, or just ended
        _log.debug("%s cannot be read: %s", note, error)
        return "it has not yet said which"

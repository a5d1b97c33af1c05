"""Work on many items at once without holding many results."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from temshift.progress import bar

__all__ = ["CORES", "available_cores", "map_ordered", "share_one_heap"]

#: Environment variable that says how many cores a process may use: one of several on a machine.
CORES = "TEMSHIFT_CORES"

_MALLOC_ARENA_MAX = -8  # as in malloc.h

_T = TypeVar("_T")
_R = TypeVar("_R")


def available_cores() -> int:
    """Return the number of processor cores this process may use.

    It is what the system allows, or less if ``TEMSHIFT_CORES`` says so.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        allowed = os.cpu_count() or 1
    wanted = os.environ.get(CORES, "")
    return max(1, min(allowed, int(wanted))) if wanted.isdecimal() else allowed


def share_one_heap() -> None:
    """Let threads to come take their memory from the heap of the process, where glibc runs it.

    By default glibc gives each thread an arena of its own, and what large arrays leave free in one
    is of no use to the others: segmenting 4096 × 4096 px held 80 MB more. Arenas that are there
    already stay in use, so that it belongs before the first thread.
    """
    import ctypes
    import platform

    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_MALLOC_ARENA_MAX, 1)


def map_ordered(
    function: Callable[[_T], _R], items: Sequence[_T], workers: int, description: str | None = None
) -> Iterator[_R]:
    """Yield ``function(item)`` for every item, in order, computed by threads ahead of time.

    At most ``workers`` results are computed or waiting while one is in use, so that memory is
    bounded however slow the consumer is. An error of ``function`` is raised when its turn comes.

    Parameters
    ----------
    function : callable
        Spends its time where Python lets other threads run (NumPy, reading files).
    items : sequence
    workers : int
        Threads.
    description : str, optional
        Text of the progress bar; without it there is none.
    """
    remaining = iter(items)
    pending: deque[Future[_R]] = deque()
    with (
        ThreadPoolExecutor(workers) as pool,
        bar(total=len(items), desc=description, disable=description is None) as progress,
    ):
        try:
            for item in remaining:
                pending.append(pool.submit(function, item))
                if len(pending) == workers:
                    yield pending.popleft().result()
                    progress.update()
            while pending:
                yield pending.popleft().result()
                progress.update()
        finally:
            for future in pending:
                future.cancel()

"""What is told while something takes long: bars on a terminal, a line now and then elsewhere.

A bar counts wherever it is made. On a terminal, and in a notebook, it is drawn after two seconds;
in a log file nothing is drawn, and whoever runs the work asks :func:`how_far` for what to say.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

__all__ = ["bar", "every", "how_far", "lines_above_bars", "on_terminal", "said_if_slow"]

_log = logging.getLogger(__name__)

#: What is shorter needs no progress, s.
PATIENCE_S = 2.0
#: Between two lines about the same work where there is no terminal, s.
LINES_EVERY_S = 30.0

_bars: WeakSet[Any] = WeakSet()


def on_terminal() -> bool:
    """Return whether messages go to a terminal, on which a line can be drawn again."""
    return bool(sys.stderr is not None and sys.stderr.isatty())


def bar(iterable: Iterable[Any] | None = None, **options: Any) -> Any:
    """Return a ``tqdm`` bar that is drawn after two seconds, and gone at its end.

    Parameters
    ----------
    iterable : iterable, optional
    **options
        Of ``tqdm``: ``total``, ``initial``, ``desc``, ``unit`` (in the plural).
    """
    from tqdm.auto import tqdm

    drawn = on_terminal() or _in_notebook()
    hidden = {} if drawn else {"file": _Nowhere()}
    made = tqdm(iterable, **{"delay": PATIENCE_S, "leave": False, **hidden, **options})
    _bars.add(made)
    return made


def how_far() -> list[str]:
    """Return how far each unfinished bar is: "410 of 1200 steps"."""
    told = []
    for one in list(_bars):
        if one.disable or not one.total:  # a bar that is closed is disabled
            continue
        unit = "" if one.unit == "it" else f" {one.unit}"
        told.append(f"{one.n:.0f} of {one.total:.0f}{unit}")
    return sorted(told)


def _in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, not one that has imported it."""
    kernels = sys.modules.get("ipykernel.kernelapp")
    return kernels is not None and bool(kernels.IPKernelApp.initialized())


class _Nowhere:
    """A stream that nobody reads."""

    def write(self, text: str) -> int:
        """Take a text."""
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


@contextmanager
def lines_above_bars() -> Iterator[None]:
    """Write log lines above the bars meanwhile, which stay whole."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    root = logging.getLogger()
    before = list(root.handlers)
    with logging_redirect_tqdm():
        # its handler takes the place of the console's, but not its level
        level = min((h.level for h in before if h not in root.handlers), default=logging.INFO)
        for handler in root.handlers:
            if handler not in before:
                handler.setLevel(level)
        yield


@contextmanager
def every(seconds: Iterable[float], call: Callable[[float], None]) -> Iterator[None]:
    """Call a function from time to time while something is done.

    Parameters
    ----------
    seconds : iterable of float
        When, counted from the beginning; the last intervals may be endless.
    call : callable
        Gets the time that has passed, s.
    """
    over = threading.Event()

    def wait() -> None:
        passed = 0.0
        for moment in seconds:
            if over.wait(moment - passed):
                return
            passed = moment
            call(passed)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def said_if_slow(what: str, logger: logging.Logger = _log) -> Any:
    """Return a context that says what is done if it takes longer than two seconds."""
    return every([PATIENCE_S], lambda _: logger.info("%s", what))

"""What a run tells of its steps: a line each, and how far a long one is.

A step's line says how many are done, stage, split or network, what, and seconds; and why a step is
repeated, if it is not the first time. On a terminal the last line shows what is at work. Elsewhere
a step that takes long has a line after two seconds, and one each half minute.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from temshift.binding import stage_of
from temshift.progress import (
    LINES_EVERY_S,
    PATIENCE_S,
    every,
    how_far,
    lines_above_bars,
    on_terminal,
)

__all__ = ["FORCED", "NEVER_RUN", "Teller", "duration"]

#: Reasons that need not be told: what runs for the first time, or because it was said so.
NEVER_RUN = "never run, or not to its end"
FORCED = "force"


def duration(seconds: float) -> str:
    """Return a time as it is read: "0.4 s", "31 s", "9 min 12 s", "2 h 5 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


class Teller:
    """Tells of the steps of a run.

    Parameters
    ----------
    pipeline : Pipeline
        All steps, those up to date too.
    logger : logging.Logger
    """

    def __init__(self, pipeline: Pipeline, logger: logging.Logger) -> None:
        self._log = logger
        self._total = len(pipeline.nodes)
        columns = [self._columns(node) for node in pipeline.nodes]
        self._widths = [max(map(len, column), default=0) for column in zip(*columns, strict=True)]
        self._begun: dict[str, float] = {}
        self._at_work: dict[str, Node] = {}
        self._began = time.monotonic()
        self._status: Any = None
        self._told: dict[str, float] = {}
        self.done = 0

    def begin(self, node: Node, why: str) -> None:
        """Note that a step begins."""
        self._log.debug("%s is run: %s", node.name, why)
        self._begun[node.name] = time.monotonic()
        self._at_work[node.name] = node
        self._draw()

    def end(self, node: Node, why: str, seconds: float | None = None) -> None:
        """Tell that a step has been run to its end.

        Parameters
        ----------
        node : Node
        why : str
            It was run.
        seconds : float, optional
            It took; by default since ``begin``.
        """
        began = self._begun.pop(node.name, time.monotonic())
        self._at_work.pop(node.name, None)
        took = time.monotonic() - began if seconds is None else seconds
        number = f"{min(self.done + 1, self._total):{len(str(self._total))}}/{self._total}"
        again = "" if why in (NEVER_RUN, FORCED) else f"  ({why})"
        self._log.info("%s  %s %11s%s", number, self._named(node), duration(took), again)
        self._draw()

    def finish(self, run: int) -> None:
        """Tell in a line what was to be done.

        Parameters
        ----------
        run : int
            Steps that were run.
        """
        took = duration(time.monotonic() - self._began)
        if not run:
            self._log.info(
                "Nothing to do: all %d steps are up to date (--runner-params force=true repeats "
                "them)",
                self._total,
            )
        elif run < self._total:
            self._log.info(
                "%d steps run in %s, %d of %d were up to date",
                *(run, took, self._total - run, self._total),
            )
        else:
            self._log.info("%d steps run in %s", run, took)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Show, while steps are run, what is at work."""
        if on_terminal():
            from tqdm import tqdm

            shown = "{n_fmt}/{total_fmt} {desc}"
            with (
                lines_above_bars(),
                tqdm(total=self._total, bar_format=shown, leave=False) as self._status,
                every(itertools.count(0.5, 0.5), lambda _: self._draw()),
            ):
                yield
            self._status = None
        else:
            with every(itertools.count(0.5, 0.5), lambda _: self._tell_long()):
                yield

    def _draw(self) -> None:
        if self._status is not None:
            self._status.n = self.done
            self._status.set_description_str("; ".join(self._working()))

    def _tell_long(self) -> None:
        """Say what has been at work for two seconds, and then now and then."""
        now = time.monotonic()
        for name, node in list(self._at_work.items()):
            began = self._begun.get(name, now)
            told = self._told.get(name, 0.0)
            due = began + PATIENCE_S if told < began else told + LINES_EVERY_S
            if now >= due:
                self._told[name] = now
                far = how_far() if len(self._at_work) == 1 else []
                self._log.info(
                    "%s  %s %11s%s",
                    *(" " * len(f"{self._total}/{self._total}"), self._named(node), "at work"),
                    f"  ({duration(now - began)}{''.join(f', {part}' for part in far)})",
                )

    def _working(self) -> Iterator[str]:
        now = time.monotonic()
        for name, node in list(self._at_work.items()):
            words = " ".join(filter(None, self._columns(node)))
            yield f"{words}, {duration(now - self._begun.get(name, now))}"

    @staticmethod
    def _columns(node: Node) -> tuple[str, str, str]:
        stage, space = stage_of(node.func), node.namespace or ""
        owner = "" if space == stage else space.removeprefix(f"{stage}.")
        return stage, owner, node.name.removeprefix(f"{space}." if space else "")

    def _named(self, node: Node) -> str:
        columns = zip(self._columns(node), self._widths, strict=True)
        return "  ".join(f"{text:<{width}}" for text, width in columns if width)

"""Under what circumstances a report was made: when, by which code, on which machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["RunFacts", "busy_seconds"]


@dataclass(frozen=True)
class RunFacts:
    """What differs between two runs that give the same tables.

    Attributes
    ----------
    written : str
        When the report was written, ISO 8601, UTC.
    commit : str
        Of the code; empty if it is not under version control.
    modified : bool
        Whether the code differs from that commit.
    machine : list of str
        System, processor, cores, memory and graphics processors of the machine that wrote the
        report.
    began, ended : str
        When the first step behind the results began and the last one ended; empty if no times are
        recorded.
    busy_s : float
        In which time any of these steps was at work, s: what lies between two runs does not count.
    timed_steps, steps : int
        Steps behind the results, and how many of them have recorded times.
    """

    written: str
    commit: str
    modified: bool
    machine: list[str]
    began: str
    ended: str
    busy_s: float
    timed_steps: int
    steps: int


def busy_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals: steps side by side count once.

    Examples
    --------
    >>> busy_seconds([(0, 2), (1, 3), (10, 11)])
    4.0
    """
    total, reached = 0.0, float("-inf")
    for began, ended in sorted(intervals):
        total += max(ended - max(began, reached), 0.0)
        reached = max(reached, ended)
    return total

"""How many processes a machine holds, with how many cores each. Pure arithmetic."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Needs", "Share", "find_room", "needs_of", "share_machine"]

#: What a node is taken to need that has no tag ``memory-<number>GB``.
_MEMORY_GB = 1.5


@dataclass(frozen=True)
class Share:
    """Workers of a machine.

    Attributes
    ----------
    workers : int
        Processes; each runs one node at a time.
    cores : int
        Threads of each.
    memory_GB : float
        Of each.
    """

    workers: int
    cores: int
    memory_GB: float


@dataclass(frozen=True)
class Needs:
    """What a node asks of the worker that runs it."""

    gpu: bool
    memory_GB: float


def needs_of(tags: Iterable[str]) -> Needs:
    """Return what the tags of a node say: ``gpu``, ``memory-4GB``.

    Examples
    --------
    >>> needs_of(["gpu", "memory-4GB"])
    Needs(gpu=True, memory_GB=4.0)
    """
    tags = set(tags)
    sizes = [re.fullmatch(r"memory-(\d+(?:\.\d+)?)GB", tag) for tag in tags]
    memory = max((float(size[1]) for size in sizes if size), default=_MEMORY_GB)
    return Needs("gpu" in tags, memory)


def find_room(
    offers: Sequence[Mapping[str, float]],
    taken: Iterable[Mapping[str, float]],
    asked: Mapping[str, float],
) -> bool:
    """Return whether one of the workers that have nothing to do offers what is asked.

    Each node that is at work has a worker of its own: those that ask for most come first, and have
    the one that offers least of those that suffice.

    Parameters
    ----------
    offers : sequence of mapping of str to float
        Resources of each worker, such as ``{"GPU": 1, "MEMORY_GB": 8}``.
    taken : iterable of mapping of str to float
        What each node at work has asked for.
    asked : mapping of str to float

    Examples
    --------
    >>> find_room([{"GPU": 1}, {}], [{}], {"GPU": 1})
    True
    >>> find_room([{"GPU": 1}, {}], [{"GPU": 1}], {"GPU": 1})
    False
    """

    def size(of: Mapping[str, float]) -> tuple[float, float]:
        return of.get("GPU", 0.0), of.get("MEMORY_GB", 0.0)

    def suffices(offer: Mapping[str, float], needed: Mapping[str, float]) -> bool:
        return all(offer.get(name, 0.0) >= amount for name, amount in needed.items())

    free = sorted(offers, key=size)
    for needed in sorted(taken, key=size, reverse=True):
        number = next((i for i, offer in enumerate(free) if suffices(offer, needed)), None)
        if number is not None:
            del free[number]
    return any(suffices(offer, asked) for offer in free)


def share_machine(
    cores: int, folds: int, memory_GB: float, needed_GB: float, workers: int | None = None
) -> Share:
    """Divide a machine so that no core is asked for twice and every worker can hold a node.

    A node that trains uses at most one core a fold, so with more cores than folds one node after
    the other leaves cores idle. Workers get between half of ``folds`` and ``folds`` cores,
    whichever leaves the fewest idle; where memory does not suffice for as many workers there are
    fewer, with more cores each.

    Parameters
    ----------
    cores : int
        That this process may use.
    folds : int
        Threads that a training can use.
    memory_GB : float
        Of the machine.
    needed_GB : float
        What the largest node needs.
    workers : int, optional
        As many as the user has asked for.

    Examples
    --------
    >>> share_machine(cores=2, folds=5, memory_GB=8, needed_GB=2)
    Share(workers=1, cores=2, memory_GB=8.0)
    >>> share_machine(cores=64, folds=5, memory_GB=256, needed_GB=2)
    Share(workers=16, cores=4, memory_GB=16.0)
    """
    if workers is None:
        workers = 1
        if cores > folds:
            each = max(range((folds + 1) // 2, folds + 1), key=lambda n: (cores // n * n, n))
            workers = cores // each
        workers = max(1, min(workers, int(memory_GB // needed_GB)))
    return Share(workers, max(1, cores // workers), memory_GB / workers)

"""Two sides of a comparison, each in a process of its own.

What one side does to its threads and to its memory is then no help and no harm to the other.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np


def lower_quartiles(
    one: Callable[..., float], other: Callable[..., float], arguments: tuple[Any, ...], repeats: int
) -> tuple[float, float]:
    """Run both sides alternately; return the lower quartile of the seconds that each returns.

    A first round, in which modules are imported and code is made, does not count.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as first, ProcessPoolExecutor(1, context) as second:
        times = [
            (first.submit(one, *arguments).result(), second.submit(other, *arguments).result())
            for _ in range(repeats + 1)
        ]
    return tuple(np.quantile(times[1:], 0.25, axis=0).tolist())

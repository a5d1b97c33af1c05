"""A sequential runner that skips what is up to date.

What that means is decided by :class:`~temshift.runner.freshness.Freshness`. Content is compared,
not time: if a node is run again and writes the same bytes, what depends on it is left alone.
``kedro run --runner-params force=true`` runs everything asked for; ``wait=true`` waits for another
run in the same folder of data instead of stopping.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import SequentialRunner, Task

from temshift.catalog.provenance import ProvenanceStore
from temshift.runner.freshness import Freshness
from temshift.runner.lock import hold

__all__ = ["IncrementalRunner"]


class IncrementalRunner(SequentialRunner):
    """Runs one node after another, leaving out those that are up to date.

    Parameters
    ----------
    is_async : bool
        As in Kedro: load and save in threads.
    force : bool
        Run every node.
    wait : bool
        If another run is at work in the same folder of data, wait for its end.

    Raises
    ------
    StudyInUseError
        Another run is at work there, and ``wait`` is false.
    """

    def __init__(self, is_async: bool = False, force: bool = False, wait: bool = False) -> None:
        super().__init__(is_async=is_async)
        self._force = force
        self._wait = wait

    def _run(
        self,
        pipeline: Pipeline,
        catalog: Any,
        hook_manager: Any = None,
        run_id: str | None = None,
    ) -> None:
        records: ProvenanceStore = catalog.load("provenance")
        with hold(records.folder, self._wait):
            freshness = Freshness(pipeline, catalog, records, self._force)
            load_counts = Counter(chain.from_iterable(n.inputs for n in pipeline.nodes))
            done: set[Node] = set()
            ran: set[Node] = set()
            for node in pipeline.nodes:
                why = freshness.why(node)
                for needed, reason in _plan(node, why, freshness):
                    self._logger.info("%s is run: %s", needed.name, reason)
                    freshness.begin(needed)
                    try:
                        Task(needed, catalog, self._is_async, hook_manager, run_id).execute()
                    except Exception:
                        self._suggest_resume_scenario(pipeline, done, catalog)
                        raise
                    freshness.record(needed)
                    _clear_volatile(needed, catalog)
                    ran.add(needed)
                done.add(node)
                if why is None:
                    self._logger.debug("Up to date: %s", node.name)
                else:
                    self._logger.info(
                        "Completed %d out of %d nodes", len(done), len(pipeline.nodes)
                    )
                self._release_datasets(node, catalog, load_counts, pipeline)
            records.keep()
        if len(ran) < len(done):
            self._logger.info(
                "%d of %d nodes were up to date (--runner-params force=true runs all)",
                len(done) - len(ran),
                len(done),
            )


def _plan(node: Node, why: str | None, freshness: Freshness) -> Iterator[tuple[Node, str]]:
    """Yield the nodes to be run so that ``node`` can, and itself last; none if it need not be.

    A node whose output is kept in memory only is left out until another one needs it.
    """
    if why is None:
        return
    for maker, output in freshness.makers_of_missing(node):
        yield from _plan(maker, f"{node.name} needs {output}, kept in memory only", freshness)
    yield node, why


def _clear_volatile(node: Node, catalog: Any) -> None:
    """Remove what only an unfinished run of the node would need (checkpoints)."""
    for name in node.inputs:
        if getattr(catalog.get(name), "volatile", False):
            catalog.load(name).clear()

"""A runner that skips what is up to date.

What that means is decided by :class:`~temshift.runner.freshness.Freshness`. Content is compared,
not time: if a node is run again and writes the same bytes, what depends on it is left alone.
``kedro run --runner-params force=true`` runs everything asked for; ``wait=true`` waits for another
run in the same folder of data instead of stopping.

Nodes are run here, one after another, or side by side by workers: where the environment has a
``cluster.yml``, as that says; else by as many processes as the machine holds beside each other
(:func:`temshift.runner.sharing.share_machine`), which are none but this one unless there are more
cores than folds. ``--runner-params workers=2`` says how many. What is up to date, and what is
recorded, is decided here in any case.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import Any

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import SequentialRunner, Task

from temshift.catalog.content import content_paths
from temshift.catalog.provenance import ProvenanceStore
from temshift.catalog.remote import Remote
from temshift.config.cluster import ClusterParameters
from temshift.config.errors import UserError, shown
from temshift.progress import said_if_slow
from temshift.runner.freshness import Freshness
from temshift.runner.lock import alone_at, hold
from temshift.runner.sharing import Needs, Share, needs_of
from temshift.runner.telling import Teller

__all__ = ["IncrementalRunner"]

_log = logging.getLogger(__name__)


class IncrementalRunner(SequentialRunner):
    """Runs nodes, here or by workers, leaving out those that are up to date.

    Parameters
    ----------
    is_async : bool
        As in Kedro: load and save in threads.
    force : bool
        Run every node.
    wait : bool
        If another run is at work in the same folder of data, wait for its end.
    workers : int, optional
        Processes of this machine that run nodes; 1 is this one, whatever ``cluster.yml`` says. By
        default as many as the machine holds, or what ``cluster.yml`` says.

    Raises
    ------
    UserError
        An argument of another kind.
    StudyInUseError
        Another run is at work there, and ``wait`` is false.
    """

    def __init__(
        self,
        is_async: bool = False,
        force: bool = False,
        wait: bool = False,
        workers: int | None = None,
    ) -> None:
        for name, value in (("is_async", is_async), ("force", force), ("wait", wait)):
            if not isinstance(value, bool):
                raise _invalid(name, value, "true or false")
        # true is a whole number for Python
        if workers is not None and (type(workers) is not int or workers < 1):
            raise _invalid("workers", workers, "a whole number from 1 on")
        super().__init__(is_async=is_async)
        self._force = force
        self._wait = wait
        self._workers = workers

    def _run(
        self,
        pipeline: Pipeline,
        catalog: Any,
        hook_manager: Any = None,
        run_id: str | None = None,
    ) -> None:
        records: ProvenanceStore = catalog.load("provenance")
        teller = Teller(pipeline, _log)
        with hold(records.folder, self._wait):
            with said_if_slow("Looking for what is up to date", _log):
                freshness = Freshness(pipeline, catalog, records, self._force)
            cluster, share = self._where(pipeline, catalog)
            try:
                with teller.following():
                    if cluster is None:
                        ran = self._run_here(
                            pipeline, catalog, freshness, teller, hook_manager, run_id
                        )
                    else:
                        ran = self._run_elsewhere(
                            pipeline, catalog, freshness, teller, cluster, share, run_id or "run"
                        )
            finally:
                records.keep()
        teller.finish(len(ran))

    @property
    def _logger(self) -> logging.Logger:
        """What Kedro says of a run on its own; what is said here is :class:`Teller`'s."""
        return logging.getLogger("kedro.runner.incremental")

    def _run_here(
        self,
        pipeline: Pipeline,
        catalog: Any,
        freshness: Freshness,
        teller: Teller,
        hook_manager: Any,
        run_id: str | None,
    ) -> set[Node]:
        """Run one node after another; return those that were run."""
        load_counts = Counter(chain.from_iterable(n.inputs for n in pipeline.nodes))
        records: ProvenanceStore = catalog.load("provenance")
        done: set[Node] = set()
        ran: set[Node] = set()
        for node in pipeline.nodes:
            why = freshness.why(node)
            for needed, reason in _plan(node, why, freshness):
                teller.begin(needed, reason)
                with alone_at(records.lock_of(needed.name), needed.name):
                    freshness.begin(needed)
                    try:
                        Task(needed, catalog, self._is_async, hook_manager, run_id).execute()
                    except Exception:
                        self._suggest_resume_scenario(pipeline, done, catalog)
                        raise
                    freshness.record(needed)
                _clear_volatile(needed, catalog)
                ran.add(needed)
                teller.end(needed, reason)
            done.add(node)
            teller.done = len(done)
            if why is None:
                _log.debug("Up to date: %s", node.name)
            self._release_datasets(node, catalog, load_counts, pipeline)
        return ran

    def _where(self, pipeline: Pipeline, catalog: Any) -> tuple[ClusterParameters | None, Share]:
        """Return where nodes are run (``None``: here), and how this machine is shared.

        Raises
        ------
        UserError
            Workers are asked for, but nodes pass data in the memory of this process, or
            ``cluster.yml`` names workers elsewhere.
        """
        here = None, Share(1, 1, 0.0)
        origin = getattr(catalog, "origin", None)
        if origin is None or self._workers == 1:
            return here
        from temshift.runner.cluster import automatic_share

        cluster: ClusterParameters | None = origin.cluster
        workers = self._workers
        if cluster is not None and workers is not None and cluster.scheduler != "local":
            raise UserError(
                "The runner parameter 'workers' is of workers on this machine",
                f"Found {workers}, but 'scheduler: {cluster.scheduler}' in cluster.yml; expected "
                "workers=1 (all here), or none",
                "Change slurm.jobs in cluster.yml"
                if cluster.scheduler == "slurm"
                else "Start more workers for that scheduler, or run in an environment without it",
            )
        if cluster is not None and workers is None and cluster.workers != "auto":
            workers = cluster.workers
        needed_GB = max((needs_of(node.tags).memory_GB for node in pipeline.nodes), default=1.0)
        share = automatic_share(
            origin.folds, needed_GB, workers, cluster.memory_GB if cluster else None
        )
        if cluster is None and share.workers == 1:
            return here
        if memory_only := sorted(n for n in pipeline.all_outputs() if not _is_shared(catalog, n)):
            if cluster is None and self._workers is None:
                return here
            name = memory_only[0]
            found = f"Found {name!r}, kept in memory only; expected an entry in the catalog"
            remedy = "Add it to the catalog"
            if place := _in_memory(catalog, name):
                found = f"Found {name!r} at {place}, which is the memory of one process; expected "
                found += "a folder or an object store"
                remedy = "Change 'data' in globals.yml"
            raise UserError(
                "Workers cannot run these nodes: data pass between processes as files",
                found,
                f"{remedy}, or run without workers (--runner-params workers=1)",
            )
        return cluster or ClusterParameters(), share

    def _run_elsewhere(
        self,
        pipeline: Pipeline,
        catalog: Any,
        freshness: Freshness,
        teller: Teller,
        cluster: ClusterParameters,
        share: Share,
        run_id: str,
    ) -> set[Node]:
        """Let workers run what is not up to date; return what was run.

        If a node fails, no further one begins, and those that are at work are waited for, so that
        what they finish is kept.
        """
        from temshift.runner.cluster import work_with

        queue = _Queue(pipeline)
        waiting = _Waiting()
        ran: set[Node] = set()
        at_work: dict[Any, Node] = {}
        nodes = {node.name: node for node in pipeline.nodes}
        reasons: dict[str, str] = {}

        def begun(name: str) -> None:
            teller.begin(nodes[name], reasons[name])

        failed: Exception | None = None
        with ExitStack() as stack:
            workers: Any = None  # not started before there is something to do

            def send() -> UserError | None:
                """Give every worker that has nothing to do the first node that it can run.

                Returned is why no further one can be given.
                """

                def room(node: Node) -> dict[str, float] | None:
                    asked: dict[str, float] = workers.resources(node.name, needs_of(node.tags))
                    return asked if workers.have_room(asked, at_work) else None

                try:
                    while (first := waiting.next(room)) is not None:
                        node, asked = first
                        freshness.begin(node)
                        at_work[workers.submit(node.name, asked, queue.priority(node))] = node
                except UserError as error:
                    return error
                return None

            while True:
                while failed is None and (node := queue.next()) is not None:
                    why = freshness.why(node)
                    if why is None:
                        _log.debug("Up to date: %s", node.name)
                        queue.finish(node)
                        teller.done = len(queue.done)
                        continue
                    if workers is None:
                        workers = stack.enter_context(
                            work_with(cluster, catalog.origin, run_id, share, begun)
                        )
                    reasons[node.name] = why
                    waiting.add(node, queue.priority(node))
                    failed = send()
                if failed is None and workers is not None:
                    failed = send()
                if workers is None or not at_work:
                    break
                for future in workers.finished(at_work):
                    node = at_work.pop(future)
                    error = workers.failure(future, node.name)
                    if error is None:
                        freshness.record(node)
                        _clear_volatile(node, catalog)
                        ran.add(node)
                        teller.end(node, reasons[node.name], workers.seconds(future))
                        queue.finish(node)
                        teller.done = len(queue.done)
                    elif failed is None:
                        failed = error
                        for taken_back in workers.cancel(at_work):
                            del at_work[taken_back]
                        if at_work:
                            names = ", ".join(n.name for n in at_work.values())
                            _log.info("A node has failed; waiting for %s to end", names)
        if failed is not None:
            self._suggest_resume_scenario(pipeline, queue.done, catalog)
            raise failed
        return ran


def _invalid(name: str, value: Any, expected: str) -> UserError:
    return UserError(
        f"The runner parameter {name!r} is not valid",
        f"Found {shown(value)}; expected {expected}",
        f"Change it in --runner-params {name}=...",
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


def _is_shared(catalog: Any, name: str) -> bool:
    """Return whether other processes see what is saved."""
    return bool(content_paths(catalog.get(name))) and not _in_memory(catalog, name)


def _in_memory(catalog: Any, name: str) -> str | None:
    """Return the address of a dataset in fsspec's memory, ``None`` if it is elsewhere."""
    places = content_paths(catalog.get(name))
    addresses = [place.url for place in places if isinstance(place, Remote)]
    return next((url for url in addresses if url.startswith("memory://")), None)


class _Queue:
    """Nodes in their order, each when those that it depends on are done."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._nodes = pipeline.nodes
        self._order = {node.name: number for number, node in enumerate(self._nodes)}
        self._lacking: dict[str, int] = {}
        self._children: dict[str, list[str]] = {}
        for node, parents in pipeline.node_dependencies.items():
            self._lacking[node.name] = len(parents)
            for parent in parents:
                self._children.setdefault(parent.name, []).append(node.name)
        self._ready = [self._order[name] for name, number in self._lacking.items() if not number]
        heapify(self._ready)
        self.done: set[Node] = set()

    def next(self) -> Node | None:
        """Take the first node that lacks nothing, ``None`` if there is none now."""
        return self._nodes[heappop(self._ready)] if self._ready else None

    def priority(self, node: Node) -> int:
        """Return the larger, the earlier its turn."""
        return -self._order[node.name]

    def finish(self, node: Node) -> None:
        """Let those begin that depend on it, if they lack nothing else."""
        self.done.add(node)
        for child in self._children.get(node.name, ()):
            self._lacking[child] -= 1
            if not self._lacking[child]:
                heappush(self._ready, self._order[child])


class _Waiting:
    """Nodes for which no worker is free yet, by what they need of one; in their order."""

    def __init__(self) -> None:
        self._nodes: dict[Needs, list[tuple[int, str, Node]]] = {}

    def add(self, node: Node, priority: int) -> None:
        alike = self._nodes.setdefault(needs_of(node.tags), [])
        heappush(alike, (-priority, node.name, node))

    def next(
        self, room: Callable[[Node], dict[str, float] | None]
    ) -> tuple[Node, dict[str, float]] | None:
        """Take the first node that a worker could run now, with what it asks; ``None`` if none.

        Parameters
        ----------
        room : callable
            Returns what a node asks of a worker as they are now, ``None`` if none is free for it.
        """
        first = sorted((alike[0][:2], needs) for needs, alike in self._nodes.items() if alike)
        for _, needs in first:
            if (asked := room(self._nodes[needs][0][2])) is not None:
                return heappop(self._nodes[needs])[2], asked
        return None


def _clear_volatile(node: Node, catalog: Any) -> None:
    """Remove what only an unfinished run of the node would need (checkpoints)."""
    for name in node.inputs:
        if getattr(catalog.get(name), "volatile", False):
            store = catalog.load(name)
            if hasattr(store, "clear"):
                store.clear()

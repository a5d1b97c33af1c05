"""A sequential runner that skips what is up to date.

A node is up to date if its function (with all temshift code behind it), its parameters and the
content of its inputs are those of its last complete run, and its outputs are still what that run
wrote. Content is compared, not time: if a node is run again and writes the same bytes, what
depends on it is left alone. ``kedro run --runner-params force=true`` runs everything asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import SequentialRunner, Task
from pydantic import BaseModel

from temshift.catalog.provenance import ProvenanceStore
from temshift.runner.code import code_fingerprint

__all__ = ["IncrementalRunner"]


class IncrementalRunner(SequentialRunner):
    """Runs one node after another, leaving out those that are up to date.

    Parameters
    ----------
    is_async : bool
        As in Kedro: load and save in threads.
    force : bool
        Run every node.
    """

    def __init__(self, is_async: bool = False, force: bool = False) -> None:
        super().__init__(is_async=is_async)
        self._force = force

    def _run(
        self,
        pipeline: Pipeline,
        catalog: Any,
        hook_manager: Any = None,
        run_id: str | None = None,
    ) -> None:
        store: ProvenanceStore = catalog.load("provenance")
        load_counts = Counter(chain.from_iterable(n.inputs for n in pipeline.nodes))
        done: set[Node] = set()
        skipped = 0
        for node in pipeline.nodes:
            key = _key(node, catalog, store)
            record = store.get(node.name)
            if (
                not self._force
                and record is not None
                and record["key"] == key
                and record["outputs"] == (now := _outputs(node, catalog, store))
                and None not in now.values()
            ):
                skipped += 1
                self._logger.info("Up to date: %s", node.name)
            else:
                store.drop(node.name)
                try:
                    Task(node, catalog, self._is_async, hook_manager, run_id).execute()
                except Exception:
                    self._suggest_resume_scenario(pipeline, done, catalog)
                    raise
                outputs = _outputs(node, catalog, store)
                store.put(node.name, {"key": key, "outputs": outputs})
                _clear_volatile(node, catalog)
            done.add(node)
            self._logger.info("Completed %d out of %d tasks", len(done), len(pipeline.nodes))
            self._release_datasets(node, catalog, load_counts, pipeline)
        if skipped:
            self._logger.info(
                "%d of %d nodes were up to date and not run (--runner-params force=true runs all)",
                skipped,
                len(pipeline.nodes),
            )


def _key(node: Node, catalog: Any, store: ProvenanceStore) -> str:
    """Return a hash of everything a node's outputs depend on."""
    function, arguments = node.func, []
    while isinstance(function, partial):
        arguments.append([repr(function.args), repr(sorted(function.keywords.items()))])
        function = function.func
    parts: dict[str, Any] = {
        "function": f"{function.__module__}.{function.__qualname__}",
        "arguments": arguments,
        "code": code_fingerprint(function.__module__),
        "classes": [
            code_fingerprint(type(catalog.get(name)).__module__)
            for name in node.outputs
            if type(catalog.get(name)).__module__.startswith("temshift.")
        ],
        "inputs": {},
    }
    for name in node.inputs:
        dataset = catalog.get(name)
        if name.startswith("params:") or name == "parameters":
            parts["inputs"][name] = _plain(dataset.load())
        elif not getattr(dataset, "volatile", False):
            parts["inputs"][name] = store.content(_paths(dataset))
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _clear_volatile(node: Node, catalog: Any) -> None:
    """Remove what only an unfinished run of the node would need (checkpoints)."""
    for name in node.inputs:
        if getattr(catalog.get(name), "volatile", False):
            catalog.load(name).clear()


def _outputs(node: Node, catalog: Any, store: ProvenanceStore) -> dict[str, str | None]:
    return {name: store.content(_paths(catalog.get(name))) for name in node.outputs}


def _paths(dataset: Any) -> Iterator[Path]:
    """Yield the files or folders in which a dataset is kept."""
    for attribute in ("_filepath", "_labels_filepath", "_path"):
        if value := getattr(dataset, attribute, None):
            yield Path(str(value))


def _plain(value: Any) -> Any:
    """Return parameters as plain JSON values."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value

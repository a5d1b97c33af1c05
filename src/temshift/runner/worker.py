"""What a worker does: open the project by its path, take one node by its name, run it.

Nothing else travels: a task is the name of the function below and a few strings. Data are read and
written by the catalog of the worker, which is the same as that of the run. Records of what is up
to date are kept by the run alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temshift.catalog.provenance import ProvenanceStore
from temshift.catalog.study_catalog import Origin
from temshift.config.errors import UserError
from temshift.runner.lock import alone_at

__all__ = ["describe", "run_node", "sources"]

_log = logging.getLogger(__name__)


def sources() -> str:
    """Return a hash of temshift's own source files as they are now."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


#: As they were when this process imported them.
_IMPORTED = sources()


def describe(origin: Origin, run_id: str) -> str:
    """Return as text what a worker must know of a run, the same for all of its nodes."""
    return json.dumps(
        {
            "project": str(origin.project),
            "conf_source": origin.conf_source,
            "env": origin.env,
            "parameters": origin.parameters,
            "run_id": run_id,
            "sources": sources(),
            "configuration": origin.configuration,
        },
        sort_keys=True,
    )


@dataclass
class _Opened:
    catalog: Any
    hooks: Any
    nodes: dict[str, Any]
    records: ProvenanceStore


_opened: dict[str, _Opened] = {}


def run_node(run: str, node: str, topic: str) -> dict[str, Any]:
    """Run a node of a project, here, on the worker.

    Parameters
    ----------
    run : str
        The run, as :func:`describe` writes it.
    node : str
        Name of the node.
    topic : str
        Under which log records are sent back while the node runs.

    Returns
    -------
    dict
        ``seconds``, or ``error`` (what, found, remedy, details) and ``traceback``: an exception
        would lose its causes on the way, and not every exception can travel.
    """
    began = time.monotonic()
    try:
        with _sending_logs(topic):
            _tell_begun(topic, node)
            opened = _open(run)
            with alone_at(opened.records.lock_of(node), node):
                _execute(opened, node, json.loads(run)["run_id"])
    except Exception as error:
        from temshift.mistakes import as_user_error

        told = as_user_error(error)
        return {
            "error": [told.what, told.found, told.remedy, list(told.details)],
            "traceback": "".join(traceback.format_exception(error)),
        }
    return {"seconds": time.monotonic() - began}


def _tell_begun(topic: str, node: str) -> None:
    """Tell the run that a node is at work here, which was waiting until now."""
    from distributed import get_worker

    worker = get_worker()
    worker.log_event(topic, {"begun": node, "worker": worker.address})


def _execute(opened: _Opened, node: str, run_id: str) -> None:
    from kedro.runner import Task

    if node not in opened.nodes:
        raise UserError(
            f"A worker knows no node {node!r}",
            "Found other pipelines on the worker than in the run; expected the same project",
            "Let run and workers see the same folder of the project, and restart the workers",
        )
    Task(opened.nodes[node], opened.catalog, False, opened.hooks, run_id).execute()


def _open(run: str) -> _Opened:
    """Return the project of a run, opened once in this process."""
    if run in _opened:
        return _opened[run]
    from kedro.framework.project import pipelines, settings
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    what = json.loads(run)
    project = Path(what["project"])
    if not project.is_dir():
        raise UserError(
            f"{project}: a worker sees no such folder",
            "Found nothing there; expected the folder of the project, which run and workers share",
            "Start the run from a folder on a file system that the workers have too",
        )
    if what["sources"] != _IMPORTED:
        raise UserError(
            "A worker has another version of temshift than the run",
            "Found that its source files differ from those the worker has imported; expected the "
            "same",
            "Restart the workers after a change of the code, and let them use the same "
            "installation",
        )
    os.chdir(project)
    bootstrap_project(project)
    session = KedroSession.create(
        project,
        save_on_close=False,
        env=what["env"],
        runtime_params=what["parameters"],
        conf_source=what["conf_source"],
    )
    context = session.load_context()
    catalog = context._get_catalog(catalog_class=settings.DATA_CATALOG_CLASS)
    wanted = what["configuration"]
    if wanted and getattr(catalog, "origin").configuration != wanted:  # noqa: B009
        raise UserError(
            "The configuration was changed while the run was at work (parameters or catalog)",
            "Found other values in the folder conf than those the run has begun with; expected the "
            "same, since a worker that starts later reads them then",
            "Repeat the command, by which the new values count; what was finished with the old "
            "ones and is the same by the new ones is not repeated",
        )
    nodes = {node.name: node for p in dict(pipelines).values() for node in p.nodes}
    _opened.clear()
    _opened[run] = _Opened(catalog, session._hook_manager, nodes, catalog.load("provenance"))
    return _opened[run]


class _Sender(logging.Handler):
    """Sends log records as plain values."""

    def __init__(self, topic: str) -> None:
        from distributed import get_worker

        super().__init__(logging.INFO)
        self._topic = topic
        self._worker = get_worker()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record to whoever follows the run."""
        told = {"name": record.name, "level": record.levelno, "message": record.getMessage()}
        self._worker.log_event(self._topic, told)


@contextmanager
def _sending_logs(topic: str) -> Iterator[None]:
    """Send what is logged meanwhile to the run, which tells it; a worker writes no log of it."""
    root = logging.getLogger()
    before = root.handlers
    root.handlers = [_Sender(topic)]
    try:
        yield
    finally:
        root.handlers = before

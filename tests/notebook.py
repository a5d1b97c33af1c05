"""Executing a notebook as its reader would."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient


def run_notebook(path: Path, env: str, timeout_s: float = 300) -> Any:
    """Run all cells of a notebook in its own folder and return it with its outputs.

    Parameters
    ----------
    path : Path
        A notebook in the ``notebooks`` folder of a Kedro project.
    env : str
        Kedro environment whose results it explores.
    timeout_s : float
        Longest time for one cell.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        A cell failed; the message holds the cell and its traceback.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=timeout_s,
        resources={"metadata": {"path": str(path.parent)}},
    )
    environment = {
        **os.environ,
        "KEDRO_ENV": env,
        "TQDM_DISABLE": "1",
        "KEDRO_LOGGING_CONFIG": str(path.parents[1] / "conf/logging.yml"),
    }
    return client.execute(env=environment)

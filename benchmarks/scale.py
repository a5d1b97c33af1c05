"""A study of 500 networks x 20 sets: how long until it is built and started, what a node costs.

    python benchmarks/scale.py [--networks 500] [--splits 20]

CPU time of the process and its children, since machines are shared, and wall time. Built: a fresh
process has the context and all pipelines (``kedro registry list``). Started: from the start of a
process to its first node at work, on two local workers. A node's cost: what the run spends on it
when the worker does nothing: deciding, sending, waiting, recording.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from kill import project  # type: ignore[import-not-found]


def make(folder: Path, networks: int, splits: int) -> Path:
    """Write an environment ``big`` on top of that of the default study."""
    base = {
        kind: yaml.safe_load((folder / "conf/base" / f"parameters_{file}.yml").read_text())
        for kind, file in (("curation", "data_curation"), ("modelling", "modelling"))
    }
    names = [f"dose_{i:02d}" for i in range(splits)]
    further = [f"network_{i:03d}" for i in range(networks - splits)]
    where = {n: {"where": {"dose_e_per_A2": 10.0 + i}} for i, n in enumerate(names)}
    none = dict.fromkeys(base["curation"]["studies"])
    big = folder / "conf" / "big"
    big.mkdir()
    (big / "globals.yml").write_text("data: data/big\n")
    study = {"varies": "dose_e_per_A2", "splits": names, "networks": further}
    (big / "parameters_data_curation.yml").write_text(
        yaml.safe_dump(
            {
                "splits": {**dict.fromkeys(base["curation"]["splits"]), **where},
                "studies": {**none, "doses": study},
            }
        )
    )
    trained = {
        n: {"train_on": [names[i % splits]], "training": {"seed": i}} for i, n in enumerate(further)
    }
    (big / "parameters_modelling.yml").write_text(
        yaml.safe_dump({"networks": {**dict.fromkeys(base["modelling"]["networks"]), **trained}})
    )
    return folder


def nothing(run: str, node: str, topic: str) -> dict[str, Any]:
    """Stand in for what a worker does."""
    return {"seconds": 0.0}


def clocks() -> tuple[float, float]:
    """Return CPU time of this process and its ended children, and the time of day."""
    own, theirs = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = own.ru_utime + own.ru_stime + theirs.ru_utime + theirs.ru_stime
    return cpu, time.perf_counter()


def overhead(folder: Path) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Return nodes, seconds until the first is sent, and seconds for each, work left out."""
    from kedro.framework.project import pipelines, settings
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    import temshift.runner.cluster as cluster
    from temshift.runner import IncrementalRunner

    bootstrap_project(folder)
    logging.disable(logging.INFO)
    session = KedroSession.create(folder, env="big", save_on_close=False)
    context = session.load_context()
    catalog = context._get_catalog(catalog_class=settings.DATA_CATALOG_CLASS)
    pipeline = pipelines["modelling"] + pipelines["evaluation"]
    first: list[tuple[float, float]] = []
    submit = cluster.Workers.submit

    def noted(self: Any, *arguments: Any) -> Any:
        first.append(clocks())
        return submit(self, *arguments)

    cluster.Workers.submit = noted  # type: ignore[method-assign]
    cluster.run_node = nothing
    begin = clocks()
    IncrementalRunner(workers=2)._run(pipeline, catalog, session._hook_manager, "bench")
    end = clocks()
    number = len(pipeline.nodes)
    started = tuple(b - a for a, b in zip(begin, first[0], strict=True))
    each = tuple((b - a) / number for a, b in zip(first[0], end, strict=True))
    return number, started, each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=500)
    parser.add_argument("--splits", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = make(project(Path(name) / "project"), options.networks, options.splits)
        begin = clocks()
        subprocess.run(
            [sys.executable, "-m", "kedro", "registry", "list"],
            cwd=folder,
            env={**os.environ, "KEDRO_ENV": "big"},
            check=True,
            capture_output=True,
        )
        built = [b - a for a, b in zip(begin, clocks(), strict=True)]
        nodes, started, each = overhead(folder)
        whole = [a + b for a, b in zip(built, started, strict=True)]  # it builds, and then starts
        print(f"{options.networks} networks x {options.splits} sets, {nodes} nodes; CPU (wall)")
        print(f"built               {built[0]:6.1f} s  ({built[1]:.1f})  target < 10")
        print(f"first node sent     {whole[0]:6.1f} s  ({whole[1]:.1f})  target < 30")
        print(f"a node costs        {1000 * each[0]:6.1f} ms ({1000 * each[1]:.1f})  target < 50")


if __name__ == "__main__":
    main()

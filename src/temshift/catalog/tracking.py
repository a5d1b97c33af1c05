"""Listing finished runs in a SQLite file of MLflow: parameters, in-domain Dice, the report's path.

MLflow is an extra, and imported only where it is asked for. It reports how it is used to its makers
unless it is told not to; here it is.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import temshift
from temshift.config.errors import UserError
from temshift.config.tracking import TrackingParameters

__all__ = ["import_mlflow", "track_run"]

_DIGEST = "temshift.results"
#: What MLflow takes at once, and the longest value of a parameter.
_BATCH, _LONGEST = 100, 6000


def import_mlflow() -> Any:
    """Return the module ``mlflow``, or say how to get it.

    Raises
    ------
    UserError
        It is not installed whole.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow
        import mlflow.store.tracking.sqlalchemy_store
    except ImportError as error:
        raise UserError(
            "tracking.mlflow is true, which needs MLflow with its database",
            f"Found that it is not installed ({error}); expected the extra",
            'Install them: pip install -e ".[tracking]", or set tracking.mlflow to false',
        ) from error
    return mlflow


def track_run(
    tracking: TrackingParameters,
    parameters: Mapping[str, Any],
    summary: Mapping[str, Any],
    report: str,
) -> bool:
    """List a run, unless one with the same parameters and results is listed already.

    Parameters
    ----------
    tracking : TrackingParameters
    parameters : mapping
        Plain values; each leaf is a parameter of the run, its keys joined by points.
    summary : mapping
        As ``results.json``: the Dice of networks on sets they were trained on are the metrics
        ``in_domain_dice/<protocol>/<network>/<set>``.
    report : str
        Path of the report, a tag of the run.

    Returns
    -------
    bool
        Whether the run was new.

    Raises
    ------
    UserError
        MLflow is not installed, or its database cannot be used.
    """
    mlflow = import_mlflow()
    from sqlalchemy.exc import SQLAlchemyError

    entities, path = mlflow.entities, Path(tracking.database).resolve()
    text = json.dumps([parameters, summary], sort_keys=True, default=str)
    digest = sha256(text.encode()).hexdigest()
    given = [entities.Param(key, value) for key, value in _leaves(parameters)]
    dice = [entities.Metric(key, value, 0, 0) for key, value in _in_domain(summary).items()]
    tags = {_DIGEST: digest, "temshift.report": report, "temshift.version": temshift.__version__}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        client = mlflow.MlflowClient(f"sqlite:///{path}")
        found = client.get_experiment_by_name(tracking.experiment)
        experiment = (
            found.experiment_id
            if found
            else client.create_experiment(
                tracking.experiment, artifact_location=path.with_suffix(".artifacts").as_uri()
            )
        )
        known = f"tags.`{_DIGEST}` = '{digest}' and attributes.status = 'FINISHED'"
        if client.search_runs([experiment], known, max_results=1):
            return False
        run = client.create_run(experiment, tags=tags).info.run_id
        for i in range(0, len(given), _BATCH):
            client.log_batch(run, params=given[i : i + _BATCH])
        for i in range(0, len(dice), _BATCH):
            client.log_batch(run, metrics=dice[i : i + _BATCH])
        client.set_terminated(run)
    except (OSError, mlflow.exceptions.MlflowException, SQLAlchemyError) as error:
        raise UserError(
            f"{path}: the run could not be listed there",
            f"Found: {error}; expected a SQLite file of MLflow, or none, in a folder to write to",
            "Move the file away, or name another in tracking.database; the results are whole",
        ) from error
    return True


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield what a nested mapping holds, under names and at lengths that MLflow takes."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif key:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        yield re.sub(r"[^\w.\-/ ]", "_", key, flags=re.ASCII), text[:_LONGEST]


def _in_domain(summary: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"in_domain_dice/{row['protocol']}/{row['network']}/{row['test_split']}": row["dice"]
        for row in summary["matrix"]
        if row["in_domain"] and row["dice"] is not None
    }

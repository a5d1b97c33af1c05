"""Registered pipelines."""

from __future__ import annotations

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

#: What ``kedro run`` runs, in this order, from simulated specimens to the report.
DEFAULT = (
    "simulation",
    "data_curation",
    "preprocessing",
    "modelling",
    "evaluation",
    "generalization_reporting",
)


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline by name; ``__default__`` is the whole study."""
    pipelines = find_pipelines(raise_errors=True)
    parts = [pipelines[name] for name in DEFAULT if name in pipelines]
    pipelines["__default__"] = sum(parts, Pipeline([]))
    return pipelines

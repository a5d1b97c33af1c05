"""Registered pipelines."""

from __future__ import annotations

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from temshift.binding import stage_of

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
    """Return every pipeline by name; ``__default__`` is the whole study.

    Nodes are in the namespace of their stage, and within it in that of their split or network,
    whose name is also a tag of theirs. A graph that is collapsed shows the stages.
    """
    found = find_pipelines(raise_errors=True)
    pipelines = {name: staged(pipeline) for name, pipeline in found.items()}
    parts = [pipelines[name] for name in DEFAULT if name in pipelines]
    pipelines["__default__"] = sum(parts, Pipeline([]))
    return pipelines


def staged(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline whose nodes are in the namespace of their stage."""
    return Pipeline([_staged(node) for node in pipeline.nodes])


def _staged(node: Node) -> Node:
    stage, owner = stage_of(node.func), node.namespace
    if not stage:
        return node
    if owner is None:
        return node._copy(namespace=stage)
    return node._copy(namespace=f"{stage}.{owner}", tags={*node.tags, owner})

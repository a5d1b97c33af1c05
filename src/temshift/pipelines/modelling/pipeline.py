"""Wiring of the modelling pipeline."""

from __future__ import annotations

from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline

from temshift.context import study_plan
from temshift.pipelines.modelling.nodes import train_network


def create_pipeline() -> Pipeline:
    """One training node for each network of a study, in the network's namespace."""
    plan = study_plan()
    nodes = []
    for name in plan.trained:
        inputs = {
            "modelling": "params:modelling",
            "checkpoints": f"{name}.checkpoints",
            **{split: f"{split}.patches" for split in plan.train_on(name)},
        }
        if name in plan.networks:
            inputs["network"] = f"params:networks.{name}"
        nodes.append(
            Node(
                update_wrapper(partial(train_network, name), train_network),
                inputs=inputs,
                outputs=[f"{name}.networks", f"{name}.history"],
                name="train",
                namespace=name,
                tags=["gpu"],
            )
        )
    return Pipeline(nodes)

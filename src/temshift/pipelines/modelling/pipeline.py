"""Wiring of the modelling pipeline."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.binding import bind, each
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
        }
        if name in plan.networks:
            inputs["network"] = f"params:networks.{name}"
        if initial := plan.initial(name):
            inputs["initial"] = f"{initial}.networks"
        # in the order of the function's arguments, by which Kedro finds the types of parameters
        inputs |= each(plan.train_on(name), "patches") | each(plan.train_on(name), "fingerprint")
        nodes.append(
            Node(
                bind(train_network, name),
                inputs=inputs,
                outputs=[f"{name}.networks", f"{name}.history"],
                name="train",
                namespace=name,
                tags=["gpu"],
            )
        )
    return Pipeline(nodes)

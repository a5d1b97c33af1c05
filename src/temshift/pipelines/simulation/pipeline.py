"""From a plan to micrograph files: specimens are simulated once and imaged under every condition."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.context import project_parameters
from temshift.pipelines.simulation.nodes import acquire_micrographs, plan_acquisitions, simulate


def create_pipeline() -> Pipeline:
    """Return the pipeline; there is a node for each specimen type of the parameters."""
    types = list((project_parameters().get("simulation") or {}).get("specimens") or {})
    waves = {f"{name}_waves": f"simulation.intermediate.{name}_waves" for name in types}
    return Pipeline(
        [
            Node(
                plan_acquisitions,
                inputs=["params:simulation", "params:splits"],
                outputs="simulation.intermediate.acquisitions",
                name="plan_acquisitions",
            ),
            *(
                Node(
                    simulate(name),
                    inputs=["simulation.intermediate.acquisitions", "params:simulation"],
                    outputs=f"simulation.intermediate.{name}_waves",
                    name=f"simulate_{name}",
                )
                for name in types
            ),
            Node(
                acquire_micrographs,
                inputs={
                    "table": "simulation.intermediate.acquisitions",
                    "parameters": "params:simulation",
                    **waves,
                },
                outputs=["data_curation.raw.micrographs", "data_curation.raw.metadata"],
                name="acquire_micrographs",
            ),
        ]
    )

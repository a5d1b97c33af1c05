"""From a plan to micrograph files: each specimen is simulated once, imaged many times."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.binding import bind
from temshift.context import project_parameters, study_plan
from temshift.pipelines.simulation.nodes import acquire_micrographs, plan_acquisitions, simulate


def create_pipeline() -> Pipeline:
    """Return the pipeline: a node for each specimen type that is imaged, none if there is none."""
    simulation = project_parameters().get("simulation")
    if not simulation:  # the micrographs come from elsewhere
        return Pipeline([])
    types = list(
        dict.fromkeys(t for a in simulation.get("acquisitions", []) for t in a["specimens"])
    )
    waves = {name: f"simulation.intermediate.{name}_waves" for name in types}
    return Pipeline(
        [
            Node(
                plan_acquisitions,
                inputs={
                    "parameters": "params:simulation",
                    **{name: f"params:splits.{name}" for name in study_plan().used_splits},
                },
                outputs="simulation.intermediate.acquisitions",
                name="plan_acquisitions",
            ),
            *(
                Node(
                    bind(simulate, name),
                    # not how it is imaged: exit waves outlast any change of that
                    inputs={
                        "specimen": f"params:simulation.specimens.{name}",
                        **{
                            key: f"params:simulation.{key}"
                            for key in (
                                "supports",
                                "multislice",
                                "field_width_nm",
                                "fields",
                                "seed",
                            )
                        },
                    },
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

"""Wiring of the pipeline ``box``: its results are data of the package."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.context import project_parameters
from temshift.pipelines.box import nodes


def create_pipeline() -> Pipeline:
    """Return the pipeline; only the environment ``box`` has one."""
    if not project_parameters().get("box"):
        return Pipeline([])
    return Pipeline(
        [
            *(
                Node(
                    nodes.simulate_random_fields,
                    inputs=f"params:box.{fields}",
                    outputs=f"box.intermediate.{fields}_waves",
                    name=f"simulate_box_{fields}",
                )
                for fields in ("fields", "calibration")
            ),
            Node(
                nodes.take_random_patches,
                inputs={
                    "waves": "box.intermediate.fields_waves",
                    "exposures": "params:box.exposures",
                    "seed": "params:box.fields.seed",
                    "folds": "params:box.folds",
                    "patch_px": "params:box.patch_px",
                },
                outputs="box.model_input.patches",
                name="take_box_patches",
            ),
            Node(
                nodes.train,
                inputs={
                    "patches": "box.model_input.patches",
                    "box": "params:box",
                    "checkpoints": "box.models.checkpoints",
                },
                outputs="box.models.trained",
                name="train_box",
                tags=["gpu"],
            ),
            Node(
                nodes.pack,
                inputs=["box.models.trained", "params:box.fields"],
                outputs="box.models.networks",
                name="pack_box",
            ),
            Node(
                nodes.calibrate,
                inputs=[
                    "box.models.networks",
                    "box.intermediate.calibration_waves",
                    "params:box.calibration",
                    "params:box.exposures",
                ],
                outputs=["box.models.evidence", "box.models.agreement"],
                name="calibrate_box",
                tags=["gpu"],
            ),
        ]
    )

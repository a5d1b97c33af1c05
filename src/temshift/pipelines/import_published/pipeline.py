"""Wiring of the import: model list, weight files, a network set for each trained set."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.context import project_parameters
from temshift.pipelines.import_published.nodes import (
    import_networks,
    name_model_list,
    name_weight_files,
)


def create_pipeline() -> Pipeline:
    """Fetch what is missing, then convert what is there."""
    names = (project_parameters().get("import_published") or {}).get("networks") or {}
    return Pipeline(
        [
            Node(
                name_model_list,
                inputs="params:import_published",
                outputs="import_published.raw.model_list",
                name="fetch_model_list",
            ),
            Node(
                name_weight_files,
                inputs="import_published.raw.model_list",
                outputs="import_published.raw.weights",
                name="fetch_weights",
            ),
            Node(
                import_networks,
                inputs={
                    "model_list": "import_published.raw.model_list",
                    "weights": "import_published.raw.weights",
                    "parameters": "params:import_published",
                    "networks": "params:networks",
                },
                outputs={
                    "report": "import_published.reporting.weights",
                    **{name: f"{name}.networks" for name in names},
                },
                name="import_networks",
            ),
        ]
    )

"""Wiring of the download; empty unless the parameters have a block ``download``."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.context import project_parameters, study_plan
from temshift.pipelines.download.nodes import name_metadata_table, name_needed_files


def create_pipeline() -> Pipeline:
    """Fetch the table, then the files of every split that is used."""
    if not project_parameters().get("download"):
        return Pipeline([])
    return Pipeline(
        [
            Node(
                name_metadata_table,
                inputs="params:download",
                outputs="data_curation.raw.metadata",
                name="fetch_metadata",
            ),
            Node(
                name_needed_files,
                inputs={
                    "metadata": "data_curation.raw.metadata",
                    "curation": "params:curation",
                    **{name: f"params:splits.{name}" for name in study_plan().used_splits},
                },
                outputs="data_curation.raw.micrographs",
                name="fetch_micrographs",
            ),
        ]
    )

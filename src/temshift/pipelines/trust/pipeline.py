"""Wiring of the pipeline ``trust``."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.binding import each
from temshift.context import study_plan
from temshift.pipelines.trust.nodes import gather


def create_pipeline() -> Pipeline:
    """Evidence of all networks on micrographs of all splits; curated sets have none."""
    plan = study_plan()
    splits = [split for split in plan.used_splits if split not in plan.curated_splits]
    return Pipeline(
        [
            Node(
                gather,
                inputs={
                    "store": "data_curation.raw.micrographs",
                    "curation": "params:curation",
                    "modelling": "params:modelling",
                    "most": "params:trust.micrographs",
                    **each(plan.with_weights, "networks"),
                    **each(splits, "micrographs"),
                },
                outputs=["trust.model_output.evidence", "trust.model_output.agreement"],
                name="gather_evidence",
                tags=["gpu"],
            )
        ]
    )

"""Wiring of the pipeline ``sweep``."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.binding import bind, each
from temshift.config.sweep import SweepParameters
from temshift.context import project_parameters, study_plan
from temshift.pipelines.sweep.nodes import report, search


def create_pipeline() -> Pipeline:
    """One node for all trials, each a run of its own; and one for their table and page.

    An environment without the block ``sweep`` has none.
    """
    block = project_parameters().get("sweep")
    if block is None:
        return Pipeline([])
    sweep, default = SweepParameters.model_validate(block), study_plan().used_splits[:1]
    return Pipeline(
        [
            Node(
                bind(search, tuple(sweep.train_on or default)),
                inputs={
                    "sweep": "params:sweep",
                    "modelling": "params:modelling",
                    "preprocessing": "params:preprocessing",
                    "curation": "params:curation",
                    "splits": "params:splits",
                    "store": "data_curation.raw.micrographs",
                    "trials": "sweep.model_output.runs",
                    **each(sweep.sets(default), "micrographs"),
                },
                outputs="sweep.model_output.scores",
                name="search",
                tags=["gpu"],
            ),
            Node(
                report,
                inputs=["sweep.model_output.scores", "params:sweep"],
                outputs=[
                    "sweep.reporting.trials",
                    "sweep.reporting.learning_curve",
                    "sweep.reporting.page",
                ],
                name="rank_trials",
            ),
        ]
    )

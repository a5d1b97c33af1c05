"""Wiring of the pipeline ``fine_tuning``."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.binding import each
from temshift.config.base import TAKEN_NAMES
from temshift.config.errors import UserError
from temshift.config.fine_tuning import FewLabelsParameters
from temshift.context import any_trained, has_patches, project_parameters, study_plan
from temshift.pipelines.fine_tuning.nodes import fine_tune


def create_pipeline() -> Pipeline:
    """One node: choose the network, tune it, test it, show it.

    Its inputs are the networks of the study that are trained, and the patches that they were
    trained on, as far as they are there. An environment without the block ``fine_tuning`` has none.
    """
    plan, block = study_plan(), project_parameters().get("fine_tuning")
    if block is None:
        return Pipeline([])
    parameters = FewLabelsParameters.model_validate(block)
    taken = {*plan.with_weights, *TAKEN_NAMES}
    if {parameters.name, parameters.name.lower()} & taken:
        raise UserError(
            f"fine_tuning.name: {parameters.name!r} is taken",
            f"Found {parameters.name!r}; expected a name that no network has, since the tuned "
            "one is saved under it",
            "Choose another one: --params fine_tuning.name=...",
        )
    if parameters.name == parameters.network:
        raise UserError(
            f"fine_tuning.network: {parameters.network!r} is the name of the tuned network, too",
            "Found the same name twice; expected two",
            "Choose another one: --params fine_tuning.name=...",
        )
    wanted = parameters.network
    networks = [name for name in plan.with_weights if any_trained([name])]
    if wanted not in ("nearest", "box", *networks) and any_trained([wanted]):
        networks.append(wanted)  # one that was tuned before
    if wanted == "box":
        networks = []
    splits = [s for s in plan.used_splits if s not in plan.curated_splits and has_patches(s)]
    return Pipeline(
        [
            Node(
                fine_tune,
                inputs={
                    "labelled": "fine_tuning.raw.labelled",
                    "fine_tuning": "params:fine_tuning",
                    **each(networks, "networks"),
                    **(each(splits, "patches") if networks else {}),
                },
                outputs=[
                    "fine_tuning.models.networks",
                    "fine_tuning.reporting.learning_curve",
                    "fine_tuning.reporting.page",
                ],
                name="fine_tune",
                tags=["gpu"],
            )
        ]
    )

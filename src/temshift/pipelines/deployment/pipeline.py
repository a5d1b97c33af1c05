"""Wiring of the pipeline ``deployment``."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.binding import each
from temshift.config.deployment import DeploymentParameters
from temshift.config.modelling import ModellingParameters
from temshift.config.plan import StudyPlan
from temshift.context import any_trained, project_parameters, study_plan
from temshift.pipelines import trust
from temshift.pipelines.deployment import nodes

#: Fewer image sets or networks: trust cannot be learned.
_FEWEST = 3


def create_pipeline() -> Pipeline:
    """Segment, summarise, show; trust is learned first where the study allows it."""
    plan, parameters = study_plan(), project_parameters()
    boxed = takes_box(plan, parameters)
    given = DeploymentParameters.model_validate(parameters.get("deployment") or {}).masks
    networks = named_networks(plan, parameters)
    judged = not boxed and can_judge(plan, parameters) and set(plan.with_weights) <= set(networks)
    tables = {
        "evidence": "trust.model_output.evidence",
        "agreement": "trust.model_output.agreement",
    }
    own = Pipeline(
        [
            Node(
                nodes.segment_boxed if boxed else nodes.segment_judged if judged else nodes.segment,
                inputs={
                    "store": "deployment.raw.micrographs",
                    "deployment": "params:deployment",
                    "trust": "params:trust",
                    "modelling": "params:modelling",
                    **({"masks": "deployment.raw.masks"} if given else {}),
                    **(tables if judged else {}),
                    **({} if boxed else each(networks, "networks")),
                },
                outputs="deployment.model_output.segmentations",
                name="segment",
                tags=["gpu"],
            ),
            Node(
                nodes.write_analysis,
                inputs=[
                    "deployment.model_output.segmentations",
                    "params:deployment",
                    "params:trust",
                    "params:modelling",
                ],
                outputs="deployment.reporting.analysis",
                name="write_analysis",
            ),
            Node(
                nodes.summarise,
                inputs=["deployment.model_output.segmentations", "params:deployment"],
                outputs=[
                    "deployment.reporting.sizes",
                    "deployment.reporting.particles",
                    "deployment.reporting.networks",
                    "deployment.reporting.workbook",
                ],
                name="summarise",
            ),
            Node(
                nodes.write_page,
                inputs=[
                    "deployment.model_output.segmentations",
                    "params:deployment",
                    "params:trust",
                ],
                outputs="deployment.reporting.page",
                name="write_page",
            ),
        ]
    )
    return own + trust.create_pipeline() if judged else own


def takes_box(plan: StudyPlan, parameters: dict[str, object]) -> bool:
    """Return whether the network that comes with the package is wanted, or the only one there."""
    wanted = DeploymentParameters.model_validate(parameters.get("deployment") or {}).networks
    asked = wanted if isinstance(wanted, list) else []
    return wanted == "box" or not any_trained([*plan.with_weights, *asked])


def named_networks(plan: StudyPlan, parameters: dict[str, object]) -> list[str]:
    """Return the networks of the study, and those named that were made beside it (fine-tuned).

    Where no network of the study is trained it is only those named.
    """
    deployment = DeploymentParameters.model_validate(parameters.get("deployment") or {})
    asked = deployment.networks if isinstance(deployment.networks, list) else []
    beside = [n for n in asked if n not in plan.with_weights and any_trained([n])]
    if beside and not any_trained(plan.with_weights):
        return beside
    return [*plan.with_weights, *beside]


def can_judge(plan: StudyPlan, parameters: dict[str, object]) -> bool:
    """Return whether trust is to be learned, and this study has enough to learn it from."""
    wanted = DeploymentParameters.model_validate(parameters.get("deployment") or {}).judge
    modelling = ModellingParameters.model_validate(parameters.get("modelling") or {})
    splits = [split for split in plan.used_splits if split not in plan.curated_splits]
    return (
        wanted
        and "grouped" in modelling.protocols
        and len(splits) >= _FEWEST
        and len(plan.trained) >= _FEWEST
    )

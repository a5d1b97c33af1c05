"""Wiring of the evaluation."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.binding import bind, each
from temshift.config.plan import StudyPlan
from temshift.context import study_plan
from temshift.pipelines.evaluation import nodes


def create_pipeline() -> Pipeline:
    """Test every network in its namespace, then collect."""
    plan = study_plan()
    tests = [_test(name, plan) for name in plan.rows]
    return Pipeline(
        [
            *tests,
            Node(
                nodes.collect,
                inputs=[f"{name}.results" for name in plan.rows],
                outputs="evaluation.model_output.results",
                name="collect_results",
            ),
            Node(
                nodes.collect_histories,
                inputs=[f"{name}.history" for name in plan.trained],
                outputs="evaluation.model_output.histories",
                name="collect_histories",
            ),
        ]
    )


def _test(name: str, plan: StudyPlan) -> Node:
    adapted = plan.weights_of(name) != name
    tuned = adapted and plan.networks[name].fine_tuning is not None
    return Node(
        bind(nodes.evaluate_tuned if tuned else nodes.evaluate, name),
        inputs={
            "networks": f"{plan.weights_of(name)}.networks",
            "modelling": "params:modelling",
            "evaluation": "params:evaluation",
            **({"network": f"params:networks.{name}"} if adapted else {}),
            **each(plan.tested_on(name), "patches"),
        },
        outputs=[f"{name}.results", f"{name}.examples"],
        name="evaluate",
        namespace=name,
        tags=["gpu"],
    )

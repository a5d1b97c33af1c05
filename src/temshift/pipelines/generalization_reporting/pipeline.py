"""Wiring of the reporting pipeline."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.binding import bind
from temshift.config.plan import StudyPlan
from temshift.context import study_plan
from temshift.pipelines.generalization_reporting import nodes

_RESULTS = "generalization_reporting.model_output.results"
_HISTORIES = "generalization_reporting.model_output.histories"
_TABLES = "generalization_reporting.reporting"


def create_pipeline() -> Pipeline:
    """Test every network in its namespace, then compare, explain, draw and report."""
    plan = study_plan()
    return Pipeline([*_evaluation(plan), *_comparison(plan), *_figures(plan), _report(plan)])


def _evaluation(plan: StudyPlan) -> list[Node]:
    tests = [
        Node(
            bind(nodes.evaluate, name),
            inputs={
                "networks": f"{name}.networks",
                "modelling": "params:modelling",
                "reporting": "params:reporting",
                **_each(plan.tested_on(name), "patches"),
            },
            outputs=[f"{name}.results", f"{name}.examples"],
            name="evaluate",
            namespace=name,
            tags=["gpu"],
        )
        for name in plan.rows
    ]
    return [
        *tests,
        Node(
            nodes.collect,
            inputs=[f"{name}.results" for name in plan.rows],
            outputs=_RESULTS,
            name="collect_results",
        ),
        Node(
            nodes.collect_histories,
            inputs=[f"{name}.history" for name in plan.trained],
            outputs=_HISTORIES,
            name="collect_histories",
        ),
    ]


def _comparison(plan: StudyPlan) -> list[Node]:
    return [
        Node(
            nodes.compare,
            inputs={
                "results": _RESULTS,
                "splits": "params:splits",
                "studies": "params:studies",
                "networks": "params:networks",
                "curation": "params:curation",
                "reporting": "params:reporting",
                **_each(plan.used_splits, "micrographs"),
            },
            outputs=[
                f"{_TABLES}.{name}" for name in ("matrix", "gaps", "gains", "confounds", "splits")
            ],
            name="compare",
        ),
        Node(
            nodes.explain,
            inputs={
                "gaps": f"{_TABLES}.gaps",
                "splits": "params:splits",
                "studies": "params:studies",
                "reporting": "params:reporting",
                **_each(plan.used_splits, "fingerprint"),
            },
            outputs=[f"{_TABLES}.{name}" for name in ("fingerprints", "distances", "explanation")],
            name="explain",
        ),
    ]


def _figures(plan: StudyPlan) -> list[Node]:
    matrices = [
        Node(
            bind(nodes.draw_matrix, study),
            inputs={"matrix": f"{_TABLES}.matrix"},
            outputs=f"{_TABLES}.{study}_matrix",
            name=f"draw_{study}_matrix",
        )
        for study in plan.studies
    ]
    return [
        *matrices,
        Node(
            nodes.draw_gaps,
            inputs=[f"{_TABLES}.gaps", "params:reporting", "params:modelling"],
            outputs=f"{_TABLES}.gaps_figure",
            name="draw_gaps",
        ),
        Node(
            nodes.draw_histories,
            inputs=_HISTORIES,
            outputs=f"{_TABLES}.histories_figure",
            name="draw_histories",
        ),
    ]


def _report(plan: StudyPlan) -> Node:
    compared = ("matrix", "gaps", "gains", "confounds", "splits")
    explained = ("fingerprints", "distances", "explanation")
    return Node(
        nodes.write_report,
        inputs={
            "parameters": "parameters",
            "results": _RESULTS,
            "histories": _HISTORIES,
            **{name: f"{_TABLES}.{name}" for name in (*compared, *explained)},
            **_each(plan.rows, "examples"),
        },
        outputs=[f"{_TABLES}.report", f"{_TABLES}.summary"],
        name="write_report",
    )


def _each(owners: list[str], dataset: str) -> dict[str, str]:
    """Return one dataset of every split or network as keyword inputs named like themselves."""
    return {f"{owner}.{dataset}": f"{owner}.{dataset}" for owner in owners}

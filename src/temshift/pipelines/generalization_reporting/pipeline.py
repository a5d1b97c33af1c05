"""Wiring of the reporting pipeline."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.binding import bind, each
from temshift.config.plan import StudyPlan
from temshift.context import project_parameters, study_plan
from temshift.pipelines.generalization_reporting import nodes

_RESULTS = "evaluation.model_output.results"
_HISTORIES = "evaluation.model_output.histories"
_TABLES = "generalization_reporting.reporting"
_COMPARED = ("matrix", "gaps", "gains", "remedies", "transfer", "confounds", "splits")

#: Blocks of the parameters that make the study, and stand in its report: any other block may
#: change without the report being written again.
STUDY_BLOCKS = (
    *("simulation", "calibration", "curation", "preprocessing", "splits", "studies"),
    *("networks", "modelling", "evaluation", "reporting", "download"),
)


def create_pipeline() -> Pipeline:
    """Compare, explain, draw and report what the networks were tested to do."""
    plan = study_plan()
    tables = _tables(plan)
    return Pipeline([*_comparison(plan), *_figures(plan, tables), *_report(plan, tables)])


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
                **each(plan.used_splits, "micrographs"),
            },
            outputs=[f"{_TABLES}.{name}" for name in _COMPARED],
            name="compare",
        ),
        Node(
            nodes.explain,
            inputs={
                "gaps": f"{_TABLES}.gaps",
                "splits": "params:splits",
                "studies": "params:studies",
                "reporting": "params:reporting",
                **each(plan.used_splits, "fingerprint"),
            },
            outputs=[f"{_TABLES}.{name}" for name in ("fingerprints", "distances", "explanation")],
            name="explain",
        ),
    ]


def _figures(plan: StudyPlan, tables: dict[str, str]) -> list[Node]:
    matrices = [
        Node(
            bind(nodes.draw_matrix, study),
            inputs=tables,
            outputs=f"{_TABLES}.{study}_matrix",
            name=f"draw_{study}_matrix",
        )
        for study in plan.studies
    ]
    return [
        *matrices,
        Node(
            nodes.draw_gaps,
            inputs=tables,
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


def _tables(plan: StudyPlan) -> dict[str, str]:
    """Return the inputs of whatever is drawn or written from the content of the report."""
    explained = ("fingerprints", "distances", "explanation")
    checked = set(plan.used_splits) - set(plan.curated_splits)
    integrity = {"integrity": "data_curation.reporting.integrity"} if checked else {}
    return {
        **_blocks(),
        "results": _RESULTS,
        "histories": _HISTORIES,
        **{name: f"{_TABLES}.{name}" for name in (*_COMPARED, *explained)},
        **integrity,
    }


def _report(plan: StudyPlan, tables: dict[str, str]) -> list[Node]:
    return [
        Node(
            nodes.draw_for_print,
            inputs=tables,
            outputs=[f"{_TABLES}.{name}_print" for name in nodes.printed_names(plan.studies)],
            name="draw_for_print",
        ),
        Node(
            nodes.write_report,
            inputs={**tables, "facts": f"{_TABLES}.facts", **each(plan.rows, "examples")},
            outputs=[f"{_TABLES}.report", f"{_TABLES}.summary"],
            name="write_report",
        ),
    ]


def _blocks() -> dict[str, str]:
    given = project_parameters()
    return {
        name: name
        for name in (f"params:{block}" for block in STUDY_BLOCKS if given.get(block) is not None)
    }

"""Nodes of the reporting pipeline.

Nodes that take one dataset of every split or network get them as keyword arguments named like the
dataset (``{"au_5nm.fingerprint": ...}``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from temshift.binding import by_owner
from temshift.config.curation import CurationParameters
from temshift.config.plan import StudyPlan
from temshift.config.reporting import ReportingParameters
from temshift.types import DataFrame

if TYPE_CHECKING:
    from temshift.reporting.content import ReportContent


def compare(
    results: DataFrame,
    splits: dict[str, Any],
    studies: dict[str, Any],
    networks: dict[str, Any],
    curation: CurationParameters,
    reporting: ReportingParameters,
    **micrographs: DataFrame,
) -> tuple[DataFrame, ...]:
    """Work out matrices, gaps with verdicts, gains, remedies, transfer, confounds, splits."""
    from temshift.study import statistics
    from temshift.study.remedies import remedies_table
    from temshift.study.transfer import transfer_table

    plan = StudyPlan.from_parameters(
        {"splits": splits, "studies": studies, "networks": networks, "curation": curation}
    )
    rows = by_owner(micrographs)
    matrix = statistics.dice_matrices(results, plan, reporting)
    gaps = statistics.compare_with_in_domain(results, plan, reporting)
    gains = statistics.compare_robust_training(results, plan, reporting)
    return (
        matrix,
        gaps,
        gains,
        remedies_table(matrix, gaps, gains, plan, reporting),
        transfer_table(results, plan, reporting),
        statistics.find_confounds(plan, rows),
        statistics.splits_table(results, matrix, plan, rows),
    )


def explain(
    gaps: DataFrame,
    splits: dict[str, Any],
    studies: dict[str, Any],
    reporting: ReportingParameters,
    **fingerprints: dict[str, Any],
) -> tuple[DataFrame, DataFrame, DataFrame]:
    """Set distances between the splits' fingerprints against the gaps, and correlate the two."""
    from temshift.study.explain import explain_gaps, fingerprint_distances, fingerprint_table

    by_split = by_owner(fingerprints)
    distances = fingerprint_distances(gaps, StudyPlan(splits=splits, studies=studies), by_split)
    explanation = explain_gaps(distances, by_split, reporting)
    return fingerprint_table(by_split), distances, explanation


def draw_matrix(study: str, integrity: DataFrame | None = None, **tables: Any) -> Any:
    """Draw the matrix of one study (plotly); arguments as of :func:`draw_for_print`."""
    from temshift.reporting.figures import matrix_figure

    return matrix_figure(_content(integrity=integrity, facts=None, **tables), study)


def draw_gaps(integrity: DataFrame | None = None, **tables: Any) -> Any:
    """Draw the gaps that the report draws (plotly); arguments as of :func:`draw_for_print`."""
    from temshift.reporting.figures import gaps_figure

    return gaps_figure(_content(integrity=integrity, facts=None, **tables))


def draw_histories(histories: DataFrame) -> Any:
    """Draw loss and Dice of every network during its training (plotly)."""
    from temshift.reporting.figures import histories_figure

    return histories_figure(histories)


def printed_names(studies: Iterable[str]) -> list[str]:
    """Return the names of the figures for print, in the order in which they are written."""
    return ["overview", *(f"{study}_{kind}" for study in studies for kind in ("matrix", "forest"))]


def draw_for_print(integrity: DataFrame | None = None, **tables: Any) -> tuple[Any, ...]:
    """Draw the overview, and matrix and forest of each study, as SVG and PDF.

    Further arguments are those of :func:`write_report` but the examples.
    """
    from temshift.reporting.printed import printed_figures

    content = _content(integrity=integrity, facts=None, **tables)
    figures = printed_figures(content)
    return tuple(figures[name] for name in printed_names(content.plan.studies))


def write_report(
    integrity: DataFrame | None = None, facts: Any = None, **tables: Any
) -> tuple[str, dict[str, Any]]:
    """Write the report and its summary.

    Further arguments are the tables of the study by their names, the blocks of the parameters that
    the report shows, named like their datasets (``params:splits``), and the examples of each
    network.
    """
    from temshift.reporting.html import render_report
    from temshift.reporting.summary import summarise

    content = _content(integrity=integrity, facts=facts, **tables)
    return render_report(content), summarise(content)


def _content(**given: Any) -> ReportContent:
    from temshift.reporting.content import ReportContent

    blocks = {k.removeprefix("params:"): v for k, v in given.items() if k.startswith("params:")}
    examples = {k: v for k, v in given.items() if k.endswith(".examples")}
    tables = {k: v for k, v in given.items() if "." not in k and not k.startswith("params:")}
    return ReportContent.from_tables(blocks, examples=by_owner(examples), **tables)

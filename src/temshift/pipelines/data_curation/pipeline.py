"""Wiring of the data curation."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.binding import bind
from temshift.context import project_parameters, study_plan
from temshift.pipelines.data_curation.nodes import (
    accept_micrographs,
    describe_curated_set,
    inspect_files,
    name_curated_sets,
    name_metadata_table,
    name_needed_files,
    report_integrity,
    select_split,
    standardise_table,
)


def create_pipeline() -> Pipeline:
    """Check what all used splits need, then select each split in its own namespace.

    Splits that are curated sets are fetched and described instead.

    The report of the check is written before the data are refused, and an earlier validated table
    is only replaced by a new one that has passed.
    """
    plan = study_plan()
    curated = [name for name in plan.used_splits if name in plan.curated_splits]
    selected = [name for name in plan.used_splits if name not in plan.curated_splits]
    return Pipeline(
        [
            *(_selection(selected, plan.varied(selected)) if selected else []),
            *(_adoption(curated) if curated else []),
        ]
    )


def _selection(used: list[str], varied: dict[str, list[str]]) -> list[Node]:
    """Check a table and its files, then select each split."""
    splits = _parameters_of(used)
    return [
        *(_download(splits) if project_parameters().get("download") else []),
        Node(
            standardise_table,
            inputs=["data_curation.raw.metadata", "params:curation"],
            outputs=[
                "data_curation.intermediate.micrographs",
                "data_curation.intermediate.findings",
            ],
            name="standardise_table",
        ),
        Node(
            inspect_files,
            inputs={
                "table": "data_curation.intermediate.micrographs",
                "findings": "data_curation.intermediate.findings",
                "store": "data_curation.raw.micrographs",
                "curation": "params:curation",
                **splits,
            },
            outputs=[
                "data_curation.intermediate.inspected",
                "data_curation.intermediate.measurements",
            ],
            name="inspect_files",
        ),
        Node(
            bind(report_integrity, varied),
            inputs={
                "table": "data_curation.intermediate.micrographs",
                "inspected": "data_curation.intermediate.inspected",
                "measurements": "data_curation.intermediate.measurements",
                "curation": "params:curation",
                "patch_px": "params:preprocessing.patch_px",
                "pixel_size_nm": "params:preprocessing.pixel_size_nm",
                "protocols": "params:modelling.protocols",
                **splits,
            },
            outputs="data_curation.reporting.integrity",
            name="report_integrity",
        ),
        Node(
            accept_micrographs,
            inputs={
                "table": "data_curation.intermediate.micrographs",
                "report": "data_curation.reporting.integrity",
                "measurements": "data_curation.intermediate.measurements",
                "curation": "params:curation",
                "folds": "params:modelling.folds",
                **splits,
            },
            outputs="data_curation.primary.micrographs",
            name="accept_micrographs",
        ),
        *(
            Node(
                bind(select_split, name),
                inputs=[
                    "data_curation.primary.micrographs",
                    f"params:splits.{name}",
                    "params:curation",
                ],
                outputs=f"{name}.micrographs",
                name="select_split",
                namespace=name,
            )
            for name in used
        ),
    ]


def _adoption(used: list[str]) -> list[Node]:
    """Fetch curated sets, then describe each."""
    return [
        Node(
            name_curated_sets,
            inputs=_parameters_of(used),
            outputs="data_curation.raw.curated_sets",
            name="fetch_curated_sets",
        ),
        *(
            Node(
                bind(describe_curated_set, name),
                inputs=[
                    "data_curation.raw.curated_sets",
                    f"params:splits.{name}",
                    "params:curation",
                ],
                outputs=f"{name}.micrographs",
                name="describe_curated_set",
                namespace=name,
            )
            for name in used
        ),
    ]


def _parameters_of(splits: list[str]) -> dict[str, str]:
    return {name: f"params:splits.{name}" for name in splits}


def _download(splits: dict[str, str]) -> list[Node]:
    """Fetch the metadata table, then the files that the used splits need."""
    return [
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
                **splits,
            },
            outputs="data_curation.raw.micrographs",
            name="fetch_micrographs",
        ),
    ]

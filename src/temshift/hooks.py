"""What needs the whole run: checks before any node starts, and the findings at its end."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from kedro.framework.hooks import hook_impl

from temshift.catalog.content import content_paths
from temshift.config.base import plain
from temshift.config.tracking import TrackingParameters
from temshift.progress import said_if_slow

logger = logging.getLogger(__name__)

_REPORT = "generalization_reporting.reporting.report"
_SUMMARY = "generalization_reporting.reporting.summary"


class ProjectHooks:
    """Fail early, and end with what was found.

    What would stop a run after hours is asked before its first node; a run that made the report, or
    found it up to date, ends with its first sentences and its path.
    """

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Refuse an absent device, networks that do not fit the patches, missing new files.

        Also runs that are to be listed in MLflow where it is not installed. Tell what is
        declared and not made, and which results of earlier runs are not those that were written.

        Raises
        ------
        UserError
        """
        _say_what_is_unused(pipeline)
        _say_what_was_altered(pipeline, catalog)
        used = pipeline.datasets()
        if _SUMMARY in pipeline.all_outputs() and _tracking(catalog).mlflow:
            from temshift.catalog.tracking import import_mlflow

            import_mlflow()
        for name in ("deployment.raw.micrographs", "deployment.raw.masks"):
            if name in used:
                catalog.load(name)
        if "params:modelling" in used:
            device = catalog.load("params:modelling").device
            if device != "auto" and device != "cpu" and not _computed_elsewhere(catalog):
                from temshift.learning.devices import choose_device

                choose_device(device)
        if any(name.startswith("params:modelling") for name in used) and "parameters" in catalog:
            with said_if_slow("Checking that the networks fit the patches", logger):
                _check_architectures(catalog, pipeline.all_outputs())

    @hook_impl
    def after_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """Say the findings and where the report is."""
        if not {_REPORT, _SUMMARY} <= pipeline.all_outputs():
            return
        summary, report = catalog.load(_SUMMARY), catalog[_REPORT]._describe()["filepath"]
        for answer in summary["answers"]:
            logger.info("%s", answer["sentence"])
        logger.info("Report: %s", report)
        tracking = _tracking(catalog)
        if tracking.mlflow:
            from temshift.catalog.tracking import track_run

            new = track_run(tracking, plain(catalog.load("parameters")), summary, str(report))
            said = "listed in" if new else "the same run is already listed in"
            logger.info("MLflow: %s %s", said, tracking.database)


def _say_what_is_unused(pipeline: Any) -> None:
    """Tell splits and networks of the environment that no study names, if any would be made."""
    from temshift.context import declared_in_vain

    stages = {(node.namespace or "").partition(".")[0] for node in pipeline.nodes}
    unused = declared_in_vain() if stages & {"data_curation", "modelling"} else {}
    if unused:
        logger.info(
            "Declared, but named by no study and so not made: %s. Name a split in 'splits' of a "
            "study (studies.<name>), a network in its 'networks'; null removes what is inherited",
            ", ".join(f"{key} ({file})" for key, file in unused.items()),
        )


def _say_what_was_altered(pipeline: Any, catalog: Any) -> None:
    """Warn of inputs that other pipelines have made and that are not what they wrote."""
    if "provenance" not in catalog:
        return
    records = catalog.load("provenance")
    inputs = sorted(name for name in pipeline.inputs() if name in catalog)
    written: dict[str, str | None] = {}
    for record in records.behind(inputs):
        written |= record["outputs"]
    for name in inputs:
        dataset = catalog.get(name)
        if name not in written or getattr(dataset, "volatile", False):
            continue
        paths = content_paths(dataset)
        now = records.content(paths)
        if now is not None and now != written[name]:
            logger.warning(
                "%s is not what was written there (cut short? edited?), and is used as it is. To "
                "make it again, run the pipeline that makes it too: kedro run",
                ", ".join(map(str, paths)),
            )


def _tracking(catalog: Any) -> TrackingParameters:
    """Return whether and where runs are listed; without parameters nowhere."""
    given = plain(catalog.load("parameters")) if "parameters" in catalog else {}
    return TrackingParameters.model_validate(given.get("tracking") or {})


def _computed_elsewhere(catalog: Any) -> bool:
    """Whether networks are computed by other machines, whose devices are theirs."""
    cluster = getattr(getattr(catalog, "origin", None), "cluster", None)
    return cluster is not None and cluster.scheduler != "local"


def _check_architectures(catalog: Any, made: Collection[str]) -> None:
    from temshift.config.modelling import ModellingParameters
    from temshift.config.plan import StudyPlan
    from temshift.config.preprocessing import PreprocessingParameters

    parameters = catalog.load("parameters")
    plan = StudyPlan.from_parameters(parameters)
    modelling = ModellingParameters.model_validate(parameters["modelling"])
    preprocessing = PreprocessingParameters.model_validate(parameters["preprocessing"])
    from temshift.learning.checks import check_architectures

    trained = [name for name in plan.trained if f"{name}.networks" in made]
    new = [name for name in trained if not catalog.exists(f"{name}.networks")]
    downloaded = [] if _computed_elsewhere(catalog) else new
    # where all have the default architecture, torch is not loaded
    check_architectures(plan, modelling, preprocessing, trained, downloaded)

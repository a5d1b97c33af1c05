"""Checks that need the whole run to be known, made before any node starts."""

from __future__ import annotations

from typing import Any

from kedro.framework.hooks import hook_impl


class ProjectHooks:
    """Fail early: what would stop a run after hours is asked before its first node."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Refuse an absent device, networks that do not fit the patches, missing new micrographs.

        Raises
        ------
        UserError
        """
        used = pipeline.datasets()
        if "deployment.raw.micrographs" in used:
            catalog.load("deployment.raw.micrographs")
        if "params:modelling" in used:
            device = catalog.load("params:modelling").device
            if device != "auto" and device != "cpu" and not _computed_elsewhere(catalog):
                from temshift.learning.devices import choose_device

                choose_device(device)
        if any(name.startswith("params:modelling") for name in used) and "parameters" in catalog:
            _check_architectures(catalog)


def _computed_elsewhere(catalog: Any) -> bool:
    """Whether networks are computed by other machines, whose devices are theirs."""
    cluster = getattr(getattr(catalog, "origin", None), "cluster", None)
    return cluster is not None and cluster.scheduler != "local"


def _check_architectures(catalog: Any) -> None:
    from temshift.config.modelling import Architecture, ModellingParameters
    from temshift.config.plan import StudyPlan
    from temshift.config.preprocessing import PreprocessingParameters

    parameters = catalog.load("parameters")
    plan = StudyPlan.from_parameters(parameters)
    modelling = ModellingParameters.model_validate(parameters["modelling"])
    preprocessing = PreprocessingParameters.model_validate(parameters["preprocessing"])
    if all(
        modelling.with_overrides(plan.networks.get(name)).architecture == Architecture()
        for name in plan.trained
    ):
        return  # patches suit it by their type: torch need not be loaded
    from temshift.learning.checks import check_architectures

    check_architectures(plan, modelling, preprocessing)

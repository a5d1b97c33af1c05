"""Checks that need the whole run to be known, made before any node starts."""

from __future__ import annotations

from typing import Any

from kedro.framework.hooks import hook_impl


class ProjectHooks:
    """Fail early: what would stop a run after hours is asked before its first node."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Refuse a device that this machine lacks, and new micrographs that are not there."""
        if "deployment.raw.micrographs" in pipeline.inputs():
            catalog.load("deployment.raw.micrographs")
        if "params:modelling" not in pipeline.datasets():
            return
        device = catalog.load("params:modelling").device
        if device != "auto" and device != "cpu":
            from temshift.learning.devices import choose_device

            choose_device(device)

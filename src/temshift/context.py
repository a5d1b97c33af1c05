"""Parameters for the pipeline registry.

The registry builds one namespace a split, so it must read the parameters before Kedro hands them
to the nodes. A context class keeps the session's configuration loader for it; without a session
(``kedro registry list``) the loader is made from the settings. Kedro-Viz runs without hooks, so a
hook could not do this.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from kedro.config import AbstractConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.project import pipelines, settings

from temshift.config.plan import StudyPlan

_loader: AbstractConfigLoader | None = None
_parameters: dict[str, Any] | None = None


class ProjectContext(KedroContext):
    """Kedro's context, which remembers its configuration loader for the registry.

    All pipelines are registered and all parameters validated, whichever are asked for. Kedro would
    leave the parameters of the others as they stand in the files: ``--pipelines
    generalization_reporting`` would get other values than a run of the whole study, and repeat
    what is up to date.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        global _loader, _parameters
        _loader, _parameters = self.config_loader, None
        pipelines.set_requested(None)

    def _get_validated_params(self) -> dict[str, Any]:
        self._pipelines_to_validate = None
        params: dict[str, Any] = super()._get_validated_params()
        return params


def project_parameters() -> dict[str, Any]:
    """Return the raw parameters of the running environment; reads them once a session."""
    global _parameters
    if _loader is None:
        root = Path(os.environ.get("KEDRO_PROJECT_PATH", _find_root()))
        return _without_session(root, os.environ.get("KEDRO_ENV"))
    if _parameters is None:
        _parameters = dict(_loader["parameters"])
    return _parameters


@lru_cache(maxsize=1)
def _without_session(root: Path, env: str | None) -> dict[str, Any]:
    loader = settings.CONFIG_LOADER_CLASS(
        conf_source=str(root / settings.CONF_SOURCE), env=env, **settings.CONFIG_LOADER_ARGS
    )
    return dict(loader["parameters"])


def study_plan() -> StudyPlan:
    """Return the validated splits, studies and networks of the running environment."""
    return StudyPlan.from_parameters(project_parameters())


def _find_root() -> Path:
    from kedro.utils import find_kedro_project

    found = find_kedro_project(Path.cwd())
    if found is None:
        raise RuntimeError("no Kedro project found: run the command in the project's folder")
    return Path(found)

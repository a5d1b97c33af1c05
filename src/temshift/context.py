"""Parameters for the pipeline registry.

The registry builds one namespace a split, so it must read the parameters before Kedro hands them
to the nodes. A context class keeps the session's configuration loader for it; without a session
(``kedro registry list``) the loader is made from the settings. Kedro-Viz runs without hooks, so a
hook could not do this.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kedro.config import AbstractConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.project import settings

from temshift.config.plan import StudyPlan

_loader: AbstractConfigLoader | None = None


class ProjectContext(KedroContext):
    """Kedro's context, which remembers its configuration loader for the registry."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        global _loader
        _loader = self.config_loader


def project_parameters() -> dict[str, Any]:
    """Return the raw parameters of the running environment."""
    loader = _loader
    if loader is None:
        root = Path(os.environ.get("KEDRO_PROJECT_PATH", _find_root()))
        loader = settings.CONFIG_LOADER_CLASS(
            conf_source=str(root / settings.CONF_SOURCE),
            env=os.environ.get("KEDRO_ENV"),
            **settings.CONFIG_LOADER_ARGS,
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

"""Say where the report of an environment lies: ``python -m temshift.where --env mine``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from temshift.catalog.remote import local_copy


def report_path(project: Path, env: str | None = None) -> Path:
    """Return the path of ``report.html`` of an environment (of its copy, if it lies elsewhere)."""
    bootstrap_project(project)
    with KedroSession.create(project_path=project, env=env) as session:
        catalog = session.load_context().config_loader["catalog"]  # type: ignore[attr-defined]
    return project / local_copy(catalog["generalization_reporting.reporting.report"]["filepath"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env")
    sys.stdout.write(f"{report_path(Path.cwd(), parser.parse_args().env)}\n")

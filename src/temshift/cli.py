"""Project commands: Kedro's own ``run``, with our runner as its default."""

from __future__ import annotations

import copy

import click
from kedro.framework.cli.project import run as kedro_run


@click.group(name="temshift")
def cli() -> None:
    """Commands of the project."""


run = copy.copy(kedro_run)
run.params = [copy.copy(param) for param in kedro_run.params]
for _param in run.params:
    if _param.name == "runner":
        _param.default = "temshift.runner.IncrementalRunner"
cli.add_command(run)

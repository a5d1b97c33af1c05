"""Nodes of the simulation: plan, specimens, micrographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pandas as pd

from temshift.config import MICROGRAPH_COLUMNS, SplitParameters
from temshift.microscopy import acquisitions
from temshift.microscopy.acquisitions import Exposures
from temshift.microscopy.multislice import ExitWave
from temshift.microscopy.simulation_parameters import SimulationParameters
from temshift.microscopy.splits import select_split


def plan_acquisitions(parameters: SimulationParameters, **splits: Any) -> pd.DataFrame:
    """Plan every micrograph, and make sure that every split in use will find some among them."""
    table = acquisitions.plan(parameters)
    for name, split in splits.items():
        select_split(table, name, SplitParameters.model_validate(split))
    return table


def simulate(specimen_type: str) -> Callable[..., Iterator[tuple[str, ExitWave]]]:
    """Return the node function that simulates all specimens of one type."""

    def simulate_type(
        table: pd.DataFrame, parameters: SimulationParameters
    ) -> Iterator[tuple[str, ExitWave]]:
        return acquisitions.simulate_specimens(table, parameters, specimen_type)

    simulate_type.__name__ = f"simulate_{specimen_type}"
    return simulate_type


def acquire_micrographs(
    table: pd.DataFrame, parameters: SimulationParameters, **waves: Mapping[str, ExitWave]
) -> tuple[Exposures, pd.DataFrame]:
    """Image every specimen under its conditions; return the micrographs and their table."""
    metadata = table[list(MICROGRAPH_COLUMNS)].drop(columns="sha256")
    return Exposures(table, waves, parameters), metadata

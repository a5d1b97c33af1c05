"""Nodes of the simulation: plan, specimens, micrographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
from tqdm import tqdm

from temshift.config import MICROGRAPH_COLUMNS, SplitParameters
from temshift.microscopy import acquisitions
from temshift.microscopy.simulation_parameters import SimulationParameters
from temshift.microscopy.splits import select_split


def plan_acquisitions(
    parameters: SimulationParameters, splits: dict[str, SplitParameters]
) -> pd.DataFrame:
    """Plan every micrograph, and make sure that every split will find some among them."""
    table = acquisitions.plan(parameters)
    for name, split in splits.items():
        select_split(table, name, split)
    return table


def simulate(specimen_type: str) -> Callable[..., Iterator[tuple[str, Any]]]:
    """Return the node function that simulates all specimens of one type."""

    def simulate_type(
        table: pd.DataFrame, parameters: SimulationParameters
    ) -> Iterator[tuple[str, Any]]:
        rows = table[table["specimen_type"] == specimen_type].drop_duplicates("specimen_id")
        seeds = dict(zip(rows["specimen_id"], rows["specimen_seed"], strict=True))
        return _in_threads(specimen_type, seeds, parameters)

    simulate_type.__name__ = f"simulate_{specimen_type}"
    return simulate_type


def _in_threads(
    specimen_type: str, seeds: Mapping[str, int], parameters: SimulationParameters
) -> Iterator[tuple[str, Any]]:
    with ThreadPoolExecutor(parameters.workers) as pool:
        waves = pool.map(
            lambda seed: acquisitions.simulate_specimen(parameters, specimen_type, int(seed)),
            seeds.values(),
        )
        progress = tqdm(waves, total=len(seeds), desc=f"specimens {specimen_type}")
        yield from zip(seeds, progress, strict=True)


def acquire_micrographs(
    table: pd.DataFrame, parameters: SimulationParameters, **waves: Mapping[str, Any]
) -> tuple[Iterator[tuple[str, Any, Any]], pd.DataFrame]:
    """Image every specimen under its conditions; return the micrographs and their table."""
    metadata = table[list(MICROGRAPH_COLUMNS)].drop(columns="sha256")
    return _exposures(table, parameters, waves), metadata


def _exposures(
    table: pd.DataFrame, parameters: SimulationParameters, waves: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, Any, Any]]:
    with tqdm(total=len(table), desc="micrographs") as progress:
        for (specimen_type, specimen_id), rows in table.groupby(
            ["specimen_type", "specimen_id"], sort=False
        ):
            exit_wave = waves[f"{specimen_type}_waves"][specimen_id]
            for row in rows.to_dict("records"):
                micrograph, label = acquisitions.expose(exit_wave, row, parameters)
                yield row["path"], micrograph, label
                progress.update()

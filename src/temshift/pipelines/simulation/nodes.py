"""Nodes of the simulation: plan, specimens, micrographs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from temshift.config.contract import MICROGRAPH_COLUMNS
from temshift.config.simulation import (
    MultisliceParameters,
    SimulationParameters,
    SpecimenParameters,
    SupportParameters,
)
from temshift.config.splits import SplitParameters
from temshift.types import DataFrame, ExitWave, Exposures


def plan_acquisitions(parameters: SimulationParameters, **splits: Any) -> DataFrame:
    """Plan every micrograph, and make sure that every split in use will find some among them."""
    from temshift.microscopy import acquisitions
    from temshift.study.splits import select_splits

    table = acquisitions.plan(parameters)
    select_splits(
        table, {name: SplitParameters.model_validate(split) for name, split in splits.items()}
    )
    return table


def simulate(
    specimen_type: str,
    specimen: Any,
    supports: dict[str, Any],
    multislice: Any,
    field_width_nm: float,
    fields: int,
    seed: int,
) -> Iterator[tuple[str, ExitWave]]:
    """Simulate all specimens of one type.

    The parameters are parts of a block that Kedro has validated as a whole.
    """
    from temshift.microscopy import acquisitions

    specimen = SpecimenParameters.model_validate(specimen)
    return acquisitions.simulate_specimens(
        specimen_type,
        specimen,
        SupportParameters.model_validate(supports[specimen.support]),
        MultisliceParameters.model_validate(multislice),
        field_width_nm,
        fields,
        seed,
    )


def acquire_micrographs(
    table: DataFrame, parameters: SimulationParameters, **waves: Mapping[str, ExitWave]
) -> tuple[Exposures, DataFrame]:
    """Image every specimen under its conditions; return the micrographs and their table."""
    from temshift.microscopy.acquisitions import Exposures

    metadata = table[list(MICROGRAPH_COLUMNS)].drop(columns="sha256")
    return Exposures(table, waves, parameters), metadata

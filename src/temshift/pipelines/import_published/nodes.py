"""Nodes of the import of the study's networks."""

from __future__ import annotations

from typing import Any

from temshift.config.modelling import NetworkParameters
from temshift.config.published import ImportParameters
from temshift.types import DataFrame


def name_model_list(parameters: ImportParameters) -> str:
    """Return the file name of the model list, which saving fetches."""
    return parameters.model_list


def name_weight_files(model_list: DataFrame) -> list[str]:
    """Return the weight files of the model list, which saving fetches."""
    return list(model_list["Model Name"])


def import_networks(
    model_list: DataFrame,
    weights: Any,
    parameters: ImportParameters,
    networks: dict[str, Any],
) -> dict[str, Any]:
    """Convert the weight files; return a network set by its name, and what became of each file."""
    from temshift.learning.published_networks import import_networks

    declared = {
        name: NetworkParameters.model_validate(networks[name])
        for name in parameters.networks
        if networks.get(name)
    }
    sets, report = import_networks(model_list, weights, parameters.networks, declared)
    return {**sets, "report": report}

"""Nodes of the evaluation: networks tested, results and histories collected.

A node that takes one dataset of every split gets them as keyword arguments named like the dataset
(``{"au_5nm.patches": ...}``).
"""

from __future__ import annotations

from typing import Any

from temshift.binding import by_owner
from temshift.config.evaluation import EvaluationParameters
from temshift.config.modelling import ModellingParameters, NetworkParameters
from temshift.types import DataFrame, NetworkSet, PatchStack


def evaluate(
    name: str,
    networks: NetworkSet,
    modelling: ModellingParameters,
    evaluation: EvaluationParameters,
    network: NetworkParameters | None = None,
    **patches: PatchStack,
) -> tuple[DataFrame, list[Any]]:
    """Test all folds of one network on the splits of its studies.

    With a ``network`` that adapts the weights of another, these are what ``networks`` holds.

    Returns
    -------
    results : DataFrame
        One row a fold × protocol × micrograph.
    examples : list of Example
        Best, median and worst micrograph of each split.
    """
    from temshift.learning.evaluation import evaluate_network

    return evaluate_network(
        name,
        networks,
        by_owner(patches),
        evaluation,
        modelling.device,
        network.adaptation if network else None,
    )


def evaluate_tuned(
    name: str,
    networks: NetworkSet,
    modelling: ModellingParameters,
    evaluation: EvaluationParameters,
    network: NetworkParameters,
    **patches: PatchStack,
) -> tuple[DataFrame, list[Any]]:
    """Train another network further on a few micrographs of a split, then test it like others.

    Returns
    -------
    results, examples
        See :func:`evaluate`.
    """
    from temshift.learning.devices import choose_device
    from temshift.learning.evaluation import evaluate_network
    from temshift.learning.tuned import tune_to_target

    stacks, tuning = by_owner(patches), network.fine_tuning
    device = choose_device(modelling.device)
    assert tuning is not None
    tuned = tune_to_target(name, networks, stacks[tuning.split], tuning, device)
    return evaluate_network(name, tuned, stacks, evaluation, device, network.adaptation)


def collect(*tables: DataFrame) -> DataFrame:
    """Put the tables of all networks below each other."""
    import pandas as pd

    return pd.concat(tables, ignore_index=True)


def collect_histories(*histories: DataFrame) -> DataFrame:
    """Put the training histories below each other; imported networks have none."""
    import pandas as pd

    columns = ["network", "protocol", "fold", "restart", "step", "epoch"]
    columns += ["train_loss", "validation_loss", "validation_dice"]
    return collect(*histories) if histories else pd.DataFrame(columns=columns)

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

    With a ``network`` that adapts or fine-tunes the weights of another, these are what
    ``networks`` holds.

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
        network.fine_tuning if network else None,
    )


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

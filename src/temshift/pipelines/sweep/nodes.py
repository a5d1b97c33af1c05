"""Nodes of the pipeline ``sweep``."""

from __future__ import annotations

from typing import Any

from temshift.binding import by_owner
from temshift.config.curation import CurationParameters
from temshift.config.modelling import ModellingParameters
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.sweep import SweepParameters
from temshift.types import DataFrame, MicrographStore, SweepStore


def search(
    judged: tuple[str, ...],
    sweep: SweepParameters,
    modelling: ModellingParameters,
    preprocessing: PreprocessingParameters,
    curation: CurationParameters,
    splits: dict[str, Any],
    store: MicrographStore,
    trials: SweepStore,
    **micrographs: DataFrame,
) -> DataFrame:
    """Run the trials that are not finished.

    Parameters
    ----------
    judged : tuple of str
        Splits that every trial is trained and judged on.
    sweep, modelling, preprocessing, curation
        Parameters of these blocks.
    splits : dict
        Parameters of all splits.
    store : MicrographStore
    trials : SweepStore
    **micrographs : DataFrame
        Micrographs of each split, named like the dataset.

    Returns
    -------
    DataFrame
        See :func:`temshift.runner.trials.run_sweep`.
    """
    from temshift.config.splits import SplitParameters
    from temshift.runner.trials import Sweep, run_sweep

    tables = by_owner(micrographs)
    own = {name: SplitParameters.model_validate(splits[name]) for name in tables}
    return run_sweep(
        Sweep(sweep, modelling, preprocessing, curation, own, list(judged), tables, store), trials
    )


def report(scores: DataFrame, sweep: SweepParameters) -> tuple[DataFrame, DataFrame, str]:
    """Rank the trials, work out their learning curve, write their page."""
    from temshift.reporting.sweep import render_sweep
    from temshift.study.sweeps import learning_curve, rank_trials

    table, curve = rank_trials(scores, sweep.seed), learning_curve(scores)
    return table, curve, render_sweep(table, curve, sweep)

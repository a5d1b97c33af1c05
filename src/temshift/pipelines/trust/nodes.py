"""Nodes of the pipeline ``trust``."""

from __future__ import annotations

from typing import Any

from temshift.config.curation import CurationParameters
from temshift.config.modelling import ModellingParameters
from temshift.types import DataFrame, MicrographStore


def gather(
    store: MicrographStore,
    curation: CurationParameters,
    modelling: ModellingParameters,
    most: int | None,
    **datasets: Any,
) -> tuple[DataFrame, DataFrame]:
    """Gather the evidence on labelled micrographs of the study.

    Parameters
    ----------
    store, curation, modelling
        As in the study.
    most : int or None
        Micrographs of each fold and split.
    **datasets
        ``{network}.networks`` of every network, ``{split}.micrographs`` of every split.

    Returns
    -------
    evidence, agreement : DataFrame
        See :func:`temshift.learning.calibration.gather_study`.
    """
    from temshift.learning.calibration import gather_study

    return gather_study(
        named(datasets, "networks"),
        named(datasets, "micrographs"),
        store,
        curation.label_kind,
        modelling.device,
        most,
    )


def named(datasets: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the datasets of one kind by the network or split they belong to."""
    suffix = f".{kind}"
    return {k.removesuffix(suffix): v for k, v in datasets.items() if k.endswith(suffix)}

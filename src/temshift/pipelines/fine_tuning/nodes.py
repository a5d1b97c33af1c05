"""Nodes of the pipeline ``fine_tuning``."""

from __future__ import annotations

from typing import Any

from temshift.binding import by_owner
from temshift.config.fine_tuning import FewLabelsParameters
from temshift.types import DataFrame, LabelledStore, NetworkSet


def fine_tune(
    labelled: LabelledStore, fine_tuning: FewLabelsParameters, **datasets: Any
) -> tuple[NetworkSet, DataFrame, str]:
    """Tune a network, measure what the labels bring and what they cost, and show it.

    Parameters
    ----------
    labelled : LabelledStore
    fine_tuning : FewLabelsParameters
    **datasets
        Networks and patches, named like the dataset; without networks that of the package.

    Returns
    -------
    networks : NetworkSet
        Tuned on all labels.
    curve : DataFrame
        See :data:`temshift.study.few_labels.CURVE_COLUMNS`.
    page : str
    """
    import logging

    from temshift.catalog.boxed import boxed_networks
    from temshift.learning.few_labels import tune_on_few_labels
    from temshift.reporting.fine_tuning import render_fine_tuning

    networks = by_owner({k: v for k, v in datasets.items() if k.endswith(".networks")})
    home = by_owner({k: v for k, v in datasets.items() if k.endswith(".patches")})
    calibrated = fine_tuning.pixel_size_nm is None
    micrographs = [
        labelled.read(path, fine_tuning.label_kind, calibrated) for path in labelled.pairs
    ]
    found = tune_on_few_labels(networks or boxed_networks(), micrographs, fine_tuning, home)
    for sentence in (*found.sentences, *found.notes):
        logging.getLogger(__name__).info("%s", sentence)
    page = render_fine_tuning(
        found.curve,
        found.scores,
        [*found.sentences, *found.notes],
        found.start,
        len(found.networks),
        fine_tuning,
    )
    return found.networks, found.curve, page

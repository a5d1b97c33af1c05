"""Nodes of the pipeline ``deployment``."""

from __future__ import annotations

from typing import Any

from temshift.binding import by_owner
from temshift.config.deployment import DeploymentParameters
from temshift.config.modelling import ModellingParameters
from temshift.config.trust import TrustParameters
from temshift.types import DataFrame, MaskStore, MicrographStore, SegmentationStore


def segment_judged(
    store: MicrographStore,
    evidence: DataFrame,
    agreement: DataFrame,
    deployment: DeploymentParameters,
    trust: TrustParameters,
    modelling: ModellingParameters,
    masks: MaskStore | None = None,
    **networks: Any,
) -> Any:
    """Segment every micrograph and say whether to trust its mask.

    Returns
    -------
    iterable of Work
        Done one by one while it is saved.
    """
    from temshift.learning.calibration import trained_on
    from temshift.learning.trust import TrustModel

    sets = by_owner(networks)
    model = TrustModel.fit(evidence, agreement, trained_on(sets), trust)
    return _work(store, sets, deployment, modelling, masks=masks, trust=model)


def segment(
    store: MicrographStore,
    deployment: DeploymentParameters,
    trust: TrustParameters,
    modelling: ModellingParameters,
    masks: MaskStore | None = None,
    **networks: Any,
) -> Any:
    """Segment every micrograph; of networks without a study only imported ones are judged."""
    from temshift.catalog.boxed import lent_trust

    sets = by_owner(networks)
    lent = lent_trust(sets, trust) if deployment.judge else {}
    return _work(store, sets, deployment, modelling, masks=masks, **lent)


def segment_boxed(
    store: MicrographStore,
    deployment: DeploymentParameters,
    trust: TrustParameters,
    modelling: ModellingParameters,
    masks: MaskStore | None = None,
) -> Any:
    """Segment every micrograph with the network that comes with the package."""
    import logging

    from temshift.catalog.boxed import BOX_NOTE, boxed_networks, boxed_trust

    if isinstance(deployment.networks, list):
        named = ", ".join(map(repr, deployment.networks))
        raise ValueError(
            f"deployment.networks names {named}, of which nothing is trained; found no trained "
            "network of the study either, expected names of folders in 06_models. Train them, or "
            "take the network that comes with the package: deployment.networks=box"
        )
    if deployment.networks != "box":
        logging.getLogger(__name__).info(
            "no network of this study is trained: the one that comes with the package is taken "
            "(deployment.networks: box)"
        )
    model = boxed_trust(trust) if deployment.judge else None
    return _work(
        store,
        boxed_networks(),
        deployment,
        modelling,
        masks=masks,
        trust=model,
        notes=[BOX_NOTE],
    )


def _work(
    store: MicrographStore,
    networks: dict[str, Any],
    deployment: DeploymentParameters,
    modelling: ModellingParameters,
    masks: MaskStore | None,
    **judging: Any,
) -> Any:
    from temshift.catalog import new_micrographs
    from temshift.catalog.segmentations import SegmentationsDataset
    from temshift.learning.segmentation import Segmenter, plan_work
    from temshift.learning.trust import TrustModel
    from temshift.runner.code import code_digest, package_version

    segmenter = Segmenter(networks, deployment, device=modelling.device, **judging)
    stores = new_micrographs.NewMicrographStore, new_micrographs.MaskStore
    code = code_digest(plan_work, Segmenter, TrustModel, SegmentationsDataset, *stores)
    code += f" rosettasciio {package_version('rsciio')}"  # whose readers are imported by name
    return plan_work(store, segmenter, code, masks)


def write_analysis(
    done: SegmentationStore,
    deployment: DeploymentParameters,
    trust: TrustParameters,
    modelling: ModellingParameters,
) -> dict[str, Any]:
    """Write down the parameters of an analysis, as a file that ``kedro run --config`` takes.

    Only when it is done: what an earlier analysis was stays written down where one fails.

    Returns
    -------
    dict
        What was not given (``input``, ``name``, ``masks``) stays out: its default is found.
    """
    import temshift

    asked = deployment.model_dump(mode="json")
    for key in ("input", "name", "masks"):
        if asked[key] is None:
            del asked[key]
    parameters = {
        "deployment": asked,
        "trust": trust.model_dump(mode="json"),
        "modelling": {"device": modelling.device},
    }
    return {
        "run": {"pipelines": "deployment", "params": parameters},
        "made_with": {"temshift": temshift.__version__},
    }


def summarise(
    segmentations: SegmentationStore, deployment: DeploymentParameters
) -> tuple[DataFrame, DataFrame, DataFrame, dict[str, DataFrame]]:
    """Put the sizes, the particles and the networks of all micrographs into tables.

    Returns
    -------
    sizes : DataFrame
        One row a micrograph.
    particles : DataFrame
        One row a particle.
    networks : DataFrame
        One row a micrograph and network, the one that probably draws the best mask first.
    workbook : dict of str to DataFrame
        All three, and what their columns mean.
    """
    from temshift.study.sizes import (
        data_dictionary,
        particles_table,
        ranking_table,
        share_spread,
        sizes_table,
    )

    particles = particles_table(segmentations.particles())
    results = share_spread(
        segmentations.results(), particles, deployment.pixel_size_error, deployment.confidence
    )
    sizes, networks = sizes_table(results), ranking_table(results)
    book = {"micrographs": sizes, "particles": particles, "networks": networks}
    return sizes, particles, networks, {**book, "columns": data_dictionary()}


def write_page(
    segmentations: SegmentationStore,
    deployment: DeploymentParameters,
    trust: TrustParameters,
) -> str:
    """Write the page of the micrographs."""
    from temshift.reporting.micrographs import render_micrographs

    return render_micrographs(
        segmentations.results(),
        segmentations.particles(),
        segmentations.preview,
        segmentations.outlines,
        deployment,
        trust,
    )

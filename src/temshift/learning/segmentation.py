"""Segmenting a new micrograph: which network, its mask, the particles, and whether to trust them.

The mask is that of an ensemble, the folds of one network. Whether to believe it, the jury says:
one fold of every other network (:mod:`temshift.learning.evidence`, :mod:`temshift.learning.trust`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.deployment import DeploymentParameters
from temshift.learning.cards import NetworkCard
from temshift.learning.devices import choose_device
from temshift.learning.evidence import (
    agreement_table,
    image_evidence,
    mask_evidence,
    network_evidence,
    pairwise_dice,
)
from temshift.learning.inference import optimise_for_inference, predict_micrograph
from temshift.learning.network_set import NetworkSet
from temshift.learning.trust import TrustModel, features_of
from temshift.microscopy.particles import measure_particles
from temshift.microscopy.preprocess import preprocess_micrograph
from temshift.study.sizes import mean_size, size_distribution

__all__ = ["Segmentation", "condition_distance", "rank_networks", "segment", "segment_many"]

_log = logging.getLogger(__name__)

#: Smallest side of a micrograph, px.
SMALLEST_PX = 64


@dataclass(frozen=True)
class Segmentation:
    """What is known of a micrograph after it was segmented.

    Attributes
    ----------
    mask : ndarray, shape (H, W), uint8
        255 where a particle is.
    probability : ndarray, shape (H, W), float16
        Mean of the ensemble.
    numbered : ndarray, shape (H, W), int32
        The particles of the table by their numbers.
    particles : DataFrame
        See :data:`temshift.microscopy.particles.PARTICLE_COLUMNS`.
    sizes : dict
        See :func:`temshift.study.sizes.size_distribution`.
    network : str
        Whose folds drew the mask.
    pixel_size_nm : float or None
    fold_agreement : float
        Mean Dice of the folds with each other; NaN with one fold.
    networks : DataFrame
        A row a network: ``network, distance`` of its training condition and, with a trust model,
        ``predicted_dice, low, high, verdict``; the best first.
    judgement : dict
        ``predicted_dice, low, high, novelty, verdict, reasons`` of the mask; without a trust model
        the verdict is ``"not judged"``.
    notes : list of str
        What the reader of the results should know.
    """

    mask: NDArray[np.uint8]
    probability: NDArray[np.float16]
    numbered: NDArray[np.int32]
    particles: pd.DataFrame
    sizes: dict[str, Any]
    network: str
    pixel_size_nm: float | None
    fold_agreement: float
    networks: pd.DataFrame
    judgement: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def condition_distance(
    card: NetworkCard,
    pixel_size_nm: float | None = None,
    dose_e_per_A2: float | None = None,
    material: str | None = None,
) -> float:
    """Return how far a micrograph lies from a network's training condition.

    The sum of |ln| of the ratio of pixel sizes, half that of the doses (noise goes with its square
    root), and 0.2 for another material; what either does not say counts nothing.
    """
    distance = 0.0
    if pixel_size_nm and card.pixel_size_nm:
        distance += abs(float(np.log(pixel_size_nm / card.pixel_size_nm)))
    if dose_e_per_A2 and card.dose_e_per_A2:
        distance += 0.5 * abs(float(np.log(dose_e_per_A2 / card.dose_e_per_A2)))
    if material and card.material:
        distance += 0.2 * (material.lower() != str(card.material).lower())
    return distance


def rank_networks(
    networks: Mapping[str, NetworkSet],
    pixel_size_nm: float | None = None,
    dose_e_per_A2: float | None = None,
    material: str | None = None,
) -> pd.DataFrame:
    """Return the networks, the nearest training condition first.

    Returns
    -------
    DataFrame
        ``network, distance``.
    """
    rows = [
        {
            "network": name,
            "distance": condition_distance(
                next(iter(folds.values())).card, pixel_size_nm, dose_e_per_A2, material
            ),
        }
        for name, folds in networks.items()
    ]
    return pd.DataFrame(rows).sort_values("distance", kind="stable", ignore_index=True)


def segment(
    image: NDArray[Any],
    networks: Mapping[str, NetworkSet],
    parameters: DeploymentParameters | None = None,
    pixel_size_nm: float | None = None,
    dose_e_per_A2: float | None = None,
    material: str | None = None,
    trust: TrustModel | None = None,
    device: str = "auto",
) -> Segmentation:
    """Segment one micrograph.

    Parameters
    ----------
    image : ndarray, shape (H, W), any real type
        Detector counts; sides of at least 64 px.
    networks : mapping of str to NetworkSet
        Trained networks by name; all of them are the jury.
    parameters : DeploymentParameters, optional
    pixel_size_nm, dose_e_per_A2, material : optional
        What is known of the micrograph; those of ``parameters`` win.
    trust : TrustModel, optional
        Without it nothing is said about trust.
    device : str

    Raises
    ------
    ValueError
        The image is no single grey image of at least 64 × 64 px, is constant or holds NaN, a
        network that was asked for does not exist, or resampling is asked for without a pixel size.
    """
    parameters = parameters or DeploymentParameters()
    device = choose_device(device)
    pixel_size_nm = parameters.pixel_size_nm or pixel_size_nm
    image = _usable(image, parameters.bar_px)
    known = (
        pixel_size_nm,
        parameters.dose_e_per_A2 or dose_e_per_A2,
        parameters.material or material,
    )
    ranking = rank_networks(networks, *known)
    notes = [] if pixel_size_nm else ["The pixel size is unknown: sizes are in px."]
    prepared = _Prepared(image, pixel_size_nm, parameters.resample)

    if trust is not None:
        judged = _judge(networks, prepared, trust, device)
        ranking = ranking.merge(judged, on="network")
    name = _choose(ranking, parameters, trust is not None)

    folds = list(networks[name].values())
    counts = prepared.of(folds[0].card)
    total = np.zeros(counts.shape, np.float32)
    masks = []
    for trained in folds:
        part = predict_micrograph(
            [optimise_for_inference(trained.build()).to(device)], counts, device
        )
        total += part / len(folds)
        masks.append(prepared.back(part) > 0.5)
    probability = prepared.back(total)
    mask = probability > 0.5
    particles, numbered = measure_particles(
        mask.astype(np.uint8),
        probability,
        pixel_size_nm,
        parameters.neck,
        parameters.smallest_area_px2,
    )
    unit = "nm" if pixel_size_nm else "px"
    means = [
        mean_size(
            measure_particles(
                own.astype(np.uint8),
                None,
                pixel_size_nm,
                parameters.neck,
                parameters.smallest_area_px2,
            )[0],
            f"equivalent_diameter_{unit}",
        )
        for own in masks
    ]
    agreement = pairwise_dice(np.stack(masks))
    others = agreement[~np.eye(len(masks), dtype=bool)]
    row = ranking[ranking["network"] == name].iloc[0].to_dict()
    return Segmentation(
        mask=(255 * mask).astype(np.uint8),
        probability=probability.astype(np.float16),
        numbered=numbered,
        particles=particles,
        sizes=size_distribution(
            particles, means, unit, parameters.pixel_size_error, parameters.confidence
        ),
        network=name,
        pixel_size_nm=pixel_size_nm,
        fold_agreement=float(others.mean()) if len(others) else float("nan"),
        networks=ranking,
        judgement={k: row[k] for k in _JUDGED} if trust is not None else _NOT_JUDGED,
        notes=notes + _checks(particles, mask),
    )


_JUDGED = ("predicted_dice", "low", "high", "novelty", "verdict", "reasons")
_NAN = float("nan")
_NOT_JUDGED = {
    **dict.fromkeys(_JUDGED[:4], _NAN),
    "verdict": "not judged",
    "reasons": "there is no study of at least three image sets from which trust could be learned",
}


class _Prepared:
    """A micrograph as each network wants it, each recipe applied once."""

    def __init__(self, image: NDArray[Any], pixel_size_nm: float | None, resampled: bool) -> None:
        self._image, self._pixel_size_nm, self._resampled = image, pixel_size_nm, resampled
        self._made: dict[str, NDArray[np.float32]] = {}

    def of(self, card: NetworkCard) -> NDArray[np.float32]:
        recipe = card.preprocessing
        if recipe is None:
            raise ValueError(
                f"the card of network {card.network!r} does not say how its images were "
                "preprocessed (its training splits differ in it): name other networks under "
                "deployment.networks"
            )
        if self._resampled and card.pixel_size_nm:
            recipe = recipe.model_copy(update={"pixel_size_nm": card.pixel_size_nm})
        key = recipe.model_dump_json()
        if key not in self._made:
            self._made[key], _ = preprocess_micrograph(self._image, recipe, self._pixel_size_nm)
        return self._made[key]

    def back(self, probability: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a probability on the pixels of the micrograph itself."""
        if probability.shape == self._image.shape:
            return probability
        from skimage.transform import resize

        back: NDArray[np.float32] = resize(
            probability, self._image.shape, order=1, preserve_range=True, anti_aliasing=False
        ).astype(np.float32)
        return back


def _usable(image: NDArray[Any], bar_px: int) -> NDArray[Any]:
    if image.ndim != 2:
        raise ValueError(
            f"one grey image of shape (H, W) is segmented at a time, found shape {image.shape}: "
            "take the frames of a stack one by one, and a colour picture as grey values"
        )
    image = image[: image.shape[0] - bar_px] if bar_px else image
    if min(image.shape) < SMALLEST_PX:
        raise ValueError(
            f"the image has {image.shape[0]} × {image.shape[1]} px"
            + (f" without the bar of {bar_px} px" if bar_px else "")
            + f"; networks need at least {SMALLEST_PX} px along each side"
        )
    return image


def _choose(ranking: pd.DataFrame, parameters: DeploymentParameters, judged: bool) -> str:
    if isinstance(parameters.networks, list):
        named = ranking[ranking["network"].isin(parameters.networks)]
        missing = sorted(set(parameters.networks) - set(ranking["network"]))
        if missing:
            from temshift.config.base import nearest

            raise ValueError(
                f"deployment.networks names {missing[0]!r}, which is not there; "
                f"{nearest(missing[0], ranking['network'])}"
            )
        return str(named["network"].iloc[0])
    if parameters.networks == "best" and judged:
        return str(ranking.loc[ranking["predicted_dice"].idxmax(), "network"])
    return str(ranking["network"].iloc[0])


def _judge(
    networks: Mapping[str, NetworkSet], prepared: _Prepared, trust: TrustModel, device: str
) -> pd.DataFrame:
    """Judge one fold of every network; the networks are each other's jury."""
    rows, masks, names = [], [], list(networks)
    described: dict[int, dict[str, float]] = {}
    for name in names:
        trained = next(iter(networks[name].values()))
        image = prepared.of(trained.card)
        if id(image) not in described:
            described[id(image)] = image_evidence(image)
        network = trained.build().to(device)
        probability = predict_micrograph([optimise_for_inference(network)], image, device)
        rows.append(
            {
                "network": name,
                **described[id(image)],
                **mask_evidence(probability, image),
                **network_evidence(network, image, device),
            }
        )
        masks.append(prepared.back(probability) > 0.5)
    evidence = pd.DataFrame(rows)
    agreement = agreement_table(names, pairwise_dice(np.stack(masks)))
    for table in (evidence, agreement):
        table.insert(0, "fold", 0)
        table.insert(0, "test_split", "")
        table.insert(0, "micrograph_id", "")
    judged = trust.judge(features_of(evidence, agreement))
    return judged[["network", *_JUDGED]]


def _checks(particles: pd.DataFrame, mask: NDArray[np.bool_]) -> list[str]:
    """Return what looks wrong with the particles themselves."""
    notes = []
    if particles.empty:
        notes.append("No particle was found.")
    elif particles["touches_edge"].all():
        notes.append("Every particle is cut by the edge: there is no size distribution.")
    if mask.mean() > 0.6:
        notes.append(
            f"{100 * mask.mean():.0f} % of the area is called particle: the network may have "
            "failed, or the field holds no background."
        )
    return notes


def segment_many(
    store: Any,
    paths: Sequence[str],
    networks: Mapping[str, NetworkSet],
    parameters: DeploymentParameters,
    trust: TrustModel | None = None,
    device: str = "auto",
) -> Iterator[tuple[str, NDArray[Any] | None, Segmentation | str]]:
    """Segment files one after the other; a broken one is reported and the rest done.

    Parameters
    ----------
    store : MicrographStore
    paths : sequence of str
    networks, parameters, trust, device
        As for :func:`segment`.

    Yields
    ------
    path : str
    image : ndarray or None
        As it was read, without its bar.
    result : Segmentation or str
        The reason why there is none.
    """
    from tqdm.auto import tqdm

    for path in tqdm(paths, desc="segmenting", unit="micrograph", delay=2, disable=None):
        try:
            micrograph = store.read(path)
            meta = micrograph.metadata
            result = segment(
                micrograph.image,
                networks,
                parameters,
                micrograph.pixel_size_nm,
                meta.get("dose_e_per_A2"),
                meta.get("material"),
                trust,
                device,
            )
        except ValueError as error:  # unreadable, unusable: the message is for its reader
            reason = str(error)
            _log.warning("not segmented: %s", reason if path in reason else f"{path}: {reason}")
            yield path, None, reason
            continue
        image = micrograph.image
        height = result.mask.shape[0]
        yield path, image[:height], result

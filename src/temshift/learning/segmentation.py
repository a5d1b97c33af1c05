"""Segmenting a new micrograph: which network, its mask, the particles, and whether to trust them.

The mask is that of an ensemble, the folds of one network. Whether to believe it, the jury says:
one fold of every other network (:mod:`temshift.learning.evidence`, :mod:`temshift.learning.trust`).
Where there is one network only, its folds are each other's jury; imported ones that come without a
study have the folds of the network in the box beside them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.base import PLAUSIBLE_PIXEL_NM, nearest
from temshift.config.deployment import DeploymentParameters
from temshift.config.preprocessing import FlatField, PreprocessingParameters
from temshift.learning.cards import NetworkCard
from temshift.learning.devices import (
    choose_device,
    keeping_freed_memory,
    single_threaded_operations,
)
from temshift.learning.evidence import (
    agreement_table,
    describe_images,
    evidence_of,
    packed,
    pairwise_dice,
    unpacked,
)
from temshift.learning.inference import (
    optimise_for_inference,
    predict_micrograph,
    predict_tiles,
)
from temshift.learning.network_set import NetworkSet, TrainedNetwork, network_key
from temshift.learning.outside import NAME_OF_MASK, judge_outside
from temshift.learning.trust import TrustModel, features_of
from temshift.microscopy.flat_field import (
    IlluminationError,
    fit_background,
    fit_flat_field,
    fit_outside,
    relative_contrast,
    unevenness,
)
from temshift.microscopy.mask_values import as_particles
from temshift.microscopy.particles import (
    SPECK_SHARE,
    measure_diameters,
    measure_particles,
    smallest_area_px2,
    speck_limit_px2,
    without_specks,
)
from temshift.microscopy.preprocess import (
    clean_counts,
    preprocess_micrograph,
    resampled_back,
    without_mask,
)
from temshift.parallel import available_cores, map_ordered
from temshift.study.sizes import mean_size, size_distribution

__all__ = [
    "JUDGED_PX",
    "SMALLEST_PX",
    "PreparedMicrograph",
    "Segmentation",
    "Segmenter",
    "Work",
    "condition_distance",
    "ensemble",
    "mask_of",
    "plan_work",
    "rank_networks",
    "segment",
]

_log = logging.getLogger(__name__)

#: Smallest side of a micrograph, px.
SMALLEST_PX = 64

#: Sides of the part of a larger micrograph, its middle, on which the jury judges.
JUDGED_PX = 2048

#: Share of a micrograph that a mask, and what is left of it, must cover for the flat field to be
#: looked at again: fewer particles cannot bend it.
_LARGE_SHARE = 0.15

#: Factor by which the contrast of particles must rise for a flat field to have eaten them.
_CLEARLY = 1.2

#: Brightest over darkest part of a fitted illumination from which even light is tried instead.
_UNEVEN = 1.05

#: Factor by which a fit to what a mask leaves may be more uneven than that before: far from what it
#: was fitted to it can be anything.
_MORE_UNEVEN = 1.1

#: Coefficients of an illumination that is 1 everywhere.
_EVEN_LIGHT = np.ones((3, 3))

_FITTED_AGAIN = "It was fitted again outside a first mask,"
_EVEN_INSTEAD = "Nothing was divided out instead,"

#: Relative difference of a given pixel size to that of the file that is worth a note.
_OTHER_SIZE = 0.05

#: Share of the foreground in specks from which the reader is told how to count them.
_MANY = 0.02

#: Networks without which there is no jury.
_SMALLEST_JURY = 3


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
    fold_means : list of float
        Mean diameter that each fold measures by itself.
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
    n_specks : int
        Regions of the mask that are too small to be particles.
    notes : list of str
        What the reader of the results should know.
    image_notes : list of str
        Those of them that are about the micrograph, whoever drew the mask.
    outside : dict of str to Segmentation
        Masks made elsewhere, by their names, judged and measured: see
        :mod:`temshift.learning.outside`. Their judgement has a ``jury_dice`` as well, the median
        Dice with the masks of the jury; their probability is 0 or 1, ``fold_agreement`` NaN.
    """

    mask: NDArray[np.uint8]
    probability: NDArray[np.float16]
    numbered: NDArray[np.int32]
    particles: pd.DataFrame
    sizes: dict[str, Any]
    fold_means: list[float]
    network: str
    pixel_size_nm: float | None
    fold_agreement: float
    networks: pd.DataFrame
    judgement: dict[str, Any]
    n_specks: int = 0
    notes: list[str] = field(default_factory=list)
    image_notes: list[str] = field(default_factory=list)
    outside: dict[str, Segmentation] = field(default_factory=dict)

    def __repr__(self) -> str:
        height, width = self.mask.shape
        return (
            f"Segmentation: {height} × {width} px by {self.network}, {len(self.particles)} "
            f"particles, {self.judgement.get('verdict', 'not judged')}; .mask, .particles, .sizes, "
            ".judgement, .notes"
        )


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
    folds = {name: ensemble(own) for name, own in networks.items() if own}
    return _rank(folds, pixel_size_nm, dose_e_per_A2, material)


@dataclass(frozen=True)
class _Jury:
    """What the jury says of a micrograph.

    Attributes
    ----------
    judgements : DataFrame
        A row a network.
    seen : dict of int to ndarray
        What those of its members predict that may draw the mask, by the ``id`` of the trained
        network.
    bits : dict of str to ndarray
        The masks of all members on the pixels of the micrograph, by the member; packed.
    shape : (int, int)
        Of what was judged, px.
    judged : dict of str to str
        The member whose mask the judgement of a network is about.
    """

    judgements: pd.DataFrame
    seen: dict[int, NDArray[np.float32]]
    bits: dict[str, NDArray[np.uint8]]
    shape: tuple[int, int]
    judged: dict[str, str]


class Segmenter:
    """Segments micrographs with trained networks.

    Parameters
    ----------
    networks : mapping of str to NetworkSet
        Trained networks by name; all of them are the jury.
    parameters : DeploymentParameters, optional
    trust : TrustModel, optional
        Without it nothing is said about trust.
    device : str
    notes : sequence of str
        What is to be said of every micrograph.
    jurors : mapping of str to TrainedNetwork, optional
        Further networks of the jury, which draw no mask.

    Raises
    ------
    ValueError
        A network that was asked for does not exist; no network can be used.
    """

    def __init__(
        self,
        networks: Mapping[str, NetworkSet],
        parameters: DeploymentParameters | None = None,
        trust: TrustModel | None = None,
        device: str = "auto",
        notes: Sequence[str] = (),
        jurors: Mapping[str, TrainedNetwork] | None = None,
    ) -> None:
        self.parameters = parameters or DeploymentParameters()
        self.notes = tuple(notes)
        self._jurors = {name: [own] for name, own in (jurors or {}).items()}
        self.device = choose_device(device)
        self._folds = {name: ensemble(folds) for name, folds in networks.items() if folds}
        self._check_names()
        unknown = [name for name, folds in self._folds.items() if not folds[0].card.preprocessing]
        for name in unknown:  # training splits that differ in it
            del self._folds[name]
        if not self._folds:
            raise ValueError(
                "there is no network to segment with"
                + (
                    f": the cards of {', '.join(unknown)} do not say how their images were "
                    "preprocessed (their training splits differ in it)"
                    if unknown
                    else ". Run the study first, or name another folder of networks"
                )
            )
        self._alone = len(self._folds) == 1 and not self._jurors
        self.trust = trust if len(self._jury(self._folds)) >= _SMALLEST_JURY else None
        self._built: dict[int, tuple[Any, Any]] = {}

    @property
    def _resamples(self) -> bool:
        """Whether images are resampled for some network because that was asked for."""
        cards = [folds[0].card for folds in self._folds.values()]
        return self.parameters.resample and any(card.pixel_size_nm for card in cards)

    @property
    def identity(self) -> str:
        """A digest of everything but the micrograph that a result depends on."""
        digest = hashlib.sha256()
        asked = self.parameters.model_dump(mode="json", exclude={"input", "name", "masks"})
        digest.update(json.dumps(asked, sort_keys=True).encode())
        for name, folds in [*sorted(self._folds.items()), *sorted(self._jurors.items())]:
            for trained in folds:
                card = json.dumps([name, trained.card.to_json()], sort_keys=True, default=str)
                digest.update(card.encode())
                for key, tensor in sorted(trained.state.items()):
                    digest.update(key.encode())
                    digest.update(tensor.contiguous().numpy().tobytes())
        digest.update((self.trust.identity if self.trust else "not judged").encode())
        digest.update("".join(self.notes).encode())
        return digest.hexdigest()

    def segment(
        self,
        image: NDArray[Any],
        pixel_size_nm: float | None = None,
        dose_e_per_A2: float | None = None,
        material: str | None = None,
        masks: Mapping[str, NDArray[Any]] | None = None,
    ) -> Segmentation:
        """Segment one micrograph.

        Parameters
        ----------
        image : ndarray, shape (H, W), any real type
            Detector counts; sides of at least 64 px.
        pixel_size_nm, dose_e_per_A2, material : optional
            What is known of the micrograph. The pixel size of the parameters wins, their dose and
            material are for micrographs of which none is known.
        masks : mapping of str to ndarray, shape (H, W), optional
            Masks made elsewhere, by their names, with or without the rows of the bar; they are
            judged and measured too.

        Raises
        ------
        ValueError
            The image is no single grey image of at least 64 × 64 px, is constant, holds NaN or is
            a mask (connected areas of two grey values), or resampling is asked for without a pixel
            size; a mask has another shape, or is none.
        """
        parameters = self.parameters
        _check_number("pixel_size_nm", pixel_size_nm, *PLAUSIBLE_PIXEL_NM)
        _check_number("dose_e_per_A2", dose_e_per_A2, *_DOSES)
        said_nm, pixel_size_nm = pixel_size_nm, parameters.pixel_size_nm or pixel_size_nm
        image = usable_image(image, parameters.bar_px)
        others = {
            name: mask_of(mask, image.shape, parameters.bar_px)
            for name, mask in (masks or {}).items()
        }
        if self._resamples and not pixel_size_nm:
            raise ValueError(
                "deployment.resample needs the pixel size of the micrograph, which is unknown: "
                "give deployment.pixel_size_nm"
            )
        prepared = PreparedMicrograph(image, pixel_size_nm, parameters.resample)
        notes = list(self.notes)
        if not pixel_size_nm:
            notes.append("The pixel size is unknown: sizes are in px.")
        elif said_nm and abs(np.log(said_nm / pixel_size_nm)) > _OTHER_SIZE:
            notes.append(
                f"The pixel size is {pixel_size_nm:g} nm as given by deployment.pixel_size_nm; "
                f"the file says {said_nm:g} nm."
            )
        image_notes = list(notes)
        able = {name: folds for name, folds in self._folds.items() if prepared.fits(folds[0].card)}
        if not able:
            raise ValueError(
                "every network resamples its images, but the pixel size of this micrograph is "
                "unknown: give deployment.pixel_size_nm"
            )
        if len(able) < len(self._folds):
            left_out = ", ".join(name for name in self._folds if name not in able)
            notes.append(
                f"Left out, since they resample their images and the pixel size is unknown: "
                f"{left_out}."
            )
        distances = _rank(
            able,
            pixel_size_nm,
            dose_e_per_A2 or parameters.dose_e_per_A2,
            material or parameters.material,
        )
        judged = self.trust is not None and len(self._jury(able)) >= _SMALLEST_JURY
        with single_threaded_operations(self.device):
            ranking, name, jury, drawn = self._attempt(able, prepared, distances, judged)
            again = self._refitted(name, prepared, drawn)
            if again is not None:
                prepared.keep_only(None)
                second = self._attempt(able, again.prepared, distances, judged)
                if again.is_better(second[3], drawn):
                    ranking, name, jury, drawn = second
                    prepared = again.prepared
                    notes.append(again.note(drawn))
                del second
        if judged and jury is not None and jury.shape != image.shape:
            middle = "Judged is the middle of {} × {} px.".format(*jury.shape)
            notes.append(middle)
            image_notes.append(middle)
        notes += prepared.notes_for(self._folds[name][0].card)
        if parameters.resample and not prepared.target_nm(self._folds[name][0].card):
            notes.append(
                f"The micrograph was not resampled: '{name}' was trained on images of several "
                "pixel sizes."
            )
        if judged and self._folds[name][0].card.fine_tuned:
            notes.append(
                "The network was fine-tuned on a few labels; the trust was learned on networks "
                "that were not."
            )
        own_row = ranking[ranking["network"] == name].iloc[0]
        row = {str(key): value for key, value in own_row.items()}
        judgements = {
            other: self._judge_outside(mask, row, jury, drawn.mask)
            for other, mask in others.items()
        }
        judgement = self._judgement_of(name, row, jury, drawn.mask)
        if jury is not None:  # of what was drawn, not of the fold that was judged
            drew = ranking["network"] == name
            ranking.loc[drew, list(_JUDGED)] = [judgement[key] for key in _JUDGED]
        del prepared, jury, again  # what is measured now needs the room
        if judgements:
            own = pd.DataFrame(
                {"network": f"{NAME_OF_MASK}{other}", "distance": _NAN, **judgement}
                for other, judgement in judgements.items()
            ).drop(columns="jury_dice", errors="ignore")
            ranking = pd.concat([ranking, own], ignore_index=True)
        result = self._measure(
            name,
            drawn,
            pixel_size_nm,
            ranking,
            judgement,
            notes,
        )
        for other, its_judgement in judgements.items():
            measured = self._measure(
                f"{NAME_OF_MASK}{other}",
                _Drawn.by_hand(others[other]),
                pixel_size_nm,
                ranking,
                its_judgement,
                [],
            )
            measured.particles["certainty"] = _NAN  # nobody said how sure it is
            result.outside[other] = measured
        result.image_notes.extend(image_notes)
        return result

    def _attempt(
        self,
        able: Mapping[str, list[TrainedNetwork]],
        prepared: PreparedMicrograph,
        distances: pd.DataFrame,
        judged: bool,
    ) -> tuple[pd.DataFrame, str, _Jury | None, _Drawn]:
        """Judge and draw; return the ranking, the network that drew, the jury, and the mask."""
        ranking, jury = distances, None
        found: dict[int, NDArray[np.float32]] = {}
        if judged:
            shown = prepared.middle()
            whole = shown.shape == prepared.shape
            jury = self._judge(able, shown, self._may_draw(ranking) if whole else set())
            del shown
            ranking = ranking.merge(jury.judgements, on="network")
            found = jury.seen
        name = _choose(ranking, self.parameters, judged)
        prepared.keep_only(self._folds[name][0].card)
        return ranking, name, jury, self._draw(name, prepared, found)

    def _refitted(self, name: str, prepared: PreparedMicrograph, drawn: _Drawn) -> _Refit | None:
        """Return the micrograph with a flat field that its particles have no part in.

        Tried are a fit to what the mask leaves and, since a mask that has lost half of a particle
        leaves part of it there, even light. ``None`` if the mask is small, or with neither
        particles stand out more and the network is as sure of them; else the one of which it is
        surer.
        """
        wanted, card = self.parameters.refit_flat_field, self._folds[name][0].card
        assert card.preprocessing is not None
        mode = card.preprocessing.flat_field.mode
        if wanted == "never" or mode == "none" or (mode == "published" and wanted != "always"):
            return None
        if not _LARGE_SHARE <= drawn.mask.mean() <= 1 - _LARGE_SHARE:
            return None
        downsample = card.preprocessing.flat_field.downsample
        counts = clean_counts(prepared.image, card.preprocessing)
        before = _EVEN_LIGHT  # where no illumination was found, none was divided out
        if not prepared.notes_for(card):
            before = (fit_background if mode == "background" else fit_flat_field)(
                counts, downsample
            )
        contrast = relative_contrast(counts, drawn.mask, before, downsample)
        if contrast[0] == 0:  # specks
            return None
        tried = []
        uneven = unevenness(before)
        outside = fit_outside(counts, drawn.mask, downsample)
        if (
            outside is not None
            and unevenness(outside) <= _MORE_UNEVEN * uneven
            and relative_contrast(counts, drawn.mask, outside, downsample)[0]
            >= _CLEARLY * contrast[0]
        ):
            tried.append((outside, _FITTED_AGAIN))
        if uneven > _UNEVEN:
            tried.append((_EVEN_LIGHT, _EVEN_INSTEAD))
        best, sureness = None, -np.inf
        if tried:
            prepared.keep_only(None)
        for coefficients, words in tried:
            refit = _Refit(
                prepared.lit_by(coefficients), counts, coefficients, contrast, downsample, words
            )
            second = self._draw(name, refit.prepared, {})
            refit.prepared.keep_only(None)
            if refit.is_better(second, drawn) and second.sureness() > sureness:
                best, sureness = refit, second.sureness()
            del second
        return best

    def _judgement_of(
        self, name: str, row: Mapping[str, Any], jury: _Jury | None, mask: NDArray[np.bool_]
    ) -> dict[str, Any]:
        """Return the judgement of the mask that a network drew."""
        if jury is None:
            return _NOT_JUDGED
        if not mask.any():
            return {k: row[k] for k in _JUDGED} | _NOTHING_DRAWN
        if not _middle(mask).any():
            return _OUTSIDE_OF_THE_MIDDLE
        judgement = {k: row[k] for k in _JUDGED}
        if not jury.bits[jury.judged[name]].any():  # the fold that is judged differs from the mean
            judgement["reasons"] = _FOLD_DREW_NOTHING
        return judgement

    def _judge_outside(
        self,
        mask: NDArray[np.bool_],
        row: Mapping[str, Any],
        jury: _Jury | None,
        drawn: NDArray[np.bool_],
    ) -> dict[str, Any]:
        if jury is None:
            agreement = pairwise_dice([mask, drawn])[0, 1]
            said = f"its Dice with the mask of {row['network']}, not judged either: {agreement:.2f}"
            return {**_NOT_JUDGED, "reasons": f"{said}; {_NOT_JUDGED['reasons']}"}
        assert self.trust is not None
        middle = _middle(mask)
        if mask.any() and not middle.any():
            return {**_OUTSIDE_OF_THE_MIDDLE, "jury_dice": _NAN}
        mask = middle
        masks = {member: unpacked(bits, mask.shape) for member, bits in jury.bits.items()}
        return judge_outside(
            mask,
            row,
            masks,
            masks[jury.judged[row["network"]]],
            self.trust.parameters.usable_dice,
        )

    def _check_names(self) -> None:
        if isinstance(self.parameters.networks, list):
            for name in self.parameters.networks:
                if name not in self._folds:
                    raise ValueError(
                        f"deployment.networks names {name!r}, which is not there; "
                        f"{nearest(name, self._folds)}"
                    )

    def _networks(self, trained: TrainedNetwork) -> tuple[Any, Any]:
        """Return a network as it was trained, and rewritten for prediction."""
        if id(trained) not in self._built:
            network = trained.build().to(self.device)
            self._built[id(trained)] = network, optimise_for_inference(network)
        return self._built[id(trained)]

    def _may_draw(self, ranking: pd.DataFrame) -> set[str]:
        """Return the network that will draw the mask, as far as that is known before."""
        if self._alone:
            return set(ranking["network"])
        if self.parameters.networks == "best":
            return set()  # any of them: one is predicted again rather than all of them kept
        nearest = _nearest(ranking, self.parameters)["network"]
        return set(nearest) if len(nearest) == 1 else set()

    def _judge(
        self,
        able: Mapping[str, list[TrainedNetwork]],
        prepared: PreparedMicrograph,
        kept: set[str],
    ) -> _Jury:
        """Judge one fold of every network; the networks are each other's jury.

        They are asked one after another (a worker each), and of all but those ``kept`` only the
        mask stays.
        """
        assert self.trust is not None
        jury = {name: folds[0] for name, folds in self._jury(able).items()}
        built = {name: self._networks(trained) for name, trained in jury.items()}
        images = {name: prepared.of(trained.card) for name, trained in jury.items()}
        described = describe_images(images.values())
        seen: dict[int, NDArray[np.float32]] = {}

        def ask(name: str) -> tuple[dict[str, Any], NDArray[np.uint8]]:
            image, (network, optimised) = images[name], built[name]
            part = predict_micrograph([optimised], image, self.device)
            if kept and (self._alone or name in kept):
                seen[id(jury[name])] = part
            evidence = evidence_of(
                part, image, described[id(image)], network, self.device, optimised
            )
            return {"network": name, **evidence}, packed(prepared.back(part) > 0.5)

        with keeping_freed_memory(self.device):
            asked = list(map_ordered(ask, list(jury), _workers(self.device)))
        bits = {name: own for name, (_, own) in zip(jury, asked, strict=True)}
        evidence = pd.DataFrame([row for row, _ in asked])
        agreement = agreement_table(list(bits), pairwise_dice(list(bits.values())))
        for table in (evidence, agreement):
            table.insert(0, "fold", 0)
            table.insert(0, "test_split", "")
            table.insert(0, "micrograph_id", "")
        judged = self.trust.judge(features_of(evidence, agreement))
        whose = {str(name): str(name) for name in judged["network"]}
        if self._alone:  # of its folds the one in the middle
            judged = judged.sort_values("predicted_dice", kind="stable")
            judged = judged.iloc[[len(judged) // 2]]
            whose = {next(iter(able)): str(judged["network"].iloc[0])}
            judged = judged.assign(network=list(whose))
        return _Jury(judged[["network", *_JUDGED]], seen, bits, prepared.shape, whose)

    def _jury(self, able: Mapping[str, list[TrainedNetwork]]) -> Mapping[str, list[TrainedNetwork]]:
        """Return who is judged and judges, by name: the networks or, of a single one, its folds."""
        if not self._alone:
            return {**able, **self._jurors}
        folds = next(iter(able.values()))
        return {network_key(own.card.protocol, own.card.fold): [own] for own in folds}

    def _draw(
        self, name: str, prepared: PreparedMicrograph, found: Mapping[int, NDArray[np.float32]]
    ) -> _Drawn:
        """Return what the folds of a network draw, on the pixels of the micrograph.

        Fold after fold, tile by tile: of all of them only the sum is held, and the mask of each.
        """
        folds = self._folds[name]
        counts, shape = prepared.of(folds[0].card), prepared.shape
        direct = counts.shape == shape
        new = [self._networks(own)[1] for own in folds if id(own) not in found]
        tiles = predict_tiles(new, counts, self.device, workers=_workers(self.device))
        total, mask = np.zeros(shape, np.float32), np.empty(shape, np.bool_)
        bits = []
        with keeping_freed_memory(self.device):
            for own in folds:
                part = found.get(id(own))
                if part is None and not direct:
                    part = np.empty(counts.shape, np.float32)
                    for where, tile in _until_covered(tiles, counts.size):
                        part[where] = tile
                if part is None:
                    for where, tile in _until_covered(tiles, counts.size):
                        total[where] += tile
                        mask[where] = tile > 0.5
                else:
                    part = prepared.back(part)
                    total += part
                    np.greater(part, 0.5, out=mask)
                bits.append(packed(mask))
        total /= len(folds)
        return _Drawn(np.greater(total, 0.5, out=mask), total.astype(np.float16), bits)

    def _measure(
        self,
        name: str,
        drawn: _Drawn,
        pixel_size_nm: float | None,
        ranking: pd.DataFrame,
        judgement: dict[str, Any],
        notes: list[str],
    ) -> Segmentation:
        parameters, unit = self.parameters, "nm" if pixel_size_nm else "px"
        mask, probability = drawn.mask, drawn.probability
        smallest, limit = self._smallest(name, mask, pixel_size_nm)

        def mean_of(own: NDArray[np.uint8]) -> float:
            found = measure_diameters(
                without_specks(unpacked(own, mask.shape), smallest)[0].view(np.uint8),
                pixel_size_nm,
                parameters.neck,
                smallest,
            )
            return mean_size(found, f"equivalent_diameter_{unit}")

        means = [mean_of(own) for own in drawn.folds]
        kept, n_specks = without_specks(mask, smallest)
        particles, numbered = measure_particles(
            kept.view(np.uint8), probability, pixel_size_nm, parameters.neck, smallest
        )
        dropped = kept & (numbered == 0)  # parts of divided regions
        if dropped.any():
            n_specks += without_specks(dropped, mask.size + 1)[1]
            kept = numbered > 0
        del dropped
        agreement = pairwise_dice(drawn.folds)
        others = agreement[~np.eye(len(drawn.folds), dtype=bool)]
        return Segmentation(
            mask=255 * mask.view(np.uint8),
            probability=probability,
            numbered=numbered,
            particles=particles,
            sizes=size_distribution(
                particles,
                means,
                unit,
                parameters.pixel_size_error,
                parameters.confidence,
                judgement["predicted_dice"],
            ),
            fold_means=means,
            network=name,
            pixel_size_nm=pixel_size_nm,
            fold_agreement=float(others.mean()) if len(others) else float("nan"),
            networks=ranking,
            judgement=judgement,
            n_specks=n_specks,
            notes=notes
            + _checks(particles, mask)
            + _about_specks(mask, kept, n_specks, smallest, limit),
        )

    def _smallest(
        self, name: str, mask: NDArray[np.bool_], pixel_size_nm: float | None
    ) -> tuple[int, str]:
        """Return the smallest area of a particle, px², and where it comes from, in words."""
        if given := self.parameters.smallest_area_px2:
            return given, "which is deployment.smallest_area_px2"
        known = None
        if name in self._folds:  # who drew a mask elsewhere knew nothing of the training
            known = training_diameter_px(self._folds[name][0].card, pixel_size_nm)
        if known:
            whose = "the smallest particles that the network was trained on"
        else:
            return speck_limit_px2(mask, self.parameters.neck), (
                f"a disc of {SPECK_SHARE:g} of the diameter of what was found here (median by "
                "area), or less where such regions hold more than a tenth of it"
            )
        return smallest_area_px2(known), f"a disc of {SPECK_SHARE:g} of the diameter of {whose}"


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
    """Segment one micrograph: :class:`Segmenter` made and used once."""
    segmenter = Segmenter(networks, parameters, trust, device)
    return segmenter.segment(image, pixel_size_nm, dose_e_per_A2, material)


@dataclass(frozen=True)
class _Drawn:
    """A mask and what it was made of.

    Attributes
    ----------
    mask : ndarray of bool, shape (H, W)
    probability : ndarray, shape (H, W), float16
    folds : list of ndarray
        The mask of each fold, packed.
    """

    mask: NDArray[np.bool_]
    probability: NDArray[np.float16]
    folds: list[NDArray[np.uint8]]

    def sureness(self) -> float:
        """Return the soft Dice of the probability with its own mask."""
        inside = float(self.probability.sum(dtype=np.float32, where=self.mask))
        total = float(self.probability.sum(dtype=np.float32))
        return 2 * inside / max(total + float(self.mask.sum()), 1.0)

    @classmethod
    def by_hand(cls, mask: NDArray[np.bool_]) -> _Drawn:
        """Return a mask that no network drew."""
        return cls(mask, mask.astype(np.float16), [packed(mask)])


@dataclass(frozen=True)
class _Refit:
    """A micrograph with another flat field than the one first fitted.

    Attributes
    ----------
    prepared : PreparedMicrograph
    counts : ndarray, shape (H, W), float32
        Before the flat field.
    coefficients : ndarray, shape (3, 3)
    contrast : tuple of float
        Relative contrast of the first mask with the first flat field, everywhere and at edges.
    downsample : int
    words : str
        What was done.
    """

    prepared: PreparedMicrograph
    counts: NDArray[np.float32]
    coefficients: NDArray[np.float64]
    contrast: tuple[float, float]
    downsample: int
    words: str

    def is_better(self, second: _Drawn, first: _Drawn) -> bool:
        """Return whether particles stand out more, and the networks are as sure of their mask.

        At their edges they must stand out no less: a dark corner of the light has none.
        """
        everywhere, at_edges = self.contrast_of(second)
        return (
            everywhere >= _CLEARLY * self.contrast[0] > 0
            and at_edges >= self.contrast[1]
            and second.sureness() >= first.sureness()
        )

    def contrast_of(self, drawn: _Drawn) -> tuple[float, float]:
        """Return the relative contrast of a mask with the new flat field."""
        return relative_contrast(self.counts, drawn.mask, self.coefficients, self.downsample)

    def note(self, drawn: _Drawn) -> str:
        """Say what was done."""
        return (
            f"The flat field had taken large particles for uneven light. {self.words} "
            "and the micrograph segmented once more: the contrast of the particles rose from "
            f"{self.contrast[0]:.0%} to {self.contrast_of(drawn)[0]:.0%} of the background."
        )


def _until_covered(
    tiles: Iterator[tuple[int, tuple[slice, slice], NDArray[np.float32]]], pixels: int
) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float32]]]:
    """Yield tiles until they cover an image once: those of one network."""
    while pixels > 0:
        _, where, tile = next(tiles)
        pixels -= tile.size
        yield where, tile


def _workers(device: str) -> int:
    """Return how many networks, or tiles, are predicted side by side."""
    return min(4, available_cores()) if device == "cpu" else 1


def ensemble(networks: NetworkSet) -> list[TrainedNetwork]:
    """Return the folds that draw a mask together: those of the protocol ``grouped`` if any."""
    grouped = [trained for trained in networks.values() if trained.card.protocol == "grouped"]
    return grouped or list(networks.values())


def _rank(
    networks: Mapping[str, list[TrainedNetwork]],
    pixel_size_nm: float | None,
    dose_e_per_A2: float | None,
    material: str | None,
) -> pd.DataFrame:
    rows = [
        {
            "network": name,
            "distance": condition_distance(folds[0].card, pixel_size_nm, dose_e_per_A2, material),
        }
        for name, folds in networks.items()
    ]
    return pd.DataFrame(rows).sort_values("distance", kind="stable", ignore_index=True)


#: Doses beyond these (e/Å²) are of no TEM image.
_DOSES = (1e-6, 1e9)

_JUDGED = ("predicted_dice", "low", "high", "novelty", "verdict", "reasons")
_NAN = float("nan")
_NOT_JUDGED = {
    **dict.fromkeys(_JUDGED[:4], _NAN),
    "verdict": "not judged",
    "reasons": "trust needs the tests of a study with at least three labelled image sets and three "
    "networks, and deployment.judge: true",
}

_OUTSIDE_OF_THE_MIDDLE = {
    **_NOT_JUDGED,
    "reasons": "only the middle of the micrograph is judged, and all that is called particle lies "
    "outside of it",
}

#: Whatever was judged of one fold: there is nothing that could be trusted.
_NOTHING_DRAWN = {
    "predicted_dice": 0.0,
    "low": 0.0,
    "verdict": "do not trust",
    "reasons": "no particle was found",
}

_FOLD_DREW_NOTHING = "the fold that is judged found no particle, others did"

_NO_FLAT_FIELD = (
    "No smooth illumination explains the image, so none was divided out: it is empty in part, its "
    "particles fill most of it, or its background was subtracted before."
)


class PreparedMicrograph:
    """A micrograph as each network wants it, each recipe applied once.

    Where no smooth illumination explains the image, nothing is divided out, and ``notes`` say so.

    Parameters
    ----------
    image : ndarray, shape (H, W)
        Detector counts.
    pixel_size_nm : float, optional
    resampled : bool
        To the pixel size of each network, whatever its recipe says.
    illumination : ndarray, shape (3, 3), optional
        Divided out, in place of a fitted one, for networks with a flat field.
    """

    def __init__(
        self,
        image: NDArray[Any],
        pixel_size_nm: float | None,
        resampled: bool = False,
        illumination: NDArray[np.float64] | None = None,
    ) -> None:
        self._image, self._pixel_size_nm, self._resampled = image, pixel_size_nm, resampled
        self._illumination = illumination
        self._made: dict[str, NDArray[np.float32]] = {}
        self._scales: dict[tuple[int, ...], float] = {}
        self._unlit: set[str] = set()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the micrograph, px."""
        height, width = self._image.shape
        return height, width

    @property
    def image(self) -> NDArray[Any]:
        """The micrograph itself."""
        return self._image

    def middle(self) -> PreparedMicrograph:
        """Return the part that is judged, prepared in the same way; this one if that is all."""
        part = _middle(self._image)
        if part.shape == self._image.shape:
            return self
        even = self._illumination is not None and np.ptp(self._illumination) == 0
        illumination = self._illumination if even else None  # any other is that of the whole
        return PreparedMicrograph(part, self._pixel_size_nm, self._resampled, illumination)

    def lit_by(self, illumination: NDArray[np.float64]) -> PreparedMicrograph:
        """Return the same micrograph with another flat field."""
        return PreparedMicrograph(self._image, self._pixel_size_nm, self._resampled, illumination)

    def fits(self, card: NetworkCard) -> bool:
        """Return whether the micrograph can be prepared for a network."""
        assert card.preprocessing is not None
        return bool(self._pixel_size_nm) or card.preprocessing.pixel_size_nm is None

    def of(self, card: NetworkCard) -> NDArray[np.float32]:
        """Return the image that a network gets."""
        recipe = self._recipe(card)
        key = recipe.model_dump_json()
        if key not in self._made:
            try:
                made, _ = preprocess_micrograph(
                    self._image, recipe, self._pixel_size_nm, self._illumination
                )
            except IlluminationError:
                self._unlit.add(key)
                plain = recipe.model_copy(update={"flat_field": FlatField(mode="none")})
                made, _ = preprocess_micrograph(self._image, plain, self._pixel_size_nm)
            if min(made.shape) < SMALLEST_PX:
                raise ValueError(
                    f"resampled to {recipe.pixel_size_nm:g} nm/px the image has {made.shape[0]} × "
                    f"{made.shape[1]} px; networks need at least {SMALLEST_PX} px along each side"
                )
            self._made[key] = made
            if recipe.pixel_size_nm and self._pixel_size_nm:
                self._scales[made.shape] = self._pixel_size_nm / recipe.pixel_size_nm
        return self._made[key]

    def notes_for(self, card: NetworkCard) -> list[str]:
        """Return what the reader should know of the image that a network got."""
        return [_NO_FLAT_FIELD] if self._recipe(card).model_dump_json() in self._unlit else []

    def keep_only(self, card: NetworkCard | None) -> None:
        """Forget the images for other networks than this one, or for all of them."""
        key = self._recipe(card).model_dump_json() if card else ""
        self._made = {own: made for own, made in self._made.items() if own == key}

    def _recipe(self, card: NetworkCard) -> PreprocessingParameters:
        recipe = card.preprocessing
        assert recipe is not None
        if self._resampled and card.pixel_size_nm:
            recipe = recipe.model_copy(update={"pixel_size_nm": card.pixel_size_nm})
        # what only concerns patches makes no other image
        return recipe.model_copy(update={"patch_px": 512, "shuffle_seed": 0})

    def target_nm(self, card: NetworkCard) -> float | None:
        """Return the pixel size to which the image for a network is resampled, if it is."""
        return self._recipe(card).pixel_size_nm

    def back(self, probability: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a probability on the pixels of the micrograph itself."""
        if probability.shape == self._image.shape:
            return probability
        return resampled_back(probability, self._image.shape, self._scales[probability.shape])


def _check_number(name: str, value: object, low: float, high: float) -> None:
    """Refuse what can be no number of a TEM image; ``None`` is unknown."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
        raise ValueError(
            f"{name} is {value!r}; expected a number from {low:g} to {high:g}, or None where it is "
            "unknown"
        )


def usable_image(image: NDArray[Any], bar_px: int = 0) -> NDArray[Any]:
    """Return an image without its bar.

    Parameters
    ----------
    image : ndarray, shape (H, W), any real type
    bar_px : int
        Rows at the lower edge that are left out.

    Raises
    ------
    ValueError
        It is no NumPy array of real numbers, no single grey image, a mask, or too small.
    """
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "buif":
        found = f"{image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(
            f"the image is a NumPy array of real numbers of shape (H, W), found {found}: "
            f"{_as_array(image)}"
        )
    if image.ndim != 2:
        raise ValueError(
            f"one grey image of shape (H, W) is segmented at a time, found shape {image.shape}: "
            "take the frames of a stack one by one, and a colour picture as grey values"
        )
    image = without_mask(image)
    image = image[: max(0, image.shape[0] - bar_px)] if bar_px else image
    if min(image.shape) < SMALLEST_PX:
        raise ValueError(
            f"the image has {image.shape[0]} × {image.shape[1]} px"
            + (f" without the bar of {bar_px} px" if bar_px else "")
            + f"; networks need at least {SMALLEST_PX} px along each side"
        )
    if _is_mask(image):
        raise ValueError(
            f"the image has connected areas of two grey values only, {image.min()} and "
            f"{image.max()}, as a mask has: give the micrograph, and masks in a folder of their "
            "own (deployment.masks)"
        )
    return image


def _as_array(image: object) -> str:
    """Return what makes an image of something else, in words."""
    if isinstance(image, np.ndarray) and image.dtype.kind == "c":
        return "a Fourier transform or a wave? The counts of the camera are needed"
    if isinstance(image, str | bytes | os.PathLike):
        return (
            "read the file first, or give its folder to the pipeline 'deployment', which reads it"
        )
    if hasattr(image, "axes_manager"):
        return "give its array, signal.data"
    return "make one of it, numpy.asarray(image)"


def _is_mask(image: NDArray[Any]) -> bool:
    """Return whether an image has two values, and neighbours mostly the same one.

    In a frame of a counting detector, which may have two as well, they are independent.
    """
    low, high = image.min(), image.max()
    upper = image == high
    if low == high or not np.all(upper | (image == low)):
        return False
    share = upper.mean()
    changes = np.mean(upper[:, 1:] != upper[:, :-1])
    return bool(changes < share * (1 - share))  # half of what chance gives


def mask_of(mask: NDArray[Any], shape: tuple[int, ...], bar_px: int = 0) -> NDArray[np.bool_]:
    """Return a mask made elsewhere, without the rows of a burnt-in bar.

    Parameters
    ----------
    mask : ndarray, shape (H, W)
        See :func:`temshift.microscopy.mask_values.as_particles`.
    shape : (int, int)
        Of the image without its bar.
    bar_px : int

    Raises
    ------
    ValueError
        It has another shape than the image, with or without its bar, or is no mask.
    """
    mask = as_particles(mask)
    height, width = shape
    if mask.shape not in ((height, width), (height + bar_px, width)):
        raise ValueError(
            f"the mask has {mask.shape[0]} × {mask.shape[1]} px, its image {height} × {width} px"
            + (f" without the bar of {bar_px} px" if bar_px else "")
            + ": give the mask of just this image, neither cut nor resampled"
        )
    return mask[:height]


def _middle(image: NDArray[Any]) -> NDArray[Any]:
    """Return the part of an image that is judged: a jury of all networks takes its time."""
    top, left = (max(0, side - JUDGED_PX) // 2 for side in image.shape)
    return image[top : top + JUDGED_PX, left : left + JUDGED_PX]


def _choose(ranking: pd.DataFrame, parameters: DeploymentParameters, judged: bool) -> str:
    """Return the network that draws the mask, of a table with the nearest first."""
    able = ranking if parameters.networks == "best" and judged else _nearest(ranking, parameters)
    best = int(able["predicted_dice"].argmax()) if judged else 0
    return str(able["network"].iloc[best])


def _nearest(ranking: pd.DataFrame, parameters: DeploymentParameters) -> pd.DataFrame:
    """Return the networks that are nearest, of those named: several, if equally near."""
    if isinstance(parameters.networks, list):
        ranking = ranking[ranking["network"].isin(parameters.networks)]
        if ranking.empty:
            raise ValueError(
                "the networks of deployment.networks resample their images, but the pixel size "
                "of this micrograph is unknown: give deployment.pixel_size_nm"
            )
    return ranking[ranking["distance"] <= ranking["distance"].iloc[0] + 1e-9]


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


def training_diameter_px(card: NetworkCard, pixel_size_nm: float | None) -> float | None:
    """Return the smallest typical diameter among a network's training sets, px of a micrograph.

    Parameters
    ----------
    card : NetworkCard
    pixel_size_nm : float, optional
        Of the micrograph.

    Returns
    -------
    float or None
        ``None`` without a pixel size, or if the card knows no diameter.
    """
    known = [found.get("diameter_nm") for found in card.fingerprints.values()]
    diameters = [d for d in known if d] or [d for d in [card.diameter_nm] if d]
    return min(diameters) / pixel_size_nm if diameters and pixel_size_nm else None


def _about_specks(
    mask: NDArray[np.bool_], kept: NDArray[np.bool_], n_specks: int, smallest: int, limit: str
) -> list[str]:
    """Say what was left out as too small, and what the limit is."""
    if not n_specks:
        return []
    share = 1 - kept.sum() / mask.sum()
    regions = "region was" if n_specks == 1 else "regions were"
    return [
        f"{n_specks} {regions} too small to be counted ({share:.0%} of what is called particle): "
        f"less than {smallest} px², {limit}."
        + (" If they are particles, set deployment.smallest_area_px2." if share > _MANY else "")
    ]


@dataclass(frozen=True)
class Work:
    """A file that is to be segmented.

    Attributes
    ----------
    path : str
    identity : str
        Digest of everything that the result depends on; empty if the file cannot be read.
    run : callable
        Returns the image as it was read, without its bar, and the result; raises a ValueError
        with the reason why there is none.
    """

    path: str
    identity: str
    run: Callable[[], tuple[NDArray[Any], Segmentation]]


def plan_work(store: Any, segmenter: Segmenter, code: str = "", masks: Any = None) -> WorkPlan:
    """Return the files of a store, each with what its result depends on.

    Parameters
    ----------
    store : MicrographStore
    segmenter : Segmenter
    code : str
        Digest of the code behind a result.
    masks : MaskStore, optional
        Masks of these files that were made elsewhere.
    """
    return WorkPlan(store, segmenter, code, masks)


class WorkPlan:
    """The work on all files of a store, planned file by file (see :func:`plan_work`)."""

    def __init__(self, store: Any, segmenter: Segmenter, code: str, masks: Any = None) -> None:
        self._store, self._segmenter, self._code, self._masks = store, segmenter, code, masks
        self._paths = store.paths()
        self._masks_of: dict[str, list[str]] = {}
        if masks is not None:
            self._paths = masks.others(store.folder, self._paths)
            self._masks_of = masks.of(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"WorkPlan: {len(self)} files"

    def __iter__(self) -> Iterator[Work]:
        common = f"{self._segmenter.identity} {self._code}"
        for path in self._paths:
            own = self._masks_of.get(path, [])
            try:
                content = self._store.sha256(path)
                content += "".join(f" {name} {self._masks.sha256(name)}" for name in own)
            except (OSError, ValueError):  # reading it will say why
                identity = ""
            else:
                identity = hashlib.sha256(f"{common} {content}".encode()).hexdigest()
            run = partial(_segment_file, self._store, path, self._segmenter, self._masks, own)
            yield Work(path, identity, run)


def _segment_file(
    store: Any, path: str, segmenter: Segmenter, masks: Any, names: Sequence[str]
) -> tuple[NDArray[Any], Segmentation]:
    known_nm = segmenter.parameters.pixel_size_nm
    micrograph = store.read(path) if known_nm is None else store.read(path, calibrated=False)
    known = micrograph.metadata
    image = usable_image(micrograph.image, segmenter.parameters.bar_px)
    others, refused = {}, []
    for name in names:
        try:
            others[name] = mask_of(masks.read(name), image.shape, segmenter.parameters.bar_px)
        except ValueError as error:  # the micrograph itself is none the worse for it
            reason = str(getattr(error, "reason", "") or error)
            shown = name.encode("utf-8", "backslashreplace").decode()  # a name may be no UTF-8
            _log.warning("mask not judged: %s: %s", shown, reason)
            refused.append(f"The mask {shown} was not judged: {reason}.")
    result = segmenter.segment(
        micrograph.image,
        micrograph.pixel_size_nm,
        known.get("dose_e_per_A2"),
        known.get("material"),
        others,
    )
    result.notes.extend(refused)
    if micrograph.conversion:
        result.notes.append(micrograph.conversion)
    return image, result

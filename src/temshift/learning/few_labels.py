"""A network trained further on a few micrographs labelled by hand, and what that brings.

The learning curve is measured by holding micrographs out: each part of the labelled ones is tested
once by one fold of the network, as it was and tuned on 1, 2, 4, ... of the others, fewer always
among more. What it costs elsewhere is measured on the test patches of each fold, where they are at
hand.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.base import nearest
from temshift.config.fine_tuning import FewLabelsParameters
from temshift.learning.devices import choose_device, single_threaded_operations
from temshift.learning.fine_tuning import fine_tune_network
from temshift.learning.inference import (
    optimise_for_inference,
    predict_micrograph,
    predict_patches,
)
from temshift.learning.metrics import dice
from temshift.learning.network_set import NetworkSet, TrainedNetwork
from temshift.learning.segmentation import (
    SMALLEST_PX,
    PreparedMicrograph,
    condition_distance,
    ensemble,
    mask_of,
    usable_image,
)
from temshift.microscopy.micrograph import LabelledMicrograph
from temshift.microscopy.patches import PatchLayout, PatchStack, cut_patches
from temshift.microscopy.preprocess import resample
from temshift.parallel import available_cores, map_ordered
from temshift.study.few_labels import curve_sentences, curve_table
from temshift.study.integrity import PLAUSIBLE_COVERAGE

__all__ = [
    "HELD_OUT",
    "FewLabels",
    "divide",
    "labelled_pair",
    "tune_on_few_labels",
    "usable_for_tuning",
]

_log = logging.getLogger(__name__)

#: What the table of the learning curve calls the labelled micrographs.
HELD_OUT = "micrographs held out"

#: Largest side of a patch, px.
_PATCH_PX = 512


@dataclass(frozen=True)
class FewLabels:
    """A network tuned on a few labels, and what that brought.

    Attributes
    ----------
    networks : NetworkSet
        All folds, tuned on all labelled micrographs.
    start : str
        Network that was tuned.
    curve : DataFrame
        See :data:`temshift.study.few_labels.CURVE_COLUMNS`.
    scores : DataFrame
        ``tested_on, labelled_micrographs, part, micrograph, dice``, which it was made of.
    sentences : list of str
        What may be concluded.
    notes : list of str
        What else to know.
    """

    networks: NetworkSet
    start: str
    curve: pd.DataFrame
    scores: pd.DataFrame
    sentences: list[str]
    notes: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return (
            f"FewLabels: {self.start} tuned, {len(self.networks)} folds. "
            f"{' '.join(self.sentences)} .networks, .curve, .scores, .notes"
        )


@dataclass(frozen=True)
class _Labelled:
    """A micrograph as the network wants it."""

    name: str
    prepared: PreparedMicrograph
    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    whole_label: NDArray[np.uint8]


def usable_for_tuning(image: NDArray[Any]) -> NDArray[Any]:
    """Return an image that can be segmented, and so be learned from.

    Raises
    ------
    ValueError
        As :meth:`temshift.learning.segmentation.Segmenter.segment`.
    """
    try:
        return usable_image(image)
    except ValueError as error:
        raise ValueError(str(error).replace("deployment", "fine_tuning")) from error


def labelled_pair(number: int, image: NDArray[Any], mask: NDArray[Any]) -> LabelledMicrograph:
    """Return an image and a mask of a sequence as a labelled micrograph.

    Parameters
    ----------
    number : int
        In the sequence, from 0.
    image : ndarray, shape (H, W), any real type
    mask : ndarray, shape (H, W)
        Of two values, or with a number for each particle
        (:func:`temshift.microscopy.mask_values.as_particles`).

    Raises
    ------
    ValueError
        One of them cannot be used; it is named with its number.
    """
    try:
        image = usable_for_tuning(image)
    except ValueError as error:
        raise ValueError(f"image {number}: {error}") from error
    try:
        label = mask_of(mask, image.shape).astype(np.uint8)
    except ValueError as error:
        raise ValueError(f"mask {number}: {error}") from error
    return LabelledMicrograph(f"image {number}", image, label)


def tune_on_few_labels(
    networks: Mapping[str, NetworkSet],
    micrographs: Sequence[LabelledMicrograph],
    parameters: FewLabelsParameters | None = None,
    home: Mapping[str, PatchStack] | None = None,
) -> FewLabels:
    """Train a network further on labelled micrographs, and measure what it brings and costs.

    Parameters
    ----------
    networks : mapping of str to NetworkSet
        Those to choose from, by name.
    micrographs : sequence of LabelledMicrograph
        Those without a labelled pixel are left out, which ``notes`` say; of those that are labelled
        nearly everywhere they and the log say that the mask may be inverted.
    parameters : FewLabelsParameters, optional
    home : mapping of str to PatchStack, optional
        Patches of the splits that the networks were trained on, by split, with their folds.

    Returns
    -------
    FewLabels

    Raises
    ------
    ValueError
        No micrograph has a labelled pixel; two have one name; the network does not exist, or the
        images cannot be prepared for it.
    """
    parameters = parameters or FewLabelsParameters()
    device = choose_device(parameters.device)
    used = [m for m in micrographs if m.label.any()]
    notes = []
    if not used:
        raise ValueError(
            f"nothing to learn from: none of the {len(micrographs)} masks has a labelled pixel"
        )
    if len(used) < len(micrographs):
        empty = ", ".join(m.name for m in micrographs if not m.label.any())
        notes.append(f"Left out, since their masks are empty: {empty}.")
    full = [sentence for m in used if (sentence := _inverted(m))]
    for sentence in full:
        _log.warning("%s", sentence)
    notes += full
    if len({m.name for m in used}) < len(used):
        raise ValueError("two labelled micrographs have the same name")
    start = _choose(networks, used, parameters)
    folds = ensemble(networks[start])
    shown = [_prepare(m, folds[0], parameters) for m in used]
    if any(one.prepared.notes_for(folds[0].card) for one in shown):
        notes.append("Some micrographs have no smooth illumination: nothing was divided out there.")

    scores = _held_out(folds, shown, parameters, device)

    def finish(trained: TrainedNetwork) -> TrainedNetwork:
        return _tune(trained, shown, parameters, device, start)

    workers = _workers(device, len(folds))
    with single_threaded_operations(device):
        tuned = list(map_ordered(finish, folds, workers, "fine-tuning on all labels"))
    keys = {id(trained): key for key, trained in networks[start].items()}
    scores += _at_home(folds, tuned, home or {}, len(shown), device)
    table = pd.DataFrame(
        scores, columns=["tested_on", "labelled_micrographs", "part", "micrograph", "dice"]
    )
    curve = curve_table(table, parameters.confidence)
    if not (table["tested_on"] != HELD_OUT).any():
        notes.append(
            "What the labels cost elsewhere is not known: test images of the network's own set are "
            "not at hand."
        )
    return FewLabels(
        networks={keys[id(old)]: new for old, new in zip(folds, tuned, strict=True)},
        start=start,
        curve=curve,
        scores=table,
        sentences=curve_sentences(curve, HELD_OUT),
        notes=notes,
    )


def divide(names: Sequence[str], parts: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """Divide micrographs into parts that are held out in turn.

    Parameters
    ----------
    names : sequence of str
        Of the micrographs; together with the seed they settle the order.
    parts : int
        At most; never more than there are micrographs.
    seed : int

    Returns
    -------
    list of (list of int, list of int)
        For each part the positions held out, and those of the others in the order in which they
        are taken; it begins elsewhere in each part. Empty for fewer than two micrographs.
    """
    n = len(names)
    if n < 2:
        return []
    parts = min(parts, n)
    order = sorted(
        range(n), key=lambda i: hashlib.sha256(f"{seed}:{names[i]}".encode()).hexdigest()
    )
    return [
        (
            order[part::parts],
            [order[(part + 1 + i) % n] for i in range(n) if (part + 1 + i) % n % parts != part],
        )
        for part in range(parts)
    ]


def _inverted(micrograph: LabelledMicrograph) -> str:
    """Return what is said of a mask that is likely to show the background; nothing of others."""
    share = float((micrograph.label != 0).mean())
    if share <= PLAUSIBLE_COVERAGE[1]:
        return ""
    return (
        f"The mask of {micrograph.name} has {share:.0%} of the image labelled; expected 1 in the "
        "particles (is it inverted?)."
    )


def _choose(
    networks: Mapping[str, NetworkSet],
    micrographs: Sequence[LabelledMicrograph],
    parameters: FewLabelsParameters,
) -> str:
    able = {name: ensemble(own) for name, own in networks.items() if own}
    if parameters.network in ("nearest", "box"):
        able = {name: own for name, own in able.items() if own[0].card.preprocessing}
        if not able:
            raise ValueError(
                "there is no network to tune: no card says how its images were preprocessed. Run "
                "the study first, or set fine_tuning.network: box"
            )

        def distance(name: str) -> float:
            card = able[name][0].card
            return sum(
                condition_distance(
                    card,
                    parameters.pixel_size_nm or m.pixel_size_nm,
                    m.dose_e_per_A2 or parameters.dose_e_per_A2,
                    m.material or parameters.material,
                )
                for m in micrographs
            )

        return min(able, key=distance)
    if parameters.network not in able:
        raise ValueError(
            f"fine_tuning.network names {parameters.network!r}, which is not there; "
            f"{nearest(parameters.network, able)}"
        )
    if able[parameters.network][0].card.preprocessing is None:
        raise ValueError(
            f"fine_tuning.network: the card of {parameters.network} does not say how its images "
            "were preprocessed (its training splits differ in it): take another one"
        )
    return parameters.network


def _prepare(
    micrograph: LabelledMicrograph, trained: TrainedNetwork, parameters: FewLabelsParameters
) -> _Labelled:
    if micrograph.image.ndim != 2 or micrograph.label.shape != micrograph.image.shape:
        raise ValueError(
            f"{micrograph.name}: image and mask must have one shape (H, W), found "
            f"{micrograph.image.shape} and {micrograph.label.shape}"
        )
    pixel_size_nm = parameters.pixel_size_nm or micrograph.pixel_size_nm
    prepared = PreparedMicrograph(micrograph.image, pixel_size_nm)
    recipe = trained.card.preprocessing
    assert recipe is not None
    if not prepared.fits(trained.card):
        raise ValueError(
            f"{micrograph.name}: the network resamples its images, but the pixel size is unknown: "
            "give fine_tuning.pixel_size_nm"
        )
    try:
        image = prepared.of(trained.card)
    except ValueError as error:
        raise ValueError(f"{micrograph.name}: {error}") from error
    label = (micrograph.label != 0).astype(np.uint8)
    fitting = label
    if recipe.pixel_size_nm:
        fitting = resample(label, pixel_size_nm, recipe.pixel_size_nm)
    if min(image.shape) < SMALLEST_PX:
        raise ValueError(
            f"{micrograph.name}: {image.shape[0]} × {image.shape[1]} px, networks need at least "
            f"{SMALLEST_PX} px along each side"
        )
    return _Labelled(micrograph.name, prepared, image, fitting, label)


def _tune(
    trained: TrainedNetwork,
    shown: Sequence[_Labelled],
    parameters: FewLabelsParameters,
    device: str,
    start: str,
) -> TrainedNetwork:
    """Return a fold trained further on micrographs."""
    side = min(_PATCH_PX, *(min(one.image.shape) // 16 * 16 for one in shown))
    images, labels, layouts, first = [], [], [], 0
    for one in shown:
        cut, label, corners = cut_patches(one.image, one.label, side)
        height, width = one.image.shape
        layouts.append(PatchLayout(first, height, width, len(np.unique(corners[:, 1]))))
        images.append(cut)
        labels.append(label)
        first += len(cut)
    done = fine_tune_network(
        trained,
        np.concatenate(images),
        np.concatenate(labels),
        parameters.training,
        layouts,
        device,
    )
    known = {**(done.card.fine_tuned or {}), "from": start, "on": [one.name for one in shown]}
    card = done.card.model_copy(update={"network": parameters.name, "fine_tuned": known})
    return TrainedNetwork(done.state, card)


def _held_out(
    folds: Sequence[TrainedNetwork],
    shown: Sequence[_Labelled],
    parameters: FewLabelsParameters,
    device: str,
) -> list[dict[str, Any]]:
    """Return the Dice of every micrograph by number of labels, 0 for the network as it was."""
    parts = divide([one.name for one in shown], parameters.held_out, parameters.seed)
    most = min((len(others) for _, others in parts), default=0)
    numbers = [0, *sorted({k for k in parameters.labelled if k <= most})] if parts else []
    work = [(part, k) for part in range(len(parts)) for k in numbers]

    def test(one: tuple[int, int]) -> list[dict[str, Any]]:
        part, k = one
        held, others = parts[part]
        trained = folds[part % len(folds)]
        if k:
            trained = _tune(trained, [shown[i] for i in others[:k]], parameters, device, "")
        network = optimise_for_inference(trained.build().to(device))
        found = []
        for i in held:
            own = shown[i]
            mask = own.prepared.back(predict_micrograph([network], own.image, device)) > 0.5
            score = _dice(mask, own.whole_label == 1)
            found.append(
                {
                    "tested_on": HELD_OUT,
                    "labelled_micrographs": k,
                    "part": part,
                    "micrograph": own.name,
                    "dice": score,
                }
            )
        return found

    workers = _workers(device, len(work))
    with single_threaded_operations(device):
        rows = list(map_ordered(test, work, workers, "learning curve")) if work else []
    return [row for found in rows for row in found]


def _at_home(
    folds: Sequence[TrainedNetwork],
    tuned: Sequence[TrainedNetwork],
    home: Mapping[str, PatchStack],
    labelled: int,
    device: str,
) -> list[dict[str, Any]]:
    """Return the Dice on the test patches of each fold, before and after."""
    work = [
        (split, fold, k, trained)
        for split, stack in home.items()
        for fold, pair in enumerate(zip(folds, tuned, strict=True))
        for k, trained in zip((0, labelled), pair, strict=True)
        if trained.card.protocol == "grouped"
        and split in trained.card.train_on
        and (stack.table["fold"] == trained.card.fold).any()
    ]

    def test(one: tuple[str, int, int, TrainedNetwork]) -> list[dict[str, Any]]:
        split, fold, k, trained = one
        stack = home[split]
        rows = np.flatnonzero((stack.table["fold"] == trained.card.fold).to_numpy())
        network = optimise_for_inference(trained.build().to(device))
        names = stack.table["micrograph_id"].to_numpy()
        counts: dict[str, NDArray[np.int64]] = {}
        found = predict_patches(network, stack.images[rows], device)
        for row, probability in zip(rows, found, strict=True):
            mask, label = probability > 0.5, stack.labels[row] == 1
            own = counts.setdefault(str(names[row]), np.zeros(3, np.int64))
            own += [(mask & label).sum(), (mask & ~label).sum(), (~mask & label).sum()]
        return [
            {
                "tested_on": split,
                "labelled_micrographs": k,
                "part": fold,
                "micrograph": name,
                "dice": float(dice(*own)),
            }
            for name, own in counts.items()
        ]

    workers = _workers(device, max(len(work), 1))
    with single_threaded_operations(device):
        found = list(map_ordered(test, work, workers, "cost elsewhere")) if work else []
    return [row for rows in found for row in rows]


def _dice(mask: NDArray[np.bool_], label: NDArray[np.bool_]) -> float:
    tp = int((mask & label).sum())
    return float(dice(tp, int(mask.sum()) - tp, int(label.sum()) - tp))


def _workers(device: str, jobs: int) -> int:
    return min(available_cores(), jobs) if device == "cpu" else 1

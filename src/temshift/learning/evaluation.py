"""Testing networks on splits: pixel counts a micrograph, from which every score follows.

In the protocol ``grouped`` whole micrographs are predicted, by tiles without seams, and each pixel
counts once, whatever patches show it; in the protocol ``published`` patches are, as in the study.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.evaluation import EvaluationParameters
from temshift.config.modelling import Adaptation
from temshift.learning.adaptation import Predictor, adapt
from temshift.learning.devices import (
    choose_device,
    keeping_freed_memory,
    single_threaded_operations,
)
from temshift.learning.examples import Example, make_example, pick_examples
from temshift.learning.inference import optimise_for_inference
from temshift.learning.metrics import COUNTS, dice, scores
from temshift.learning.network_set import NetworkSet, TrainedNetwork
from temshift.microscopy.patches import (
    PatchStack,
    micrograph_layouts,
    on_grid,
    patch_grid,
    whole_micrograph,
)
from temshift.parallel import available_cores, map_ordered
from temshift.study.folds import published_folds

__all__ = [
    "RESULT_COLUMNS",
    "Predicted",
    "evaluate_network",
    "patch_counts",
    "patches_to_test",
    "pool_micrographs",
    "predict_and_count",
    "seen_micrographs",
    "telling_patches",
]

_log = logging.getLogger(__name__)

#: Networks predicting side by side on a CPU; each takes about 0.1 GB beside its micrograph.
_MAX_WORKERS = 8

#: What a result takes over from the patch table: alike in all patches of a micrograph.
CARRIED = ("specimen_id", "group")

#: Columns of a results table.
RESULT_COLUMNS = (
    "network",
    "protocol",
    "fold",
    "test_split",
    "micrograph_id",
    *CARRIED,
    "in_domain",
    "learned",
    "n_patches",
    *COUNTS,
    "dice",
    "iou",
    "precision",
    "recall",
    "mean_certainty",
    "patch_dice",
    "seen_dice",
)


def patch_counts(probability: NDArray[np.float32], label: NDArray[np.uint8]) -> dict[str, int]:
    """Return the counts of :data:`temshift.learning.metrics.COUNTS` of one patch.

    Parameters
    ----------
    probability : ndarray, shape (H, W), float32
        Of a particle, 0 … 1. A pixel is predicted as particle above 0.5.
    label : ndarray, shape (H, W), uint8
        1 where a particle is.
    """
    labelled = label == 1
    predicted = probability > 0.5
    n = label.size
    n_label, n_predicted = int(labelled.sum()), int(predicted.sum())
    tp = int((predicted & labelled).sum())
    return {
        "tp": tp,
        "fp": n_predicted - tp,
        "fn": n_label - tp,
        "tn": n - n_label - n_predicted + tp,
    }


def patches_to_test(
    stack: PatchStack, protocol: str, fold: int, folds: int, in_domain: bool, threshold: int
) -> NDArray[np.intp]:
    """Return the patches of a split on which one fold's network is tested.

    Parameters
    ----------
    stack : PatchStack
    protocol : {"grouped", "published"}
        ``grouped``: those of the fold's groups, whatever the split, empty patches included; the
        network has seen none of these groups in any split. ``published``: of the own split the
        test fold of the patch list, of another split all; without empty patches and those that
        overlap others.
    fold, folds : int
        This fold, and how many there are.
    in_domain : bool
        Whether the network was trained on this split, or started from one that was.
    threshold : int
        Most labelled pixels of an empty patch (``published`` only).
    """
    if protocol == "grouped":
        return np.flatnonzero(stack.table["fold"].to_numpy() == fold)
    empty = stack.table["labelled_px"].to_numpy() <= threshold
    kept = np.flatnonzero(~empty & on_grid(stack.table, stack.images.shape[1]))
    if not in_domain:
        return kept
    return kept[published_folds(len(kept), folds)[fold].test]


def evaluate_network(
    name: str,
    networks: NetworkSet,
    stacks: Mapping[str, PatchStack],
    parameters: EvaluationParameters,
    device: str = "auto",
    adaptation: Adaptation | None = None,
) -> tuple[pd.DataFrame, list[Example]]:
    """Test all folds of a network on its splits.

    Parameters
    ----------
    name : str
        Name of the network: its row in the matrices.
    networks : NetworkSet
    stacks : mapping of str to PatchStack
        By the name of the test split.
    parameters : EvaluationParameters
    device : str
    adaptation : Adaptation, optional
        Of the weights or the images, to each split on its own.

    Returns
    -------
    results : DataFrame
        One row a network fold × split × micrograph, columns :data:`RESULT_COLUMNS`. ``seen_dice``
        is the Dice on the same micrograph of the network of another fold, which was trained on it
        (:func:`seen_micrographs`); NaN where that was not measured.
    examples : list of Example
        Best, median and worst micrograph of each split.
    """
    device = choose_device(device)
    # one network at a time on a GPU; on a CPU one a core: its operations are too short to share
    workers = min(available_cores(), _MAX_WORKERS) if device == "cpu" else 1
    rows: list[dict[str, Any]] = []
    candidates: list[Example] = []
    with keeping_freed_memory(device), single_threaded_operations(device):
        built = {
            key: Predictor(optimise_for_inference(trained.build()).to(device), device)
            for key, trained in networks.items()
            if adaptation is None
        }

        def test(job: tuple[str, str]) -> tuple[list[dict[str, Any]], list[Example]]:
            key, split = job
            stack = stacks[split]
            chosen = _to_test(networks[key], split, stack)
            if adaptation is None:
                predictor = built[key]
            else:
                predictor = adapt(networks[key], adaptation, stack, chosen, device)
            return _test(name, networks[key], predictor, split, stack, chosen, parameters)

        jobs = [(key, split) for key in networks for split in stacks]
        for tested, shown in map_ordered(test, jobs, workers, f"testing {name}"):
            rows += tested
            candidates += shown

        seen_of = {
            (key, split): chosen
            for key, split in jobs
            if key in built
            and len(
                chosen := seen_micrographs(
                    networks[key], split, stacks[split], parameters.seen_micrographs
                )
            )
        }

        def test_seen(job: tuple[str, str]) -> dict[tuple[str, str, str], float]:
            key, split = job
            known, _ = _whole_micrographs(built[key], stacks[split], seen_of[job], {})
            protocol = networks[key].card.protocol
            return {(protocol, split, row["micrograph_id"]): row["dice"] for row in known}

        seen: dict[tuple[str, str, str], float] = {}
        for known in map_ordered(test_seen, list(seen_of), workers, f"testing {name} on seen ones"):
            seen |= known
    for row in rows:
        place = row["protocol"], row["test_split"], row["micrograph_id"]
        row["seen_dice"] = seen.get(place, float("nan"))
    results = pd.DataFrame(rows, columns=list(RESULT_COLUMNS))
    return results, pick_examples(candidates)


def seen_micrographs(
    trained: TrainedNetwork, split: str, stack: PatchStack, most: int
) -> NDArray[np.intp]:
    """Return the patches of some micrographs of a split that one fold was trained on.

    They are of the fold before, so that in a whole set of networks each has been seen by one of
    those that are tested on it and not by another: their Dice can be compared without what makes a
    micrograph hard. (Validation is on groups of the fold behind.)

    Parameters
    ----------
    trained : TrainedNetwork
    split : str
    stack : PatchStack
        Of this split.
    most : int
        Micrographs at most: the first in an order that follows from ``training.seed`` and the
        names of the groups, and is the same in all sets.

    Returns
    -------
    ndarray of int
        Positions in ``stack``. None of imported or fine-tuned networks, of other splits, and under
        the protocol ``published``, where patches of one micrograph may be trained on and tested.
    """
    card, table = trained.card, stack.table
    own = split in card.train_on and card.protocol == "grouped" and card.folds > 1
    if not own or card.imported or card.fine_tuned is not None:
        return np.empty(0, np.intp)
    before = table["fold"] == (card.fold - 1) % card.folds
    known = table[before & table["group"].isin(card.train_groups)]

    def order(names: tuple[str, str]) -> tuple[str, str]:
        return hashlib.sha256(f"{card.training.seed}:{names[0]}".encode()).hexdigest(), names[1]

    pairs = sorted(set(zip(known["group"], known["micrograph_id"], strict=True)), key=order)
    chosen = {micrograph for _, micrograph in pairs[:most]}
    return np.flatnonzero(table["micrograph_id"].isin(chosen))


def _to_test(trained: TrainedNetwork, split: str, stack: PatchStack) -> NDArray[np.intp]:
    """Return the patches of a split on which one fold is tested."""
    card = trained.card
    threshold = card.training.background_threshold
    in_domain = split in card.train_on or (card.initial is not None and split in card.splits)
    return patches_to_test(stack, card.protocol, card.fold, card.folds, in_domain, threshold)


def _test(
    name: str,
    trained: TrainedNetwork,
    predictor: Predictor,
    split: str,
    stack: PatchStack,
    chosen: NDArray[np.intp],
    parameters: EvaluationParameters,
) -> tuple[list[dict[str, Any]], list[Example]]:
    """Test one fold on one split; return result rows and candidates for the examples."""
    card = trained.card
    table = stack.table.iloc[chosen].reset_index(drop=True)
    shown = telling_patches(table) if parameters.examples else {}
    if card.protocol == "grouped":
        tested, predictions = _whole_micrographs(predictor, stack, chosen, shown)
    else:
        images, labels = stack.images[chosen], stack.labels[chosen]
        counts, predictions = predict_and_count(
            predictor, images, labels, parameters.batch_size, keep=shown.values()
        )
        counts["patch_dice"] = _dihedral_dice(
            predictor, images, labels, counts["patch_dice"].to_numpy(), parameters.batch_size
        )
        tested = pool_micrographs(pd.concat([table, counts], axis=1))
    test = {
        "network": name,
        "protocol": card.protocol,
        "fold": card.fold,
        "test_split": split,
        "in_domain": split in card.train_on,
        "learned": card.learned,
    }
    rows = [{**test, **row} for row in tested]
    score = {row["micrograph_id"]: row["dice"] for row in rows}
    candidates = []
    for micrograph, at in shown.items():
        i = chosen[at]
        pictures = (stack.images[i], stack.labels[i], predictions[at])
        pixel_size_nm = stack.attributes.get("pixel_size_nm")
        candidates.append(
            make_example(split, micrograph, score[micrograph], *pictures, pixel_size_nm)
        )
    return rows, candidates


def _whole_micrographs(
    predictor: Predictor,
    stack: PatchStack,
    chosen: NDArray[np.intp],
    keep: Mapping[str, int],
) -> tuple[list[dict[str, Any]], dict[int, NDArray[np.bool_]]]:
    """Predict the micrographs that the chosen patches show; count every pixel once.

    Returns rows as :func:`pool_micrographs` does, in which ``patch_dice`` is that of the whole
    micrograph, and of the patches in ``keep`` (positions in ``chosen``) what is predicted there.
    """
    side = stack.images.shape[1]
    tested = set(stack.table["micrograph_id"].iloc[chosen])
    rows, kept = [], {}
    for micrograph, layout in micrograph_layouts(stack.table, side).items():
        if micrograph not in tested:
            continue
        image = whole_micrograph(stack.images, layout, stack.table)
        label = whole_micrograph(stack.labels, layout, stack.table)
        probability = predictor.micrograph(image)
        row = stack.table.iloc[layout.first]
        counts = pd.DataFrame(
            {
                "micrograph_id": micrograph,
                **{column: row[column] for column in CARRIED},
                **patch_counts(probability, label),
                "mean_certainty": float(np.maximum(probability, 1 - probability).mean()),
            },
            index=[0],
        )
        counts["patch_dice"] = dice(counts["tp"], counts["fp"], counts["fn"])
        n_patches = len(patch_grid(image.shape, side))
        rows += [{**pooled, "n_patches": n_patches} for pooled in pool_micrographs(counts)]
        if micrograph in keep:
            at = keep[micrograph]
            top, left = (int(stack.table[name].iloc[chosen[at]]) for name in ("row", "column"))
            kept[at] = probability[top : top + side, left : left + side] > 0.5
    return rows, kept


class Predicted(NamedTuple):
    """What :func:`predict_and_count` returns.

    Attributes
    ----------
    counts : DataFrame, N rows
        :data:`temshift.learning.metrics.COUNTS`; ``mean_certainty``, the mean of the larger of the
        two softmax outputs; ``patch_dice``.
    kept : dict of int to ndarray, shape (P, P), bool
        The predictions that were asked for, by position.
    """

    counts: pd.DataFrame
    kept: dict[int, NDArray[np.bool_]]


def predict_and_count(
    predictor: Predictor,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    batch_size: int,
    keep: Collection[int] = (),
) -> Predicted:
    """Predict patches and count their pixels.

    Parameters
    ----------
    predictor : Predictor
    images : ndarray, shape (N, P, P), float32
    labels : ndarray, shape (N, P, P), uint8
        1 where a particle is.
    batch_size : int
        Patches predicted at a time.
    keep : collection of int
        Positions of the patches whose predictions are returned too.
    """
    wanted = set(keep)
    rows, kept = [], {}
    probabilities = predictor.patches(images, batch_size)
    for i, (probability, label) in enumerate(zip(probabilities, labels, strict=True)):
        certainty = float(np.maximum(probability, 1 - probability).mean())
        rows.append({**patch_counts(probability, label), "mean_certainty": certainty})
        if i in wanted:
            kept[i] = probability > 0.5
    counts = pd.DataFrame(rows, columns=[*COUNTS, "mean_certainty"])
    counts["patch_dice"] = dice(counts["tp"], counts["fp"], counts["fn"])
    return Predicted(counts, kept)


def pool_micrographs(patches: pd.DataFrame) -> list[dict[str, Any]]:
    """Pool the counts of each micrograph's patches, and score them.

    Parameters
    ----------
    patches : DataFrame
        ``micrograph_id``, :data:`CARRIED` and the columns of :class:`Predicted`.

    Returns
    -------
    list of dict
        One a micrograph, in the order in which they come first: ``micrograph_id``,
        :data:`CARRIED`, ``n_patches``, the sums of the counts, the scores that follow from them,
        and the means over the patches of ``mean_certainty`` and ``patch_dice``.
    """
    rows = []
    for micrograph, group in patches.groupby("micrograph_id", sort=False):
        pooled = {count: int(group[count].sum()) for count in COUNTS}
        score = scores(pooled["tp"], pooled["fp"], pooled["fn"])
        rows.append(
            {
                "micrograph_id": micrograph,
                **{column: group[column].iloc[0] for column in CARRIED},
                "n_patches": len(group),
                **pooled,
                **{name: float(value) for name, value in score.items()},
                "mean_certainty": float(group["mean_certainty"].mean()),
                "patch_dice": float(group["patch_dice"].mean()),
            }
        )
    return rows


def telling_patches(table: pd.DataFrame) -> dict[str, int]:
    """Return the position of each micrograph's patch with the most labelled pixels.

    Parameters
    ----------
    table : DataFrame
        ``micrograph_id`` and ``labelled_px`` of every patch; of equals the first counts.
    """
    most: dict[str, int] = {}
    labelled = table["labelled_px"].to_numpy()
    for i, micrograph in enumerate(table["micrograph_id"]):
        if labelled[i] > labelled[most.setdefault(micrograph, i)]:
            most[micrograph] = i
    return most


def _dihedral_dice(
    predictor: Predictor,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    upright: NDArray[np.float64],
    batch_size: int,
) -> NDArray[np.float64]:
    """Return each patch's Dice averaged over its 8 dihedral copies (the published protocol)."""
    total = upright.copy()
    for copy in range(1, 8):

        def turn(stack: NDArray[Any], copy: int = copy) -> NDArray[Any]:
            turned = np.rot90(stack, copy % 4, axes=(1, 2))
            return turned[:, :, ::-1] if copy >= 4 else turned

        probabilities = predictor.patches(turn(images), batch_size)
        for i, (probability, label) in enumerate(zip(probabilities, turn(labels), strict=True)):
            c = patch_counts(probability, label)
            total[i] += dice(c["tp"], c["fp"], c["fn"])
    return total / 8

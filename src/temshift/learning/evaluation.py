"""Testing networks on splits: pixel counts a micrograph, from which every score follows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from temshift.config.reporting import EvaluationParameters
from temshift.learning.devices import choose_device, keeping_freed_memory
from temshift.learning.examples import Candidate, Example, make_thumbnails, pick_examples
from temshift.learning.inference import optimise_for_inference, predict_patches
from temshift.learning.metrics import COUNTS, dice, scores
from temshift.learning.network_set import NetworkSet, TrainedNetwork
from temshift.microscopy.patches import PatchStack
from temshift.study.folds import published_folds

__all__ = ["RESULT_COLUMNS", "evaluate_network", "patch_counts", "patches_to_test"]

_log = logging.getLogger(__name__)

#: Columns of a results table.
RESULT_COLUMNS = (
    "network",
    "protocol",
    "fold",
    "test_split",
    "micrograph_id",
    "specimen_id",
    "group",
    "in_domain",
    "n_patches",
    *COUNTS,
    "dice",
    "iou",
    "precision",
    "recall",
    "confidence",
    "patch_dice",
)


def patch_counts(probability: NDArray[np.float32], label: NDArray[np.uint8]) -> dict[str, float]:
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
    soft, soft_tp = (
        float(probability.sum(dtype=np.float64)),
        float(probability.sum(dtype=np.float64, where=labelled)),
    )
    return {
        "tp": tp,
        "fp": n_predicted - tp,
        "fn": n_label - tp,
        "tn": n - n_label - n_predicted + tp,
        "soft_tp": soft_tp,
        "soft_fp": soft - soft_tp,
        "soft_fn": n_label - soft_tp,
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
        test fold of the patch list, of another split all; without empty patches.
    fold, folds : int
        This fold, and how many there are.
    in_domain : bool
        Whether the network was trained on this split.
    threshold : int
        Most labelled pixels of an empty patch (``published`` only).
    """
    if protocol == "grouped":
        return np.flatnonzero(stack.table["fold"].to_numpy() == fold)
    filled = np.flatnonzero(stack.table["labelled_px"].to_numpy() > threshold)
    if not in_domain:
        return filled
    return filled[published_folds(len(filled), folds)[fold].test]


def evaluate_network(
    name: str,
    networks: NetworkSet,
    stacks: Mapping[str, PatchStack],
    parameters: EvaluationParameters,
    device: str = "auto",
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

    Returns
    -------
    results : DataFrame
        One row a network fold × split × micrograph, columns :data:`RESULT_COLUMNS`.
    examples : list of Example
        Best, median and worst micrograph of each split.
    """
    device = choose_device(device)
    rows: list[dict[str, Any]] = []
    candidates: list[Candidate] = []
    progress = tqdm(
        total=len(networks) * len(stacks),
        desc=f"testing {name}",
        unit="test",
        leave=False,
        disable=None,
    )
    with progress as bar, keeping_freed_memory(device):
        for trained in networks.values():
            network = optimise_for_inference(trained.build()).to(device)
            for split, stack in stacks.items():
                tested, shown = _test(name, trained, network, split, stack, parameters, device)
                rows += tested
                candidates += shown
                bar.update()
    results = pd.DataFrame(rows, columns=list(RESULT_COLUMNS))
    return results, pick_examples(candidates)


def _test(
    name: str,
    trained: TrainedNetwork,
    network: Any,
    split: str,
    stack: PatchStack,
    parameters: EvaluationParameters,
    device: str,
) -> tuple[list[dict[str, Any]], list[Candidate]]:
    """Test one fold on one split; return result rows and candidates for the examples."""
    card = trained.card
    in_domain = split in card["train_on"]
    chosen = patches_to_test(
        stack,
        card["protocol"],
        card["fold"],
        card["folds"],
        in_domain,
        card.get("background_threshold", 0),
    )
    images, labels = stack.images[chosen], stack.labels[chosen]
    table = stack.table.iloc[chosen].reset_index(drop=True)
    counts, confidence = [], []
    predictions = []
    for probability, label in zip(
        predict_patches(network, images, device, parameters.batch_size),
        labels,
        strict=True,
    ):
        counts.append(patch_counts(probability, label))
        confidence.append(float(np.maximum(probability, 1 - probability).mean()))
        predictions.append(probability > 0.5)
    frame = pd.concat([table, pd.DataFrame(counts, columns=list(COUNTS))], axis=1)
    frame["confidence"] = confidence
    frame["patch_dice"] = dice(frame["tp"], frame["fp"], frame["fn"])
    if card["protocol"] == "published":
        frame["patch_dice"] = _dihedral_dice(
            network, images, labels, frame["patch_dice"].to_numpy(), device, parameters
        )

    rows: list[dict[str, Any]] = []
    candidates: list[Candidate] = []
    for micrograph, group in frame.groupby("micrograph_id", sort=False):
        pooled = group[list(COUNTS)].sum()
        score = {k: float(v) for k, v in scores(pooled["tp"], pooled["fp"], pooled["fn"]).items()}
        rows.append(
            {
                "network": name,
                "protocol": card["protocol"],
                "fold": card["fold"],
                "test_split": split,
                "micrograph_id": micrograph,
                "specimen_id": group["specimen_id"].iloc[0],
                "group": group["group"].iloc[0],
                "in_domain": in_domain,
                "n_patches": len(group),
                **{k: int(pooled[k]) for k in COUNTS[:4]},
                **{k: float(pooled[k]) for k in COUNTS[4:]},
                **score,
                "confidence": float(group["confidence"].mean()),
                "patch_dice": float(group["patch_dice"].mean()),
            }
        )
        # the patch with the most labelled pixels tells most
        best = int(group["labelled_px"].to_numpy().argmax())
        at = int(group.index[best])
        if parameters.examples:
            pictures = make_thumbnails(images[at], labels[at], predictions[at])
            candidates.append((split, str(micrograph), score["dice"], *pictures))
    return rows, candidates


def _dihedral_dice(
    network: Any,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    upright: NDArray[np.float64],
    device: str,
    parameters: EvaluationParameters,
) -> NDArray[np.float64]:
    """Return each patch's Dice averaged over its 8 dihedral copies (the published protocol)."""
    total = upright.copy()
    for copy in range(1, 8):

        def turn(stack: NDArray[Any], copy: int = copy) -> NDArray[Any]:
            turned = np.rot90(stack, copy % 4, axes=(1, 2))
            return turned[:, :, ::-1] if copy >= 4 else turned

        probabilities = predict_patches(network, turn(images), device, parameters.batch_size)
        for i, (probability, label) in enumerate(zip(probabilities, turn(labels), strict=True)):
            c = patch_counts(probability, label)
            total[i] += dice(c["tp"], c["fp"], c["fn"])
    return total / 8

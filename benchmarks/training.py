"""Training of all folds against the study's plain loop, per epoch; equal final quality.

    python benchmarks/training.py [--device cpu] [--patches 8] [--patch-px 256] [--folds 4]
    python benchmarks/training.py --quality STACK.h5 [--seeds 3]

Speed: both sides train the same folds on the same patches for one epoch (every patch in its 8
dihedral copies, half of them turned by any angle, batches of 32), alternately; lower quartiles of
wall time. Quality: both sides train on the middles of the patches of two thirds of the micrographs
of a patch stack of a finished study, from the same initial weights with the same schedule, and are
tested on whole patches of the rest.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from plain import plain_training
from sides import lower_quartiles
from temshift.catalog.patch_stack import PatchStackDataset
from temshift.config.modelling import Augmentation, ModellingParameters, Training
from temshift.learning.devices import choose_precision
from temshift.learning.inference import predict_patches
from temshift.learning.metrics import dice
from temshift.learning.networks import PublishedUNet
from temshift.learning.training import TrainingData, train_folds
from temshift.study.folds import FoldIndices


def ours(
    data: TrainingData, folds: dict[str, FoldIndices], device: str, **training: object
) -> dict[str, torch.nn.Module]:
    parameters = ModellingParameters(
        folds=len(folds) if len(folds) > 1 else 2,
        training=Training(**{"background_threshold": 0, "keep": "last", **training}),
        augmentation=Augmentation(dihedral="all"),
    )
    seeds = {key: [i] for i, key in enumerate(folds)}
    result = {}
    for key, fold in train_folds(
        dict.fromkeys(folds, data), folds, parameters, seeds, device
    ).items():
        result[key] = PublishedUNet()
        result[key].load_state_dict(fold.state)
    return result


def patches_of_noise(patches: int, patch_px: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(0).normal(size=(patches, patch_px, patch_px))
    return images.astype(np.float32), (images > 1).astype(np.uint8)


def plain_epoch(device: str, patches: int, patch_px: int, folds: int) -> float:
    """Seconds the plain loop takes for an epoch of all folds."""
    images, labels = patches_of_noise(patches, patch_px)
    start = time.perf_counter()
    for seed in range(folds):
        plain_training(images, labels, seed, epochs=1, device=device, workers=2)
    synchronise(device)
    return time.perf_counter() - start


def our_epoch(device: str, patches: int, patch_px: int, folds: int) -> float:
    """Seconds we take for an epoch of all folds."""
    images, labels = patches_of_noise(patches, patch_px)
    everything, none = np.arange(patches), np.arange(0)
    start = time.perf_counter()
    data = TrainingData.from_arrays([images], [labels], device)
    ours(
        data,
        {f"fold{i}": FoldIndices(everything, none, none) for i in range(folds)},
        device,
        epochs=1,
    )
    synchronise(device)
    return time.perf_counter() - start


def speed(device: str, patches: int, patch_px: int, folds: int, repeats: int) -> None:
    slow_s, fast_s = lower_quartiles(
        plain_epoch, our_epoch, (device, patches, patch_px, folds), repeats
    )
    print(
        f"training, {device}, {choose_precision('auto', device)}: {folds} folds x {8 * patches} "
        f"samples of {patch_px} px an epoch: plain (float32) {slow_s:.2f} s, ours {fast_s:.2f} s, "
        f"ratio {slow_s / fast_s:.2f}, target >= {2 if device == 'cpu' else 25}"
    )


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def quality(stack_path: Path, seeds: int, epochs: int, crop_px: int) -> None:
    stack = PatchStackDataset(filepath=str(stack_path)).load()
    fold = stack.table["fold"].to_numpy()
    filled = stack.table["labelled_px"].to_numpy() > 400
    train, test = np.flatnonzero((fold != 0) & filled), np.flatnonzero(fold == 0)
    first = (stack.images.shape[1] - crop_px) // 2
    middle = np.s_[:, first : first + crop_px, first : first + crop_px]
    images, labels = stack.images[train][middle], stack.labels[train][middle]

    def score(network: torch.nn.Module) -> float:
        network.eval()
        predicted = np.array(list(predict_patches(network, stack.images[test]))) > 0.5
        labelled = stack.labels[test] == 1
        return float(
            dice(
                (predicted & labelled).sum(),
                (predicted & ~labelled).sum(),
                (~predicted & labelled).sum(),
            )
        )

    everything, none = np.arange(len(train)), np.arange(0)
    networks = ours(
        TrainingData.from_arrays([images], [labels], "cpu"),
        {f"seed{seed}": FoldIndices(everything, none, none) for seed in range(seeds)},
        "cpu",
        epochs=epochs,
        batch_size=8,
        learning_rate=5e-3,
        schedule="one_cycle",
    )
    rows = []
    for seed, network in enumerate(networks.values()):
        reference = plain_training(
            images,
            labels,
            seed,
            epochs,
            batch_size=8,
            learning_rate=5e-3,
            workers=2,
            one_cycle=True,
        )
        rows.append((score(reference), score(network)))
        print(f"  seed {seed}: plain {rows[-1][0]:.3f}, ours {rows[-1][1]:.3f}", flush=True)
    plain_mean, our_mean = np.mean(rows, axis=0)
    print(
        f"training quality, {choose_precision('auto', 'cpu')}: Dice plain (float32) "
        f"{plain_mean:.3f}, ours {our_mean:.3f} ({seeds} seeds), target: within .01"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--patches", type=int, default=8)
    parser.add_argument("--patch-px", type=int, default=256)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quality", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--crop-px", type=int, default=256)
    a = parser.parse_args()
    if a.quality:
        quality(a.quality, a.seeds, a.epochs, a.crop_px)
    else:
        speed(a.device, a.patches, a.patch_px, a.folds, a.repeats)


if __name__ == "__main__":
    main()

"""The study's own procedure for training and inference, written plainly.

A reference for the benchmarks: one fold after the other, patches rotated one at a time on the CPU
by SciPy, batches made by a DataLoader, metrics read back every step. Labels are rotated with
nearest neighbour, not as in the published code, so that both sides learn the same task.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch.utils.data import DataLoader, Dataset

from temshift.learning.networks import PublishedUNet


class PlainPatches(Dataset):
    """All 8 dihedral copies of every patch; half of the items flipped and turned by any angle."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, seed: int) -> None:
        self.items = [
            (np.ascontiguousarray(x), np.ascontiguousarray(y))
            for a, b in zip(images, labels, strict=True)
            for k in range(4)
            for x, y in (
                (np.rot90(a, k), np.rot90(b, k)),
                (np.rot90(a, k)[:, ::-1], np.rot90(b, k)[:, ::-1]),
            )
        ]
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, label = self.items[i]
        if self.rng.random() < 0.5:
            image, label = image[:, ::-1], label[:, ::-1]
            angle = self.rng.uniform(0, 360)
            background = float(np.median(image[label == 0]))
            image = ndimage.rotate(image, angle, reshape=False, order=1, cval=background)
            label = ndimage.rotate(label, angle, reshape=False, order=0, cval=0)
        x = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None]
        return x, torch.from_numpy(np.ascontiguousarray(label).astype(np.int64))


def plain_training(
    images: np.ndarray,
    labels: np.ndarray,
    seed: int,
    epochs: int,
    batch_size: int = 32,
    learning_rate: float = 1e-4,
    device: str = "cpu",
    workers: int = 0,
    one_cycle: bool = False,
) -> torch.nn.Module:
    """Train one fold, at a constant learning rate or along one cycle; return the network."""
    torch.manual_seed(seed)
    network = PublishedUNet().to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    loader = DataLoader(
        PlainPatches(images, labels, seed),
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        # whatever started this process: workers that import torch anew would be no fair comparison
        multiprocessing_context="fork" if workers else None,
        generator=torch.Generator().manual_seed(seed),
    )
    if one_cycle:
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, learning_rate, epochs * len(loader), cycle_momentum=False
        )
    for _ in range(epochs):
        network.train()
        for x, y in loader:
            optimiser.zero_grad()
            loss = F.cross_entropy(network(x.to(device)), y.to(device))
            loss.backward()
            optimiser.step()
            loss.item()
            if one_cycle:
                schedule.step()
    return network


@torch.no_grad()
def plain_inference(
    networks: list[torch.nn.Module], image: np.ndarray, patch_px: int = 512
) -> np.ndarray:
    """Predict an image patch by patch, network by network; return the mean probability."""
    result = np.zeros(image.shape, np.float32)
    for network in networks:
        network.eval()
        for r in range(0, image.shape[0], patch_px):
            for c in range(0, image.shape[1], patch_px):
                x = torch.from_numpy(image[r : r + patch_px, c : c + patch_px].copy())[None, None]
                result[r : r + patch_px, c : c + patch_px] += torch.softmax(network(x), 1)[
                    0, 1
                ].numpy()
    return result / len(networks)

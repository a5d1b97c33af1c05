"""Training of all folds of a network together.

Every fold is a :class:`FoldTrainer` that owns its network, optimiser and random state and is
advanced in short turns. On a CPU each core takes turns with the folds (operations of a small
network are too short to be shared by cores, whole folds are not); on a GPU one thread queues the
folds' work on a stream each, so that the card never waits for the host. The patches live on the
device once, whatever the number of folds. Results do not depend on who takes which turn.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from temshift.config.modelling import ModellingParameters
from temshift.learning.augmentation import BatchPlan, augment, draw_plan
from temshift.learning.devices import (
    choose_precision,
    keeping_freed_memory,
    single_threaded_operations,
)
from temshift.learning.inference import stride_px
from temshift.learning.metrics import dice
from temshift.learning.networks import build_network
from temshift.parallel import available_cores
from temshift.study.folds import FoldIndices

__all__ = ["Checkpoints", "FoldResult", "FoldTrainer", "TrainingData", "train_folds"]

_log = logging.getLogger(__name__)

#: Steps of one turn: long enough to be worth the hand-over, short enough to share cores fairly.
_TURN_STEPS = 5

#: Labelled pixels kept of each patch, for crops to be centred on.
_PIXELS = 256


class Checkpoints(Protocol):
    """Where unfinished folds are kept (see :class:`temshift.catalog.networks.CheckpointStore`)."""

    def load(self, key: str, identity: str) -> dict[str, Any] | None:
        """Return the state saved under ``key`` by the same training (``identity``), if any."""

    def save(self, key: str, identity: str, state: dict[str, Any]) -> None:
        """Replace the state under ``key`` atomically."""


@dataclass
class TrainingData:
    """Patches of a training set, on the device.

    Attributes
    ----------
    images : Tensor, shape (N, P, P), float32
    labels : Tensor, shape (N, P, P), uint8
    background : Tensor, shape (N,), float32
        Median intensity of the unlabelled pixels of each patch, of a grid of about 64 × 64 of
        its pixels.
    particles : Tensor, shape (N, K, 2), int64
        On the CPU: row and column of K labelled pixels of each patch, evenly through all of them
        (the middle of a patch without any).
    """

    images: Tensor
    labels: Tensor
    background: Tensor
    particles: Tensor

    @classmethod
    def from_arrays(
        cls,
        images: Sequence[NDArray[np.float32]],
        labels: Sequence[NDArray[np.uint8]],
        device: str,
    ) -> TrainingData:
        """Put stacks of patches ``(N_i, P, P)``, maybe memory-mapped, on the device, in a row."""
        n, side = sum(map(len, images)), images[0].shape[1]
        for x in images:
            if x.shape[1] != side:
                raise ValueError(
                    f"patches to be trained on together must have one size, found {side} and "
                    f"{x.shape[1]} px: give their splits the same preprocessing.patch_px"
                )
        # one stack stays where it is: on the CPU, in the file that is mapped into memory
        pixels, labelled = (
            np.asarray(x[0]) if len(x) == 1 else np.concatenate(x) for x in (images, labels)
        )
        medians, particles = np.empty(n, np.float32), np.empty((n, _PIXELS, 2), np.int64)
        for i, (image, label) in enumerate(zip(pixels, labelled, strict=True)):
            medians[i], particles[i] = _background_and_particles(image, label)
        return cls(
            _to_device(pixels, device),
            _to_device(labelled, device),
            _to_device(medians, device),
            _to_device(particles, "cpu"),
        )

    @property
    def patch_px(self) -> int:
        """Side of a patch, px."""
        return self.images.shape[-1]


@dataclass
class FoldResult:
    """What the training of one fold gives.

    Attributes
    ----------
    state : dict of str to Tensor
        State dict on the CPU, float32.
    history : list of dict
        A row a validation: ``step, epoch, train_loss, validation_loss, validation_dice``.
    kept_step : int
        Optimiser steps behind the weights that were kept.
    """

    state: dict[str, Tensor]
    history: list[dict[str, float]]
    kept_step: int


@dataclass
class FoldTrainer:
    """One fold in training.

    Parameters
    ----------
    data : TrainingData
    fold : FoldIndices
        Patches to train and validate on.
    parameters : ModellingParameters
    seed : int
        Of the initial weights, the order of patches and the augmentation.
    device : str
    precision : {"float32", "bfloat16"}
        Of the operations; weights are float32.
    """

    data: TrainingData
    fold: FoldIndices
    parameters: ModellingParameters
    seed: int
    device: str
    precision: str
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        training, augmentation = self.parameters.training, self.parameters.augmentation
        if len(self.fold.train) == 0:
            raise ValueError(
                "a fold has no patch to train on: every training patch has at most "
                f"training.background_threshold = {training.background_threshold} labelled px"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = build_network(**self.parameters.architecture.model_dump())
        self.crop_px = min(training.crop_px or self.data.patch_px, self.data.patch_px)
        stride = stride_px(network)
        for name, side in (("patch_px", self.data.patch_px), ("crop_px", self.crop_px)):
            if side % stride:
                raise ValueError(
                    f"{self.parameters.architecture.name} takes images whose sides are multiples "
                    f"of {stride} px, but {name} is {side}: change preprocessing.patch_px or "
                    "training.crop_px"
                )
        self.network = network.to(self.device).to(memory_format=torch.channels_last)
        # one fused update for all weights, and a step count that stays on the device
        cuda = self.device.startswith("cuda")
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=training.learning_rate, fused=cuda or None
        )
        self.generator = torch.Generator().manual_seed(self.seed)
        self.noise_generator: torch.Generator | None = None
        if augmentation.noise is not None:
            self.noise_generator = torch.Generator(self.device).manual_seed(self.seed)
        self.stream = torch.cuda.Stream(self.device) if cuda else None

        copies = 8 if augmentation.dihedral == "all" else 1
        self.samples_per_epoch = len(self.fold.train) * copies
        self.steps_per_epoch = -(-self.samples_per_epoch // training.batch_size)
        if training.steps is not None:
            self.total_steps = training.steps
            self.validate_every = max(1, training.steps // training.validations)
        else:
            assert training.epochs is not None
            self.total_steps = training.epochs * self.steps_per_epoch
            self.validate_every = self.steps_per_epoch
        self._plan: BatchPlan | None = None
        self._plan_state: Tensor = self.generator.get_state()
        self._loss_sum = torch.zeros((), device=self.device)
        self._best: tuple[float, int, dict[str, Tensor]] | None = None
        if self.stream:  # what was queued above on the default stream comes first
            self.stream.wait_stream(torch.cuda.current_stream(self.device))

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.total_steps

    def advance(self) -> bool:
        """Train up to the end of the turn or the next validation; return whether it validated."""
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            self.network.train()
            for _ in range(_TURN_STEPS):
                self._one_step()
                if self.step % self.validate_every == 0 or self.finished:
                    self._validate()
                    return True
        return False

    def _one_step(self) -> None:
        training = self.parameters.training
        position = self.step % self.steps_per_epoch
        if position == 0 or self._plan is None:
            self._draw_epoch()
            assert self._plan is not None
        start = position * training.batch_size
        batch = self._plan.slice(start, start + training.batch_size)
        x, y = augment(
            self.data.images,
            self.data.labels,
            self.data.background,
            batch,
            self.crop_px,
            self.noise_generator,
        )
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(
                self.step, self.total_steps, training.learning_rate, training.schedule
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self._logits(x), y)
        loss.backward()
        self.optimiser.step()
        self._loss_sum += loss.detach()
        self.step += 1

    def _draw_epoch(self) -> None:
        """Draw order and augmentation of one epoch (again, after a resume in its middle)."""
        if self.step % self.steps_per_epoch == 0:
            self._plan_state = self.generator.get_state()
        else:
            self.generator.set_state(self._plan_state)
        augmentation = self.parameters.augmentation
        train = torch.from_numpy(np.asarray(self.fold.train, dtype=np.int64))
        order = torch.randperm(self.samples_per_epoch, generator=self.generator)
        index = train[order % len(train)]
        copy = {
            "all": order // len(train),
            "random": torch.full_like(order, -1),
            "none": torch.zeros_like(order),
        }[augmentation.dihedral]
        self._plan = draw_plan(
            index,
            copy,
            self.data.patch_px,
            self.crop_px,
            augmentation,
            self.generator,
            self.data.particles,
            self.parameters.training.foreground,
        ).to(self.device)

    def _logits(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(
            self.device.partition(":")[0],
            dtype=torch.bfloat16,
            enabled=self.precision == "bfloat16",
        ):
            logits: Tensor = self.network(x)
        return logits.float()

    @torch.no_grad()
    def _validate(self) -> None:
        """Measure loss and Dice on the validation patches; keep the weights if they are best."""
        since = self.step - (int(self.history[-1]["step"]) if self.history else 0)
        loss, overlap = self._validation_scores()
        row = {
            "step": self.step,
            "epoch": self.step / self.steps_per_epoch,
            "train_loss": float(self._loss_sum) / since,
            "validation_loss": loss,
            "validation_dice": overlap,
        }
        self._loss_sum.zero_()
        self.history.append(row)
        if not np.isfinite(row["train_loss"]):
            raise FloatingPointError(
                f"the training loss became {row['train_loss']} at step {self.step}: lower "
                f"training.learning_rate (now {self.parameters.training.learning_rate})"
            )
        last = self.parameters.training.keep == "last" or not np.isfinite(loss)
        if last or self._best is None or loss < self._best[0]:
            state = {k: v.detach().to("cpu", copy=True) for k, v in self._state().items()}
            self._best = (loss, self.step, state)

    def _validation_scores(self) -> tuple[float, float]:
        index = torch.from_numpy(np.asarray(self.fold.validation, dtype=np.int64))
        if len(index) == 0:
            return float("nan"), float("nan")
        self.network.eval()
        precise = torch.float32 if self.device == "mps" else torch.float64  # mps has no float64
        total = torch.zeros(4, dtype=precise, device=self.device)
        # whole patches, or the tiles of crop_px they hold: as many pixels as in training
        for rows in index.split(max(1, self.parameters.training.batch_size // 4)):
            rows = rows.to(self.device)
            x = self.data.images[rows].unsqueeze(1)
            y = self.data.labels[rows].to(torch.int64)
            logits = self._logits(x)
            predicted = logits[:, 1] > logits[:, 0]
            labelled = y == 1
            total += torch.stack(
                [
                    F.cross_entropy(logits, y, reduction="sum").to(precise),
                    (predicted & labelled).sum().to(precise),
                    (predicted & ~labelled).sum().to(precise),
                    (~predicted & labelled).sum().to(precise),
                ]
            )
        loss, tp, fp, fn = total.tolist()
        return loss / (len(index) * self.data.patch_px**2), float(dice(tp, fp, fn))

    def _state(self) -> dict[str, Tensor]:
        return self.network.state_dict()

    def result(self) -> FoldResult:
        """Return the weights that were kept."""
        assert self._best is not None
        state = {k: v.contiguous() for k, v in self._best[2].items()}
        return FoldResult(state, self.history, self._best[1])

    def checkpoint(self) -> dict[str, Any]:
        """Return everything that the rest of the training depends on (tensors and numbers)."""
        assert self._best is not None
        noise = self.noise_generator
        return {
            "step": self.step,
            "history": self.history,
            "network": self._state(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "plan_state": self._plan_state,
            "noise_generator": noise.get_state() if noise is not None else None,
            "best": {"loss": self._best[0], "step": self._best[1], "state": self._best[2]},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`checkpoint`."""
        self.step = state["step"]
        self.history = state["history"]
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self._plan_state = state["plan_state"]
        if self.noise_generator is not None:
            self.noise_generator.set_state(state["noise_generator"])
        best = state["best"]
        self._best = (best["loss"], best["step"], best["state"])


def learning_rate(step: int, total: int, peak: float, schedule: str) -> float:
    """Return the learning rate of a step.

    ``constant`` is ``peak``; ``one_cycle`` rises along a cosine from peak/25 over the first 30 %
    of the steps and falls to nearly 0 (Smith & Topin 2018, as in
    ``torch.optim.lr_scheduler.OneCycleLR``).
    """
    if schedule == "constant":
        return peak
    warm = max(1.0, 0.3 * total - 1)
    if step < warm:
        low, high, t = peak / 25, peak, step / warm
    else:
        low, high, t = peak, peak / 25e4, (step - warm) / max(1.0, total - 1 - warm)
    return float(high + (low - high) * (1 + np.cos(np.pi * min(t, 1.0))) / 2)


def train_folds(
    data: TrainingData,
    folds: dict[str, FoldIndices],
    parameters: ModellingParameters,
    seeds: dict[str, int],
    device: str,
    title: str = "training",
    checkpoints: Checkpoints | None = None,
    identity: str = "",
) -> dict[str, FoldResult]:
    """Train a network for each fold, all advancing together.

    Parameters
    ----------
    data : TrainingData
    folds : dict of str to FoldIndices
        Patches of each fold, by the key of its network.
    parameters : ModellingParameters
        Already merged with the network's own settings.
    seeds : dict of str to int
    device : str
        As from :func:`temshift.learning.devices.choose_device`.
    title : str
        Of the progress bar.
    checkpoints : Checkpoints, optional
        Where unfinished folds are kept and looked for.
    identity : str
        Hash of data and parameters; a checkpoint of another identity is not resumed.

    Returns
    -------
    dict of str to FoldResult
    """
    precision = choose_precision(parameters.precision, device)
    trainers = {
        key: FoldTrainer(data, fold, parameters, seeds[key], device, precision)
        for key, fold in folds.items()
    }
    every = parameters.training.checkpoint_every if checkpoints is not None else 0
    for key, trainer in trainers.items() if every else ():
        assert checkpoints is not None
        if state := checkpoints.load(key, identity):
            trainer.restore(state)
            _log.info("%s: %s goes on from step %d", title, key, trainer.step)

    total = sum(t.total_steps for t in trainers.values())
    done = sum(t.step for t in trainers.values())
    with tqdm(total=total, initial=done, desc=title, unit="step", leave=False, disable=None) as bar:

        def turn(key: str) -> None:
            trainer = trainers[key]
            before = trainer.step
            validated = trainer.advance()
            bar.update(trainer.step - before)
            if every and validated and len(trainer.history) % every == 0:
                assert checkpoints is not None
                checkpoints.save(key, identity, trainer.checkpoint())

        workers = min(available_cores(), len(trainers)) if device == "cpu" else 1
        with single_threaded_operations(device), keeping_freed_memory(device):
            _take_turns(
                {k: t.total_steps - t.step for k, t in trainers.items()},
                turn,
                lambda key: trainers[key].finished,
                workers,
            )
    return {key: trainer.result() for key, trainer in trainers.items()}


def _take_turns(
    remaining: dict[str, int],
    turn: Callable[[str], None],
    finished: Callable[[str], bool],
    workers: int,
) -> None:
    """Let ``workers`` threads take turns with the jobs; the one that waited longest is next."""
    waiting = [key for key, left in remaining.items() if left > 0]
    change = threading.Condition()
    unfinished, failed = len(waiting), False

    def work() -> None:
        nonlocal unfinished, failed
        while True:
            with change:
                while not (waiting or failed) and unfinished:
                    change.wait()
                if failed or not unfinished:
                    return
                key = waiting.pop(0)
            try:
                turn(key)
            except BaseException:
                with change:
                    failed = True
                    change.notify_all()
                raise
            with change:
                if finished(key):
                    unfinished -= 1
                else:
                    waiting.append(key)
                change.notify_all()

    if workers == 1:
        work()
        return
    with ThreadPoolExecutor(workers) as pool:
        try:
            for future in [pool.submit(work) for _ in range(workers)]:
                future.result()
        except BaseException:  # also Ctrl-C, which the workers do not see
            with change:
                failed = True
                change.notify_all()
            raise


def _to_device(array: NDArray[Any], device: str) -> Tensor:
    with warnings.catch_warnings():
        # "not writable": nothing writes to the patches
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array).to(device)


def _background_and_particles(
    image: NDArray[np.float32], label: NDArray[np.uint8]
) -> tuple[float, NDArray[np.int64]]:
    """Return the median of the unlabelled pixels, and row and column of labelled pixels.

    Both of the pixels of a grid; if no grid point is labelled, the label is searched for any.
    """
    step = max(1, label.shape[0] // 64)
    grid = label[::step, ::step] != 0
    background = image[::step, ::step][~grid]
    median = float(np.median(background)) if background.size else 0.0
    if not (grid.any() or label.any()):
        return median, np.full((_PIXELS, 2), label.shape[0] // 2)
    if not grid.any():
        grid, step = label != 0, 1
    found = np.flatnonzero(grid)
    evenly = found[np.linspace(0, len(found) - 1, _PIXELS).round().astype(np.int64)]
    return median, np.stack(np.unravel_index(evenly, grid.shape), axis=1) * step

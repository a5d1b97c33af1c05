"""Training of all folds of a network together.

Every fold is a :class:`FoldTrainer` that owns its network, optimiser and random state and is
advanced in short turns. On a CPU each core takes turns with the folds (operations of a small
network are too short to be shared by cores, whole folds are not); on a GPU one thread queues the
folds' work on a stream each, so that the card never waits for the host. The patches live on the
device once, whatever the number of folds. Results do not depend on who takes which turn.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import astuple, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from temshift import progress
from temshift.config.errors import UserError
from temshift.config.modelling import ModellingParameters
from temshift.learning.augmentation import Areas, BatchPlan, augment, draw_plan, window_px
from temshift.learning.devices import (
    choose_precision,
    keeping_freed_memory,
    own_random_state,
    single_threaded_operations,
)
from temshift.learning.inference import stride_px
from temshift.learning.metrics import dice
from temshift.learning.networks import build_network, standardise_outputs, train_mode
from temshift.microscopy.patches import PatchLayout, patch_grid
from temshift.parallel import available_cores
from temshift.study.folds import FoldIndices

__all__ = [
    "Checkpoints",
    "DivergedError",
    "FoldResult",
    "FoldTrainer",
    "TrainingData",
    "train_folds",
]

_log = logging.getLogger(__name__)

#: Steps of one turn: long enough to be worth the hand-over, short enough to share cores fairly.
_TURN_STEPS = 5

#: Labelled pixels kept of each area, for crops to be centred on.
_PIXELS = 256

#: Where the learning rate of a network is set.
_RATE_KEY = "modelling.training.learning_rate or training.learning_rate of this network"

#: Training patches on which is measured whether a fold has learned.
_JUDGED = 8


class DivergedError(UserError, FloatingPointError):
    """A loss that is no longer a finite number."""


class Checkpoints(Protocol):
    """Where unfinished folds are kept (see :class:`temshift.catalog.networks.CheckpointStore`)."""

    def load(self, key: str, identity: str) -> dict[str, Any] | None:
        """Return the state saved under ``key`` by the same training (``identity``), if any."""

    def save(self, key: str, identity: str, state: dict[str, Any]) -> None:
        """Replace the state under ``key`` atomically."""


@dataclass
class TrainingData:
    """Patches of a training set, on the device, and the areas that crops are drawn from.

    Attributes
    ----------
    images : Tensor, shape (N, P, P), float32
    labels : Tensor, shape (N, P, P), uint8
    areas : Areas
        On the CPU.
    area_of_patch : Tensor, shape (N,), int64
        On the CPU.
    """

    images: Tensor
    labels: Tensor
    areas: Areas
    area_of_patch: Tensor

    @classmethod
    def from_arrays(
        cls,
        images: Sequence[NDArray[np.float32]],
        labels: Sequence[NDArray[np.uint8]],
        device: str,
        layouts: Sequence[PatchLayout] | None = None,
        splits: Sequence[str] = (),
        network: str = "a network",
    ) -> TrainingData:
        """Put stacks of patches ``(N_i, P, P)``, maybe memory-mapped, on the device, in a row.

        Parameters
        ----------
        images, labels : sequence of ndarray
        device : str
        layouts : sequence of PatchLayout, optional
            Micrographs that the patches show; ``None`` draws crops from single patches.
        splits, network : sequence of str, str
            Where the stacks come from and what is trained on them, for messages.

        Raises
        ------
        UserError
            Patches of several sizes.
        """
        sides = [x.shape[1] for x in images]
        if len(set(sides)) > 1:
            names = splits or [f"stack {i}" for i in range(len(sides))]
            found = ", ".join(f"{name} {side} px" for name, side in zip(names, sides, strict=True))
            raise UserError(
                f"{network}: patches to be trained on together have several sizes",
                f"Found {found}; expected one size",
                "Give these splits the same preprocessing.patch_px (curated sets have their own), "
                "or leave all but one size out of train_on",
            )
        # one stack stays where it is: on the CPU, in the file that is mapped into memory
        pixels = np.asarray(images[0]) if len(images) == 1 else np.concatenate(images)
        labelled = np.asarray(labels[0]) if len(labels) == 1 else np.concatenate(labels)
        data = _to_device(pixels, device), _to_device(labelled, device)
        return cls(*data, *_areas(pixels, labelled, layouts))

    def with_areas(self, layouts: Sequence[PatchLayout] | None) -> TrainingData:
        """Return the same patches with other areas to draw crops from."""
        pixels, labelled = (x.cpu().numpy() for x in (self.images, self.labels))
        return TrainingData(self.images, self.labels, *_areas(pixels, labelled, layouts))

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
        A row a validation: ``restart, step, epoch, train_loss, validation_loss,
        validation_dice``; of all attempts.
    kept_step : int
        Optimiser steps behind the weights that were kept.
    seed : int
        Of the attempt that was kept.
    restarts : int
        How often the fold was started again.
    train_dice : float
        Dice on some of its own training patches.
    learned : bool
        Whether that is above ``training.learned_above``.
    """

    state: dict[str, Tensor]
    history: list[dict[str, float]]
    kept_step: int
    seed: int
    restarts: int
    train_dice: float
    learned: bool


@dataclass(frozen=True)
class _Attempt:
    """Weights that one attempt ended with."""

    seed: int
    train_dice: float
    kept_step: int
    state: dict[str, Tensor]


@dataclass
class FoldTrainer:
    """One fold in training.

    If it has not learned at the end, it starts again from the next seed.

    Parameters
    ----------
    data : TrainingData
    fold : FoldIndices
        Patches to train and validate on.
    parameters : ModellingParameters
    seeds : sequence of int
        Of the initial weights, the order of patches and the augmentation: one an attempt.
    device : str
    precision : {"float32", "bfloat16"}
        Of the operations; weights are float32.
    start : mapping of str to Tensor, optional
        Weights to start from instead of random ones.
    freeze : {"none", "encoder", "decoder", "all_but_batch_norm"}
        What stays as it is (:func:`temshift.learning.networks.train_mode`).
    name, rate_key : str
        What is trained, and where its learning rate is set, for messages.
    """

    data: TrainingData
    fold: FoldIndices
    parameters: ModellingParameters
    seeds: Sequence[int]
    device: str
    precision: str
    start: Mapping[str, Tensor] | None = None
    freeze: str = "none"
    name: str = "a fold"
    rate_key: str = _RATE_KEY
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        training, augmentation = self.parameters.training, self.parameters.augmentation
        if len(self.fold.train) == 0:
            raise ValueError(
                "a fold has no patch to train on: every training patch has at most "
                f"training.background_threshold = {training.background_threshold} labelled px"
            )
        self.crop_px = min(training.crop_px or self.data.patch_px, self.data.patch_px)
        self.window_px = window_px(self.crop_px, self.data.areas.longest_px, augmentation)
        cuda = self.device.startswith("cuda")
        self.stream = torch.cuda.Stream(self.device) if cuda else None

        copies = 8 if augmentation.dihedral == "all" else 1
        self.samples_per_epoch = len(self.fold.train) * copies
        per_epoch = max(1, round(self.samples_per_epoch / training.batch_size))
        if training.steps is not None:
            self.total_steps = training.steps
            self.validate_every = max(1, training.steps // training.validations)
        else:
            assert training.epochs is not None
            samples = training.epochs * self.samples_per_epoch
            self.total_steps = max(1, round(samples / training.batch_size))
            self.validate_every = per_epoch
        self._drawn_steps = per_epoch  # drawn ahead together
        self._attempts: list[_Attempt] = []
        self.seed = self.seeds[0]
        self._begin()
        stride = stride_px(self.network)
        for name, side in (("patch_px", self.data.patch_px), ("crop_px", self.crop_px)):
            if side % stride:
                raise ValueError(
                    f"{self.parameters.architecture.name} takes images whose sides are multiples "
                    f"of {stride} px, but {name} is {side}: change preprocessing.patch_px or "
                    "training.crop_px"
                )

    def _begin(self) -> None:
        """Start from the initial weights of ``self.seed``."""
        training = self.parameters.training
        self.step = 0
        self._draws: bool | None = None  # whether the network does in training: not known yet
        with own_random_state(self.seed, self.device):
            settings = self.parameters.architecture.model_dump()
            if self.start is not None:
                settings["encoder_weights"] = None  # they would be replaced
            network = build_network(**settings)
        if self.start is not None:
            network.load_state_dict(self.start)
        train_mode(network, self.freeze)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)
        # one fused update for all weights, and a step count that stays on the device
        fused = self.device.startswith(("cuda", "cpu")) or None
        self.optimiser = torch.optim.Adam(
            [weights for weights in self.network.parameters() if weights.requires_grad],
            lr=training.learning_rate,
            fused=fused,
        )
        self.noise_generator: torch.Generator | None = None
        if self.parameters.augmentation.noise is not None:
            self.noise_generator = torch.Generator(self.device).manual_seed(self.seed)
        self._plan: BatchPlan | None = None
        self._loss_sum = torch.zeros((), device=self.device)
        if training.initialisation == "standardised" and self.start is None:
            standardise_outputs(self.network, self._batch()[0])
        self._best: tuple[float, int, dict[str, Tensor]] | None = None
        if self.stream:  # what was queued above on the default stream comes first
            self.stream.wait_stream(torch.cuda.current_stream(self.device))

    @property
    def finished(self) -> bool:
        """Whether all steps are done, and the result judged."""
        return len(self._attempts) > 0 and self.step >= self.total_steps

    @property
    def steps_left(self) -> int:
        """Steps to the end, if it needs no further restart."""
        return self.total_steps - self.step

    def advance(self) -> bool:
        """Train up to the end of the turn or the next validation; return whether it validated."""
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            train_mode(self.network, self.freeze)
            for _ in range(_TURN_STEPS):
                self._one_step()
                ended = self.step >= self.total_steps
                if self.step % self.validate_every == 0 or ended:
                    self._validate()
                    if ended:
                        self._judge()
                    return True
        return False

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Return images and labels of the present step."""
        position = self.step % self._drawn_steps
        if position == 0 or self._plan is None:
            self._draw()
        assert self._plan is not None
        start = position * self.parameters.training.batch_size
        return augment(
            self.data.images,
            self.data.labels,
            self._plan.slice(start, start + self.parameters.training.batch_size),
            self.crop_px,
            self.window_px,
            self.noise_generator,
        )

    def _one_step(self) -> None:
        training = self.parameters.training
        x, y = self._batch()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(
                self.step, self.total_steps, training.learning_rate, training.schedule
            )
        self.optimiser.zero_grad(set_to_none=True)
        with self._draws_of_this_step():
            logits = self._logits(x)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        self.optimiser.step()
        self._loss_sum += loss.detach()
        self.step += 1

    @contextmanager
    def _draws_of_this_step(self) -> Iterator[None]:
        """Let what the network itself draws (dropout, stochastic depth) follow from seed and step.

        One fold at a time; folds whose network draws nothing do not wait for each other, as is
        seen in their first step.
        """
        if self._draws is False:
            yield
            return
        with own_random_state(_number(self.seed, "network", self.step), self.device):
            before = _random_states(self.device)
            yield
            after = _random_states(self.device)
        self._draws = any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))

    def _draw(self) -> None:
        """Draw order and augmentation of the next steps.

        The order is one permutation of all samples behind the other, cut into full batches. Each
        permutation and each plan has a random state of its own, so that a resumed training draws
        the same.
        """
        training, augmentation = self.parameters.training, self.parameters.augmentation
        plan, n = self.step // self._drawn_steps, self.samples_per_epoch
        first = plan * self._drawn_steps * training.batch_size
        place = torch.arange(first, first + self._drawn_steps * training.batch_size)
        epochs = place // n
        order = torch.cat(
            [
                torch.randperm(n, generator=_generator(self.seed, "order", int(epoch)))
                for epoch in torch.unique(epochs)
            ]
        )[place - epochs[0] * n]
        train = torch.from_numpy(np.asarray(self.fold.train, dtype=np.int64))
        copy = {
            "all": order // len(train),
            "random": torch.full_like(order, -1),
            "none": torch.zeros_like(order),
        }[augmentation.dihedral]
        # fewer and fewer crops are aimed, none in the second half
        progress = place // training.batch_size / self.total_steps
        self._plan = draw_plan(
            self.data.area_of_patch[train[order % len(train)]],
            copy,
            self.data.areas,
            self.crop_px,
            augmentation,
            _generator(self.seed, "augmentation", plan),
            training.foreground * (1 - 2 * progress).clamp(min=0),
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
        restart = len(self._attempts)
        before = [row["step"] for row in self.history if row["restart"] == restart]
        since = self.step - (int(before[-1]) if before else 0)
        loss, overlap = self._scores(self.fold.validation)
        row = {
            "restart": restart,
            "step": self.step,
            "epoch": self.step * self.parameters.training.batch_size / self.samples_per_epoch,
            "train_loss": float(self._loss_sum) / since,
            "validation_loss": loss,
            "validation_dice": overlap,
        }
        self._loss_sum.zero_()
        self.history.append(row)
        if not np.isfinite(row["train_loss"]):
            raise DivergedError(
                f"{self.name}: the training diverges",
                f"Found the loss {row['train_loss']} at step {self.step}, with the learning rate "
                f"{self.parameters.training.learning_rate:g}; expected a finite number",
                f"Lower the learning rate, {self.rate_key}",
            )
        last = self.parameters.training.keep == "last" or not np.isfinite(loss)
        if last or self._best is None or loss < self._best[0]:
            state = {k: v.detach().to("cpu", copy=True) for k, v in self._state().items()}
            self._best = (loss, self.step, state)

    @torch.no_grad()
    def _judge(self) -> None:
        """Measure whether the fold has learned; if not, start from the next seed, if any is left.

        With the Dice on a few of its own training patches, evenly through those that show
        particles.
        """
        assert self._best is not None
        _, kept_step, state = self._best
        self.network.load_state_dict(state)
        patches = torch.from_numpy(np.asarray(self.fold.train, dtype=np.int64))
        counts = [int(self.data.labels[i].count_nonzero()) for i in patches]
        shown = patches[torch.tensor(counts) > 0]
        chosen = torch.linspace(0, len(shown) - 1, min(_JUDGED, len(shown))).round().long()
        _, overlap = self._scores(shown[chosen].numpy())
        self._attempts.append(_Attempt(self.seed, overlap, kept_step, state))
        if not self.learned and len(self._attempts) < len(self.seeds):
            self.seed = self.seeds[len(self._attempts)]
            self._begin()

    @property
    def learned(self) -> bool:
        """Whether the last finished attempt has learned."""
        threshold = self.parameters.training.learned_above
        return len(self._attempts) > 0 and self._attempts[-1].train_dice >= threshold

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return self.seeds.index(self.seed)

    def _scores(self, patches: NDArray[np.intp]) -> tuple[float, float]:
        """Return loss and Dice on some patches, in evaluation mode."""
        index = torch.from_numpy(np.asarray(patches, dtype=np.int64))
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
        """Return the weights that were kept: of the attempt that learned, or learned most."""
        kept = max(self._attempts, key=lambda attempt: attempt.train_dice)
        return FoldResult(
            {k: v.contiguous() for k, v in kept.state.items()},
            self.history,
            kept.kept_step,
            kept.seed,
            len(self._attempts) - 1,
            kept.train_dice,
            kept.train_dice >= self.parameters.training.learned_above,
        )

    def checkpoint(self) -> dict[str, Any]:
        """Return everything that the rest of the training depends on (tensors and numbers)."""
        noise = self.noise_generator
        return {
            "step": self.step,
            "history": self.history,
            "network": self._state(),
            "optimiser": self.optimiser.state_dict(),
            "noise_generator": noise.get_state() if noise is not None else None,
            "best": self._best,
            "attempts": [astuple(attempt) for attempt in self._attempts],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`checkpoint`."""
        self._attempts = [_Attempt(*attempt) for attempt in state["attempts"]]
        self.seed = self.seeds[min(len(self._attempts), len(self.seeds) - 1)]
        self.step = state["step"]
        self.history = state["history"]
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.noise_generator is not None:
            self.noise_generator.set_state(state["noise_generator"])
        self._best = state["best"]


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
    data: Mapping[str, TrainingData],
    folds: Mapping[str, FoldIndices],
    parameters: ModellingParameters,
    seeds: Mapping[str, Sequence[int]],
    device: str,
    title: str = "training",
    checkpoints: Checkpoints | None = None,
    identity: str = "",
    starts: Mapping[str, Mapping[str, Tensor]] | None = None,
    freeze: str = "none",
) -> dict[str, FoldResult]:
    """Train a network for each fold, all advancing together.

    Parameters
    ----------
    data : mapping of str to TrainingData
        Of each fold, by the key of its network.
    folds : mapping of str to FoldIndices
        Patches of each fold.
    parameters : ModellingParameters
        Already merged with the network's own settings.
    seeds : mapping of str to sequence of int
        Of each fold: its own, and those that it may be started again from.
    device : str
        As from :func:`temshift.learning.devices.choose_device`.
    title : str
        Of the progress bar.
    checkpoints : Checkpoints, optional
        Where unfinished folds are kept and looked for.
    identity : str
        Hash of data and parameters; a checkpoint of another identity is not resumed.
    starts : mapping of str to state dict, optional
        Of each fold: weights to start from instead of random ones.
    freeze : str
        See :class:`FoldTrainer`.

    Returns
    -------
    dict of str to FoldResult

    Raises
    ------
    DivergedError
        A loss that is no longer finite.
    """
    precision = choose_precision(parameters.precision, device)
    with single_threaded_operations(device):  # also the forward passes of the initialisation
        trainers = {
            key: FoldTrainer(
                data[key],
                fold,
                parameters,
                seeds[key],
                device,
                precision,
                start=(starts or {}).get(key),
                freeze=freeze,
                name=f"{title}, {key}",
            )
            for key, fold in folds.items()
        }
    every = parameters.training.checkpoint_every if checkpoints is not None else 0
    for key, trainer in trainers.items() if every else ():
        assert checkpoints is not None
        if state := checkpoints.load(key, identity):
            trainer.restore(state)
            _log.info("%s: %s goes on from step %d", title, key, trainer.step)

    left = {key: trainer.steps_left for key, trainer in trainers.items()}
    total = sum(t.total_steps for t in trainers.values())
    with progress.bar(
        total=total, initial=total - sum(left.values()), desc=title, unit="steps"
    ) as bar:

        def turn(key: str) -> None:
            trainer = trainers[key]
            before, restarts = trainer.step, trainer.restarts
            validated = trainer.advance()
            if trainer.restarts > restarts:
                _log.warning(
                    "%s: %s has not learned from seed %d (Dice on its own training patches below "
                    "%g) and starts again",
                    title,
                    key,
                    seeds[key][restarts],
                    parameters.training.learned_above,
                )
                bar.total = (bar.total or 0) + trainer.total_steps
                bar.update(trainer.total_steps - before)
            else:
                bar.update(trainer.step - before)
            if every and validated and (len(trainer.history) % every == 0 or trainer.finished):
                assert checkpoints is not None
                checkpoints.save(key, identity, trainer.checkpoint())

        workers = min(available_cores(), len(trainers)) if device == "cpu" else 1
        with single_threaded_operations(device), keeping_freed_memory(device):
            _take_turns(
                [key for key, trainer in trainers.items() if not trainer.finished],
                turn,
                lambda key: trainers[key].finished,
                workers,
            )
    return {key: trainer.result() for key, trainer in trainers.items()}


def _take_turns(
    jobs: Iterable[str],
    turn: Callable[[str], None],
    finished: Callable[[str], bool],
    workers: int,
) -> None:
    """Let ``workers`` threads take turns with the jobs; the one that waited longest is next."""
    waiting = list(jobs)
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


def _areas(
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    layouts: Sequence[PatchLayout] | None,
) -> tuple[Areas, Tensor]:
    """Return the areas of a stack, and the area of each patch.

    Background and labelled pixels are those of a grid of about 64 × 64 of the pixels of each
    patch; if no grid point of a patch is labelled, its label is searched for any.
    """
    n, side = len(images), images.shape[1]
    if layouts is None:
        layouts = [PatchLayout(i, side, side, 1) for i in range(n)]
    step = max(1, side // 64)
    area_of_patch = torch.full((n,), -1)
    medians = np.zeros(len(layouts), np.float32)
    particles = np.full((len(layouts), _PIXELS, 2), -1)
    for a, layout in enumerate(layouts):
        corners = patch_grid((layout.height_px, layout.width_px), side)
        background, found = [], []
        for i, corner in enumerate(corners, layout.first):
            area_of_patch[i] = a
            grid = labels[i, ::step, ::step] != 0
            background.append(images[i, ::step, ::step][~grid])
            label, every = (grid, step) if grid.any() else (labels[i] != 0, 1)
            found.append(np.argwhere(label) * every + corner)
        empty = np.concatenate(background)
        medians[a] = np.median(empty) if empty.size else 0.0
        pixels = np.concatenate(found)
        if len(pixels):
            evenly = np.linspace(0, len(pixels) - 1, _PIXELS).round().astype(np.int64)
            particles[a] = pixels[evenly]
    first, height, width, columns = (
        torch.tensor([getattr(layout, name) for layout in layouts])
        for name in ("first", "height_px", "width_px", "columns")
    )
    areas = Areas(first, columns, height, width, torch.tensor(medians), torch.tensor(particles))
    return areas, area_of_patch


def _number(*key: Any) -> int:
    """Return a seed that depends on ``key`` alone."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8]) >> 1


def _generator(*key: Any) -> torch.Generator:
    """Return a random state on the CPU that depends on ``key`` alone."""
    return torch.Generator().manual_seed(_number(*key))


def _random_states(device: str) -> list[Tensor]:
    """Return the random states of the process that a network on ``device`` may draw from."""
    states = [torch.get_rng_state()]
    if device.startswith("cuda"):
        states.append(torch.cuda.get_rng_state(device))
    elif device == "mps":
        states.append(torch.mps.get_rng_state())
    return states

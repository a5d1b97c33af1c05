"""Training: it learns, it repeats itself, it goes on after a kill as if nothing had happened."""

import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from temshift.catalog.networks import CheckpointStore
from temshift.config.modelling import (
    Architecture,
    Augmentation,
    ModellingParameters,
    NoiseAugmentation,
    Training,
)
from temshift.learning import training
from temshift.learning.augmentation import augment
from temshift.learning.devices import choose_device
from temshift.learning.training import (
    FoldTrainer,
    TrainingData,
    _take_turns,
    learning_rate,
    train_folds,
)
from temshift.mistakes import as_user_error
from temshift.study.folds import FoldIndices


def discs(n=12, side=32, seed=0):
    """Noisy images of one bright disc each."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:side, :side]
    images, labels = [], []
    for _ in range(n):
        r, c = rng.uniform(9, side - 9, 2)
        label = ((yy - r) ** 2 + (xx - c) ** 2 < 7**2).astype("uint8")
        images.append(label * 2.0 + rng.normal(0, 0.5, (side, side)))
        labels.append(label)
    return np.array(images, dtype="float32"), np.array(labels)


FOLDS = {
    "grouped_fold0": FoldIndices(np.arange(0, 8), np.arange(8, 10), np.arange(10, 12)),
    "grouped_fold1": FoldIndices(np.arange(4, 12), np.arange(0, 2), np.arange(2, 4)),
    "grouped_fold2": FoldIndices(np.arange(2, 10), np.arange(10, 12), np.arange(0, 2)),
}
#: It has dropout.
FPN = Architecture(name="FPN", encoder="mobilenet_v2")
SEEDS = {key: [i, 100 + i, 200 + i] for i, key in enumerate(FOLDS)}


def parameters(architecture=None, **training):
    defaults = {
        "steps": 24,
        "batch_size": 4,
        "learning_rate": 5e-3,
        "validations": 3,
        "background_threshold": 0,
        "learned_above": 0.0,
    }
    noise = NoiseAugmentation(rho_max=0.5)
    return ModellingParameters(
        folds=3,
        architecture=architecture or Architecture(),
        training=Training(**{**defaults, **training}),
        augmentation=Augmentation(noise=noise),
    )


def train(store=None, folds=FOLDS, **training):
    images, labels = discs()
    data = TrainingData.from_arrays([images], [labels], "cpu")
    every = dict.fromkeys(folds, data)
    return train_folds(every, folds, parameters(**training), SEEDS, "cpu", "t", store, "id")


def same(a, b):
    return a.state.keys() == b.state.keys() and all(
        torch.equal(a.state[k], b.state[k]) for k in a.state
    )


def test_it_learns():
    results = train(steps=60, schedule="one_cycle")
    for result in results.values():
        assert result.history[-1]["validation_dice"] > 0.8
        assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


def test_same_seed_same_bytes_and_folds_do_not_disturb_each_other():
    together, again = train(), train()
    alone = train(folds={"grouped_fold1": FOLDS["grouped_fold1"]})
    assert all(same(together[k], again[k]) for k in FOLDS)
    assert same(together["grouped_fold1"], alone["grouped_fold1"])
    assert not same(together["grouped_fold0"], together["grouped_fold1"])


class StopAfter(CheckpointStore):
    """A store that dies after some saves."""

    def __init__(self, folder, saves):
        super().__init__(folder)
        self.left = saves

    def save(self, key, identity, state):
        super().save(key, identity, state)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "schedule",
    [
        {"steps": 24},
        {"steps": None, "epochs": 4},
        {"batch_size": 3, "foreground": 0.5},
        {"learned_above": 1.0, "initialisation": "standardised"},
    ],
)
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, schedule):
    whole = train(**schedule)
    with pytest.raises(KeyboardInterrupt):
        train(StopAfter(tmp_path, 4), **schedule)
    assert any(tmp_path.iterdir())
    resumed = train(CheckpointStore(tmp_path), **schedule)
    for key in FOLDS:
        assert same(whole[key], resumed[key])
        assert whole[key].history == resumed[key].history


def test_folds_that_start_again_at_once_have_their_own_seeds(monkeypatch):
    expected = train(learned_above=1.0)
    build = training.build_network

    def slow(**architecture):
        time.sleep(0.2)  # between the seed and the weights that are drawn with it
        return build(**architecture)

    monkeypatch.setattr(training, "build_network", slow)
    found = train(learned_above=1.0)
    for key in FOLDS:
        assert {row["restart"] for row in found[key].history} == {0, 1, 2}
        assert found[key].history == expected[key].history


def test_networks_that_draw_in_training_repeat_themselves(tmp_path):
    fpn = {"architecture": FPN, "steps": 8}
    state = torch.get_rng_state()
    together, again = train(**fpn), train(**fpn)
    assert torch.equal(state, torch.get_rng_state()), "of the process: as it was"
    alone = train(folds={"grouped_fold1": FOLDS["grouped_fold1"]}, **fpn)
    assert all(same(together[key], again[key]) for key in FOLDS)
    assert same(together["grouped_fold1"], alone["grouped_fold1"])
    with pytest.raises(KeyboardInterrupt):
        train(StopAfter(tmp_path, 4), **fpn)
    resumed = train(CheckpointStore(tmp_path), **fpn)
    assert all(same(together[key], resumed[key]) for key in FOLDS)


def test_only_networks_that_draw_wait_for_each_other(monkeypatch):
    drawn = []
    seeded = training.own_random_state

    def count(seed, device):
        drawn.append(seed)
        return seeded(seed, device)

    monkeypatch.setattr(training, "own_random_state", count)
    train(steps=6)
    assert len(drawn) == 2 * len(FOLDS), "initial weights, and the first step"
    drawn.clear()
    train(steps=6, architecture=FPN)
    assert len(drawn) == len(set(drawn)) == 7 * len(FOLDS), "no two steps drop the same"


@pytest.mark.parametrize("initialisation", ["published", "standardised"])
def test_it_does_not_depend_on_how_many_threads_the_process_has(initialisation):
    import torch

    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(train(initialisation=initialisation, steps=4))
            assert torch.get_num_threads() == threads, "as it was"
    finally:
        torch.set_num_threads(before)
    for key in FOLDS:
        assert same(found[0][key], found[1][key])


def test_after_kill_9_it_ends_with_the_same_weights(tmp_path):
    schedule = {"steps": 60, "validations": 30}
    script = f"""
import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
from pathlib import Path
import test_training as t
t.train(t.CheckpointStore(Path({str(tmp_path)!r})), **{schedule})
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        for _ in range(6000):
            if len(list(tmp_path.glob("grouped*.pt"))) == len(FOLDS):
                break
            assert process.poll() is None, "the training ended before it could be killed"
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    store = CheckpointStore(tmp_path)
    steps = [store.load(key, "id")["step"] for key in FOLDS]
    assert all(0 < step < 60 for step in steps), "killed in the middle, no checkpoint half written"
    whole, resumed = train(**schedule), train(store, **schedule)
    assert all(same(whole[key], resumed[key]) for key in FOLDS)


def test_checkpoints_of_other_data_are_not_used(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save("grouped_fold0", "another id", {"step": 24})
    assert same(train(store)["grouped_fold0"], train()["grouped_fold0"])


def test_best_weights_are_those_of_the_lowest_validation_loss():
    result = train(steps=24, validations=6)["grouped_fold0"]
    losses = {row["step"]: row["validation_loss"] for row in result.history}
    assert result.kept_step == min(losses, key=losses.__getitem__)
    assert train(steps=24, validations=6, keep="last")["grouped_fold0"].kept_step == 24


def test_an_epoch_of_all_copies_is_eight_times_as_long():
    images, labels = discs()
    data = TrainingData.from_arrays([images], [labels], "cpu")

    def steps(dihedral):
        p = parameters(steps=None, epochs=2).model_copy(
            update={"augmentation": Augmentation(dihedral=dihedral)}
        )
        return FoldTrainer(data, FOLDS["grouped_fold0"], p, [0], "cpu", "float32").total_steps

    assert (steps("random"), steps("all")) == (4, 32)


@pytest.mark.parametrize("batch_size", [3, 8, 20])
def test_every_batch_is_full_and_every_patch_is_drawn_equally_often(batch_size, monkeypatch):
    """Eight patches: an epoch ends within a batch, or a batch holds several epochs."""
    drawn = []

    def note(images, labels, plan, *rest):
        drawn.append(plan.first.tolist())
        return augment(images, labels, plan, *rest)

    monkeypatch.setattr(training, "augment", note)
    train(folds={"grouped_fold0": FOLDS["grouped_fold0"]}, batch_size=batch_size, steps=20)
    assert [len(batch) for batch in drawn] == [batch_size] * 20
    stream = [patch for batch in drawn for patch in batch]
    for start in range(0, len(stream) - 7, 8):
        assert sorted(stream[start : start + 8]) == list(range(8)), "a permutation"


def test_a_fold_that_has_not_learned_starts_again_from_the_next_seed(caplog):
    fold = {"grouped_fold0": FOLDS["grouped_fold0"]}
    hopeless = train(folds=fold, steps=6, learned_above=1.0)["grouped_fold0"]
    assert not hopeless.learned
    assert hopeless.restarts == 2
    assert "has not learned from seed 100" in caplog.text
    assert {row["restart"] for row in hopeless.history} == {0, 1, 2}
    assert [row["step"] for row in hopeless.history if row["restart"] == 1] == [2, 4, 6]
    assert hopeless.seed in SEEDS["grouped_fold0"]

    learned = train(folds=fold, steps=6)["grouped_fold0"]
    assert learned.learned
    assert (learned.restarts, learned.seed) == (0, 0)
    assert learned.history == hopeless.history[:3], "the first attempt was the same"


def test_the_second_attempt_is_the_training_from_its_own_seed(monkeypatch):
    """A first attempt that sees only background is left behind without a trace."""
    fold = {"grouped_fold0": FOLDS["grouped_fold0"]}
    good = train_from([100], fold)
    judged = training.FoldTrainer._scores
    calls = []

    def fail_first(self, patches):
        calls.append(self.seed)
        loss, overlap = judged(self, patches)
        return loss, 0.0 if self.seed == 0 and self.step == self.total_steps else overlap

    monkeypatch.setattr(training.FoldTrainer, "_scores", fail_first)
    after = train_from([0, 100], fold)
    assert 0 in calls
    assert (after.restarts, after.seed, after.learned) == (1, 100, True)
    assert same(good, after)


def train_from(seeds, fold):
    images, labels = discs()
    data = TrainingData.from_arrays([images], [labels], "cpu")
    p = parameters(steps=60, schedule="one_cycle", learned_above=0.5)
    (result,) = train_folds(
        dict.fromkeys(fold, data), fold, p, dict.fromkeys(fold, seeds), "cpu"
    ).values()
    return result


def test_a_fold_without_patches_is_refused():
    nothing = FoldIndices(np.arange(0), np.arange(2), np.arange(2))
    with pytest.raises(ValueError, match=r"no patch to train on.*background_threshold"):
        train(folds={"grouped_fold0": nothing})


def test_patches_that_the_network_cannot_take_are_refused():
    images, labels = discs(side=48)
    data = TrainingData.from_arrays([images], [labels], "cpu")
    five = parameters().model_copy(
        update={"architecture": Architecture(options={"filters": (2, 2, 2, 2, 2)})}
    )
    with pytest.raises(ValueError, match=r"multiples of 32 px, but patch_px is 48"):
        train_folds(dict.fromkeys(FOLDS, data), FOLDS, five, SEEDS, "cpu")


def test_an_interruption_stops_all_workers():
    """Ctrl-C reaches only the main thread, which waits for the workers."""
    turns = []

    def turn(key):
        turns.append(key)
        time.sleep(0.02)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # may be ignored here
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            _take_turns(["a", "b"], turn, lambda key: len(turns) > 500, 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(turns) < 100


def test_patches_of_different_sizes_are_refused():
    (a, la), (b, lb) = discs(2, 32), discs(2, 64)
    with pytest.raises(ValueError, match=r"n1: .*\nFound low 32 px, high 64 px; expected one"):
        TrainingData.from_arrays([a, b], [la, lb], "cpu", None, ["low", "high"], "n1")


def test_an_exploding_loss_is_told_with_network_fold_and_learning_rate():
    with pytest.raises(FloatingPointError) as caught:
        train(learning_rate=1e12, steps=30)
    what, found, remedy = str(as_user_error(caught.value)).splitlines()
    assert re.fullmatch(r"t, grouped_fold\d: the training diverges", what)
    assert re.fullmatch(
        r"Found the loss (nan|inf) at step \d+, with the learning rate 1e\+12; expected .*", found
    )
    assert remedy.startswith("Lower the learning rate, modelling.training.learning_rate")
    again = pickle.loads(pickle.dumps(caught.value))  # from another process
    assert isinstance(again, FloatingPointError)
    assert str(again) == str(caught.value)


def test_one_cycle_is_that_of_torch():
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.5, total_steps=50)
    for step in range(50):
        assert learning_rate(step, 50, 0.5, "one_cycle") == pytest.approx(
            reference.get_last_lr()[0], abs=1e-9
        )
        optimiser.step()
        if step < 49:
            reference.step()
    assert learning_rate(7, 50, 0.5, "constant") == 0.5


def test_a_gpu_asked_for_and_absent():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(
        ValueError, match=r"modelling.device is 'cuda', but this machine has only cpu"
    ):
        choose_device("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_learns_on_a_gpu():
    images, labels = discs()
    data = TrainingData.from_arrays([images], [labels], "cuda")
    every = dict.fromkeys(FOLDS, data)
    results = train_folds(every, FOLDS, parameters(steps=60), SEEDS, "cuda")
    assert all(r.history[-1]["validation_dice"] > 0.85 for r in results.values())

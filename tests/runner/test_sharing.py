"""How a machine is shared among workers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temshift.parallel import CORES, available_cores
from temshift.runner.sharing import Needs, needs_of, share_machine


@given(
    cores=st.integers(1, 256),
    folds=st.integers(2, 10),
    memory_GB=st.floats(1, 2000),
    needed_GB=st.floats(0.5, 64),
)
def test_neither_cores_nor_memory_are_given_twice(cores, folds, memory_GB, needed_GB):
    share = share_machine(cores, folds, memory_GB, needed_GB)
    assert share.workers >= 1
    assert share.workers * share.cores <= cores
    assert share.workers == 1 or share.workers * needed_GB <= memory_GB
    if cores <= folds:
        assert share.workers == 1
        assert share.cores == cores
    elif memory_GB >= cores * needed_GB:
        assert share.workers > 1, "there is room, so nothing waits"
        assert share.cores <= folds
        assert cores - share.workers * share.cores <= cores / 4, "few cores are idle"


@pytest.mark.parametrize(
    ("cores", "folds", "memory_GB", "workers", "each"),
    [(2, 5, 8, 1, 2), (8, 5, 64, 2, 4), (16, 5, 64, 4, 4), (64, 5, 256, 16, 4), (64, 5, 8, 4, 16)],
)
def test_machines(cores, folds, memory_GB, workers, each):
    share = share_machine(cores, folds, memory_GB, needed_GB=2)
    assert (share.workers, share.cores) == (workers, each)


def test_as_many_workers_as_asked_for():
    assert share_machine(cores=2, folds=5, memory_GB=8, needed_GB=4, workers=4).workers == 4


def test_tags_say_what_a_node_needs():
    assert needs_of(["gpu", "memory-4GB", "other"]) == Needs(gpu=True, memory_GB=4.0)
    assert not needs_of([]).gpu


def test_a_process_keeps_to_the_cores_it_was_given(monkeypatch):
    monkeypatch.delenv(CORES, raising=False)
    machine = available_cores()
    monkeypatch.setenv(CORES, "1")
    assert available_cores() == 1
    monkeypatch.setenv(CORES, "100000")
    assert available_cores() == machine, "never more than the system allows"

"""Work ahead, but not too far, in order."""

import os
import threading
import time

import pytest

from temshift.parallel import available_cores, map_ordered


def test_results_come_in_order_whatever_is_ready_first():
    def slow_first(i: int) -> int:
        time.sleep(0.05 if i == 0 else 0)
        return i * i

    assert list(map_ordered(slow_first, range(20), 3, "test")) == [i * i for i in range(20)]
    assert list(map_ordered(slow_first, [], 3, "test")) == []


def test_no_more_results_wait_than_there_are_workers():
    lock, made, used, most = threading.Lock(), 0, 0, 0

    def make(i: int) -> int:
        nonlocal made, most
        with lock:
            made += 1
            most = max(most, made - used)
        return i

    for _ in map_ordered(make, range(30), 3, "test"):
        time.sleep(0.002)  # a slow consumer
        with lock:
            used += 1
    assert made == 30
    assert most <= 4  # three waiting, one in use


def test_an_error_comes_in_its_turn_and_stops_the_work():
    seen = []

    def fail_at_5(i: int) -> int:
        seen.append(i)
        if i == 5:
            raise ValueError("item 5")
        return i

    results = map_ordered(fail_at_5, range(1000), 2, "test")
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="item 5"):
        next(results)
    assert len(seen) < 10


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="not on this system")
def test_only_the_cores_this_process_may_use_count():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert available_cores() == len(before)

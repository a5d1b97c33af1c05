"""Where and how precisely to compute, and what becomes of freed memory."""

import json
import platform
import resource
import subprocess
import sys

import pytest
import torch

from temshift.learning.devices import (
    choose_device,
    choose_precision,
    single_threaded_operations,
)


def test_a_device_that_is_absent_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"(?s)'cuda:99', but this machine has only cpu.*'auto'"):
        choose_device("cuda:99")


def test_auto_takes_the_first_device_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device() == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device() == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device() == "cuda"
    assert choose_device("cuda:0") == "cuda:0"


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({}, "float32"),
        ({"avx512_f": True, "avx512_bf16": False}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
    ],
)
def test_bfloat16_only_where_the_processor_has_it(monkeypatch, processor, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    assert choose_precision("auto", "cpu") == expected
    assert choose_precision("float32", "cpu") == "float32"


def test_the_number_of_threads_is_put_back():
    before = torch.get_num_threads()
    with single_threaded_operations("cpu"):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with single_threaded_operations("cuda"):
        assert torch.get_num_threads() == before


#: In a process of its own: the heap of one that has run other tests has holes of any size.
MEMORY = """
import json, resource, torch
from temshift.learning.devices import keeping_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(40 << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_MB():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6

page_faults()
found = {"start": resident_MB(), "outside": page_faults()}
with keeping_freed_memory("cuda"):
    found["cuda"] = page_faults()
with keeping_freed_memory("cpu"):
    found["first"] = page_faults()  # up to seven are not found again
    found["cpu"], found["kept"] = page_faults(), resident_MB()
found["end"] = resident_MB()
print(json.dumps(found))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_used_again_and_given_back_at_the_end():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, check=True)
    found = json.loads(done.stdout)
    whole = 20 * (40 << 20) / resource.getpagesize()
    if found["outside"] < 0.9 * whole:
        pytest.skip("the system hands out large pages")
    assert found["cuda"] > 0.9 * whole
    assert found["first"] < 0.5 * whole
    assert found["cpu"] < 0.01 * whole
    assert found["start"] + 30 < found["kept"] < found["start"] + 400
    assert found["end"] < found["start"] + 20

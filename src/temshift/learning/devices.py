"""Where to compute, and with which precision."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from temshift.config.errors import UserError
from temshift.parallel import share_one_heap

__all__ = [
    "choose_device",
    "choose_precision",
    "keeping_freed_memory",
    "own_random_state",
    "single_threaded_operations",
]

#: How many ask at present that freed memory be kept.
_keeping = 0
_keeping_lock = threading.Lock()

#: torch has one random state for all threads of the process.
_one_draws_at_a_time = threading.RLock()


def choose_device(wanted: str = "auto") -> str:
    """Return the device to use: ``"cuda"`` or ``"cuda:N"``, ``"mps"`` or ``"cpu"``.

    Parameters
    ----------
    wanted : str
        ``"auto"`` takes the first of cuda, mps, cpu that this machine has.

    Raises
    ------
    UserError
        The device asked for is absent.
    """
    import torch

    has_cuda = torch.cuda.is_available()
    has_mps = torch.backends.mps.is_available()
    if wanted == "auto":
        return "cuda" if has_cuda else "mps" if has_mps else "cpu"
    found = ["cpu"] + ["mps"] * has_mps
    if has_cuda:
        found += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if wanted not in found:
        raise UserError(
            "modelling.device names what this machine lacks",
            f"modelling.device is {wanted!r}, but this machine has only {', '.join(found)}",
            "Set it to 'auto' (conf/*/parameters_modelling.yml, or --params "
            "modelling.device=auto; in Python device='auto'), or install torch for your GPU",
        )
    return wanted


def choose_precision(wanted: str, device: str) -> str:
    """Return ``"float32"`` or ``"bfloat16"``; ``"auto"`` takes bfloat16 where it is faster.

    That is on CUDA, and on processors with AMX tiles or AVX-512 BF16; elsewhere bfloat16 is
    emulated and slow.
    """
    if wanted != "auto":
        return wanted
    import torch

    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if device == "cpu":
        # not every torch that pyproject.toml allows can tell
        processor: Mapping[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        if processor.get("amx_bf16") or processor.get("avx512_bf16"):
            return "bfloat16"
    return "float32"


@contextmanager
def own_random_state(seed: int | None = None, device: str = "cpu") -> Iterator[None]:
    """Let what is drawn inside neither change nor follow what other threads draw.

    Initial weights, dropout and stochastic depth are drawn from the random state of the process,
    while folds, and nodes of some runners, are threads: whatever may draw from it does so in here,
    one thread at a time. The state is then as before.

    Parameters
    ----------
    seed : int, optional
        Of what is drawn; ``None`` where the numbers do not matter.
    device : str
        On which numbers are drawn, beside the CPU.
    """
    import torch

    devices = [device] if device.startswith("cuda") else []
    with _one_draws_at_a_time, torch.random.fork_rng(devices):
        if seed is not None:
            torch.manual_seed(seed)
        yield


@contextmanager
def single_threaded_operations(device: str) -> Iterator[None]:
    """Let every torch operation on the CPU use one core, so that networks can run side by side.

    The operations of a small network are too short to be divided: two networks on a core each
    are nearly twice as fast as two cores on one network after the other. It concerns the whole
    process and is not for several threads at a time.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1 if device == "cpu" else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def keeping_freed_memory(device: str) -> Iterator[None]:
    """Let the C library keep the memory of freed tensors for the next ones, until the end.

    By default glibc takes tensors of more than some MB from the system and gives them back when
    they are freed, so that each activation of each step is filled with zeros by the system, page
    by page, before use: a third to a half of the time of a training step. Nothing is changed for
    other devices than ``"cpu"``, or where the C library is another.

    The first few tensors of a size are not found again: the C library's aligned allocation leaves
    slivers beside them, of which each thread keeps seven before they are joined with their
    neighbours (seen with glibc 2.36). The heap so grows to some tensors more than are alive.

    It concerns the whole process; where several threads or nested blocks ask for it, it ends with
    the last of them. Two things stay after the end: one arena for all threads, and fixed thresholds
    (32 and 64 MB, glibc's largest) in place of those that glibc adapts.
    """
    import ctypes
    import platform

    global _keeping
    if device != "cpu" or platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    trim_threshold, mmap_threshold, mmap_max = -1, -3, -4  # as in malloc.h
    with _keeping_lock:
        _keeping += 1
        if _keeping == 1:
            share_one_heap()  # arenas consist of heaps of 64 MB, too small for large tensors
            libc.mallopt(mmap_max, 0)
            libc.mallopt(trim_threshold, 2**31 - 1)
    try:
        yield
    finally:
        with _keeping_lock:
            _keeping -= 1
            if _keeping == 0:
                libc.mallopt(mmap_max, 65536)
                libc.mallopt(mmap_threshold, 32 * 2**20)
                libc.mallopt(trim_threshold, 64 * 2**20)
                libc.malloc_trim(0)

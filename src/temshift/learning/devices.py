"""Where to compute, and with which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["choose_device", "choose_precision", "single_threaded_operations"]


def choose_device(wanted: str = "auto") -> str:
    """Return the device to use: ``"cuda"`` or ``"cuda:N"``, ``"mps"`` or ``"cpu"``.

    Parameters
    ----------
    wanted : str
        ``"auto"`` takes the first of cuda, mps, cpu that this machine has.

    Raises
    ------
    ValueError
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
        raise ValueError(
            f"modelling.device is {wanted!r}, but this machine has only {', '.join(found)}. "
            f"Set it to 'auto' (conf/*/parameters_modelling.yml, or --params "
            f"modelling.device=auto), or install a torch build that supports your GPU"
        )
    return wanted


def choose_precision(wanted: str, device: str) -> str:
    """Return ``"float32"`` or ``"bfloat16"``; ``"auto"`` takes bfloat16 where it is faster.

    That is on CUDA, and on processors with AMX tiles; elsewhere bfloat16 is emulated and slow.
    """
    if wanted != "auto":
        return wanted
    import torch

    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if device == "cpu" and torch.cpu._is_amx_tile_supported():
        return "bfloat16"
    return "float32"


@contextmanager
def single_threaded_operations() -> Iterator[None]:
    """Let every torch operation use one core, so that whole networks can run side by side.

    The operations of a small network are too short to be divided: two networks on a core each
    are nearly twice as fast as two cores on one network after the other.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

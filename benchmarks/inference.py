"""Prediction of one micrograph by a five-fold ensemble against a naive loop.

    python benchmarks/inference.py [--size 4096] [--repeats 3]

The naive loop goes patch by patch through five unfused networks (``plain.plain_inference``); ours
is ``temshift.learning.inference.predict_micrograph``. Each in a process of its own, alternately;
lower quartiles of wall time. Peak memory is all that a fresh process holds that predicts one
micrograph, with Python, torch, the networks, the image and the result.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

from plain import plain_inference
from sides import lower_quartiles
from temshift.learning.inference import optimise_for_inference, predict_micrograph
from temshift.learning.networks import PublishedUNet


def networks() -> list[torch.nn.Module]:
    torch.manual_seed(0)
    return [PublishedUNet().eval() for _ in range(5)]


def image(size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)


def naive_seconds(size: int) -> float:
    nets, x = networks(), image(size)
    start = time.perf_counter()
    plain_inference(nets, x)
    return time.perf_counter() - start


def our_seconds(size: int) -> float:
    nets, x = networks(), image(size)
    start = time.perf_counter()
    predict_micrograph([optimise_for_inference(n) for n in nets], x)
    return time.perf_counter() - start


def peak_GB(size: int) -> float:
    """Highest resident memory of this process, in which our side runs once."""
    our_seconds(size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=3)
    a = parser.parse_args()
    slow, fast = lower_quartiles(naive_seconds, our_seconds, (a.size,), a.repeats)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        memory = fresh.submit(peak_GB, a.size).result()
    print(
        f"inference, five folds, {a.size} x {a.size} px, cpu: naive {slow:.1f} s, "
        f"ours {fast:.1f} s, ratio {slow / fast:.2f}, target >= 2.5; "
        f"peak memory {memory:.2f} GB, target <= 1"
    )


if __name__ == "__main__":
    main()

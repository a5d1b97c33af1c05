"""Prediction of one micrograph by a five-fold ensemble against a naive loop.

    python benchmarks/inference.py [--size 4096] [--repeats 3]

The naive loop goes patch by patch through five unfused networks (``plain.plain_inference``); ours
is ``temshift.learning.inference.predict_micrograph``. Alternate runs, lower quartiles of wall time;
peak memory of our side is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import numpy as np
import torch

from plain import plain_inference
from temshift.learning.inference import optimise_for_inference, predict_micrograph
from temshift.learning.networks import PublishedUNet


def networks() -> list[torch.nn.Module]:
    torch.manual_seed(0)
    return [PublishedUNet().eval() for _ in range(5)]


def image(size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)


def ours(size: int) -> np.ndarray:
    return predict_micrograph([optimise_for_inference(n) for n in networks()], image(size))


def peak_MiB(size: int) -> float:
    """Peak resident memory of our side, less that of a process that only imports."""

    def measure(code: str) -> float:
        command = f"import sys; sys.path.insert(0, {sys.path[0]!r}); import inference as i; {code}"
        done = subprocess.run(
            [sys.executable, "-c", command + "; print(i.resource_MiB())"],
            capture_output=True,
            text=True,
            check=True,
        )
        return float(done.stdout)

    return measure(f"i.ours({size})")


def resource_MiB() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=3)
    a = parser.parse_args()
    nets, x = networks(), image(a.size)
    fused = [optimise_for_inference(n) for n in nets]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(a.repeats):
        for f, t in (
            (lambda: plain_inference(nets, x), times[0]),
            (lambda: predict_micrograph(fused, x), times[1]),
        ):
            start = time.perf_counter()
            f()
            t.append(time.perf_counter() - start)
    slow, fast = (float(np.quantile(t, 0.25)) for t in times)
    print(
        f"inference, five folds, {a.size} x {a.size} px, cpu: naive {slow:.1f} s, "
        f"ours {fast:.1f} s, ratio {slow / fast:.2f}; peak memory {peak_MiB(a.size):.0f} MiB"
    )


if __name__ == "__main__":
    main()

"""Preprocessing of one 4096 x 4096 micrograph against the procedure as the study describes it.

    python benchmarks/preprocessing.py [--side 4096] [--repeats 7]

The plain procedure is written here from its description (docs/preprocessing.md): it builds the nine
basis images, makes them smaller with scikit-image, and solves the least squares with all pixels as
rows. Both run on one core and are timed in CPU seconds of this process, so that other work on a
shared machine does not count. The plain one runs once (it takes about a minute), ours and the
NumPy copies it is compared with run alternately; medians are given.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from temshift.config.preprocessing import PreprocessingParameters
from temshift.microscopy.flat_field import fit_background, fit_flat_field
from temshift.microscopy.patches import cut_patches
from temshift.microscopy.preprocess import preprocess_micrograph

PATCH_PX = 512
THRESHOLD = 1500.0


def synthetic_micrograph(side: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return counts with uneven illumination, dark particles and x-rays, and their label."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / (side - 1)
    field = 2600 * (1 - 0.35 * (x - 0.4) ** 2 - 0.25 * (y - 0.6) ** 2 + 0.05 * x * y)
    label = np.zeros((side, side), np.uint8)
    radius = side // 33
    for row, column in rng.integers(radius, side - radius, (40, 2)):
        block = np.s_[row - radius : row + radius, column - radius : column + radius]
        dy, dx = np.mgrid[-radius:radius, -radius:radius]
        label[block] |= (dy**2 + dx**2 < radius**2).astype(np.uint8)
    image = rng.poisson(field * (1 - 0.15 * label)).astype(np.float32)
    hit = rng.integers(0, side * side, side // 14)
    image.ravel()[hit] += 1600 + rng.exponential(8000, hit.size).astype(np.float32)
    return image, label


# ------------------------------------------------------------------ the procedure, plainly
def plain_xrays(image: NDArray[Any]) -> NDArray[Any]:
    image[image < 0] = 0
    for _ in range(2):
        limit = np.median(image) + THRESHOLD
        places, values = np.argwhere(image > limit), image[image > limit]
        for row, column in places[np.argsort(values, kind="stable")[::-1]]:
            total, n = 0.0, 0
            for r in range(max(row - 1, 0), min(row + 2, image.shape[0])):
                for c in range(max(column - 1, 0), min(column + 2, image.shape[1])):
                    if (r, c) != (row, column):
                        total, n = total + float(image[r, c]), n + 1
            image[row, column] = total / n
    return image


def plain_basis(side: int) -> NDArray[np.float64]:
    t = np.linspace(0, 1, side)
    v, u = np.meshgrid(t, t)
    basis = np.zeros((side, side, 9))
    for i in range(3):
        for j in range(3):
            along_u = (1, 2, 1)[i] * u**i * (1 - u) ** (2 - i)
            along_v = (1, 2, 1)[j] * v**j * (1 - v) ** (2 - j)
            basis[:, :, 3 * i + j] = along_u * along_v
    return basis


def plain_flat_field(image: NDArray[Any], basis: NDArray[np.float64]) -> NDArray[Any]:
    from skimage.transform import rescale

    small = rescale(image, 0.25, anti_aliasing=True).ravel()[:, None]
    small_basis = rescale(basis, 0.25, anti_aliasing=True, channel_axis=2).reshape(-1, 9)
    weight = np.ones((len(small), 1))
    for _ in range(2):
        solution = np.linalg.lstsq(small_basis * weight, small * weight, rcond=None)[0]
        squared = (small - small_basis @ solution) ** 2
        weight = np.exp(-3 * squared / (2 * squared.mean()))
    return image / (basis.reshape(-1, 9) @ solution).reshape(image.shape)


def plain_patches(image: NDArray[Any], label: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    images, labels = [], []
    for row in range(0, image.shape[0] - PATCH_PX + 1, PATCH_PX):
        for column in range(0, image.shape[1] - PATCH_PX + 1, PATCH_PX):
            block = np.s_[row : row + PATCH_PX, column : column + PATCH_PX]
            images.append(image[block])
            labels.append(label[block])
    return np.array(images), np.array(labels)


# ------------------------------------------------------------------ ours, and the limit
def ours(image: NDArray[Any], label: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
    parameters = PreprocessingParameters(
        patch_px=PATCH_PX,
        xray={"threshold_counts": THRESHOLD},
        flat_field={"mode": "published"},
    )
    prepared, _ = preprocess_micrograph(image, parameters)
    images, labels, _ = cut_patches(prepared, label, PATCH_PX)
    return images, labels


def copies(image: NDArray[Any], label: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
    copy = image.astype(np.float32)
    images, labels, _ = cut_patches(copy, label, PATCH_PX)
    return images, labels


def cpu_seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=4096, help="px")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    image, label = synthetic_micrograph(arguments.side)

    ours(image, label)  # imports, tables
    ours_s, copies_s, background_s, published_s = [], [], [], []
    for _ in range(arguments.repeats):
        background_s.append(cpu_seconds(lambda: fit_background(image))[0])
        published_s.append(cpu_seconds(lambda: fit_flat_field(image))[0])
        copies_s.append(cpu_seconds(lambda: copies(image, label))[0])
        ours_s.append(cpu_seconds(lambda: ours(image, label))[0])
    our_time, copy_time = statistics.median(ours_s), statistics.median(copies_s)

    memory = {}
    for name, given in (("float32", image), ("uint16", image.astype(np.uint16))):
        tracemalloc.start()
        ours(given, label)
        memory[name] = 1 + tracemalloc.get_traced_memory()[1] / given.nbytes
        tracemalloc.stop()
    our_images, our_labels = ours(image, label)

    basis_s, basis = cpu_seconds(lambda: plain_basis(arguments.side))
    xray_s, clean = cpu_seconds(lambda: plain_xrays(image.copy()))
    field_s, flat = cpu_seconds(lambda: plain_flat_field(clean, basis))
    rest_s, (plain_images, plain_labels) = cpu_seconds(
        lambda: plain_patches((flat - flat.mean()) / flat.std(), label)
    )
    each = xray_s + field_s + rest_s
    rms = float(np.sqrt(np.mean((plain_images - our_images) ** 2)))
    assert np.array_equal(plain_labels, our_labels)

    def row(what: str, figure: str, remark: str = "") -> None:
        print(f"  {what:34s}{figure:>10s}  {remark}")

    spread = f"({min(ours_s):.3f} to {max(ours_s):.3f}, {arguments.repeats} times)"
    print(f"one micrograph of {arguments.side} x {arguments.side} px, one core, CPU time")
    row("plain: basis", f"{basis_s:.2f} s", "once for all micrographs of one size")
    row("plain: x-rays", f"{xray_s:.2f} s")
    row("plain: flat field", f"{field_s:.2f} s")
    row("plain: standardise, patch", f"{rest_s:.2f} s")
    row("ours", f"{our_time:.3f} s", spread)
    row("NumPy: copy, patch", f"{copy_time:.3f} s")
    row("plain / ours, one micrograph", f"{(each + basis_s) / our_time:.0f} x", "target >= 100")
    row("plain / ours, a further one", f"{each / our_time:.0f} x", "without the basis")
    row("ours / NumPy", f"{our_time / copy_time:.1f} x", "target <= 8")
    fits = statistics.median(background_s), statistics.median(published_s)
    row("flat field: background, published", f"{fits[0]:.3f} s", f"{fits[1]:.3f} s; the fit alone")
    row("rms difference", f"{rms:.1e}", "of standardised images, target <= 1e-3")
    for name, times in memory.items():
        row(f"peak memory, {name}", f"{times:.1f} x", "the image; it, label and patches included")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()

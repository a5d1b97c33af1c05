"""HDF5 files are the same bytes however long somebody holds on to what wrote them.

Dask's profiler looks at the stacks of a worker a hundred times a second and keeps the frames, and
so the datasets in them, for as long as it looks.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from tests.catalog.test_exit_waves import a_wave
from tests.catalog.test_patch_stack import stack

from temshift.catalog.exit_waves import ExitWavesDataset
from temshift.catalog.micrographs import MicrographsDataset
from temshift.catalog.patch_stack import PatchStackDataset
from temshift.microscopy.micrograph import Micrograph


@contextmanager
def profiled() -> Iterator[None]:
    """Hold the frames of all threads for a few milliseconds, again and again."""
    done = threading.Event()
    rng = np.random.default_rng(0)

    def sample() -> None:
        while not done.is_set():
            held = []
            for frame in sys._current_frames().values():
                while frame is not None:
                    held.append(frame)
                    frame = frame.f_back
            done.wait(rng.uniform(0, 0.004))

    samplers = [threading.Thread(target=sample) for _ in range(2)]
    for sampler in samplers:
        sampler.start()
    try:
        yield
    finally:
        done.set()
        for sampler in samplers:
            sampler.join()


def micrograph(folder, rng):
    image = rng.poisson(700, (700, 700)).astype(np.uint16)
    known = {"energy_eV": 300e3, "material": "Au", "defocus_A": 120.5}
    MicrographsDataset(str(folder)).save(
        [("a.hspy", Micrograph(image, 0.02, "header", known), None)]
    )
    return folder / "a.hspy"


def exit_wave(folder, rng):
    ExitWavesDataset(str(folder)).save([("a", a_wave(rng))])
    return folder / "a.h5"


def patches(folder, rng):
    PatchStackDataset(str(folder / "patches.h5")).save(stack(rng))
    return folder / "patches.h5"


@pytest.mark.parametrize("write", [micrograph, exit_wave, patches])
def test_the_same_bytes_beside_a_profiler(write, tmp_path):
    def written(name: str) -> bytes:
        return write(tmp_path / name, np.random.default_rng(1)).read_bytes()

    expected = written("alone")
    with profiled():
        assert all(written(str(i)) == expected for i in range(60))

"""Size distributions: known ones come back, and intervals hold what they promise."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from temshift.study.sizes import counting_error, mean_size, size_distribution


def particles(diameters, cut=(), micrograph=None):
    n = len(diameters)
    table = pd.DataFrame({"equivalent_diameter_nm": np.asarray(diameters, float)})
    table["touches_edge"] = [i in cut for i in range(n)]
    table["edge_weight"] = np.where(table["touches_edge"], 0.0, 1.0)
    if micrograph is not None:
        table["micrograph"] = micrograph
    return table


def describe(table, folds=(5.0, 5.0), pixel_size_error=0.0):
    return size_distribution(table, folds, "nm", pixel_size_error, 0.95)


def test_by_hand():
    found = describe(particles([4, 5, 6, 50], cut=[3]))
    assert found["n_particles"] == 3
    assert found["n_cut"] == 1
    assert found["mean"] == pytest.approx(5)
    assert found["sd"] == pytest.approx(1)
    assert found["d50"] == pytest.approx(5)
    assert found["area_mean"] == pytest.approx((64 + 125 + 216) / (16 + 25 + 36))
    assert found["error_counting"] == pytest.approx(1 / np.sqrt(3))
    assert found["low"] == pytest.approx(5 - 4.303 / np.sqrt(3), rel=1e-3)


def test_every_cause_widens_the_interval():
    table = particles(np.linspace(4, 6, 21))
    width = {
        name: (found := describe(table, **changes))["high"] - found["low"]
        for name, changes in {
            "none": {},
            "folds": {"folds": (4.8, 5.2)},
            "pixel": {"pixel_size_error": 0.05},
        }.items()
    }
    assert width["folds"] > 1.2 * width["none"]
    assert width["pixel"] > 1.2 * width["none"]


def test_what_cannot_be_known_is_not_said():
    nothing = describe(particles([5.0], cut=[0]))
    assert nothing["n_particles"] == 0
    assert np.isnan([nothing["mean"], nothing["low"], nothing["d50"]]).all()
    one = describe(particles([5.0]))
    assert one["mean"] == 5
    assert np.isnan(one["low"])
    assert np.isnan(describe(particles([4.0, 5.0]), folds=(5.0,))["low"])
    assert np.isnan(mean_size(particles([]), "equivalent_diameter_nm"))


def test_intervals_hold_the_mean_also_when_particles_of_a_micrograph_are_alike():
    rng = np.random.default_rng(1)
    held = {True: 0, False: 0}
    for _ in range(400):
        centre = 5 + rng.normal(0, 0.5, 8)
        sizes = (centre[:, None] + rng.normal(0, 0.2, (8, 10))).ravel()
        table = particles(sizes, micrograph=np.repeat(np.arange(8), 10))
        for grouped in held:
            groups = table["micrograph"].to_numpy() if grouped else None
            error, degrees = counting_error(sizes, np.ones(80), groups)
            held[grouped] += abs(sizes.mean() - 5) < 2.365 * error if degrees == 7 else 0
            if not grouped:
                held[grouped] += abs(sizes.mean() - 5) < 1.99 * error
    assert 0.92 < held[True] / 400 < 0.98
    assert held[False] / 400 < 0.7  # what counting every particle by itself would give


def test_a_few_stray_pixels_are_no_true_particle_of_the_benchmark():
    """Slivers of 1 to 3 px made the true mean of 5 nm particles 4 nm in fields of touching ones."""
    path = Path(__file__).parents[2] / "benchmarks" / "sizes.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_sizes", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)

    numbered = np.zeros((100, 100), int)
    numbered[20:40, 20:40] = 1  # whole, with a sliver
    numbered[60, 60] = 1
    numbered[0:5, 70:90] = numbered[95:, 70:90] = 2  # across the edge, with a sliver
    numbered[50, 75] = 2
    table = benchmark.measured(numbered, 0.1)
    assert table["area_px2"].tolist() == [400, 100, 100]
    assert table["touches_edge"].tolist() == [False, True, True]

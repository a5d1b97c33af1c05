"""Size distributions: known ones come back, and intervals hold what they promise."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tests.scripts import load_script

from temshift.study.sizes import (
    counting_error,
    label_next,
    mean_size,
    outline_error,
    pooled_sizes,
    share_spread,
    shared_spread,
    size_distribution,
    units_of,
)


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
    assert np.isnan([one["low"], one["sd"]]).all()
    assert describe(particles([5.0, 5.0]))["sd"] == 0
    assert np.isnan(describe(particles([4.0, 5.0]), folds=(5.0,))["low"])
    assert np.isnan(mean_size(particles([]), "equivalent_diameter_nm"))
    assert np.isnan(one["error_outline"])  # not judged


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


@pytest.fixture(scope="module")
def benchmark_of_sizes():
    return load_script("benchmarks/sizes.py")


def test_a_few_stray_pixels_are_no_true_particle_of_the_benchmark(benchmark_of_sizes):
    """Slivers of 1 to 3 px made the true mean of 5 nm particles 4 nm in fields of touching ones."""
    numbered = np.zeros((100, 100), int)
    numbered[20:40, 20:40] = 1  # whole, with a sliver
    numbered[60, 60] = 1
    numbered[0:5, 70:90] = numbered[95:, 70:90] = 2  # across the edge, with a sliver
    numbered[50, 75] = 2
    table = benchmark_of_sizes.measured(numbered, 0.1)
    assert table["area_px2"].tolist() == [400, 100, 100]
    assert table["touches_edge"].tolist() == [False, True, True]


def test_a_pair_across_the_edge_is_told_apart_where_its_centres_lie(benchmark_of_sizes):
    """The median of both pieces of a particle lay in its neighbour, or in nothing: not apart."""
    field = np.zeros((100, 100), int)
    field[:20, 40:60] = field[92:, 40:60] = 1  # its centre is in row 6
    field[20:40, 40:60] = 2
    field[85:92, 40:60] = 3  # touches only what comes in on the other side
    particles = [SimpleNamespace(x_A=x, y_A=5.0) for x in (0.6, 3.0, 8.8)]
    pieces = benchmark_of_sizes.centre_pieces(field, particles, 10.0)
    assert (pieces[:20, 40:60] == 1).all()
    assert not pieces[92:].any()
    assert benchmark_of_sizes.in_contact(pieces) == {frozenset({1, 2})}


def test_the_benchmark_counts_pairs_apart_and_particles_divided(benchmark_of_sizes):
    """Merged ones are not apart; a null: what is divided is counted."""
    true = np.zeros((100, 100), int)
    true[30:50, 20:40], true[30:50, 40:60], true[70:90, 20:60] = 1, 2, 3
    particles = [SimpleNamespace(x_A=x, y_A=y) for x, y in ((4.0, 3.0), (4.0, 5.0), (8.0, 4.0))]

    def counted(numbered):
        found = SimpleNamespace(
            numbered=numbered, pixel_size_nm=0.1, n_specks=0, sizes={"mean": 5, "n_particles": 3}
        )
        row = benchmark_of_sizes.compare("field", true, particles, 10.0, found)
        return row["pairs"], row["apart"], row["seen"], row["divided"]

    assert counted(true) == (1, 1, 3, 0)
    assert counted(np.where(true == 2, 1, true)) == (1, 0, 3, 0)
    assert counted(np.where((true == 3) & (np.arange(100) < 41), 4, true)) == (1, 1, 3, 1)
    assert counted(np.zeros_like(true)) == (1, 0, 3, 0)


def test_what_is_known_of_the_pixel_size_is_not_widened_by_few_particles():
    found = describe(particles([4.999, 5.001]), pixel_size_error=0.01)
    assert found["high"] - found["mean"] == pytest.approx(1.96 * 0.05, rel=0.1)
    assert describe(particles([4.8, 5.2]))["high"] - 5 == pytest.approx(12.706 * 0.2, rel=1e-3)


def test_the_outline_error_is_within_what_the_dice_allows_and_widens_the_interval():
    """A disc drawn too large or too small is wrong by √3 standard uncertainties at most."""
    for true, drawn in ((100.0, 105.0), (100.0, 80.0), (50.0, 90.0)):
        dice = 2 * min(true, drawn) ** 2 / (true**2 + drawn**2)
        larger = max(true, drawn) / min(true, drawn) - 1
        assert outline_error(dice) * np.sqrt(3) == pytest.approx(larger)
    assert np.isnan(outline_error(float("nan")))
    assert 0 == outline_error(1.0) < outline_error(0.9) < outline_error(0.5) < outline_error(0.0)
    table = particles(np.linspace(4.9, 5.1, 30))
    sure, unsure = (
        size_distribution(table, (5.0, 5.0), "nm", 0.0, 0.95, dice) for dice in (1.0, 0.8)
    )
    assert unsure["high"] - unsure["low"] > 3 * (sure["high"] - sure["low"])


def measured_folder(rng, n_particles, spreads, bias):
    """Micrographs of one folder, with folds that scatter and a bias that all of them share."""
    results, tables = [], []
    for i, (n, spread) in enumerate(zip(n_particles, spreads, strict=True)):
        name = f"{i}.tif"
        seen = 5 * (1 + rng.normal(0, spread, n)) * (1 + bias)
        folds = seen.mean() * (1 + rng.normal(0, 0.015, 5))
        table = particles(seen * (1 + rng.normal(0, 0.015)), micrograph=name)
        sizes = size_distribution(table, folds, "nm", 0.0, 0.95, 0.95)
        judgement = {"verdict": "trust", "predicted_dice": 0.95}
        results.append(
            {"path": name, "network": "a", "sizes": sizes, "fold_means": list(folds)}
            | {"judgement": judgement}
        )
        tables.append(table)
    return results, pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize(
    ("n_particles", "varying"),
    [([1] * 4 + [2, 3, 3, 4] * 4, 0.0), ([1, 1, 2, 2, 3], 0.0), ([1, 2, 3, 5, 8, 30] * 2, 0.4)],
    ids=["a study of few", "five micrographs", "of various spreads"],
)
def test_shared_intervals_hold_the_mean_of_the_population(n_particles, varying):
    """Nominal 95 %; the bias of the outlines is that of masks of Dice 0.95, or none."""
    rng = np.random.default_rng(3)
    held, alone, widths = [], [], []
    for _ in range(25):
        spreads = 0.1 * np.exp(varying * rng.normal(size=len(n_particles)))
        folder = measured_folder(rng, n_particles, spreads, rng.uniform(-0.05, 0.05))
        shared = share_spread(*folder, 0.0, 0.95)
        for before, after in zip(folder[0], shared, strict=True):
            own, sizes = before["sizes"], after["sizes"]
            held.append(sizes["low"] <= 5 <= sizes["high"])
            alone.append(own["low"] <= 5 <= own["high"])
            if sizes["n_particles"] == 2:
                widths.append((sizes["high"] - sizes["low"]) / (own["high"] - own["low"]))
    assert 0.92 < np.mean(held) <= 1.0  # every micrograph has one, of a single particle as well
    assert np.mean(alone) < np.mean(np.array(n_particles) > 1) + 1e-9
    assert np.median(widths) < 0.7


def test_intervals_that_leave_something_out_do_not_hold():
    """The null of the above: the same folders, a bias ten times what the Dice allows."""
    rng = np.random.default_rng(4)
    folder = measured_folder(rng, [20] * 12, [0.1] * 12, 0.5)
    shared = share_spread(*folder, 0.0, 0.95)
    assert not any(r["sizes"]["low"] <= 5 <= r["sizes"]["high"] for r in shared)


def test_micrographs_that_are_not_alike_share_little():
    n = np.full(12, 6)
    alike = np.full(12, 0.1) * np.exp(0.2 * np.random.default_rng(0).normal(size=12))
    unlike = np.where(np.arange(12) < 6, 0.02, 0.5)
    assert shared_spread(alike, n)[1].min() > 15
    variance, degrees = shared_spread(unlike, n)
    assert degrees.max() < 8
    assert variance[:6].max() < 0.2 * variance[6:].min()


def test_two_micrographs_share_nothing():
    variance, degrees = shared_spread(np.array([0.1, 0.2, 0.0]), np.array([3, 3, 1]))
    np.testing.assert_allclose(variance, [0.01, 0.04, np.nan])
    np.testing.assert_array_equal(degrees, [2, 2, 0])


@pytest.mark.parametrize("n_particles", [[1], [1, 3], [1, 3, 4, 5]])
def test_one_particle_has_no_spread_in_the_files_either(n_particles):
    """What is not known is null in result.json."""
    rng = np.random.default_rng(8)
    results, table = measured_folder(rng, n_particles, [0.1] * len(n_particles), 0.0)
    filed = json.loads(
        json.dumps(
            [
                {**r, "sizes": {k: None if v != v else v for k, v in r["sizes"].items()}}
                for r in results
            ]
        )
    )
    assert filed[0]["sizes"]["sd"] is None
    known = share_spread(filed, table, 0.0, 0.95)
    for before, after in zip(share_spread(results, table, 0.0, 0.95), known, strict=True):
        assert after["sizes"]["mean"] == before["sizes"]["mean"]
        np.testing.assert_equal(after["sizes"]["low"], before["sizes"]["low"])


def test_masks_that_are_not_to_be_trusted_lend_no_spread():
    rng = np.random.default_rng(5)
    results, table = measured_folder(rng, [3] * 6, [0.1] * 6, 0.0)
    results[0]["judgement"]["verdict"] = "do not trust"
    results.append({"path": "broken.tif", "failed": "no image"})
    shared = share_spread(results, table, 0.0, 0.95)
    assert shared[0] is results[0]
    assert shared[-1] is results[-1]
    assert shared[1]["sizes"]["high"] != results[1]["sizes"]["high"]
    assert shared[1]["sizes"]["mean"] == results[1]["sizes"]["mean"]


def test_sizes_of_a_folder_carry_the_outline_error_of_its_masks():
    rng = np.random.default_rng(6)
    results, table = measured_folder(rng, [30, 30], [0.1] * 2, 0.0)
    pooled = pooled_sizes(results, table, 0.0, 0.95)
    assert pooled["error_outline"] == pytest.approx(pooled["mean"] * outline_error(0.95))
    results[0]["judgement"]["predicted_dice"] = results[1]["judgement"]["predicted_dice"] = None
    assert np.isnan(pooled_sizes(results, table, 0.0, 0.95)["error_outline"])


def test_a_fold_that_found_nothing_has_no_mean_in_a_folder_either():
    """It would count as a mean of 0 nm, and the interval of the others would reach down to it."""
    rng = np.random.default_rng(6)
    results, table = measured_folder(rng, [30, 30], [0.1] * 2, 0.0)
    errors = []
    for means in ([5.0, 5.1], [5.0, 5.1, None]):
        for result in results:
            result["fold_means"] = list(means)
        errors.append(pooled_sizes(results, table, 0.0, 0.95)["error_networks"])
    assert errors[0] == pytest.approx(errors[1])
    assert 0 < errors[0] < 0.2


def test_a_fold_that_found_nothing_in_one_micrograph_is_not_the_mean_of_the_others():
    """5 nm in one, 50 nm in the other: its "mean" was that of the first alone."""
    rng = np.random.default_rng(6)
    results, table = measured_folder(rng, [18, 6], [0.01] * 2, 0.0)
    large = table["micrograph"] == results[1]["path"]
    table.loc[large, "equivalent_diameter_nm"] *= 10
    results[0]["fold_means"] = [5.0, 5.02, 4.98]
    results[1]["fold_means"] = [50.0, 50.2, None]
    pooled = pooled_sizes(results, table, 0.0, 0.95)
    assert pooled["error_networks"] < 0.05
    results[1]["fold_means"] = [50.0, 50.2, 49.8]
    assert 0.05 < pooled_sizes(results, table, 0.0, 0.95)["error_networks"] < 0.3
    results[0]["fold_means"] = [5.0, None, None]
    results[1]["fold_means"] = [None, None, 50.0]
    assert np.isnan(pooled_sizes(results, table, 0.0, 0.95)["error_networks"])


def test_folds_of_different_networks_are_not_taken_for_each_other():
    rng = np.random.default_rng(6)
    results, table = measured_folder(rng, [20, 20], [0.01] * 2, 0.0)
    results[0] |= {"network": "a", "fold_means": [4.0, 6.0]}
    results[1] |= {"network": "b", "fold_means": [6.0, 4.0, 5.0]}
    apart = pooled_sizes(results, table, 0.0, 0.95)["error_networks"]
    assert apart == pytest.approx((np.std([4, 6], ddof=1) + 1.0) / 2)
    results[1] |= {"network": "a", "fold_means": [6.0, 4.0]}
    assert pooled_sizes(results, table, 0.0, 0.95)["error_networks"] == pytest.approx(0.0)


def test_a_micrograph_without_a_particle_has_no_unit():
    rng = np.random.default_rng(6)
    results, table = measured_folder(rng, [20, 20], [0.1] * 2, 0.0)
    empty = {**results[0], "path": "e.tif", "fold_means": [None, None]}
    empty["sizes"] = {**results[0]["sizes"], "unit": "px", "n_particles": 0, "mean": np.nan}
    assert pooled_sizes([*results, empty], table, 0.0, 0.95) == pooled_sizes(
        results, table, 0.0, 0.95
    )
    assert units_of([*results, empty]) == {"nm"}
    cut = pd.concat([table, particles([7.0], cut=[0], micrograph="e.tif")], ignore_index=True)
    assert pooled_sizes([*results, empty], cut, 0.0, 0.95)["n_cut"] == 1
    empty["sizes"]["n_particles"] = 1
    assert pooled_sizes([*results, empty], table, 0.0, 0.95) is None


def as_frames(results, table, files):
    """Name the micrographs of a folder frames of so many files."""
    names = {r["path"]: f"m{i % files}.mrc[{i // files}]" for i, r in enumerate(results)}
    return (
        [{**r, "path": names[r["path"]]} for r in results],
        table.assign(micrograph=table["micrograph"].map(names)),
    )


def test_frames_of_one_movie_are_no_independent_micrographs():
    """Six particles in twenty frames are six, not 120: the interval had no width."""
    rng = np.random.default_rng(2)
    one, own = measured_folder(rng, [6], [0.1], 0.0)
    results = [{**one[0], "path": f"{i}.tif"} for i in range(20)]
    table = pd.concat([own.assign(micrograph=r["path"]) for r in results], ignore_index=True)
    assert pooled_sizes(results, table, 0.0, 0.95)["error_counting"] < 1e-9
    for files in (1, 2):
        pooled = pooled_sizes(*as_frames(results, table, files), 0.0, 0.95)
        assert np.isnan(pooled["error_counting"])
        assert np.isnan(pooled["low"])
        assert pooled["mean"] == pytest.approx(one[0]["sizes"]["mean"])
    alone = share_spread(one, own.assign(micrograph=one[0]["path"]), 0.0, 0.95)[0]["sizes"]
    for result in share_spread(*as_frames(results, table, 1), 0.0, 0.95):
        assert result["sizes"]["error_counting"] == pytest.approx(alone["error_counting"])


def test_with_frames_the_mean_of_the_population_is_still_held():
    rng = np.random.default_rng(3)
    held = []
    for _ in range(150):
        results, table = measured_folder(rng, [8] * 5, [0.15] * 5, 0.0)
        parts = []
        for r in results:
            own = table[table["micrograph"] == r["path"]]
            parts += [own.assign(micrograph=f"{r['path']}.mrc[{k}]") for k in range(6)]
        frames = pd.concat(parts, ignore_index=True)
        named = [{**r, "path": f"{r['path']}.mrc[{k}]"} for r in results for k in range(6)]
        pooled = pooled_sizes(named, frames, 0.0, 0.95)
        held.append(pooled["low"] <= 5.0 <= pooled["high"])
    assert np.mean(held) > 0.9


def test_what_to_label_next_does_not_take_a_unit_for_a_difference():
    def result(path, mean, unit, dice):
        sizes = {"mean": mean, "unit": unit, "n_particles": 9}
        judged = {"predicted_dice": dice, "novelty": 0.5}
        return {"path": path, "pixel_size_nm": 0.02 if unit == "nm" else None, "sizes": sizes,
                "judgement": judged, "fold_agreement": 0.9}  # fmt: skip

    rows = [("a", 5.0, 0.9), ("b", 5.1, 0.6), ("c", 5.05, 0.8), ("d", 9.0, 0.85)]
    in_nm = label_next([result(p, mean, "nm", dice) for p, mean, dice in rows])
    mixed = label_next(
        [
            result(p, mean / 0.02, "px", dice) if p == "c" else result(p, mean, "nm", dice)
            for p, mean, dice in rows
        ]
    )
    assert mixed == in_nm


def test_unequal_weights_count_as_fewer_particles():
    values = np.arange(10.0)
    assert counting_error(values, np.ones(10))[1] == pytest.approx(9)
    _, degrees = counting_error(values, np.r_[20.0, np.ones(9)])
    assert degrees == pytest.approx(29**2 / 409 - 1)

"""Particles and their sizes, against circles whose sizes are known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from temshift.microscopy import particles
from temshift.microscopy.particles import (
    PARTICLE_COLUMNS,
    measure_particles,
    separate_particles,
    smallest_area_px2,
    speck_limit_px2,
    typical_diameter_px,
    weighted_quantiles,
    without_specks,
)


def discs(shape, *circles):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, np.uint8)
    for row, column, radius in circles:
        mask |= ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2).astype(np.uint8)
    return mask


def test_a_disc_has_its_diameter_position_and_roundness():
    table, numbered = measure_particles(discs((100, 120), (40, 70, 20)), pixel_size_nm=0.1)
    (particle,) = table.to_dict("records")
    assert particle["equivalent_diameter_nm"] == pytest.approx(4.0, rel=0.01)
    assert particle["feret_diameter_nm"] == pytest.approx(4.1, rel=0.02)
    assert particle["area_nm2"] == pytest.approx(np.pi * 4, rel=0.01)
    assert (particle["row_px"], particle["column_px"]) == pytest.approx((40, 70))
    assert particle["eccentricity"] < 0.1
    assert not particle["touches_edge"]
    assert not particle["was_split"]
    assert list(table) == list(PARTICLE_COLUMNS)
    assert numbered.max() == 1


def test_without_a_pixel_size_nothing_is_said_in_nm():
    table, _ = measure_particles(discs((64, 64), (30, 30, 9)))
    assert table.filter(like="_nm").isna().all(axis=None)
    assert table["equivalent_diameter_px"].iloc[0] == pytest.approx(18, rel=0.03)


@settings(max_examples=40, deadline=None)
@given(
    radius=st.floats(10, 30),
    ratio=st.floats(0.6, 1.0),
    overlap=st.floats(0.0, 0.2),
    angle=st.floats(0, np.pi),
)
def test_two_touching_discs_are_two(radius, ratio, overlap, angle):
    other = radius * ratio
    distance = (radius + other) * (1 - overlap * ratio)
    row, column = 100 + distance * np.sin(angle), 100 + distance * np.cos(angle)
    mask = discs((200, 200), (100, 100, radius), (row, column, other))
    assert separate_particles(mask).max() == 2


@settings(max_examples=40, deadline=None)
@given(
    major=st.floats(8, 40),
    aspect=st.floats(1.0, 2.5),
    angle=st.floats(0, np.pi),
    seed=st.integers(0, 99),
)
def test_one_ragged_ellipse_is_one(major, aspect, angle, seed):
    rows, columns = np.mgrid[:200, :200] - 100.0
    along = rows * np.sin(angle) + columns * np.cos(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    edge = np.hypot(along / major, across * aspect / major)
    noise = np.random.default_rng(seed).normal(0, 0.5 / major, edge.shape)
    mask = (edge + noise < 1).astype(np.uint8)
    table, _ = measure_particles(mask)
    assert len(table) == 1


@pytest.mark.parametrize("corners", [3, 4, 5, 6])
@pytest.mark.parametrize("stretch", [1.0, 1.8])
def test_one_faceted_particle_is_one(corners, stretch):
    """Polygons with ragged outlines, regular or drawn out, at any angle."""
    rng = np.random.default_rng([corners, round(10 * stretch)])
    rows, columns = np.mgrid[:160, :160] - 80.0
    noise = rng.normal(0, 1.0, rows.shape)
    for turn in rng.uniform(0, np.pi, 4):
        along = (rows * np.cos(turn) + columns * np.sin(turn)) / stretch
        across = columns * np.cos(turn) - rows * np.sin(turn)
        angles = 2 * np.pi * np.arange(corners) / corners
        faces = [along * np.cos(a) + across * np.sin(a) for a in angles]
        mask = (np.max(faces, axis=0) + noise < 22).astype(np.uint8)
        table, _ = measure_particles(mask, smallest_area_px2=smallest_area_px2(50.0))
        assert len(table) == 1


def test_particles_at_the_edge_are_marked_and_the_others_stand_for_them():
    """Whatever the edge cuts off, the mean of many fields is that of the particles."""
    rng = np.random.default_rng(0)
    small, large = 0.0, 0.0
    plain_small = plain_large = 0
    for _ in range(300):
        radius = rng.choice([4.0, 20.0])
        row, column = rng.uniform(0, 100, 2)
        table, _ = measure_particles(discs((100, 100), (row, column, radius)))
        whole = table[~table["touches_edge"]]
        if radius == 4:
            small += whole["edge_weight"].sum()
            plain_small += len(whole)
        else:
            large += whole["edge_weight"].sum()
            plain_large += len(whole)
    assert plain_large / plain_small < 0.6
    assert large / small == pytest.approx(1, abs=0.25)


def test_specks_are_no_particles_and_an_empty_mask_has_none():
    mask = discs((64, 64), (20, 20, 8))
    mask[50, 50] = 1
    table, numbered = measure_particles(mask)
    assert len(table) == 1
    assert numbered[50, 50] == 0
    table, numbered = measure_particles(np.zeros((64, 64), np.uint8))
    assert table.empty
    assert list(table) == list(PARTICLE_COLUMNS)
    assert not numbered.any()


def test_certainty_is_the_mean_probability_of_the_particle():
    mask = discs((64, 64), (20, 20, 8), (45, 45, 8))
    probability = np.where(np.arange(64)[:, None] < 32, 0.9, 0.6) * mask
    table, _ = measure_particles(mask, probability.astype(np.float32))
    assert table["certainty"].tolist() == pytest.approx([0.9, 0.6], abs=1e-6)
    with pytest.raises(ValueError, match="64 × 64 px, the probability 32 × 64"):
        measure_particles(mask, probability[:32])


def test_quantiles_carry_weights():
    values = np.array([1.0, 10.0])
    assert weighted_quantiles(values, np.array([1.0, 1.0]), [0.5])[0] == pytest.approx(5.5)
    assert weighted_quantiles(values, np.array([9.0, 1.0]), [0.4])[0] == pytest.approx(1.0)
    assert np.isnan(weighted_quantiles(values, np.zeros(2), [0.5])).all()


@settings(max_examples=25, deadline=None)
@given(
    diameter=st.floats(40, 90),
    specks=st.lists(
        st.tuples(st.integers(0, 17), st.integers(0, 1), st.floats(1, 7)),
        max_size=9,
        unique_by=lambda speck: speck[:2],  # apart: two that touch are one larger region
    ),
)
def test_specks_change_no_size_and_are_counted(diameter, specks):
    circles = [(150, 120, diameter / 2), (150, 235, diameter / 2)]
    specks = [(8 + 16 * row, 8 + 16 * column, radius) for row, column, radius in specks]
    smallest = smallest_area_px2(diameter)
    clean, none = without_specks(discs((300, 300), *circles), smallest)
    noisy, n = without_specks(discs((300, 300), *circles, *specks), smallest)
    assert none == 0
    assert (n > 0) == bool(specks)
    np.testing.assert_array_equal(clean, noisy)
    table, _ = measure_particles(noisy.astype(np.uint8), smallest_area_px2=smallest)
    assert table["equivalent_diameter_px"].to_numpy() == pytest.approx([diameter] * 2, rel=0.02)


def test_nothing_but_specks_is_no_particle():
    mask = discs((300, 300), (30, 30, 6), (100, 40, 9), (200, 250, 3))
    kept, n = without_specks(mask, smallest_area_px2(80.0))
    assert n == 3
    assert not kept.any()
    assert measure_particles(kept.astype(np.uint8))[0].empty


def test_a_network_for_five_nm_still_counts_two_nm():
    five, two = 250.0, 110.0
    mask = discs((200, 200), (100, 100, two / 2))
    assert without_specks(mask, smallest_area_px2(five))[1] == 0


def test_a_rough_corner_is_no_particle_beside_the_whole():
    """A bump on a particle, cut off by a narrow neck, is not counted by itself."""
    mask = discs((240, 240), (120, 100, 60), (120, 166, 8))
    table, _ = measure_particles(mask, smallest_area_px2=smallest_area_px2(120.0))
    assert len(table) == 1


def blobs(seed):
    """Overlapping discs of many sizes, with holes and ragged outlines."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:200, :170]
    mask = np.zeros((200, 170), bool)
    for _ in range(25):
        row, column, radius = rng.uniform(0, 200), rng.uniform(0, 170), rng.uniform(1, 22)
        mask |= (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    return (mask & (rng.random(mask.shape) > 0.01 * (seed % 2))).astype(np.uint8)


@pytest.mark.parametrize("neck", [0.0, 0.5, 0.8, 1.0])
def test_the_short_way_for_single_particles_changes_nothing(monkeypatch, neck):
    short = [separate_particles(blobs(seed), neck) for seed in range(6)]
    taken = [particles._is_one(np.pad(np.ones((5, 9)), 1), neck, 2.0)]
    monkeypatch.setattr(particles, "_is_one", lambda *_: False)
    long = [separate_particles(blobs(seed), neck) for seed in range(6)]
    assert all(np.array_equal(a, b) for a, b in zip(short, long, strict=True))
    assert taken == [True] or neck == 1.0


def test_diameters_alone_are_those_of_the_whole_measurement():
    for seed in range(4):
        mask = blobs(seed)
        whole, _ = measure_particles(mask, None, 0.1, 0.8, 20)
        alone = particles.measure_diameters(mask, 0.1, 0.8, 20)
        assert len(whole) > 3
        pd.testing.assert_frame_equal(alone, whole[list(alone)], check_exact=False)
    assert particles.measure_diameters(np.zeros((70, 70), np.uint8)).empty


def cluster(n, radius=15, pitch=28):
    """Return n touching discs in a square arrangement, and three single ones."""
    side = int(np.sqrt(n))
    touching = [(60 + pitch * i, 60 + pitch * j, radius) for i in range(side) for j in range(side)]
    return discs((420, 420), *touching, (380, 40, radius), (380, 120, radius), (380, 200, radius))


@pytest.mark.parametrize("n", [4, 9, 16, 25, 64])
def test_a_cluster_is_not_taken_for_one_particle_where_nothing_is_known_of_them(n):
    """Its area made the limit so large that all were specks, or one particle of 177 px."""
    mask = cluster(n)
    limit = speck_limit_px2(mask)
    table, _ = measure_particles(mask, smallest_area_px2=limit)
    assert typical_diameter_px(mask) == pytest.approx(30, rel=0.08)
    assert len(table) == n + 3
    assert table["equivalent_diameter_px"].between(27, 31).all()


def test_many_small_particles_beside_a_few_large_ones_are_no_specks():
    rows, columns = np.mgrid[20:280:26, 20:280:26]
    small = [(*at, 6) for at in zip(rows.ravel(), columns.ravel(), strict=True)]
    large = [(60 + 100 * i, 350, 40) for i in range(4)]
    mask = discs((420, 420), *small, *large)
    table, _ = measure_particles(mask, smallest_area_px2=speck_limit_px2(mask))
    assert len(table) == len(small) + len(large)
    # and real specks, which hold a twentieth of the foreground, are
    specks = [(*at, 3) for at in zip(rows.ravel()[::3], columns.ravel()[::3], strict=True)]
    mask = discs((420, 420), *specks, *large)
    assert speck_limit_px2(mask) > np.pi * 4**2
    assert speck_limit_px2(np.zeros((64, 64))) == 16


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), holes=st.integers(1, 12))
def test_small_holes_divide_no_particle_and_stay_holes(seed, holes):
    rng = np.random.default_rng(seed)
    disc = discs((100, 100), (50, 50, 30))
    radius, angle = 24 * np.sqrt(rng.random(holes)), 2 * np.pi * rng.random(holes)
    mask = disc.copy()
    at = (50 + radius * np.sin(angle)).astype(int), (50 + radius * np.cos(angle)).astype(int)
    mask[at] = 0
    table, numbered = measure_particles(mask, smallest_area_px2=400)
    assert len(table) == 1
    assert not table["was_split"].any()
    assert (numbered > 0).sum() == mask.sum() == table["area_px2"].iloc[0]


def test_the_gap_between_touching_particles_is_no_hole_of_one():
    angles = np.arange(6) * np.pi / 3
    around = [(100 + 38 * np.sin(a), 100 + 38 * np.cos(a), 20) for a in angles]
    mask = discs((200, 200), (100, 100, 20), *around)
    table, _ = measure_particles(mask, smallest_area_px2=smallest_area_px2(40.0))
    assert len(table) == 7
    assert table["was_split"].all()


def test_a_particle_beside_a_part_that_is_too_small_was_split():
    mask = discs((120, 120), (50, 50, 30), (50, 87, 9))
    table, numbered = measure_particles(mask, smallest_area_px2=300)
    assert len(table) == 1
    assert table["was_split"].all()
    assert 0 < (mask > 0).sum() - (numbered > 0).sum() < 300


@pytest.mark.parametrize("height", [1, 16, 24, 28])
def test_edge_weights_are_those_of_the_positions_that_are_counted(height):
    side = 32
    kept = 0
    for top in range(-height + 1, side):
        kept += top > 0 and top + height < side
    weight = particles.edge_weights(
        np.array([height]), np.array([height]), (side, side), np.array([False])
    )
    assert weight[0] == pytest.approx((side / kept) ** 2)

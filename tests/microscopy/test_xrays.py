"""X-ray outliers: cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from temshift.microscopy.xrays import Median, remove_xrays

PUBLISHED = "published"


def ramp() -> np.ndarray:
    """5 x 6 counts 0 … 29 in reading order; median 14.5."""
    return np.arange(30, dtype=np.float32).reshape(5, 6)


both = pytest.mark.parametrize("method", ["clusters", "published"])


@both
def test_interior_pixel_becomes_the_mean_of_its_8_neighbours(method):
    image = ramp()
    image[2, 3] = 5000  # neighbours 8 9 10, 14 16, 20 21 22
    assert remove_xrays(image, 1500, method=method) == 1
    assert image[2, 3] == 15
    expected = ramp()
    expected[2, 3] = 15
    np.testing.assert_array_equal(image, expected)


@both
@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ((0, 2), (1 + 3 + 7 + 8 + 9) / 5),  # edges have 5 neighbours
        ((4, 3), (20 + 21 + 22 + 26 + 28) / 5),
        ((2, 0), (6 + 7 + 13 + 18 + 19) / 5),
        ((2, 5), (10 + 11 + 16 + 22 + 23) / 5),
        ((0, 0), (1 + 6 + 7) / 3),  # corners 3
        ((0, 5), (4 + 10 + 11) / 3),
        ((4, 0), (18 + 19 + 25) / 3),
        ((4, 5), (22 + 23 + 28) / 3),
    ],
)
def test_border_pixels_use_the_neighbours_they_have(position, expected, method):
    image = ramp()
    image[position] = 5000
    assert remove_xrays(image, 1500, method=method) == 1
    assert image[position] == pytest.approx(expected, rel=1e-6)


CLUSTERS = {
    "two side by side": [(9, 9), (9, 10)],
    "line of three": [(9, 8), (9, 9), (9, 10)],
    "line of five": [(9, c) for c in range(7, 12)],
    "diagonal": [(8 + i, 8 + i) for i in range(4)],
    "3 x 3": [(r, c) for r in (8, 9, 10) for c in (8, 9, 10)],
    "7 x 7": [(r, c) for r in range(5, 12) for c in range(5, 12)],
    "corner": [(0, 0), (0, 1), (1, 0), (1, 1)],
    "edge": [(r, 19) for r in range(6)],
}


@pytest.mark.parametrize("hits", CLUSTERS.values(), ids=CLUSTERS)
@pytest.mark.parametrize("counts", [3000.0, 40_000.0, 1e6])
def test_nothing_is_left_of_a_cluster(hits, counts, rng):
    background = rng.poisson(300, (20, 20)).astype(np.float32)
    image = background.copy()
    for i, hit in enumerate(hits):
        image[hit] = counts * (1 + i / 10)
    assert remove_xrays(image, 1500) == len(hits)
    rows, columns = zip(*hits, strict=True)
    assert np.abs(image[rows, columns] - 300).max() < 5 * np.sqrt(300)
    untouched = np.ones(image.shape, bool)
    untouched[rows, columns] = False
    np.testing.assert_array_equal(image[untouched], background[untouched])


def test_a_cluster_is_filled_from_its_rim():
    image = np.zeros((5, 7), np.float32)
    image[:, :2] = 8
    image[1:4, 2:5] = 5000
    remove_xrays(image, 1500)
    # (2, 2) has three neighbours of 8 that are good; (1, 4) five of 0; (2, 3) none but those of
    # the rim, when they have been replaced
    assert image[2, 2] == 8
    assert image[1, 4] == 0
    rim = image[1:4, 2:5].copy()
    assert image[2, 3] == pytest.approx((rim.sum() - rim[1, 1]) / 8)


def test_the_published_way_leaves_the_core_of_a_cluster():
    for hits, left in (
        ("3 x 3", 15_244.66),
        ("line of three", 1007.54),
        ("two side by side", 920.31),
    ):
        image = np.full((20, 20), 300, np.float32)
        for hit in CLUSTERS[hits]:
            image[hit] = 40_000
        remove_xrays(image, 1500, method=PUBLISHED)
        assert image.max() == pytest.approx(left, abs=0.01)


def test_an_image_of_bright_areas_is_finite_and_quick():
    image = np.zeros((600, 600), np.float32)
    image[50:350, 50:550] = 9e4
    assert remove_xrays(image, 1500) == 300 * 500
    assert image.max() == 0


def test_a_cluster_is_worked_off_brightest_first_and_new_values_count():
    image = np.full((5, 5), 80, np.float32)
    image[2, 2], image[2, 3] = 8080, 4080
    # pass 1: limit 80 + 500. (2,2) first: (7 * 80 + 4080) / 8 = 580; then (2,3): (7 * 80 + 580) / 8
    # = 142.5. Pass 2: 580 is not above 580.
    assert remove_xrays(image, 500, 2, PUBLISHED) == 2
    assert image[2, 2] == 580
    assert image[2, 3] == 142.5


def test_the_second_pass_catches_what_the_first_leaves():
    image = np.full((5, 5), 80, np.float32)
    image[2, 2], image[2, 3] = 8080, 4080
    # limit 80 + 400: pass 1 as above; pass 2 takes 580: (7 * 80 + 142.5) / 8 = 87.8125
    once = image.copy()
    assert remove_xrays(once, 400, 1, PUBLISHED) == 2
    assert once[2, 2] == 580
    assert remove_xrays(image, 400, 2, PUBLISHED) == 3
    assert image[2, 2] == 87.8125
    assert image[2, 3] == 142.5


def test_equal_values_the_last_in_reading_order_first():
    image = np.zeros((3, 4), np.float32)
    image[1, 1] = image[1, 2] = 800
    # (1,2) first: 800 / 8 = 100; then (1,1): 100 / 8
    assert remove_xrays(image, 500, 1, PUBLISHED) == 2
    assert image[1, 2] == 100
    assert image[1, 1] == 12.5


@both
def test_a_pixel_at_the_limit_stays(method):
    image = np.zeros((4, 4), np.float32)
    image[1, 1] = 1500
    assert remove_xrays(image, 1500, method=method) == 0
    assert image[1, 1] == 1500


def test_the_median_is_taken_anew_in_every_pass():
    # 9 px: four 0, one 10, four bright: median 10, after pass 1 it has changed
    image = np.array([[0, 0, 0], [0, 10, 900], [900, 900, 900]], np.float32)
    remove_xrays(image, 500, 1, PUBLISHED)
    plain = np.array([[0, 0, 0], [0, 10, 900], [900, 900, 900]], float)
    for row, column in ((2, 2), (2, 1), (2, 0), (1, 2)):  # equal values, last first
        block = plain[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        plain[row, column] = (block.sum() - plain[row, column]) / (block.size - 1)
    np.testing.assert_allclose(image, plain, rtol=1e-6)


def plain(image: np.ndarray, threshold: float, passes: int) -> int:
    """The procedure word by word."""
    replaced = 0
    for _ in range(passes):
        outliers = np.flatnonzero(image > np.float32(float(np.median(image)) + threshold))
        for i in outliers[np.argsort(image.ravel()[outliers], kind="stable")[::-1]]:
            row, column = divmod(int(i), image.shape[1])
            block = image[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            others = block.sum(dtype=float) - float(image[row, column])
            image[row, column] = others / (block.size - 1)
        replaced += len(outliers)
    return replaced


@pytest.mark.parametrize("kept", ["all pixels", "those about the median"])
@settings(max_examples=150)
@given(
    shape=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    kind=st.sampled_from(["counts", "few values", "smooth", "skewed"]),
    threshold=st.sampled_from([0.001, 0.5, 1, 3, 10]),
    passes=st.integers(0, 5),
    seed=st.integers(0, 2**16),
)
def test_equals_the_procedure_word_by_word(kept, shape, kind, threshold, passes, seed):
    rng = np.random.default_rng(seed)
    image = {
        "counts": lambda: rng.poisson(5, shape),
        "few values": lambda: rng.integers(0, 3, shape),
        "smooth": lambda: rng.normal(size=shape),
        "skewed": lambda: rng.exponential(size=shape) ** 3,
    }[kind]().astype(np.float32)
    expected = image.copy()
    n = plain(expected, threshold, passes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Median, "small_px", 1 if kept == "those about the median" else 1 << 19)
        assert remove_xrays(image, threshold, passes, PUBLISHED) == n
    np.testing.assert_array_equal(image, expected)


@both
@settings(max_examples=50)
@given(
    image=arrays(
        np.float32,
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
        elements=st.sampled_from([0, 1, 2, 50, 51, 200, 1000]).map(float),
    )
)
def test_whatever_the_image_only_outliers_change(method, image):
    before = image.copy()
    if image.size == 1:
        return
    remove_xrays(image, 60, 1, method)
    unchanged = before <= np.median(before) + 60
    np.testing.assert_array_equal(image[unchanged], before[unchanged])
    assert np.isfinite(image).all()


@pytest.mark.parametrize("shape", [(1024, 1024), (1023, 1025), (700, 1001)])
@pytest.mark.parametrize("kind", ["counts", "smooth", "skewed", "constant", "two levels", "sorted"])
def test_the_median_is_exact(shape, kind, rng):
    image = {
        "counts": lambda: rng.poisson(300, shape),
        "smooth": lambda: rng.normal(size=shape),
        "skewed": lambda: rng.exponential(size=shape) ** 3,
        "constant": lambda: np.full(shape, 7),
        "two levels": lambda: rng.random(shape) < 0.5,
        "sorted": lambda: np.arange(shape[0] * shape[1]).reshape(shape) ** 2 / 1e6,
    }[kind]().astype(np.float32)
    assert Median(image).value == np.median(image)


def test_the_median_is_exact_where_the_sample_misleads():
    image = np.zeros((1024, 1024), np.float32)
    image.ravel()[:: (image.size >> 17) | 1] = 1000  # all the pixels that are sampled
    assert Median(image).value == 0

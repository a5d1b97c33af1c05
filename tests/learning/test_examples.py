import numpy as np
import pytest

from temshift.learning.examples import make_example, make_thumbnails, pick_examples


def candidate(split, name, dice, side=8):
    image = np.full((side, side), dice, np.float32)
    mask = np.zeros((side, side), np.uint8)
    return make_example(split, name, dice, image, mask, mask.astype(bool))


def test_thumbnail_is_a_block_mean_stretched_to_grey():
    image = np.repeat(np.repeat(np.array([[0.0, 1.0], [2.0, 4.0]]), 4, 0), 4, 1)
    label = np.zeros((8, 8), np.uint8)
    label[:4, :4] = 1
    label[4, 4:6] = 1  # 2 of the 16 pixels of a block: less than half
    grey, small_label, small_prediction = make_thumbnails(
        image.astype(np.float32), label, label == 0, max_px=2
    )
    assert grey.dtype == small_label.dtype == small_prediction.dtype == np.uint8
    assert grey[0, 0] == 0
    assert grey[1, 1] == 255
    assert (np.diff(grey.ravel().astype(int)) > 0).all()
    assert small_label.tolist() == [[1, 0], [0, 0]]
    assert small_prediction.tolist() == [[0, 1], [1, 1]]


def test_thumbnail_of_an_odd_size_fits():
    image = np.random.default_rng(0).normal(size=(515, 514)).astype(np.float32)
    label = np.ones(image.shape, np.uint8)
    grey, small, _ = make_thumbnails(image, label, label, max_px=192)
    assert grey.shape == small.shape == (171, 171)
    assert small.all()


def test_constant_image_is_no_error():
    flat = np.ones((4, 4), np.float32)
    assert make_thumbnails(flat, flat, flat)[0].tolist() == np.zeros((4, 4)).tolist()


def test_best_median_and_worst_of_each_split():
    found = [candidate("a", f"m{i}", dice) for i, dice in enumerate([0.5, 0.9, 0.7, 0.1, 0.8])]
    found += [candidate("b", "only", 0.4)]
    found += [candidate("c", "x", 0.2), candidate("c", "y", 0.3)]
    picked = [(e.test_split, e.rank, e.micrograph_id) for e in pick_examples(found)]
    assert picked == [
        ("a", "best", "m1"),
        ("a", "median", "m2"),
        ("a", "worst", "m3"),
        ("b", "median", "only"),
        ("c", "best", "y"),
        ("c", "worst", "x"),
    ]


def test_equal_dice_are_told_apart_by_name():
    found = [candidate("a", name, 0.5) for name in ("z", "x", "y")]
    assert [e.micrograph_id for e in pick_examples(found)] == ["x", "y", "z"]
    assert pick_examples(found)[0].dice == pytest.approx(0.5)


def test_an_example_knows_how_long_its_pixels_are():
    image, mask = np.zeros((1024, 1024), np.float32), np.zeros((1024, 1024), np.uint8)
    example = make_example("a", "m", 0.5, image, mask, mask, 0.02)
    assert (example.image.shape, example.pixel_size_nm, example.shrunk) == ((512, 512), 0.02, 2)
    assert make_example("a", "m", 0.5, image[:512, :512], mask[:512, :512], mask).shrunk == 1

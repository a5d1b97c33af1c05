import numpy as np
import pytest

from temshift.microscopy.pictures import (
    LABEL,
    PREDICTION,
    contact_sheet,
    outcomes,
    outline,
    paint,
    stretch,
)


def test_hot_pixels_do_not_decide_the_contrast(rng):
    image = rng.normal(size=(64, 64))
    image[3, 4] = 1e6
    grey = stretch(image)
    assert grey[3, 4] == 255
    assert 40 < grey.std() < 90
    assert np.corrcoef(np.delete(image.ravel(), 196), np.delete(grey.ravel(), 196))[0, 1] > 0.98


def test_pixels_without_a_value_are_black_and_spoil_nothing(rng):
    image = rng.normal(size=(32, 32))
    spoilt = image.copy()
    spoilt[0] = np.nan
    grey = stretch(spoilt)
    assert (grey[0] == 0).all()
    assert np.array_equal(grey[1:], stretch(image[1:]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_constant_image_is_no_error(dtype):
    assert stretch(np.full((4, 4), 7, dtype)).max() == 0


def test_the_outline_of_a_square_and_of_a_full_mask():
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    assert outline(mask).sum() == 12
    assert not outline(mask)[3:5, 3:5].any()
    assert not outline(np.ones((4, 4), bool)).any(), "the edge of a picture is no border"


def test_labels_are_outlined_over_tinted_predictions():
    grey = np.full((8, 8), 100, np.uint8)
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    picture = paint(grey, label=mask, prediction=mask)
    assert picture[2, 2].tolist() == list(LABEL)
    assert picture[3, 3].tolist() == [int(60 + 0.4 * c) for c in PREDICTION]
    assert picture[0, 0].tolist() == [100, 100, 100]
    assert np.array_equal(paint(grey)[..., 0], grey)


def test_every_outcome_has_its_number():
    label, prediction = np.array([[0, 1, 1, 0]]), np.array([[0, 1, 0, 1]])
    assert outcomes(label, prediction).tolist() == [[0, 1, 2, 3]]


def test_pictures_of_other_sizes_fit_on_a_sheet():
    pictures = [
        np.full((h, w, 3), i, np.uint8) for i, (h, w) in enumerate([(4, 6), (8, 2), (3, 3)])
    ]
    sheet = contact_sheet(pictures, columns=2, gap_px=1)
    assert sheet.shape == (2 * 9, 2 * 7, 3)
    assert (sheet[9:12, :3] == 2).all()
    assert (sheet[4:9, :7] == 255).all()
    assert contact_sheet(pictures[:1], columns=6).shape == (4, 6, 3)

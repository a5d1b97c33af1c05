"""Pictures for Kedro-Viz keep their shape, and say in letters that can be read what they show."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from temshift.catalog.previews import PREVIEW_ASPECT, captioned, image_preview

FRAME = (457, 300)  # px, to which Kedro-Viz 12 stretches every picture


def shown(picture, caption=""):
    decoded = Image.open(io.BytesIO(base64.b64decode(image_preview(picture, caption))))
    return np.asarray(decoded.resize(FRAME))


@pytest.mark.parametrize("shape", [(300, 300), (100, 700), (600, 90)])
@pytest.mark.parametrize("caption", ["", "Au, 2.2 nm particles, 423 e/Å²"])
def test_a_square_is_a_square_in_the_frame(shape, caption):
    picture = np.zeros((*shape, 3), np.uint8)
    half = min(shape) // 3
    y, x = shape[0] // 2, shape[1] // 2
    picture[y - half : y + half, x - half : x + half, 0] = 255
    red = (shown(picture, caption) == [255, 0, 0]).all(axis=-1)
    rows, columns = (np.nonzero(red.any(axis=axis))[0] for axis in (1, 0))
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=2)


def test_the_caption_is_written_below_and_is_read_in_the_frame():
    grey = np.full((400, 500), 90, np.uint8)
    without, with_ = shown(grey), shown(grey, "best, Dice 0.95")
    assert (without.mean(axis=-1) < 60).sum() == 0
    ink = (with_.mean(axis=-1) < 80).any(axis=1)
    assert ink[: 300 * 8 // 10].sum() == 0
    assert 8 <= ink.sum() <= 24, "px high"


def test_a_long_caption_is_not_cut():
    short, long = (captioned(np.zeros((40, 40), np.uint8), "n" * k, 10) for k in (2, 60))
    assert short.shape[1] == 40 < long.shape[1]
    assert (long[:, [0, -1]] > 200).all(), "paper at both ends"


def test_the_letters_of_units_are_in_the_typeface():
    drawn = {c: captioned(np.zeros((8, 90), np.uint8), c, 40)[8:].tobytes() for c in "Å²×µ–\uffff"}
    assert len(set(drawn.values())) == len(drawn), "none is the box of a missing letter"
    assert np.isclose(PREVIEW_ASPECT, FRAME[0] / FRAME[1])

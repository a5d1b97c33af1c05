"""Which pixels of a mask are particles, and which masks are refused."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests import image_writers as w

from temshift.catalog.micrographs import MicrographReadError, MicrographStore

MASK = np.zeros((7, 9), np.uint8)
MASK[1:3, 2:7] = 1
RED, GREEN = (255, 0, 0), (0, 255, 0)
REMEDY = "curation.label_kind: instance"


def in_colour(colour, background=(0, 0, 0)):
    picture = np.empty((*MASK.shape, len(colour)), np.uint8)
    picture[:] = background
    picture[MASK == 1] = colour
    return picture


def png(pixels):
    return lambda p: Image.fromarray(np.asarray(pixels)).save(p)


def palette(colours, numbers=MASK, **options):
    def write(path):
        picture = Image.frombytes("P", numbers.shape[::-1], numbers.tobytes())
        picture.putpalette([c for colour in colours for c in colour])
        picture.save(path, **options)

    return write


def tiff(pixels, **options):
    return lambda p: tifffile.imwrite(p, pixels, **{"metadata": None, "software": "x", **options})


ALPHA = in_colour((0, 0, 0, 255), (0, 0, 0, 0))
RIGHT = {
    "0 and 1.png": png(MASK),
    "0 and 255.png": png(MASK * np.uint8(255)),
    "0 and 65535.png": png(MASK * np.uint16(65535)),
    "0 and 65535.tif": tiff(MASK * np.uint16(65535)),
    "bits.png": png(MASK.astype(bool)),
    "two bits.png": lambda p: w.write_png(p, MASK, 2),
    "four bits.png": lambda p: w.write_png(p, MASK, 4),
    "grey rgb.png": png(in_colour((255, 255, 255))),
    "red.png": png(in_colour(RED)),
    "dark red.png": png(in_colour((128, 0, 0))),
    "opaque red.png": png(in_colour((*RED, 255), (0, 0, 0, 255))),
    "red on nothing.png": png(in_colour((*RED, 255), (0, 0, 0, 0))),
    "white on nothing.png": png(in_colour((*RED, 255), (255, 255, 255, 0))),
    "alpha only.png": png(ALPHA),
    "grey and alpha.png": lambda p: w.write_png(p, np.dstack([MASK * 0, MASK * 255])),
    "red 16 bits.png": lambda p: w.write_png(p, in_colour(RED).astype(np.uint16) * 257),
    "palette 0 and 1.png": palette([(0, 0, 0), RED]),
    "palette black white.png": palette([(0, 0, 0), (255, 255, 255)]),
    "palette 0 and 255.png": palette([(i, i, i) for i in range(256)], MASK * np.uint8(255)),
    "palette transparent.png": palette([(9, 9, 9), RED], transparency=0),
    "palette.gif": palette([(0, 0, 0), RED]),
    "palette.bmp": palette([(0, 0, 0), RED]),
    "palette.tif": palette([(0, 0, 0), RED]),
    "red.tif": tiff(in_colour(RED), photometric="rgb"),
    "white is zero.tif": tiff((1 - MASK) * np.uint8(255), photometric="miniswhite"),
    "white is zero bits.tif": tiff(MASK == 0, photometric="miniswhite"),
    "truth by tifffile.tif": lambda p: tifffile.imwrite(p, MASK == 1),
    "white is zero by imagej.tif": tiff(
        MASK * np.uint8(255), photometric="miniswhite", description="ImageJ=1.54f\n"
    ),
    "float.tif": tiff(MASK.astype(np.float32)),
    "signed bytes.mrc": lambda p: w.write_mrc(p, (MASK * 255).astype(np.uint8)),
    "units do not matter.hspy": lambda p: w.write_hspy(p, MASK, 1e9, "1/nm"),
    "nothing.png": png(MASK * 0),
}


@pytest.mark.parametrize("name", RIGHT)
def test_masks_of_two_values(tmp_path, name):
    RIGHT[name](tmp_path / name)
    found = MicrographStore(tmp_path).read_label(name)
    np.testing.assert_array_equal(found, MASK * 0 if name == "nothing.png" else MASK)
    assert found.dtype == np.uint8


def two_particles(first, second):
    picture = in_colour(first)
    picture[5] = second
    return picture


NUMBERS = MASK.copy()
NUMBERS[5] = 2
REFUSED = {
    "0 and 128.png": png(MASK * np.uint8(128)),
    "0 and 2.png": png(MASK * np.uint8(2)),
    "1 and 255.png": png(MASK * np.uint8(254) + np.uint8(1)),
    "numbers.png": png(NUMBERS),
    "two colours.png": png(two_particles(RED, GREEN)),
    "no black.png": png(in_colour(RED, GREEN)),
    "two colours and alpha.png": png(
        np.dstack([two_particles(RED, GREEN), (NUMBERS > 0) * np.uint8(255)])
    ),
    "palette of three.png": palette([(0, 0, 0), RED, GREEN], NUMBERS),
    "palette white black.png": palette([(255, 255, 255), (0, 0, 0)]),
    "palette no black.png": palette([GREEN, RED]),
    "three values white is zero.tif": tiff(NUMBERS, photometric="miniswhite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_masks_that_are_no_two_values_name_the_remedy(tmp_path, name):
    REFUSED[name](tmp_path / name)
    with pytest.raises(MicrographReadError) as caught:
        MicrographStore(tmp_path).read_label(name)
    remedy = "set a threshold" if name == "1 and 255.png" else REMEDY
    assert remedy in caught.value.reason
    assert "a mask must" in caught.value.reason


def test_soft_edges_are_refused(tmp_path):
    picture = ALPHA.copy()
    picture[3, 3, 3] = 100
    Image.fromarray(picture).save(tmp_path / "m.png")
    with pytest.raises(MicrographReadError, match="half-transparent edges"):
        MicrographStore(tmp_path).read_label("m.png")


@pytest.mark.parametrize("kind", ["binary", "instance"])
def test_an_edge_that_fades_is_no_row_of_particles(tmp_path, kind):
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[..., 0] = 255
    picture[..., 3] = np.arange(64 * 64).reshape(64, 64) % 251
    Image.fromarray(picture).save(tmp_path / "m.png")
    with pytest.raises(MicrographReadError):
        MicrographStore(tmp_path).read_label("m.png", kind)


INSTANCES = {
    "numbers.png": png(NUMBERS),
    "colours.png": png(two_particles(RED, GREEN)),
    "palette.png": palette([(255, 255, 255), (0, 0, 0), RED], NUMBERS),
    "numbers.tif": tiff(NUMBERS.astype(np.uint16) * 1000),
    "white is zero.tif": tiff(NUMBERS, photometric="miniswhite"),
    "colours on nothing.png": png(
        np.dstack([two_particles(RED, GREEN), (NUMBERS > 0) * np.uint8(255)])
    ),
}


@pytest.mark.parametrize("name", INSTANCES)
def test_numbered_and_coloured_particles(tmp_path, name):
    INSTANCES[name](tmp_path / name)
    found = MicrographStore(tmp_path).read_label(name, "instance")
    np.testing.assert_array_equal(found, NUMBERS > 0)


def test_instances_that_are_no_numbers(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", np.array([[0, np.nan]], np.float32))
    with pytest.raises(MicrographReadError, match="NaN"):
        MicrographStore(tmp_path).read_label("m.tif", "instance")

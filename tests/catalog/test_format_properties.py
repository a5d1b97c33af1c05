"""Whatever is written comes back, or is refused: random images in every format with a writer."""

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests import image_writers as w
from tests.dm3_writer import write_dm3

from temshift.catalog.micrographs import MicrographReadError, MicrographStore
from temshift.microscopy.micrograph import pixel_sha256

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9)

#: Units, as users and programs write them: nm for one, ``None`` for no calibration.
UNITS = {
    "nm": 1.0,
    "nanometers": 1.0,
    "Å": 0.1,
    "pm": 1e-3,
    "µm": 1e3,
    "μm": 1e3,
    "nm/px": 1.0,
    "px": None,
    "": None,
    "inch": None,
}
REFUSED = ("1/nm", "eV", "furlong")


def write_tiff(path, image, size, unit):
    unit = "".join(c if ord(c) < 128 else f"\\u{ord(c):04X}" for c in unit)  # as ImageJ does
    tifffile.imwrite(
        path,
        image,
        description=f"ImageJ=1.54f\nunit={unit}\n",
        resolution=(1 / size, 1 / size),
        metadata=None,
    )


def write_openncem(path, image, size, unit):
    w.write_emd(path, image, (size, size), "yx", (unit, unit))


def write_hyperspy_emd(path, image, size, unit):
    from rsciio.emd import file_writer

    file_writer(str(path), w.signal_dict(image, size, unit))


def write_digital_micrograph(path, image, size, unit):
    write_dm3(path, image, size, unit=unit)


#: Extension: a writer that takes a unit, and the number types that the format has.
WITH_UNITS = {
    "tif": (write_tiff, ("uint8", "uint16", "int16", "float32")),
    "openncem.emd": (write_openncem, ("uint8", "uint16", "int32", "float32", "float64")),
    "hyperspy.emd": (write_hyperspy_emd, ("uint8", "uint16", "int32", "float32")),
    "hspy": (w.write_hspy, ("uint8", "uint16", "int32", "float32", "float64")),
    "dm3": (write_digital_micrograph, ("uint8", "uint16", "int16", "int32", "float32")),
}
quick = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def images(dtypes):
    def of(dtype):
        kind = np.dtype(dtype).kind
        elements = {"allow_nan": False, "allow_infinity": False} if kind == "f" else {}
        return hnp.arrays(dtype, SHAPES, elements=hnp.from_dtype(np.dtype(dtype), **elements))

    return st.sampled_from(dtypes).flatmap(of)


@pytest.mark.parametrize("extension", WITH_UNITS)
def test_values_and_calibration_come_back(tmp_path, extension):
    write, dtypes = WITH_UNITS[extension]
    store, path = MicrographStore(tmp_path), tmp_path / f"a.{extension}"

    @quick
    @given(
        image=images(dtypes),
        size=st.floats(1e-3, 1e2),
        unit=st.sampled_from([*UNITS, *REFUSED]),
    )
    def check(image, size, unit):
        path.unlink(missing_ok=True)
        write(path, image, size, unit)
        nm = UNITS.get(unit, "refused")
        refused = nm == "refused" or (nm is not None and not 1e-4 <= size * nm <= 1e3)
        if refused:
            with pytest.raises(MicrographReadError, match="pixel"):
                store.read(path.name)
            return
        found = store.read(path.name)
        np.testing.assert_array_equal(found.image, image)
        assert found.image.dtype == image.dtype
        right = None if nm is None else pytest.approx(size * nm, rel=1e-4)
        assert found.pixel_size_nm == right
        assert store.pixel_sha256(path.name) == pixel_sha256(image)

    check()


@pytest.mark.parametrize(
    ("extension", "write", "dtypes"),
    [
        ("mrc", w.write_mrc, ("int8", "int16", "uint16", "float32")),
        ("big.mrc", lambda *a: w.write_mrc(*a, order=">"), ("int8", "int16", "uint16", "float32")),
        ("ser", w.write_ser, ("uint8", "uint16", "int16", "int32", "float32", "float64")),
        ("ncempy.emd", w.write_emd_ncempy, ("uint8", "uint16", "float32")),
    ],
)
def test_values_and_pixel_size_in_the_unit_of_the_format(tmp_path, extension, write, dtypes):
    store, path = MicrographStore(tmp_path), tmp_path / f"a.{extension}"

    @quick
    @given(image=images(dtypes), size=st.one_of(st.none(), st.floats(1e-3, 9e2)))
    def check(image, size):
        path.unlink(missing_ok=True)
        if extension == "ser" and size is None:
            write(path, image)
        else:
            write(path, image, size)
        found = store.read(path.name)
        np.testing.assert_array_equal(found.image, image)
        assert found.image.dtype == image.dtype
        assert found.pixel_size_nm == (None if size is None else pytest.approx(size, rel=1e-5))

    check()


def test_png_of_every_kind(tmp_path):
    store, path = MicrographStore(tmp_path), tmp_path / "a.png"

    @quick
    @given(
        data=st.data(),
        channels=st.sampled_from([1, 2, 3, 4]),
        bits=st.sampled_from([1, 2, 4, 8, 16]),
        filters=st.sampled_from([0, 1, 4]),
    )
    def check(data, channels, bits, filters):
        bits = bits if channels == 1 else max(8, bits)
        height, width = data.draw(SHAPES)
        shape = (height, width) if channels == 1 else (height, width, channels)
        dtype = np.uint16 if bits == 16 else np.uint8
        pixels = data.draw(hnp.arrays(dtype, shape, elements=st.integers(0, 2**bits - 1)))
        w.write_png(path, pixels, bits, filters)
        found = store.read("a.png")
        assert found.pixel_size_nm is None
        if channels < 3:
            np.testing.assert_array_equal(found.image, pixels if channels == 1 else pixels[..., 0])
        else:
            grey = pixels[..., :3] @ np.array([0.2125, 0.7154, 0.0721])
            np.testing.assert_allclose(found.image, grey, rtol=1e-4, atol=1e-2)

    check()


@given(image=images(("uint8", "uint16", "int32", "float32")))
@settings(deadline=None, max_examples=30, derandomize=True)
def test_hash_of_pixels_is_of_values_and_shape(image):
    right = pixel_sha256(image)
    assert pixel_sha256(image.astype(np.float64)) == right
    assert pixel_sha256(np.asfortranarray(image)) == right
    assert pixel_sha256(image.astype(image.dtype.newbyteorder(">"))) == right
    changed = image.copy()
    changed.flat[0] = 0 if changed.flat[0] else 1
    assert pixel_sha256(changed) != right
    if image.shape[0] != image.shape[1]:
        assert pixel_sha256(image.reshape(image.shape[::-1])) != right

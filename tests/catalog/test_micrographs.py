"""Reading and writing micrographs: every format, every refusal, every kind of mask."""

import base64
import io
import pickle
import shutil
import signal
import struct
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
from kedro.io import DatasetError
from kedro_datasets._typing import ImagePreview
from PIL import Image
from tests.dm3_writer import IMAGE_TYPES, write_dm3
from tests.real_data import SHARED

from temshift.catalog.micrographs import (
    MicrographReadError,
    MicrographsDataset,
    MicrographStore,
    label_path_beside,
)
from temshift.catalog.previews import PREVIEW_ASPECT
from temshift.microscopy.micrograph import Micrograph

REAL = SHARED / "real" / "dm"
TAGS = {
    "exposure_s": 0.5,
    "camera": "K2",
    "date": "8/26/2021",
    "energy_eV": 300e3,
    "magnification": 330e3,
    "microscope": "TEAM I",
    "illumination": "TEM",
}


@pytest.fixture
def store(tmp_path):
    return MicrographStore(tmp_path)


@pytest.fixture
def image(rng):
    return rng.integers(0, 4000, (40, 56)).astype(np.uint16)


# --------------------------------------------------------------------------- Digital Micrograph
@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("dtype", [d for d in IMAGE_TYPES if d != "complex64"])
def test_digital_micrograph_of_every_type(store, rng, dtype, version):
    image = (rng.random((33, 48)) * 100).astype(dtype)
    write_dm3(store.folder / f"a.dm{version}", image, 0.0205, version=version, **TAGS)
    micrograph = store.read(f"a.dm{version}")
    np.testing.assert_array_equal(micrograph.image, image)
    assert micrograph.image.dtype == image.dtype
    assert micrograph.pixel_size_nm == pytest.approx(0.0205, rel=1e-6)
    assert micrograph.pixel_size_source == "header"
    header = store.read_header(f"a.dm{version}")
    assert header.shape == (33, 48)
    assert header.pixel_size_nm == micrograph.pixel_size_nm
    assert header.metadata == micrograph.metadata


def test_what_the_header_knows(store, image):
    write_dm3(store.folder / "a.dm3", image, 0.02, **TAGS)
    assert store.read("a.dm3").metadata == {
        "energy_eV": 300e3,
        "exposure_s": 0.5,
        "magnification": 330e3,
        "camera": "K2",
        "instrument": "TEAM I",
        "date": "8/26/2021",
    }


def test_units_become_nm_and_no_unit_is_unknown(store, image):
    write_dm3(store.folder / "um.dm3", image, 2.5e-5, unit="µm")
    write_dm3(store.folder / "angstrom.dm3", image, 0.25, unit="Å")
    write_dm3(store.folder / "none.dm3", image)
    for name in ("um.dm3", "angstrom.dm3"):
        assert store.read(name).pixel_size_nm == pytest.approx(0.025)
    none = store.read("none.dm3")
    assert none.pixel_size_nm is None
    assert none.pixel_size_source == "unknown"


def _stack(folder):
    write_dm3(folder / "bad.dm3", np.zeros((3, 8, 8), np.int16), 0.02)


def _line(folder):
    write_dm3(folder / "bad.dm3", np.zeros(8, np.int16), 0.02)


def _fourier(folder):
    write_dm3(folder / "bad.dm3", np.zeros((8, 8), np.complex64), 0.02)


def _diffraction(folder):
    write_dm3(folder / "bad.dm3", np.eye(8, dtype=np.int32), 0.17, unit="1/nm")


def _other_unit(folder):
    write_dm3(folder / "bad.dm3", np.eye(8, dtype=np.int32), 0.17, unit="eV")


def _not_square(folder):
    write_dm3(folder / "bad.dm3", np.eye(8, dtype=np.int32), (0.02, 0.03))


def _implausible(folder):
    write_dm3(folder / "bad.dm3", np.eye(8, dtype=np.int32), 1e-30)


def _not_a_number(folder):
    write_dm3(folder / "bad.dm3", np.eye(8, dtype=np.int32), float("nan"))


def _truncated(folder):
    path = write_dm3(folder / "bad.dm3", np.eye(64, dtype=np.int32), 0.02)
    path.write_bytes(path.read_bytes()[:9000])


def _big_endian(folder):
    path = write_dm3(folder / "bad.dm3", np.eye(8, dtype=np.int32), 0.02)
    data = bytearray(path.read_bytes())
    data[8:12] = bytes(4)
    path.write_bytes(data)


def _no_dm(folder):
    (folder / "bad.dm3").write_bytes(b"<html>404: not found, but served as if it were</html>")


def _empty(folder):
    (folder / "bad.dm3").write_bytes(b"")


def _folder(folder):
    (folder / "bad.dm3").mkdir()


def _missing(folder):
    pass


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (_stack, "a stack of 8 × 8 × 3"),
        (_line, "a line of 8 values"),
        (_fourier, "complex numbers (a Fourier transform)"),
        (_diffraction, "calibrated in '1/nm': it is a diffraction pattern"),
        (_other_unit, "calibrated in 'eV', which is no length"),
        (_not_square, "not square: 0.02 × 0.03 nm"),
        (_implausible, "outside of 0.0001 … 1000 nm"),
        (_not_a_number, "nan"),
        (_truncated, "truncated: it has 9000 of"),
        (_big_endian, "big-endian"),
        (_no_dm, "no DM3 or DM4 file"),
        (_empty, "empty"),
        (_folder, "a folder"),
        (_missing, "no such file"),
    ],
)
def test_what_is_refused_and_why(store, write, reason):
    write(store.folder)
    for read in (store.read, store.read_header):
        with pytest.raises(MicrographReadError) as caught:
            read("bad.dm3")
        assert reason in caught.value.reason
        assert str(store.folder / "bad.dm3") in str(caught.value)


def test_error_survives_another_process():
    error = pickle.loads(pickle.dumps(MicrographReadError("a.dm3", "it is damaged")))
    assert (error.path, error.reason) == ("a.dm3", "it is damaged")


#: What the real files are: shape and pixel size (nm), or a word of the reason for refusal.
EXPECTED_REAL = {
    "multi_signal.dm3": ((512, 512), 0.0177516),  # an image and a line profile
    "test-1.dm3": ((2, 2), None),
    "test-2.dm3": ((2, 2), None),
    "test-10.dm3": ((2, 2), None),
    "test_STEM_image.dm3": ((68, 68), 0.248538),
    "test-13.dm3": "complex",
    "test-13.dm4": "complex",
    "test-28.dm4": "complex",
    "test_fft_packed_complex8.dm4": "complex",
    "test_diffraction_pattern.dm3": "1/nm",
    "test_stackbuilder_imagestack.dm3": "stack",
}


@pytest.mark.skipif(not REAL.exists(), reason="real files are not here")
def test_real_files():
    store = MicrographStore(REAL)
    assert set(store.paths()) == set(EXPECTED_REAL)
    for name, expected in EXPECTED_REAL.items():
        if isinstance(expected, str):
            with pytest.raises(MicrographReadError, match=expected):
                store.read(name)
            continue
        micrograph = store.read(name)
        assert micrograph.image.shape == expected[0], name
        if expected[1] is None:
            assert micrograph.pixel_size_nm is None, name
        else:
            assert micrograph.pixel_size_nm == pytest.approx(expected[1], rel=1e-5), name


# --------------------------------------------------------------------------- damaged files
@contextmanager
def at_most(seconds):
    """Interrupt what takes longer, instead of waiting for it for ever."""

    def stop(*_):
        raise TimeoutError(f"reading took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def damaged_copies(data, pixels, rng, n):
    """Yield ``n`` damaged copies of a file; ``pixels`` is the range of its image's bytes."""
    header = np.r_[0 : pixels[0], pixels[1] : len(data)]
    for i in range(n):
        copy = bytearray(data)
        kind = i % 4
        if kind == 0:  # truncated, often in the tags
            end = rng.integers(0, len(data)) if i % 8 else header[rng.integers(0, len(header))]
            yield copy[:end]
            continue
        if kind == 1:  # one bit of the tags
            copy[rng.choice(header)] ^= 1 << rng.integers(0, 8)
        elif kind == 2:  # a few bits anywhere
            for _ in range(8):
                where = rng.integers(0, len(data)) if rng.random() < 0.3 else rng.choice(header)
                copy[where] ^= 1 << rng.integers(0, 8)
        else:  # a run of wrong bytes in the tags; often the largest numbers
            start, length = rng.choice(header), rng.integers(1, 17)
            wrong = b"\x7f" + b"\xff" * 15 if rng.random() < 0.5 else rng.bytes(16)
            copy[start : start + length] = wrong[:length]
        yield copy


@pytest.mark.parametrize("version", [3, 4])
def test_damaged_files_are_read_rightly_or_refused(tmp_path, version):
    """At least 300 damaged files: no hang, no memory beyond 3 × the image, no silent change."""
    rng = np.random.default_rng(version)
    image = rng.integers(0, 4000, (384, 512)).astype(np.uint16)
    path = write_dm3(tmp_path / f"a.dm{version}", image, 0.02, version=version, **TAGS)
    store, data = MicrographStore(tmp_path), path.read_bytes()
    begin = data.index(image.tobytes())
    pixels = (begin, begin + image.nbytes)
    right = store.read(path.name)
    outcomes = {"read": 0, "refused": 0}
    for number, copy in enumerate(damaged_copies(data, pixels, rng, 220)):
        path.write_bytes(copy)
        found = None
        tracemalloc.start()
        try:
            with at_most(seconds=10):
                found = store.read(path.name)
        except MicrographReadError:
            outcomes["refused"] += 1
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak <= 3 * image.nbytes, (number, peak)
        if found is not None:
            outcomes["read"] += 1
            assert found.pixel_size_nm == right.pixel_size_nm, number
            assert found.image.dtype == image.dtype, number
            stored = np.frombuffer(bytes(copy[slice(*pixels)]), np.uint16).reshape(image.shape)
            np.testing.assert_array_equal(found.image, stored, err_msg=str(number))
    assert outcomes["refused"] > 100
    assert outcomes["read"] > 20


def test_a_file_that_claims_to_hold_more_than_it_has_is_not_believed(tmp_path):
    """The numbers of tags, elements and characters, each set to the largest possible."""
    image = np.zeros((64, 64), np.uint16)
    path = write_dm3(tmp_path / "a.dm3", image, 0.02, **TAGS)
    store, data = MicrographStore(tmp_path), path.read_bytes()
    counts = [
        i for i in range(12, len(data) - 3) if struct.unpack_from(">i", data, i)[0] in (2, 3, 4)
    ]
    assert len(counts) > 50
    for i in counts:
        path.write_bytes(data[:i] + b"\x7f\xff\xff\xff" + data[i + 4 :])
        with at_most(seconds=10):
            try:
                found = store.read("a.dm3")
            except MicrographReadError:
                continue
        assert found.image.shape == image.shape
        assert found.pixel_size_nm == pytest.approx(0.02)


def test_every_bit_of_the_calibration(tmp_path):
    """No single changed bit of a scale or unit is believed."""
    path = write_dm3(tmp_path / "a.dm3", np.eye(16, dtype=np.int16), 0.02)
    store, data = MicrographStore(tmp_path), path.read_bytes()
    scale, unit = struct.pack("<f", 0.02), "nm".encode("utf-16-le")
    places = [data.index(scale), data.rindex(scale), data.index(unit), data.rindex(unit)]
    assert len(set(places)) == 4
    for place in places:
        for bit in range(32):
            if place in places[:2] and bit < 14:
                continue  # the last bits of a mantissa: up to 0.1 %, within what counts as square
            copy = bytearray(data)
            copy[place + bit // 8] ^= 1 << bit % 8
            path.write_bytes(copy)
            try:
                found = store.read("a.dm3").pixel_size_nm
            except MicrographReadError:
                continue
            # a sign does not matter, "Nm" and "nM" are understood; the last bits of a mantissa
            # change one side by less than what counts as square
            assert found == pytest.approx(0.02, rel=0.005), (place, bit)


# --------------------------------------------------------------------------- other formats
def _write_tiff(path, image, pixel_size_nm):
    import tifffile

    tifffile.imwrite(
        path,
        image,
        imagej=True,
        resolution=(1 / pixel_size_nm, 1 / pixel_size_nm),
        metadata={"unit": "nm"},
    )


def _write_mrc(path, image, pixel_size_nm):
    """MRC2014: 1024 bytes of header; the cell is in Å."""
    height, width = image.shape
    header = bytearray(1024)
    struct.pack_into("<10i", header, 0, width, height, 1, 6, 0, 0, 0, width, height, 1)
    side = 10 * pixel_size_nm
    struct.pack_into("<6f", header, 40, width * side, height * side, side, 90, 90, 90)
    struct.pack_into("<3i", header, 64, 1, 2, 3)
    header[208:216] = b"MAP \x44\x44\0\0"
    path.write_bytes(bytes(header) + image.astype("<u2").tobytes())


def _write_emd(path, image, pixel_size_nm):
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group["data"] = image.T  # x comes first in such files
        for i, n in enumerate(image.T.shape):
            axis = group.create_dataset(f"dim{i + 1}", data=np.arange(n) * pixel_size_nm)
            axis.attrs["name"], axis.attrs["units"] = "xy"[i], "nm"


def _write_ser(path, image, pixel_size_nm):
    """TIA series of one image: calibration in m."""
    height, width = image.shape
    head = struct.pack("<HHHIIIII", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, 1, 1, 62)
    head += struct.pack("<I", 1)  # one dimension of the series
    head += struct.pack("<IddIII", 1, 0.0, 1.0, 0, 0, 0)
    offset = len(head) + 8
    tags = offset + 50 + image.nbytes
    head = head[:22] + struct.pack("<I", len(head)) + head[26:]
    side = pixel_size_nm * 1e-9
    axis = struct.pack("<ddI", 0.0, side, 0)
    element = axis + axis + struct.pack("<HII", 2, width, height) + image.astype("<u2").tobytes()
    path.write_bytes(
        head
        + struct.pack("<II", offset, tags)
        + element
        + struct.pack("<HHI", 0x4152, 0, 1_600_000_000)
    )


WRITERS = {"tif": _write_tiff, "mrc": _write_mrc, "emd": _write_emd, "ser": _write_ser}


@pytest.mark.parametrize("extension", WRITERS)
def test_other_formats(store, image, extension):
    WRITERS[extension](store.folder / f"a.{extension}", image, 0.025)
    micrograph = store.read(f"a.{extension}")
    # TIA counts rows from below
    np.testing.assert_array_equal(micrograph.image, image[::-1] if extension == "ser" else image)
    assert micrograph.pixel_size_nm == pytest.approx(0.025, rel=1e-4)
    assert store.read_header(f"a.{extension}").shape == image.shape


@pytest.mark.parametrize("extension", [*WRITERS, "hspy", "png"])
def test_damaged_files_of_other_formats(store, image, rng, extension):
    path = store.folder / f"a.{extension}"
    if extension == "png":
        Image.fromarray(image.astype(np.uint8)).save(path)
    elif extension == "hspy":
        MicrographsDataset(str(store.folder)).save([("a.hspy", Micrograph(image, 0.02), None)])
    else:
        WRITERS[extension](path, image, 0.025)
    data = path.read_bytes()
    refused = 0
    for copy in damaged_copies(data, (len(data) // 3, len(data)), rng, 24):
        path.unlink()
        path.write_bytes(copy)
        with at_most(seconds=10):
            try:
                found = store.read(path.name)
            except MicrographReadError:
                refused += 1
            else:
                assert found.image.size <= 100 * image.size
    assert refused > 0


def test_plain_tiff_has_no_pixel_size_whatever_its_dpi(store, image):
    import tifffile

    tifffile.imwrite(store.folder / "a.tif", image, resolution=(72, 72), resolutionunit="INCH")
    micrograph = store.read("a.tif")
    np.testing.assert_array_equal(micrograph.image, image)
    assert micrograph.pixel_size_nm is None


def test_tiff_stack_is_refused(store):
    import tifffile

    tifffile.imwrite(
        store.folder / "a.tif", np.zeros((3, 8, 8), np.uint8), photometric="minisblack"
    )
    with pytest.raises(MicrographReadError, match="stack"):
        store.read("a.tif")


def test_colour_pictures_become_their_luminance(store, rng):
    colour = rng.integers(0, 256, (12, 9, 3)).astype(np.uint8)
    Image.fromarray(colour).save(store.folder / "rgb.png")
    opaque = np.dstack([colour, np.full((12, 9), 255, np.uint8)])
    Image.fromarray(opaque, "RGBA").save(store.folder / "rgba.png")
    expected = 0.2125 * colour[..., 0] + 0.7154 * colour[..., 1] + 0.0721 * colour[..., 2]
    for name in ("rgb.png", "rgba.png"):
        found = store.read(name)
        np.testing.assert_allclose(found.image, expected, rtol=1e-5)
        assert found.image.dtype == np.float32
        assert found.pixel_size_nm is None
    assert store.read_header("rgb.png").shape == (12, 9)


def test_grey_pictures_keep_their_numbers(store, image):
    Image.fromarray(image).save(store.folder / "deep.png")
    Image.fromarray((image // 16).astype(np.uint8)).convert("P").save(store.folder / "palette.png")
    Image.fromarray((image // 16).astype(np.uint8)).save(store.folder / "a.jpg", quality=100)
    np.testing.assert_array_equal(store.read("deep.png").image, image)
    np.testing.assert_allclose(store.read("palette.png").image, image // 16, atol=0.01)
    assert np.abs(store.read("a.jpg").image.astype(int) - image // 16).mean() < 2


def test_unknown_format_names_those_that_can_be_read(store):
    (store.folder / "a.docx").write_bytes(b"PK")
    with pytest.raises(MicrographReadError, match=r"'\.docx' cannot be read.*\.dm3.*\.png"):
        store.read("a.docx")


# --------------------------------------------------------------------------- masks
@pytest.mark.parametrize("top", [1, 255])
def test_binary_masks(store, top):
    mask = np.eye(7, 9, dtype=np.uint8)
    Image.fromarray(mask * np.uint8(top)).save(store.folder / "m.png")
    found = store.read_label("m.png")
    np.testing.assert_array_equal(found, mask)
    assert found.dtype == np.uint8


def test_masks_in_other_forms(store):
    import tifffile

    mask = np.eye(7, 9, dtype=np.uint8)
    Image.fromarray(mask.astype(bool)).save(store.folder / "bits.png")
    Image.fromarray(np.dstack([mask * np.uint8(255)] * 3)).save(store.folder / "grey_rgb.png")
    tifffile.imwrite(store.folder / "m.tif", (mask * 255).astype(np.float32))
    for name in ("bits.png", "grey_rgb.png", "m.tif"):
        np.testing.assert_array_equal(store.read_label(name), mask)


def test_instance_masks(store):
    numbers = np.kron(np.arange(63, dtype=np.uint16).reshape(7, 9) * 1000, np.ones((4, 4), "u2"))
    Image.fromarray(numbers).save(store.folder / "m.png")
    np.testing.assert_array_equal(store.read_label("m.png", "instance"), numbers > 0)
    with pytest.raises(MicrographReadError) as caught:
        store.read_label("m.png")
    assert "found 63 values (0, 1000, 2000" in caught.value.reason
    assert "curation.label_kind: instance" in caught.value.reason


def test_grey_levels_are_no_instances_and_nobody_says_that_they_might_be(store):
    Image.fromarray(np.arange(64 * 64).reshape(64, 64).astype(np.uint8)).save(
        store.folder / "m.png"
    )
    for kind in ("binary", "instance"):
        with pytest.raises(MicrographReadError) as caught:
            store.read_label("m.png", kind)
        assert "label_kind" not in caught.value.reason


def test_an_unused_colour_of_a_grey_palette_makes_no_colour_picture(store):
    picture = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8), "P")
    picture.putpalette([n for n in range(255) for _ in range(3)] + [255, 0, 0])
    picture.save(store.folder / "grey.png")
    assert not store.read("grey.png").conversion


def test_palette_mask_numbers_are_instances(store):
    numbers = np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3), np.ones((4, 4), np.uint8))
    picture = Image.fromarray(numbers, "P")
    picture.putpalette([0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    picture.save(store.folder / "m.png")
    np.testing.assert_array_equal(store.read_label("m.png", "instance"), numbers > 0)


@pytest.mark.parametrize("values", [(0, 128), (1, 255), (0, 1, 255), (0, 2)])
def test_mask_with_other_values_is_refused(store, values):
    Image.fromarray(np.array([values], np.uint8)).save(store.folder / "m.png")
    with pytest.raises(MicrographReadError, match=r"must hold \{0, 1\} or \{0, 255\} only, found"):
        store.read_label("m.png")


# --------------------------------------------------------------------------- saving
def test_saved_micrographs_are_read_back(tmp_path, image):
    dataset = MicrographsDataset(str(tmp_path / "out"))
    assert not dataset.exists()
    metadata = {
        "energy_eV": 300e3,
        "dose_e_per_A2": 423.0,
        "camera": "simulated",
        "session": "2024-01-15",
        "material": "Au",
    }
    mask = (image > 2000).astype(np.uint8)
    made = Micrograph(image, 0.02, "header", metadata)
    dataset.save([("x/a.hspy", made, mask), ("b.hspy", Micrograph(image), None)])
    store = dataset.load()
    assert dataset.exists()
    assert store.paths() == ["b.hspy", "x/a.hspy", "x/a_label.png"]
    assert label_path_beside("x/a.hspy") == "x/a_label.png"
    read = store.read("x/a.hspy")
    np.testing.assert_array_equal(read.image, image)
    assert read.image.dtype == image.dtype
    assert (read.pixel_size_nm, read.pixel_size_source) == (0.02, "header")
    assert read.metadata == metadata
    np.testing.assert_array_equal(store.read_label("x/a_label.png"), mask)
    with Image.open(tmp_path / "out/x/a_label.png") as saved:
        assert set(np.unique(np.asarray(saved))) == {0, 255}
    assert store.read("b.hspy").pixel_size_nm is None
    assert store.read_header("b.hspy").shape == image.shape


def test_hyperspy_reads_what_is_saved(tmp_path, image):
    hs = pytest.importorskip("hyperspy.api")
    dataset = MicrographsDataset(str(tmp_path))
    dataset.save([("a.hspy", Micrograph(image, 0.02, "header", {"energy_eV": 300e3}), None)])
    for loaded in (hs.load(tmp_path / "a.hspy"), dataset.load().signal("a.hspy")):
        np.testing.assert_array_equal(loaded.data, image)
        assert [(a.name, a.scale, a.units) for a in loaded.axes_manager.signal_axes] == [
            ("x", 0.02, "nm"),
            ("y", 0.02, "nm"),
        ]
        assert loaded.metadata.temshift.energy_eV == 300e3
    assert hs.load(tmp_path / "a.hspy").metadata.Acquisition_instrument.TEM.beam_energy == 300


def test_same_input_gives_the_same_bytes(tmp_path, image):
    for folder in ("one", "two"):
        MicrographsDataset(str(tmp_path / folder)).save(
            [("a.hspy", Micrograph(image, 0.02), (image > 9).astype(np.uint8))]
        )
    one, two = (MicrographStore(tmp_path / folder) for folder in ("one", "two"))
    for name in ("a.hspy", "a_label.png"):
        assert one.sha256(name) == two.sha256(name)


def test_a_failure_leaves_the_earlier_files_whole(tmp_path, image):
    dataset = MicrographsDataset(str(tmp_path))
    dataset.save([("a.hspy", Micrograph(image, 0.02), None)])
    before = dataset.load().sha256("a.hspy")
    unwritable = Micrograph(image, 0.02, "header", {"energy_eV": object()})
    with pytest.raises(DatasetError):
        dataset.save(iter([("a.hspy", unwritable, None)]))
    assert dataset.load().sha256("a.hspy") == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.hspy"]


@pytest.mark.parametrize("path", ["../a.hspy", "/tmp/a.hspy", "a.dm3"])
def test_saving_stays_in_the_folder(tmp_path, image, path):
    with pytest.raises(DatasetError, match=r"must be a \.hspy file below"):
        MicrographsDataset(str(tmp_path / "x")).save([(path, Micrograph(image), None)])


def test_mask_of_another_shape_is_not_saved(tmp_path, image):
    with pytest.raises(DatasetError, match="have the shape of the image"):
        MicrographsDataset(str(tmp_path)).save(
            [("a.hspy", Micrograph(image), np.zeros((2, 2), np.uint8))]
        )


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(DatasetError, match="nowhere: there is no such folder"):
        MicrographsDataset(str(tmp_path / "nowhere")).load()


# --------------------------------------------------------------------------- looking at it
def test_preview_and_representation(tmp_path, image):
    dataset = MicrographsDataset(str(tmp_path))
    with pytest.raises(DatasetError, match="no micrograph"):
        dataset.preview()
    (tmp_path / "notes.txt").write_text("not a picture")
    dataset.save([("a.hspy", Micrograph(image, 0.02), None)])
    picture = Image.open(io.BytesIO(base64.b64decode(dataset.preview())))
    assert np.isclose(picture.width / picture.height, PREVIEW_ASPECT, atol=0.03)
    assert MicrographsDataset.preview.__annotations__["return"] is ImagePreview
    assert "2 files" in repr(dataset.load())
    again = pickle.loads(pickle.dumps(dataset.load()))
    np.testing.assert_array_equal(again.read("a.hspy").image, image)


def test_store_says_what_exists(store, image):
    Image.fromarray(image).save(store.folder / "a.png")
    assert store.exists("a.png")
    assert not store.exists("b.png")
    assert not store.exists("")
    shutil.copy(store.folder / "a.png", store.folder / "b.png")
    assert store.sha256("a.png") == store.sha256("b.png")
    with pytest.raises(MicrographReadError, match="no such file"):
        store.sha256("c.png")


def test_a_link_that_leads_nowhere_is_there_and_says_what_is_wrong(tmp_path):
    """A study said "no file"; that the link is to be mended only a deployment did."""
    store = MicrographStore(tmp_path)
    (tmp_path / "a.tif").symlink_to(tmp_path / "gone.tif")
    assert store.exists("a.tif")
    assert not store.exists("b.tif")
    assert not store.exists("")
    with pytest.raises(MicrographReadError, match=r"this is a link to .*gone\.tif"):
        store.read("a.tif")

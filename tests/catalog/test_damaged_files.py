"""Damaged and hostile files of every format but Digital Micrograph's (see test_micrographs).

Each is read as what its bytes say, or refused: no other exception, no hang, no memory beyond what
the image needs, and a claim of size costs nothing.
"""

import struct
import time
import tracemalloc
import zlib
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image
from tests import image_writers as w
from tests.catalog.test_micrographs import at_most, damaged_copies

from temshift.catalog.micrographs import MicrographReadError, MicrographStore

IMAGE = np.random.default_rng(0).integers(0, 4000, (96, 128)).astype(np.uint16)
BYTES = (IMAGE // 16).astype(np.uint8)


def write_lzw(path):
    tifffile.imwrite(path, IMAGE, compression="lzw")


def write_imagej(path):
    tifffile.imwrite(path, IMAGE, imagej=True, resolution=(50, 50), metadata={"unit": "nm"})


#: Name: a writer, and where its pixels lie as shares of the file.
FILES = {
    "a.tif": (write_imagej, (0.05, 1.0)),
    "lzw.tif": (write_lzw, (0.2, 1.0)),
    "a.mrc": (lambda p: w.write_mrc(p, IMAGE, 0.02), (0.04, 1.0)),
    "a.ser": (lambda p: w.write_ser(p, IMAGE, 0.02), (0.01, 0.99)),
    "openncem.emd": (lambda p: w.write_emd_openncem(p, IMAGE, 0.02), (0.3, 0.9)),
    "velox.emd": (lambda p: w.write_velox(p, IMAGE), (0.3, 0.9)),
    "a.hspy": (lambda p: w.write_hspy(p, IMAGE, 0.02), (0.5, 0.9)),
    "a.png": (lambda p: w.write_png(p, BYTES), (0.2, 0.9)),
    "deep.png": (lambda p: w.write_png(p, np.dstack([IMAGE] * 3)), (0.2, 0.9)),
    "a.jpg": (lambda p: Image.fromarray(BYTES).save(p), (0.2, 0.9)),
    "a.bmp": (lambda p: Image.fromarray(BYTES).save(p), (0.1, 0.9)),
    "a.gif": (lambda p: Image.fromarray(BYTES).save(p), (0.1, 0.9)),
    "a.npy": (lambda p: np.save(p, IMAGE), (0.05, 1.0)),
    "a.zspy": (lambda p: w.write_zspy(p, IMAGE, 0.02), (0.3, 0.7)),
}

#: Bytes that a reader may take beyond 3 times the image: its own objects, modules it imports.
SLACK = 4 << 20


@contextmanager
def little(n_bytes):
    """Fail if more memory is taken, or more than ten seconds pass."""
    start = time.monotonic()
    tracemalloc.start()
    try:
        with at_most(seconds=10):
            yield
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= 3 * n_bytes + SLACK, peak
    assert time.monotonic() - start < 10


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_read_or_refused(tmp_path, name):
    """14 formats × 20 files."""
    write, (begin, end) = FILES[name]
    store, path = MicrographStore(tmp_path), tmp_path / name
    write(path)
    data, right = path.read_bytes(), store.read(name)
    rng = np.random.default_rng(len(name))
    pixels = (int(begin * len(data)), int(end * len(data)))
    refused = 0
    for copy in damaged_copies(data, pixels, rng, 20):
        path.unlink()
        path.write_bytes(copy)
        with little(4 * right.image.nbytes):
            try:
                found = store.read(name)
            except MicrographReadError:
                refused += 1
                continue
        assert found.image.size <= 4 * right.image.size
    assert refused >= 4


@pytest.mark.parametrize("name", FILES)
def test_what_is_cut_short_is_said_to_be_truncated(tmp_path, name):
    write, _ = FILES[name]
    store, path = MicrographStore(tmp_path), tmp_path / name
    write(path)
    data = path.read_bytes()
    for share in (0.4, 0.7, 0.95):
        path.unlink()
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(MicrographReadError) as caught:
            store.read(name)
        assert "it is truncated" in caught.value.reason, (share, caught.value.reason)


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: int(0.7 * len(data))])


def write_webp(path):
    Image.fromarray(BYTES).save(path, lossless=True)


def write_semper(path):
    from rsciio.semper import file_writer

    file_writer(str(path), w.signal_dict(IMAGE.astype(np.float32), 0.02))


def write_nexus(path):
    from rsciio.nexus import file_writer

    file_writer(str(path), w.signal_dict(IMAGE, 0.02))


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.webp", write_webp), ("a.unf", write_semper), ("a.nxs", write_nexus)],
)
def test_what_else_is_cut_short_is_said_to_be_truncated(tmp_path, name, write):
    write(tmp_path / name)
    MicrographStore(tmp_path).read(name)
    cut(tmp_path / name)
    with pytest.raises(MicrographReadError, match="it is truncated"):
        MicrographStore(tmp_path).read(name)


def test_pixels_in_another_file_that_is_cut_short(tmp_path):
    from rsciio.ripple import file_writer

    file_writer(str(tmp_path / "a.rpl"), w.signal_dict(IMAGE, 0.02))
    (tmp_path / "b.emi").write_bytes(b"..<ObjectInfo><Uuid>x</Uuid></ObjectInfo>..")
    w.write_ser(tmp_path / "b_1.ser", IMAGE, 0.02)
    for pixels, name in (("a.raw", "a.rpl"), ("b_1.ser", "b.emi")):
        cut(tmp_path / pixels)
        with pytest.raises(MicrographReadError, match="it is truncated"):
            MicrographStore(tmp_path).read(name)


def claims_of_mrc(path):
    w.write_mrc(path, IMAGE, 0.02)
    data = bytearray(path.read_bytes())
    struct.pack_into("<2i", data, 0, 30_000, 30_000)
    path.write_bytes(data)


def claims_of_ser(path):
    w.write_ser(path, IMAGE, 0.02)
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<HII", 2, 128, 96))
    struct.pack_into("<II", data, at + 2, 30_000, 30_000)
    path.write_bytes(data)


def elements_of_ser(path):
    w.write_ser(path, IMAGE, 0.02)
    data = bytearray(path.read_bytes())
    struct.pack_into("<II", data, 14, 2**31, 2**31)
    path.write_bytes(data)


def claims_of_tiff(path, compression=None):
    tifffile.imwrite(path, IMAGE, compression=compression, metadata=None)
    data = bytearray(path.read_bytes())
    for tag, value in ((256, 30_000), (257, 30_000), (278, 30_000)):
        for at in range(0, len(data) - 12):
            if struct.unpack_from("<H", data, at)[0] == tag and data[at + 4] == 1:
                struct.pack_into("<HI", data, at + 2, 4, 1)
                struct.pack_into("<I", data, at + 8, value)
                break
    path.write_bytes(data)


def claims_of_hdf5(path, chunks=(500, 500)):
    w.write_hspy(path, IMAGE, 0.02)
    with h5py.File(path, "r+") as file:
        group = file["Experiments/image"]
        del group["data"]
        shape = (30_000, 30_000)
        group.create_dataset("data", shape, "f8", chunks=chunks, compression=chunks and "gzip")


def claims_of_emd(path):
    w.write_emd_openncem(path, IMAGE, 0.02)
    with h5py.File(path, "r+") as file:
        group = file["data/image"]
        del group["data"]
        group.create_dataset("data", (30_000, 30_000), "f8", chunks=(500, 500))


def one_block(path):
    """One block of many is stored: what HDF5 fills in is no image."""
    claims_of_emd(path)
    with h5py.File(path, "r+") as file:
        file["data/image/data"][:500, :500] = 1.0


def claims_of_png(path, colour=0, bits=8):
    head = struct.pack(">IIBBBBB", 30_000, 30_000, bits, colour, 0, 0, 0)
    body = w.png_chunk(b"IDAT", b"x\x9c" + bytes(4000)) + w.png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + w.png_chunk(b"IHDR", head) + body)


def claims_of_pillow(kind):
    def write(path):
        Image.fromarray(BYTES).save(path)
        data = bytearray(path.read_bytes())
        if kind == "gif":
            struct.pack_into("<HH", data, 6, 30_000, 30_000)
            at = data.index(b"\x2c\0\0\0\0")
            struct.pack_into("<HH", data, at + 5, 30_000, 30_000)
        elif kind == "bmp":
            struct.pack_into("<ii", data, 18, 30_000, 30_000)
        else:
            at = data.index(b"\xff\xc0")
            struct.pack_into(">HH", data, at + 5, 30_000, 30_000)
        path.write_bytes(data)

    return write


def claims_of_npy(path):
    np.save(path, IMAGE)
    path.write_bytes(path.read_bytes().replace(b"(96, 128), }", b"(29999, 30000), }")[: len(IMAGE)])


CLAIMS = {
    "a.mrc": claims_of_mrc,
    "a.ser": claims_of_ser,
    "elements.ser": elements_of_ser,
    "a.tif": claims_of_tiff,
    "zip.tif": lambda p: claims_of_tiff(p, "zlib"),
    "lzw.tif": lambda p: claims_of_tiff(p, "lzw"),
    "zstd.tif": lambda p: claims_of_tiff(p, "zstd"),
    "a.hspy": claims_of_hdf5,
    "contiguous.hspy": lambda p: claims_of_hdf5(p, None),
    "a.emd": claims_of_emd,
    "one block.emd": one_block,
    "a.png": claims_of_png,
    "deep.png": lambda p: claims_of_png(p, 2, 16),
    "a.gif": claims_of_pillow("gif"),
    "a.bmp": claims_of_pillow("bmp"),
    "a.jpg": claims_of_pillow("jpg"),
    "a.npy": claims_of_npy,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_of_size_costs_nothing(tmp_path, name):
    """30 000 × 30 000 px would be 0.9 to 7 GB."""
    CLAIMS[name](tmp_path / name)
    store = MicrographStore(tmp_path)
    for read in (store.read, store.read_label):
        with little(IMAGE.nbytes), pytest.raises(MicrographReadError) as caught:
            read(name)
        assert "claims" in caught.value.reason or "truncated" in caught.value.reason


def test_16384_pixels_a_side_are_read(tmp_path):
    """More than Pillow's own limit."""
    head = struct.pack(">IIBBBBB", 16_384, 16_384, 1, 0, 0, 0, 0)
    rows = w.png_chunk(b"IDAT", zlib.compress(bytes(16_384 * 2049), 1))
    path = tmp_path / "a.png"
    mark, end = b"\x89PNG\r\n\x1a\n", w.png_chunk(b"IEND", b"")
    path.write_bytes(mark + w.png_chunk(b"IHDR", head) + rows + end)
    assert MicrographStore(tmp_path).read_header("a.png").shape == (16_384, 16_384)


def test_directories_of_tiff_that_never_end(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, metadata=None)
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (n,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * n, first)
    path.write_bytes(data)
    with little(IMAGE.nbytes), pytest.raises(MicrographReadError, match="do not end"):
        MicrographStore(tmp_path).read("a.tif")


def test_hdf5_groups_that_hold_themselves(tmp_path):
    path = tmp_path / "a.hspy"
    w.write_hspy(path, IMAGE, 0.02)
    with h5py.File(path, "r+") as file:
        group = file.create_group("around")
        group["around"] = group
    with little(IMAGE.nbytes):
        np.testing.assert_array_equal(MicrographStore(tmp_path).read("a.hspy").image, IMAGE)


def test_other_files_named_in_ome_metadata_are_not_opened(tmp_path):
    """An OME-TIFF may say that its pixels lie in another file."""
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(tmp_path / "other.tif", IMAGE + 1)
    tifffile.imwrite(path, IMAGE, ome=True)
    with tifffile.TiffFile(path) as file:
        text = file.ome_metadata
    uuid = (
        '<TiffData IFD="0" PlaneCount="1"><UUID FileName="other.tif">urn:uuid:1</UUID></TiffData>'
    )
    start, end = text.index("<TiffData"), text.index("</Pixels>")
    tifffile.imwrite(path, IMAGE, description=text[:start] + uuid + text[end:], metadata=None)
    np.testing.assert_array_equal(MicrographStore(tmp_path).read("a.ome.tif").image, IMAGE)

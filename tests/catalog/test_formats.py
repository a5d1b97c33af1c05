"""A registry of tiny files: each is read right, or refused with the true reason.

Every file is made by a script (:mod:`tests.image_writers`); a line of the registry says what is
right for it: the pixels (so shape, type and orientation) and the pixel size, or words of the
reason. RosettaSciIO's own tests keep such a list for its files.
"""

import re
import struct
from collections import Counter

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image
from tests import image_writers as w
from tests.dm3_writer import write_dm3
from tests.real_data import SHARED

from temshift.catalog.micrographs import MicrographReadError, MicrographStore

#: Rows and columns are told apart by the values, and no side by its length.
IMAGE = (100 * np.arange(12)[:, None] + np.arange(20)).astype(np.uint16)
BYTES = (IMAGE % 251).astype(np.uint8)
SIGNED = (BYTES.astype(np.int16) - 100).astype(np.int8)
COLOUR = np.dstack([BYTES, BYTES[::-1], BYTES[:, ::-1]])
DEEP = np.dstack([IMAGE * 40, IMAGE[::-1] * 41, IMAGE[:, ::-1] * 42])
WEIGHTS = (0.2125, 0.7154, 0.0721)
STACK = np.stack([IMAGE, IMAGE])


def luminance(colour):
    return (colour[..., :3] @ np.array(WEIGHTS)).astype(np.float32)


CASES = {}


def case(name, write, right, pixel_size_nm=None):
    """``right`` is the image, or words of the reason for which the file is refused."""
    assert name not in CASES, name
    CASES[name] = (write, right, pixel_size_nm)


# --------------------------------------------------------------------------- MRC
for dtype in ("int8", "int16", "float32", "uint16", "float16"):
    for order in "<>":
        data = SIGNED if dtype == "int8" else IMAGE.astype(dtype)
        case(
            f"{dtype}{'little' if order == '<' else 'big'}.mrc",
            lambda p, data=data, order=order: w.write_mrc(p, data, 0.02, order=order),
            data.astype(np.float32) if dtype == "float16" else data,
            0.02,
        )
UNCALIBRATED = {
    "cell of zeros": {"cell_A": (0.0, 0.0, 0.0)},
    "no samples": {"cell_A": (4.0, 2.4, 1.0), "samples": (0, 0, 0)},
    "negative samples": {"cell_A": (4.0, 2.4, 1.0), "samples": (-20, -12, 1)},
    "negative cell": {"cell_A": (-120.0, -290.0, 0.0), "samples": (20, 12, 1)},
    "cell not a number": {"cell_A": (float("nan"),) * 3},
    "infinite cell": {"cell_A": (float("inf"),) * 3},
    "unit cell": {"cell_A": (1.0, 1.0, 1.0)},
    "one side only": {"cell_A": (4.0, 0.0, 0.0)},
}
for what, options in UNCALIBRATED.items():
    case(f"{what}.mrc", lambda p, o=options: w.write_mrc(p, IMAGE, **o), IMAGE, None)
case("imod unsigned.mrc", lambda p: w.write_mrc(p, BYTES, 0.02, imod=0), BYTES, 0.02)
case("imod signed.mrc", lambda p: w.write_mrc(p, SIGNED, 0.02, imod=1), SIGNED, 0.02)
case("extended.mrc", lambda p: w.write_mrc(p, IMAGE, 0.02, extended=b"x" * 160), IMAGE, 0.02)
FEI = bytearray(128 * 1024)
struct.pack_into("<f", FEI, 44, 3e-11)
case("fei.mrc", lambda p: w.write_mrc(p, IMAGE, extended=bytes(FEI)), IMAGE, 0.03)
case(
    "columns along y.mrc",
    lambda p: w.write_mrc(p, IMAGE, cell_A=(2.4, 4.0, 1), samples=(12, 20, 1), axes=(2, 1, 3)),
    IMAGE,
    0.02,
)
case("no axes.mrc", lambda p: w.write_mrc(p, IMAGE, 0.02, axes=(0, 0, 0)), IMAGE, 0.02)
case("wrong stamp.mrc", lambda p: w.write_mrc(p, IMAGE, 0.02, stamp=b"\x11\x11\0\0"), IMAGE, 0.02)
case("no stamp.mrc", lambda p: w.write_mrc(p, IMAGE, 0.02, stamp=b"    "), IMAGE, 0.02)
case("aligned.ali", lambda p: w.write_mrc(p, IMAGE, 0.02), IMAGE, 0.02)
case("section.map", lambda p: w.write_mrc(p, IMAGE, 0.02), IMAGE, 0.02)
case("capital.MRC", lambda p: w.write_mrc(p, IMAGE, 0.02), IMAGE, 0.02)
case(
    "rounded sides.mrc",
    lambda p: w.write_mrc(p, IMAGE, cell_A=(4.0, 2.41, 1.0)),
    IMAGE,
    pytest.approx(0.02, rel=0.005),
)
case("not square.mrc", lambda p: w.write_mrc(p, IMAGE, cell_A=(4.0, 3.0, 1)), "not square")
case("huge pixel.mrc", lambda p: w.write_mrc(p, IMAGE, 2e4), "too large for a TEM image")
case("stack.mrc", lambda p: w.write_mrc(p, STACK, 0.02), "a stack")
case("complex.mrc", lambda p: w.write_mrc(p, IMAGE, 0.02, mode=4), "complex")
case("four bits.mrc", lambda p: w.write_mrc(p, IMAGE, 0.02, mode=101), "4 bits")
case("mode 77.mrc", lambda p: w.write_mrc(p, IMAGE, 0.02, mode=77), "no MRC file")
case("short header.mrc", lambda p: p.write_bytes(bytes(500)), "it is truncated")


def write_mrcfile(path, pixel_size_A):
    import mrcfile

    with mrcfile.new(path) as file:
        file.set_data(IMAGE)
        if pixel_size_A:
            file.voxel_size = pixel_size_A


case("by mrcfile.mrc", lambda p: write_mrcfile(p, 0.2), IMAGE, 0.02)
case("by mrcfile uncalibrated.mrc", lambda p: write_mrcfile(p, None), IMAGE, None)

# --------------------------------------------------------------------------- TIA
for dtype in ("u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8"):
    data = (BYTES // 2).astype(dtype)
    case(f"{dtype}.ser", lambda p, data=data: w.write_ser(p, data, 0.02), data, 0.02)
case("wide.ser", lambda p: w.write_ser(p, IMAGE, 0.02, wide=True), IMAGE, 0.02)
case("uncalibrated.ser", lambda p: w.write_ser(p, IMAGE), IMAGE, None)
case("two.ser", lambda p: w.write_ser(p, IMAGE, 0.02, n=2), "2 images, a stack")
case("none.ser", lambda p: w.write_ser(p, IMAGE, 0.02, n=0), "it holds no image")
case("lines.ser", lambda p: w.write_ser(p, IMAGE, 0.02, kind=0x4120), "spectra")
case("complex.ser", lambda p: w.write_ser(p, IMAGE.astype("c8"), 0.02), "complex")
case("diffraction.ser", lambda p: w.write_ser(p, IMAGE, step=1e8), "diffraction pattern")
case("text.ser", lambda p: p.write_text("not a series of images, but text of it"), "no series")


def write_emi(path):
    path.write_bytes(b"..<ObjectInfo><Uuid>x</Uuid></ObjectInfo>..")
    w.write_ser(path.with_name(path.stem + "_1.ser"), IMAGE, 0.02)


case("beside.emi", write_emi, IMAGE, 0.02)

# --------------------------------------------------------------------------- EMD
NM = ("nm", "nm")
case("openncem.emd", lambda p: w.write_emd_openncem(p, IMAGE, 0.02), IMAGE, 0.02)
case("openncem unknown.emd", lambda p: w.write_emd_openncem(p, IMAGE, None), IMAGE, None)
case("ncempy.emd", lambda p: w.write_emd_ncempy(p, IMAGE, 0.02), IMAGE, 0.02)
case("ncempy unknown.emd", lambda p: w.write_emd_ncempy(p, IMAGE, None), IMAGE, None)
case("hyperspy.emd", lambda p: w.write_emd_hyperspy(p, IMAGE, 0.02), IMAGE, 0.02)
case("hyperspy unknown.emd", lambda p: w.write_emd_hyperspy(p, IMAGE, None), IMAGE, None)
case("hyperspy no names.emd", lambda p: w.write_emd_hyperspy(p, IMAGE, 0.02, ["", ""]), IMAGE, 0.02)
case("hyperspy.de5", lambda p: w.write_emd_hyperspy(p, IMAGE, 0.02), IMAGE, 0.02)
SQUARE = IMAGE[:12, :12]  # nothing but the names tells rows and columns apart
case("square openncem.emd", lambda p: w.write_emd_openncem(p, SQUARE, 0.02), SQUARE, 0.02)
case("square ncempy.emd", lambda p: w.write_emd_ncempy(p, SQUARE, 0.02), SQUARE, 0.02)
case("square hyperspy.emd", lambda p: w.write_emd_hyperspy(p, SQUARE, 0.02), SQUARE, 0.02)
case("x first.emd", lambda p: w.write_emd(p, IMAGE.T, (0.02, 0.02), "xy", NM), IMAGE, 0.02)
case(
    "R_x first.emd",
    lambda p: w.write_emd(p, IMAGE.T, (0.2, 0.2), ("R_x", "R_y"), "ÅÅ"),
    IMAGE,
    0.02,
)
case(
    "py4dstem.emd",
    lambda p: w.write_emd(p, IMAGE, (0.2, 0.2), ("Rx", "Ry"), ("A", "A"), first=0),
    IMAGE,
    0.02,
)
case(
    "one section.emd",
    lambda p: w.write_emd(p, IMAGE[None], (1, 0.02, 0.02), "zyx", ("", *NM)),
    IMAGE,
    0.02,
)
case(
    "big-endian.emd",
    lambda p: w.write_emd(p, IMAGE.astype(">u2"), (0.02, 0.02), "yx", NM),
    IMAGE,
    0.02,
)
case(
    "end points.emd",
    lambda p: w.write_emd(p, IMAGE, (np.array([0, 0.02]), np.array([0, 0.02])), "yx", NM),
    IMAGE,
    0.02,
)
case(
    "not uniform.emd",
    lambda p: w.write_emd(p, IMAGE, (np.arange(12) ** 2.0, 0.02), "yx", NM),
    "not uniform",
)
case(
    "1 nm^-1.emd", lambda p: w.write_emd(p, IMAGE, (0.1, 0.1), "yx", ("[1/nm]",) * 2), "diffraction"
)
case("stack.emd", lambda p: w.write_emd(p, STACK, (1, 1, 1), "zyx", ("", *NM)), "a stack")
case("complex.emd", lambda p: w.write_emd(p, IMAGE + 0j, (1, 1), "yx", NM), "complex")
case("text.emd", lambda p: p.write_text("not HDF5"), "not in the format HDF5")
FFT = np.ones((12, 11), np.complex64)
case("image.emd velox", lambda p: w.write_velox(p, IMAGE), IMAGE, 0.02)
case("image and transform.emd velox", lambda p: w.write_velox(p, FFT, IMAGE), IMAGE, 0.02)
case("transform.emd velox", lambda p: w.write_velox(p, FFT), "complex")
case("two.emd velox", lambda p: w.write_velox(p, IMAGE, IMAGE), "2 images")
case("frames.emd velox", lambda p: w.write_velox(p, np.dstack([IMAGE, IMAGE])), "a stack")

# --------------------------------------------------------------------------- HyperSpy
UNITS = {
    "nm": 0.02,
    "nanometers": 0.02,
    "nanometre": 0.02,
    "Nm": 0.02,
    "nm/px": 0.02,
    "nm / pixel": 0.02,
    "nm per pixel": 0.02,
    "[nm]": 0.02,
    "pm": "too small",
    "\u00b5m": 20.0,
    "\u03bcm": 20.0,
    "um": 20.0,
    "micron": 20.0,
    "microns": 20.0,
    "micrometer": 20.0,
    "\u00c5": 0.002,
    "\u212b": 0.002,
    "A": 0.002,
    "Angstrom": 0.002,
    "angstroms": 0.002,
    "": None,
    "[]": None,
    "px": None,
    "pix": None,
    "Pixels": None,
    "<undefined>": None,
    "none": None,
    "inch": None,
    "inches": None,
    "cm": None,
    "dpi": None,
    "1/nm": "diffraction",
    "nm^-1": "diffraction",
    "mrad": "diffraction",
    "eV": "no length",
    "s": "no length",
    "m": "a pixel of 0.02 m (2e+07 nm), which is too large",
    "mm": "a pixel of 0.02 mm (20000 nm), which is too large",
}
for number, (unit, nm) in enumerate(UNITS.items()):
    right = (nm,) if isinstance(nm, str) else (IMAGE, nm)
    case(f"unit{number}.hspy", lambda p, u=unit: w.write_hspy(p, IMAGE, 0.02, u), *right)
case("pm.hspy", lambda p: w.write_hspy(p, IMAGE, 20.0, "pm"), IMAGE, 0.02)
case("1e17 nm.hspy", lambda p: w.write_hspy(p, IMAGE, 1e17), "a pixel of 1e+17 nm, which is too")
case("nan.hspy", lambda p: w.write_hspy(p, IMAGE, float("nan")), "no length")
case("one axis.hspy", lambda p: w.write_hspy(p, IMAGE, 0.02, ["nm", ""]), IMAGE, 0.02)
case("one axis differs.hspy", lambda p: w.write_hspy(p, IMAGE, [0.02, None], "nm"), IMAGE, None)
case("mixed units.hspy", lambda p: w.write_hspy(p, IMAGE, [0.02, 0.2], ["nm", "Å"]), IMAGE, 0.02)
VALUES = {"_type": "DataAxis", "navigate": False, "is_binned": False, "units": "nm"}
EVEN = {0: {**VALUES, "axis": np.arange(12) * 0.02}, 1: {**VALUES, "axis": np.arange(20) * 0.02}}
ODD = {0: {**VALUES, "axis": np.arange(12) ** 2.0}}
case("even values.hspy", lambda p: w.write_hspy(p, IMAGE, 0.02, replace=EVEN), IMAGE, 0.02)
case("odd values.hspy", lambda p: w.write_hspy(p, IMAGE, 0.02, replace=ODD), "not uniform")
case("float64.hspy", lambda p: w.write_hspy(p, IMAGE / 7, 0.02), IMAGE / 7, 0.02)
case("one section.hspy", lambda p: w.write_hspy(p, IMAGE[None], 0.02), IMAGE, 0.02)
case("stack.hspy", lambda p: w.write_hspy(p, STACK, 0.02), "a stack")
case("line.hspy", lambda p: w.write_hspy(p, IMAGE[0], 0.02), "a line")
case("complex.hspy", lambda p: w.write_hspy(p, IMAGE + 1j, 0.02), "complex")
case("image.hdf5", lambda p: w.write_hspy(p, IMAGE, 0.02), IMAGE, 0.02)
case("hyperspy.h5", lambda p: w.write_hspy(p, IMAGE, 0.02), IMAGE, 0.02)
case("openncem.h5", lambda p: w.write_emd_openncem(p, IMAGE, 0.02), IMAGE, 0.02)


def write_plain_hdf5(path):
    with h5py.File(path, "w") as file:
        file["x"] = IMAGE


def write_several_plain_hdf5(path):
    with h5py.File(path, "w") as file:
        file["one"], file["two"], file["meta"] = IMAGE, IMAGE, np.arange(4)


for name, write in {"plain.h5": write_plain_hdf5, "several.h5": write_several_plain_hdf5}.items():
    case(name, write, "HDF5 file of a layout that none of them knows, or damaged. Save the image")


def rgb(image):
    return np.ascontiguousarray(image).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]


case("colours.hspy", lambda p: w.write_hspy(p, rgb(COLOUR), 0.02), luminance(COLOUR), 0.02)


def with_hdf5(write, change):
    def both(path):
        write(path)
        with h5py.File(path, "r+") as file:
            change(file)

    return both


def to_another_file(file):
    file.create_group("x")["y"] = h5py.ExternalLink("/etc/passwd", "/")


def replaced(**options):
    def change(file):
        group = file["Experiments/image"]
        del group["data"]
        group.create_dataset("data", **options)

    return change


def to_a_virtual_dataset(file):
    group = file["Experiments/image"]
    del group["data"]
    layout = h5py.VirtualLayout((12, 20), "u2")
    layout[:] = h5py.VirtualSource("other.h5", "data", (12, 20))
    group.create_virtual_dataset("data", layout)


def hspy(path):
    return w.write_hspy(path, IMAGE, 0.02)


EXTERNAL = {"shape": (12, 20), "dtype": "u1", "external": [("/etc/passwd", 0, 240)]}
case("external link.hspy", with_hdf5(hspy, to_another_file), "a link into another file")
case("external storage.hspy", with_hdf5(hspy, replaced(**EXTERNAL)), "external storage")
case("virtual.hspy", with_hdf5(hspy, to_a_virtual_dataset), "a virtual dataset")
case(
    "claims 60000.hspy",
    with_hdf5(hspy, replaced(shape=(60_000, 60_000), dtype="u2", chunks=(1000, 1000))),
    "claims 60000 × 60000 px",
)
case(
    "claims 20000.hspy",
    with_hdf5(hspy, replaced(shape=(20_000, 20_000), dtype="u2", chunks=(1000, 1000))),
    "does not hold them",
)


def half_written(file):
    replaced(shape=(12, 20), dtype="u2", chunks=(6, 20))(file)
    file["Experiments/image/data"][:6] = IMAGE[:6]


case("half written.hspy", with_hdf5(hspy, half_written), "does not hold them")
case(
    "soft link.hspy",
    with_hdf5(hspy, lambda f: f.__setitem__("again", h5py.SoftLink("/Experiments/image/data"))),
    IMAGE,
    0.02,
)


def external_emd(path):
    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", **EXTERNAL)


case("external storage.emd", external_emd, "external storage")

# --------------------------------------------------------------------------- TIFF
TIFF_TYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
for dtype in TIFF_TYPES:
    data = (IMAGE // 10).astype(dtype)
    case(f"{dtype}.tif", lambda p, data=data: tifffile.imwrite(p, data), data)
for name, options in {
    "big-endian": {"byteorder": ">"},
    "bigtiff": {"bigtiff": True},
    "deflate": {"compression": "zlib"},
    "predictor": {"compression": "zlib", "predictor": True},
    "lzw": {"compression": "lzw"},
    "packbits": {"compression": "packbits"},
    "zstd": {"compression": "zstd"},
    "tiles": {"tile": (16, 16)},
    "strips": {"rowsperstrip": 5},
    "dpi": {"resolution": (300, 300), "resolutionunit": "INCH"},
}.items():
    case(f"{name}.tif", lambda p, o=options: tifffile.imwrite(p, IMAGE, **o), IMAGE)


def imagej(path, unit, pixel_size=0.02, data=IMAGE, **metadata):
    side = (1 / pixel_size, 1 / pixel_size)
    tifffile.imwrite(path, data, imagej=True, resolution=side, metadata={"unit": unit, **metadata})


for unit, nm in {
    "nm": 0.02,
    "micron": 20.0,
    "um": 20.0,
    "\\u00B5m": 20.0,
    "Angstrom": 0.002,
    "nanometer": 0.02,
    "nm/px": 0.02,
    "inch": None,
    "cm": None,
    "pixel": None,
    "": None,
}.items():
    name = "".join(c for c in unit if c.isalnum()) or "none"
    case(
        f"imagej {name}.tif",
        lambda p, unit=unit: imagej(p, unit),
        IMAGE,
        nm and pytest.approx(nm, rel=1e-5),
    )
case("imagej mm.tif", lambda p: imagej(p, "mm"), "too large for a TEM image")
case("imagej channels.tif", lambda p: imagej(p, "nm", data=STACK), "2 channels of one field")


def ome(path, x=0.02, unit="nm", data=IMAGE):
    metadata = {"axes": "YX" if data.ndim == 2 else "ZYX", "PhysicalSizeX": x, "PhysicalSizeY": x}
    if unit:
        metadata |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    tifffile.imwrite(path, data, ome=True, metadata=metadata)


case("ome nm.ome.tif", ome, IMAGE, 0.02)
case("ome angstrom.ome.tif", lambda p: ome(p, 0.2, "Å"), IMAGE, 0.02)
case("ome default.ome.tif", lambda p: ome(p, 2e-5, None), IMAGE, pytest.approx(0.02))
case("ome stack.ome.tif", lambda p: ome(p, data=STACK), "a stack")


def by_hyperspy(path, unit):
    from rsciio.tiff import file_writer

    file_writer(str(path), w.signal_dict(IMAGE, 0.02, unit), export_scale=True)


for unit, nm in {"nm": 0.02, "µm": 20.0, "Å": 0.002, "pm": "too small"}.items():
    write = lambda p, unit=unit: by_hyperspy(p, unit)  # noqa: E731
    case(f"hyperspy {ord(unit[0])}.tif", write, *((nm,) if isinstance(nm, str) else (IMAGE, nm)))
case(
    "rgb.tif",
    lambda p: tifffile.imwrite(p, COLOUR, photometric="rgb"),
    luminance(COLOUR),
)
case(
    "planar rgb.tif",
    lambda p: tifffile.imwrite(
        p,
        np.moveaxis(COLOUR, 2, 0),
        photometric="rgb",
        planarconfig="separate",
        software="Photoshop",
        metadata=None,
    ),
    luminance(COLOUR),
)
for frames in (3, 4):  # tifffile says of them that they are colours
    case(
        f"{frames} frames.tif",
        lambda p, n=frames: tifffile.imwrite(p, np.stack([IMAGE, IMAGE[::-1], IMAGE, IMAGE][:n])),
        "frames of a stack",
    )
case(
    "frames by another name.tif",
    lambda p: tifffile.imwrite(p, np.stack([IMAGE, IMAGE[::-1], IMAGE]), software="napari"),
    "frames of a stack",
)
case(
    "fractions as colours.tif",
    lambda p: tifffile.imwrite(
        p, np.dstack([IMAGE * 0.1] * 3), photometric="rgb", software="else", metadata=None
    ),
    "frames of a stack",
)
case(
    "rgba.tif",
    lambda p: tifffile.imwrite(
        p, np.dstack([COLOUR, BYTES]), photometric="rgb", extrasamples=["unassalpha"]
    ),
    luminance(COLOUR),
)
case("rgb of 16 bits.tif", lambda p: tifffile.imwrite(p, DEEP, photometric="rgb"), luminance(DEEP))
case(
    "grey as rgb.tif",
    lambda p: tifffile.imwrite(p, np.dstack([BYTES] * 3), photometric="rgb"),
    BYTES,
)
GREY_ALPHA = np.dstack([IMAGE, np.full_like(IMAGE, 65535)])
for name, options in {
    "grey and alpha": {"planarconfig": "contig", "extrasamples": ["unassalpha"]},
    "two channels": {"planarconfig": "contig", "extrasamples": ["unspecified"]},
}.items():
    case(
        f"{name}.tif",
        lambda p, o=options: tifffile.imwrite(p, GREY_ALPHA, photometric="minisblack", **o),
        IMAGE if "alpha" in name else "2 channels",
    )
case(
    "white is zero.tif",
    lambda p: tifffile.imwrite(p, 65535 - IMAGE, photometric="miniswhite"),
    IMAGE,
)
case("bilevel.tif", lambda p: tifffile.imwrite(p, IMAGE % 3 == 0), (IMAGE % 3 == 0).astype("u1"))
case("float16.tif", lambda p: tifffile.imwrite(p, BYTES.astype("f2")), BYTES.astype("f4"))
case("complex.tif", lambda p: tifffile.imwrite(p, IMAGE + 0j), "complex")
case("stack.tif", lambda p: tifffile.imwrite(p, STACK, photometric="minisblack"), "a stack")
case("cmyk.tif", lambda p: Image.fromarray(COLOUR).convert("CMYK").save(p), "SEPARATED")


def palette_tiff(colours):
    def write(path):
        picture = Image.frombytes("P", (20, 12), (BYTES % 4).tobytes())
        picture.putpalette(np.asarray(colours, np.uint8).ravel().tolist())
        picture.save(path)

    return write


COLOURS = np.array([[200, 0, 0], [0, 0, 0], [0, 200, 0], [9, 9, 9]], np.uint8)
GREYS = np.array([[0, 0, 0], [50, 0, 0], [99, 50, 0], [250, 99, 99]], np.uint8)
case("palette.tif", palette_tiff(COLOURS), luminance(COLOURS[BYTES % 4]))
case("palette for display.tif", palette_tiff(GREYS), BYTES % 4)


def with_preview(path, subfiletype):
    with tifffile.TiffWriter(path) as file:
        file.write(IMAGE)
        file.write(IMAGE[::2, ::2], subfiletype=subfiletype)


case("reduced page.tif", lambda p: with_preview(p, 1), IMAGE)
case("second page.tif", lambda p: with_preview(p, 0), "2 images")


def reduced_first(path):
    with tifffile.TiffWriter(path) as file:
        file.write(IMAGE[::2, ::2], subfiletype=1)
        file.write(IMAGE)


def olympus(path):
    """Olympus SIS: a block of its own behind a tag, and a preview that is not marked as such."""
    head = struct.pack("<4s6xhhhhh6x32sh", b"SIS0", 0, 0, 1, 1, 100, b"image", 1)
    first = len(head) + 4  # the block begins behind the value that the tag must hold
    for _ in range(2):  # offsets in the block are those of the file, known when it is written
        general = struct.pack("<10xhdd8xd2x34s32s", -9, 0.02, 0.02, 1e5, b"camera", b"")
        block = head + struct.pack("<hhI", 1, 1, first + 8) + general
        with tifffile.TiffWriter(path) as file:
            file.write(IMAGE, extratags=[(33560, "B", len(block), block, True)], metadata=None)
            file.write(IMAGE[::2, ::2], metadata=None)
        first = path.read_bytes().index(b"SIS0") + len(head)


def fei(path):
    text = "[Scan]\r\nPixelWidth=2e-11\r\nPixelHeight=2e-11\r\n"
    tifffile.imwrite(path, IMAGE, extratags=[(34682, "s", 0, text, True)], metadata=None)


case("olympus.tif", olympus, IMAGE, 0.02)
case("fei.tif", fei, IMAGE, 0.02)
case("reduced page first.tif", reduced_first, IMAGE)


def named_png(path):
    tifffile.imwrite(path.with_suffix(".tif"), IMAGE)
    path.with_suffix(".tif").rename(path)


case("tiff inside.png", named_png, IMAGE)
case("text.tif", lambda p: p.write_text("no TIFF at all"), "no TIFF file")
case("html.tiff", lambda p: p.write_text("<html>404</html>"), "no TIFF file")

# --------------------------------------------------------------------------- pictures
for bits in (1, 2, 4):
    data = (BYTES % (1 << bits)).astype(np.uint8)
    case(f"{bits} bits.png", lambda p, d=data, b=bits: w.write_png(p, d, b), data)
case("8 bits.png", lambda p: w.write_png(p, BYTES), BYTES)
case("16 bits.png", lambda p: w.write_png(p, IMAGE), IMAGE)
case("rgb.png", lambda p: w.write_png(p, COLOUR), luminance(COLOUR))
case("rgba.png", lambda p: w.write_png(p, np.dstack([COLOUR, BYTES])), luminance(COLOUR))
case("grey alpha.png", lambda p: w.write_png(p, np.dstack([BYTES, BYTES[::-1]])), BYTES)
case("grey as rgb.png", lambda p: w.write_png(p, np.dstack([BYTES] * 3)), BYTES)
for filters in (0, 1, 4):
    deep = DEEP.astype(np.uint16)
    case(
        f"rgb 16 bits {filters}.png",
        lambda p, d=deep, f=filters: w.write_png(p, d, filters=f),
        luminance(deep),
    )
case("grey as rgb 16 bits.png", lambda p: w.write_png(p, np.dstack([IMAGE] * 3)), IMAGE)
case("rgba 16 bits.png", lambda p: w.write_png(p, np.dstack([DEEP, IMAGE])), luminance(DEEP))
case("grey alpha 16 bits.png", lambda p: w.write_png(p, np.dstack([IMAGE, IMAGE])), IMAGE)


def saved(image, **options):
    return lambda p: image.save(p, **options)


GREY = Image.fromarray(BYTES)
case("grey.bmp", saved(GREY), BYTES)
case("rgb.bmp", saved(Image.fromarray(COLOUR)), luminance(COLOUR))
case("grey.gif", saved(GREY), BYTES)
case("grey.webp", saved(GREY, lossless=True), BYTES)
case("rgb.webp", saved(Image.fromarray(COLOUR), lossless=True), luminance(COLOUR))
case("grey.pgm", saved(GREY), BYTES)
case("16 bits.pgm", saved(Image.fromarray(IMAGE.astype(np.int32))), IMAGE.astype(np.int32))
case(
    "12 bits.pgm", lambda p: p.write_bytes(b"P5\n20 12\n4095\n" + bytes(480)), "grey level is 4095"
)
case("rgb.ppm", saved(Image.fromarray(COLOUR)), luminance(COLOUR))
FLAT = np.full((16, 24), 130, np.uint8)
case("flat.jpg", saved(Image.fromarray(FLAT), quality=100), FLAT)
case("flat rgb.jpeg", saved(Image.fromarray(np.dstack([FLAT] * 3)), quality=100), FLAT)
case("animated.gif", saved(GREY, save_all=True, append_images=[GREY.rotate(180)]), "2 pictures")
case("animated.png", saved(GREY, save_all=True, append_images=[GREY.rotate(180)]), "2 pictures")
case("jpeg inside.png", saved(Image.fromarray(FLAT), format="JPEG", quality=100), FLAT)
case("text.png", lambda p: p.write_text("this is no picture, whatever its name"), "no picture")
HEAD = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
BOMB = b"\x89PNG\r\n\x1a\n" + w.png_chunk(b"IHDR", HEAD)
BOMB += w.png_chunk(b"IDAT", b"x\x9c\x03\0\0\0\0\1") + w.png_chunk(b"IEND", b"")
case("claims 30000.png", lambda p: p.write_bytes(BOMB), "30000 × 30000 px, but it holds only 8")

# --------------------------------------------------------------------------- Digital Micrograph
for version in (3, 4):
    case(
        f"image.dm{version}",
        lambda p, v=version: write_dm3(p, IMAGE, 0.02, version=v),
        IMAGE,
        pytest.approx(0.02),
    )
case("microns.dm3", lambda p: write_dm3(p, IMAGE, 2e-5, unit="µm"), IMAGE, pytest.approx(0.02))
case("greek.dm3", lambda p: write_dm3(p, IMAGE, 2e-5, unit="μm"), IMAGE, pytest.approx(0.02))
case("unknown.dm3", lambda p: write_dm3(p, IMAGE), IMAGE)
case("inch.dm3", lambda p: write_dm3(p, IMAGE, 0.0138889, unit="inch"), IMAGE)
case("diffraction.dm3", lambda p: write_dm3(p, IMAGE, 0.1, unit="1/nm"), "diffraction")
case("complex.dm3", lambda p: write_dm3(p, IMAGE.astype(np.complex64)), "complex")
case("stack.dm4", lambda p: write_dm3(p, STACK, 0.02, version=4), "a stack")

# --------------------------------------------------------------------------- others
case("c.npy", lambda p: np.save(p, IMAGE), IMAGE)
case("fortran.npy", lambda p: np.save(p, np.asfortranarray(IMAGE)), IMAGE)
case("stack.npy", lambda p: np.save(p, STACK), "a stack")
case(
    "objects.npy",
    lambda p: np.save(p, np.array([{}, None])),
    "it holds Python objects, expected an array",
)
case("zip.zspy", lambda p: w.write_zspy(p, IMAGE, 0.02), IMAGE, 0.02)
case("folder.zspy", lambda p: p.mkdir(), "only zip files are read")


def by_rosettasciio(module, data=IMAGE, **axes):
    def write(path):
        import importlib

        writer = importlib.import_module(f"rsciio.{module}").file_writer
        writer(str(path), w.signal_dict(data, 0.02, **axes))

    return write


case("nexus.nxs", by_rosettasciio("nexus"), IMAGE, 0.02)
case("ripple.rpl", by_rosettasciio("ripple"), IMAGE, 0.02)
case("surface.sur", by_rosettasciio("digitalsurf"), IMAGE.astype(np.int32), pytest.approx(0.02))
case("compressed.prz", by_rosettasciio("pantarhei"), IMAGE)
case("semper.unf", by_rosettasciio("semper", IMAGE.astype(np.float32)), IMAGE.astype("f4"), 0.02)
case("spectrum.msa", by_rosettasciio("msa", IMAGE[0].astype(float), unit="eV"), "a line")
case("compressed.mrcz", lambda p: w.write_mrc(p, IMAGE, 0.02), "the Python package 'mrcz'")
case("text.docx", lambda p: p.write_text("x"), "files that end in '.docx' cannot be read")
case("none", lambda p: p.write_text("x"), "its name has no extension, by which formats")


@pytest.mark.parametrize("name", CASES)
def test_right_or_refused_with_the_reason(tmp_path, name):
    write, right, pixel_size_nm = CASES[name]
    path = tmp_path / name.removesuffix(" velox")
    write(path)
    store = MicrographStore(tmp_path)
    if isinstance(right, str):
        for read in (store.read, store.read_header):
            with pytest.raises(MicrographReadError) as caught:
                read(path.name)
            assert right in caught.value.reason
        return
    found, header = store.read(path.name), store.read_header(path.name)
    assert found.image.dtype == right.dtype
    if right.dtype == np.float32 and right.shape == luminance(COLOUR).shape:
        np.testing.assert_allclose(found.image, right, rtol=1e-5)
    else:
        np.testing.assert_array_equal(found.image, right)
    assert found.image.flags.c_contiguous
    expected = pytest.approx(pixel_size_nm) if isinstance(pixel_size_nm, float) else pixel_size_nm
    assert found.pixel_size_nm == expected
    assert found.pixel_size_source == ("unknown" if pixel_size_nm is None else "header")
    assert (header.shape, header.pixel_size_nm) == (found.image.shape, found.pixel_size_nm)
    assert header.metadata == found.metadata
    coloured = right.dtype == np.float32 and re.search("rgb|colour|palette", name)
    assert bool(found.conversion) == bool(coloured)


def test_the_registry_is_wide():
    formats = Counter(name.removesuffix(" velox").rpartition(".")[2].lower() for name in CASES)
    assert len(CASES) >= 200
    assert len(formats) >= 25


REAL = SHARED / "real" / "formats"


@pytest.mark.skipif(not REAL.exists(), reason="real files are not here")
@pytest.mark.parametrize(
    ("name", "shape", "pixel_size_nm"),
    [
        ("ROI_Random_Scan_Sum.mrc", (29, 12), None),
        ("FFTComplexEven.emd", (128, 128), pytest.approx(27.1153, rel=1e-4)),
        ("example_image.emd", (3, 3), None),
        ("test_TEM.bcf", (64, 64), pytest.approx(0.771, rel=1e-3)),
    ],
)
def test_genuine_files(name, shape, pixel_size_nm):
    found = MicrographStore(REAL).read(name)
    assert found.image.shape == shape
    assert found.pixel_size_nm == pixel_size_nm

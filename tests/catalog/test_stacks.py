"""Stacks and movies: every frame is a micrograph, and only the one that is asked for is read."""

import tracemalloc
from functools import partial

import mrcfile
import numpy as np
import pytest
import tifffile
from rsciio.hspy import file_writer
from tests.learning.test_segmentation import field, network_set

from temshift.catalog.micrographs import MicrographReadError, MicrographStore
from temshift.catalog.new_micrographs import NewMicrographStore
from temshift.learning.segmentation import Segmenter, plan_work

FRAMES = np.stack([field((65, 81), ((30, 30, 8 + i),), seed=i) for i in range(3)]).round()


def write_mrc(path):
    with mrcfile.new(path) as file:
        file.set_data(FRAMES.astype(np.float32))
        file.voxel_size = 0.5


def write_hspy(path, name="t"):
    names = [(name, 1.0, "s", True), ("y", 0.05, "nm", False), ("x", 0.05, "nm", False)]
    axes = [
        {"_type": "UniformDataAxis", "name": n, "size": size, "scale": scale, "offset": 0.0}
        | {"units": units, "navigate": navigate, "is_binned": False}
        for (n, scale, units, navigate), size in zip(names, FRAMES.shape, strict=True)
    ]
    metadata = {"General": {"title": ""}, "Signal": {"signal_type": ""}}
    signal = {"data": FRAMES, "axes": axes, "metadata": metadata}
    empty = ("original_metadata", "learning_results", "models", "package_info", "tmp_parameters")
    signal["attributes"] = {"_lazy": False, "ragged": False}
    file_writer(str(path), signal | {key: {} for key in empty}, show_progressbar=False)


def write_imagej(path):
    metadata = {"unit": "nm", "axes": "ZYX"}
    tifffile.imwrite(
        path, FRAMES.astype(np.uint16), imagej=True, resolution=(20, 20), metadata=metadata
    )


def write_pages(path, **options):
    tifffile.imwrite(path, FRAMES, photometric="minisblack", **options)


WRITERS = {
    "a.npy": (lambda path: np.save(path, FRAMES), None),
    "a.mrc": (write_mrc, 0.05),
    "a.mrcs": (write_mrc, 0.05),
    "a.hspy": (write_hspy, 0.05),
    "imagej.tif": (write_imagej, 0.05),
    "pages.tif": (partial(write_pages, metadata=None), None),
    "zlib.tif": (partial(write_pages, compression="zlib"), None),
    "plain.tif": (write_pages, None),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_frame_is_a_micrograph(tmp_path, name):
    write, size = WRITERS[name]
    write(tmp_path / name)
    for source in (tmp_path, tmp_path / name):
        store = NewMicrographStore(source)
        assert store.paths() == [f"{name}[{i}]" for i in range(3)]
    for i, path in enumerate(store.paths()):
        found = store.read(path)
        assert np.array_equal(found.image, FRAMES[i])
        assert found.pixel_size_nm == (size and pytest.approx(size))
    assert len({store.sha256(path) for path in store.paths()}) == 3
    with pytest.raises(MicrographReadError, match="has 3 frames, numbered from 0; found 7"):
        store.read(f"{name}[7]")


def test_a_single_image_and_a_file_with_brackets_in_its_name_stay_what_they_are(tmp_path):
    np.save(tmp_path / "one.npy", FRAMES[0])
    np.save(tmp_path / "still.npy", FRAMES[:1])
    tifffile.imwrite(tmp_path / "b[3].tif", FRAMES[0])
    tifffile.imwrite(tmp_path / "colour.tif", np.zeros((65, 81, 3), np.uint8), photometric="rgb")
    (tmp_path / "odd.npy[2]").write_bytes((tmp_path / "one.npy").read_bytes())
    store = NewMicrographStore(tmp_path)
    assert store.paths() == ["b[3].tif", "colour.tif", "odd.npy[2]", "one.npy", "still.npy"]
    assert store.read("b[3].tif").image.shape == (65, 81)
    assert store.read("still.npy").image.shape == (65, 81)


def test_colours_of_an_array_are_no_frames(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (65, 81, 4), np.uint8)
    np.save(tmp_path / "rgb.npy", colours[..., :3])
    np.save(tmp_path / "rgba.npy", colours)
    np.save(tmp_path / "two.npy", colours[..., :2])
    store = NewMicrographStore(tmp_path)
    assert store.paths() == ["rgb.npy", "rgba.npy", "two.npy"]
    image = store.read("rgb.npy").image
    assert image[3, 4] == pytest.approx(colours[3, 4, :3] @ [0.2125, 0.7154, 0.0721], rel=1e-4)
    assert np.array_equal(store.read("rgba.npy").image, image)
    with pytest.raises(MicrographReadError, match="two channels of one image"):
        store.read("two.npy")


def test_a_movie_of_many_directories_is_read(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for i in range(1200):
            file.write(np.full((8, 9), i, np.uint16), metadata=None, photometric="minisblack")
    store = NewMicrographStore(tmp_path)
    assert len(store.paths()) == 1200
    assert store.read("a.tif[1100]").image[0, 0] == 1100
    with pytest.raises(MicrographReadError, match="it holds 1200 images"):
        MicrographStore(tmp_path).read("a.tif")


def test_what_is_no_stack_of_images_is_refused_once_and_with_its_reason(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 64, 64)))
    np.save(tmp_path / "complex.npy", np.zeros((2, 64, 64), complex))
    write_mrc(tmp_path / "cut.mrc")
    whole = (tmp_path / "cut.mrc").read_bytes()
    (tmp_path / "cut.mrc").write_bytes(whole[:-1000])
    store = NewMicrographStore(tmp_path)
    assert store.paths() == ["a.npy", "complex.npy", "cut.mrc"]
    for path, reason in zip(store.paths(), ("stack", "complex", "truncated"), strict=True):
        with pytest.raises(MicrographReadError, match=reason):
            store.read(path)


def write_axes(path, axes, **options):
    data = FRAMES if len(axes) == 3 else np.stack([FRAMES, FRAMES], axes.index("T"))
    tifffile.imwrite(
        path, data.astype(np.uint16), metadata={"axes": axes}, photometric="minisblack", **options
    )


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("imagej.tif", partial(write_axes, axes="CYX", imagej=True)),
        ("imagej.tif", partial(write_axes, axes="TCYX", imagej=True)),
        ("a.ome.tif", partial(write_axes, axes="CYX")),
        ("a.ome.tif", partial(write_axes, axes="CTYX")),
        ("shaped.tif", partial(write_axes, axes="CYX")),
        ("a.hspy", partial(write_hspy, name="channel")),
    ],
)
def test_channels_are_no_frames(tmp_path, name, write):
    write(tmp_path / name)
    store = NewMicrographStore(tmp_path)
    assert store.paths() == [name]
    match = r"3 channels of one field .*no frames: save the channel to be segmented"
    with pytest.raises(MicrographReadError, match=match):
        store.read(name)


@pytest.mark.parametrize("axes", ["TYX", "ZYX", "QYX"])
@pytest.mark.parametrize("name", ["a.ome.tif", "shaped.tif"])
def test_stacks_of_time_or_depth_are_frames(tmp_path, name, axes):
    write_axes(tmp_path / name, axes)
    assert NewMicrographStore(tmp_path).paths() == [f"{name}[{i}]" for i in range(3)]


def test_a_long_movie_takes_the_memory_of_a_frame(tmp_path):
    movie = np.lib.format.open_memmap(
        tmp_path / "m.npy", mode="w+", dtype=np.float32, shape=(200, 256, 256)
    )
    movie[150] = 7
    movie.flush()
    store = NewMicrographStore(tmp_path)
    tracemalloc.start()
    image = store.read(store.paths()[150]).image
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (image == 7).all()
    assert peak < 4 * image.nbytes < movie.nbytes / 40
    assert store.paths()[0] == "m.npy[000]"


def test_frames_are_segmented_one_by_one(tmp_path):
    np.save(tmp_path / "a.npy", FRAMES)
    work = plan_work(NewMicrographStore(tmp_path), Segmenter({"a": network_set()}), "code")
    assert len(work) == 3
    areas = [one.run()[1].particles["area_px2"].sum() for one in work]
    assert areas[0] < areas[1] < areas[2]
    assert len({one.identity for one in work}) == 3

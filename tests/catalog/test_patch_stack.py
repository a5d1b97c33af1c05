"""Patch stacks on disk."""

from __future__ import annotations

import base64
import dataclasses
import io
import tracemalloc
from hashlib import sha256

import h5py
import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError
from PIL import Image

from temshift.catalog import previews
from temshift.catalog.patch_stack import PatchStackDataset
from temshift.catalog.previews import PREVIEW_ASPECT
from temshift.microscopy.patches import PATCH_COLUMNS, PatchStack, PatchStream
from temshift.microscopy.pictures import LABEL


def stack(rng, n=5, side=32, name="m0") -> PatchStack:
    labels = (rng.random((n, side, side)) < 0.3).astype(np.uint8)
    table = pd.DataFrame(
        {
            "micrograph_id": name,
            "specimen_id": ["", "Größe 5", "s", "s", "t"][:n],
            "group": [name, "Größe 5", "s", "s", "t"][:n],
            "row": np.arange(n) * side,
            "column": 0,
            "labelled_px": labels.sum(axis=(1, 2)),
            "fold": np.arange(n) % 3,
        }
    )
    images = rng.normal(size=(n, side, side)).astype(np.float32)
    return PatchStack(
        images, labels, table, {"split": "au", "pixel_size_nm": None, "x": {"y": [1]}}
    )


@pytest.fixture
def dataset(tmp_path) -> PatchStackDataset:
    return PatchStackDataset(filepath=str(tmp_path / "deep" / "patches.h5"))


def without_digest(stack: PatchStack) -> dict:
    return {key: value for key, value in stack.attributes.items() if key != "sha256_of_pixels"}


def assert_same(a: PatchStack, b: PatchStack) -> None:
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.labels, b.labels)
    pd.testing.assert_frame_equal(
        a.table.astype({"fold": int, "labelled_px": int}),
        b.table.astype({"fold": int, "labelled_px": int}),
        check_dtype=False,
    )
    assert without_digest(a) == without_digest(b)


def test_what_is_saved_is_loaded(dataset, rng):
    data = stack(rng)
    assert not dataset.exists()
    dataset.save(data)
    assert dataset.exists()
    loaded = dataset.load()
    assert_same(loaded, data)
    assert list(loaded.table) == list(PATCH_COLUMNS)


def test_loading_maps_the_arrays_and_copies_nothing(dataset, rng):
    dataset.save(stack(rng))
    loaded = dataset.load()
    assert isinstance(loaded.images, np.memmap)
    assert isinstance(loaded.labels, np.memmap)
    assert not loaded.images.flags.writeable


def test_any_hdf5_reader_finds_the_documented_layout(dataset, rng):
    data = stack(rng)
    dataset.save(data)
    with h5py.File(dataset._filepath) as file:
        assert file["images"].shape == (5, 32, 32)
        assert file["images"].dtype == np.float32
        assert file["labels"].dtype == np.uint8
        assert file["images"].chunks is None
        assert set(file["table"]) == set(PATCH_COLUMNS)


def test_a_stream_is_written_part_by_part(dataset, rng):
    parts = [stack(rng, n, name=f"m{n}") for n in (2, 5, 1)]
    alive = 0

    def one_by_one():
        nonlocal alive
        for part in parts:
            alive += 1
            assert alive == 1
            yield part
            alive -= 1

    dataset.save(PatchStream(one_by_one(), 8, 32, {"split": "au"}))
    loaded = dataset.load()
    np.testing.assert_array_equal(loaded.images, np.concatenate([p.images for p in parts]))
    np.testing.assert_array_equal(loaded.labels, np.concatenate([p.labels for p in parts]))
    assert loaded.table["micrograph_id"].tolist() == ["m2"] * 2 + ["m5"] * 5 + ["m1"]
    assert without_digest(loaded) == {"split": "au"}
    assert loaded.attributes["sha256_of_pixels"] == {
        "images": sha256(b"".join(p.images.tobytes() for p in parts)).hexdigest(),
        "labels": sha256(b"".join(p.labels.tobytes() for p in parts)).hexdigest(),
    }


def test_saving_a_stream_needs_memory_for_one_part_only(dataset):
    n_parts, n, side = 12, 4, 128
    table = stack(np.random.default_rng(0), n, 32).table

    def parts():
        for i in range(n_parts):
            images = np.full((n, side, side), i, np.float32)
            yield PatchStack(images, images.astype(np.uint8), table)

    part_bytes = n * side * side * 5
    tracemalloc.start()
    dataset.save(PatchStream(parts(), n_parts * n, side))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * part_bytes < n_parts * part_bytes / 2


def test_the_same_stack_gives_the_same_bytes(tmp_path, rng):
    data = stack(rng)
    for name in ("a.h5", "b.h5"):
        PatchStackDataset(filepath=str(tmp_path / name)).save(data)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize(("said", "side"), [(4, 32), (6, 32), (5, 64)])
def test_a_stream_that_holds_something_else_than_it_said_is_refused(dataset, rng, said, side):
    with pytest.raises(
        DatasetError, match=rf"expected {said} patches of {side} px.*run data_curation"
    ):
        dataset.save(PatchStream([stack(rng)], said, side))
    assert not dataset.exists()


def test_a_failure_half_way_leaves_the_old_file(dataset, rng, tmp_path):
    old = stack(rng)
    dataset.save(old)

    def breaks():
        yield stack(rng)
        raise ValueError("camera on fire")

    with pytest.raises(DatasetError, match="camera on fire"):
        dataset.save(PatchStream(breaks(), 10, 32))
    assert_same(dataset.load(), old)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["patches.h5"]


def test_a_mapped_stack_survives_being_written_again(dataset, rng):
    first = stack(rng)
    dataset.save(first)
    loaded = dataset.load()
    dataset.save(stack(rng))
    np.testing.assert_array_equal(loaded.images, first.images)


class TestCurated:
    """The published sets: images and labels in two files, in whatever layout."""

    def write(self, folder, images, labels, **options) -> PatchStackDataset:
        for name, key, data in (("Images", "images", images), ("Labels", "labels", labels)):
            with h5py.File(folder / f"Au_{name}.h5", "w") as file:
                file.create_dataset(key, data=data, **options)
        return PatchStackDataset(
            filepath=str(folder / "Au_Images.h5"),
            labels_filepath=str(folder / "Au_Labels.h5"),
        )

    @pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"chunks": (1, 32, 32)}])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("one", [1, 255])
    def test_plain(self, tmp_path, rng, options, dtype, one):
        data = stack(rng)
        dataset = self.write(tmp_path, data.images.astype(dtype), data.labels * one, **options)
        assert dataset.exists()
        loaded = dataset.load()
        np.testing.assert_array_equal(loaded.images, data.images)
        np.testing.assert_array_equal(loaded.labels, data.labels)
        assert loaded.table["labelled_px"].tolist() == data.table["labelled_px"].tolist()
        assert loaded.table["micrograph_id"].is_unique
        assert (loaded.table["fold"] == -1).all()

    def test_a_channel_axis(self, tmp_path, rng):
        data = stack(rng)
        dataset = self.write(tmp_path, data.images[..., None], data.labels[..., None].astype("f8"))
        np.testing.assert_array_equal(dataset.load().images, data.images)
        np.testing.assert_array_equal(dataset.load().labels, data.labels)

    def test_one_hot_labels(self, tmp_path, rng):
        data = stack(rng)
        one_hot = np.stack([1 - data.labels, data.labels], axis=-1).astype(np.int64)
        np.testing.assert_array_equal(
            self.write(tmp_path, data.images, one_hot).load().labels, data.labels
        )

    def test_labels_of_other_values_are_refused(self, tmp_path, rng):
        data = stack(rng)
        dataset = self.write(tmp_path, data.images, data.labels * 7)
        with pytest.raises(DatasetError, match=r"Au_Labels.h5: labels must be 0 and 1.*\[0, 7\]"):
            dataset.load()

    def test_sets_that_do_not_belong_together_are_refused(self, tmp_path, rng):
        data = stack(rng)
        dataset = self.write(tmp_path, data.images, data.labels[:4])
        with pytest.raises(DatasetError, match="do not belong together"):
            dataset.load()

    def test_it_is_never_written(self, tmp_path, rng):
        data = stack(rng)
        dataset = self.write(tmp_path, data.images, data.labels)
        with pytest.raises(DatasetError, match="only read, never written"):
            dataset.save(data)


def test_a_missing_file_says_what_to_do(dataset):
    with pytest.raises(DatasetError, match=r"no such file. Run the preprocessing pipeline"):
        dataset.load()


def test_a_file_that_is_no_hdf5_is_refused(dataset, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "patches.h5").write_bytes(b"no HDF5")
    with pytest.raises(DatasetError, match="not a readable HDF5 file"):
        dataset.load()


def test_a_file_without_images_lists_what_it_has(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["pictures"] = [1]
    with pytest.raises(DatasetError, match="expected the dataset 'images', found pictures"):
        PatchStackDataset(filepath=str(tmp_path / "x.h5")).load()


def test_the_preview_is_a_png_with_the_outline(dataset, rng):
    label = np.zeros((2, 64, 64), np.uint8)
    label[:, 20:40, 20:40] = 1
    table = stack(rng, 2).table
    dataset.save(PatchStack(rng.normal(size=label.shape).astype(np.float32), label, table))
    image = np.array(Image.open(io.BytesIO(base64.b64decode(dataset.preview()))))
    orange = (image == LABEL).all(axis=-1)
    height, width = image.shape[:2]
    assert np.isclose(width / height, PREVIEW_ASPECT, atol=0.02), "Kedro-Viz stretches it not"
    assert orange.sum() == 2 * (20 * 4 - 4)
    rows, columns = np.nonzero(orange)
    assert np.ptp(rows) + 1 == 20
    assert np.ptp(columns) + 1 == 68 + 20


def test_the_preview_says_what_the_micrographs_share(dataset, rng, monkeypatch):
    said = []
    monkeypatch.setattr(previews, "image_preview", lambda _, caption: said.append(caption))
    known = {"material": "Au", "diameter_nm": 2.2, "dose_e_per_A2": 423.0, "pixel_size_nm": 0.02}
    for attributes in (known, {**known, "diameter_nm": None, "material": ""}, {}):
        dataset.save(dataclasses.replace(stack(rng), attributes=attributes))
        dataset.preview()
    assert said == [
        "Au, 2.2 nm particles, 423 e/Å², 0.020 nm/px",
        "423 e/Å², 0.020 nm/px",
        "",
    ]


def test_kedro_viz_recognises_the_preview(dataset, rng):
    from kedro_viz.models.flowchart.node_metadata import DataNodeMetadata
    from kedro_viz.models.flowchart.nodes import GraphNode

    dataset.save(stack(rng))
    node = GraphNode.create_data_node("id", "au.patches", None, set(), dataset, None)
    metadata = DataNodeMetadata(data_node=node)
    assert metadata.preview_type == "ImagePreview"
    assert metadata.preview.startswith("iVBOR")

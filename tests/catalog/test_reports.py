import base64
import inspect
import io
from dataclasses import fields

import numpy as np
import pytest
from kedro.io import DatasetError
from PIL import Image

from temshift.catalog.previews import PREVIEW_ASPECT
from temshift.catalog.reports import ExamplesDataset, HTMLReportDataset, PrintedFigureDataset
from temshift.learning.examples import Example


def examples(n=3):
    rng = np.random.default_rng(0)
    return [
        Example(
            test_split="a",
            micrograph_id=f"Ü {i}/m",
            rank="best",
            dice=0.1 * i,
            image=rng.integers(0, 255, (8, 10 + i), dtype=np.uint8),
            label=np.eye(8, 10 + i, dtype=np.uint8),
            prediction=np.zeros((8, 10 + i), np.uint8),
            pixel_size_nm=[None, 0.02, 0.03][i],
            shrunk=1 + i,
        )
        for i in range(n)
    ]


def test_examples_come_back(tmp_path):
    dataset = ExamplesDataset(filepath=str(tmp_path / "examples" / "a.npz"))
    assert not dataset.exists()
    dataset.save(examples())
    assert dataset.exists()
    for before, after in zip(examples(), dataset.load(), strict=True):
        pictures = ("image", "label", "prediction")
        plain = [field.name for field in fields(before) if field.name not in pictures]
        assert [getattr(before, f) for f in plain] == [getattr(after, f) for f in plain]
        for name in pictures:
            assert getattr(after, name).dtype == np.uint8
            assert np.array_equal(getattr(before, name), getattr(after, name))


def test_no_examples_come_back_as_none(tmp_path):
    dataset = ExamplesDataset(filepath=str(tmp_path / "a.npz"))
    dataset.save([])
    assert dataset.load() == []


def test_same_examples_same_bytes(tmp_path):
    files = [tmp_path / name for name in ("a.npz", "b.npz")]
    for file in files:
        ExamplesDataset(filepath=str(file)).save(examples())
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("content", [b"not an archive", b"PK\x03\x04 damaged"])
def test_a_damaged_file_is_named(tmp_path, content):
    file = tmp_path / "a.npz"
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.npz: no archive of examples .* evaluate again"):
        ExamplesDataset(filepath=str(file)).load()


def test_kedro_viz_shows_a_picture_of_the_examples(tmp_path):
    dataset = ExamplesDataset(filepath=str(tmp_path / "a.npz"))
    dataset.save(examples(3))
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(dataset.preview(columns=2)))))
    assert np.isclose(sheet.shape[1] / sheet.shape[0], PREVIEW_ASPECT, atol=0.03)
    assert (sheet == [230, 159, 0]).all(axis=-1).any()  # the label's outline
    # by this name Kedro-Viz knows what it is given
    assert inspect.signature(dataset.preview).return_annotation in ("ImagePreview",) or (
        inspect.signature(dataset.preview, eval_str=True).return_annotation.__name__
        == "ImagePreview"
    )


def test_report_is_replaced_as_a_whole(tmp_path):
    dataset = HTMLReportDataset(filepath=str(tmp_path / "reports" / "report.html"))
    dataset.save("<p>Å</p>")
    dataset.save("<p>e/Å²</p>")
    assert dataset.load() == dataset.preview() == "<p>e/Å²</p>"
    assert [f.name for f in (tmp_path / "reports").iterdir()] == ["report.html"]


def test_a_figure_for_print_is_all_its_files(tmp_path):
    figure = str(tmp_path / "figures" / "overview")
    dataset = PrintedFigureDataset(filepath=figure, endings=["_85mm.svg", "_85mm.pdf"])
    assert not dataset.exists()
    data = {"_85mm.svg": b"<?xml version='1.0'?><svg/>", "_85mm.pdf": b"%PDF"}
    dataset.save(data)
    assert dataset.exists()
    assert dataset.load() == data
    assert dataset.preview() == "<svg/>"
    assert [p.name for p in dataset.content_paths()] == ["overview_85mm.svg", "overview_85mm.pdf"]
    with pytest.raises(DatasetError, match=r"_170mm\.svg.*catalog names.*Set 'endings'"):
        dataset.save({"_170mm.svg": b"", "_85mm.pdf": b""})
    assert dataset.load() == data
    (tmp_path / "figures" / "overview_85mm.pdf").unlink()
    assert not dataset.exists()

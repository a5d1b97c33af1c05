import json
import os
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
from kedro.io import DatasetError
from PIL import Image
from tests.learning.test_segmentation import field, network_set

from temshift.catalog.new_micrographs import NewMicrographsDataset
from temshift.catalog.provenance import ProvenanceStore
from temshift.catalog.segmentations import SegmentationsDataset
from temshift.catalog.workbooks import WorkbookDataset
from temshift.config.deployment import DeploymentParameters
from temshift.learning.segmentation import Segmenter, Work, plan_work, segment

RESULT = segment(field(), {"a": network_set()}, pixel_size_nm=0.1)


def work(path, identity="1", result=RESULT):
    def run():
        if isinstance(result, BaseException):
            raise result
        return field(), result

    return Work(path, identity, run)


@pytest.fixture
def dataset(tmp_path):
    return SegmentationsDataset(filepath=str(tmp_path / "masks"))


def test_masks_are_calibrated_images_that_other_programs_read(dataset):
    dataset.save([work("a/b.dm3")])
    place = dataset.load().place("a/b.dm3")
    with tifffile.TiffFile(place / "mask.tif") as file:
        assert file.is_imagej
        assert file.imagej_metadata["unit"] == "nm"
        numerator, denominator = file.pages[0].tags["XResolution"].value
        assert numerator / denominator == pytest.approx(10)
        assert np.array_equal(file.asarray(), RESULT.mask)
    numbers = tifffile.imread(place / "particles.tif")
    assert numbers.dtype == np.uint16
    assert numbers.max() == len(RESULT.particles)
    assert tifffile.imread(place / "probability.tif").dtype == np.float16
    assert len(pd.read_csv(place / "particles.csv")) == 2
    assert Image.open(place / "overlay.png").size == (131, 150)
    assert json.loads((place / "result.json").read_text())["network"] == "a"


def test_what_is_up_to_date_is_not_made_again(dataset):
    dataset.save([work("a.tif"), work("b.tif")])
    fails = AssertionError("it was made again")
    dataset.save([work("a.tif", result=fails), work("b.tif", "2")])
    assert [entry["failed"] for entry in dataset.load().index()] == [None, None]
    with pytest.raises(DatasetError, match="made again"):
        dataset.save([work("a.tif", "3", fails)])


@pytest.mark.parametrize("order", [("some", "none"), ("none", "some")])
def test_a_micrograph_without_particles_leaves_the_others_their_types(dataset, order):
    empty = replace(RESULT, particles=RESULT.particles.iloc[:0])
    dataset.save([work(name, result=empty if name == "none" else RESULT) for name in order])
    particles = dataset.load().particles()
    assert set(particles["micrograph"]) == {"some"}
    assert dict(particles.dtypes.drop("micrograph")) == dict(RESULT.particles.dtypes)
    assert len(particles.nlargest(1, "area_px2")) == 1
    dataset.save([work("none", "2", replace(RESULT, particles=RESULT.particles.iloc[:0]))])
    only = dataset.load().particles()
    assert not len(only)
    assert set(RESULT.particles) < set(only)


def test_a_run_that_is_stopped_keeps_what_was_done_and_goes_on_there(dataset):
    with pytest.raises(KeyboardInterrupt):
        dataset.save([work("a.tif"), work("b.tif", result=KeyboardInterrupt()), work("c.tif")])
    assert dataset.load().up_to_date("a.tif", "1")
    left = dataset.load().folder / "micrographs" / ".b.tif.0123.part"
    left.mkdir()
    dataset.save([work("a.tif", result=AssertionError()), work("b.tif"), work("c.tif")])
    assert len(dataset.load().results()) == 3
    assert not left.exists()


def test_a_broken_file_is_reported_and_the_rest_done_and_earlier_results_stay(dataset):
    dataset.save([work("a.tif"), work("b.tif")])
    before = (dataset.load().place("a.tif") / "mask.tif").read_bytes()
    dataset.save([work("a.tif", "2", ValueError("it is damaged")), work("b.tif", "2")])
    store = dataset.load()
    first, second = store.results()
    assert first == {"path": "a.tif", "failed": "it is damaged"}
    assert second["failed"] is None
    assert (store.place("a.tif") / "mask.tif").read_bytes() == before
    assert set(store.particles()["micrograph"]) == {"b.tif"}
    with pytest.raises(DatasetError, match="no file"):
        dataset.save([])
    assert len(store.results()) == 2


def test_what_does_not_fit_into_the_memory_is_reported_and_the_rest_done(dataset):
    dataset.save([work("a.tif", result=MemoryError("168 GiB")), work("b.tif")])
    first, second = dataset.load().results()
    assert "does not fit into the memory" in first["failed"]
    assert second["failed"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is Unicode")
def test_a_name_that_is_no_utf8_is_reported_and_the_rest_done(tmp_path, dataset):
    files, odd = tmp_path / "files", os.fsdecode(b"Probe_\xe4.tif")
    files.mkdir()
    for name in ("b.tif", odd):
        tifffile.imwrite(files / name, field().astype(np.uint16))
    store = NewMicrographsDataset(filepath=str(files)).load()
    dataset.save(plan_work(store, Segmenter({"a": network_set()}), "code"))
    failed = {entry["path"]: entry["failed"] for entry in dataset.load().index()}
    assert failed["b.tif"] is None
    assert "rename it" in failed[r"Probe_\udce4.tif"]
    assert ProvenanceStore(tmp_path / "records").content([files])


def test_where_nothing_could_be_segmented_the_run_fails_and_leaves_what_was_there(dataset):
    dataset.save([work("a.tif")])
    before = dataset.load().index()
    with pytest.raises(DatasetError, match=r"in 5 files .*\n.*b0\.tif: cut short \(the others"):
        dataset.save([work(f"b{i}.tif", result=ValueError("cut short")) for i in range(5)])
    with pytest.raises(DatasetError, match=r"in the file .*\nFound c\.tif: cut short; expected"):
        dataset.save([work("c.tif", result=ValueError("cut short"))])
    with pytest.raises(DatasetError, match="no file"):
        dataset.save([])
    assert dataset.load().index() == before


def test_masks_of_an_earlier_folder_are_told(dataset, caplog):
    caplog.set_level("INFO")
    dataset.save([work("old/a.tif"), work("both.tif")])
    assert "segmented before" not in caplog.text
    assert "2 micrographs: 2 segmented, 0 up to date, 0 could not" in caplog.text
    dataset.save([work("both.tif"), work("new.tif")])
    assert dataset.load().others() == ["old/a.tif"]
    assert "masks of 1 other micrograph, segmented before, stay in" in caplog.text


def test_a_file_named_like_the_index_is_no_trouble(dataset):
    dataset.save([work("index.json")])
    assert len(dataset.load().results()) == 1


def test_a_file_or_a_folder_is_taken_and_tables_beside_are_not(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("x.tif", "sub/y.dm3", "notes.txt", "table.xlsx"):
        (tmp_path / name).write_bytes(b"x")
    assert NewMicrographsDataset(str(tmp_path)).load().paths() == ["sub/y.dm3", "x.tif"]
    single = NewMicrographsDataset(str(tmp_path / "x.tif")).load()
    assert single.paths() == ["x.tif"]
    assert single.exists("x.tif")
    with pytest.raises(DatasetError, match=r"no such file or folder.*deployment.input"):
        NewMicrographsDataset(str(tmp_path / "nowhere")).load()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no file of a micrograph"):
        NewMicrographsDataset(str(tmp_path / "empty")).load()
    with pytest.raises(DatasetError, match="never written"):
        NewMicrographsDataset(str(tmp_path)).save([])


def test_the_image_of_a_header_of_tia_counts_once(tmp_path):
    for name in ("a.emi", "a_1.ser", "b.emi", "c_2.SER", "c.EMI"):
        (tmp_path / name).write_bytes(b"1")
    store = NewMicrographsDataset(filepath=str(tmp_path)).load()
    assert store.paths() == ["a_1.ser", "b.emi", "c_2.SER"]


def test_pixels_beside_their_header_count_once_and_are_part_of_its_content(tmp_path):
    """Else a rerun would take the old mask for that of the new pixels."""
    from rsciio.ripple import file_writer
    from tests import image_writers as w

    image = field().astype(np.float32)
    file_writer(str(tmp_path / "a.rpl"), w.signal_dict(image, 0.02))
    (tmp_path / "b.raw").write_bytes(b"1")
    store = NewMicrographsDataset(filepath=str(tmp_path)).load()
    assert store.paths() == ["a.rpl", "b.raw"]
    before = store.sha256("a.rpl")
    assert before == store.sha256("a.rpl") != store.sha256("b.raw")
    pixels = bytearray((tmp_path / "a.raw").read_bytes())
    pixels[7] ^= 64
    (tmp_path / "a.raw").write_bytes(pixels)
    assert store.sha256("a.rpl") != before


def test_a_name_as_long_as_names_can_be_is_no_trouble(dataset):
    name = "金" * 80 + ".tif"
    assert len(name.encode()) == 244
    dataset.save([work(name), work("b.tif")])
    assert [r["path"] for r in dataset.load().results()] == [name, "b.tif"]


def test_a_known_pixel_size_stands_for_a_calibration_that_gives_none(tmp_path, caplog):
    for name, unit in (("mm.tif", "mm"), ("odd.tif", "furlong"), ("fourier.tif", "1/nm")):
        tifffile.imwrite(
            tmp_path / name,
            field().astype(np.uint16),
            imagej=True,
            resolution=(1, 1),
            metadata={"unit": unit},
        )
    store = NewMicrographsDataset(filepath=str(tmp_path)).load()
    asked = DeploymentParameters(pixel_size_nm=0.1)
    known = Segmenter({"a": network_set()}, asked, device="cpu")
    for name in ("mm.tif", "odd.tif"):
        with pytest.raises(ValueError, match=r"mend|must be mended"):
            store.read(name)
    done = {}
    for one in plan_work(store, known, "code"):
        if one.path == "fourier.tif":
            with pytest.raises(ValueError, match="diffraction pattern"):
                one.run()
        else:
            done[one.path] = one.run()[1].pixel_size_nm
    assert done == {"mm.tif": 0.1, "odd.tif": 0.1}
    assert "odd.tif: its own calibration is not used" in caplog.text


def test_a_workbook_holds_text_that_looks_like_a_formula_as_text(tmp_path):
    import openpyxl

    dataset = WorkbookDataset(str(tmp_path / "x.xlsx"))
    table = pd.DataFrame({"name": ["=1+1", "b\x07"], "size": [1.5, np.nan]})
    dataset.save({"one": table, "two": table})
    sheet = openpyxl.load_workbook(tmp_path / "x.xlsx")["one"]
    assert sheet["A2"].value == "=1+1"
    assert sheet["A2"].data_type == "s"
    assert sheet["A3"].value == "b"
    assert sheet["B2"].value == 1.5
    assert sheet["B3"].value is None
    assert set(dataset.load()) == {"one", "two"}


def test_the_same_tables_are_the_same_workbook_whenever_it_is_written(tmp_path):
    from datetime import datetime
    from zipfile import ZipFile

    table = pd.DataFrame({"name": ["a", "b"], "size": [1.5, np.nan]})
    written = []
    for name in ("one.xlsx", "two.xlsx"):
        WorkbookDataset(str(tmp_path / name)).save({"sizes": table})
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    # two saves within a second would be alike anyway: nothing in the file knows the present time
    with ZipFile(tmp_path / "one.xlsx") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert str(datetime.now().year) not in archive.read("docProps/core.xml").decode()
    table.loc[0, "size"] = 1.6
    WorkbookDataset(str(tmp_path / "two.xlsx")).save({"sizes": table})
    assert (tmp_path / "two.xlsx").read_bytes() != written[0]

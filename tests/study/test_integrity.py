"""Every kind of unfit data is found, told with its file, and stops nothing but the bad data."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from temshift.config.curation import CurationParameters
from temshift.config.splits import SplitParameters
from temshift.microscopy.micrograph import Micrograph
from temshift.study.folds import FoldError
from temshift.study.integrity import IntegrityError, accept, inspect_micrographs
from temshift.study.splits import SplitError
from temshift.study.tables import standardise_table

ALL = {"all": SplitParameters(where={"source": "test"})}


class UnreadableError(ValueError):
    """As :class:`temshift.catalog.micrographs.MicrographReadError`."""

    def __init__(self, reason):
        super().__init__(f"somewhere: {reason}")
        self.reason = reason


class FakeStore:
    """Micrographs and masks from memory; counts what is read."""

    def __init__(self, micrographs, labels):
        self.micrographs, self.labels, self.reads = micrographs, labels, []

    def exists(self, path):
        return path in self.micrographs or path in self.labels

    def paths(self):
        return sorted([*self.micrographs, *self.labels])

    def read(self, path):
        self.reads.append(path)
        if path not in self.micrographs:
            raise UnreadableError("there is no such file")
        found = self.micrographs[path]
        if isinstance(found, Exception):
            raise found
        return found

    read_header = read

    def read_label(self, path, kind="binary"):
        found = self.labels[path]
        if isinstance(found, Exception):
            raise found
        return found

    def sha256(self, path):
        return hashlib.sha256(self.micrographs[path].image.tobytes()).hexdigest()


@pytest.fixture
def data(rng):
    """A table of six good micrographs and their store."""
    names = [f"m{i}" for i in range(6)]
    raw = pd.DataFrame(
        {
            "path": [f"{n}.dm3" for n in names],
            "label_path": [f"{n}.png" for n in names],
            "pixel_size_nm": 0.02,
            "dose_e_per_A2": 423.0,
            "source": "test",
        }
    )
    mask = np.zeros((20, 30), np.uint8)
    mask[5:9, 5:9] = 1
    images = [rng.normal(100, 10, (20, 30)).astype(np.float32) for _ in names]
    store = FakeStore(
        {f"{n}.dm3": Micrograph(im, 0.0201, "header") for n, im in zip(names, images, strict=True)},
        {f"{n}.png": mask.copy() for n in names},
    )
    return raw, store


def inspect(raw, store, splits=ALL, **parameters):
    curation = CurationParameters(**parameters)
    table, findings = standardise_table(raw, curation)
    return table, *inspect_micrographs(table, findings, store, curation, splits)


def only(report):
    assert len(report) == 1, report.to_string()
    return report.iloc[0].to_dict()


def test_good_data_have_no_findings(data):
    table, report, measurements = inspect(*data)
    assert report.empty
    accepted = accept(table, report, measurements, CurationParameters(), ALL, folds=3)
    assert accepted["micrograph_id"].tolist() == table["micrograph_id"].tolist()
    assert (accepted["height_px"] == 20).all()
    assert (accepted["width_px"] == 30).all()
    assert accepted["sha256"].str.len().eq(64).all()
    assert (accepted["pixel_size_nm"] == 0.02).all()  # the table wins
    assert set(accepted["pixel_size_source"]) == {"table"}
    assert sorted(accepted["fold"]) == [0, 0, 1, 1, 2, 2]


def test_pixel_size_comes_from_the_header_or_stays_unknown(data):
    raw, store = data
    raw = raw.assign(pixel_size_nm=[0.03, *[""] * 5])
    store.micrographs["m5.dm3"] = Micrograph(store.micrographs["m5.dm3"].image)
    table, report, measurements = inspect(raw, store)
    accepted = accept(table, report, measurements, CurationParameters(), ALL, folds=2)
    assert accepted["pixel_size_source"].tolist() == ["table", *["header"] * 4, "unknown"]
    assert accepted["pixel_size_nm"].tolist()[:5] == [0.03, *[0.0201] * 4]
    assert np.isnan(accepted["pixel_size_nm"][5])
    assert only(report)["severity"] == "warning"


def test_missing_mask(data):
    raw, store = data
    del store.labels["m1.png"]
    found = only(inspect(raw, store)[1])
    assert found == {
        "severity": "error",
        "file": "m1.dm3",
        "column": "label_path",
        "found": "no file 'm1.png'",
        "expected": "a mask for every micrograph",
    }


def test_mask_of_another_shape(data):
    raw, store = data
    store.labels["m1.png"] = np.zeros((20, 31), np.uint8)
    found = only(inspect(raw, store)[1])
    assert (found["found"], found["expected"]) == ("m1.png: 20 × 31 px", "20 × 30 px, as the image")


def test_mask_with_other_values(data):
    raw, store = data
    store.labels["m1.png"] = UnreadableError("a mask must hold {0, 1} or {0, 255} only, found 3")
    found = only(inspect(raw, store)[1])
    assert found["severity"] == "error"
    assert "m1.png: a mask must hold {0, 1} or {0, 255} only" in found["found"]


def test_unreadable_and_missing_micrographs(data):
    raw, store = data
    store.micrographs["m1.dm3"] = UnreadableError("it is truncated: it has 9 of 90 bytes")
    del store.micrographs["m2.dm3"]
    report = inspect(raw, store)[1]
    assert dict(zip(report["file"], report["found"], strict=True)) == {
        "m1.dm3": "it is truncated: it has 9 of 90 bytes",
        "m2.dm3": "no file 'm2.dm3'",
    }
    assert set(report["severity"]) == {"error"}


def test_nan_image(data):
    raw, store = data
    store.micrographs["m1.dm3"].image[3, 4:6] = np.nan
    found = only(inspect(raw, store)[1])
    assert (found["file"], found["found"]) == ("m1.dm3", "2 pixels that are NaN or infinite")


def test_constant_and_saturated_images(data):
    raw, store = data
    store.micrographs["m1.dm3"].image[:] = 7
    store.micrographs["m2.dm3"].image[:2] = 5000
    report = inspect(raw, store)[1]
    assert report["severity"].tolist() == ["error", "warning"]
    assert report["found"][0] == "the value 7.0 in every pixel"
    assert report["found"][1] == "10.0% of the pixels have the maximum, 5000.0"


def test_duplicate_ids(data):
    raw, store = data
    report = inspect(raw.assign(micrograph_id=["x", "x", *"abcd"]), store)[1]
    errors = report[report["severity"] == "error"]
    assert errors["column"].tolist() == ["micrograph_id"] * 2
    assert errors["found"].tolist() == ["x (also in row 2)", "x (also in row 1)"]


def test_the_same_image_twice_is_an_error_unless_in_one_group(data):
    raw, store = data
    store.micrographs["m4.dm3"] = store.micrographs["m1.dm3"]
    found = only(inspect(raw, store)[1])
    assert (found["severity"], found["file"]) == ("error", "m4.dm3")
    assert found["found"] == "the same pixels as m1.dm3"
    specimens = ["a", "b", "c", "d", "b", "e"]
    assert only(inspect(raw.assign(specimen_id=specimens), store)[1])["severity"] == "warning"


def test_the_same_image_in_another_file_and_number_type_is_found(data):
    raw, store = data
    counts = store.micrographs["m1.dm3"].image.astype(np.uint16)
    store.micrographs["m1.dm3"] = Micrograph(counts, 0.0201, "header")
    store.micrographs["m4.dm3"] = Micrograph(counts.astype(np.float32), 0.0201, "header")
    assert store.sha256("m1.dm3") != store.sha256("m4.dm3")
    found = only(inspect(raw, store)[1])
    assert (found["severity"], found["file"]) == ("error", "m4.dm3")
    assert found["found"] == "the same pixels as m1.dm3"


def test_images_that_differ_in_one_pixel_are_not_the_same(data):
    raw, store = data
    image = store.micrographs["m1.dm3"].image.copy()
    image[3, 4] += 1
    store.micrographs["m4.dm3"] = Micrograph(image, 0.0201, "header")
    assert inspect(raw, store)[1].empty


def test_masks_that_look_empty_or_inverted(data):
    raw, store = data
    store.labels["m1.png"][:] = 0
    store.labels["m2.png"][:] = 1
    report = inspect(raw, store)[1]
    assert report["severity"].tolist() == ["warning"] * 2
    assert report["found"].tolist() == ["a mask without any particle", "100% labelled"]


def test_table_against_header(data):
    raw, store = data
    raw.loc[1, "pixel_size_nm"] = 0.025
    raw.loc[2, "dose_e_per_A2"] = 42300.0
    image = store.micrographs["m3.dm3"].image
    store.micrographs["m3.dm3"] = Micrograph(image, 0.02, "header", {"dose_e_per_A2": 80.0})
    report = inspect(raw, store)[1]
    assert report[["severity", "file", "found", "expected"]].to_numpy().tolist() == [
        ["warning", "m1.dm3", "0.025 in the table", "0.0201, as in the header"],
        ["warning", "m2.dm3", "42300", "0.1 to 20000 e/Å² (is it in e/nm²?)"],
        ["warning", "m3.dm3", "423 in the table", "80, as in the header"],
    ]


def test_a_file_that_has_changed(data):
    raw, store = data
    found = only(inspect(raw.assign(sha256=["f" * 64, *[""] * 5]), store)[1])
    assert (found["column"], found["severity"]) == ("sha256", "error")
    assert "the file has changed" in found["expected"]


def test_only_what_the_splits_need_is_read(data):
    raw, store = data
    del store.micrographs["m5.dm3"]
    raw = raw.assign(material=[*["Au"] * 5, "Pt"])
    splits = {"gold": SplitParameters(where={"material": "Au"})}
    table, report, measurements = inspect(raw, store, splits)
    assert report.empty
    assert sorted(store.reads) == [f"m{i}.dm3" for i in range(5)]
    accepted = accept(table, report, measurements, CurationParameters(), splits, 2)
    assert len(accepted) == 5


def test_splits_may_select_on_header_pixel_sizes(data):
    raw, store = data
    raw = raw.drop(columns="pixel_size_nm")
    image = store.micrographs["m0.dm3"].image
    store.micrographs["m0.dm3"] = Micrograph(image, 0.04, "header")
    store.micrographs["m1.dm3"] = UnreadableError("it is damaged")
    splits = {"fine": SplitParameters(where={"pixel_size_nm": 0.0201})}
    _, report, measurements = inspect(raw, store, splits)
    assert only(report)["file"] == "m1.dm3"
    assert measurements["micrograph_id"].tolist() == ["m2", "m3", "m4", "m5"]


def test_a_split_that_selects_nothing_stops_before_any_file_is_read(data):
    raw, store = data
    with pytest.raises(SplitError, match="Split 'none' selects none of 6"):
        inspect(raw, store, {"none": SplitParameters(where={"material": "Pt"})})
    assert store.reads == []


def test_errors_are_refused_all_together(data):
    raw, store = data
    store.labels.clear()
    table, report, measurements = inspect(raw, store)
    with pytest.raises(IntegrityError) as caught:
        accept(table, report, measurements, CurationParameters(), ALL, 3)
    text = str(caught.value)
    assert "6 errors" in text
    assert "m1.dm3: label_path: found no file 'm1.png'; expected a mask" in text
    *_, what, found, remedy = text.splitlines()
    assert what == "m0.dm3: label_path is wrong"
    assert found == "Found no file 'm0.png'; expected a mask for every micrograph"
    assert "all 6 errors are listed in 08_reporting/integrity.csv" in remedy


def test_too_few_groups_for_the_folds(data):
    raw, store = data
    table, report, measurements = inspect(raw.assign(specimen_id=list("aabbbb")), store)
    with pytest.raises(FoldError, match="2 groups"):
        accept(table, report, measurements, CurationParameters(), ALL, 3)
    by_micrograph = CurationParameters(group_by="micrograph_id")
    assert set(accept(table, report, measurements, by_micrograph, ALL, 3)["fold"]) == {0, 1, 2}

"""Which files a folder of micrographs has: links, hidden ones, those of the system."""

import logging

import numpy as np
import pytest
from tests.learning.test_segmentation import field, network_set

from temshift.catalog.folders import files_below
from temshift.catalog.micrographs import MicrographReadError, MicrographStore
from temshift.catalog.new_micrographs import MaskStore, NewMicrographStore
from temshift.catalog.provenance import ProvenanceStore
from temshift.catalog.segmentations import SegmentationsDataset
from temshift.learning.segmentation import Segmenter, plan_work


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, field().astype(np.float32))
    return path


def test_linked_folders_are_searched(tmp_path):
    save(tmp_path / "far" / "deep" / "b.npy")
    save(tmp_path / "far" / "c.npy")
    save(tmp_path / "in" / "a.npy")
    (tmp_path / "in" / "session").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "more").symlink_to(save(tmp_path / "third" / "d.npy").parent)
    expected = ["a.npy", "session/c.npy", "session/deep/b.npy", "session/more/d.npy"]
    for kind in (MicrographStore, NewMicrographStore):
        store = kind(tmp_path / "in")
        assert store.paths() == expected
        assert all(store.read(path).image.ndim == 2 for path in expected)


@pytest.mark.parametrize("target", [".", "..", "../..", "../sub", "/"])
def test_links_in_circles_end(tmp_path, target, caplog):
    save(tmp_path / "in" / "a.npy")
    (tmp_path / "in" / "sub").mkdir()
    (tmp_path / "in" / "sub" / "again").symlink_to(target)
    with caplog.at_level(logging.WARNING):
        store = NewMicrographStore(tmp_path / "in")
        assert store.paths() == store.paths() == ["a.npy"]
    assert caplog.text.count("is not followed, which is searched already") == 1


def test_two_links_to_each_other_end(tmp_path):
    save(tmp_path / "one" / "a.npy")
    save(tmp_path / "two" / "b.npy")
    (tmp_path / "one" / "next").symlink_to(tmp_path / "two")
    (tmp_path / "two" / "next").symlink_to(tmp_path / "one")
    assert files_below(tmp_path / "one")[0] == ["a.npy", "next/b.npy"]


def test_a_file_of_several_names_counts_once(tmp_path, caplog):
    far = save(tmp_path / "far" / "x.npy")
    save(tmp_path / "in" / "z.npy")
    (tmp_path / "in" / "a.npy").symlink_to("z.npy")
    (tmp_path / "in" / "b.npy").symlink_to(far)
    (tmp_path / "in" / "c.npy").symlink_to(far)
    with caplog.at_level(logging.WARNING):
        assert NewMicrographStore(tmp_path / "in").paths() == ["b.npy", "z.npy"]
    assert "a.npy: left out, a link to" in caplog.text
    assert "in/z.npy, which is here already" in caplog.text
    assert MaskStore(tmp_path / "in").paths() == ["a.npy", "b.npy", "c.npy", "z.npy"]


def test_a_link_that_leads_nowhere_is_a_file_that_cannot_be_used(tmp_path, caplog):
    save(tmp_path / "in" / "a.npy")
    (tmp_path / "in" / "broken.tif").symlink_to(tmp_path / "gone.tif")
    (tmp_path / "in" / "circle.tif").symlink_to("circle.tif")
    (tmp_path / "in" / "session").symlink_to(tmp_path / "gone")
    store = NewMicrographStore(tmp_path / "in")
    assert store.paths() == ["a.npy", "broken.tif", "circle.tif", "session"]
    with pytest.raises(MicrographReadError, match=r"session: this is a link to .*gone, where"):
        store.read("session")
    results = SegmentationsDataset(str(tmp_path / "out"))
    with caplog.at_level(logging.WARNING):
        results.save(plan_work(store, Segmenter({"a": network_set()})))
    assert "broken.tif: this is a link to" in caplog.text
    assert [own["path"] for own in results.load().results()] == store.paths()


@pytest.mark.parametrize(
    "name", [".Trash/x.tif", "sub/.cache/deep/x.tif", ".x.tif", "Thumbs.db", "sub/desktop.ini"]
)
def test_hidden_files_and_those_of_the_system_are_none(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("nothing")
    assert MicrographStore(tmp_path).paths() == []
    assert NewMicrographStore(tmp_path).paths() == []


def test_a_linked_folder_of_masks_holds_no_micrographs(tmp_path):
    save(tmp_path / "in" / "a.npy")
    mask = save(tmp_path / "elsewhere" / "a.npy")
    (tmp_path / "in" / "masks").symlink_to(mask.parent)
    micrographs = NewMicrographStore(tmp_path / "in").paths()
    assert micrographs == ["a.npy", "masks/a.npy"]
    for source in (tmp_path / "in" / "masks", tmp_path / "in" / "masks" / "a.npy"):
        assert MaskStore(source).others(tmp_path / "in", micrographs) == ["a.npy"]


def test_a_change_in_a_linked_folder_is_one_of_the_folder(tmp_path):
    far = save(tmp_path / "far" / "b.npy")
    save(tmp_path / "in" / "a.npy")
    (tmp_path / "in" / "broken.tif").symlink_to(tmp_path / "gone.tif")
    store = ProvenanceStore(tmp_path / ".provenance")
    seen = [store.content([tmp_path / "in"])]
    (tmp_path / "in" / "session").symlink_to(far.parent)
    seen.append(store.content([tmp_path / "in"]))
    far.write_bytes(b"changed")
    seen.append(store.content([tmp_path / "in"]))
    assert None not in seen
    assert len(set(seen)) == 3

"""A reader never meets half of a file, and failure leaves what was good."""

import os

import pytest

from temshift.catalog.files import atomic_folder, atomic_path


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with atomic_path(path) as temporary:
        assert temporary.suffix == ".csv"  # writers choose the format by it
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["table.csv"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("good")

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("bad")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert path.read_text() == "good"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "networks"
    path.mkdir()
    (path / "old").write_text("old")
    with atomic_folder(path) as temporary:
        (temporary / "new").write_text("new")
        assert os.listdir(path) == ["old"]
    assert os.listdir(path) == ["new"]
    assert os.listdir(tmp_path) == ["networks"]


def test_a_failure_leaves_the_old_folder(tmp_path):
    path = tmp_path / "networks"
    path.mkdir()
    (path / "old").write_text("old")

    def write() -> None:
        with atomic_folder(path) as temporary:
            (temporary / "new").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert os.listdir(path) == ["old"]
    assert os.listdir(tmp_path) == ["networks"]


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    path = tmp_path / "networks"
    path.mkdir()
    (path / "old").write_text("old")
    replace = os.replace

    def fails_for_the_new_one(source, target):
        if str(source).endswith(".part"):
            raise OSError("disk gone")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_for_the_new_one)
    with pytest.raises(OSError, match="disk gone"), atomic_folder(path) as temporary:
        (temporary / "new").write_text("new")
    assert os.listdir(path) == ["old"]
    assert os.listdir(tmp_path) == ["networks"]

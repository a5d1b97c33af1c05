"""The reason for which a file is not read is true: *damaged* is said only of damage."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests import image_writers as w

from temshift.catalog.micrographs import MicrographReadError, MicrographStore
from temshift.catalog.reading.refusals import RefusedError, reason_for

IMAGE = np.arange(240, dtype=np.uint16).reshape(12, 20)


def reason(store, name):
    with pytest.raises(MicrographReadError) as caught:
        store.read(name)
    assert "damaged" not in caught.value.reason
    return caught.value.reason


def test_what_is_no_ordinary_file(tmp_path):
    store = MicrographStore(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "null.png").symlink_to("/dev/null")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "empty.png").touch()
    with socket.socket(socket.AF_UNIX) as plug:
        home = Path.cwd()
        os.chdir(tmp_path)  # names of sockets are short
        try:
            plug.bind("socket.png")
        finally:
            os.chdir(home)
        for name in ("pipe.png", "null.png", "socket.png"):
            assert "no ordinary file but a pipe" in reason(store, name)
    assert "a folder, not a file" in reason(store, "folder.png")
    assert "a link to" in reason(store, "broken.png")
    assert "nowhere, where there is no such file: mend the link" in reason(store, "broken.png")
    assert "cannot be looked at" in reason(store, "loop.png")
    assert "cannot be looked at" in reason(store, "a" * 300 + ".png")
    assert "cannot be looked at" in reason(store, "nul\0l.png")
    assert "the file is empty" in reason(store, "empty.png")
    assert "no such file" in reason(store, "broken.png/a.png")


def test_a_file_that_another_program_has_locked(tmp_path):
    path = w.write_hspy(tmp_path / "a.hspy", IMAGE, 0.02)
    code = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"locked\n"
        said = reason(MicrographStore(tmp_path), "a.hspy")
        holder.stdin.close()
    assert "another program has it open and locked" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = w.write_mrc(tmp_path / "a.mrc", IMAGE)
    path.chmod(0)
    assert "it may not be read" in reason(MicrographStore(tmp_path), "a.mrc")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RefusedError("it is a stack"), "it is a stack"),
        (ModuleNotFoundError("No module named 'sparse'", name="sparse"), "pip install sparse"),
        (ModuleNotFoundError("The 'sparse' library was not found."), "pip install sparse"),
        (ValueError("LZW requires the 'imagecodecs' package"), "pip install imagecodecs"),
        (ImportError("cannot import x"), "needs a Python package"),
        (PermissionError(13, "Permission denied"), "it may not be read"),
        (BlockingIOError(11, "unavailable"), "another program has it open"),
        (OSError("unable to lock file, errno = 11"), "another program has it open"),
        (MemoryError("Unable to allocate 7 TiB"), "does not fit into the memory"),
        (NotImplementedError("version 7"), "of a kind that cannot be read: version 7"),
        (EOFError(), "it is truncated"),
        (OSError("truncated file: eof = 96"), "it is truncated"),
        (OSError("image file is truncated (3 bytes not processed)"), "it is truncated"),
        (ValueError("cannot reshape array of size 3 into shape (2,2)"), "it is truncated"),
        (KeyError("Calibrations"), "it is damaged or in a form"),
    ],
)
def test_reasons_in_words(error, words):
    assert words in reason_for(error)
    assert ("damaged" in reason_for(error)) == isinstance(error, KeyError)


def test_readers_that_were_tried_are_named(tmp_path):
    (tmp_path / "a.img").write_bytes(bytes(range(256)) * 8)
    with pytest.raises(MicrographReadError) as caught:
        MicrographStore(tmp_path).read("a.img")
    assert "none of the readers of .img files can read it" in caught.value.reason
    assert "jeol: " in caught.value.reason
    assert "hamamatsu: " in caught.value.reason
    assert "Save the image alone as TIFF" in caught.value.reason


def test_plain_hdf5_is_refused_in_a_line_without_advice_that_does_not_help(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one"], file["two"] = IMAGE, IMAGE
    said = reason_of_any(MicrographStore(tmp_path), "a.h5")
    assert "pip install" not in said
    assert len(said) < 250


def reason_of_any(store, name):
    with pytest.raises(MicrographReadError) as caught:
        store.read(name)
    return caught.value.reason


def test_large_files_are_not_read_whole_by_readers_that_cannot_wait(tmp_path, monkeypatch):
    from temshift.catalog.reading import rosettasciio

    monkeypatch.setattr(rosettasciio, "_MAX_EAGER_BYTES", 100)
    (tmp_path / "a.sur").write_bytes(bytes(200))
    with pytest.raises(MicrographReadError, match="can only read it whole"):
        MicrographStore(tmp_path).read("a.sur")

"""What lies in an object store: fetched when it differs, sent when saved, compared by content."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from kedro.io import DatasetError
from tests.s3_server import served_bucket

from temshift import context
from temshift.catalog.content import content_paths
from temshift.catalog.provenance import ProvenanceStore
from temshift.catalog.remote import Remote, copies_here, local_copy
from temshift.catalog.study_catalog import StudyCatalog
from temshift.catalog.sweeps import SweepStore
from temshift.config.errors import UserError
from temshift.mistakes import as_user_error

TABLE = {"type": "pandas.CSVDataset", "save_args": {"index": False}}
PAGE = {"type": "temshift.catalog.reports.HTMLReportDataset"}
FIGURE = {
    "type": "temshift.catalog.reports.PrintedFigureDataset",
    "endings": ["_85.svg", "_85.pdf"],
}
DATA = pd.DataFrame({"a": [1, 2]})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TEMSHIFT_CACHE", str(tmp_path / "cache"))
    MemoryFileSystem.store.clear()
    yield tmp_path / "cache"
    MemoryFileSystem.store.clear()


@pytest.fixture(params=["memory", "local", "s3"])
def root(request, cache, tmp_path, monkeypatch):
    """Addresses of two file systems that stand for an object store, and of S3 where it is there."""
    if request.param == "s3":
        with served_bucket(monkeypatch) as bucket:
            yield bucket
    else:
        yield "memory://bucket" if request.param == "memory" else f"local://{tmp_path}/bucket"


def catalog(root: str) -> StudyCatalog:
    return StudyCatalog.from_config(
        {
            "table": {**TABLE, "filepath": f"{root}/table.csv"},
            "page": {**PAGE, "filepath": f"{root}/page.html"},
            "figure": {**FIGURE, "filepath": f"{root}/figures/one"},
            "{name}.page": {**PAGE, "filepath": f"{root}/{{name}}/page.html"},
            "provenance": {
                "type": "temshift.catalog.provenance.ProvenanceDataset",
                "filepath": f"{root}/.provenance",
            },
        }
    )


def elsewhere(monkeypatch, tmp_path) -> None:
    """Go on as on another machine."""
    monkeypatch.setenv("TEMSHIFT_CACHE", str(tmp_path / "another"))


def test_what_one_machine_saves_another_one_loads(root, monkeypatch, tmp_path):
    first = catalog(root)
    assert not first.exists("table")
    first.save("table", DATA)
    first.save("page", "<p>one</p>")
    first.save("a.page", "<p>a</p>")
    first.save("figure", {"_85.svg": b"<svg/>", "_85.pdf": b"%PDF"})
    elsewhere(monkeypatch, tmp_path)
    second = catalog(root)
    assert second.exists("table")
    assert second.load("table").equals(DATA)
    assert second.load("page") == "<p>one</p>"
    assert second.load("a.page") == "<p>a</p>"
    assert second.load("figure")["_85.pdf"] == b"%PDF"
    second.save("page", "<p>two</p>")
    monkeypatch.setenv("TEMSHIFT_CACHE", str(tmp_path / "cache"))
    assert first.load("page") == "<p>two</p>"


def test_the_same_content_has_the_same_hash_here_and_there(root, tmp_path):
    there = catalog(root)
    here = catalog(str(tmp_path / "here"))
    records = ProvenanceStore(tmp_path / "records")
    for name in ("table", "figure"):
        assert records.content(content_paths(there.get(name))) is None
        data = DATA if name == "table" else {"_85.svg": b"<svg/>", "_85.pdf": b"%PDF"}
        hashes = []
        for one in (there, here):
            one.save(name, data)
            hashes.append(records.content(content_paths(one.get(name))))
        assert hashes[0] == hashes[1] is not None
    there.save("table", DATA + 1)
    other = records.content(content_paths(there.get("table")))
    assert other != records.content(content_paths(here.get("table")))


def test_nothing_is_fetched_to_be_compared_if_its_version_is_known(root, monkeypatch, tmp_path):
    first = catalog(root)
    first.save("page", "<p>one</p>")
    store = first.load("provenance")
    value = store.content(content_paths(first.get("page")))
    store.put("node", {"outputs": {}, "parts": {"inputs": {}}})
    store.keep()
    elsewhere(monkeypatch, tmp_path)
    second = catalog(root)
    known = second.load("provenance")
    assert known.get("node") == {"outputs": {}, "parts": {"inputs": {}}}
    with monkeypatch.context() as patched:
        patched.setattr(Remote, "_get", lambda self, names: pytest.fail(f"fetched {names}"))
        assert known.content(content_paths(second.get("page"))) == value
    known.drop("node")
    monkeypatch.setenv("TEMSHIFT_CACHE", str(tmp_path / "third"))
    assert catalog(root).load("provenance").get("node") is None


def folder_of(root: str) -> Remote:
    url = f"{root}/folder"
    place = Remote.of(local_copy(url), {})
    assert isinstance(place, Remote)
    assert place.url == url
    return place


def write(place: Remote, **files: str) -> None:
    for name, text in files.items():
        path = place.local / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_folder_is_replaced_with_all_that_is_no_more(root, monkeypatch, tmp_path):
    place = folder_of(root)
    write(place, a="1", b__c="2")
    place.send()
    elsewhere(monkeypatch, tmp_path)
    other = folder_of(root)
    other.fetch()
    assert (other.local / "b" / "c").read_text() == "2"
    (other.local / "b" / "c").unlink()
    write(other, a="11", d="3")
    (other.local / "run.lock").touch()
    other.send()
    assert sorted(other.listing()) == ["a", "d"], "locks are of one machine"
    monkeypatch.setenv("TEMSHIFT_CACHE", str(tmp_path / "cache"))
    place.fetch()
    files = {p.relative_to(place.local).as_posix() for p in place.local.rglob("*") if p.is_file()}
    assert files == {"a", "d"}
    assert (place.local / "a").read_text() == "11"


def test_what_a_killed_save_left_here_is_not_taken_for_what_is_there(root):
    place = folder_of(root)
    write(place, a="whole")
    place.send()
    place.begin()
    write(place, a="half", fold5="half")  # and then it is killed
    place.fetch()
    assert (place.local / "a").read_text() == "whole"
    assert not (place.local / "fold5").exists()


def test_a_fetch_that_breaks_off_leaves_the_copy_before(root, monkeypatch, tmp_path):
    place = folder_of(root)
    write(place, a="1")
    place.send()
    elsewhere(monkeypatch, tmp_path)
    other = folder_of(root)
    write(other, a="2")
    other.send()
    monkeypatch.setenv("TEMSHIFT_CACHE", str(tmp_path / "cache"))

    def broken(sources, targets):
        Path(targets[0]).write_text("ha")
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(place._fs, "get", broken)
    with pytest.raises(UserError, match="does not answer as it should"):
        place.fetch()
    assert os.listdir(place.local) == ["a"]
    assert (place.local / "a").read_text() == "1"


def test_a_save_that_fails_sends_nothing(root):
    one = catalog(root)
    one.save("figure", {"_85.svg": b"<svg/>", "_85.pdf": b"%PDF"})
    with pytest.raises(DatasetError, match="the catalog names"):
        one.save("figure", {"_85.svg": b"other"})
    assert one.load("figure")["_85.svg"] == b"<svg/>"


def test_no_object_leaves_the_folder(cache):
    with pytest.raises(UserError, match="leads out of its folder"):
        local_copy("s3://bucket/../../etc/passwd")
    MemoryFileSystem.store.clear()
    place = folder_of("memory://bucket")
    write(place, a="1")
    place.send()
    stored = dict(MemoryFileSystem.store)
    MemoryFileSystem.store["/bucket/folder/../x"] = stored["/bucket/folder/a"]
    with pytest.raises(UserError, match="leads out of its folder"):
        place.fetch()


def test_what_is_left_to_its_dataset():
    """A page of the web, what keeps versions, a path of this machine."""
    for entry in (
        {"type": "pandas.CSVDataset", "filepath": "https://example.org/x.csv"},
        {"type": "pandas.CSVDataset", "filepath": "s3://bucket/x.csv", "versioned": True},
        {"type": "pandas.CSVDataset", "filepath": "data/x.csv", "credentials": {"key": "1"}},
    ):
        assert copies_here(entry) == (entry, None)
    entry = {"type": "pandas.CSVDataset", "filepath": "file:///data/x.csv"}
    assert copies_here(entry) == ({**entry, "filepath": "/data/x.csv"}, None)


def test_credentials_reach_the_file_system_and_not_the_dataset(cache):
    entry = {**PAGE, "filepath": "s3://bucket/x.html", "credentials": {"key": "k"}}
    here, options = copies_here({**entry, "fs_args": {"endpoint_url": "http://127.0.0.1:1"}})
    assert here == {**PAGE, "filepath": str(cache / "s3" / "bucket" / "x.html")}
    assert options == {"key": "k", "endpoint_url": "http://127.0.0.1:1"}


def test_checkpoints_stay_on_the_machine_that_makes_them(root):
    kind = "temshift.catalog.networks.CheckpointsDataset"
    one = StudyCatalog.from_config({"it": {"type": kind, "filepath": f"{root}/checkpoints"}})
    store = one.load("it")
    store.save("fold0", "same", {"step": 1})
    assert one.load("it").load("fold0", "same") == {"step": 1}
    assert not folder_of(root).listing()


class AccessDeniedError(PermissionError):
    pass


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError("The specified bucket does not exist"), ("no such bucket", "Make the")),
        (AccessDeniedError("Access Denied"), ("no access", "AWS_ACCESS_KEY_ID")),
        (type("NoCredentialsError", (Exception,), {})("Unable to locate"), ("no access", "~/.aws")),
        (ConnectionError("refused"), ("does not answer", "AWS_ENDPOINT_URL")),
    ],
)
def test_what_a_store_refuses_is_told_in_three_lines(cache, monkeypatch, error, words):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(MemoryFileSystem, "find", refuse)
    with pytest.raises((UserError, OSError)) as raised:
        catalog("memory://bucket").load("page")
    told = as_user_error(raised.value)
    assert told.what.startswith("memory://bucket/page.html")
    assert words[0] in told.what
    assert words[1] in told.remedy


def test_a_protocol_without_its_package_says_which(cache, monkeypatch):
    import fsspec

    def missing(protocol, **options):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(UserError) as raised:
        catalog("s3://bucket").load("page")
    assert 'pip install -e ".[s3]"' in as_user_error(raised.value).remedy


def test_a_full_disk_is_told_as_one(cache, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    catalog("memory://bucket").save("page", "x")
    monkeypatch.setenv("TEMSHIFT_CACHE", str(cache / "other"))
    monkeypatch.setattr(MemoryFileSystem, "get", full)
    with pytest.raises((UserError, OSError)) as raised:
        catalog("memory://bucket").load("page")
    assert "disk is full" in as_user_error(raised.value).what


def test_the_catalog_can_still_be_written_down(tmp_path):
    """Datasets without an ``__init__`` of their own note the arguments by their names."""
    kinds = {"page": PAGE, "masks": {"type": "temshift.catalog.new_micrographs.MasksDataset"}}
    given = {name: {**entry, "filepath": str(tmp_path)} for name, entry in kinds.items()}
    one = StudyCatalog.from_config(given)
    for name in given:
        one.get(name)
    assert json.loads(json.dumps(one.to_config()[0])) == given


def test_networks_and_patches_in_an_object_store_are_found(tmp_path, monkeypatch):
    """Deployment would take the network in the box, and say that none of the study is trained."""
    monkeypatch.setenv("TEMSHIFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(context, "_project", lambda: tmp_path)
    store = tmp_path / "store"
    for file in ("networks/au/grouped_fold0/model.safetensors", "patches/au/patches.h5"):
        (store / file).parent.mkdir(parents=True)
        (store / file).write_bytes(b"1")
    for address in (f"local://{store}", f"file://{store}", str(store), "store"):
        entries = {
            "{network}.networks": {"filepath": f"{address}/networks/{{network}}"},
            "{split}.patches": {"filepath": f"{address}/patches/{{split}}/patches.h5"},
        }
        monkeypatch.setattr(context, "_entry", entries.get)
        assert context.any_trained(["ag", "au"]), address
        assert not context.any_trained(["ag"]), address
        assert context.has_patches("au"), address
        assert not context.has_patches("ag"), address


def test_records_of_trials_stay_where_they_are_made(tmp_path, monkeypatch):
    """Their catalog has no access to a store, though their folder lies among copies of one."""
    monkeypatch.setenv("TEMSHIFT_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "cache" / "local" / str(tmp_path / "store").strip("/") / "sweep"
    records = SweepStore(place).catalog("s", "0000", "c", [], {}).load("provenance")
    records.put("train", {"outputs": {}})
    assert records.get("train") == {"outputs": {}}
    assert not (tmp_path / "store").exists()

"""Downloads: whole, verified, resumable, from a server that misbehaves."""

import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from tests.file_server import serve

from temshift.catalog.downloads import REGISTRY, Downloader, DownloadError
from temshift.catalog.published import WeightsDataset

FOLDER = "2021_08_26 5nm Au nanoparticles on C/Ultrathin Carbon"
PATHS = [f"{FOLDER}/Au_330kx 0{i}.dm3" for i in range(4)] + [f"{FOLDER}/Labels/Au_label.png"]
SIZE = 300_000


@pytest.fixture
def remote(tmp_path):
    """A folder of five files with blanks and slashes in their paths."""
    rng = np.random.default_rng(5)
    for path in PATHS:
        file = tmp_path / "remote" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(rng.bytes(SIZE))
    return tmp_path / "remote"


@pytest.fixture
def server(remote):
    with serve(remote) as state:
        yield state


def downloader(folder, *sources, **options):
    options = {"backoff_s": 0.01, "attempts": 3, "timeout_s": 5, **options}
    return Downloader(folder, [getattr(s, "url", str(s)) for s in sources], **options)


def same(folder, remote, paths=PATHS):
    return all((folder / p).read_bytes() == (remote / p).read_bytes() for p in paths)


def leftovers(folder):
    return [p.name for p in folder.rglob("*.part")]


def test_a_password_gives_access_and_is_neither_recorded_nor_told(tmp_path, remote, caplog):
    caplog.set_level(logging.DEBUG)
    with serve(remote, access=("me", "s:cret/")) as server:
        source = server.url.replace("://", "://me:s%3Acret%2F@")
        downloader(tmp_path / "here", source).fetch(PATHS)
        assert same(tmp_path / "here", remote)
        with pytest.raises(DownloadError, match="404") as caught:
            downloader(tmp_path / "here", source).fetch(["absent.dm3"])
        with pytest.raises(DownloadError, match="401"):
            downloader(tmp_path / "there", server.url).fetch(PATHS)
        dataset = WeightsDataset(str(tmp_path), {"sources": [[source], "folder"]})
    written = (tmp_path / "here" / REGISTRY).read_text()
    for text in (written, str(caught.value), caplog.text, repr(dataset), str(dataset._describe())):
        assert "cret" not in text
    assert server.url in written
    assert dataset._describe()["sources"] == [[server.url], "folder"]


def test_files_arrive_under_their_paths_and_are_recorded(tmp_path, server, remote, caplog):
    caplog.set_level(logging.INFO)
    downloader(tmp_path / "here", server).fetch(PATHS)
    assert same(tmp_path / "here", remote)
    assert "fetching 5 files, 1.5 MB in all" in caplog.text
    rows = (tmp_path / "here" / REGISTRY).read_text().splitlines()
    assert len(rows) == 6
    assert all(f",{SIZE}," in row for row in rows[1:])
    assert not leftovers(tmp_path / "here")


def test_a_complete_folder_needs_no_network(tmp_path, server):
    downloader(tmp_path / "here", server).fetch(PATHS)
    server.requests.clear()
    downloader(tmp_path / "here", server).fetch(PATHS)
    assert server.requests == []
    downloader(tmp_path / "here", offline=True).fetch(PATHS)


def test_only_what_is_missing_is_fetched(tmp_path, server):
    downloader(tmp_path / "here", server).fetch(PATHS[:2])
    assert sorted(server.asked("GET")) == PATHS[:2]
    downloader(tmp_path / "here", server).fetch(PATHS)
    assert sorted(server.asked("GET")) == sorted(PATHS)


@pytest.mark.parametrize("fault", ["reset", "truncated"])
def test_a_broken_connection_is_taken_up_where_it_broke(tmp_path, server, remote, fault):
    server.faults[PATHS[0]] = [fault]
    downloader(tmp_path / "here", server).fetch(PATHS)
    assert same(tmp_path / "here", remote)
    ranges = [r for method, path, r in server.requests if (method, path) == ("GET", PATHS[0])]
    assert ranges[0] is None
    assert ranges[1] is not None
    assert int(ranges[1][6:-1]) > 0  # not from the start


def test_without_range_support_a_broken_file_starts_over(tmp_path, remote):
    with serve(remote, ranges=False) as server:
        server.faults[PATHS[0]] = ["truncated"]
        downloader(tmp_path / "here", server).fetch(PATHS[:1])
        assert same(tmp_path / "here", remote, PATHS[:1])


def test_without_a_version_nothing_is_resumed_from_an_earlier_run(tmp_path, remote):
    with serve(remote, versions=False) as server:
        server.faults[PATHS[0]] = ["truncated*"]
        with pytest.raises(DownloadError):
            downloader(tmp_path / "here", server, attempts=1).fetch(PATHS[:1])
        (remote / PATHS[0]).write_bytes(bytes(SIZE))  # same length, other content
        server.faults.clear()
        downloader(tmp_path / "here", server).fetch(PATHS[:1])
        assert same(tmp_path / "here", remote, PATHS[:1])


def test_503_twice_then_success(tmp_path, server, remote):
    server.faults[PATHS[0]] = ["503", "503"]
    downloader(tmp_path / "here", server).fetch(PATHS)
    assert same(tmp_path / "here", remote)
    server.faults[PATHS[1]] = ["503*"]
    with pytest.raises(DownloadError, match="503"):
        downloader(tmp_path / "there", server).fetch(PATHS)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("truncated*", r"broke off after \d+ of 300000 bytes"),
        ("long*", "announced 300000 bytes but now sends 300001"),
        ("short*", "announced 300000 bytes but now sends 299999"),
        ("404*", "404.*check its folder and name in the metadata table"),
    ],
)
def test_a_file_that_cannot_be_had_is_named_and_the_others_are_kept(
    tmp_path, server, remote, fault, message
):
    server.ranges = fault != "truncated*"
    server.faults[PATHS[2]] = [fault]
    with pytest.raises(DownloadError, match=message) as error:
        downloader(tmp_path / "here", server).fetch(PATHS)
    assert list(error.value.problems) == [PATHS[2]]
    assert PATHS[2] in str(error.value)
    assert not (tmp_path / "here" / PATHS[2]).exists()
    assert same(tmp_path / "here", remote, [p for p in PATHS if p != PATHS[2]])
    server.faults.clear()
    downloader(tmp_path / "here", server).fetch(PATHS)
    assert same(tmp_path / "here", remote)


def test_changed_content_is_refused(tmp_path, server, remote):
    here = tmp_path / "here"
    downloader(here, server).fetch(PATHS)
    (here / PATHS[0]).unlink()
    (remote / PATHS[0]).write_bytes(bytes(SIZE))  # the same length
    with pytest.raises(DownloadError, match="is not what was first fetched") as error:
        downloader(here, server).fetch(PATHS)
    assert PATHS[0] in str(error.value)
    assert "delete the line of this file" in str(error.value)
    assert not (here / PATHS[0]).exists()
    assert not leftovers(here)


def test_content_changed_half_way_is_not_mixed(tmp_path, server, remote):
    here = tmp_path / "here"
    server.faults[PATHS[0]] = ["truncated*"]
    with pytest.raises(DownloadError):
        downloader(here, server, attempts=1).fetch(PATHS[:1])
    assert len(leftovers(here)) == 1
    (remote / PATHS[0]).write_bytes(bytes(SIZE))
    server.faults.clear()
    downloader(here, server).fetch(PATHS[:1])
    assert same(here, remote, PATHS[:1])
    assert not leftovers(here)


def test_content_changed_between_announcement_and_download_is_refused(
    tmp_path, server, remote, monkeypatch
):
    ask = Downloader._ask

    def ask_then_change(self, source, path):
        answer = ask(self, source, path)
        (remote / path).write_bytes(bytes(SIZE))
        return answer

    monkeypatch.setattr(Downloader, "_ask", ask_then_change)
    with pytest.raises(DownloadError, match="was changed while it was fetched"):
        downloader(tmp_path / "here", server).fetch(PATHS[:1])
    assert not (tmp_path / "here" / PATHS[0]).exists()


def test_a_local_file_that_changed_is_refused(tmp_path, server, remote):
    here = tmp_path / "here"
    downloader(here, server).fetch(PATHS)
    content = bytearray((here / PATHS[3]).read_bytes())
    content[1000] ^= 1
    (here / PATHS[3]).write_bytes(content)
    for options in ({}, {"offline": True}):
        with pytest.raises(DownloadError, match="has changed since it was fetched") as error:
            downloader(here, server, **options).fetch(PATHS)
        assert list(error.value.problems) == [PATHS[3]]
    (here / PATHS[3]).unlink()
    downloader(here, server).fetch(PATHS)
    assert same(here, remote)


def test_another_source_stands_in(tmp_path, server, remote):
    mirror = tmp_path / "mirror"
    with serve(mirror) as first:
        mirror.mkdir()
        downloader(tmp_path / "here", first, server).fetch(PATHS)
    assert same(tmp_path / "here", remote)
    # a source that nobody answers at, and one that breaks off every time
    server.faults[PATHS[0]] = ["truncated*"]
    server.ranges = False
    downloader(tmp_path / "there", "http://127.0.0.1:9", server, remote).fetch(PATHS)
    assert same(tmp_path / "there", remote)


def test_one_source_needs_no_list_and_none_is_none(tmp_path, remote):
    Downloader(tmp_path / "here", str(remote)).fetch(PATHS)
    assert same(tmp_path / "here", remote)
    with pytest.raises(DownloadError, match="there is no source to fetch it from"):
        Downloader(tmp_path / "there", None).fetch(PATHS)


def test_an_unreachable_source_is_named(tmp_path):
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        downloader(tmp_path / "here", "http://127.0.0.1:9").fetch(PATHS)


def test_offline_names_what_is_missing_and_contacts_nothing(tmp_path, server):
    downloader(tmp_path / "here", server).fetch(PATHS[:1])
    server.requests.clear()
    with pytest.raises(DownloadError, match="missing, and 'offline' is set") as error:
        downloader(tmp_path / "here", server, offline=True).fetch(PATHS)
    assert list(error.value.problems) == PATHS[1:]
    assert server.requests == []


def test_a_file_put_there_by_hand_is_taken_if_it_is_whole(tmp_path, server, remote):
    here = tmp_path / "here"
    whole, part = here / PATHS[0], here / PATHS[1]
    whole.parent.mkdir(parents=True)
    whole.write_bytes((remote / PATHS[0]).read_bytes())
    part.write_bytes((remote / PATHS[1]).read_bytes()[: SIZE // 2])
    with pytest.raises(DownloadError, match="was not fetched by temshift and has 150000 bytes"):
        downloader(here, server).fetch(PATHS)
    assert server.asked("GET").count(PATHS[0]) == 0
    assert part.stat().st_size == SIZE // 2  # not ours to overwrite


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b", "C:\\x", "..\\x", ""])
def test_paths_outside_the_folder_are_refused(tmp_path, server, path):
    with pytest.raises(DownloadError, match="not a path inside the folder"):
        downloader(tmp_path / "here", server).fetch([path])
    assert server.requests == []


def test_a_full_disk_is_said_before_anything_is_fetched(tmp_path, server, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match=r"1\.5 MB are to be fetched but the disk has only"):
        downloader(tmp_path / "here", server).fetch(PATHS)
    assert server.asked("GET") == []


def test_two_runs_do_not_write_the_same_files(tmp_path, server):
    from filelock import FileLock

    (tmp_path / "here").mkdir()
    with (
        FileLock(tmp_path / "here" / ".lock"),
        pytest.raises(DownloadError, match="another run is fetching"),
    ):
        downloader(tmp_path / "here", server).fetch(PATHS)


def test_a_killed_download_goes_on_and_its_part_never_passes_for_whole(tmp_path, server, remote):
    here = tmp_path / "here"
    server.pause_s = 0.05  # 300 kB take about a second
    code = (
        "from pathlib import Path; from temshift.catalog.downloads import Downloader; "
        f"Downloader(Path({str(here)!r}), [{server.url!r}]).fetch({PATHS[:1]!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not any(p.stat().st_size > 0 for p in here.rglob("*.part")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (here / PATHS[0]).exists()
    [part] = here.rglob("*.part")
    kept = part.stat().st_size
    assert 0 < kept < SIZE

    server.pause_s = 0
    server.requests.clear()
    downloader(here, server).fetch(PATHS[:1])
    assert server.requests[-1] == ("GET", PATHS[0], f"bytes={kept}-")
    assert same(here, remote, PATHS[:1])
    assert not leftovers(here)


def test_a_host_without_an_address_fails_at_once_and_is_asked_once(tmp_path, monkeypatch):
    import socket

    asked = []

    def no_address(host, port):
        asked.append(host)
        raise socket.gaierror("Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    monkeypatch.setenv("no_proxy", "*")
    begun = time.monotonic()
    with pytest.raises(DownloadError, match="its host has no address") as error:
        Downloader(tmp_path, ["https://no.such.host"]).fetch([f"{i}.dm3" for i in range(30)])
    assert time.monotonic() - begun < 10
    assert asked == ["no.such.host"] * 2
    assert "published.sources in globals.yml" in str(error.value)
    assert len(error.value.problems) == 30


def test_files_put_there_by_hand_are_told_in_one_line(tmp_path, caplog):
    for name in "abc":
        (tmp_path / name).write_text(name)
    Downloader(tmp_path, ["https://no.such.host"], offline=True).fetch(list("abc"))
    assert [r.getMessage() for r in caplog.records if "by hand" in r.getMessage()] == [
        f"{tmp_path}: 3 file(s) put here by hand, e.g. a; taken as they are and recorded"
    ]


def test_lists_of_sources_are_tried_one_after_another(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a").write_text("mine")
    sources = [[], [str(tmp_path / "other"), str(tmp_path / "own")], "https://no.such.host"]
    Downloader(tmp_path / "here", sources).fetch(["a"])
    assert (tmp_path / "here" / "a").read_text() == "mine"


def test_a_download_error_survives_a_process_border():
    import pickle

    error = DownloadError({"a": "missing"}, Path("folder"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.problems) == (str(error), error.problems)


# ------------------------------------------------------------------ hosts
@pytest.fixture
def elsewhere(remote):
    """Another host, which no source names, with the same files."""
    with serve(remote) as state:
        yield state


def leading_away(state):
    """Addresses at another host, written in ways that a check could take for its own."""
    host, own = state.url.removeprefix("http://"), "127.0.0.1"
    return {
        "whole": f"{state.url}/{quote(PATHS[0])}",
        "without a scheme": f"//{host}/{quote(PATHS[0])}",
        "own host as a user": f"http://{own}@{host}/{quote(PATHS[0])}",
        "own host as a user, with a slash": f"http://{own}%2F@{host}/{quote(PATHS[0])}",
        "a back slash": f"http://{host}\\@{own}/{quote(PATHS[0])}",
        "upper case": f"HTTP://{host}/{quote(PATHS[0])}",
        "another name": f"http://localhost:{host.split(':')[1]}/{quote(PATHS[0])}",
        "a file": "file:///etc/hostname",
        "another protocol": f"ftp://{host}/{quote(PATHS[0])}",
    }


@pytest.mark.parametrize("methods", [("HEAD", "GET"), ("GET",)], ids=["both", "GET"])
@pytest.mark.parametrize("way", range(9))
def test_no_redirect_leads_away_from_the_sources(tmp_path, server, elsewhere, way, methods, caplog):
    server.redirects[PATHS[0]] = list(leading_away(elsewhere).values())[way]
    server.redirected = methods
    with pytest.raises(DownloadError, match="leads away from the hosts of the sources") as error:
        downloader(tmp_path / "here", server).fetch(PATHS)
    assert list(error.value.problems) == PATHS[:1]
    assert elsewhere.requests == []
    assert "trying again" not in caplog.text
    assert not (tmp_path / "here" / PATHS[0]).exists()
    assert all((tmp_path / "here" / path).exists() for path in PATHS[1:])


def test_no_second_redirect_leads_away_either(tmp_path, server, elsewhere):
    server.redirects |= {PATHS[0]: "/next", "next": f"{elsewhere.url}/{quote(PATHS[0])}"}
    with pytest.raises(DownloadError, match="leads away"):
        downloader(tmp_path / "here", server).fetch(PATHS[:1])
    assert elsewhere.requests == []
    assert "next" in server.asked("HEAD")


@pytest.mark.parametrize("kind", ["relative", "whole"])
def test_a_redirect_within_the_host_is_followed(tmp_path, server, remote, kind):
    start = server.url if kind == "whole" else ""
    server.redirects["moved.dm3"] = f"{start}/{quote(PATHS[0])}"
    downloader(tmp_path / "here", server).fetch(["moved.dm3"])
    assert (tmp_path / "here" / "moved.dm3").read_bytes() == (remote / PATHS[0]).read_bytes()


def test_a_redirect_to_the_host_of_another_source_is_followed(tmp_path, server, elsewhere, remote):
    server.redirects[PATHS[0]] = f"{elsewhere.url}/{quote(PATHS[0])}"
    downloader(tmp_path / "here", server, elsewhere).fetch(PATHS[:1])
    assert same(tmp_path / "here", remote, PATHS[:1])
    assert elsewhere.asked("GET") == PATHS[:1]


@pytest.mark.parametrize(
    ("source", "allowed", "refused"),
    [
        (
            "https://host.org/a",
            ["https://host.org/b", "https://host.org:443/b", "https://HOST.org/b"],
            ["http://host.org/a", "https://host.org.evil.com/a", "https://host.org:8443/a"],
        ),
        (
            "http://host.org/a",
            ["http://host.org/b", "https://host.org/b"],
            ["http://host.org:81/a", "https://www.host.org/a"],
        ),
        (
            "https://me:word@host.org:8443",
            ["https://me:word@host.org:8443/b", "https://host.org:8443/b"],
            ["https://host.org/b", "http://host.org:8443/b", "https://host.org:844/b"],
        ),
        ("https://münchen.de", ["https://xn--mnchen-3ya.de/b"], ["https://munchen.de/b"]),
    ],
)
def test_which_addresses_belong_to_a_source(tmp_path, source, allowed, refused):
    import requests

    session = downloader(tmp_path, source)._open_session()
    for address in allowed:
        session.get_adapter(requests.Request("GET", address).prepare().url)
    for address in refused:
        with pytest.raises(requests.exceptions.InvalidSchema):
            session.get_adapter(requests.Request("GET", address).prepare().url)


def test_only_the_downloader_asks_the_network():
    import temshift

    root = Path(temshift.__file__).parent
    names = "requests|urllib3|urllib[.]request|http[.]client|httpx|aiohttp|ftplib"
    clients = re.compile(rf"^\s*(?:import|from) (?:{names})\b", re.MULTILINE)
    files = [f for f in root.rglob("*.py") if clients.search(f.read_text(encoding="utf-8"))]
    assert [f.relative_to(root).as_posix() for f in files] == ["catalog/downloads.py"]

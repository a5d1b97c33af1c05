"""Fetching files of a remote folder tree into a local one, safely enough for 30 GB.

Files are fetched in parallel, taken up again after a kill where they stopped, and checked: a file
gets its name only when it is whole. Its size and SHA-256 are recorded when it is first fetched
(``.registry.csv`` in the folder) and checked ever after. What is already there is not asked for
again, so that a complete folder needs no network. Nothing is asked of hosts that no source names,
also where a redirect leads there.

Transport, redirects and the retries of single requests (with back-off, honouring ``Retry-After``)
are those of requests and urllib3; pooch, which does as much, can neither resume a file nor say how
much there is to come.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from temshift.catalog.files import atomic_path
from temshift.config.errors import UserError
from temshift.progress import bar

if TYPE_CHECKING:
    import requests

__all__ = ["REGISTRY", "ChangedFileError", "DownloadError", "Downloader", "without_access"]

_log = logging.getLogger(__name__)

#: Name of the file that records what was fetched.
REGISTRY = ".registry.csv"
_CHUNK_BYTES = 1 << 16
_RETRIED = (429, 500, 502, 503, 504)


class DownloadError(UserError):
    """Files that could not be fetched or are not what they were; a line each.

    Attributes
    ----------
    problems : dict of str to str
        Reason by relative path.
    """

    def __init__(self, problems: dict[str, str], folder: Path) -> None:
        self.problems, self._folder = problems, folder
        shown = [f"- {path}: {reason}" for path, reason in list(problems.items())[:20]]
        if len(problems) > len(shown):
            shown.append(f"- ... and {len(problems) - len(shown)} more")
        first, *others = shown
        super().__init__(
            f"{len(problems)} file(s) of {folder} are not usable",
            first.removeprefix("- "),
            "Mend what is named; what was fetched whole is kept: the next run goes on from there",
            others,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems, self._folder)


class ChangedFileError(DownloadError):
    """Files that are not what they were when they were fetched."""


class _UnusableError(Exception):
    """One file cannot be had from one source; the text says why."""


@dataclass(frozen=True)
class _Remote:
    """A file at a source: address, size in bytes and what names its version (None: nothing)."""

    address: str
    size: int
    version: str | None


@dataclass(frozen=True)
class _Record:
    size: int
    sha256: str
    source: str


class Downloader:
    """Keeps a local folder in step with one or more sources of the same layout.

    Parameters
    ----------
    folder : Path
        Where the files are kept, under the same relative paths.
    sources : sequence of str, or str
        Base addresses (``https://...``, with access ``https://user:password@...``, which stands in
        no record and no message) or local folders, tried in this order, lists among them
        one after another; without any, only what has been put into the folder by hand can be used.
    offline : bool
        Contact nothing; what is missing is an error.
    workers : int
        Files fetched at a time.
    attempts : int
        Tries of every request and of every file, before the next source is tried.
    backoff_s : float
        Pause before the second retry, s; doubled with each further one.
    timeout_s : float
        Silence after which a connection is given up, s.
    """

    def __init__(
        self,
        folder: Path,
        sources: Sequence[str | Sequence[str]] | str | None,
        *,
        offline: bool = False,
        workers: int = 4,
        attempts: int = 5,
        backoff_s: float = 1.0,
        timeout_s: float = 60.0,
    ) -> None:
        self._folder = Path(folder)
        listed = list(_flat(sources or []))
        self._given = [source.rstrip("/") for source in listed]
        apart = [_access_apart(source) for source in self._given]
        self._sources = [source for source, _ in apart]
        self._access = dict(apart)
        self._offline = offline or not listed
        self._workers = workers
        self._attempts = attempts
        self._backoff_s = backoff_s
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._dead: dict[str, str] = {}
        self._known: dict[str, bool] = {}

    def fetch(self, paths: Iterable[str]) -> None:
        """Make sure that these files are there, whole and unchanged.

        Parameters
        ----------
        paths : iterable of str
            Relative to the folder and to each source, with ``/``; blanks and the like as they
            are.

        Raises
        ------
        DownloadError
            All files that are missing everywhere, broken or changed, with reasons; the others
            have been fetched.
        """
        from filelock import FileLock, Timeout

        wanted = list(dict.fromkeys(paths))
        self._refuse(wanted, self._outside)
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._folder / ".lock", timeout=0):
                self._fetch(wanted)
        except Timeout:
            raise DownloadError(
                {".lock": "another run is fetching into this folder; wait for it"}, self._folder
            ) from None

    def _fetch(self, wanted: list[str]) -> None:
        self._registry = _read_registry(self._folder / REGISTRY)
        present = [p for p in wanted if (self._folder / p).exists()]
        if changed := self._problems(present, self._changed, title="checking files"):
            raise ChangedFileError(changed, self._folder)
        recorded = [p for p in present if p in self._registry]
        rest = [p for p in wanted if p not in set(recorded)]
        if not rest:
            return
        if self._offline:
            self._refuse(rest, self._adopt_offline)
            _log.warning(
                "%s: %d file(s) put here by hand, e.g. %s; taken as they are and recorded",
                *(self._folder, len(rest), rest[0]),
            )
            return

        self._dead.clear()
        self._known.clear()
        self._session = self._open_session()
        with self._session:
            remotes: dict[str, tuple[int, _Remote]] = {}

            def locate(path: str) -> str | None:
                try:
                    remotes[path] = self._locate(path)
                except _UnusableError as error:
                    return str(error)
                return None

            problems = self._problems(rest, locate)
            found = [p for p in rest if p in remotes]
            there = [p for p in found if (self._folder / p).exists()]
            problems |= self._problems(there, lambda path: self._adopt(path, remotes[path][1]))
            missing = [p for p in found if p not in set(there)]
            if missing:
                problems |= self._fetch_missing({p: remotes[p] for p in missing})
        if problems:
            raise DownloadError(problems, self._folder)

    def _fetch_missing(self, remotes: dict[str, tuple[int, _Remote]]) -> dict[str, str]:
        """Announce, then fetch; return the reasons of what failed."""
        total = sum(remote.size for _, remote in remotes.values())
        here = sum(_size(self._part(p, remote)) for p, (_, remote) in remotes.items())
        free = shutil.disk_usage(self._folder).free
        if total - here > free:
            return {
                str(self._folder): f"{_bytes(total - here)} are to be fetched but the disk has "
                f"only {_bytes(free)} free; make room, or choose fewer splits"
            }
        _log.info(
            "fetching %d files, %s in all%s, into %s",
            len(remotes),
            _bytes(total),
            f" ({_bytes(here)} of them already here)" if here else "",
            self._folder,
        )
        shown = bar(total=total, initial=here, unit="B", unit_scale=True, desc="downloading")

        def progress(count: int) -> None:
            with self._lock:
                shown.update(count)

        def one(path: str) -> str | None:
            return self._fetch_one(path, *remotes[path], progress)

        with shown:
            return self._problems(list(remotes), one)

    # ------------------------------------------------------------------ one file
    def _fetch_one(
        self, path: str, first: int, remote: _Remote, progress: Callable[[int], None]
    ) -> str | None:
        """Fetch a file from the source that has it, else from those after; say what failed."""
        reasons = []
        for number, source in enumerate(self._sources[first:]):
            try:
                if number:
                    remote = self._ask(source, path)
                self._receive(path, remote, progress)
                return None
            except _UnusableError as error:
                reasons.append(str(error))
        return "; ".join(reasons)

    def _receive(self, path: str, remote: _Remote, progress: Callable[[int], None]) -> None:
        """Bring one file in, check it, record it, and only then give it its name."""
        from requests.exceptions import InvalidSchema

        target, part = self._folder / path, self._part(path, remote)
        part.parent.mkdir(parents=True, exist_ok=True)
        if remote.version is None:
            part.unlink(missing_ok=True)  # nothing says that the rest would be of the same version
        for attempt in range(1, self._attempts + 1):
            try:
                self._stream(remote, part, progress)
                break
            except InvalidSchema as error:
                raise _UnusableError(_led_away(remote.address, error)) from error
            except OSError as error:  # requests' exceptions are OSErrors
                answer = getattr(error, "response", None)
                if attempt == self._attempts or answer is not None:
                    raise _UnusableError(
                        f"{remote.address} broke off after {_size(part)} of {remote.size} bytes, "
                        f"{attempt} time(s), the last with: {error}. Run again to go on"
                    ) from error
                _log.warning("%s: %s; trying again", path, error)
                time.sleep(min(self._backoff_s * 2 ** (attempt - 1), 60))

        sha256 = _sha256(part)
        record = self._registry.get(path)
        if record and (record.size, record.sha256) != (remote.size, sha256):
            progress(-part.stat().st_size)
            part.unlink()
            raise _UnusableError(
                f"{remote.address} is not what was first fetched from {record.source}: "
                f"{remote.size} bytes with SHA-256 {sha256[:12]}..., expected {record.size} bytes "
                f"with {record.sha256[:12]}.... It was not kept. If the change is meant, delete "
                f"the line of this file from {self._folder / REGISTRY} and run again"
            )
        self._record(path, _Record(remote.size, sha256, remote.address))
        os.replace(part, target)
        for stale in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
            stale.unlink()

    def _stream(self, remote: _Remote, part: Path, progress: Callable[[int], None]) -> None:
        """Append what is missing to the partial file; start over if the version has changed."""
        have = _size(part)
        if have == remote.size and part.exists():
            return
        if not _is_web(remote.address):
            with Path(remote.address).open("rb") as source, part.open("ab") as stream:
                source.seek(have)
                while chunk := source.read(_CHUNK_BYTES):
                    stream.write(chunk)
                    progress(len(chunk))
            self._check_length(remote, part)
            return

        headers = {"Range": f"bytes={have}-", "If-Range": str(remote.version)} if have else {}
        base = next((s for s in self._sources if remote.address.startswith(f"{s}/")), "")
        with self._session.get(
            remote.address,
            headers=headers,
            stream=True,
            timeout=self._timeout_s,
            auth=self._access.get(base),
        ) as answer:
            answer.raise_for_status()
            resumed = answer.status_code == 206
            if not resumed:
                progress(-have)
                have = 0
            length = answer.headers.get("Content-Length")
            if length is None or have + int(length) != remote.size:
                raise _UnusableError(
                    f"{remote.address} announced {remote.size} bytes but now sends "
                    f"{length if length is None else have + int(length)}: it is changing, or the "
                    "server is broken. Run again later"
                )
            if not resumed and _version(answer) != remote.version:
                raise _UnusableError(
                    f"{remote.address} was changed while it was fetched. Run again"
                )
            with part.open("ab" if resumed else "wb") as stream:
                for chunk in answer.iter_content(_CHUNK_BYTES):
                    stream.write(chunk)
                    progress(len(chunk))
        self._check_length(remote, part)

    def _check_length(self, remote: _Remote, part: Path) -> None:
        if _size(part) > remote.size:
            part.unlink()
        if _size(part) != remote.size:
            raise OSError(f"received {_size(part)} bytes of {remote.size}")

    def _part(self, path: str, remote: _Remote) -> Path:
        """Return the place of a partial file; every version of the remote file has its own."""
        version = hashlib.sha256(f"{remote.address}\0{remote.version}".encode()).hexdigest()[:8]
        target = self._folder / path
        return target.with_name(f".{target.name}.{version}.part")

    # ------------------------------------------------------------------ sources
    def _locate(self, path: str) -> tuple[int, _Remote]:
        """Return the first source that has the file, and what it says of it."""
        reasons = []
        for number, source in enumerate(self._sources):
            try:
                return number, self._ask(source, path)
            except _UnusableError as error:
                reasons.append(str(error))
        raise _UnusableError("; ".join(reasons))

    def _ask(self, source: str, path: str) -> _Remote:
        """Ask a source for size and version of a file, without the file."""
        import requests

        if not _is_web(source):
            file = Path(source) / path
            if not file.is_file():
                raise _UnusableError(f"{file} does not exist")
            return _Remote(str(file), file.stat().st_size, str(file.stat().st_mtime_ns))
        if source in self._dead:
            raise _UnusableError(self._dead[source])
        address = f"{source}/{quote(path)}"
        if not self._resolves(source):
            self._dead[source] = (
                f"{source}: its host has no address; check the network and the spelling, name a "
                "source of your own (published.sources in globals.yml), or set '--params "
                "offline=true'"
            )
            raise _UnusableError(self._dead[source])
        try:
            answer = self._session.head(
                address,
                timeout=self._timeout_s,
                allow_redirects=True,
                auth=self._access.get(source),
            )
            answer.raise_for_status()
        except requests.exceptions.InvalidSchema as error:
            raise _UnusableError(_led_away(address, error)) from error
        except requests.HTTPError as error:
            hint = "; check its folder and name in the metadata table" * (answer.status_code == 404)
            raise _UnusableError(f"{error}{hint}") from error
        except requests.RequestException as error:
            reason = (
                f"{source} cannot be reached ({error}); check the network, add a source, or set "
                "'offline: true'"
            )
            self._dead[source] = reason
            raise _UnusableError(reason) from error
        length = answer.headers.get("Content-Length")
        if length is None:
            raise _UnusableError(
                f"{address} does not say how long it is, so it could not be checked"
            )
        return _Remote(address, int(length), _version(answer))

    def _resolves(self, source: str) -> bool:
        """Return whether a source's host is known; asked once, since retries would take a minute.

        A proxy looks names up itself.
        """
        from requests.utils import get_environ_proxies

        with self._lock:
            if source not in self._known:
                host = urlsplit(source).hostname or ""
                known = bool(get_environ_proxies(source))
                for attempt in range(2):
                    if known:
                        break
                    time.sleep(attempt)
                    try:
                        known = bool(socket.getaddrinfo(host, None))
                    except (OSError, UnicodeError):
                        continue
                self._known[source] = known
            return self._known[source]

    def _open_session(self) -> requests.Session:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        retry = Retry(
            total=self._attempts - 1,
            backoff_factor=self._backoff_s,
            status_forcelist=_RETRIED,
            allowed_methods=["GET", "HEAD"],
            raise_on_status=False,
        )
        session = requests.Session()
        session.headers["Accept-Encoding"] = "identity"  # lengths and ranges of the file itself
        session.adapters.clear()  # what has no adapter cannot be asked, nor be redirected to
        for source in filter(_is_web, self._given):
            for origin in _origins(source):
                session.mount(origin, HTTPAdapter(max_retries=retry, pool_maxsize=self._workers))
        return session

    # ------------------------------------------------------------------ what is here already
    def _outside(self, path: str) -> str | None:
        for parts in (PurePosixPath(path), PureWindowsPath(path)):
            if parts.anchor or ".." in parts.parts or not parts.name:
                return "not a path inside the folder; mend the metadata table"
        return None

    def _changed(self, path: str) -> str | None:
        record, file = self._registry.get(path), self._folder / path
        if record is None:
            return None
        size = file.stat().st_size
        if size == record.size and _sha256(file) == record.sha256:
            return None
        return (
            f"has changed since it was fetched ({size} bytes, expected {record.size} with SHA-256 "
            f"{record.sha256[:12]}...). Delete the file to fetch it again"
        )

    def _adopt(self, path: str, remote: _Remote) -> str | None:
        """Record a file that was put here by hand, if it is as long as the source's."""
        file = self._folder / path
        if file.stat().st_size != remote.size:
            return (
                f"was not fetched by temshift and has {file.stat().st_size} bytes, "
                f"{remote.address} has {remote.size}. Move it away to fetch it, or set "
                "'offline: true' to use it as it is"
            )
        self._record(path, _Record(remote.size, _sha256(file), str(file)))
        return None

    def _adopt_offline(self, path: str) -> str | None:
        """Record a file that was put here by hand, as it is."""
        file = self._folder / path
        if not file.exists():
            if not self._sources:
                return (
                    "missing, and there is no source to fetch it from. Put it here, or name a "
                    "source (an address or a folder): published.sources in globals.yml"
                )
            return "missing, and 'offline' is set. Put it here, or run once without 'offline'"
        self._record(path, _Record(file.stat().st_size, _sha256(file), str(file)))
        return None

    def _record(self, path: str, record: _Record) -> None:
        with self._lock:
            self._registry[path] = record
            _write_registry(self._folder / REGISTRY, self._registry)

    # ------------------------------------------------------------------ many files
    def _problems(
        self, paths: list[str], check: Callable[[str], str | None], title: str | None = None
    ) -> dict[str, str]:
        """Call ``check`` on every path, several at a time; return what it has to say."""
        with ThreadPoolExecutor(self._workers) as pool:
            answers: Iterable[str | None] = pool.map(check, paths)
            if title:
                answers = bar(answers, total=len(paths), desc=title, unit="files")
            return {p: answer for p, answer in zip(paths, answers, strict=True) if answer}

    def _refuse(self, paths: list[str], check: Callable[[str], str | None]) -> None:
        if problems := self._problems(paths, check):
            raise DownloadError(problems, self._folder)


def _read_registry(path: Path) -> dict[str, _Record]:
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return {
                row["path"]: _Record(int(row["size"]), row["sha256"], row["source"])
                for row in csv.DictReader(stream)
            }
    except (KeyError, TypeError, ValueError) as error:
        raise DownloadError(
            {path.name: f"is damaged ({error!r}); delete it, and what was fetched with it"},
            path.parent,
        ) from error


def _write_registry(path: Path, registry: dict[str, _Record]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["path", "size", "sha256", "source"])
        for name, record in sorted(registry.items()):
            writer.writerow([name, record.size, record.sha256, record.source])


def _version(answer: Any) -> str | None:
    """Return what may stand in ``If-Range``: a strong ETag, else the time of change."""
    tag = answer.headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return str(tag)
    return answer.headers.get("Last-Modified")


def _flat(sources: Sequence[Any] | str) -> Iterator[str]:
    """Yield the sources of nested lists; ``null`` is none."""
    if isinstance(sources, str):
        yield sources
        return
    for source in sources or ():
        yield from _flat(source)


def _is_web(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def without_access(sources: Any) -> Any:
    """Return sources, nested as they were, without the users and passwords in their addresses."""
    if isinstance(sources, str):
        return _access_apart(sources)[0]
    return [without_access(one) for one in sources] if sources else sources


def _access_apart(source: str) -> tuple[str, tuple[str, str] | None]:
    """Return a source without user and password, which no record or message may show, and these."""
    if not _is_web(source):
        return source, None
    parts = urlsplit(source)
    access, at, host = parts.netloc.rpartition("@")
    if not at:
        return source, None
    user, _, password = access.partition(":")
    return urlunsplit(parts._replace(netloc=host)), (unquote(user), unquote(password))


def _origins(source: str) -> list[str]:
    """Return how addresses at a source's host begin; of ``http`` also those of its ``https``."""
    import requests
    from urllib3.util import parse_url

    default = {"http": 80, "https": 443}
    try:
        address = parse_url(requests.Request("GET", f"{source}/").prepare().url or "")
    except requests.RequestException:
        return []  # no address: asking for it says so
    ports = {address.scheme: address.port or default[str(address.scheme)]}
    if ports == {"http": 80}:
        ports["https"] = 443
    names = {str(address.host), f"{address.auth}@{address.host}" if address.auth else ""} - {""}
    origins = [f"{scheme}://{name}:{port}/" for scheme, port in ports.items() for name in names]
    return origins + [
        f"{scheme}://{name}/"
        for scheme, port in ports.items()
        if port == default[str(scheme)]
        for name in names
    ]


def _led_away(address: str, error: Exception) -> str:
    return (
        f"{address} leads away from the hosts of the sources, and was not followed ({error}). If "
        "that place is to be trusted, name it as a source (published.sources in globals.yml)"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"

"""What lies in an object store: copies of it here, fetched when they differ, sent when saved.

A study whose catalog names addresses (``data: s3://bucket/study`` in ``globals.yml``) works on a
copy below ``$TEMSHIFT_CACHE`` (``~/.cache/temshift``). Before a dataset is loaded, what has another
size or version (ETag, else time of change) in the store than when it was copied is fetched; after
it is saved, what differs is sent. Transport and access are those of fsspec and its file systems.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

from temshift.catalog.files import atomic_path
from temshift.config.errors import UserError

__all__ = ["Remote", "copies_here", "kept_there", "local_copy"]

#: Arguments of datasets that say where they lie.
_WHERE = ("filepath", "path", "labels_filepath", "masks")

#: What fsspec reads only, and what needs no copy.
_LEFT_ALONE = ("http", "https", "file")

_INDEX = ".index"

#: Extra or package that a protocol needs.
_NEEDS = {"s3": 'pip install -e ".[s3]"', "s3a": 'pip install -e ".[s3]"'}
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}

#: Of this machine, beside the content of a folder.
_OWN = (".lock", ".lock.json", ".old")


def _cache() -> Path:
    return Path(os.environ.get("TEMSHIFT_CACHE") or "~/.cache/temshift").expanduser().resolve()


def local_copy(where: str) -> Path:
    """Return where the copy of an address lies; a path of this machine as it is.

    Raises
    ------
    UserError
        The address leads out of its bucket.

    Examples
    --------
    >>> local_copy("data/report.html")
    PosixPath('data/report.html')
    """
    found = re.fullmatch(r"([a-z][a-z0-9+.-]+)://(.+)", where)
    if found is None:
        return Path(where)
    protocol, rest = found.groups()
    if protocol == "file":
        return Path(rest)
    _refuse_outside(where, rest)
    return _cache() / protocol / rest.strip("/")


def copies_here(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the entry of a dataset with copies in place of addresses, and how to reach these.

    Parameters
    ----------
    config : mapping
        An entry of the catalog.

    Returns
    -------
    config : dict
        Without ``credentials`` and ``fs_args`` if there is an address.
    options : dict or None
        Arguments of the file system; ``None`` if nothing lies elsewhere. What keeps versions is
        left as it is.
    """
    here, options = dict(config), None
    for key in _WHERE:
        value = config.get(key)
        protocol = value.partition("://")[0] if isinstance(value, str) and "://" in value else ""
        if config.get("versioned") or not protocol or protocol in _LEFT_ALONE[:2]:
            continue
        here[key] = str(local_copy(str(value)))
        if protocol not in _LEFT_ALONE:
            given = {**(config.get("credentials") or {}), **(config.get("fs_args") or {})}
            options = {k: v for k, v in given.items() if not k.startswith("open_args")}
    if options is not None:
        here = {k: v for k, v in here.items() if k not in ("credentials", "fs_args")}
    return here, options


def kept_there(dataset: Any, options: Mapping[str, Any], paths: Iterable[Path]) -> None:
    """Let a dataset from now on fetch what it loads and send what it saves.

    Parameters
    ----------
    dataset : AbstractDataset
        Which works on a copy here.
    options : mapping
        Arguments of the file system in which it lies.
    paths : iterable of Path
        What the dataset reads and writes here.
    """
    if getattr(dataset, "stays_here", False) or hasattr(dataset, "remote_options"):
        return
    found = [Remote.of(path, options) for path in paths]
    places = [place for place in found if isinstance(place, Remote)]
    adds_to = getattr(dataset, "adds_to", hasattr(dataset, "_path"))  # a partitioned one does
    dataset.remote_options = dict(options)
    dataset.load = partial(_load, places, dataset.load)
    dataset.save = partial(_save, places, dataset.save, adds_to)
    dataset.exists = partial(_exists, places)


def _load(places: list[Remote], load: Callable[[], Any]) -> Any:
    for place in places:
        place.fetch()
    return load()


def _save(places: list[Remote], save: Callable[[Any], None], adds_to: bool, data: Any) -> None:
    for place in places:
        if adds_to:
            place.fetch()
        place.begin()
    save(data)
    for place in places:
        place.send()


def _exists(places: list[Remote]) -> bool:
    return all(place.listing() for place in places)


class Remote:
    """A file or a folder in an object store, and its copy here.

    Parameters
    ----------
    url : str
    local : Path
        The copy.
    options : mapping
        Arguments of fsspec's file system, such as ``endpoint_url``; without any it takes what the
        environment says.
    """

    def __init__(self, url: str, local: Path, options: Mapping[str, Any]) -> None:
        self.url, self.local, self._options = url, local, dict(options)

    def __repr__(self) -> str:
        return f"Remote('{self.url}'), its copy at {self.local}"

    @classmethod
    def of(cls, path: Path, options: Mapping[str, Any]) -> Remote | Path:
        """Return the place that a path is the copy of; a path that is no copy as it is."""
        if not path.is_relative_to(cache := _cache()):
            return path
        protocol, *parts = path.relative_to(cache).parts
        root = "/" if protocol == "local" else ""
        return cls(f"{protocol}://{root}{'/'.join(parts)}", path, options)

    def listing(self) -> dict[str, list[Any]]:
        """Return size in bytes and version of each object by its name; of a file by ``""``."""
        found = self._ask(self._fs.find, self._key(""), detail=True)
        files = {self._name(key): _state(info) for key, info in found.items()}
        if not files and (bucket := self._key("").partition("/")[0]):
            self._ask(self._fs.ls, bucket)  # nothing there yet, but is there the bucket?
        return {name: state for name, state in files.items() if not _is_own(name)}

    def fetch(self) -> None:
        """Make the copy what is in the store.

        Raises
        ------
        UserError
            There is no such bucket, no access, no connection, or a package is missing.
        """
        with self.held():
            index, there = self._read_index(), self.listing()
            stale = [name for name, state in there.items() if not self._is_copy(name, state, index)]
            here = self._here()
            # what an unfinished save has left is not known to the index
            known = here if index.get("unfinished") else [name for name in here if name in index]
            gone = [name for name in known if name not in there and not _is_own(name)]
            if not stale and not gone and not index.get("unfinished"):
                return
            for name in gone:
                self._path(name).unlink(missing_ok=True)
            self._get(stale)
            self._write_index(there)

    def begin(self) -> None:
        """Note that the copy is about to be changed: what is sent last counts."""
        with self.held():
            self._write({**self._read_index(), "unfinished": True})

    def send(self, names: Iterable[str] | None = None) -> None:
        """Make the store what the copy is: send what differs, then remove what is no more.

        Parameters
        ----------
        names : iterable of str, optional
            These files only.

        Raises
        ------
        UserError
            As :meth:`fetch`.
        """
        with self.held():
            index = self._read_index()
            if names is not None:
                names = list(names)
                self._put(names)
                sent = {n: _state(self._ask(self._fs.info, self._key(n))) for n in names}
                self._write({**index, **{n: [*s, *self._stat(n)] for n, s in sent.items()}})
                return
            there, here = self.listing(), self._here()
            self._put([n for n in here if n not in there or not self._is_copy(n, there[n], index)])
            if gone := [name for name in there if name not in here]:
                self._ask(self._fs.rm, [self._key(name) for name in gone])
            self._write_index(self.listing())

    def remove(self, name: str) -> None:
        """Remove a file from the store, if it is there."""
        with self.held():
            if self._ask(self._fs.exists, self._key(name)):
                self._ask(self._fs.rm, [self._key(name)])

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the copy, which other processes of this machine may want to fetch too."""
        self._index_file.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            yield

    # ---------------------------------------------------------------- the store
    @cached_property
    def _fs(self) -> Any:
        import fsspec

        protocol = self.url.partition("://")[0]
        options = {**self._options, "use_listings_cache": False, "skip_instance_cache": True}
        if protocol == "local":
            options["auto_mkdir"] = True
        try:
            return fsspec.filesystem(protocol, **options)
        except (ImportError, ValueError) as error:
            package = _PACKAGES.get(protocol, f"the one of {protocol}://")
            raise UserError(
                f"{self.url}: {protocol}:// cannot be read or written",
                f"Found: {error}; expected a package of fsspec for this protocol",
                f"Install it: {_NEEDS.get(protocol, f'pip install {package}')}; or mend 'data' in "
                "globals.yml of the environment",
            ) from error

    def _ask(self, what: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return what(*arguments, **options)
        except Exception as error:  # every file system has its own
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> UserError:
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        kinds = " ".join(kind.__name__ for kind in type(error).__mro__)
        if isinstance(error, FileNotFoundError):
            bucket = self._key("").partition("/")[0] or self._key("")
            return UserError(
                f"{self.url}: the object store has no such bucket or object",
                f"Found {text}; expected the bucket {bucket!r}",
                "Make the bucket (it is not made for you), or mend 'data' in globals.yml of the "
                "environment",
            )
        if isinstance(error, PermissionError) or "Credential" in kinds or "Token" in kinds:
            return UserError(
                f"{self.url}: no access to the object store",
                f"Found {text}; expected credentials that may list, read, write and delete here",
                "Set those that its file system looks for (of S3: AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws)",
            )
        return UserError(
            f"{self.url}: the object store does not answer as it should",
            f"Found {text}; expected to reach it",
            "Check the network and the address (of a server of your own: AWS_ENDPOINT_URL), then "
            "repeat the command: what has been finished is kept",
        )

    def _get(self, names: list[str]) -> None:
        """Fetch files; each takes its place when it is whole."""
        if not names:
            return
        if "" in names and self.local.is_dir():
            shutil.rmtree(self.local)
        if "" not in names and self.local.is_file():
            self.local.unlink()
        mark = f".{uuid.uuid4().hex[:8]}.part"
        targets = [self._path(name) for name in names]
        parts = [target.with_name(f".{target.name}{mark}") for target in targets]
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._ask(self._fs.get, [self._key(name) for name in names], [str(p) for p in parts])
            for part, target in zip(parts, targets, strict=True):
                os.replace(part, target)
        finally:
            for part in parts:
                part.unlink(missing_ok=True)

    def _put(self, names: list[str]) -> None:
        if names:
            paths = [str(self._path(name)) for name in names]
            self._ask(self._fs.put, paths, [self._key(name) for name in names])

    def _key(self, name: str) -> str:
        root = str(self._fs._strip_protocol(self.url)).rstrip("/")
        return f"{root}/{name}" if name else root

    def _name(self, key: str) -> str:
        root = self._key("")
        name = key.removeprefix(root).lstrip("/")
        _refuse_outside(f"{self.url}/{name}", name)
        return name

    # ---------------------------------------------------------------- the copy
    def _path(self, name: str) -> Path:
        return self.local / name if name else self.local

    def _stat(self, name: str) -> list[int]:
        stat = self._path(name).stat()
        return [stat.st_size, stat.st_mtime_ns]

    def _here(self) -> list[str]:
        if self.local.is_file():
            return [""]
        found = (p.relative_to(self.local).as_posix() for p in self.local.rglob("*") if p.is_file())
        return sorted(name for name in found if not _is_own(name))

    def _is_copy(self, name: str, state: list[Any], index: Mapping[str, Any]) -> bool:
        known = index.get(name)
        return self._path(name).is_file() and known == [*state, *self._stat(name)]

    # ---------------------------------------------------------------- the index
    @property
    def _index_file(self) -> Path:
        inner = self.local.relative_to(_cache())
        return _cache() / _INDEX / inner.parent / f"{inner.name}.json"

    @cached_property
    def _lock(self) -> Any:
        from filelock import FileLock

        return FileLock(self._index_file.with_suffix(".lock"))

    def _read_index(self) -> dict[str, Any]:
        try:
            found = json.loads(self._index_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # what is not known is fetched
            return {}
        return found if isinstance(found, dict) else {}

    def _write_index(self, there: Mapping[str, list[Any]]) -> None:
        known = {n: s for n, s in there.items() if self._path(n).is_file()}
        self._write({name: [*state, *self._stat(name)] for name, state in known.items()})

    def _write(self, index: Mapping[str, Any]) -> None:
        with atomic_path(self._index_file) as temporary:
            temporary.write_text(json.dumps(index, sort_keys=True), encoding="utf-8")


def _state(info: Mapping[str, Any]) -> list[Any]:
    """Return size and version of an object, of whatever store."""
    for key in ("ETag", "etag", "md5Hash", "content_md5", "mtime", "updated", "LastModified"):
        if info.get(key):
            return [info["size"], str(info[key])]
    return [info["size"], str(info.get("created"))]


def _is_own(name: str) -> bool:
    """Whether a file is of this machine only: a lock, or one that is being written."""
    parts = PurePosixPath(name).parts
    return any(p.endswith(_OWN) or (p.startswith(".") and ".part" in p) for p in parts)


def _refuse_outside(where: str, name: str) -> None:
    if ".." in PurePosixPath(name).parts:
        raise UserError(
            f"{where}: leads out of its folder",
            "Found '..' in the name; expected a name below the folder",
            "Rename the object, or mend 'data' in globals.yml of the environment",
        )

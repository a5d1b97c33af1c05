"""Records of what each result was made from, so that what is up to date is not made again."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from kedro.io import DatasetError

from temshift.catalog.file_dataset import FileDataset
from temshift.catalog.files import atomic_path
from temshift.catalog.folders import files_below, is_left_out
from temshift.catalog.remote import Remote

__all__ = ["ProvenanceDataset", "ProvenanceStore"]

#: Between two times that hashes are kept; those of the last seconds of a killed run are made again.
_KEPT_EVERY_S = 10.0


class ProvenanceStore:
    """A JSON file a node, and hashes of files that are computed once a change.

    Every file is replaced as a whole, and the records of different nodes share none: processes
    that write at the same time lose nothing but a known hash, which is computed again.

    Parameters
    ----------
    folder : Path
    remote : Remote, optional
        Where they are kept as well; each is sent when it is written.
    """

    def __init__(self, folder: Path, remote: Remote | None = None) -> None:
        self.folder = folder
        self._remote = remote
        self._cache = folder / "files.cache"
        self._hashes: dict[str, list[Any]] = self._read_hashes()
        self._new: dict[str, list[Any]] = {}
        self._kept = time.monotonic()

    def content(self, paths: Iterable[Path | Remote], partial: bool = False) -> str | None:
        """Return a hash of files and folders, or ``None`` if one is missing or there is none.

        A file whose size, time of change and inode are known is not read again, and nothing is
        fetched of an object store whose size and version are known. The same content has the same
        hash wherever it lies.

        Parameters
        ----------
        paths : iterable of Path or Remote
        partial : bool
            Take what is there, and only note what is missing.
        """
        digest = hashlib.sha256()
        paths = list(paths)
        for path in paths:
            hashes = self._hashes_there(path) if isinstance(path, Remote) else self._hashes_of(path)
            if hashes is None:
                if not partial:
                    return None
                digest.update(b"missing\0")
                continue
            for name, value in hashes.items():
                digest.update(os.fsencode(f"{name}\0{value}\0"))  # names that are no UTF-8, too
        return digest.hexdigest() if paths else None

    def _hashes_of(self, path: Path) -> dict[str, str] | None:
        """Return the hash of each file by its name, ``None`` if there is nothing."""
        if not path.exists():
            return None
        if path.is_file():
            return {} if is_left_out(path.name) else {path.name: self._file_hash(path)}
        names = sorted(files_below(path)[0], key=PurePosixPath)
        return {name: self._file_hash(path / name) for name in names if (path / name).is_file()}

    def _hashes_there(self, place: Remote) -> dict[str, str] | None:
        """Return the same of what lies in an object store."""
        listing = place.listing()
        if not listing:
            return None
        hashes: dict[str, str] = {}
        for name in sorted(listing, key=PurePosixPath):
            shown = name or place.local.name
            if is_left_out(shown):
                continue
            key, state = f"{place.url}/{name}", [*listing[name], 0]
            known = self._hashes.get(key)
            if known is None or known[:3] != state:
                place.fetch()  # all of it, if it is not here
                value = self._file_hash(place.local / name if name else place.local)
                known = self._hashes[key] = self._new[key] = [*state, value]
            hashes[shown] = str(known[3])
        return hashes

    def _file_hash(self, file: Path) -> str:
        stat, key = file.stat(), str(file.resolve())
        state = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._hashes.get(key)
        if known is None or known[:3] != state:
            with file.open("rb") as stream:
                value = hashlib.file_digest(stream, "sha256").hexdigest()
            known = self._hashes[key] = self._new[key] = [*state, value]
        return str(known[3])

    def get(self, node: str) -> dict[str, Any] | None:
        """Return the record of a node; ``None`` if there is none that can be read."""
        return _read(self._path(node))

    def behind(self, datasets: Iterable[str]) -> list[dict[str, Any]]:
        """Return the records of all nodes that datasets come from, the nearest first.

        Those that cannot be read, and what another process is just writing, are none.
        """
        files = sorted((self.folder / "nodes").glob("[!.]*.json"))
        read = [record for file in files if (record := _read(file)) is not None]
        makers = {name: record for record in read for name in record["outputs"]}
        found: list[dict[str, Any]] = []
        seen: set[str] = set()
        wanted = list(datasets)
        while wanted:
            name = wanted.pop(0)
            record = makers.get(name)
            if record is None or name in seen:
                continue
            seen |= set(record["outputs"])
            found.append(record)
            wanted += record["parts"]["inputs"]
        return found

    def put(self, node: str, record: dict[str, Any]) -> None:
        """Replace the record of a node, and keep the hashes of files now and then.

        All hashes are one file, which takes the longer to write the more there are.
        """
        self._put(self._path(node), record)
        if time.monotonic() > self._kept + _KEPT_EVERY_S:
            self.keep()

    def keep(self) -> None:
        """Keep the hashes of files that were computed, beside those that others have kept."""
        if self._new:
            self._hashes = {**self._read_hashes(), **self._new}
            self._put(self._cache, self._hashes)
            self._new = {}
        self._kept = time.monotonic()

    def drop(self, node: str) -> None:
        """Forget a node: its outputs are about to be replaced."""
        self._path(node).unlink(missing_ok=True)
        if self._remote is not None:
            self._remote.remove(self._path(node).relative_to(self.folder).as_posix())

    def lock_of(self, node: str) -> Path:
        """Return the file that is locked while a node is run elsewhere."""
        return self.folder / "running" / f"{self._path(node).stem}.lock"

    def _put(self, path: Path, data: Any) -> None:
        if self._remote is None:
            _write(path, data)
            return
        with self._remote.held():
            _write(path, data)
            self._remote.send([path.relative_to(self.folder).as_posix()])

    def _path(self, node: str) -> Path:
        name = quote(node, safe=" ")
        if len(name) > 200 or name.startswith("."):
            name = f"{name[:100].lstrip('.')}-{hashlib.sha256(node.encode()).hexdigest()[:16]}"
        return self.folder / "nodes" / f"{name}.json"

    def _read_hashes(self) -> dict[str, list[Any]]:
        try:
            found = json.loads(self._cache.read_text())
        except (FileNotFoundError, ValueError):  # a cache: what cannot be read is computed again
            return {}
        return found if isinstance(found, dict) else {}


def _read(file: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _write(path: Path, data: Any) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1, sort_keys=True))


class ProvenanceDataset(FileDataset[None, ProvenanceStore]):
    """The folder of provenance records.

    Parameters
    ----------
    filepath : str
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    def load(self) -> ProvenanceStore:
        """Return the store."""
        path = Path(self._filepath)
        options = getattr(self, "remote_options", None)  # as a catalog gives them, for an address
        there = path if options is None else Remote.of(path, options)
        return ProvenanceStore(path, there if isinstance(there, Remote) else None)

    def save(self, data: None) -> None:
        """Refuse: records are written by the runner."""
        raise DatasetError("provenance is recorded by temshift.runner.IncrementalRunner")

    def content_paths(self) -> list[Path]:
        """Return nothing: records are about results, none of them."""
        return []

    def places(self) -> list[Path]:
        """Return the folder of the records."""
        return [Path(self._filepath)]

"""Records of what each result was made from, so that what is up to date is not made again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from kedro.io import AbstractDataset, DatasetError

from temshift.catalog.files import atomic_path

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
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cache = folder / "files.cache"
        self._hashes: dict[str, list[Any]] = self._read_hashes()
        self._new: dict[str, list[Any]] = {}
        self._kept = time.monotonic()

    def content(self, paths: Iterable[Path], partial: bool = False) -> str | None:
        """Return a hash of files and folders, or ``None`` if one is missing or there is none.

        A file whose size, time of change and inode are known is not read again.

        Parameters
        ----------
        paths : iterable of Path
        partial : bool
            Take what is there, and only note what is missing.
        """
        digest = hashlib.sha256()
        paths = list(paths)
        for path in paths:
            if not path.exists():
                if not partial:
                    return None
                digest.update(b"missing\0")
                continue
            files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
            for file in files:
                name = file.name if file == path else str(file.relative_to(path))
                if not any(part.startswith(".") for part in PurePosixPath(name).parts):
                    digest.update(f"{name}\0{self._file_hash(file)}\0".encode())
        return digest.hexdigest() if paths else None

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
        _write(self._path(node), record)
        if time.monotonic() > self._kept + _KEPT_EVERY_S:
            self.keep()

    def keep(self) -> None:
        """Keep the hashes of files that were computed, beside those that others have kept."""
        if self._new:
            self._hashes = {**self._read_hashes(), **self._new}
            _write(self._cache, self._hashes)
            self._new = {}
        self._kept = time.monotonic()

    def drop(self, node: str) -> None:
        """Forget a node: its outputs are about to be replaced."""
        self._path(node).unlink(missing_ok=True)

    def lock_of(self, node: str) -> Path:
        """Return the file that is locked while a node is run elsewhere."""
        return self.folder / "running" / f"{self._path(node).stem}.lock"

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


class ProvenanceDataset(AbstractDataset[None, ProvenanceStore]):
    """The folder of provenance records.

    Parameters
    ----------
    filepath : str
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

    def load(self) -> ProvenanceStore:
        """Return the store."""
        return ProvenanceStore(Path(self._filepath))

    def save(self, data: None) -> None:
        """Refuse: records are written by the runner."""
        raise DatasetError("provenance is recorded by temshift.runner.IncrementalRunner")

    def content_paths(self) -> list[Path]:
        """Return nothing: records are about results, none of them."""
        return []

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

"""Records of what each result was made from, so that what is up to date is not made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from temshift.catalog.files import atomic_path

__all__ = ["ProvenanceDataset", "ProvenanceStore"]


class ProvenanceStore:
    """A JSON file a node, and hashes of files that are computed once a change.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hashes: dict[str, list[Any]] = {}
        if (cache := folder / "files.json").exists():
            self._hashes = json.loads(cache.read_text())

    def content(self, paths: Iterable[Path]) -> str | None:
        """Return a hash of files and folders, or ``None`` if one is missing.

        A file whose size and time of change are known is not read again.
        """
        digest = hashlib.sha256()
        for path in paths:
            if not path.exists():
                return None
            files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
            for file in files:
                name = file.name if file == path else str(file.relative_to(path))
                if not any(part.startswith(".") for part in PurePosixPath(name).parts):
                    digest.update(f"{name}\0{self._file_hash(file)}\0".encode())
        return digest.hexdigest()

    def _file_hash(self, file: Path) -> str:
        stat, key = file.stat(), str(file.resolve())
        known = self._hashes.get(key)
        if known is None or known[:2] != [stat.st_size, stat.st_mtime_ns]:
            with file.open("rb") as stream:
                value = hashlib.file_digest(stream, "sha256").hexdigest()
            known = self._hashes[key] = [stat.st_size, stat.st_mtime_ns, value]
        return str(known[2])

    def get(self, node: str) -> dict[str, Any] | None:
        """Return the record of a node."""
        path = self._folder / f"{node}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def put(self, node: str, record: dict[str, Any]) -> None:
        """Replace the record of a node, and keep the hashes of files."""
        for name, data in ((node, record), ("files", self._hashes)):
            with atomic_path(self._folder / f"{name}.json") as temporary:
                temporary.write_text(json.dumps(data, indent=1, sort_keys=True))

    def drop(self, node: str) -> None:
        """Forget a node: its outputs are about to be replaced."""
        (self._folder / f"{node}.json").unlink(missing_ok=True)


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

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

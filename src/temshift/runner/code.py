"""Which code a node's result depends on."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from functools import cache
from pathlib import Path

__all__ = ["code_fingerprint", "modules_behind"]

#: Files beside a module that it may read (templates of the report).
_ASSETS = (".html", ".css", ".js", ".j2")


@cache
def _source(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin else None


def modules_behind(module: str) -> dict[str, Path]:
    """Return the modules of its package that ``module`` imports, directly or not, with itself.

    Imports inside functions count.
    """
    package = module.partition(".")[0]
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if name in found or path is None or name == package:
            continue
        found[name] = path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
            else:
                continue
            waiting += [n for n in names if n.partition(".")[0] == package]
    return found


@cache
def code_fingerprint(module: str) -> str:
    """Return a hash of the sources behind ``module`` (:func:`modules_behind`) and their assets."""
    paths = set(modules_behind(module).values())
    paths |= {p for path in set(paths) for p in path.parent.iterdir() if p.suffix in _ASSETS}
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()

"""Whether a node is up to date, and if not, why.

A node is up to date if everything its result depends on is what its record says, and its outputs
are still what that run wrote. What a result depends on:

- the function with all code behind it (:mod:`temshift.runner.code`), and its bound arguments;
- its parameters, by value with the defaults of their models, and the methods of these models;
- the content of its inputs, and how they are read: the code of their datasets, ``load_args``;
- how its outputs are written: the code of their datasets, ``save_args``;
- the versions of the packages that this code uses.

Nothing here runs a node, and all that is known lies in the records: any runner may ask, also from
another process.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from pydantic import BaseModel

from temshift.catalog.content import content_paths, reading_options
from temshift.catalog.provenance import ProvenanceStore
from temshift.runner.code import Behind, Code, Role, package_version
from temshift.runner.telling import FORCED, NEVER_RUN

__all__ = ["Freshness"]

#: Of the form of the records; with another one every node runs once more.
_FORM = 2

#: Reasons that are told of one node.
_TOLD = 3


class Freshness:
    """Compares nodes with the records of their last complete runs.

    Parameters
    ----------
    pipeline : Pipeline
        What is run; tells which node makes an input that is kept in memory only.
    catalog : CatalogProtocol
    records : ProvenanceStore
    force : bool
        Nothing is up to date.
    code : Code, optional
        Reads the sources.
    versions : callable, optional
        Gives the version of a package by the name under which it is imported.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        catalog: Any,
        records: ProvenanceStore,
        force: bool = False,
        code: Code | None = None,
        versions: Callable[[str], str | None] = package_version,
    ) -> None:
        self._catalog = catalog
        self._records = records
        self._force = force
        self._code = code or Code()
        self._versions = versions
        self._outputs = pipeline.outputs()
        self._makers = {name: node for node in pipeline.nodes for name in node.outputs}
        # now, not when a node's turn comes: sources may be edited while others run
        self._fixed = {node.name: self._fixed_parts(node) for node in pipeline.nodes}
        self._before: dict[str, _Parts] = {}
        self._began: dict[str, float] = {}

    def why(self, node: Node) -> str | None:
        """Return in a line why a node is to be run, ``None`` if it is up to date.

        An output that no file keeps is missing if it is a result of the pipeline. If another node
        needs it, that node's runner has to make it (:meth:`makers_of_missing`).
        """
        parts = self._before[node.name] = self._parts(node)
        if self._force:
            return FORCED
        record = self._records.get(node.name)
        if record is None:
            return NEVER_RUN
        if record.get("form") != _FORM:
            return "its record is of another version of temshift"
        reasons = [*_compare(record["parts"], parts), *self._altered(node, record["outputs"])]
        more = f"; and {len(reasons) - _TOLD} more" if len(reasons) > _TOLD else ""
        return "; ".join(reasons[:_TOLD]) + more if reasons else None

    def begin(self, node: Node) -> None:
        """Forget the record of a node, whose outputs are about to be replaced.

        What an unfinished run of it has left (checkpoints) goes too, if other code made it.
        """
        parts = self._before.setdefault(node.name, self._parts(node))
        made_by = _hash({key: parts[key] for key in ("function", "arguments", "code", "packages")})
        for name in filter(self._is_volatile, node.inputs):
            store = self._catalog.load(name)
            if hasattr(store, "keep_of"):
                store.keep_of(made_by)
        self._began[node.name] = time.time()
        self._records.drop(node.name)

    def record(self, node: Node) -> None:
        """Record that a node has been run with what it depended on when it began."""
        parts = self._before.pop(node.name, None) or self._parts(node)
        outputs = {name: self._content(name) for name in node.outputs}
        ended = time.time()
        times = {"began": self._began.pop(node.name, ended), "ended": ended}
        self._records.put(node.name, {"form": _FORM, "parts": parts, "outputs": outputs, **times})

    def makers_of_missing(self, node: Node) -> list[tuple[Node, str]]:
        """Return the nodes that must run before ``node`` can, each with the input it makes.

        These are inputs that are kept in memory only and have not been made in this process.
        """
        return [
            (self._makers[name], name)
            for name in node.inputs
            if name in self._makers
            and not self._paths(name)
            and not self._catalog.get(name).exists()
        ]

    # ---------------------------------------------------------------- parts
    def _parts(self, node: Node) -> _Parts:
        """Return everything a node's outputs depend on."""
        inputs: dict[str, str | None] = {}
        for name in node.inputs:
            if not _is_parameter(name) and not self._is_volatile(name):
                inputs[name] = self._input(name)
        return {**self._fixed[node.name], "inputs": inputs}

    def _fixed_parts(self, node: Node) -> _Parts:
        """Return what does not change while a pipeline runs."""
        function = _Described(self._code)
        name = function.add(node.func)
        parameters: dict[str, Any] = {}
        options: dict[str, Any] = {}
        behind = function.behind
        for dataset in node.inputs:
            if _is_parameter(dataset):
                value = self._catalog.load(dataset)
                parameters |= _flat(dataset.removeprefix("params:"), _plain(value))
                for model in set(_models(value)):
                    behind |= self._code.behind_class(model)
            elif not self._is_volatile(dataset):
                behind |= self._behind_dataset(dataset, "input")
                options |= self._options(dataset, "load_args")
        for dataset in node.outputs:
            behind |= self._behind_dataset(dataset, "output")
            options |= self._options(dataset, "save_args")
        return {
            "function": name,
            "arguments": function.arguments,
            "parameters": json.loads(json.dumps(parameters, default=str)),
            "code": behind.hashes,
            "packages": {p: self._versions(p) for p in sorted(behind.packages)},
            "options": options,
        }

    def _behind_dataset(self, name: str, role: Role) -> Behind:
        return self._code.behind_class(type(self._catalog.get(name)), role)

    def _options(self, name: str, key: str) -> dict[str, Any]:
        """Return how a dataset reads or writes, as the catalog says it."""
        value = reading_options(self._catalog.get(name), key)
        return {f"{key} of {name}": json.loads(json.dumps(value, default=str))} if value else {}

    def _input(self, name: str) -> str | None:
        if paths := self._paths(name):
            return self._records.content(paths, partial=True)
        if maker := self._makers.get(name):
            # it is not kept; what it is made from says what it is
            return _hash(self._parts(maker))
        try:
            return hashlib.sha256(pickle.dumps(self._catalog.load(name))).hexdigest()
        except (pickle.PicklingError, TypeError, AttributeError):
            return None  # cannot be compared: never up to date

    def _altered(self, node: Node, recorded: Mapping[str, str | None]) -> Iterator[str]:
        for name in node.outputs:
            if not self._paths(name):
                if name in self._outputs and not self._catalog.get(name).exists():
                    yield f"output {name} is kept in memory only"
                continue
            now = self._content(name)
            if now is None:
                yield f"output {name} is missing"
            elif now != recorded.get(name):
                yield f"output {name} was changed"

    def _content(self, name: str) -> str | None:
        return self._records.content(self._paths(name))

    def _paths(self, name: str) -> list[Any]:
        return content_paths(self._catalog.get(name))

    def _is_volatile(self, name: str) -> bool:
        return bool(getattr(self._catalog.get(name), "volatile", False))


_Parts = dict[str, Any]


# -------------------------------------------------------------------- the function
@dataclass
class _Described:
    """A function, whatever it is made of: bound arguments, closures, methods, wrappers."""

    code: Code
    behind: Behind = field(default_factory=Behind)
    arguments: list[Any] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)

    def add(self, function: Any) -> str:
        """Take in a callable with all that it holds; return its name."""
        if id(function) in self._seen:
            return _name(function)
        self._seen.add(id(function))
        if isinstance(function, partial):
            self.arguments.append([self._value(a) for a in function.args])
            self.arguments.append({k: self._value(v) for k, v in function.keywords.items()})
            return self.add(function.func)
        if hasattr(function, "__func__"):  # a method
            owner = function.__self__
            self.behind |= self.code.behind_class(owner if isinstance(owner, type) else type(owner))
            if not isinstance(owner, type):
                self.arguments.append(self._value(getattr(owner, "__dict__", None)))
            return self.add(function.__func__)
        if isinstance(function, type):
            self.behind |= self.code.behind_class(function)
        elif hasattr(function, "__code__"):
            self.behind |= self.code.behind_function(function)
            for cell in function.__closure__ or ():
                try:
                    self.arguments.append(self._value(cell.cell_contents))
                except ValueError:  # not yet bound
                    self.arguments.append("unbound")
            for default in (function.__defaults__, function.__kwdefaults__):
                if default:
                    self.arguments.append(self._value(default))
        elif type(function).__module__ != "builtins":  # an object that can be called
            self.behind |= self.code.behind_class(type(function))
            self.arguments.append(self._value(getattr(function, "__dict__", None)))
        else:
            top = str(getattr(function, "__module__", "")).partition(".")[0]
            self.behind |= Behind(packages=frozenset({top} if package_version(top) else ()))
        if (wrapped := getattr(function, "__wrapped__", None)) is not None:
            self.add(wrapped)
        return _name(function)

    def _value(self, value: Any) -> Any:
        """Return a value as JSON that says all of it, ``None`` within ``[]`` if that cannot be."""
        if value is None or isinstance(value, str | int | float | bool):
            return value
        if isinstance(value, BaseModel):
            self.behind |= self.code.behind_class(type(value))
            return _plain(value)
        if isinstance(value, dict):
            return {str(k): self._value(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(v) for v in value]
        if callable(value):
            return self.add(value)
        try:
            data = pickle.dumps(value)
        except (pickle.PicklingError, TypeError, AttributeError):
            return repr(value)  # with its address: such a node is never up to date
        return f"{type(value).__qualname__} {hashlib.sha256(data).hexdigest()}"


def _name(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


# -------------------------------------------------------------------- parameters
def _is_parameter(name: str) -> bool:
    return name.startswith("params:") or name == "parameters"


def _plain(value: Any) -> Any:
    """Return parameters as plain values; what was not set has the default of its model."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _flat(path: str, value: Any) -> dict[str, Any]:
    """Return parameters by their full names: ``modelling.training.steps``."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {k: v for key, inner in value.items() for k, v in _flat(f"{path}.{key}", inner).items()}


def _models(value: Any) -> Iterator[type[BaseModel]]:
    """Yield the models among parameters (their methods are code of the node)."""
    if isinstance(value, BaseModel):
        yield type(value)
        for name in type(value).model_fields:
            yield from _models(getattr(value, name))
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _models(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _models(inner)


# -------------------------------------------------------------------- reasons
def _compare(before: _Parts, now: _Parts) -> Iterator[str]:
    """Yield what has changed, the most telling first."""
    if before["function"] != now["function"]:
        yield f"function {now['function']} in place of {before['function']}"
        return
    if before["arguments"] != now["arguments"] or _has_address(now["arguments"]):
        yield "its bound arguments changed, or cannot be compared"
    for name, old, new in _different(before["parameters"], now["parameters"]):
        yield f"parameter {name} changed ({_short(old)} -> {_short(new)})"
    if modules := sorted(name for name, _, _ in _different(before["code"], now["code"])):
        told = ", ".join(modules[:_TOLD])
        more = f" and {len(modules) - _TOLD} more" if len(modules) > _TOLD else ""
        yield f"code of {told}{more} changed"
    for name, old, new in _different(before["packages"], now["packages"]):
        yield f"package {name} {_short(old)} -> {_short(new)}"
    for name, _, _ in _different(before["options"], now["options"]):
        yield f"{name} changed"
    for name, _, _ in _different(before["inputs"], now["inputs"]):
        yield f"input {name} changed"
    for name, value in now["inputs"].items():
        if value is None:
            yield f"input {name} cannot be compared with that of the last run"


_ABSENT: Any = object()


def _different(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in (*now, *(n for n in before if n not in now)):
        old, new = before.get(name, _ABSENT), now.get(name, _ABSENT)
        if old is _ABSENT or new is _ABSENT or old != new:
            yield name, old, new


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "not there"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _has_address(arguments: Any) -> bool:
    return re.search(r" at 0x[0-9a-f]+>", json.dumps(arguments, default=str)) is not None


def _hash(parts: _Parts) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

"""Which code a result depends on: what is found behind a function, name by name.

A function counts with every function, class and constant of its own package that it names, and
those count with what they name in turn. Only sources are read, nothing is imported or run. What
cannot be followed by name is taken whole, so that too much is repeated rather than too little:

- a module that is used as a value, or asked for a name that it does not define;
- statements of a module other than definitions, plain assignments and imports (a call, a loop, a
  condition), of every module that is imported on the way, packages' ``__init__`` too;
- functions and classes with a decorator that is not of the standard library, for it may keep them.

Comments, docstrings and annotations of functions do not count, nor does what only a type checker
sees (``if TYPE_CHECKING``). A file beside the modules (a template, a style sheet) counts where its
name or its suffix stands as a string, in code or in another such file that counts.

Not seen: a name that is put together at run time (``getattr(module, a + b)`` takes the module
whole, ``importlib.import_module(a + b)`` takes nothing); modules that change one another by
assigning to their attributes from within functions; the class of an object that comes out of a
pickle, if no code that counts names it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path, PurePosixPath
from types import CodeType
from typing import Any, Literal

__all__ = ["Behind", "Code", "Role", "code_digest", "package_version"]

#: In what way a class of datasets is used: how it saves says nothing about what it loads.
Role = Literal["", "input", "output"]

#: Packages that carry data and parameters but make none of what is in the results: nothing is
#: trained again because of another version of them.
CARRIERS = {
    *("kedro", "kedro_datasets", "fsspec", "pydantic", "tqdm"),
    *("requests", "urllib3", "filelock", "click", "pluggy"),
}

_NO_MATTER = {"preview", "_preview", "_describe", "_exists", "content_paths", "places", "__repr__"}
_LEFT_OUT: dict[str, set[str]] = {
    "": set(),
    "input": _NO_MATTER | {"save", "_save"},
    "output": _NO_MATTER | {"load", "_load"},
}

#: Name of what a module does besides defining things.
_EFFECTS = ""

_Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_Comprehension = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Behind:
    """What lies behind a function or a class; two of them are put together by ``|``.

    Attributes
    ----------
    code : dict of str to frozenset of str
        Of each module, hashes of what counts in it; of each file (with its path in the package),
        of its content.
    packages : frozenset of str
        Names under which packages are imported that are neither followed nor of Python itself.
    """

    code: dict[str, frozenset[str]] = field(default_factory=dict)
    packages: frozenset[str] = frozenset()

    def __or__(self, other: Behind) -> Behind:
        both = dict(self.code)
        for name, hashes in other.code.items():
            both[name] = both.get(name, frozenset()) | hashes
        return Behind(both, self.packages | other.packages)

    @property
    def hashes(self) -> dict[str, str]:
        """One hash a module or file."""
        return {name: _hash(*sorted(hashes)) for name, hashes in sorted(self.code.items())}


class Code:
    """Reads sources, each once; one of the same text as before is not parsed again.

    Parameters
    ----------
    roots : mapping of str to Path, optional
        Where a top-level package is to be read instead of where Python would import it from.
    """

    def __init__(self, roots: Mapping[str, Path] | None = None) -> None:
        self._roots: dict[str, list[Path]] = {k: [Path(v)] for k, v in (roots or {}).items()}
        self._own = {"temshift"}
        self._modules: dict[str, _Module | None] = {}
        self._known: dict[tuple[str, str, Role], Behind] = {}
        self._assets: dict[str, dict[str, Path]] = {}
        self._foreign: dict[str, set[str]] = {}

    def behind_function(self, function: Any) -> Behind:
        """Return what lies behind a plain function, also one that is made by another.

        One that stands inside another function counts with the whole of it; one without a source
        file (typed at a prompt) by its byte code.
        """
        module = function.__globals__.get("__name__", function.__module__)
        qualname = function.__code__.co_qualname
        symbol = qualname.partition(".")[0]
        nested = "<" in qualname or "." in qualname
        top = module.partition(".")[0]
        if not self._follow(top) and package_version(top) is not None:
            return Behind(packages=_counted({top}))
        if self._define(module, symbol):
            found = self.behind(module, symbol)
        elif self._module(module) is not None and symbol.startswith("<"):  # a lambda
            found = self.behind(module, "*")
        else:
            nested, found = True, Behind()
        if nested:
            bytecode = _hash(*_bytecode(function.__code__))
            found |= Behind({f"{module}.{qualname}": frozenset((bytecode,))})
        return found

    def behind_class(self, cls: type, role: Role = "") -> Behind:
        """Return what lies behind a class; of a package that is not followed, the package."""
        symbol = cls.__qualname__.partition(".")[0]
        top = cls.__module__.partition(".")[0]
        if self._follow(top) and self._define(cls.__module__, symbol):
            return self.behind(cls.__module__, symbol, role)
        found = Behind(packages=_counted({top}))
        for base in cls.__mro__[1:]:  # a class typed at a prompt, of bases that can be read
            if self._follow(base.__module__.partition(".")[0]):
                found |= self.behind_class(base, role)
        return found | Behind(packages=_counted(self._imports(cls.__module__)))

    def behind(self, module: str, symbol: str, role: Role = "") -> Behind:
        """Return what lies behind a name of a module (``"*"``: all of it)."""
        root = (module, symbol, role)
        if root not in self._known:
            self._own.add(module.partition(".")[0])
            self._known[root] = self._collect(root)
        return self._known[root]

    # ---------------------------------------------------------------- following names
    def _collect(self, root: tuple[str, str, Role]) -> Behind:
        waiting: list[tuple[str, str, Role]] = [root]
        seen: set[tuple[str, str, Role]] = set()
        packages: set[str] = set()
        strings: set[str] = set()
        texts: dict[str, set[str]] = {}
        while waiting:
            item = waiting.pop()
            if item in seen:
                continue
            seen.add(item)
            name, symbol, role = item
            module = self._module(name)
            if module is None:
                continue
            if symbol == "*":
                waiting += [(name, s, "") for s in module.symbols]
                for target in (t for targets in module.bindings.values() for t in targets):
                    waiting += self._aim(target, (), packages)
            if (name, _EFFECTS, "") not in seen:
                waiting.append((name, _EFFECTS, ""))
            if symbol == _EFFECTS:
                waiting += [(m, _EFFECTS, "") for m in self._executed(module)]
            for piece in module.pieces(symbol, role):
                texts.setdefault(name, set()).add(f"{symbol} {role} {piece.text}")
                strings |= piece.strings
                for target in piece.imported:
                    if not self._follow(target.module.partition(".")[0]):
                        packages.add(target.module.partition(".")[0])
                for chain, as_base in piece.names:
                    passed: Role = role if as_base else ""
                    for found in self._look_up(module, piece, chain, packages):
                        waiting.append((found[0], found[1], passed))
                waiting += self._named(piece.strings, packages)
        code = {name: frozenset(found) for name, found in texts.items()}
        for name in {item[0].partition(".")[0] for item in seen}:
            code |= self._read_assets(name, strings)
        return Behind(code, _counted(packages))

    def _look_up(
        self, module: _Module, piece: _Piece, chain: tuple[str, ...], packages: set[str]
    ) -> Iterator[tuple[str, str, Role]]:
        head, rest = chain[0], chain[1:]
        targets = [*piece.local.get(head, ()), *module.bindings.get(head, ())]
        for target in targets:
            yield from self._aim(target, rest, packages)
        if head in module.symbols:
            yield (module.name, head, "")
        elif not targets:
            for star in module.stars:
                yield from self._aim(_Target(star), (head,), packages, sure=False)

    def _aim(
        self,
        target: _Target,
        rest: tuple[str, ...],
        packages: set[str],
        sure: bool = True,
        passed: tuple[_Target, ...] = (),
    ) -> Iterator[tuple[str, str, Role]]:
        """Yield what ``target.rest`` stands for, through modules that only pass it on."""
        top = target.module.partition(".")[0]
        if not self._follow(top):
            packages.add(top)
            return
        name = target.module
        rest = (target.name, *rest) if target.name else rest
        while rest and self._module(f"{name}.{rest[0]}") is not None:
            name, rest = f"{name}.{rest[0]}", rest[1:]
        module = self._module(name)
        if module is None:
            return
        yield (name, _EFFECTS, "")
        if not rest:
            yield (name, "*", "")
        elif rest[0] in module.symbols or rest[0] in module.bindings:
            if rest[0] in module.symbols:
                yield (name, rest[0], "")
            for other in module.bindings.get(rest[0], ()):
                if other not in passed:
                    yield from self._aim(other, rest[1:], packages, True, (*passed, other))
        elif sure and not rest[0].startswith("__"):
            yield (name, "*", "")

    def _named(self, strings: Iterable[str], packages: set[str]) -> Iterator[Any]:
        """Yield modules whose names stand as strings (to be imported by name)."""
        for text in strings:
            if "." in text and text.isascii() and text.replace(".", "_").isidentifier():
                top = text.partition(".")[0]
                if top in self._own and (module := self._module(text)) is not None:
                    yield (text, _EFFECTS if module.is_package else "*", "")

    def _executed(self, module: _Module) -> Iterator[str]:
        """Yield the modules that run when one is imported."""
        parts = module.name.split(".")
        yield from (".".join(parts[:i]) for i in range(1, len(parts)))
        for target in module.imports:
            if self._follow(target.module.partition(".")[0]):
                yield target.module
                if target.name and self._module(f"{target.module}.{target.name}"):
                    yield f"{target.module}.{target.name}"

    # ---------------------------------------------------------------- reading
    def _follow(self, top: str) -> bool:
        if top in self._own or top in self._roots:
            return True
        if top in sys.stdlib_module_names or package_version(top) is not None:
            return False
        return bool(self._folders(top))  # not installed as a package: a module of the user's own

    def _folders(self, top: str) -> list[Path]:
        if top not in self._roots:
            self._roots[top] = _find(top)
        return self._roots[top]

    def _define(self, module: str, symbol: str) -> bool:
        found = self._module(module)
        return found is not None and symbol in found.symbols

    def _module(self, name: str) -> _Module | None:
        if name not in self._modules:
            top, *rest = name.split(".")
            self._modules[name] = None
            for root in self._folders(top):
                base = root.joinpath(*rest)
                candidates = [root] if root.suffix == ".py" and not rest else []
                if root.suffix != ".py":
                    candidates = [base / "__init__.py"]
                    if rest:
                        candidates.append(base.parent / f"{base.name}.py")
                if path := next((p for p in candidates if p.is_file()), None):
                    self._modules[name] = _read_module(name, path)
                    break
        return self._modules[name]

    def _imports(self, module: str) -> set[str]:
        """Return the packages that a module of a package that is not followed imports."""
        if module not in self._foreign:
            path = getattr(sys.modules.get(module), "__file__", None) or ""
            found = _read_module(module, Path(path)).imports if path.endswith(".py") else []
            self._foreign[module] = {target.module.partition(".")[0] for target in found}
        return self._foreign[module]

    def _read_assets(self, top: str, strings: set[str]) -> dict[str, frozenset[str]]:
        if top not in self._assets:
            self._assets[top] = {
                path.relative_to(root).as_posix(): path
                for root in self._folders(top)
                if (root / "__init__.py").is_file()
                for path in sorted(root.rglob("*.*"))
                if path.suffix not in (".py", ".pyc", ".pyi") and path.is_file()
            }
        every = self._assets[top]
        patterns = {PurePosixPath(s).name for s in strings if "." in s and len(s) < 200}
        waiting = [
            name
            for name, path in every.items()
            if any(p == path.suffix or fnmatch(path.name, p) for p in patterns)
        ]
        found: dict[str, str] = {}
        while waiting:
            name = waiting.pop()
            if name not in found:
                content = every[name].read_bytes()
                found[name] = hashlib.sha256(content).hexdigest()
                waiting += [n for n, p in every.items() if p.name.encode() in content]
        return {f"{top}/{name}": frozenset((value,)) for name, value in found.items()}


# -------------------------------------------------------------------- modules
@dataclass(frozen=True)
class _Target:
    """What an imported name stands for: a module, or a name of a module."""

    module: str
    name: str = ""


def _read_module(name: str, path: Path) -> _Module:
    return _parsed(name, path.name == "__init__.py", path.read_bytes())


@lru_cache(maxsize=1000)
def _parsed(name: str, is_package: bool, source: bytes) -> _Module:
    return _Module(name, is_package, source)


class _Module:
    """The statements of a module by the names that they define; what was read of them is kept."""

    def __init__(self, name: str, is_package: bool, source: bytes) -> None:
        self.name = name
        self.is_package = is_package
        self.symbols: dict[str, list[ast.stmt]] = {}
        self.bindings: dict[str, list[_Target]] = {}
        self.imports: list[_Target] = []
        self.stars: list[str] = []
        self.effects: list[ast.stmt] = []
        self._pieces: dict[tuple[str, Role], list[_Piece]] = {}
        self._take(ast.parse(source).body)

    def pieces(self, symbol: str, role: Role) -> list[_Piece]:
        """Return what the statements behind a name say."""
        if (symbol, role) not in self._pieces:
            statements = self.effects if symbol == _EFFECTS else self.symbols.get(symbol, [])
            self._pieces[symbol, role] = [_Reader(self, role).read(s) for s in statements]
        return self._pieces[symbol, role]

    def targets(self, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, _Target, _Target]]:
        """Yield each name that an import binds, what it stands for and what is imported."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = _Target(alias.name)
                if alias.asname:
                    yield alias.asname, whole, whole
                else:
                    top = alias.name.partition(".")[0]
                    yield top, _Target(top), whole
            return
        module = node.module or ""
        if node.level:
            parts = self.name.split(".")
            kept = len(parts) - node.level + (1 if self.is_package else 0)
            module = ".".join([*parts[:kept], *([module] if module else [])])
        for alias in node.names:
            target = _Target(module, "" if alias.name == "*" else alias.name)
            yield alias.asname or alias.name, target, target

    def _take(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            match statement:
                case ast.Import() | ast.ImportFrom():
                    self._bind(statement)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    self._define(statement.name, statement)
                    if statement.decorator_list and self._is_kept(statement):
                        self.effects.append(statement)
                case ast.Assign(targets=targets) if (names := _plain_names(targets)) is not None:
                    for name in names:
                        if name != "__all__":
                            self._define(name, statement)
                case ast.AnnAssign(target=ast.Name(id=name)):
                    self._define(name, statement)
                case ast.If() if _is_type_checking(statement.test):
                    self._take(statement.orelse)
                case ast.Expr(value=ast.Constant()):
                    pass
                case _:
                    self._take_effect(statement)

    def _take_effect(self, statement: ast.stmt) -> None:
        self.effects.append(statement)
        for node in ast.walk(statement):
            match node:
                case ast.Import() | ast.ImportFrom():
                    self._bind(node)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    self._define(node.name, statement)
                case ast.Name(id=name, ctx=ast.Store()):
                    self._define(name, statement)

    def _define(self, name: str, statement: ast.stmt) -> None:
        self.symbols.setdefault(name, []).append(statement)

    def _bind(self, node: ast.Import | ast.ImportFrom) -> None:
        for name, target, imported in self.targets(node):
            self.imports.append(imported)
            if name == "*":
                self.stars.append(target.module)
            else:
                self.bindings.setdefault(name, []).append(target)

    def _is_kept(self, definition: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
        return any(not self.is_standard(d) for d in definition.decorator_list)

    def is_standard(self, decorator: ast.expr) -> bool:
        """Say whether a decorator is of the standard library."""
        root = decorator
        while isinstance(root, ast.Call | ast.Attribute):
            root = root.func if isinstance(root, ast.Call) else root.value
        if not isinstance(root, ast.Name) or root.id in self.symbols:
            return False
        if root.id not in self.bindings:
            return root.id in ("property", "staticmethod", "classmethod")
        return all(
            target.module.partition(".")[0] in sys.stdlib_module_names
            for target in self.bindings[root.id]
        )


def _plain_names(targets: list[ast.expr]) -> list[str] | None:
    names: list[str] = []
    for target in targets:
        for part in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
            if not isinstance(part, ast.Name):
                return None
            names.append(part.id)
    return names


def _is_type_checking(test: ast.expr) -> bool:
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
    return False


# -------------------------------------------------------------------- one statement
@dataclass
class _Piece:
    """What one statement of a module says, and what it names."""

    text: str = ""
    names: set[tuple[tuple[str, ...], bool]] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)
    local: dict[str, list[_Target]] = field(default_factory=dict)
    imported: set[_Target] = field(default_factory=set)


class _Reader:
    """Writes a statement down without what does not count, and notes what it names."""

    def __init__(self, module: _Module, role: Role) -> None:
        self._of = module
        self._role = role
        self._piece = _Piece()
        self._parts: list[str] = []
        self._scopes: list[set[str]] = []
        self._in_class = False

    def read(self, statement: ast.stmt) -> _Piece:
        self._visit(statement)
        self._piece.text = _hash(*self._parts)
        return self._piece

    def _visit(self, node: Any, as_base: bool = False) -> None:
        match node:
            case None:
                pass
            case list():
                self._parts.append("[")
                for item in node:
                    self._visit(item)
                self._parts.append("]")
            case ast.Expr(value=ast.Constant()):
                pass  # docstrings, and other strings that stand alone
            case ast.Name() | ast.Attribute():
                self._name(node, as_base)
            case ast.Constant(value=value):
                self._parts.append(f"{type(value).__name__} {value!r}")
                if isinstance(value, str):
                    self._piece.strings.add(value)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                self._function(node)
            case ast.ClassDef():
                self._class(node)
            case ast.AnnAssign():
                self._annotated(node)
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case ast.If() if _is_type_checking(node.test):
                self._visit(node.orelse)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                self._comprehension(node)
            case ast.Global(names=names):
                self._piece.names |= {((name,), False) for name in names}
            case ast.AST():
                self._parts.append(type(node).__name__)
                for key, value in ast.iter_fields(node):
                    if value is not None and value != [] and key not in ("ctx", "type_comment"):
                        self._parts.append(key)
                        self._visit(value)
            case _:
                self._parts.append(repr(node))

    def _name(self, node: ast.Name | ast.Attribute, as_base: bool) -> None:
        chain: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            chain.append(inner.attr)
            inner = inner.value
        self._parts.append(".".join(["", *chain]))
        if not isinstance(inner, ast.Name):
            self._visit(inner)
            return
        self._parts.append(inner.id)
        stored = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        if not stored and not any(inner.id in scope for scope in self._scopes):
            self._piece.names.add(((inner.id, *reversed(chain)), as_base))

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
        # a decorator may read annotations (a validator, a dispatch by type)
        annotated = any(not self._of.is_standard(d) for d in decorators)
        self._parts.append(f"{type(node).__name__} {getattr(node, 'name', '')}")
        self._visit(decorators)
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        extra = [a for a in (arguments.vararg, arguments.kwarg) if a]
        self._parts.append(
            f"{len(arguments.posonlyargs)} {len(arguments.args)} {len(arguments.kwonlyargs)} "
            f"{arguments.vararg is not None} {arguments.kwarg is not None} "
            + " ".join(a.arg for a in (*every, *extra))
        )
        for default in (*arguments.defaults, *arguments.kw_defaults):
            self._visit(default) if default else self._parts.append("none")
        if annotated:
            for argument in (*every, *extra):
                self._visit(argument.annotation)
            self._visit(getattr(node, "returns", None))
        scope = {a.arg for a in (*every, *extra)}
        if not isinstance(node, ast.Lambda):
            scope |= _stored(node.body)
        self._scopes.append(scope)
        in_class, self._in_class = self._in_class, False
        self._visit(node.body)
        self._in_class = in_class
        self._scopes.pop()

    def _class(self, node: ast.ClassDef) -> None:
        self._parts.append(f"class {node.name}")
        self._visit(node.decorator_list)
        for base in node.bases:
            self._visit(base, as_base=True)
        self._visit(node.keywords)
        in_class, self._in_class = self._in_class, True
        for statement in _body(node, _LEFT_OUT[self._role]):
            self._visit(statement)
        self._in_class = in_class

    def _annotated(self, node: ast.AnnAssign) -> None:
        if self._in_class:  # a field of a model or a data class
            self._parts.append("field")
            self._visit(node.target)
            self._visit(node.annotation)
            self._visit(node.value)
        elif node.value is not None:
            self._parts.append("Assign")
            self._visit(node.target)
            self._visit(node.value)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name, target, imported in self._of.targets(node):
            self._parts.append(f"import {name} {imported.module} {imported.name}")
            self._piece.imported.add(imported)
            self._piece.local.setdefault(name, []).append(target)
            for scope in self._scopes:
                scope.discard(name)

    def _comprehension(self, node: Any) -> None:
        self._parts.append(type(node).__name__)
        first, *others = node.generators
        self._visit(first.iter)  # read outside of the comprehension
        self._scopes.append(_stored([g.target for g in node.generators]))
        self._visit(first.target)
        self._visit(first.ifs)
        self._visit(others)
        for key in ("elt", "key", "value"):
            self._visit(getattr(node, key, None))
        self._scopes.pop()


def _body(node: ast.ClassDef, left_out: set[str]) -> list[ast.stmt]:
    """Return the statements of a class but methods that are left out and not called by others."""
    kept: list[ast.stmt] = []
    away: list[ast.stmt] = []
    for statement in node.body:
        out = isinstance(statement, _Function) and statement.name in left_out
        (away if out else kept).append(statement)
    called: set[str] = set()
    waiting = list(kept)
    while waiting:
        for inner in ast.walk(waiting.pop()):
            if isinstance(inner, ast.Attribute):
                called.add(inner.attr)
        for statement in [s for s in away if getattr(s, "name", "") in called]:
            away.remove(statement)
            waiting.append(statement)
    return [statement for statement in node.body if statement not in away]


def _stored(nodes: list[Any]) -> set[str]:
    """Return the names that are assigned, so that they are local where this stands."""
    names: set[str] = set()
    outer: set[str] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Global):
            outer |= set(node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if isinstance(node, (*_Function, ast.ClassDef)):
            names.add(node.name)
        elif not isinstance(node, (*_Comprehension, ast.Lambda)):
            waiting += list(ast.iter_child_nodes(node))
    return names - outer


def code_digest(*objects: Any) -> str:
    """Return a digest of the code behind functions and classes, and of its packages' versions."""
    code, behind = Code(), Behind()
    for one in objects:
        behind |= code.behind_class(one) if isinstance(one, type) else code.behind_function(one)
    versions = [f"{name} {package_version(name)}" for name in sorted(behind.packages)]
    return _hash(*(f"{k} {v}" for k, v in behind.hashes.items()), *versions)


# -------------------------------------------------------------------- outside
@cache
def package_version(name: str) -> str | None:
    """Return the version of the package that is imported as ``name``, ``None`` if none is."""
    try:
        return version(name)
    except PackageNotFoundError:
        pass
    found = [version(d) for d in sorted(set(_distributions().get(name, ())))]
    return ", ".join(found) or None


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _counted(packages: set[str]) -> frozenset[str]:
    return frozenset(
        p for p in packages if p and p not in CARRIERS and p not in sys.stdlib_module_names
    )


def _find(top: str) -> list[Path]:
    """Return the folders of a top-level package, or the file of a top-level module."""
    loaded = sys.modules.get(top)
    if loaded is not None and (file := getattr(loaded, "__file__", None)):
        path = Path(file)
        if path.name != "__init__.py":
            return [path] if path.suffix == ".py" else []
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(p) for p in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []


def _bytecode(code: CodeType) -> Iterator[str]:
    """Yield what a function does, without where it stands."""
    yield code.co_code.hex()
    yield " ".join((*code.co_names, *code.co_varnames, *code.co_freevars))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _bytecode(constant)
        else:
            yield repr(sorted(constant, key=repr) if isinstance(constant, frozenset) else constant)


def _hash(*texts: str) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:16]

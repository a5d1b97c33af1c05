"""Which code counts for a function."""

import importlib
import sys
from functools import update_wrapper, wraps

import pytest

from temshift.runner.code import Code, package_version

#: Stands for the package itself, whose name is another in each test.
PACKAGE = "the package"

SOURCES = {
    "__init__": "VERSION = 1\n",
    "a": '''
"""Doc."""
from typing import TYPE_CHECKING

import numpy as np
import plotly

from {name} import d, e
from {name}.c import LIMIT, Base

if TYPE_CHECKING:
    from {name}.h import Only


class Result(Base):
    def value(self) -> "Only":
        return 1


def f(x: "Only") -> int:
    """Say."""
    from {name}.b import g

    other: int = np.abs(x)  # a comment
    return g(other) + LIMIT


def apart():
    return plotly, d.used()


def made(e):
    return [d for d in Result().value() if d == e]
''',
    "b": "from {name}.c import helper\n\ndef g(x):\n    return helper(x)\n\ndef k():\n    pass\n",
    "c": "LIMIT = 3\nOTHER = 4\n\n\nclass Base:\n    pass\n\n\ndef helper(x):\n    return x\n",
    "d": "def used():\n    return 'page.css'\n\n\ndef unused():\n    pass\n",
    "e": "import os\n\nos.environ.get('nothing')\n",
    "h": "class Only:\n    pass\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a few modules, and ways to change it."""
    name = f"package_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / name
    folder.mkdir()
    for module, text in SOURCES.items():
        (folder / f"{module}.py").write_text(text.replace("{name}", name))
    (folder / "page.css").write_text("@import 'more.css';")
    (folder / "more.css").write_text("a {}")
    (folder / "page.html").write_text("<p>")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        del sys.modules[module]


def hashes(folder, symbol="f", module="a", role=""):
    """Return what lies behind a name of the package, by the short names of its modules."""
    found = Code().behind(f"{folder.name}.{module}", symbol, role)
    return {name.removeprefix(f"{folder.name}.") for name in found.code}, found


def changed(folder, module, old, new, symbol="f"):
    """Change a module; return the names of what has changed behind a function."""
    before = hashes(folder, symbol)[1].hashes
    path = folder / module
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    after = hashes(folder, symbol)[1].hashes
    path.write_text(text)
    names = {n for n in before | after if before.get(n) != after.get(n)}
    return {n.removeprefix(f"{folder.name}.").removeprefix(f"{folder.name}/") for n in names}


def test_a_function_counts_with_what_it_calls_and_imports_inside(package):
    assert hashes(package)[0] == {"a", "b", "c", "e"}  # e does something when it is imported
    assert hashes(package, "apart")[0] == {"a", "d", "e", *_assets(package, "page.css", "more.css")}


def _assets(package, *names):
    return {f"{package.name}/{name}" for name in names}


def test_packages_count_for_what_uses_them(package):
    assert hashes(package)[1].packages == {"numpy"}
    assert hashes(package, "apart")[1].packages == {"plotly"}


@pytest.mark.parametrize(
    ("module", "old", "new", "counts"),
    [
        ("a.py", "# a comment", "# another", set()),
        ("a.py", "Say.", "Said.", set()),
        ("a.py", "Doc.", "Docs.", set()),
        ("a.py", 'x: "Only"', 'x: "Any"', set()),
        ("a.py", "other: int", "other: float", set()),
        ("a.py", "-> int", "-> float", set()),
        ("a.py", "+ LIMIT", "- LIMIT", {"a"}),
        ("a.py", "d.used()", "d.unused()", set()),  # of another function
        ("b.py", "helper(x)", "helper(x + 1)", {"b"}),
        ("b.py", "pass", "return 1", set()),
        ("c.py", "LIMIT = 3", "LIMIT = 5", {"c"}),
        ("c.py", "OTHER = 4", "OTHER = 5", set()),
        ("e.py", "'nothing'", "'anything'", {"e"}),
        ("h.py", "pass", "x = 1", set()),
        ("__init__.py", "VERSION = 1", "VERSION = 2", set()),
        ("__init__.py", "VERSION = 1", "VERSION = 1\nprint()", {PACKAGE}),
        ("page.css", "@", "@@", set()),
    ],
)
def test_only_what_is_named_counts(package, module, old, new, counts):
    counts = {package.name if name == PACKAGE else name for name in counts}
    assert changed(package, module, old, new) == counts


def test_files_count_where_they_are_named(package):
    assert changed(package, "page.css", "more", "more", "apart") == set()
    assert changed(package, "page.css", "@import", "@@import", "apart") == {"page.css"}
    assert changed(package, "more.css", "a", "b", "apart") == {"more.css"}
    assert changed(package, "page.html", "p", "b", "apart") == set()


def test_a_local_name_is_not_the_module_of_that_name(package):
    assert "d" not in hashes(package, "made")[0]


def test_base_classes_count(package):
    assert changed(package, "c.py", "    pass", "    x = 1", "made") == {"c"}


def test_what_cannot_be_followed_is_taken_whole(package):
    text = (package / "a.py").read_text()
    (package / "a.py").write_text(text + "\n\ndef by_name(n):\n    return getattr(d, n)()\n")
    assert changed(package, "d.py", "pass", "return 1", "by_name") == {"d"}
    (package / "a.py").write_text(f"from {package.name}.d import *\n\ndef f():\n    used()\n")
    assert changed(package, "d.py", "page.css", "") >= {"d"}
    (package / "a.py").write_text(f"NAME = '{package.name}.d'\n\ndef f():\n    return NAME\n")
    assert changed(package, "d.py", "pass", "return 1") == {"d"}


def test_what_is_kept_by_a_decorator_counts(package):
    (package / "a.py").write_text(
        "KNOWN = []\n\ndef keep(x):\n    KNOWN.append(x)\n\n@keep\ndef kept():\n    return 1\n\n"
        "def f():\n    return KNOWN\n"
    )
    assert changed(package, "a.py", "return 1", "return 2") == {"a"}


def test_names_in_branches_and_relative_imports_are_found(package):
    (package / "a.py").write_text(
        "try:\n    from . import c as found\nexcept ImportError:\n    found = None\n\n"
        "def f():\n    return found.helper(1)\n"
    )
    assert changed(package, "c.py", "return x", "return -x") == {"c"}
    assert changed(package, "c.py", "OTHER = 4", "OTHER = 5") == set()


def test_of_a_dataset_only_what_is_used_of_it_counts(package):
    text = (
        "class Base:\n    def save(self, x):\n        return helper\n    def load(self):\n"
        "        return 1\nclass Set(Base):\n    def preview(self):\n        return 2\n"
        "def helper():\n    return 3\n"
    )
    (package / "c.py").write_text(text)
    before = {role: hashes(package, "Set", "c", role)[1].hashes for role in ("input", "output")}

    def differ(old, new):
        (package / "c.py").write_text(text.replace(old, new))
        return {r for r, b in before.items() if hashes(package, "Set", "c", r)[1].hashes != b}

    assert differ("return 1", "return 5") == {"input"}
    assert differ("return 3", "return 5") == {"output"}
    assert differ("return 2", "return 5") == set()
    assert differ("return 1", "return self.save(0)") == {"input"}


def test_a_function_is_found_through_what_wraps_it(package):
    module = importlib.import_module(f"{package.name}.a")
    assert Code().behind_function(module.f) == hashes(package)[1]

    @wraps(module.f)
    def wrapper(x):
        return module.f(x)

    found = Code().behind_function(wrapper)
    assert any("test_a_function_is_found" in name for name in found.code), "the wrapper itself"


def test_functions_without_a_source_file_count_by_what_they_do():
    def made(text):
        space = {"__name__": "typed_at_a_prompt"}
        exec(text, space)
        return Code().behind_function(space["f"]).hashes

    assert made("def f(x):\n    return x + 1") == made("\n\ndef f(x):\n    return x + 1")
    assert made("def f(x):\n    return x + 1") != made("def f(x):\n    return x + 2")


def test_two_functions_made_by_one_are_told_apart():
    def made(sign):
        return (lambda x: x) if sign > 0 else (lambda x: -x)

    assert Code().behind_function(made(1)).hashes != Code().behind_function(made(-1)).hashes
    assert Code().behind_function(made(1)).hashes == Code().behind_function(made(2)).hashes
    assert update_wrapper(made(1), made(-1)).__wrapped__


def test_a_function_of_a_package_counts_by_the_version_of_it():
    import pandas as pd

    assert Code().behind_function(pd.concat).packages == {"pandas"}
    assert Code().behind_function(pd.concat).code == {}


def test_versions_are_found_by_the_imported_name():
    assert package_version("skimage")
    assert package_version("torch")
    assert package_version("no_such_package") is None

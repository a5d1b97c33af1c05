"""Which code counts for a node."""

import sys

import pytest

from temshift.runner import code


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of four modules: a imports b inside a function, b imports c; d stands apart."""
    name = f"package_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("VERSION = 1\n")
    (folder / "a.py").write_text(f"def f():\n    from {name}.b import g\n    return g\n")
    (folder / "b.py").write_text(f"import json\nimport {name}.c\ndef g(): pass\n")
    (folder / "c.py").write_text("x = 1\n")
    (folder / "d.py").write_text("y = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield folder
    forget()
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        del sys.modules[module]


def forget():
    code._source.cache_clear()
    code.code_fingerprint.cache_clear()


def fingerprint(folder, module="a"):
    forget()
    return code.code_fingerprint(f"{folder.name}.{module}")


def test_modules_are_followed_into_functions_but_not_out_of_the_package(package):
    found = code.modules_behind(f"{package.name}.a")
    assert {name.rpartition(".")[2] for name in found} == {"a", "b", "c"}


def test_a_change_counts_only_for_what_imports_it(package):
    before, apart = fingerprint(package), fingerprint(package, "d")
    (package / "c.py").write_text("x = 2\n")
    assert fingerprint(package) != before
    assert fingerprint(package, "d") == apart
    (package / "c.py").write_text("x = 1\n")
    assert fingerprint(package) == before
    (package / "d.py").write_text("y = 2\n")
    assert fingerprint(package) == before


def test_templates_beside_a_module_count(package):
    before = fingerprint(package)
    (package / "page.html").write_text("<p>")
    assert fingerprint(package) != before


def test_a_module_without_source_has_no_code():
    assert code.modules_behind("temshift.not_there") == {}

"""The rooms of the house: imports run downwards only, and never in a circle."""

import ast
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
from tests.scripts import load_script

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"

#: From the ground up; rooms in one line do not know of each other.
ORDER = [
    {"progress", "binding"},
    {"parallel"},
    {"config"},
    {"microscopy"},
    {"study"},
    {"learning"},
    {"catalog", "reporting"},
    {"mistakes"},
    {"runner"},
    {"api", "context", "example", "types"},
    {"pipelines"},
    {"pipeline_registry", "hooks", "cli", "where"},
    {"settings", "__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
KEDRO_FREE = {"progress", "parallel", "config", "microscopy", "study", "learning", "reporting"}
FILES_ONLY_IN = {
    "catalog",
    "runner",
    "where",
    "context",
    "__main__",
    "cli",
    "example",
    "hooks",
    "pipelines",
}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(SOURCE.glob("temshift/**/*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "temshift"


@cache
def imports(module: str, typing_too: bool = True) -> tuple[str, ...]:
    """Every module that is imported by ``module``, also inside functions."""
    known, found = modules(), []
    tree = ast.parse(known[module].read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if not typing_too and id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.append(whole if whole in known else str(node.module))
    return tuple(found)


@pytest.mark.parametrize("module", [m for m in modules() if m != "temshift"])
def test_imports_run_downwards(module):
    own = room(module)
    assert own in RANK, f"{own} has no place in the order of the rooms: add it above"
    for other in imports(module, typing_too=own != "types"):
        if other.startswith("temshift.") and room(other) != own:
            assert RANK[room(other)] < RANK[own], f"{module} imports {other}, which lies above it"


def test_no_circles():
    done, path = set(), []

    def visit(module: str) -> None:
        if module in path:
            raise AssertionError(" -> ".join([*path[path.index(module) :], module]))
        if module in done:
            return
        path.append(module)
        for other in imports(module, typing_too=False):
            if other in modules() and other != "temshift":
                visit(other)
        path.pop()
        done.add(module)

    for module in modules():
        visit(module)


def test_only_some_rooms_know_kedro():
    for module in modules():
        if room(module) in KEDRO_FREE:
            assert not [i for i in imports(module) if i.partition(".")[0].startswith("kedro")], (
                module
            )


def test_study_needs_no_torch():
    for module in modules():
        if room(module) in {"config", "microscopy", "study"}:
            assert "torch" not in {i.partition(".")[0] for i in imports(module)}, module


def test_only_the_catalog_opens_files():
    """Reading through ``open`` or a path's own methods; the report's own assets are no data."""
    readers = {"open", "read_bytes", "write_bytes", "write_text", "read_csv", "imread"}
    for module, path in modules().items():
        if room(module) in FILES_ONLY_IN or room(module) in {"temshift", "reporting"}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                assert name not in readers, f"{module}:{node.lineno} calls {name}"


def test_nothing_but_the_registry_imports_pipelines():
    for module in modules():
        if room(module) not in {"pipelines", "pipeline_registry"}:
            assert not [i for i in imports(module) if i.startswith("temshift.pipelines")], module


def test_what_is_imported_is_declared_and_what_is_declared_is_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {k: v for k, v in project["optional-dependencies"].items() if k != "dev"}
    declared = {
        requirement.split("[")[0].split(">")[0].split("=")[0].split("<")[0].strip().lower()
        for requirement in [*project["dependencies"], *chain.from_iterable(extras.values())]
    }
    # an extra that `make install` leaves out
    distributions = {"mlflow": ["mlflow-skinny"], **packages_distributions()}
    imported = set()
    for module in modules():
        for name in imports(module):
            top = name.partition(".")[0]
            if top != "temshift" and top not in sys.stdlib_module_names:
                imported |= {d.lower().replace("_", "-") for d in distributions[top][:1]}
    assert imported <= declared, f"imported, not declared: {sorted(imported - declared)}"
    assert declared - imported <= NOT_IMPORTED, "declared, not used: " + ", ".join(
        sorted(declared - imported - NOT_IMPORTED)
    )


def test_the_drawings_are_those_of_the_script_and_show_every_room_and_pipeline():
    drawings = load_script("docs/drawings.py")
    drawn = {"rooms": drawings.rooms(), "flow": drawings.flow()}
    for name, picture in drawn.items():
        committed = (ROOT / f"docs/img/{name}.svg").read_text()
        assert committed == picture, "run python docs/drawings.py"
    order = [[name for name, *_ in row] for row in drawings.ROOMS]
    ranks = [max(RANK[name] for name in row) for row in order]
    assert ranks == sorted(ranks, reverse=True)
    folders = {p.parent.name for p in SOURCE.glob("temshift/*/__init__.py")}
    assert {name for row in order for name in row} == folders
    for pipeline in SOURCE.glob("temshift/pipelines/*/pipeline.py"):
        assert f">{pipeline.parent.name}<" in drawn["flow"], pipeline


#: Used otherwise than by an import in ``src``.
NOT_IMPORTED = {
    "kedro-datasets",  # dataset types in the catalog
    "s3fs",  # fsspec finds it by the protocol
    *("alembic", "cryptography"),  # the database of MLflow
    "bokeh",  # the dashboard of distributed
    "kedro-viz",  # kedro viz run
    "ipykernel",  # notebooks
    "ipython",  # kedro ipython
    "sparse",  # RosettaSciIO's, for spectrum images of Velox beside an image
    "torchvision",  # segmentation-models-pytorch needs the release that fits torch
    "omegaconf",  # Kedro's; held below 2.4
    "openpyxl",  # Excel, for pandas
    "pyarrow",  # Parquet
    "matplotlib",  # notebooks
    "scikit-image",  # the plain procedure in benchmarks and tests; a package the user fixed
}

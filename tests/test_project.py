"""The project as Kedro sees it: fast to register, nothing lost in memory, names by rule."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

ROOT = Path(__file__).parents[1]
HEAVY = (
    "torch",
    "pandas",
    "hyperspy",
    "rsciio",
    "abtem",
    "ase",
    "plotly",
    "matplotlib",
    "skimage",
    "scipy",
)


def test_registering_the_pipelines_imports_nothing_heavy():
    code = (
        "import sys; from pathlib import Path\n"
        "from kedro.framework.startup import bootstrap_project\n"
        "from kedro.framework.project import pipelines\n"
        f"bootstrap_project(Path({str(ROOT)!r})); names = list(pipelines)\n"
        "assert '__default__' in names, names\n"
        f"heavy = [m for m in {HEAVY} if m in sys.modules]\n"
        "assert not heavy, f'imported at registration: {heavy}'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_registering_the_pipelines_reads_the_catalog_once():
    """Once for every network, it took a second of ten networks and minutes of five hundred."""
    code = f"""
from pathlib import Path
from kedro.config import OmegaConfigLoader
from kedro.framework.startup import bootstrap_project
from kedro.framework.project import pipelines
read, get = [], OmegaConfigLoader.__getitem__
OmegaConfigLoader.__getitem__ = lambda self, key: read.append(key) or get(self, key)
bootstrap_project(Path({str(ROOT)!r}))
assert "__default__" in list(pipelines)
assert read.count("catalog") == 1, read
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("env", ["local", "smoke", "thorough", "published", "box"])
def test_every_dataset_is_kept_and_named_by_rule(env):
    """In a process of its own: Kedro's pipelines are global to a process."""
    code = f"""
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.framework.project import pipelines
from kedro.io import MemoryDataset
root = Path({str(ROOT)!r}); bootstrap_project(root)
with KedroSession.create(project_path=root, env={env!r}) as session:
    context = session.load_context()
    catalog, plan = context.catalog, None
    from temshift.context import study_plan
    plan = study_plan()
owners = {{*plan.splits, *plan.networks, *pipelines}}
for name, pipeline in pipelines.items():
    for dataset in pipeline.datasets():
        if dataset.startswith("params:") or dataset == "parameters":
            continue
        assert not isinstance(catalog.get(dataset), MemoryDataset), f"{{dataset}} is not kept"
        owner, _, rest = dataset.partition(".")
        assert owner in owners and rest, f"{{dataset}} belongs to no pipeline, split or network"
    for node in pipeline.nodes:
        stage, _, owner = (node.namespace or "").partition(".")
        assert stage in pipelines, node
        assert not owner or owner in owners and owner in node.tags, node
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_path_of_the_report_follows_the_environment(monkeypatch):
    from temshift.where import report_path

    assert report_path(ROOT) == ROOT / "data/08_reporting/report.html"


def test_the_lock_file_names_no_host_and_pins_everything():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert not [line for line in lines if "://" in line]
    assert [line for line in lines if line and "==" not in line] == []


def test_a_session_gives_typed_parameters():
    bootstrap_project(ROOT)
    with KedroSession.create(project_path=ROOT) as session:
        parameters = session.load_context().params
    assert parameters["modelling"].training.steps > 0


def test_parameters_come_in_the_same_order_in_every_process():
    code = (
        "from kedro.framework.startup import bootstrap_project; from pathlib import Path; "
        "bootstrap_project(Path.cwd()); from temshift.context import project_parameters; "
        "print(list(project_parameters()), list(project_parameters()['networks']))"
    )
    orders = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3", "4")
    }
    assert len(orders) == 1

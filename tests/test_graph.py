"""The graph in Kedro-Viz: layers that can be put in order, in every environment."""

import json
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from tests.end_to_end.conftest import Project

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ["base", "smoke", "box"]
CODE = """
import json, sys
from pathlib import Path
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
bootstrap_project(Path.cwd())
with KedroSession.create(env=sys.argv[1]) as session:
    catalog = session.load_context().catalog
    def layer(name):
        metadata = getattr(catalog.get(name, fallback_to_runtime_pattern=True), "metadata", None)
        return ((metadata or {}).get("kedro-viz") or {}).get("layer")
    found = {}
    for name, pipeline in pipelines.items():
        data = [d for d in pipeline.datasets() if not d.startswith("param")]
        flows = [
            (layer(a), layer(b))
            for node in pipeline.nodes for a in node.inputs for b in node.outputs
            if not a.startswith("param")
        ]
        bare = [d for d in data if layer(d) is None]
        found[name] = {"bare": bare, "flows": sorted({f for f in flows if f[0] != f[1]}, key=str)}
print(json.dumps(found))
"""


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_dataset_has_the_layer_of_its_role_and_layers_have_an_order(env):
    """Kedro-Viz shows no layers at all where they form a circle."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, env], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) > 8
    for name, graph in found.items():
        assert graph["bare"] == [], name
        order = TopologicalSorter()
        for before, after in graph["flows"]:
            order.add(after, before)
        order.prepare()  # raises if there is a circle
    flows = {tuple(flow) for graph in found.values() for flow in graph["flows"]}
    assert ("model input", "models") in flows


def test_the_built_graph_shows_stages_in_layers(tmp_path):
    """Without network, and before anything was run."""
    project = Project(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "kedro", "viz", "build"],
        cwd=tmp_path,
        env={**os.environ, "KEDRO_ENV": "smoke"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project.folder / "build" / "index.html").is_file()
    graph = json.loads((project.folder / "build" / "api" / "main").read_text())
    assert graph["layers"] == [
        *("simulated", "raw", "intermediate", "primary", "model input", "feature"),
        *("models", "model output", "reporting"),
    ]
    top = {child["id"] for child in graph["modular_pipelines"]["__root__"]["children"]}
    stages = {n["id"] for n in graph["nodes"] if n["type"] == "modularPipeline"} & top
    assert stages == {
        *("simulation", "data_curation", "preprocessing", "modelling", "evaluation"),
        "generalization_reporting",
    }
    alone = [n["name"] for n in graph["nodes"] if n["type"] == "task" and n["id"] in top]
    assert alone == [], "every node is inside a stage"

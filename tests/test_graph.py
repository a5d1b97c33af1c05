"""The graph in Kedro-Viz: layers that can be put in order, in every environment."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from graphlib import TopologicalSorter
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tests.end_to_end.conftest import Project

from temshift.context import keep_statistics_apart

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


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose graph was built: without network, and before anything was run."""
    project = Project(tmp_path_factory.mktemp("graph"))
    for env, rows in (("smoke", 7), ("local", 9)):
        file = project.folder / ".viz" / env / "stats.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"data_curation.primary.micrographs": {"rows": rows}}))
    done = subprocess.run(
        [sys.executable, "-m", "kedro", "viz", "build"],
        cwd=project.folder,
        env={**os.environ, "KEDRO_ENV": "smoke"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return project


def test_the_built_graph_shows_stages_in_layers(project):
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


def test_statistics_are_those_of_the_environment_shown(project):
    nodes = [json.loads(f.read_text()) for f in (project.folder / "build/api/nodes").iterdir()]
    shown = [n["stats"]["rows"] for n in nodes if n.get("stats")]
    assert shown == [7]


def test_a_run_leaves_its_statistics_with_its_environment(project, monkeypatch):
    from kedro_viz.constants import VIZ_METADATA_ARGS
    from kedro_viz.integrations.kedro.hooks import DatasetStatsHook

    monkeypatch.setitem(VIZ_METADATA_ARGS, "path", ".viz")  # and as it was, afterwards
    monkeypatch.chdir(project.folder)
    keep_statistics_apart("mine")
    DatasetStatsHook().after_pipeline_run()
    assert (project.folder / ".viz" / "mine" / "stats.json").is_file()
    assert not (project.folder / ".viz" / "stats.json").exists()


@pytest.mark.skipif(
    not (shutil.which("chromium") or shutil.which("google-chrome")),
    reason="needs Chromium (apt-get install chromium)",
)
@pytest.mark.slow
def test_the_views_that_the_docs_name_can_be_read(project):
    """Letters of 12 px at least on a laptop, and nothing but what is asked for."""
    docs = (ROOT / "docs" / "graph.md").read_text(encoding="utf-8")
    stages, split = "?types=nodes", "?types=nodes&expandAllPipelines=true&tags="
    assert f"/{stages}`" in docs
    assert f"/{split}" in docs
    graph = json.loads((project.folder / "build" / "api" / "main").read_text())
    one = next(n["tags"][0] for n in graph["nodes"] if n["name"] == "select_split")
    with served(project.folder / "build") as address:
        shown = letters_px(f"{address}/{stages}")
        assert len(shown) == 6
        assert min(shown.values()) >= 12
        shown = letters_px(f"{address}/{split}{one}")
    assert {"select_split", "preprocess", "fingerprint", "train", "evaluate"} == set(shown)
    assert min(shown.values()) >= 12


#: Words and height of the letters of each node.
LETTERS = """nodes => nodes.map(
    n => [n.textContent, Math.round(n.querySelector('text').getBoundingClientRect().height)]
)"""


@contextmanager
def served(folder):
    """Serve a folder, as Kedro-Viz must be."""
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def letters_px(address):
    """Return the height of the letters of each node that Kedro-Viz shows, by its words."""
    pytest.importorskip("playwright", reason="needs the extra dev (playwright)")
    from playwright.sync_api import sync_playwright
    from tests.browser_checks import CHROMIUM

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(address, wait_until="commit")
            page.wait_for_selector(".pipeline-node text", timeout=120_000)
            before, now = {}, {"": 0.0}
            while now != before:  # it zooms until all fits
                page.wait_for_timeout(2000)
                before, now = now, dict(page.locator(".pipeline-node").evaluate_all(LETTERS))
            return now
        finally:
            browser.close()

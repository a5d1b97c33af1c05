"""What is up to date is not made again; what depends on a change is."""

import json
from functools import partial, update_wrapper

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro_datasets.json import JSONDataset

from temshift.catalog.provenance import ProvenanceDataset
from temshift.runner import IncrementalRunner

calls: list[str] = []


def double(x, factor):
    calls.append("double")
    return {"value": x["value"] * factor["by"]}


def sign(x):
    calls.append("sign")
    return {"value": x["value"] > 0}


def report(x):
    calls.append("report")
    return x


@pytest.fixture
def run(tmp_path):
    def once(by=2, force=False, nodes=None):
        calls.clear()
        catalog = DataCatalog(
            {
                "source": JSONDataset(filepath=str(tmp_path / "source.json")),
                "doubled": JSONDataset(filepath=str(tmp_path / "doubled.json")),
                "sign": JSONDataset(filepath=str(tmp_path / "sign.json")),
                "report": JSONDataset(filepath=str(tmp_path / "report.json")),
                "params:factor": MemoryDataset({"by": by}),
                "provenance": ProvenanceDataset(str(tmp_path / ".provenance")),
            }
        )
        pipeline = Pipeline(
            nodes
            or [
                Node(double, ["source", "params:factor"], "doubled", name="double"),
                Node(sign, "doubled", "sign", name="sign"),
                Node(report, "sign", "report", name="report"),
            ]
        )
        IncrementalRunner(force=force).run(pipeline, catalog)
        return list(calls)

    (tmp_path / "source.json").write_text(json.dumps({"value": 3}))
    return once


def test_a_second_run_does_nothing(run):
    assert run() == ["double", "sign", "report"]
    assert run() == []


def test_a_changed_parameter_reruns_what_depends_on_it_and_stops_at_equal_content(run):
    run()
    # the doubled value changes, its sign does not: the report is left alone
    assert run(by=5) == ["double", "sign"]
    assert run(by=-1) == ["double", "sign", "report"]


def test_a_changed_input_file_reruns(run, tmp_path):
    run()
    (tmp_path / "source.json").write_text(json.dumps({"value": -4}))
    assert run() == ["double", "sign", "report"]


def test_a_touched_file_of_equal_content_does_not(run, tmp_path):
    run()
    text = (tmp_path / "source.json").read_text()
    (tmp_path / "source.json").write_text(text)
    assert run() == []


def test_a_missing_or_altered_output_is_made_again(run, tmp_path):
    run()
    (tmp_path / "sign.json").unlink()
    assert run() == ["sign"]
    (tmp_path / "report.json").write_text("{}")
    assert run() == ["report"]


def test_force_runs_everything(run):
    run()
    assert run(force=True) == ["double", "sign", "report"]


def test_a_failed_node_is_run_again(run, tmp_path):
    run()

    def broken(x):
        raise RuntimeError("power cut")

    nodes = [Node(broken, "sign", "report", name="report")]
    with pytest.raises(RuntimeError, match="power cut"):
        run(nodes=nodes)
    assert run() == ["report"]


def test_bound_arguments_count(run):
    def add(n, x):
        calls.append(f"add {n}")
        return {"value": x["value"] + n}

    def nodes(n):
        return [Node(update_wrapper(partial(add, n), add), "source", "doubled", name="add")]

    assert run(nodes=nodes(1)) == ["add 1"]
    assert run(nodes=nodes(1)) == []
    assert run(nodes=nodes(2)) == ["add 2"]


class Volatile(MemoryDataset):
    """What only an unfinished run of a node needs."""

    volatile = True


class Store(list):
    pass


def train(store):
    store.append("half")
    if len(store) == 1:
        raise RuntimeError("killed")
    return {"steps": len(store)}


def test_what_an_unfinished_node_needs_is_kept_until_it_is_done(tmp_path):
    store = Store()
    catalog = DataCatalog(
        {
            "checkpoints": Volatile(store, copy_mode="assign"),
            "kept": MemoryDataset(Store(["kept"]), copy_mode="assign"),
            "network": JSONDataset(filepath=str(tmp_path / "network.json")),
            "provenance": ProvenanceDataset(str(tmp_path / ".provenance")),
        }
    )
    pipeline = Pipeline([Node(train, "checkpoints", "network", name="train")])
    with pytest.raises(RuntimeError, match="killed"):
        IncrementalRunner().run(pipeline, catalog)
    assert store == ["half"]
    IncrementalRunner().run(pipeline, catalog)
    assert catalog.load("network") == {"steps": 2}
    assert store == []
    assert catalog.load("kept") == ["kept"]

"""What is up to date is not made again; what depends on a change is."""

import json
import logging
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from functools import partial, update_wrapper
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro_datasets.json import JSONDataset

from temshift.binding import bind
from temshift.catalog.networks import CheckpointsDataset
from temshift.catalog.provenance import ProvenanceDataset, ProvenanceStore
from temshift.catalog.remote import Remote
from temshift.config.cluster import ClusterParameters
from temshift.config.errors import UserError
from temshift.runner import Freshness, IncrementalRunner, incremental
from temshift.runner import cluster as cluster_module
from temshift.runner.lock import StudyInUseError, hold
from temshift.runner.sharing import find_room
from temshift.runner.telling import Teller

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


def begin_training(store):
    store.save("fold", "id", {"step": 1})
    raise RuntimeError("killed")


def begin_otherwise(store):
    store.save("other", "id", {"step": 2})
    raise RuntimeError("killed")


def test_what_other_code_has_begun_is_not_gone_on_with(tmp_path):
    """Else weights of both would be recorded as made by the new one."""
    catalog = DataCatalog(
        {
            "checkpoints": CheckpointsDataset(str(tmp_path / ".checkpoints")),
            "network": JSONDataset(filepath=str(tmp_path / "network.json")),
            "provenance": ProvenanceDataset(str(tmp_path / ".provenance")),
        }
    )

    def left_by(function):
        pipeline = Pipeline([Node(function, "checkpoints", "network", name="train")])
        with pytest.raises(RuntimeError, match="killed"):
            IncrementalRunner().run(pipeline, catalog)
        return sorted(file.name for file in (tmp_path / ".checkpoints").glob("*.pt"))

    store = catalog.load("checkpoints")
    assert left_by(begin_training) == ["fold.pt"]
    store.save("second", "id", {"step": 1})
    assert left_by(begin_training) == ["fold.pt", "second.pt"], "the same code goes on"
    assert left_by(begin_otherwise) == ["other.pt"]


def halve(x):
    calls.append("halve")
    return {"value": x["value"] / 2}


def memory_nodes():
    return [
        Node(double, ["source", "params:factor"], "in_memory", name="double"),
        Node(halve, "in_memory", "also_in_memory", name="halve"),
        Node(sign, "also_in_memory", "sign", name="sign"),
        Node(report, "in_memory", "report", name="report"),
    ]


def test_what_is_kept_in_memory_only_is_made_again_when_it_is_needed(run, tmp_path):
    everything = {"double", "halve", "sign", "report"}
    assert set(run(nodes=memory_nodes())) == everything
    assert run(nodes=memory_nodes()) == []
    # a node behind it is to be run again: what it needs is made first, and no more
    (tmp_path / "sign.json").unlink()
    assert run(nodes=memory_nodes()) == ["double", "halve", "sign"]
    (tmp_path / "report.json").unlink()
    assert run(nodes=memory_nodes()) == ["double", "report"]
    (tmp_path / "source.json").write_text(json.dumps({"value": -4}))
    assert set(run(nodes=memory_nodes())) == everything
    assert json.loads((tmp_path / "sign.json").read_text()) == {"value": False}
    assert run(nodes=memory_nodes()) == []


def test_a_result_in_memory_is_made_in_every_run(run):
    nodes = [
        Node(double, ["source", "params:factor"], "doubled", name="double"),
        Node(sign, "doubled", "shown", name="sign"),
    ]
    assert run(nodes=nodes) == ["double", "sign"]
    assert run(nodes=nodes) == ["sign"]


def reasons(caplog):
    return [r.getMessage() for r in caplog.records if " is run: " in r.getMessage()]


def test_why_each_node_is_run_is_told_in_a_line(run, tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "temshift")
    run(by=2)
    assert reasons(caplog)[0] == "double is run: never run, or not to its end"
    caplog.clear()
    run(by=-3)
    assert reasons(caplog) == [
        "double is run: parameter factor.by changed (2 -> -3)",
        "sign is run: input doubled changed",
        "report is run: input sign changed",
    ]
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "doubled.json").unlink()
    caplog.clear()
    run(by=-3)
    assert reasons(caplog) == [
        "double is run: output doubled is missing",
        "report is run: output report was changed",
    ]
    assert "1 of 3 were up to date" in caplog.text
    caplog.clear()
    run(by=-3, force=True)
    assert {line.partition(": ")[2] for line in reasons(caplog)} == {"force"}
    caplog.clear()
    nodes = memory_nodes()
    run(nodes=nodes)
    (tmp_path / "sign.json").unlink()
    caplog.clear()
    run(nodes=nodes)
    assert reasons(caplog) == [
        "double is run: halve needs in_memory, kept in memory only",
        "halve is run: sign needs also_in_memory, kept in memory only",
        "sign is run: output sign is missing",
    ]


def test_a_value_without_file_or_maker_is_compared_by_its_content(tmp_path):
    def once(value):
        calls.clear()
        catalog = DataCatalog(
            {
                "given": MemoryDataset(value),
                "report": JSONDataset(filepath=str(tmp_path / "report.json")),
                "provenance": ProvenanceDataset(str(tmp_path / ".provenance")),
            }
        )
        IncrementalRunner().run(Pipeline([Node(report, "given", "report", name="report")]), catalog)
        return list(calls)

    assert once({"a": 1}) == ["report"]
    assert once({"a": 1}) == []
    assert once({"a": 2}) == ["report"]
    # what cannot be pickled cannot be compared
    text = "input given cannot be compared"
    freshness = _asked(tmp_path, DataCatalog({"given": MemoryDataset(lambda: 1)}))
    assert text in freshness


def _asked(folder, catalog):
    catalog["report"] = JSONDataset(filepath=str(folder / "report.json"))
    node = Node(report, "given", "report", name="report")
    return Freshness(Pipeline([node]), catalog, ProvenanceStore(folder / ".provenance")).why(node)


def test_how_a_dataset_writes_counts(run, tmp_path):
    def why(**options):
        catalog = DataCatalog(
            {
                "sign": JSONDataset(filepath=str(tmp_path / "sign.json")),
                "report": JSONDataset(filepath=str(tmp_path / "report.json"), **options),
            }
        )
        node = Node(report, "sign", "report", name="report")
        store = ProvenanceStore(tmp_path / ".provenance")
        return Freshness(Pipeline([node]), catalog, store).why(node)

    run()
    assert why() is None
    assert why(metadata={"layer": "reporting"}) is None
    assert why(save_args={"indent": 2}) == "save_args of report changed"


class Scaler:
    """Functions of nodes that carry something with them."""

    def __init__(self, factor):
        self.factor = factor

    def scale(self, x):
        calls.append("scale")
        return {"value": x["value"] * self.factor}

    def __call__(self, x):
        return self.scale(x)


def closure(factor):
    def scale(x):
        return {"value": x["value"] * factor}

    return scale


@pytest.mark.parametrize(
    "made",
    [
        lambda n: Scaler(n).scale,
        closure,
        lambda n: bind(lambda factor, x: {"value": factor * x["value"]}, n),
        lambda n: partial(partial(lambda x, k, factor: {"value": k * factor}, k=n), factor=1),
        lambda n: (lambda x: {"value": 1}) if n == 1 else (lambda x: {"value": 2}),
    ],
)
def test_what_a_function_carries_with_it_counts(tmp_path, made):
    def why(n, record=False):
        node = Node(made(n), "given", "report", name="node")
        catalog = DataCatalog({"given": MemoryDataset({"value": 1})})
        catalog["report"] = JSONDataset(filepath=str(tmp_path / "report.json"))
        catalog["report"].save({})
        store = ProvenanceStore(tmp_path / ".provenance")
        freshness = Freshness(Pipeline([node]), catalog, store)
        reason = freshness.why(node)
        if record:
            freshness.record(node)
        return reason

    assert why(1, record=True) == "never run, or not to its end"
    assert why(1) is None
    assert why(2) is not None


def test_records_of_other_processes_are_kept(tmp_path):
    first, second = ProvenanceStore(tmp_path), ProvenanceStore(tmp_path)
    for name, store in (("a", first), ("b", second)):
        (tmp_path / f"{name}.txt").write_text(name)
        store.content([tmp_path / f"{name}.txt"])
    first.put("a", {"n": 1})
    second.put("b", {"n": 2})
    first.put("a / [c] -> d" + "x" * 300, {"n": 3})
    for store in (first, second):
        store.keep()
    again = ProvenanceStore(tmp_path)
    assert [again.get(n) for n in ("a", "b")] == [{"n": 1}, {"n": 2}]
    assert again.get("a / [c] -> d" + "x" * 300) == {"n": 3}
    known = json.loads((tmp_path / "files.cache").read_text())
    assert {Path(name).name for name in known} == {"a.txt", "b.txt"}


def test_a_damaged_or_older_record_repeats_its_node(run, tmp_path):
    run()
    path = tmp_path / ".provenance" / "nodes" / "sign.json"
    path.write_text(path.read_text()[:40])
    assert run() == ["sign"]
    path.write_text(json.dumps({"key": "of another version", "outputs": {}}))
    assert run() == ["sign"]
    (tmp_path / ".provenance" / "files.cache").write_text("{")
    assert run() == []


HOLD = """
import sys, time
from pathlib import Path
from temshift.runner.lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that is at work in the same folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / ".provenance")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_in_the_same_folder_stops_and_says_whose_it_is(run, other, tmp_path):
    with pytest.raises(StudyInUseError) as error:
        run()
    message = str(error.value)
    assert str(tmp_path) in message
    assert f"process {other.pid} on " in message
    assert "wait=true" in message
    assert calls == []
    # the operating system gives the lock of a killed process back
    other.kill()
    other.wait()
    assert run() == ["double", "sign", "report"]
    assert not (tmp_path / ".provenance" / "run.lock.json").exists()


def test_a_run_that_waits_begins_when_the_other_has_ended(run, other, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    threading.Timer(0.3, other.kill).start()
    with hold(tmp_path / ".provenance", wait=True):
        assert other.wait() != 0
    assert "waiting for another run to end" in caplog.text


def test_a_node_that_an_outliving_worker_is_at_is_waited_for(run, tmp_path, caplog):
    """Else it might write its output after that of this run has been recorded."""
    place = ProvenanceStore(tmp_path / ".provenance").lock_of("double")
    place.parent.mkdir(parents=True)
    held, ended = threading.Event(), []

    def outlive():
        with FileLock(place):
            held.set()
            time.sleep(0.5)
            ended.append((tmp_path / "doubled.json").exists())

    threading.Thread(target=outlive).start()
    held.wait()
    assert run() == ["double", "sign", "report"]
    assert ended == [False], "nothing was written beside it"
    assert "double: a worker of an earlier run is still at this node" in caplog.text


def test_the_folder_is_free_after_a_failed_run(run):
    def broken(x):
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run(nodes=[Node(broken, "source", "doubled", name="broken")])
    assert run() == ["double", "sign", "report"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("force", "maybe", "true or false"),
        ("wait", 1, "true or false"),
        ("is_async", "no", "true or false"),
        ("workers", True, "a whole number from 1 on"),
    ],
)
def test_a_parameter_of_the_runner_of_another_kind_is_refused(name, value, expected):
    with pytest.raises(UserError, match=f"Found {value!r}; expected {expected}") as caught:
        IncrementalRunner(**{name: value})
    assert f"--runner-params {name}=" in caught.value.remedy


class Catalog(dict):
    """A catalog of an environment that has a cluster.yml."""

    origin = SimpleNamespace(cluster=ClusterParameters(workers=2), folds=3)


def test_one_worker_is_this_process_whatever_the_environment_says():
    pipeline = Pipeline([Node(sign, "doubled", "sign", name="sign")])
    assert IncrementalRunner(workers=1)._where(pipeline, Catalog())[0] is None


@pytest.mark.parametrize(
    ("elsewhere", "remedy"),
    [
        ({"scheduler": "slurm", "slurm": {"host": "127.0.0.1"}}, "slurm.jobs"),
        ({"scheduler": "tcp://10.0.0.1:8786"}, "Start more workers"),
    ],
)
def test_as_many_workers_cannot_be_had_of_a_scheduler_elsewhere(elsewhere, remedy):
    class Elsewhere(dict):
        origin = SimpleNamespace(cluster=ClusterParameters(**elsewhere), folds=3)

    pipeline = Pipeline([Node(sign, "doubled", "sign", name="sign")])
    with pytest.raises(UserError, match=r"Found 4, but 'scheduler: \w+") as caught:
        IncrementalRunner(workers=4)._where(pipeline, Elsewhere())
    assert remedy in caught.value.remedy
    assert IncrementalRunner(workers=1)._where(pipeline, Elsewhere())[0] is None


def nothing():
    return {}


class Two:
    """Two workers, that end what was sent first; all that is at work is noted at each end."""

    def __init__(self, offers):
        self.offers = offers
        self.seen = []
        self.asked = {}

    def resources(self, node, needs):
        return {"GPU": 1.0} if needs.gpu and {"GPU": 1.0} in self.offers else {}

    def have_room(self, asked, at_work):
        return not at_work or find_room(self.offers, [self.asked[n] for n in at_work], asked)

    def submit(self, node, asked, priority):
        self.asked[node] = asked
        return node

    def finished(self, at_work):
        self.seen.append(set(at_work))
        return [next(iter(at_work))] if len(self.seen) > 1 else []  # first there are more workers

    def failure(self, node, name):
        for output in self.makes[node]:
            output.write_text("1")

    def seconds(self, node):
        return 0.0


@pytest.mark.parametrize(
    ("offers", "seen"),
    [
        ([{}, {}], ["ab", "ab", "bc", "cd", "de", "e"]),
        ([{"GPU": 1.0}, {}], ["ac", "ac", "bc", "bd", "de", "e"]),  # a and b ask for a GPU
        ([{}], ["a", "a", "b", "c", "d", "e"]),
    ],
)
def test_a_worker_gets_its_next_node_when_it_has_none(tmp_path, monkeypatch, offers, seen):
    """Dask, given all at once, gave five nodes to one of two workers while the other had none."""
    monkeypatch.setattr(cluster_module, "work_with", lambda *_: nullcontext(two))
    nodes = [
        Node(nothing, None, name, name=name, tags=["gpu"] if name in "ab" else [])
        for name in "abcde"
    ]
    catalog = DataCatalog({n: JSONDataset(filepath=str(tmp_path / f"{n}.json")) for n in "abcde"})
    catalog.origin = None
    two = Two(offers)
    two.makes = {name: [tmp_path / f"{name}.json"] for name in "abcde"}
    pipeline = Pipeline(nodes)
    records = ProvenanceStore(tmp_path / ".provenance")
    ran = IncrementalRunner()._run_elsewhere(
        pipeline,
        catalog,
        Freshness(pipeline, catalog, records, False),
        Teller(pipeline, logging.getLogger("x")),
        *(ClusterParameters(), None, "run"),
    )
    assert {node.name for node in ran} == set("abcde")
    assert ["".join(sorted(names)) for names in two.seen] == seen


def test_the_memory_of_one_process_is_no_place_for_workers(monkeypatch):
    store = Remote("memory://study/sign.json", Path("sign.json"), {})
    monkeypatch.setattr(incremental, "content_paths", lambda _: [store])
    pipeline = Pipeline([Node(sign, "doubled", "sign", name="sign")])
    with pytest.raises(UserError, match="'sign' at memory://study") as caught:
        IncrementalRunner()._where(pipeline, Catalog(sign=None))
    assert "globals.yml" in caught.value.remedy
    assert "workers=1" in caught.value.remedy

"""Workers: what travels to them, and which of them gets which node."""

import logging
import pickle
import pickletools
from pathlib import Path

import pytest

from temshift.catalog.study_catalog import Origin
from temshift.config.cluster import ClusterParameters
from temshift.config.errors import UserError
from temshift.runner import cluster as module
from temshift.runner.cluster import Workers, count_gpus, work_with
from temshift.runner.sharing import Needs, Share
from temshift.runner.worker import describe, run_node


def origin(**changed):
    whole = {
        "project": Path("/somewhere"),
        "conf_source": "/somewhere/conf",
        "env": "smoke",
        "parameters": {"modelling": {"folds": 3}},
        "cluster": None,
        "folds": 3,
        "gpu": True,
    }
    return Origin(**{**whole, **changed})


class Client:
    """What of a Dask client is asked before anything is sent."""

    status = "running"

    def __init__(self, *offers):
        self.offers = offers
        self.sent = []

    def subscribe_topic(self, topic, handler):
        pass

    def scheduler_info(self, n_workers):
        return {"workers": {str(i): {"resources": o} for i, o in enumerate(self.offers)}}

    def submit(self, function, *arguments, **how):
        self.sent.append((function, arguments, how))
        return type("Future", (), {"key": how["key"]})()


def test_a_task_is_the_name_of_a_function_and_text():
    client = Client({})
    Workers(client, origin(), "now").submit("high_dose.train", {}, 0)
    ((function, arguments, _),) = client.sent
    assert function is run_node
    assert all(type(argument) is str for argument in arguments)
    opcodes = list(pickletools.genops(pickle.dumps((function, arguments))))
    names = [argument for code, argument, _ in opcodes if code.name == "SHORT_BINUNICODE"]
    assert sum(code.name in ("STACK_GLOBAL", "GLOBAL", "REDUCE") for code, *_ in opcodes) == 1
    assert {"temshift.runner.worker", "run_node", "high_dose.train"} <= set(names)
    assert len(pickle.dumps((function, arguments))) < 1500


def test_parameters_of_the_command_travel_with_the_task():
    assert '"modelling": {"folds": 3}' in describe(origin(), "now")


def test_training_goes_to_gpus_where_there_are_any():
    asked = Needs(gpu=True, memory_GB=2)
    on_gpu = {"GPU": 1, "MEMORY_GB": 8}
    assert Workers(Client({}, on_gpu), origin(), "r").resources("n", asked) == {
        "GPU": 1,
        "MEMORY_GB": 2,
    }
    assert Workers(Client({}), origin(), "r").resources("n", asked) == {}
    on_cpu = Workers(Client(on_gpu), origin(gpu=False), "r")
    assert "GPU" not in on_cpu.resources("n", asked), "modelling.device is cpu"
    other = Workers(Client(on_gpu), origin(), "r")
    assert "GPU" not in other.resources("n", Needs(gpu=False, memory_GB=2))


def test_a_node_that_no_worker_can_hold_is_refused_rather_than_waiting_for_ever():
    workers = Workers(Client({"MEMORY_GB": 2}, {"MEMORY_GB": 4}), origin(), "r")
    with pytest.raises(UserError, match="at most 4 GB") as caught:
        workers.resources("big", Needs(gpu=False, memory_GB=8))
    assert "'big'" in caught.value.what
    assert workers.resources("fits", Needs(gpu=False, memory_GB=4)) == {"MEMORY_GB": 4}


def test_a_lost_worker_is_told_with_what_it_was_at(caplog):
    caplog.set_level(logging.WARNING)
    workers = Workers(Client({}), origin(), "r")
    key = workers.submit("high_dose.train", {}, 0).key
    event = {"action": "remove-worker", "worker": "tcp://x:1", "processing-tasks": {key}}
    workers._tell_lost((0.0, {**event, "expected": True}))
    workers._tell_lost((0.0, {"action": "add-worker", "worker": "tcp://x:1"}))
    assert caplog.text == ""
    workers._tell_lost((0.0, {**event, "expected": False}))
    assert "tcp://x:1 was lost; run again elsewhere: high_dose.train" in caplog.text


def test_gpus_are_counted_as_they_are_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert count_gpus() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert count_gpus() == 0
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert count_gpus() == 0


def opened(parameters):
    with work_with(parameters, origin(cluster=parameters), "r", Share(1, 1, 4.0)):
        pass


def test_no_scheduler_at_the_address(caplog):
    with pytest.raises(UserError, match=r"there is no scheduler at tcp://127\.0\.0\.1:9"):
        opened(ClusterParameters(scheduler="tcp://127.0.0.1:9", timeout_s=1))


def test_slurm_without_its_commands(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="Found no command sbatch"):
        opened(ClusterParameters(scheduler="slurm", slurm={"host": "127.0.0.1"}))


def test_absent_certificates():
    tls = {"ca_file": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    with pytest.raises(UserError, match=r"there is no file ca\.pem"):
        opened(ClusterParameters(tls=tls))


def test_a_local_scheduler_is_reached_from_this_machine_only(monkeypatch):
    made = {}

    def cluster(**options):
        made.update(options)
        return "made"

    import distributed

    monkeypatch.setattr(distributed, "SpecCluster", cluster)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert module._local(ClusterParameters(), Share(3, 2, 8.0), None) == "made"
    options = made["scheduler"]["options"]
    assert options["host"] == "127.0.0.1"
    assert options["dashboard_address"].startswith("127.0.0.1:")
    workers = [worker["options"] for worker in made["workers"].values()]
    assert {worker["host"] for worker in workers} == {"127.0.0.1"}
    assert [worker["env"]["CUDA_VISIBLE_DEVICES"] for worker in workers] == ["4", "6", ""]
    assert [worker["resources"].get("GPU") for worker in workers] == [1, 1, None]

"""Workers: what travels to them, and which of them gets which node."""

import logging
import os
import pickle
import pickletools
import stat
import sys
import threading
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

    def __init__(self, *offers, threads=1):
        self.offers = offers
        self.threads = threads
        self.sent = []
        self.cancelled = []
        self.retried = []

    def subscribe_topic(self, topic, handler):
        pass

    def scheduler_info(self, n_workers):
        return {"workers": {str(i): self._worker(o) for i, o in enumerate(self.offers)}}

    def _worker(self, offer):
        return {"resources": offer, "nthreads": self.threads}

    def cancel(self, futures):
        self.cancelled += futures

    def retry(self, futures):
        self.retried += futures
        for future in futures:
            future.status = "pending"

    def submit(self, function, *arguments, **how):
        self.sent.append((function, arguments, how))
        return Future(how["key"])


class Future:
    def __init__(self, key):
        self.key = key
        self.status = "pending"

    def add_done_callback(self, told):
        pass

    def done(self):
        return self.status != "pending"

    def cancelled(self):
        return False

    def exception(self):
        from distributed import KilledWorker

        return KilledWorker(self.key, None, 3)


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


def test_there_is_room_where_a_worker_has_nothing_to_do(caplog):
    gpu, small = {"GPU": 1, "MEMORY_GB": 8}, {"MEMORY_GB": 2}
    client = Client(gpu, small)
    workers = Workers(client, origin(), "r")
    assert workers.have_room({"MEMORY_GB": 2}, [])
    first = workers.submit("curate", {"MEMORY_GB": 2}, 0)
    assert workers.have_room({"GPU": 1, "MEMORY_GB": 8}, [first]), "the small one has the first"
    second = workers.submit("a.train", {"GPU": 1, "MEMORY_GB": 8}, 0)
    assert not workers.have_room({"MEMORY_GB": 1}, [first, second])
    lose(workers, second)  # it waits for another worker, or behind the first node
    assert workers.have_room({"MEMORY_GB": 1}, [first, second])
    workers._hear((0.0, {"begun": "a.train", "worker": "tcp://x:2"}))
    assert not workers.have_room({"MEMORY_GB": 1}, [first, second])
    client.offers = ()
    workers._found_until = 0.0
    assert workers.have_room({"GPU": 1}, []), "else the run would end with it undone"
    assert not workers.have_room({"GPU": 1}, [first])


def test_further_workers_are_given_something_as_soon_as_they_are_there(monkeypatch):
    monkeypatch.setattr(module, "_ASKED_EVERY_S", 0.0)
    monkeypatch.setattr(module, "_LOOKED_EVERY_S", 0.01)
    client = Client({})
    workers = Workers(client, origin(), "r")
    future = workers.submit("a.train", {}, 0)
    assert not workers.have_room({}, [future])
    threading.Timer(0.1, lambda: setattr(client, "offers", ({}, {}))).start()
    assert workers.finished([future]) == []
    assert workers.have_room({}, [future])


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


def lose(workers, future, *queued, worker="tcp://x:1"):
    workers._hear((0.0, {"begun": workers._names[future.key], "worker": worker}))
    keys = {future.key, *(other.key for other in queued)}
    event = {"action": "remove-worker", "worker": worker, "processing-tasks": keys}
    workers._tell_lost((0.0, {**event, "expected": False}))


def test_only_the_node_that_ran_counts_when_its_worker_is_lost(caplog):
    begun = []
    workers = Workers(Client({}), origin(), "r", ClusterParameters(retries=1), begun=begun.append)
    ran, queued = (workers.submit(name, {}, 0) for name in ("a.train", "b.train"))
    lose(workers, ran, queued)
    assert begun == ["a.train"]
    assert "run again elsewhere: a.train\n" in caplog.text
    assert workers._ended([ran, queued]) == []
    lose(workers, ran, queued)
    assert workers.finished([ran, queued]) == [ran], "one try more, not two"
    error = workers.failure(ran, "a.train")
    assert "'a.train' was given up" in error.what
    assert "Found 2 workers lost" in error.found


def test_retries_hold_where_the_scheduler_has_another_limit(caplog):
    client = Client({})
    workers = Workers(client, origin(), "r", ClusterParameters(retries=5))
    future = workers.submit("a.train", {}, 0)
    lose(workers, future)
    future.status = "error"  # KilledWorker
    assert workers._ended([future]) == []
    assert client.retried == [future]


def test_a_scheduler_without_workers_is_told_at_once_and_not_waited_for_for_ever(caplog):
    client = Client({})
    cluster = ClusterParameters(scheduler="tcp://10.0.0.1:8786", timeout_s=0.2)
    workers = Workers(client, origin(), "r", cluster)
    future = workers.submit("a.train", {}, 0)
    client.offers = ()
    with pytest.raises(
        UserError, match=r"tcp://10\.0\.0\.1:8786 has no workers any more"
    ) as caught:
        workers.finished([future])
    assert "No worker is left; waiting 0.2 s for another" in caplog.text
    assert "dask worker tcp://10.0.0.1:8786 --nthreads 1" in caught.value.remedy
    assert "what has been finished is not repeated" in caught.value.remedy


def test_a_node_whose_kind_of_worker_has_gone_is_told_and_not_waited_for_for_ever(caplog):
    client = Client({"GPU": 1}, {})
    cluster = ClusterParameters(scheduler="tcp://10.0.0.1:8786", timeout_s=0.2)
    workers = Workers(client, origin(), "r", cluster)
    future = workers.submit("a.train", {"GPU": 1}, 0)
    workers._look_after([future])
    assert caplog.text == ""
    client.offers = ({},)
    workers._found_until = 0.0
    with pytest.raises(UserError, match="has no workers with 1 GPU any more"):
        workers.finished([future])
    assert "No worker with 1 GPU is left; waiting 0.2 s" in caplog.text


def test_a_worker_of_several_threads_that_comes_late_leaves_what_is_at_work(monkeypatch):
    """It is refused when the next node is to be sent; those that run are waited for."""
    monkeypatch.setattr(module, "_ASKED_EVERY_S", 0.0)
    client = Client({})
    workers = Workers(client, origin(), "r")
    future = workers.submit("a.train", {}, 0)
    client.threads = 4
    workers._look_after([future])
    future.status = "finished"
    assert workers.finished([future]) == [future]
    with pytest.raises(UserError, match="Found 4 threads"):
        workers.resources("n", Needs(gpu=False, memory_GB=1))


def test_what_cannot_be_taken_back_hides_no_error():
    client = Client({})
    client.call_stack = lambda: (_ for _ in ()).throw(OSError("the worker has just died"))
    workers = Workers(client, origin(), "r")
    assert workers.cancel([workers.submit("a.train", {}, 0)]) == []


def test_workers_of_several_threads_are_refused():
    cluster = ClusterParameters(scheduler="tcp://10.0.0.1:8786")
    workers = Workers(Client({}, threads=4), origin(), "r", cluster)
    with pytest.raises(UserError, match="Found 4 threads; expected 1") as caught:
        workers.resources("n", Needs(gpu=False, memory_GB=1))
    assert "dask worker tcp://10.0.0.1:8786 --nthreads 1" in caught.value.remedy


SLURM = {"jobs": 2, "host": "127.0.0.1", "queue": "gpus"}


def test_what_sbatch_refuses_ends_the_run_in_its_words(tmp_path, monkeypatch, caplog):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "sys.exit('sbatch: error: invalid partition specified: gpus')\n"
    )
    sbatch.chmod(sbatch.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    cluster = ClusterParameters(scheduler="slurm", slurm=SLURM)
    with (
        pytest.raises(UserError, match="SLURM takes none of the jobs") as caught,
        work_with(cluster, origin(cluster=cluster), "r", Share(1, 1, 4.0)) as workers,
    ):
        workers.finished([workers.submit("a.train", {}, 0)])
    assert "sbatch said: sbatch: error: invalid partition specified: gpus" in caught.value.found
    assert "Traceback" not in caplog.text


def test_jobs_that_wait_are_told_as_waiting(caplog):
    caplog.set_level(logging.INFO)
    cluster = ClusterParameters(scheduler="slurm", slurm=SLURM)
    taken, refused = (type("Job", (), {"refused": said})() for said in ("", "too many jobs"))
    workers = Workers(Client(), origin(), "r", cluster, {1: taken, 2: refused})
    workers._look_after([])
    workers._look_after([])
    assert caplog.text.count("Waiting for SLURM, 2 jobs") == 1
    assert caplog.text.count("takes no further job; sbatch said: too many jobs") == 1


@pytest.mark.parametrize(
    ("where", "key"),
    [
        ({"interface": "ib99"}, r"cluster\.slurm\.interface.*'ib99'"),
        ({"host": "192.0.2.1"}, r"cluster\.slurm\.host.*'192\.0\.2\.1'"),
    ],
)
def test_an_address_that_is_not_of_this_machine_is_named_with_those_that_are(where, key):
    with pytest.raises(UserError, match=key) as caught:
        module._check_reachable(ClusterParameters(scheduler="slurm", slurm=where).slurm)
    assert "lo (127.0.0.1)" in caught.value.found


def test_a_local_scheduler_that_has_too_little_time(caplog):
    with pytest.raises(UserError, match=r"cluster\.timeout_s") as caught:
        opened(ClusterParameters(timeout_s=0.001))
    assert "Raise timeout_s" in caught.value.remedy


def test_stopping_says_how_to_go_on_and_closes_in_silence(monkeypatch, caplog):
    import distributed

    class Closing:
        status = "running"
        dashboard_link = ""

        def __init__(self, *_, **__):
            self.closed = False

        def subscribe_topic(self, topic, handler):
            pass

        def unsubscribe_topic(self, topic):
            logging.getLogger("distributed.core").critical("Closed comm")
            raise OSError("no connection")

        def wait_for_workers(self, *_, **__):
            pass

        def close(self):
            made.append("closed")

    made = []
    monkeypatch.setattr(distributed, "Client", Closing)
    cluster = ClusterParameters(scheduler="tcp://10.0.0.1:8786")
    logging.getLogger("distributed.core")
    with pytest.raises(KeyboardInterrupt), work_with(cluster, origin(), "r", Share(1, 1, 4.0)):
        raise KeyboardInterrupt
    assert made == ["closed"]
    assert "Stopped; to go on, repeat the command: what has been finished is not" in caplog.text
    assert "Closed comm" not in caplog.text
    assert not logging.getLogger("distributed.core").disabled


def test_processes_for_gpus_share_the_machine_too():
    assert module._with_gpus(Share(2, 8, 16.0), 4, None) == Share(4, 4, 8.0)
    assert module._with_gpus(Share(2, 8, 16.0), 1, None) == Share(2, 8, 16.0)


def test_gpus_are_counted_as_they_are_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert count_gpus() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert count_gpus() == 0
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert count_gpus() == 0


@pytest.mark.parametrize(("visible", "named"), [("0", "0"), ("", "none"), ("0,3", "0, 3")])
def test_more_gpus_than_are_visible_are_refused(monkeypatch, visible, named):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(UserError, match=rf"Found 3, but .*\({named}\)"):
        opened(ClusterParameters(gpus=3))


def test_workers_without_gpus_see_none(monkeypatch):
    import distributed

    monkeypatch.setattr(distributed, "SpecCluster", lambda **options: options["workers"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    none = module._local(ClusterParameters(gpus=0), Share(2, 1, 8.0), None, 0)
    assert [w["options"]["env"] for w in none.values()] == [{"CUDA_VISIBLE_DEVICES": ""}] * 2
    uncounted = module._local(ClusterParameters(), Share(1, 1, 8.0), None, 0)
    assert uncounted[0]["options"]["env"] == {}, "they find what there is"


def opened(parameters):
    with work_with(parameters, origin(cluster=parameters), "r", Share(1, 1, 4.0)):
        pass


def test_a_run_with_workers_leaves_the_variables_of_this_process_as_they_were(monkeypatch):
    """A nanny sets those of its workers here: a second run of a session would use one core."""
    monkeypatch.delenv("TEMSHIFT_CORES", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    opened(ClusterParameters(workers=1))
    assert "TEMSHIFT_CORES" not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_workers_have_their_share_of_the_cores_whatever_stands_in_the_environment(monkeypatch):
    """Dask lets what stands there go before its settings: four workers would ask for 64 threads."""
    names = ("TEMSHIFT_CORES", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    for name in names:
        monkeypatch.setenv(name, "16")
    parameters = ClusterParameters(workers=1)
    with work_with(parameters, origin(cluster=parameters), "r", Share(1, 3, 4.0)) as workers:
        for name in names:
            assert list(workers._client.run(os.environ.get, name).values()) == ["3"]
    assert [os.environ[name] for name in names] == ["16"] * 3


def test_workers_spend_no_time_on_profiles_of_themselves():
    import dask

    parameters = ClusterParameters(workers=1)
    with work_with(parameters, origin(cluster=parameters), "r", Share(1, 1, 4.0)) as workers:
        key = "distributed.worker.profile.enabled"
        assert list(workers._client.run(dask.config.get, key).values()) == [False]


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
    assert module._local(ClusterParameters(), Share(3, 2, 8.0), None, 2) == "made"
    options = made["scheduler"]["options"]
    assert options["host"] == "127.0.0.1"
    assert options["dashboard_address"].startswith("127.0.0.1:")
    workers = [worker["options"] for worker in made["workers"].values()]
    assert {worker["host"] for worker in workers} == {"127.0.0.1"}
    assert [worker["env"]["CUDA_VISIBLE_DEVICES"] for worker in workers] == ["4", "6", ""]
    assert [worker["resources"].get("GPU") for worker in workers] == [1, 1, None]

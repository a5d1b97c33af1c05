"""Workers for a run: processes of this machine, jobs of SLURM, or those of a running scheduler.

All are Dask's; what is ours is which node may go where, and that nothing but names travels
(:mod:`temshift.runner.worker`). The scheduler of a local cluster listens to this machine alone:
whoever reaches a scheduler can run code on its workers.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from temshift.catalog.study_catalog import Origin
from temshift.config.cluster import ClusterParameters, SlurmParameters, TLSParameters
from temshift.config.errors import UserError
from temshift.parallel import CORES, available_cores
from temshift.runner.sharing import Needs, Share, share_machine
from temshift.runner.worker import describe, run_node

__all__ = ["SchedulerLostError", "Workers", "automatic_share", "count_gpus", "work_with"]

_log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"

#: How long it is believed which workers there are.
_ASKED_EVERY_S = 5.0


class SchedulerLostError(UserError):
    """The scheduler does not answer any more."""


class Workers:
    """A scheduler with its workers, and one run that uses them.

    Parameters
    ----------
    client : distributed.Client
    origin : Origin
    run_id : str
    offered : dict, optional
        Resources of every worker, if they are known before the workers are there.
    """

    def __init__(
        self, client: Any, origin: Origin, run_id: str, offered: dict[str, float] | None = None
    ) -> None:
        self._client = client
        self._run = describe(origin, run_id)
        self._topic = f"temshift-{run_id}"
        self._gpu = origin.gpu
        self._offered = offered
        self._found: list[dict[str, float]] = []
        self._found_until = 0.0
        self._names: dict[str, str] = {}
        client.subscribe_topic(self._topic, _tell)
        client.subscribe_topic("all", self._tell_lost)

    def close(self) -> None:
        """Follow the workers no longer."""
        for topic in (self._topic, "all"):
            self._client.unsubscribe_topic(topic)

    def submit(self, node: str, resources: dict[str, float], priority: int) -> Any:
        """Send a node away; return a future of what ``worker.run_node`` says."""
        future = self._client.submit(
            run_node,
            self._run,
            node,
            self._topic,
            key=f"{node}-{self._topic}",
            resources=resources,
            priority=priority,
            pure=False,
        )
        self._names[future.key] = node
        return future

    def finished(self, futures: Iterable[Any]) -> list[Any]:
        """Wait until at least one future has ended; return these.

        Raises
        ------
        SchedulerLostError
        """
        from distributed import wait

        futures = list(futures)
        try:
            with self._client.as_current():
                wait(futures, return_when="FIRST_COMPLETED")
        except Exception as error:
            if self._client.status == "running":
                raise
            raise self._lost() from error
        ended = [future for future in futures if future.done()]
        if any(future.cancelled() for future in ended):
            raise self._lost()
        return ended

    def failure(self, future: Any, node: str) -> Exception | None:
        """Return why a node failed that has ended, ``None`` if it did not."""
        from distributed import KilledWorker

        try:
            said = future.result()
        except KilledWorker as error:
            return UserError(
                f"The node {node!r} was given up: the workers that ran it died",
                f"Found {error.allowed_failures + 1} workers lost while they ran it; expected one "
                "to finish it",
                "Most often the memory does not suffice: use fewer workers or larger jobs "
                "(cluster.yml), and see the logs of the workers",
            )
        if "error" not in said:
            return None
        _log.debug("Traceback of %s on its worker\n%s", node, said["traceback"])
        what, found, remedy, details = said["error"]
        return UserError(what, found, remedy, details)

    def seconds(self, future: Any) -> float:
        """Return how long a node took that has ended well."""
        return float(future.result()["seconds"])

    def cancel(self, futures: Iterable[Any]) -> list[Any]:
        """Take back what has not begun; return it."""
        at_work = {key for worker in self._client.call_stack().values() for key in worker}
        taken = [f for f in futures if f.key not in at_work and not f.done()]
        self._client.cancel(taken)
        return taken

    def _lost(self) -> SchedulerLostError:
        return SchedulerLostError(
            "The scheduler does not answer any more",
            "Found the connection to it closed; expected it to live as long as the run",
            "Start it again and repeat the command: what has been finished is not repeated",
        )

    def resources(self, node: str, needs: Needs) -> dict[str, float]:
        """Return what of a node's needs can be asked for: what workers say that they have.

        Raises
        ------
        UserError
            No worker has as much memory as the node asks for.
        """
        offers = self._offers()
        asked: dict[str, float] = {}
        if needs.gpu and self._gpu and any(offer.get("GPU") for offer in offers):
            asked["GPU"] = 1
        memory = [offer["MEMORY_GB"] for offer in offers if "MEMORY_GB" in offer]
        if memory:
            if needs.memory_GB > max(memory):
                raise UserError(
                    f"No worker has the memory that the node {node!r} asks for",
                    f"Found workers of at most {max(memory):.3g} GB; expected "
                    f"{needs.memory_GB:.3g} GB (its tag)",
                    "Use fewer workers, or jobs of more memory (cluster.yml)",
                )
            asked["MEMORY_GB"] = needs.memory_GB
        return asked

    def _offers(self) -> list[dict[str, float]]:
        if self._offered is not None:
            return [self._offered]
        if not self._found or time.monotonic() > self._found_until:
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
            self._found = [worker.get("resources", {}) for worker in workers]
            self._found_until = time.monotonic() + _ASKED_EVERY_S
        return self._found

    def _tell_lost(self, event: Any) -> None:
        _, what = event
        if what.get("action") != "remove-worker" or what.get("expected"):
            return
        tasks = what.get("processing-tasks") or ()
        nodes = [self._names[key] for key in tasks if key in self._names]
        again = f"; run again elsewhere: {', '.join(nodes)}" if nodes else ""
        _log.warning("Worker %s was lost%s", what.get("worker"), again)


def _tell(event: Any) -> None:
    """Tell here what was logged on a worker."""
    _, told = event
    logger = logging.getLogger(told["name"])
    if logger.isEnabledFor(told["level"]):
        logger.handle(
            logger.makeRecord(told["name"], told["level"], "", 0, told["message"], (), None)
        )


def automatic_share(
    folds: int, needed_GB: float, workers: int | None = None, memory_GB: float | None = None
) -> Share:
    """Return how this machine is shared, without asking for its memory where it does not matter."""
    cores = available_cores()
    if workers is None and cores <= folds:
        return Share(1, cores, float("inf"))
    return share_machine(cores, folds, memory_GB or _memory_GB(), needed_GB, workers)


def _memory_GB() -> float:
    from distributed.system import MEMORY_LIMIT

    return float(MEMORY_LIMIT) / 1e9


def count_gpus() -> int:
    """Return how many GPUs this process may use, without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    if (tool := shutil.which("nvidia-smi")) is None:
        return 0
    done = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30, check=False)
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())


@contextmanager
def work_with(
    cluster: ClusterParameters, origin: Origin, run_id: str, share: Share
) -> Iterator[Workers]:
    """Start workers, or find them, for the time of a run.

    Parameters
    ----------
    cluster : ClusterParameters
    origin : Origin
    run_id : str
    share : Share
        Of this machine, for a local cluster.

    Raises
    ------
    UserError
        There is no scheduler at the address, no ``sbatch``, or no worker appears.
    """
    import dask
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.ERROR)
    security = _security(cluster.tls)
    settings = {
        "distributed.scheduler.allowed-failures": cluster.retries,
        # patches are mapped files, which count as memory of the process: no reason to stop it
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.nanny.pre-spawn-environ": _environment(share.cores),
    }
    with dask.config.set(settings):
        if cluster.scheduler == "local":
            started = _local(cluster, share, security)
        elif cluster.scheduler == "slurm":
            assert cluster.slurm is not None
            started = _slurm(cluster, cluster.slurm, security)
        else:
            started = None
        try:
            client = Client(
                started or cluster.scheduler,
                timeout=cluster.timeout_s,
                security=security,
                set_as_default=False,
            )
        except OSError as error:
            raise UserError(
                f"cluster.scheduler: there is no scheduler at {cluster.scheduler}",
                f"Found no answer within {cluster.timeout_s:g} s; expected a Dask scheduler",
                "Start one (dask scheduler), or mend the address in cluster.yml",
            ) from error
        try:
            _log.info(
                "Nodes are run by %s; dashboard: %s", _named(cluster, share), client.dashboard_link
            )
            _wait_for_workers(client, cluster)
            slurm = cluster.slurm if cluster.scheduler == "slurm" else None
            workers = Workers(client, origin, run_id, _offered(slurm) if slurm else None)
            yield workers
            workers.close()
        finally:
            client.close()
            if started is not None:
                started.close()


def _named(cluster: ClusterParameters, share: Share) -> str:
    if cluster.scheduler == "local":
        return f"{share.workers} processes with {share.cores} cores each"
    if cluster.slurm is not None and cluster.scheduler == "slurm":
        return f"{cluster.slurm.jobs} SLURM jobs with {cluster.slurm.cores} cores each"
    return f"the scheduler {cluster.scheduler}"


def _wait_for_workers(client: Any, cluster: ClusterParameters) -> None:
    if cluster.scheduler == "slurm":
        return  # tasks wait for the first job as they do for the last
    try:
        client.wait_for_workers(1, timeout=cluster.timeout_s)
    except TimeoutError as error:
        raise UserError(
            f"The scheduler {cluster.scheduler} has no workers",
            f"Found none within {cluster.timeout_s:g} s; expected at least one",
            f"Start some: dask worker {cluster.scheduler} --nthreads 1",
        ) from error


def _environment(cores: int) -> dict[str, str]:
    """Return what keeps a process to its cores."""
    number = str(cores)
    names = (CORES, "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**dict.fromkeys(names, number), "TQDM_DISABLE": "1"}


def _local(cluster: ClusterParameters, share: Share, security: Any) -> Any:
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = count_gpus() if cluster.gpus == "auto" else cluster.gpus
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = [d.strip() for d in visible.split(",") if d.strip()] or list(map(str, range(gpus)))
    protocol = "tls://" if security is not None else "tcp://"
    workers = {}
    for number in range(max(share.workers, gpus)):
        mine = devices[number] if number < gpus else ""
        workers[number] = {
            "cls": Nanny,
            "options": {
                "host": _LOOPBACK,
                "protocol": protocol,
                "security": security,
                "nthreads": 1,
                "memory_limit": 0,
                "dashboard": False,
                "silence_logs": logging.ERROR,
                "resources": {
                    **({"GPU": 1} if mine else {}),
                    **({"MEMORY_GB": share.memory_GB} if share.memory_GB < 1e6 else {}),
                },
                "env": {"CUDA_VISIBLE_DEVICES": mine} if gpus else {},
            },
        }
    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": _LOOPBACK,
            "protocol": protocol,
            "security": security,
            "dashboard_address": f"{_LOOPBACK}:{cluster.dashboard_port}",
        },
    }
    return SpecCluster(
        workers=workers, scheduler=scheduler, security=security, silence_logs=logging.ERROR
    )


def _offered(slurm: SlurmParameters) -> dict[str, float]:
    return {"MEMORY_GB": slurm.memory_GB, **({"GPU": slurm.gpus} if slurm.gpus else {})}


def _slurm(cluster: ClusterParameters, slurm: SlurmParameters, security: Any) -> Any:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise UserError(
            "cluster.scheduler is slurm, but dask-jobqueue is not installed",
            "Found no package dask_jobqueue; expected the extra 'cluster'",
            'Install it: pip install -e ".[cluster]"',
        ) from error
    if shutil.which("sbatch") is None:
        raise UserError(
            "cluster.scheduler is slurm, but this machine cannot submit jobs",
            "Found no command sbatch; expected SLURM's commands on the PATH",
            "Start the run on a login node, or set 'scheduler: local' in cluster.yml",
        )
    exports = [f"export {key}={value}" for key, value in _environment(slurm.cores).items()]
    exports += [
        f"export DASK_DISTRIBUTED__WORKER__MEMORY__{what}=False"
        for what in ("TARGET", "SPILL", "PAUSE", "TERMINATE")  # SLURM sees to it
    ]
    offered = ",".join(f"{name}={number:g}" for name, number in _offered(slurm).items())
    where = {"host": slurm.host} if slurm.host else {"interface": slurm.interface}
    made = SLURMCluster(
        cores=1,
        processes=1,
        job_cpu=slurm.cores,
        memory=f"{slurm.memory_GB:g}GB",
        queue=slurm.queue,
        account=slurm.account,
        walltime=slurm.walltime,
        interface=slurm.interface,
        security=security,
        protocol="tls://" if security is not None else "tcp://",
        shared_temp_directory=str(Path.cwd()),
        scheduler_options={**where, "dashboard_address": f"{_LOOPBACK}:{cluster.dashboard_port}"},
        job_extra_directives=[
            *([f"--gres=gpu:{slurm.gpus}"] if slurm.gpus else []),
            *slurm.directives,
        ],
        job_script_prologue=[*slurm.prologue, *exports],
        worker_extra_args=["--resources", offered, "--no-dashboard"],
        log_directory=slurm.log_folder,
        silence_logs=logging.ERROR,
    )
    made.adapt(minimum_jobs=slurm.jobs, maximum_jobs=slurm.jobs)  # a job that ends is replaced
    return made


def _security(tls: TLSParameters | None) -> Any:
    if tls is None:
        return None
    from distributed.security import Security

    for path in (tls.ca_file, tls.cert, tls.key):
        if not Path(path).is_file():
            raise UserError(
                f"cluster.tls: there is no file {path}",
                "Found nothing at this path; expected a PEM file",
                "Mend the path in cluster.yml, relative to the project's folder",
            )
    roles = ("scheduler", "worker", "client")
    files = {f"tls_{role}_{kind}": getattr(tls, kind) for role in roles for kind in ("cert", "key")}
    return Security(require_encryption=True, tls_ca_file=tls.ca_file, **files)

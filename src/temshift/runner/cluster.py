"""Workers for a run: processes of this machine, jobs of SLURM, or those of a running scheduler.

All are Dask's; what is ours is which node may go where, and that nothing but names travels
(:mod:`temshift.runner.worker`). The scheduler of a local cluster listens to this machine alone:
whoever reaches a scheduler can run code on its workers.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from temshift.catalog.study_catalog import Origin
from temshift.config.cluster import ClusterParameters, SlurmParameters, TLSParameters
from temshift.config.errors import UserError
from temshift.parallel import CORES, available_cores
from temshift.progress import LINES_EVERY_S
from temshift.runner.sharing import Needs, Share, find_room, share_machine
from temshift.runner.worker import describe, run_node

__all__ = ["SchedulerLostError", "Workers", "automatic_share", "count_gpus", "work_with"]

_log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"

#: How long it is believed which workers there are.
_ASKED_EVERY_S = 5.0

#: How often is looked, while nodes are at work, whether there are still workers for them.
_LOOKED_EVERY_S = 1.0

#: Dask counts a lost worker for all nodes that it was to run; here it counts for those it ran.
_DASK_GIVES_UP_AFTER = 1_000_000

_KEPT = "repeat the command: what has been finished is not repeated"


class SchedulerLostError(UserError):
    """The scheduler does not answer any more."""


class Workers:
    """A scheduler with its workers, and one run that uses them.

    Parameters
    ----------
    client : distributed.Client
    origin : Origin
    run_id : str
    cluster : ClusterParameters, optional
    jobs : mapping, optional
        SLURM's jobs, as ``SLURMCluster.workers`` has them at any time.
    begun : callable, optional
        Is told the name of a node when a worker begins it.
    """

    def __init__(
        self,
        client: Any,
        origin: Origin,
        run_id: str,
        cluster: ClusterParameters | None = None,
        jobs: Mapping[Any, Any] | None = None,
        begun: Callable[[str], None] | None = None,
    ) -> None:
        self._client = client
        self._run = describe(origin, run_id)
        self._topic = f"temshift-{run_id}"
        self._gpu = origin.gpu
        self._cluster = cluster or ClusterParameters()
        self._jobs = {} if jobs is None else jobs  # empty at first, and filled later
        self._begun = begun
        slurm = self._cluster.slurm if self._cluster.scheduler == "slurm" else None
        self._offered = _offered(slurm) if slurm else None  # known before the jobs are there
        self._found: list[dict[str, Any]] = []
        self._found_until = 0.0
        self._none_since: float | None = None
        self._said: dict[str, float] = {}
        self._names: dict[str, str] = {}
        self._asked: dict[str, dict[str, float]] = {}
        self._runs_on: dict[str, str] = {}
        self._losses: Counter[str] = Counter()
        self._changed = threading.Event()
        client.subscribe_topic(self._topic, self._hear)
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
            key=self._key(node),
            resources=resources,
            priority=priority,
            pure=False,
        )
        self._names[future.key] = node
        self._asked[future.key] = resources
        future.add_done_callback(self._wake)
        return future

    def have_room(self, resources: Mapping[str, float], at_work: Iterable[Any]) -> bool:
        """Return whether a worker that offers this has nothing to do.

        Dask divides nodes among workers when they are sent, by how long such nodes took: of the
        first ones, which it knows nothing of, it gives a free worker's next five to a busy one.
        So a node is sent only when there is a worker for it; the free one has the least to do, and
        is chosen. If nothing is at work, one node is sent in any case, and waits for a worker.

        Parameters
        ----------
        resources : mapping of str to float
            As of :meth:`resources`.
        at_work : iterable of Future
            What was sent and has not ended.
        """
        keys = [future.key for future in at_work]
        if not keys:
            return True
        offers = [worker.get("resources", {}) for worker in self._there()]
        # a node whose worker was lost waits behind another one, or begins in a moment
        taken = [self._asked[k] for k in keys if k in self._runs_on or not self._losses[k]]
        return find_room(offers, taken, resources)

    def finished(self, futures: Iterable[Any]) -> list[Any]:
        """Wait until at least one future has ended, or there are more workers; return the ended.

        Raises
        ------
        SchedulerLostError
        UserError
            There are no workers, or none that can be used.
        """
        futures = list(futures)
        workers = len(self._found)
        while True:
            self._changed.clear()
            try:
                if ended := self._ended(futures):
                    return ended
                self._look_after(futures)
                if len(self._found) > workers:
                    return []
                workers = len(self._found)
            except Exception as error:
                if isinstance(error, UserError) or self._client.status == "running":
                    raise
                raise self._lost() from error
            self._changed.wait(_LOOKED_EVERY_S)

    def _ended(self, futures: Iterable[Any]) -> list[Any]:
        """Return what has ended; try again what Dask gave up too early."""
        from distributed import KilledWorker

        if self._client.status != "running":
            raise self._lost()
        ended = []
        for future in futures:
            if future.status != "finished" and self._given_up(future):
                self._client.cancel([future])
            elif not future.done():
                continue
            elif future.cancelled():
                raise self._lost()
            elif future.status == "error" and isinstance(future.exception(), KilledWorker):
                # the scheduler is not of this run, and has a limit of its own
                self._client.retry([future])
                future.add_done_callback(self._wake)
                continue
            ended.append(future)
        return ended

    def _given_up(self, future: Any) -> bool:
        return self._losses[future.key] > self._cluster.retries

    def _key(self, node: str) -> str:
        return f"{node}-{self._topic}"

    def _wake(self, _: Any) -> None:
        self._changed.set()

    def failure(self, future: Any, node: str) -> Exception | None:
        """Return why a node failed that has ended, ``None`` if it did not."""
        if future.status != "finished" and self._given_up(future):
            return UserError(
                f"The node {node!r} was given up: the workers that ran it died",
                f"Found {self._losses[future.key]} workers lost while they ran it; expected one "
                f"to finish it (cluster.retries is {self._cluster.retries})",
                "Most often the memory does not suffice: use fewer workers or larger jobs "
                "(cluster.yml), and see the logs of the workers",
            )
        said = future.result()
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
        try:
            at_work = {key for worker in self._client.call_stack().values() for key in worker}
        except Exception:  # a worker that has just died answers nothing
            _log.debug("What is at work cannot be told", exc_info=True)
            return []
        taken = [f for f in futures if f.key not in at_work and not f.done()]
        self._client.cancel(taken)
        return taken

    def _lost(self) -> SchedulerLostError:
        return SchedulerLostError(
            "The scheduler does not answer any more",
            "Found the connection to it closed; expected it to live as long as the run",
            f"Start it again and {_KEPT}",
        )

    def resources(self, node: str, needs: Needs) -> dict[str, float]:
        """Return what of a node's needs can be asked for: what workers say that they have.

        Raises
        ------
        UserError
            No worker has as much memory as the node asks for, or one has several threads, which
            would be nodes in one process.
        """
        offers = self._offers()
        self._check_threads()
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
                    "Use fewer workers (or GPUs), or jobs of more memory (cluster.yml)",
                )
            asked["MEMORY_GB"] = needs.memory_GB
        return asked

    def _offers(self) -> list[dict[str, float]]:
        if self._offered is not None:
            return [self._offered]
        return [worker.get("resources", {}) for worker in self._there()]

    def _there(self) -> list[dict[str, Any]]:
        """Return what the scheduler says of its workers."""
        if not self._found or time.monotonic() > self._found_until:
            workers = self._client.scheduler_info(n_workers=-1)["workers"]
            self._found = [{"address": key, **worker} for key, worker in workers.items()]
            self._found_until = time.monotonic() + _ASKED_EVERY_S
        return self._found

    def _check_threads(self) -> None:
        for worker in self._found:
            if (threads := worker.get("nthreads", 1)) != 1:
                raise UserError(
                    f"The worker {worker['address']} would run several nodes in one process",
                    f"Found {threads} threads; expected 1: nodes use the cores themselves, "
                    "and settings of the process that each needs for itself",
                    f"Start workers with one thread: {self._command()}",
                )

    def _command(self) -> str:
        return f"dask worker {self._cluster.scheduler} --nthreads 1"

    def _look_after(self, futures: Iterable[Any]) -> None:
        """See whether there are workers; say so if there are none, and end what would not.

        Of several kinds of workers those may have gone that a node asks for (a GPU).

        Raises
        ------
        UserError
            No worker came back in time, or SLURM takes no job.
        """
        there = self._there()
        refused = [job for job in list(self._jobs.values()) if job.refused]
        if refused and not there and len(refused) == len(self._jobs):
            raise UserError(
                "SLURM takes none of the jobs (cluster.slurm)",
                f"sbatch said: {refused[-1].refused}; expected the number of a job",
                f"Mend cluster.slurm in cluster.yml (queue, account, walltime, directives), and "
                f"{_KEPT}",
            )
        for job in refused:
            self._say(f"SLURM takes no further job; sbatch said: {job.refused}", float("inf"))
        offers = [worker.get("resources", {}) for worker in there]
        waiting = [self._asked[f.key] for f in futures if f.key not in self._runs_on]
        lacking = next((asked for asked in waiting if not find_room(offers, [], asked)), None)
        if there and lacking is None:
            self._none_since = None
        elif self._cluster.slurm is not None and self._cluster.scheduler == "slurm":
            self._say(
                f"Waiting for SLURM, {self._cluster.slurm.jobs} jobs: none is at work (squeue "
                f"--me lists them, {self._cluster.slurm.log_folder}/ has what they print)",
                LINES_EVERY_S,
                logging.INFO,
            )
        else:
            self._wait_for_another(lacking if there and lacking is not None else {})

    def _wait_for_another(self, asked: Mapping[str, float]) -> None:
        of_a_kind = " and ".join(f"{amount:g} {name}" for name, amount in sorted(asked.items()))
        of_a_kind = of_a_kind and f" with {of_a_kind}"
        now, most_s = time.monotonic(), self._cluster.timeout_s
        if self._none_since is None:
            self._none_since = now
            if self._cluster.scheduler != "local":  # local processes are started again
                self._say(
                    f"No worker{of_a_kind} is left; waiting {most_s:g} s for another "
                    f"({self._command()})",
                    0.0,
                )
        elif now - self._none_since > most_s:
            raise UserError(
                f"The scheduler {self._cluster.scheduler} has no workers{of_a_kind} any more",
                f"Found none for {most_s:g} s (cluster.timeout_s); expected another one",
                f"{self._remedy()}, and {_KEPT}",
            )

    def _remedy(self) -> str:
        if self._cluster.scheduler == "local":
            return "Use fewer workers if the memory does not suffice (cluster.yml)"
        return f"Start some ({self._command()})"

    def _say(self, text: str, every_s: float, level: int = logging.WARNING) -> None:
        """Tell something, and the same only after a while again."""
        now = time.monotonic()
        if now - self._said.get(text, float("-inf")) >= every_s:
            self._said[text] = now
            _log.log(level, "%s", text)

    def _tell_lost(self, event: Any) -> None:
        _, what = event
        if what.get("action") != "remove-worker" or what.get("expected"):
            return
        worker = what.get("worker")
        had = [key for key in what.get("processing-tasks") or () if key in self._names]
        ran = [key for key in had if self._runs_on.get(key) == worker] or had
        self._losses.update(ran)
        for key in ran:
            self._runs_on.pop(key, None)
        nodes = [self._names[key] for key in ran if self._losses[key] <= self._cluster.retries]
        again = f"; run again elsewhere: {', '.join(nodes)}" if nodes else ""
        _log.warning("Worker %s was lost%s", worker, again)
        self._found_until = 0.0
        self._changed.set()

    def _hear(self, event: Any) -> None:
        """Hear that a worker begins a node, or tell here what was logged there."""
        _, told = event
        if (node := told.get("begun")) is not None:
            self._runs_on[self._key(node)] = told["worker"]
            if self._begun is not None:
                self._begun(node)
            return
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
    if (visible := _visible_gpus()) is not None:
        return len(visible)
    if (tool := shutil.which("nvidia-smi")) is None:
        return 0
    done = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30, check=False)
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())


def _visible_gpus() -> list[str] | None:
    """Return the GPUs that ``CUDA_VISIBLE_DEVICES`` names, ``None`` if it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return None
    return [name for device in visible.split(",") if (name := device.strip()) not in ("", "-1")]


def _asked_gpus(cluster: ClusterParameters) -> int:
    """Return how many GPUs the local workers are to have."""
    if cluster.gpus == "auto":
        return count_gpus()
    visible = _visible_gpus()
    if visible is not None and cluster.gpus > len(visible):
        raise UserError(
            "cluster.gpus: this process may not use as many GPUs",
            f"Found {cluster.gpus}, but CUDA_VISIBLE_DEVICES names {len(visible)} "
            f"({', '.join(visible) or 'none'}); expected no more",
            "Lower gpus in cluster.yml, or leave it out, or name more in CUDA_VISIBLE_DEVICES",
        )
    return cluster.gpus


@contextmanager
def work_with(
    cluster: ClusterParameters,
    origin: Origin,
    run_id: str,
    share: Share,
    begun: Callable[[str], None] | None = None,
) -> Iterator[Workers]:
    """Start workers, or find them, for the time of a run.

    Parameters
    ----------
    cluster : ClusterParameters
    origin : Origin
    run_id : str
    share : Share
        Of this machine, for a local cluster.
    begun : callable, optional
        Is told the name of a node when a worker begins it.

    Raises
    ------
    UserError
        There is no scheduler at the address, no ``sbatch``, no such network interface, or no worker
        appears.
    """
    import dask
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.ERROR)
    security = _security(cluster.tls)
    gpus = 0
    if cluster.scheduler == "local":
        gpus = _asked_gpus(cluster)
        share = _with_gpus(share, gpus, cluster.memory_GB)
    of_workers = _environment(share.cores)
    own = {name: os.environ.get(name) for name in of_workers}
    settings = {
        "distributed.scheduler.allowed-failures": _DASK_GIVES_UP_AFTER,
        # patches are mapped files, which count as memory of the process: no reason to stop it
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        # what looks at threads and clocks up to a hundred times a second, beside nodes of minutes
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "500ms",
        "distributed.admin.system-monitor.interval": "5s",
        "distributed.nanny.pre-spawn-environ": of_workers,
    }
    closing: list[Callable[[], Any]] = []
    with dask.config.set(settings):
        try:
            started = None
            if cluster.scheduler == "local":
                os.environ.update(of_workers)  # what stands there goes before Dask's settings
                started = _local(cluster, share, security, gpus)
            elif cluster.scheduler == "slurm":
                assert cluster.slurm is not None
                started = _slurm(cluster, cluster.slurm, security)
            if started is not None:
                closing.append(started.close)
            try:
                client = Client(
                    started or cluster.scheduler,
                    timeout=cluster.timeout_s,
                    security=security,
                    set_as_default=False,
                )
            except OSError as error:
                raise _no_answer(cluster) from error
            closing.append(client.close)
            _log.info(
                "Nodes are run by %s; dashboard: %s", _named(cluster, share), client.dashboard_link
            )
            _wait_for_workers(client, cluster)
            jobs = getattr(started, "workers", None) if cluster.scheduler == "slurm" else None
            workers = Workers(client, origin, run_id, cluster, jobs, begun)
            closing.append(workers.close)
            yield workers
        except KeyboardInterrupt:
            _log.warning("Stopped; to go on, %s", _KEPT)
            raise
        finally:
            with _silent("distributed", "tornado", "asyncio"):
                for close in reversed(closing):
                    with suppress(Exception):  # what ended the run is told, not what follows
                        close()
            _restore_environment(own)


def _restore_environment(before: Mapping[str, str | None]) -> None:
    """Give this process back its own variables: a nanny sets here what its workers are to have."""
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def _silent(*packages: str) -> Iterator[None]:
    """Let packages log nothing for a while: connections that end are no news at the end."""
    loggers = [
        logger
        for name, logger in list(logging.root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in packages
    ]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _no_answer(cluster: ClusterParameters) -> UserError:
    if cluster.scheduler in ("local", "slurm"):
        return UserError(
            "cluster.timeout_s: the scheduler that this run has started did not answer in time",
            f"Found no answer within {cluster.timeout_s:g} s; expected one, most often in a few "
            "seconds",
            "Raise timeout_s in cluster.yml (60 if it is left out)",
        )
    return UserError(
        f"cluster.scheduler: there is no scheduler at {cluster.scheduler}",
        f"Found no answer within {cluster.timeout_s:g} s; expected a Dask scheduler",
        "Start one (dask scheduler), or mend the address in cluster.yml",
    )


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
        if cluster.scheduler == "local":
            raise _no_answer(cluster) from error
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


def _with_gpus(share: Share, gpus: int, memory_GB: float | None) -> Share:
    """Return how the machine is shared if every GPU is to have a process of its own."""
    if gpus <= share.workers:
        return share
    whole_GB = share.workers * share.memory_GB
    if whole_GB == float("inf"):  # one process was not asked
        whole_GB = memory_GB or _memory_GB()
    return share_machine(share.workers * share.cores, 1, whole_GB, 0.0, gpus)


def _local(cluster: ClusterParameters, share: Share, security: Any, gpus: int) -> Any:
    from distributed import Nanny, Scheduler, SpecCluster

    visible = _visible_gpus()
    devices = list(map(str, range(gpus))) if visible is None else visible
    protocol = "tls://" if security is not None else "tcp://"
    workers = {}
    for number in range(share.workers):
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
                # none for those of "gpus: 0"; where none was counted they find what there is
                "env": {"CUDA_VISIBLE_DEVICES": mine} if gpus or cluster.gpus == 0 else {},
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
        from dask_jobqueue.slurm import SLURMCluster, SLURMJob
    except ImportError as error:
        raise UserError(
            "cluster.scheduler is slurm, but dask-jobqueue is not installed",
            "Found no package dask_jobqueue; expected the extra 'cluster'",
            'Install it: pip install -e ".[cluster]"',
        ) from error
    from distributed import Status

    if shutil.which("sbatch") is None:
        raise UserError(
            "cluster.scheduler is slurm, but this machine cannot submit jobs",
            "Found no command sbatch; expected SLURM's commands on the PATH",
            "Start the run on a login node, or set 'scheduler: local' in cluster.yml",
        )
    _check_reachable(slurm)
    exports = [f"export {key}={value}" for key, value in _environment(slurm.cores).items()]
    exports += [
        f"export DASK_DISTRIBUTED__WORKER__MEMORY__{what}=False"
        for what in ("TARGET", "SPILL", "PAUSE", "TERMINATE")  # SLURM sees to it
    ]
    offered = ",".join(f"{name}={number:g}" for name, number in _offered(slurm).items())
    where = {"host": slurm.host} if slurm.host else {"interface": slurm.interface}

    class Job(SLURMJob):
        """A job; what sbatch says of one that it does not take is kept, nobody raises it else."""

        refused = ""

        async def start(self) -> None:
            try:
                await super().start()
            except (RuntimeError, ValueError) as error:
                self.refused = _what_sbatch_said(str(error))
                self.status = Status.running  # for Dask, which would wait for it for ever

    job_class: Any = Job  # it is annotated as a job there, not as a class of jobs
    made = SLURMCluster(
        job_cls=job_class,
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


def _what_sbatch_said(error: str) -> str:
    """Return the last words of sbatch in an error of dask-jobqueue's."""
    said = re.search(r"stderr:\n(.*)|output is:\n(.*)", error, re.DOTALL)
    words = (said[1] or said[2] or "") if said else error
    return " ".join(words.split()) or "nothing"


def _check_reachable(slurm: SlurmParameters) -> None:
    """Refuse an interface or an address that this machine does not have."""
    import psutil

    there = {
        name: [address.address for address in addresses if address.family == socket.AF_INET]
        for name, addresses in psutil.net_if_addrs().items()
    }
    shown = ", ".join(f"{name} ({' '.join(own)})" for name, own in sorted(there.items()) if own)
    remedy = "Give 'interface' one of these names, or 'host' one of these addresses, in cluster.yml"
    if slurm.interface is not None and not there.get(slurm.interface):
        raise UserError(
            f"cluster.slurm.interface: this machine has no interface {slurm.interface!r} with an "
            "IPv4 address",
            f"Found {shown}; expected the one by which the jobs reach this machine",
            remedy,
        )
    if slurm.host is not None:
        try:
            family, *_, address = socket.getaddrinfo(slurm.host, 0, type=socket.SOCK_STREAM)[0]
            with socket.socket(family) as trial:
                trial.bind(address)
        except OSError as error:
            raise UserError(
                f"cluster.slurm.host: {slurm.host!r} is no address of this machine",
                f"Found {shown} ({error.strerror or error}); expected the one by which the jobs "
                "reach this machine",
                remedy,
            ) from error


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

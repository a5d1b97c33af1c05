"""Where nodes are run (``cluster.yml`` of an environment)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from temshift.config.base import Strict

__all__ = ["ClusterParameters", "SlurmParameters", "TLSParameters"]

_Positive = Annotated[int, Field(gt=0)]


class TLSParameters(Strict):
    """Certificates by which scheduler, workers and this process know each other.

    Attributes
    ----------
    ca_file, cert, key : str
        Paths of PEM files.
    """

    ca_file: str
    cert: str
    key: str


class SlurmParameters(Strict):
    """What is asked of SLURM for each job; one job is one worker.

    Attributes
    ----------
    jobs : int
        How many.
    cores : int
        Of each job.
    memory_GB : float
        Of each job.
    gpus : {0, 1}
        Of each job; one network is trained on a GPU at a time.
    interface : str, optional
        Network interface of this machine by which the jobs reach it (``ib0``).
    host : str, optional
        Its address instead.
    queue, account : str, optional
    walltime : str
        ``"HH:MM:SS"`` or ``"D-HH:MM:SS"``.
    directives : list of str
        Further ``#SBATCH`` lines (``--constraint=a100``).
    prologue : list of str
        Lines of the job script before the worker starts (``module load cuda``).
    log_folder : str
        Where the jobs leave what they print.
    """

    jobs: _Positive = 2
    cores: _Positive = 8
    memory_GB: Annotated[float, Field(gt=0)] = 32.0
    gpus: Annotated[int, Field(ge=0, le=1)] = 0
    interface: str | None = None
    host: str | None = None
    queue: str | None = None
    account: str | None = None
    walltime: Annotated[str, Field(pattern=r"^(\d+-)?\d{1,2}:\d{2}:\d{2}$")] = "12:00:00"
    directives: list[str] = []
    prologue: list[str] = []
    log_folder: str = "slurm"

    @model_validator(mode="after")
    def _can_be_reached(self) -> SlurmParameters:
        if (self.interface is None) == (self.host is None):
            raise ValueError(
                "jobs must find the scheduler, which listens to this machine alone unless told "
                "otherwise: give exactly one of 'interface' (such as ib0; ip addr lists them) and "
                "'host' (an address of this machine)"
            )
        return self


#: What is asked of a local cluster only.
_OF_THIS_MACHINE = ("workers", "gpus", "memory_GB")


class ClusterParameters(Strict):
    """Where nodes are run.

    Attributes
    ----------
    scheduler : str
        ``"local"``: processes of this machine. ``"slurm"``: jobs, as ``slurm`` says. Otherwise the
        address of a running scheduler, such as ``tcp://10.0.0.1:8786`` or ``tls://...``.
    workers : int or "auto"
        Processes of a local cluster; ``"auto"`` shares cores and memory so that each can hold a
        node and none is idle.
    gpus : int or "auto"
        How many GPUs the local workers have, one each; ``"auto"`` counts them.
    memory_GB : float, optional
        Memory of this machine that local workers may use together; by default all there is.
    retries : int
        How often a node is tried elsewhere after the worker that ran it has died.
    dashboard_port : int
        Of the page that shows what the workers do; 0 takes any that is free.
    timeout_s : float
        How long to wait for a running scheduler, and for the first worker of a local cluster.
    slurm : SlurmParameters, optional
    tls : TLSParameters, optional
    """

    scheduler: Annotated[str, Field(pattern=r"^(local|slurm|(tcp|tls)://\S+:\d+)$")] = "local"
    workers: _Positive | Literal["auto"] = "auto"
    gpus: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    memory_GB: Annotated[float, Field(gt=0)] | None = None
    retries: Annotated[int, Field(ge=0)] = 3
    dashboard_port: Annotated[int, Field(ge=0, lt=65536)] = 0
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    slurm: SlurmParameters | None = None
    tls: TLSParameters | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ClusterParameters:
        if self.scheduler == "slurm" and self.slurm is None:
            raise ValueError("'scheduler: slurm' needs the block 'slurm'")
        if self.scheduler.startswith("tls://") and self.tls is None:
            raise ValueError("a scheduler at tls:// needs the block 'tls'")
        if self.scheduler != "local":
            asked = [name for name in _OF_THIS_MACHINE if self._differs(name)]
            if asked:
                instead = (
                    "use slurm.jobs, slurm.gpus and slurm.memory_GB"
                    if self.scheduler == "slurm"
                    else "a running scheduler has the workers that were started for it"
                )
                raise ValueError(
                    f"{' and '.join(repr(name) for name in asked)} of workers on this machine, but "
                    f"the scheduler is {self.scheduler}: leave that out; {instead}"
                )
        return self

    def _differs(self, name: str) -> bool:
        return bool(getattr(self, name) != type(self).model_fields[name].default)

"""Cluster of a run: local workers, jobs or an existing scheduler; checks and warm-up of workers; tasks on them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from distributed import Client, KilledWorker, WorkerPlugin, as_completed
from distributed.security import Security
from distributed.worker import Worker

from flows.nights.cluster.local import local_cluster, local_memory, local_workers, without_failures_of_tasks
from flows.nights.cluster.memory import host_memory, more_memory, tell_gpu_memory
from flows.nights.cluster.security import security_of
from flows.nights.cluster.slurm import queue_state, slurm_cluster
from flows.nights.cluster.steady_clock import keep_steady
from flows.nights.cluster.warm_up import warm
from flows.nights.cluster.worker_check import WorkerTerms, require_admitted, task_call, worker_terms
from flows.pipeline.graph import OF_EXPOSURE
from flows.pipeline.models import models_of
from flows.runtime.log import log_as_json, run_name
from flows.runtime.traces import bound, start_traces, stop_traces, wanted
from flows.storage.holder import own_fence
from flows.storage.object_store import configure
from schemas.errors import BadInput, Misconfigured, NightstrideError
from schemas.settings import Settings
from stages import PIPELINE

keep_steady()  # in workers too: each loads this module

ANSWER_S = 60.0
"""How long an existing cluster may take to have a worker, s."""


@dataclass(frozen=True)
class Cluster:
    """Running cluster.

    Attributes
    ----------
    address, security
        Address of its scheduler, and certificates for the connection; None: not encrypted.
    workers
        Largest number of tasks that run at the same time.
    memory_bytes
        Memory per thread of its smallest worker, bytes.
    terms
        Conditions that workers must meet before each task; None: workers are forked from this program.
    """

    address: str
    workers: int
    memory_bytes: int
    security: Security | None = None
    terms: WorkerTerms | None = None

    def client(self, **options: Any) -> Client:
        """Return a new client, which does not become the default of the process."""
        return Client(self.address, security=self.security, set_as_default=False, **options)


@contextmanager
def cluster(settings: Settings, out: Path) -> Iterator[Cluster]:
    """Start the workers that the settings ask for, or connect to existing ones.

    Parameters
    ----------
    settings
        Sections ``cluster`` and ``execution``.
    out
        Output folder, which all workers must see.

    Raises
    ------
    Misconfigured
        The scheduler does not answer or has no workers; a worker has other software, cannot see the output folder, or
        no worker has a resource that tasks need; no job can be started; a certificate is unusable.
    """
    kind = settings.cluster.kind
    if kind == "local":
        with local_cluster(settings) as (address, security):
            yield Cluster(address, local_workers(settings), local_memory(settings), security)
    elif kind == "slurm":
        slurm = settings.cluster.slurm
        with slurm_cluster(settings.cluster) as (address, security), worker_terms(out, settings.store) as terms:
            joined = _joined(Cluster(address, 0, 0, security, terms), settings, slurm.start_timeout_s)
            yield Cluster(address, slurm.maximum_jobs * slurm.cores, joined.memory_bytes, security, terms)
    else:
        address = str(settings.cluster.address)
        with worker_terms(out, settings.store) as terms:
            yield _joined(Cluster(address, 0, 0, security_of(settings.cluster), terms), settings, ANSWER_S)


def warm_up_workers(running: Cluster, settings: Settings) -> None:
    """Load the models on every worker, including those that replace killed ones.

    Raises
    ------
    Misconfigured
        A model cannot be loaded.
    """
    with running.client() as client:
        client.register_plugin(Warm(settings, run_name(), wanted()))
        troubles = client.run(_trouble).values()
    for error in filter(None, troubles):
        raise error


def _trouble(dask_worker: Worker) -> Misconfigured | None:
    """Return the error of a worker's warm-up, if any."""
    plugin = dask_worker.plugins.get(Warm.name)
    return plugin.trouble if isinstance(plugin, Warm) else None


def _joined(running: Cluster, settings: Settings, patience_s: float) -> Cluster:
    """Wait for workers, check them, and return the cluster with their number and memory."""
    try:
        with running.client(timeout="10s") as client:
            client.wait_for_workers(1, timeout=patience_s)
            if running.terms is not None:
                require_admitted(client, running.terms)
            _wait_for_resources(client, settings, patience_s)
            limits = _memory_limits(client)
            workers = sum(client.nthreads().values())
            return Cluster(running.address, workers, min(limits), running.security, running.terms)
    except (OSError, TimeoutError) as error:
        raise _no_workers(running, settings, error) from error


def _no_workers(running: Cluster, settings: Settings, error: Exception) -> Misconfigured:
    if settings.cluster.kind == "slurm":
        waited = settings.cluster.slurm.start_timeout_s
        return Misconfigured(
            "slurm",
            "cluster.slurm",
            f"no worker within start_timeout_s = {waited:g} s; squeue: {queue_state()}.",
            "read the logs of the jobs in cluster.slurm.folder, ask for less, or wait longer.",
        )
    if "certificate" in str(error):
        return Misconfigured(
            "tls",
            "cluster.tls_ca",
            f"the certificate of {running.address} is not of the authority in {settings.cluster.tls_ca}.",
            "name the CA file that the scheduler was started with.",
        )
    return Misconfigured(
        "scheduler",
        running.address,
        f"no Dask scheduler with workers answers: {error}.",
        "start one there, correct --scheduler (tls://… if it was started with certificates, signed by the authority "
        "of ours), or leave it out for a cluster on this machine.",
    )


def _wait_for_resources(client: Client, settings: Settings, patience_s: float) -> None:
    """Wait for workers with the needed resources, which may join later than the first worker."""
    end = monotonic() + patience_s
    while True:
        try:
            return _require_resources(client, settings)
        except Misconfigured:
            if monotonic() > end:
                raise
            sleep(1)


def _require_resources(client: Client, settings: Settings) -> None:
    offered = {name for worker in _workers(client).values() for name in worker["resources"]}
    for field in ("inference_resource", "other_resource"):
        wanted = getattr(settings.cluster, field)
        if wanted is not None and wanted not in offered:
            raise Misconfigured(
                "resource",
                f"cluster.{field}",
                f"no worker offers {wanted!r}; offered: {', '.join(sorted(offered)) or 'nothing'}.",
                f"start workers with --resources '{wanted}=1'.",
            )


def _memory_limits(client: Client) -> list[int]:
    """Return the memory per thread of each worker, bytes; for a worker without a limit, that of its host."""
    workers = _workers(client)
    unlimited = [address for address, worker in workers.items() if not worker["memory_limit"]]
    hosts = client.run(host_memory, workers=unlimited) if unlimited else {}
    return [(hosts.get(at) or worker["memory_limit"]) // worker["nthreads"] for at, worker in workers.items()]


def _workers(client: Client) -> dict[str, Any]:
    return dict(client.scheduler_info(n_workers=-1)["workers"])


class Warm(WorkerPlugin):
    """Worker plugin: sets up logs and traces, and loads models and compiled code before the first task.

    Parameters
    ----------
    settings
        Settings of the run.
    run
        Name of the run in its JSON logs; None: logs are plain text.
    traced
        Whether to trace; spans go where the worker's own environment says.
    """

    name = "nightstride"

    def __init__(self, settings: Settings, run: str | None = None, traced: bool = False) -> None:
        self._settings, self._run, self._traced = settings, run, traced
        self.trouble: Misconfigured | None = None

    def setup(self, worker: Worker) -> None:
        """Set up a worker as it starts, including those that replace killed ones.

        The error of a model that cannot be loaded is kept as ``trouble``: Dask would log an exception raised here at
        length.
        """
        import torch

        if self._run is not None:
            log_as_json(self._run)
        if self._settings.cluster.kind == "local":
            without_failures_of_tasks()
        if self._traced:
            start_traces()
        tell_gpu_memory(worker)
        configure(self._settings.store)
        torch.set_num_threads(1)
        settings = self._here(worker)
        try:
            for stage in PIPELINE:
                if stage.per in OF_EXPOSURE:  # patch stages run last, and stages of whole nights run elsewhere
                    models_of(stage, settings)
        except Misconfigured as error:
            self.trouble = error
            return
        with suppress(NightstrideError):
            warm(settings)

    def teardown(self, worker: Worker) -> None:
        """Send the remaining spans."""
        stop_traces()

    def _here(self, worker: Worker) -> Settings:
        """Return the settings for this worker: one that runs no networks needs no GPU."""
        resource = self._settings.cluster.inference_resource
        if resource is None or resource in worker.state.total_resources:
            return self._settings
        detect = self._settings.detect.model_copy(update={"device": "cpu"})
        return self._settings.model_copy(update={"detect": detect})


class OnWorkers(Protocol):
    """Task that is called with the output folder and the settings."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Return the labels of its logs and traces; the last one tells its kind."""

    @property
    def name(self) -> str:
        """Return its name in messages."""

    def __call__(self, out: Path, settings: Settings) -> Any:
        """Return its result."""


Given = TypeVar("Given", bound=OnWorkers)


def on_workers(tasks: Iterable[Given], out: Path, settings: Settings, workers: Cluster) -> Iterator[tuple[Given, Any]]:
    """Yield each task with its result or its error, as soon as it is done.

    At most one more task than workers is submitted at a time.
    """
    fence, name = own_fence(out), settings.cluster.other_resource
    resources = {name: 1} if name is not None else None
    waiting, given, killed = iter(tasks), dict[Any, Given](), set[str]()
    with workers.client() as client:

        def submit(task: Given) -> Any:
            kind = [*task.labels][-1]
            with bound(task.labels):
                call = task_call(kind, _reaching_stores, fence, workers.terms)
            future = client.submit(*call, task, out, settings, key=f"{kind}-{uuid4().hex}", resources=resources)
            given[future.key] = task
            return future

        first = [submit(task) for task in islice(waiting, workers.workers + 1)]
        running = as_completed(first, loop=client.loop)
        for future in running:
            error, task = future.exception(), given.pop(future.key)
            if isinstance(error, KilledWorker) and task.name not in killed:
                # Tasks that only waited on a worker that died are suspects too: try once more.
                killed.add(task.name)
                running.add(submit(task))
                continue
            yield task, future.result() if error is None else _explained(task, error, settings)
            future.release()
            for following in islice(waiting, 1):
                running.add(submit(following))


def _reaching_stores(task: OnWorkers, out: Path, settings: Settings) -> Any:
    """Run a task in a worker that may not have been warmed up, after telling it how to reach object stores."""
    configure(settings.store)
    return task(out, settings)


def _explained(task: OnWorkers, error: Exception, settings: Settings) -> Exception:
    """Return the error of a task; a clearer one if the task killed its workers."""
    if not isinstance(error, KilledWorker):
        return error
    remedy = f"{more_memory(settings)}, or set a smaller patches.sources."
    return BadInput("killed_workers", task.name, "workers have died that had it.", remedy)

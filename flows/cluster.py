"""Where the work runs: a cluster of our own on this machine, or one that is there."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import dask
from distributed import Client, LocalCluster, WorkerPlugin
from distributed.worker import Worker

from flows.adapters.object_store import configure
from flows.exercise import exercise
from flows.graph import OF_EXPOSURE
from flows.memory import host_memory
from flows.model_cache import models_of
from flows.worker_server import MALLOC, METHOD, THREADS, start_worker_server
from schemas.errors import Misconfigured, NightstrideError
from schemas.settings import Settings
from stages import PIPELINE

WORKERS = {
    # Tasks are sized to fit (flows/memory.py) and nothing big stays on a worker, so there is nothing to spill; a paused
    # worker would wait for ever for memory that the allocator keeps.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.nanny.pre-spawn-environ": MALLOC,
    "distributed.worker.multiprocessing-method": METHOD,
}


GPU_CONTROL = Path("/dev/nvidiactl")
"""There if, and only if, this machine (or container) has a GPU that torch can use; looking costs nothing."""

GPU_HOST = 4 * 2**30
"""Generous: torch's CUDA build maps up to 3 GiB of libraries and context."""


PATIENCE = {"distributed.comm.timeouts.connect": "120s", "distributed.comm.timeouts.tcp": "300s"}
"""On a machine that is busy with other work, processes take longer to answer than Dask expects."""

CLOSE_S = 60.0
"""How long workers may take to close, s."""


@dataclass(frozen=True)
class Cluster:
    """A running cluster: where its scheduler is, how many workers it has, memory of the smallest, bytes."""

    address: str
    workers: int
    memory_bytes: int


@contextmanager
def cluster(settings: Settings) -> Iterator[Cluster]:
    """Start a cluster on this machine, or connect to the one in the settings.

    Raises
    ------
    Misconfigured
        The scheduler does not answer, or has no workers.
    """
    if settings.execution.scheduler is not None:
        yield _existing(settings.execution.scheduler)
        return
    start_worker_server()
    with dask.config.set(WORKERS | PATIENCE):
        local = LocalCluster(
            n_workers=local_workers(settings),
            threads_per_worker=1,
            processes=True,
            memory_limit=local_memory(settings) + gpu_host_bytes(settings),
            dashboard_address="127.0.0.1:0",  # None would take port 8787 or warn
            silence_logs=logging.CRITICAL,
            env=THREADS,
        )
        try:
            yield Cluster(local.scheduler_address, local_workers(settings), local_memory(settings))
        finally:
            # All results are published by now: workers that are slow to close end with this process.
            with suppress(TimeoutError, OSError):
                local.close(timeout=CLOSE_S)


def warm_up(running: Cluster, settings: Settings) -> None:
    """Have every worker load its models, those that replace killed ones too."""
    with Client(running.address, set_as_default=False) as client:
        client.register_plugin(Warm(settings))


def local_workers(settings: Settings) -> int:
    """Give the number of worker processes of a cluster of our own: one per core that this process may use."""
    return settings.execution.workers or len(os.sched_getaffinity(0))


def local_memory(settings: Settings) -> int:
    """Memory of a worker of a cluster of our own, bytes."""
    return int(settings.execution.worker_memory_gib * 2**30)


def gpu_host_bytes(settings: Settings) -> int:
    """Host memory that CUDA's libraries and context take in a worker that computes on a GPU, bytes; no task's share."""
    uses_gpu = settings.detect.device == "cuda" or (settings.detect.device == "auto" and GPU_CONTROL.exists())
    return GPU_HOST if uses_gpu else 0


def _existing(address: str) -> Cluster:
    try:
        with Client(address, set_as_default=False, timeout="10s") as client:
            client.wait_for_workers(1, timeout=60)
            limits = _memory_limits(client)
            return Cluster(address, sum(client.nthreads().values()), min(limits))
    except (OSError, TimeoutError) as error:
        raise Misconfigured(
            "scheduler",
            address,
            f"no Dask scheduler with workers answers: {error}.",
            "start one there, correct --scheduler, or leave it out for a cluster on this machine.",
        ) from error


def _memory_limits(client: Client) -> list[int]:
    """Memory of each worker, bytes; of one without a limit, the memory of its host."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    unlimited = [address for address, worker in workers.items() if not worker["memory_limit"]]
    hosts = client.run(host_memory, workers=unlimited) if unlimited else {}
    return [hosts.get(address) or worker["memory_limit"] for address, worker in workers.items()]


class Warm(WorkerPlugin):
    """Loads models and compiled code once per worker, before its first task."""

    name = "nightstride"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def setup(self, worker: Worker) -> None:
        """Run in each worker as it starts, and in those that replace killed ones."""
        import torch

        configure(self._settings.store)
        torch.set_num_threads(1)
        for stage in PIPELINE:
            if stage.per in OF_EXPOSURE:  # those of whole nights run elsewhere
                models_of(stage, self._settings)
        with suppress(NightstrideError):
            exercise(self._settings)

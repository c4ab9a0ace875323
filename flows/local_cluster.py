"""Workers on this machine, which end with the run."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dask
from distributed import LocalCluster

from flows.dask_log import warnings_alone
from flows.worker_config import PATIENCE, WORKERS
from flows.worker_server import MALLOC, METHOD, THREADS, start_worker_server
from schemas.settings import Settings

GPU_CONTROL = Path("/dev/nvidiactl")
"""There if, and only if, this machine (or container) has a GPU that torch can use; looking costs nothing."""

GPU_HOST = 4 * 2**30
"""Generous: torch's CUDA build maps up to 3 GiB of libraries and context."""

CLOSE_S = 60.0
"""How long workers may take to close, s."""


@contextmanager
def local_cluster(settings: Settings) -> Iterator[str]:
    """Start workers on this machine; give the address of their scheduler."""
    start_worker_server()
    own = {
        "distributed.nanny.pre-spawn-environ": MALLOC,
        "distributed.worker.multiprocessing-method": METHOD,
        # What scheduler and workers remember of tasks that are over: a stream has no end, and nobody reads it.
        "distributed.admin.log-length": 100,
        "distributed.admin.low-level-log-length": 100,
    }
    with dask.config.set({**WORKERS, **PATIENCE, **own}), warnings_alone():
        local = LocalCluster(
            n_workers=local_workers(settings),
            threads_per_worker=1,
            processes=True,
            memory_limit=local_memory(settings) + gpu_host_bytes(settings),
            dashboard_address="127.0.0.1:0",  # None would take port 8787 or warn
            silence_logs=logging.WARNING,
            env=THREADS,
        )
        try:
            yield local.scheduler_address
        finally:
            # All results are published by now: workers that are slow to close end with this process.
            with suppress(TimeoutError, OSError):
                local.close(timeout=CLOSE_S)


def local_workers(settings: Settings) -> int:
    """Give the number of worker processes: one per core that this process may use."""
    return settings.execution.workers or len(os.sched_getaffinity(0))


def local_memory(settings: Settings) -> int:
    """Memory of a worker, bytes."""
    return int(settings.execution.worker_memory_gib * 2**30)


def gpu_host_bytes(settings: Settings) -> int:
    """Host memory that CUDA's libraries and context take in a worker that computes on a GPU, bytes; no task's share."""
    uses_gpu = settings.detect.device == "cuda" or (settings.detect.device == "auto" and GPU_CONTROL.exists())
    return GPU_HOST if uses_gpu else 0

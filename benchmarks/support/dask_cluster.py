"""Dask cluster as an operator starts it: scheduler and workers, each in a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from distributed import Client

from flows.nights.cluster.local import environment

PATIENCE_S = 600.0
"""How long processes may take to start on a busy machine, s."""

SHORT_LOGS = {"DASK_DISTRIBUTED__ADMIN__LOG_LENGTH": "100", "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "100"}
"""As in `flows.nights.cluster.local`: until the log of tasks is full, its growth looks like a leak."""


@dataclass(frozen=True)
class DaskCluster:
    """Address of the scheduler, and processes: of the scheduler, and of all workers."""

    address: str
    scheduler: int
    workers: int

    def counts(self) -> dict[str, int]:
        """Return how often tasks of each kind came to their end on a worker."""
        with Client(self.address, set_as_default=False) as client:
            return dict(client.run_on_scheduler(_finished))


def _finished(dask_scheduler):
    return {name: kind.state_counts["memory"] for name, kind in dask_scheduler.task_prefixes.items()}


@contextmanager
def dask_cluster(folder: Path, workers: int) -> Iterator[DaskCluster]:
    """Start a scheduler and workers of one thread each; they end with the block.

    Raises
    ------
    TimeoutError
        They do not start.
    """
    known = folder / "scheduler.json"
    with ExitStack() as stack:
        options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(known))
        scheduler = stack.enter_context(_running(folder, "scheduler", *options))
        end = time.monotonic() + PATIENCE_S
        while not known.exists():
            if time.monotonic() > end or scheduler.poll() is not None:
                raise TimeoutError((folder / "scheduler.log").read_text())
            time.sleep(0.1)
        size = ("--nworkers", str(workers), "--nthreads", "1", "--memory-limit", "3GiB", "--no-dashboard")
        place = ("--scheduler-file", str(known), "--local-directory", str(folder))
        started = stack.enter_context(_running(folder, "worker", *size, *place))
        with Client(scheduler_file=str(known), set_as_default=False, timeout=PATIENCE_S) as client:
            client.wait_for_workers(workers, timeout=PATIENCE_S)
            address = client.scheduler_info()["address"]
        yield DaskCluster(address, scheduler.pid, started.pid)


@contextmanager
def _running(folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment(), **SHORT_LOGS},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)

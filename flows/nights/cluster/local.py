"""Local workers, which end with the run, and the process that they are forked from.

A worker started by itself takes 4 s of processor time to import its libraries. Forked workers, including those that
replace killed ones, have them at once and share their memory, with compiled code and the default models. The process
that they are forked from computes with a single thread, because a fork loses the threads of numba, BLAS and torch.
"""

import atexit
import logging
import multiprocessing
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from pathlib import Path
from signal import SIGKILL
from stat import S_IFDIR, S_ISGID
from tempfile import gettempdir, mkdtemp
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed.security import Security

    from schemas.settings import Settings

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""How worker processes are started."""

THREADS = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"), "1"
)
"""One thread per worker process: workers x threads never exceeds the number of cores."""

MALLOC = {
    # With Dask's own value, 64 KiB, every activation of the network is returned to the kernel and fetched again, page
    # by page, which takes half of the search time.
    "MALLOC_TRIM_THRESHOLD_": str(2**27),
    "MALLOC_MMAP_THRESHOLD_": str(2**26),
    # A worker computes in a thread. The memory that the allocator keeps for one other than the first comes in pieces of
    # 64 MiB, too small for a second image, and goes back whenever a piece is empty.
    "MALLOC_ARENA_MAX": "1",
}
"""Settings of the memory allocator, which reads them when a process starts."""

FORKED = {**THREADS, **MALLOC, "NUMBA_THREADING_LAYER": "workqueue"}
"""Environment of the process that workers are forked from. OpenMP ends a process that uses it both before and after a
fork; with one thread all threading layers of numba are equivalent."""

_MODULES = ["flows.nights.cluster.worker_imports", "flows.cli.app"]
"""The second is imported by the script of the command, which multiprocessing runs again in each process."""


def start_worker_server() -> None:
    """Start importing what workers need, and return at once. A second call does nothing.

    Notes
    -----
    The environment is set while the process starts, because libraries read it when imported; it is restored afterwards,
    because numba would read it in this process too.
    """
    if METHOD == "forkserver":
        before = {name: os.environ.get(name) for name in FORKED}
        os.environ.update(FORKED)
        try:
            multiprocessing.get_context(METHOD).set_forkserver_preload(_MODULES)
            forkserver.ensure_running()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


@atexit.register
def _end_worker_server() -> None:
    """Kill that process: ending normally takes it a quarter of a second, during which it holds our output open."""
    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, SIGKILL)


NOTHING_BY_HTTP: dict[str, list[str]] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
"""Routes of Dask's HTTP servers: none, since they ask for no keys."""

WORKERS = {
    # Tasks are sized to fit (flows/nights/cluster/memory.py) and workers keep nothing large, so there is nothing to
    # spill; a paused worker would wait forever for memory that the allocator keeps.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    # How often each process checks that it still responds. Dask's 20 ms cost 1.6 % of a core in every scheduler, worker
    # and nanny.
    "distributed.admin.tick.interval": "500ms",
    # Dask looks every 10 ms at what each worker does, for a page that our schedulers do not have: 3 to 4 % of a core in
    # a worker that waits, and 15 to 20 % of the time of a task in Python.
    "distributed.worker.profile.enabled": False,
}

PATIENCE = {"distributed.comm.timeouts.connect": "120s", "distributed.comm.timeouts.tcp": "300s"}
"""On a busy machine, processes take longer to answer than Dask expects."""


def environment() -> dict[str, str]:
    """Return the environment for workers started by somebody else: threads, allocator, and `WORKERS` for Dask."""
    dask = {f"DASK_{name.replace('.', '__').replace('-', '_').upper()}": str(value) for name, value in WORKERS.items()}
    return {**THREADS, **MALLOC, **dask}


def exports() -> list[str]:
    """Return `environment` as lines of a shell script."""
    return [f"export {name}={shlex.quote(value)}" for name, value in environment().items()]


@contextmanager
def warnings_alone() -> Iterator[None]:
    """Keep Dask's info messages in this process off the terminal, including those at its end.

    The level is set on the logger, since Dask only silences its own handlers and Prefect may have added another.
    """
    log = logging.getLogger("distributed")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)


def without_failures_of_tasks() -> None:
    """Keep failed and cancelled tasks and the end of the scheduler out of the log of this worker.

    The command reports each failure itself, and the scheduler of local workers only ends with the command.
    """
    for name in ("distributed.worker", "distributed.worker.state_machine"):
        log = logging.getLogger(name)
        if _is_news not in log.filters:
            log.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    from distributed.comm import CommClosedError

    if str(record.msg).startswith("Failed to communicate with scheduler"):
        return not (record.exc_info and isinstance(record.exc_info[1], CommClosedError))
    return not str(record.msg).startswith(("Compute Failed", "Async instruction for"))


GPU_CONTROL = Path("/dev/nvidiactl")
"""Exists if, and only if, this machine or container has a GPU that torch can use; checking costs nothing."""

GPU_HOST = 4 * 2**30
"""Host memory allowed for torch's CUDA libraries and context, which take up to 3 GiB."""

CLOSE_S = 60.0
"""How long workers may take to close, s."""


@contextmanager
def local_cluster(settings: "Settings") -> Iterator[tuple[str, "Security"]]:
    """Start workers on this machine; yield the address of their scheduler and the keys to it.

    A scheduler runs whatever it is sent, and other users of the machine can connect to its port. So connections are
    encrypted with keys of this run that no other user can read, nothing is served by HTTP, and Dask's files, including
    locks, are in a private folder.
    """
    import dask
    import distributed.utils
    from distributed import LocalCluster

    from flows.nights.cluster.security import temporary_security

    start_worker_server()
    # Dask would now import pandas and more for the process that workers are forked from, which already runs.
    distributed.utils._forkserver_preload_set = True
    own = {
        "distributed.nanny.pre-spawn-environ": MALLOC,
        "distributed.worker.multiprocessing-method": METHOD,
        # How many finished tasks scheduler and workers remember: a stream has no end, and nobody reads this.
        "distributed.admin.log-length": 100,
        "distributed.admin.low-level-log-length": 100,
        **NOTHING_BY_HTTP,
    }
    security = temporary_security()
    with dask.config.set({**WORKERS, **PATIENCE, **own, "temporary-directory": str(_scratch())}), warnings_alone():
        local = LocalCluster(
            n_workers=local_workers(settings),
            threads_per_worker=1,
            processes=True,
            memory_limit=local_memory(settings) + gpu_host_bytes(settings),
            dashboard_address="127.0.0.1:0",  # None would take port 8787 or warn
            scheduler_kwargs={"dashboard": False},  # unused, and its bokeh takes a second to import
            silence_logs=logging.WARNING,
            env=THREADS,
            security=security,
        )
        try:
            yield local.scheduler_address, security
        finally:
            # All results are published by now: workers that are slow to close are ended with this process.
            with suppress(TimeoutError, OSError):
                local.close(timeout=CLOSE_S)


def _scratch() -> Path:
    """Return a folder that no other user can enter; Dask removes the leftovers of killed runs at its next start."""
    path = Path(gettempdir()) / f"nightstride-{os.getuid()}"
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    # The setgid bit may be inherited from the parent folder.
    if (found.st_uid, found.st_mode & ~S_ISGID) == (os.getuid(), S_IFDIR | 0o700):
        return path
    return Path(mkdtemp(prefix="nightstride-"))  # another user made it first


def local_workers(settings: "Settings") -> int:
    """Return the number of worker processes: by default one per core available to this process and its container."""
    from dask.system import cpu_count

    return settings.execution.workers or cpu_count()


def local_memory(settings: "Settings") -> int:
    """Return the memory of each worker, bytes."""
    return int(settings.execution.worker_memory_gib * 2**30)


def uses_gpu(settings: "Settings") -> bool:
    """Return whether workers on this machine search on a GPU."""
    return settings.detect.device == "cuda" or (settings.detect.device == "auto" and GPU_CONTROL.exists())


def gpu_host_bytes(settings: "Settings") -> int:
    """Return the host memory of CUDA's libraries and context in a GPU worker, bytes; no task can use it."""
    return GPU_HOST if uses_gpu(settings) else 0


if __name__ == "__main__":
    print(*exports(), sep="\n")

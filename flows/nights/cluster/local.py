"""Workers on this machine, which end with the run.

The process that workers are forked from: it imports what they need once for all of them.
A worker that starts by itself takes 4 s of processor time to import its libraries. One that is forked has them at once,
also one that replaces a killed worker, and they share the memory, with compiled code and the default models. This
process computes with one thread, so that numba, BLAS and torch have none to lose when it is forked.
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
"""One thread per worker process: workers x threads never exceeds the cores."""

MALLOC = {
    # Dask's own value of the first, 64 KiB, gives every activation of the network back to the kernel and fetches it
    # again, page by page: half of the time of the search.
    "MALLOC_TRIM_THRESHOLD_": str(2**27),
    "MALLOC_MMAP_THRESHOLD_": str(2**26),
}
"""Environment of the allocator, which reads it when a process starts."""

FORKED = {**THREADS, **MALLOC, "NUMBA_THREADING_LAYER": "workqueue"}
"""Environment of the process that workers are forked from. OpenMP ends a process that uses it before and after a fork;
with one thread all of numba's layers are the same."""

_MODULES = ["flows.nights.cluster.worker_imports", "flows.cli.app"]
"""The second is what the script of the command imports: multiprocessing runs that again in each process."""


def start_worker_server() -> None:
    """Start importing what workers need; returns at once. A second call does nothing.

    Notes
    -----
    What the libraries of a worker read while they are imported has to be in the environment before: it is set while
    the process starts, and as it was afterwards, because numba would read it here too.
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
    """End that process at once: it would clear its modules for a quarter of a second, and hold our output open."""
    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, SIGKILL)


NOTHING_BY_HTTP: dict[str, list[str]] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
"""Dask's servers of HTTP, which ask for no keys, have no pages."""

WORKERS = {
    # Tasks are sized to fit (flows/nights/cluster/memory.py) and nothing big stays on a worker, so there is nothing to
    # spill; a paused worker would wait for ever for memory that the allocator keeps.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    # How often each process asks itself whether it still answers. At Dask's 20 ms that takes 1.6 % of a core of every
    # scheduler, worker and nanny for nothing.
    "distributed.admin.tick.interval": "500ms",
}

PATIENCE = {"distributed.comm.timeouts.connect": "120s", "distributed.comm.timeouts.tcp": "300s"}
"""On a machine that is busy with other work, processes take longer to answer than Dask expects."""


def environment() -> dict[str, str]:
    """Return the environment of a worker that somebody else starts: threads, allocator, and Dask's settings above."""
    dask = {f"DASK_{name.replace('.', '__').replace('-', '_').upper()}": str(value) for name, value in WORKERS.items()}
    return {**THREADS, **MALLOC, **dask}


def exports() -> list[str]:
    """Return `environment` as lines of a shell script."""
    return [f"export {name}={shlex.quote(value)}" for name, value in environment().items()]


@contextmanager
def warnings_alone() -> Iterator[None]:
    """Keep Dask's infos in this process off the terminal, also those of its end.

    Set on the logger: Dask silences its own handlers, and Prefect may have put one elsewhere.
    """
    log = logging.getLogger("distributed")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)


def without_failures_of_tasks() -> None:
    """Keep failures of tasks, tasks given up and the end of the scheduler out of the log of this worker.

    The command reports each failure, and the scheduler of local workers ends with it alone.
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
"""There if, and only if, this machine (or container) has a GPU that torch can use; looking costs nothing."""

GPU_HOST = 4 * 2**30
"""Generous: torch's CUDA build maps up to 3 GiB of libraries and context."""

CLOSE_S = 60.0
"""How long workers may take to close, s."""


@contextmanager
def local_cluster(settings: "Settings") -> Iterator[tuple[str, "Security"]]:
    """Start workers on this machine; yield the address of their scheduler and the keys to it.

    A scheduler runs what it is sent, and other users of the machine can connect to its port: connections are encrypted,
    with keys of this run that no other user can read, and nothing is served by HTTP. What Dask keeps on disk, locks
    among it, lies in a folder of ours alone.
    """
    import dask
    import distributed.utils
    from distributed import LocalCluster

    from flows.nights.cluster.security import temporary_security

    start_worker_server()
    # Dask would import pandas here, among others, for the process that workers are forked from, which runs already.
    distributed.utils._forkserver_preload_set = True
    own = {
        "distributed.nanny.pre-spawn-environ": MALLOC,
        "distributed.worker.multiprocessing-method": METHOD,
        # What scheduler and workers remember of tasks that are over: a stream has no end, and nobody reads it.
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
            scheduler_kwargs={"dashboard": False},  # nobody looks at it, and its bokeh takes a second to import
            silence_logs=logging.WARNING,
            env=THREADS,
            security=security,
        )
        try:
            yield local.scheduler_address, security
        finally:
            # All results are published by now: workers that are slow to close end with this process.
            with suppress(TimeoutError, OSError):
                local.close(timeout=CLOSE_S)


def _scratch() -> Path:
    """Return a folder that no other user can enter; what a killed run left there, Dask removes at the next start."""
    path = Path(gettempdir()) / f"nightstride-{os.getuid()}"
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    # Where files have the group of their folder, it has a bit that says so.
    if (found.st_uid, found.st_mode & ~S_ISGID) == (os.getuid(), S_IFDIR | 0o700):
        return path
    return Path(mkdtemp(prefix="nightstride-"))  # somebody else was there first


def local_workers(settings: "Settings") -> int:
    """Return the number of worker processes: one per core that this process may use, and that its container has."""
    from dask.system import cpu_count

    return settings.execution.workers or cpu_count()


def local_memory(settings: "Settings") -> int:
    """Return the memory of a worker, bytes."""
    return int(settings.execution.worker_memory_gib * 2**30)


def uses_gpu(settings: "Settings") -> bool:
    """Return whether workers on this machine search on a GPU."""
    return settings.detect.device == "cuda" or (settings.detect.device == "auto" and GPU_CONTROL.exists())


def gpu_host_bytes(settings: "Settings") -> int:
    """Return the host memory of CUDA's libraries and context in a worker with a GPU, bytes; it belongs to no task."""
    return GPU_HOST if uses_gpu(settings) else 0


if __name__ == "__main__":
    print(*exports(), sep="\n")

"""The process that workers are forked from: it imports what they need once for all of them.

A worker that starts by itself takes 4 s of processor time to import its libraries. One that is forked has them at once,
also one that replaces a killed worker, and they share the memory. Nothing is computed in this process, so that numba,
BLAS and torch have no threads to lose when it is forked.
"""

import multiprocessing
import os
import sys
from multiprocessing import forkserver

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

_MODULES = ["flows.cli", "flows.cluster", "flows.exposure_work", "flows.ingest", "torch"]


def start_worker_server() -> None:
    """Begin to import what workers need; returns at once. A second call does nothing.

    Notes
    -----
    What the libraries of a worker read while they are imported has to be in the environment before: it is set while
    the process starts, and as it was afterwards, because numba would read it here too.
    """
    if METHOD == "forkserver":
        before = {name: os.environ.get(name) for name in THREADS | MALLOC}
        os.environ.update(THREADS | MALLOC)
        try:
            multiprocessing.get_context(METHOD).set_forkserver_preload(_MODULES)
            forkserver.ensure_running()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

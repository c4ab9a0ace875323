"""How Dask's workers are set for our work, wherever they start."""

import shlex

from flows.worker_server import MALLOC, THREADS

WORKERS = {
    # Tasks are sized to fit (flows/memory.py) and nothing big stays on a worker, so there is nothing to spill; a paused
    # worker would wait for ever for memory that the allocator keeps.
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
    """Give the environment of a worker that somebody else starts: threads, allocator, and Dask's settings above."""
    dask = {f"DASK_{name.replace('.', '__').replace('-', '_').upper()}": str(value) for name, value in WORKERS.items()}
    return {**THREADS, **MALLOC, **dask}


def exports() -> list[str]:
    """Give `environment` as lines of a shell script."""
    return [f"export {name}={shlex.quote(value)}" for name, value in environment().items()]


if __name__ == "__main__":
    print(*exports(), sep="\n")

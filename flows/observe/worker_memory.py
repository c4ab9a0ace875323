"""Memory of the workers of a cluster, asked for when it is looked at."""

from collections.abc import Iterable
from typing import Any

from distributed import Client
from distributed.worker import Worker
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

GPU = "nightstride_gpu_memory"
"""What workers call the memory of their GPU when they tell their scheduler."""

ANSWER_S = 3.0
"""How long the scheduler may take to answer, s: figures without those of the workers are better than none."""


class WorkerMemory(Collector):
    """Memory, its limit and GPU memory of each worker, as the workers told their scheduler last."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def describe(self) -> Iterable[Metric]:
        """Give nothing: names are known when somebody asks."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Ask the scheduler."""
        scheduler = self._client.scheduler
        if scheduler is None:  # connections are closed
            return
        try:
            found = self._client.sync(scheduler.identity, n_workers=-1, callback_timeout=ANSWER_S)
        except (OSError, TimeoutError):
            return
        yield from families(found["workers"])


def families(workers: dict[str, Any]) -> Iterable[Metric]:
    """Turn what a scheduler says of its workers into figures; GPU memory only if a worker has told any."""
    yield GaugeMetricFamily("nightstride_workers", "Workers that there are.", len(workers))
    memory = GaugeMetricFamily("nightstride_worker_memory_bytes", "Resident memory of a worker.", labels=["worker"])
    limit = GaugeMetricFamily(
        "nightstride_worker_memory_limit_bytes", "At which a worker is restarted.", labels=["worker"]
    )
    gpu = GaugeMetricFamily(
        "nightstride_worker_gpu_memory_bytes", "GPU memory that torch holds for a worker.", labels=["worker"]
    )
    for worker in workers.values():
        name, told = [str(worker["name"])], worker["metrics"]
        memory.add_metric(name, told["memory"])
        if worker["memory_limit"]:
            limit.add_metric(name, worker["memory_limit"])
        if told.get(GPU) is not None:
            gpu.add_metric(name, told[GPU])
    yield memory
    yield limit
    if gpu.samples:
        yield gpu


def tell_gpu_memory(worker: Worker) -> None:
    """Let a worker tell its scheduler how much GPU memory torch holds, if it has a GPU."""
    import torch

    if torch.cuda.is_available():
        worker.metrics[GPU] = lambda _: torch.cuda.memory_reserved()  # 0 before torch has used it

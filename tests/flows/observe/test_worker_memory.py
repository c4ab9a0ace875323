from types import SimpleNamespace

import pytest
import torch
from distributed import Client, LocalCluster
from prometheus_client import CollectorRegistry

from flows.observe.worker_memory import GPU, WorkerMemory, families, tell_gpu_memory

GIB = 2**30


def samples(workers):
    return {
        (sample.name.removeprefix("nightstride_"), sample.labels.get("worker")): sample.value
        for family in families(workers)
        for sample in family.samples
    }


def worker(name, memory, limit=2 * GIB, **metrics):
    return {"name": name, "memory_limit": limit, "metrics": {"memory": memory, **metrics}}


def test_each_worker_has_its_memory_and_limit_and_gpu_memory_only_where_there_is_any():
    found = samples({"tcp://a": worker(0, 5, limit=0), "tcp://b": worker("gpu", 7, **{GPU: 3})})
    assert found == {
        ("workers", None): 2, ("worker_memory_bytes", "0"): 5, ("worker_memory_bytes", "gpu"): 7,
        ("worker_memory_limit_bytes", "gpu"): 2 * GIB, ("worker_gpu_memory_bytes", "gpu"): 3,
    }  # fmt: skip
    without = [family.name for family in families({"tcp://a": worker(0, 5)})]
    assert "nightstride_worker_gpu_memory_bytes" not in without


def test_a_worker_tells_of_its_gpu_if_it_has_one(monkeypatch):
    plain = SimpleNamespace(metrics={})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    tell_gpu_memory(plain)
    assert plain.metrics == {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 5 * GIB)
    tell_gpu_memory(plain)
    assert plain.metrics[GPU](plain) == 5 * GIB


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_is_asked_and_one_that_is_gone_gives_nothing():
    registry = CollectorRegistry()
    with LocalCluster(n_workers=2, processes=False, dashboard_address=None, memory_limit=GIB) as cluster:
        client = Client(cluster.scheduler_address, set_as_default=False)
        registry.register(WorkerMemory(client))
        found = {sample.name: sample.value for family in registry.collect() for sample in family.samples}
        assert found["nightstride_workers"] == 2
        assert found["nightstride_worker_memory_bytes"] > 0
        assert found["nightstride_worker_memory_limit_bytes"] == GIB
        client.close()
    assert list(registry.collect()) == []

import pytest
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT

from flows import cluster as module
from flows.cluster import THREADS, Warm, cluster, gpu_host_bytes, local_workers
from schemas.errors import Misconfigured
from schemas.settings import DetectSettings, ExecutionSettings, Settings


def looks():
    """What a task sees of its worker: threads, and whether models are loaded."""
    import os

    import numba
    import torch

    from flows.model_cache import _loaded

    given = {name: os.environ.get(name) for name in THREADS}
    return given, torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS, _loaded.cache_info().currsize


def test_a_worker_has_one_thread_of_everything_and_warm_models():
    settings = Settings(execution=ExecutionSettings(workers=1, worker_memory_gib=1.25))
    with cluster(settings) as running, Client(running.address, set_as_default=False) as client:
        assert (running.workers, running.memory_bytes) == (1, 1.25 * 2**30)
        client.register_plugin(Warm(settings))
        given, torch_threads, numba_threads, models = client.submit(looks).result()
        assert given == THREADS
        assert (torch_threads, numba_threads, models) == (1, 1, 2)
        with cluster(Settings(execution=ExecutionSettings(scheduler=running.address))) as existing:
            assert (existing.address, existing.workers) == (running.address, 1)
            assert existing.memory_bytes >= 1.25 * 2**30


def test_a_worker_without_a_limit_has_the_memory_of_its_host():
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0") as made,
        cluster(Settings(execution=ExecutionSettings(scheduler=made.scheduler_address))) as existing,
    ):
        assert existing.memory_bytes == MEMORY_LIMIT > 2**30


def test_one_worker_per_core_unless_told(monkeypatch):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda pid: {0, 1, 2})
    assert local_workers(Settings()) == 3
    assert local_workers(Settings(execution=ExecutionSettings(workers=7))) == 7


def test_room_for_cuda_where_it_is_used(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "GPU_CONTROL", tmp_path / "nvidiactl")
    assert gpu_host_bytes(Settings()) == 0
    assert gpu_host_bytes(Settings(detect=DetectSettings(device="cuda"))) > 0
    (tmp_path / "nvidiactl").touch()
    assert gpu_host_bytes(Settings()) > 0
    assert gpu_host_bytes(Settings(detect=DetectSettings(device="cpu"))) == 0


def test_a_scheduler_that_does_not_answer_is_named():
    settings = Settings(execution=ExecutionSettings(scheduler="tcp://127.0.0.1:9"))
    with pytest.raises(Misconfigured, match=r"tcp://127.0.0.1:9: no Dask scheduler.*To fix"), cluster(settings):
        pass

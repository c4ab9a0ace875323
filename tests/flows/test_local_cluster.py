from flows import local_cluster as module
from flows.local_cluster import gpu_host_bytes, local_workers
from schemas.settings import DetectSettings, ExecutionSettings, Settings


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

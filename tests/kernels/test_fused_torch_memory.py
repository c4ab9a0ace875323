import json

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import kernels.fused_torch_memory as memory
from kernels.fused_torch import TorchSearch
from tests.kernels.torch_support import lively_net


def peak_bytes(search, image, usable, grid, stride, trace):
    """Most that torch holds at a time on the processor beyond what it held before."""
    there = torch.from_numpy(image), torch.from_numpy(usable)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        search.score(*there, 0.0, grid, stride)
    profiler.export_chrome_trace(str(trace))
    events = [one for one in json.loads(trace.read_text())["traceEvents"] if one["name"] == "[memory]"]
    held = [one["args"]["Total Allocated"] for one in sorted(events, key=lambda one: one["ts"])]
    return max(held) - held[0]


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("stride", [7, 13])
def test_chunks_stay_below_the_budget(bands, stride, tmp_path, monkeypatch):
    _, fused = lively_net(bands)
    image = np.random.default_rng(0).normal(0, 5, (bands, 700, 520)).astype(np.float32)
    grid = ((700 - 26) // stride + 1, (520 - 26) // stride + 1)
    monkeypatch.setattr(memory, "PROCESSOR", 40 * 2**20)
    search = TorchSearch(fused, torch.device("cpu"), batch=64)
    assert 1 < memory.chunk_rows(fused, search.device, grid[1], 520, stride) < grid[0]
    peak = peak_bytes(search, image, np.ones((700, 520), bool), grid, stride, tmp_path / "trace.json")
    assert 0.3 * memory.PROCESSOR < peak < memory.PROCESSOR


def test_one_row_at_least(monkeypatch):
    monkeypatch.setattr(memory, "PROCESSOR", 1)
    assert memory.chunk_rows(lively_net()[1], torch.device("cpu"), 400, 3000, 7) == 1


def test_more_memory_takes_more_rows(monkeypatch):
    _, fused = lively_net()
    free = [2**30, 2**32, 2**40]
    rows = []
    for each in free:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, each=each: (each, 2 * each))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
        rows.append(memory.chunk_rows(fused, torch.device("cuda"), 568, 4000, 7))
    assert rows[0] < rows[1] < rows[2]
    used = rows[2] * (568 * memory.window_bytes(fused) + 7 * 4000 * memory.pixel_bytes(fused))
    assert used <= memory.LARGEST


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_chunks_stay_below_the_budget_on_a_gpu(monkeypatch):
    monkeypatch.setattr(memory, "LARGEST", 200 * 2**20)
    _, fused = lively_net()
    device = torch.device("cuda")
    search = TorchSearch(fused, device, batch=64)
    image, usable = torch.randn(1, 3000, 3000, device=device), torch.ones(3000, 3000, dtype=torch.bool, device=device)
    search.score(image, usable, 0.0, (425, 425), 7)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    search.score(image, usable, 0.0, (425, 425), 7)
    assert torch.cuda.max_memory_allocated(device) - before < memory.LARGEST

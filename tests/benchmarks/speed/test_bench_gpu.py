import json

import numpy as np
import pytest
import torch

from benchmarks.speed import bench_gpu
from benchmarks.speed.bench_gpu import DETECTORS, SHAPE, images, measure, parse
from kernels.search.torch_search import TorchSearch
from kernels.search.windows import MARGIN
from tests.support.torch_nets import lively_net


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_tiny_visit_on_the_processor(precision):
    words = ["--detectors", "2", "--different", "2", "--height", "180", "--width", "200", "--repeats", "1"]
    found = measure(parse([*words, "--device", "cpu", "--precision", precision]))
    json.dumps(found)
    assert found["windows"] == 2 * 23 * 25
    assert found["multiply_adds_per_window"] == 563_440
    assert min(found[name] for name in ("copy_s", "compute_s", "total_s", "gemm_limit_s")) > 0
    assert found["windows_per_s"] == found["windows"] / found["total_s"]
    assert found["same_hits"]
    assert found["p99_dprob"] < (1e-6 if precision == "float32" else 1e-3)
    assert found["max_dlogit_near_floor"] < (1e-4 if precision == "float32" else MARGIN / 4)


def test_images_are_on_the_device_before_the_search_alone_is_timed(monkeypatch):
    done = []
    for name in ("upload", "on_device"):
        real = getattr(bench_gpu, name)
        monkeypatch.setattr(bench_gpu, name, lambda *given, name=name, real=real: done.append(name) or real(*given))
    search = TorchSearch(lively_net()[1], torch.device("cpu"))
    assert bench_gpu.score_seconds(search, images((60, 60), 2), 3) > 0
    assert done == ["upload", "on_device"]


def test_the_whole_visit_is_rubins():
    chosen = parse([])
    assert (chosen.detectors, chosen.height, chosen.width) == (DETECTORS, *SHAPE) == (189, 4072, 4000)
    assert 189 * ((4072 - 26) // 7 + 1) * ((4000 - 26) // 7 + 1) == 62_156_808


def test_images_are_noise_with_sources_and_masks():
    first, second = images((300, 400), 2)
    assert not np.array_equal(first.image, second.image)
    assert np.median(first.image) == pytest.approx(3, abs=0.5)
    assert first.image.max() > 50
    assert 0.001 < (~first.usable).mean() < 0.05

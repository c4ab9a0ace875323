"""Search of a visit of a large camera on a GPU: `python -m benchmarks.speed.bench_gpu`. Prints one JSON object.

Noise images with stars, trails and masks lie in host memory, a few different ones by turns until the visit is full
(Rubin: 189 detectors of 4072 x 4000 px, 62 million windows). Measured, each over the whole visit: copies alone, search
alone with the images on the device already, and both in turns, log odds back on
the host. The limit is what the linear layers' 563,440 multiply-adds a window take at the rate of the machine's best
large matrix product.
"""

import argparse
import json
import resource
from collections.abc import Iterator
from itertools import cycle, islice
from multiprocessing import get_context
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import expit, logit

from flows.pipeline.models import load_model
from flows.training.bench.ways import on_device, square_rate
from kernels.image.search_image import Places, SearchImage
from kernels.nets.streak_net import CELL
from kernels.search.detector import WindowScorer, choose_device
from kernels.search.fused_net import fuse
from kernels.search.torch_search import TorchSearch
from schemas.pixels import Tiling
from schemas.settings import DetectSettings

DETECTORS, SHAPE = 189, (4072, 4000)
STRIDE = 7


class HostImage(NamedTuple):
    """Image in host memory: pixels (bands, ny, nx), which of them count, background, and its grid of windows."""

    image: NDArray[np.float32]
    usable: NDArray[np.bool_]
    background: float
    grid: tuple[int, int]


def images(shape: tuple[int, int], count: int, seed: int = 1) -> list[HostImage]:
    """Return images of noise 5 on background 3, a star or trail of 3 to 40 px per 30,000 px, and 1 % masked."""
    return [_image(shape, np.random.default_rng((seed, number))) for number in range(count)]


def _image(shape: tuple[int, int], rng: np.random.Generator) -> HostImage:
    sources = np.zeros(shape, np.float32)
    for _ in range(max(1, shape[0] * shape[1] // 30_000)):
        length, angle = rng.choice([1.0, rng.uniform(3, 40)]), rng.uniform(0, np.pi)
        along = np.arange(0, length, 0.5)
        y = np.clip(rng.uniform(0, shape[0]) + along * np.sin(angle), 0, shape[0] - 1).astype(int)
        x = np.clip(rng.uniform(0, shape[1]) + along * np.cos(angle), 0, shape[1] - 1).astype(int)
        np.add.at(sources, (y, x), rng.pareto(1.0) * 200 / len(along))
    noise = rng.standard_normal(shape, np.float32)
    pixels = 5 * noise + gaussian_filter(sources, 1.2) * 8 + np.float32(3)
    usable = gaussian_filter(rng.standard_normal(shape, np.float32), 3.0) < 0.22
    return HostImage(pixels[None].astype(np.float32), usable, 3.0, Tiling(shape).grid)


def copy_all(visit: Iterator[HostImage], device: torch.device) -> None:
    """Copy every image into page-locked memory and on, one after the other."""
    staged: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = {}
    for one in visit:
        for values in (one.image, one.usable):
            if values.shape not in staged:
                there = torch.empty_like(torch.from_numpy(values), device=device)
                staged[values.shape] = (torch.empty_like(there, device="cpu", pin_memory=device.type == "cuda"), there)
            host, there = staged[values.shape]
            host.copy_(torch.from_numpy(values))
            there.copy_(host)


def upload(images: list[HostImage], device: torch.device) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return pixels and masks of the images, on the device."""
    return [(torch.from_numpy(one.image).to(device), torch.from_numpy(one.usable).to(device)) for one in images]


def score_seconds(search: TorchSearch, different: list[HostImage], count: int) -> float:
    """Return the seconds to search as many images as the visit has, all on the device from the start."""
    there = upload(different, search.device)

    def score_all() -> None:
        for (image, usable), one in islice(cycle(zip(there, different, strict=True)), count):
            search.score(image, usable, one.background, one.grid, STRIDE)

    return on_device(search.device, score_all)[0]


def search_all(search: TorchSearch, visit: Iterator[HostImage]) -> tuple[int, int]:
    """Search the visit from host memory: how many windows reach the floor, and how many could not be scored."""
    hits = unscored = 0
    for one in visit:
        logits, missing = search.search(one.image, one.usable, one.background, one.grid, STRIDE)
        hits, unscored = hits + int((logits >= search.floor).sum()), unscored + missing
    return hits, unscored


def _stream(arguments: argparse.Namespace, detectors: int, ready: Any, go: Any, done: Any) -> None:
    """Search a share of the visit in a process of its own, warmed up before the start."""
    search, different = prepared(arguments)
    search_all(search, islice(cycle(different), 4))
    ready.put(None)
    go.wait()
    search_all(search, islice(cycle(different), detectors))
    done.put(perf_counter())


def streams_seconds(arguments: argparse.Namespace) -> float:
    """Return the seconds from the start of all streams to the end of the last."""
    context = get_context("spawn")
    ready, done, go = context.Queue(), context.Queue(), context.Event()
    shares = [len(part) for part in np.array_split(range(arguments.detectors), arguments.streams)]
    streams = [context.Process(target=_stream, args=(arguments, share, ready, go, done)) for share in shares]
    for one in streams:
        one.start()
    for _ in streams:
        ready.get(timeout=300)
    start = perf_counter()  # the system's monotonic clock, the same in all processes
    go.set()
    end = max(done.get(timeout=600) for _ in streams)
    for one in streams:
        one.join()
    return end - start


def default_detector(device: torch.device, one: HostImage, repeats: int) -> dict[str, Any]:
    """Return seconds per image of the default detector on the device and on the processor, and how they agree."""
    plane = SearchImage(one.image[0], one.usable, one.background, 5.0, np.ones((1, 1)), 2.8)
    places = Places(0, 0, one.usable.shape[0] // CELL, one.usable.shape[1] // CELL, CELL)
    seconds, found = {}, {}
    precisions = {"cpu": ("cpu", "float32"), "f32": (device.type, "float32"), "bf16": (device.type, "bfloat16")}
    for name, (where, precision) in precisions.items():
        search = load_model("detect", DetectSettings().model, device=where, precision=precision)
        search.search(plane, places)
        runs = [
            on_device(torch.device(where), lambda search=search: search.search(plane, places)) for _ in range(repeats)
        ]
        seconds[name], found[name] = min(run[0] for run in runs), runs[0][1][0].astype(float)
    floor, ours = float(logit(search.card.threshold)), found["cpu"]
    scored = np.isfinite(ours)
    apart = {name: np.abs(each[scored] - ours[scored]) for name, each in found.items()}
    near = ours[scored] > floor - 3
    return {f"{name}_s": value for name, value in seconds.items()} | {
        "cells": int(scored.sum()),
        "hits": int((ours >= floor).sum()),
        "f32_max_dlogit": float(apart["f32"].max()),
        "f32_other_hits": int(((found["f32"] >= floor) != (ours >= floor)).sum()),
        "bf16_p99_dlogit": float(np.quantile(apart["bf16"][near], 0.99)),
        "bf16_other_hits": int(((found["bf16"] >= floor) != (ours >= floor)).sum()),
    }


def agreement(search: TorchSearch, one: HostImage) -> dict[str, Any]:
    """Return by how much scores of one image differ from float32's, before windows near the floor are scored again."""
    net, device, floor = search.net, search.device, search.floor
    assert floor is not None
    exact, loose, final = (
        each.search(one.image, one.usable, one.background, one.grid, STRIDE)[0].astype(float)
        for each in (TorchSearch(net, device), TorchSearch(net, device, search.precision), search)
    )
    near = np.abs(exact - floor) < 2
    return {
        "p99_dprob": float(np.quantile(np.abs(expit(exact) - expit(loose)), 0.99)),
        "max_dlogit_near_floor": float(np.abs(exact[near] - loose[near]).max(initial=0.0)),
        "same_hits": bool(np.array_equal(exact >= floor, final >= floor)),
    }


def prepared(arguments: argparse.Namespace) -> tuple[TorchSearch, list[HostImage]]:
    """Return the search of the shipped window network on the device, and the images that differ."""
    scorer = load_model("detect", "basic_cnn")
    assert isinstance(scorer, WindowScorer)
    net = fuse(scorer.net)
    assert net is not None
    floor = float(logit(scorer.card.threshold))
    search = TorchSearch(net, choose_device(arguments.device), arguments.precision, floor, arguments.batch)
    shape = arguments.height, arguments.width
    return search, images(shape, min(arguments.different, arguments.detectors))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run everything once to warm up and once, or more often, for the record."""
    dtype = torch.float32 if arguments.precision == "float32" else torch.bfloat16
    search, different = prepared(arguments)
    device, net = search.device, search.net
    module = torch.get_device_module(device)

    def visit() -> Iterator[HostImage]:
        return islice(cycle(different), arguments.detectors)

    search_all(search, islice(visit(), 4))
    gpu = device.type == "cuda"
    before = module.memory_allocated(device) if gpu else 0
    best: dict[str, float] = {}
    hits = unscored = 0
    for _ in range(arguments.repeats):
        copy, _ = on_device(device, lambda: copy_all(visit(), device))
        compute = score_seconds(search, different, arguments.detectors)
        if gpu:
            module.reset_peak_memory_stats(device)
        total, (hits, unscored) = on_device(device, lambda: search_all(search, visit()))
        for name, seconds in (("copy_s", copy), ("compute_s", compute), ("total_s", total)):
            best[name] = min(seconds, best.get(name, np.inf))
    windows = arguments.detectors * different[0].grid[0] * different[0].grid[1]
    layers = (
        sum(layer.weight.size for layer in (*net.hidden, net.last)) + net.last.weight.size
    )  # two scores, as trained
    limit = windows * layers / square_rate(device, dtype)
    return {
        "device": module.get_device_name(device) if gpu else "processor",
        "torch": torch.__version__,
        "precision": arguments.precision,
        "detectors": arguments.detectors,
        "shape": [arguments.height, arguments.width],
        "windows": windows,
        **best,
        "windows_per_s": windows / best["total_s"],
        "multiply_adds_per_window": layers,
        "gemm_limit_s": limit,
        "total_over_limit": best["total_s"] / limit,
        "hits": hits,
        "unscored": unscored,
        **agreement(search, different[0]),
        "device_peak_bytes": module.max_memory_allocated(device) if gpu else None,
        "device_left_bytes": module.memory_allocated(device) - before if gpu else None,
        "streams": arguments.streams,
        "streams_s": streams_seconds(arguments) if arguments.streams > 1 else None,
        "default_detector": default_detector(device, different[0], arguments.repeats),
        "host_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detectors", type=int, default=DETECTORS)
    parser.add_argument("--height", type=int, default=SHAPE[0], help="of a detector, px")
    parser.add_argument("--width", type=int, default=SHAPE[1], help="of a detector, px")
    parser.add_argument("--different", type=int, default=6, help="images that differ; the visit repeats them")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--batch", type=int, default=None, help="windows that pass the linear layers together")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    parser.add_argument("--streams", type=int, default=1, help="processes that share the visit out")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return parser.parse_args(words)


if __name__ == "__main__":
    print(json.dumps(measure(parse())))

"""Fused search compared with the plain way, a batched unfold, a GPU and the arithmetic limit, in one process."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit

from flows.pipeline.models import load_model
from flows.training.bench.exposure import BenchExposure, catalogue_from_logits, shipped_net
from flows.training.bench.ways import (
    GemmRates,
    Pixels,
    Timed,
    chain_flops,
    gemm_rates,
    interleaved,
    plain_logits,
    square_rate,
    unfold_logits,
)
from kernels.nets.basic_cnn import BasicCnn
from kernels.search.detector import WindowScorer, WindowSearch
from kernels.search.fused_net import FusedNet, fuse
from kernels.search.fused_search import FusedSearch
from kernels.search.torch_search import TorchSearch

Logits = NDArray[np.float32]

CPU = torch.device("cpu")


@dataclass(frozen=True)
class SearchFigures:
    """Figures of the comparison; times are medians in seconds.

    Attributes
    ----------
    windows, threads, repeats
        Number of windows of the image, threads of the CPU, and timed rounds.
    plain_s, unfold_s
        Loop over windows in batches of 64; torch's unfold in batches of 1,024.
    fused_f32_s, fused_bf16_s
        Fused search; in bfloat16, windows near the threshold are scored again in float32.
    screened_s
        Fused search with the shipped screen in front of the linear layers.
    gemm_limit_f32_s, gemm_limit_bf16_s
        Only the matrix products of the fully connected chain, at the best measured rate.
    gemm_default_f32_gflops, gemm_onednn_f32_gflops, gemm_bf16_gflops
        Those rates, 10^9 operations per second; the float32 limit uses the better of the first two.
    max_dprob_f32
        Largest difference in probability between the float32 search and the plain way.
    p99_dprob_bf16, max_dprob_bf16
        The same for bfloat16 scores, none of them scored again: 99th percentile and largest.
    same_detections
        Whether float32 and bfloat16 give the same hits, bit for bit, and the same catalogue.
    same_hits_as_plain, same_hits_screened
        Whether float32 gives the hits of the plain way; whether the screen loses none of them.
    hits, detections
        Numbers of both.
    device
        Name of the GPU, or "cpu"; without a GPU the following are None.
    device_f32_s, device_bf16_s
        Search on the GPU, starting with the image and ending with the log odds in host memory.
    device_limit_f32_s, device_limit_bf16_s
        Matrix products of the chain at the GPU's rate for a large product.
    max_dprob_device
        Largest difference in probability between float32 on the GPU and on the CPU.
    same_hits_device
        Whether the same windows reach the threshold on the GPU, in both precisions.
    """

    windows: int
    threads: int
    repeats: int
    plain_s: float
    unfold_s: float
    fused_f32_s: float
    fused_bf16_s: float
    screened_s: float
    gemm_limit_f32_s: float
    gemm_limit_bf16_s: float
    gemm_default_f32_gflops: float
    gemm_onednn_f32_gflops: float
    gemm_bf16_gflops: float
    max_dprob_f32: float
    p99_dprob_bf16: float
    max_dprob_bf16: float
    same_detections: bool
    same_hits_as_plain: bool
    same_hits_screened: bool
    hits: int
    detections: int
    device: str = "cpu"
    device_f32_s: float | None = None
    device_bf16_s: float | None = None
    device_limit_f32_s: float | None = None
    device_limit_bf16_s: float | None = None
    max_dprob_device: float | None = None
    same_hits_device: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the figures for JSON, with times and rates to four digits."""
        return {
            name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in asdict(self).items()
        }


def compare_search(
    exposure: BenchExposure,
    repeats: int,
    threads: int,
    say: Callable[[str], None] = lambda said: None,
    device: torch.device = CPU,
) -> SearchFigures:
    """Time the ways of searching an exposure in turns, and compare their results.

    Parameters
    ----------
    exposure
        Exposure to search.
    repeats
        Number of rounds; medians are reported.
    threads
        Threads of torch and numba, already set (`flows.training.bench.exposure.use_threads`).
    say
        Receives what is timed next.
    device
        GPU to compare with the CPU; the CPU: none.
    """
    net, card = shipped_net()
    pixels, floor = exposure.pixels, float(logit(card.threshold))
    variants = search_variants(pixels, net, floor) | device_variants(pixels, net, floor, device)
    for name, variant in variants.items():
        if name not in ("plain", "unfold"):
            variant()  # compiles
    turns = count(1)

    def told(name: str) -> Logits:
        say(f"{next(turns)}/{repeats * len(variants)}: {name}")
        return variants[name]()

    timed = interleaved({name: partial(told, name) for name in variants}, repeats)
    flops = len(timed.results["plain"]) * chain_flops(net)
    limits: dict[str, Any] = _limits(gemm_rates(net, 3 * repeats), flops)
    names = ("plain", "fused_f32", "fused_bf16", "screened")
    plain, single, half, screened = (timed.results[name] for name in names)
    raw = fused_logits(pixels, FusedSearch(fused_net(net), "bfloat16", None))
    catalogues = [catalogue_from_logits(exposure, found, floor) for found in (single, half)]
    bf16_error = probability_error(raw, single)
    return SearchFigures(
        windows=len(plain),
        threads=threads,
        repeats=repeats,
        **limits,
        max_dprob_f32=float(probability_error(single, plain).max()),
        p99_dprob_bf16=float(np.percentile(bf16_error, 99)),
        max_dprob_bf16=float(bf16_error.max()),
        same_detections=same_hits(single, half, floor) and catalogues[0].equals(catalogues[1]),
        same_hits_as_plain=np.array_equal(single >= floor, plain >= floor),
        same_hits_screened=same_hits(single, screened, floor),
        hits=int((single >= floor).sum()),
        detections=len(catalogues[0]),
        **_seconds(timed),
        **_on_device(timed.results, floor, flops, device),
    )


def _seconds(timed: Timed) -> dict[str, Any]:
    return {f"{name}_s": seconds for name, seconds in timed.medians.items()}


def search_variants(pixels: Pixels, net: BasicCnn, floor: float) -> dict[str, Callable[[], Logits]]:
    """Return the compared ways of searching an image by name; each returns the log odds of all windows."""
    fused = fused_net(net)
    single, half = FusedSearch(fused, "float32", None), FusedSearch(fused, "bfloat16", floor)
    scorer = load_model("detect", "basic_cnn")
    assert isinstance(scorer, WindowScorer)
    return {
        "plain": lambda: plain_logits(pixels, net),
        "unfold": lambda: unfold_logits(pixels, net),
        "fused_f32": lambda: fused_logits(pixels, single),
        "fused_bf16": lambda: fused_logits(pixels, half),
        "screened": lambda: fused_logits(pixels, scorer.windows),
    }


def device_variants(
    pixels: Pixels, net: BasicCnn, floor: float, device: torch.device
) -> dict[str, Callable[[], Logits]]:
    """Return the searches of an image on a GPU by name; empty if the device is the CPU."""
    if device.type == "cpu":
        return {}
    fused = fused_net(net)
    single, half = TorchSearch(fused, device), TorchSearch(fused, device, "bfloat16", floor)
    return {
        "device_f32": lambda: fused_logits(pixels, single),
        "device_bf16": lambda: fused_logits(pixels, half),
    }


def _on_device(found: Mapping[str, Logits], floor: float, flops: int, device: torch.device) -> dict[str, Any]:
    """Return the limits on a GPU, and the comparison of its results; empty for the CPU."""
    if device.type == "cpu":
        return {}
    ours, theirs = found["fused_f32"], [found["device_f32"], found["device_bf16"]]
    kinds = {"f32": torch.float32, "bf16": torch.bfloat16}
    return {
        "device": torch.get_device_module(device).get_device_name(device),
        "max_dprob_device": float(probability_error(theirs[0], ours).max()),
        "same_hits_device": all(np.array_equal(one >= floor, ours >= floor) for one in theirs),
    } | {f"device_limit_{name}_s": flops / 2 / square_rate(device, kind) for name, kind in kinds.items()}


def fused_net(net: BasicCnn) -> FusedNet:
    """Return a network of the right shape in the form for the fused search."""
    fused = fuse(net)
    assert fused is not None
    return fused


def fused_logits(pixels: Pixels, search: WindowSearch) -> Logits:
    """Return the log odds of all windows from the fused search."""
    logits, _ = search.search(pixels.image, pixels.usable, pixels.background, pixels.grid, pixels.stride)
    return logits


def same_hits(a: Logits, b: Logits, threshold: float) -> bool:
    """Return whether the same windows reach a threshold, with identical bits."""
    return np.array_equal(a >= threshold, b >= threshold) and np.array_equal(a[a >= threshold], b[b >= threshold])


def probability_error(a: Logits, b: Logits) -> NDArray[np.float64]:
    """Return the differences in probability for windows scored by either."""
    either = np.isfinite(a) | np.isfinite(b)
    return np.abs(expit(a[either].astype(np.float64)) - expit(b[either].astype(np.float64)))


def _limits(rates: GemmRates, flops: int) -> dict[str, float]:
    return {
        "gemm_limit_f32_s": flops / rates.f32,
        "gemm_limit_bf16_s": flops / rates.bf16,
        "gemm_default_f32_gflops": rates.default_f32 / 1e9,
        "gemm_onednn_f32_gflops": rates.onednn_f32 / 1e9,
        "gemm_bf16_gflops": rates.bf16 / 1e9,
    }

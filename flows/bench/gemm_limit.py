"""The least time that the fully connected chain of a network can take: its bare matrix products at their best rate."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn.functional import linear

from flows.bench.timing import interleaved
from kernels.nets.basic_cnn import BasicCnn

BATCHES = (256, 1024, 4096)
"""Rows of the products tried: what is best differs between libraries."""

Product = tuple[int, Callable[[], object]]


@dataclass(frozen=True)
class GemmRates:
    """Best rates of matrix products on this machine, with the threads that torch has; FLOP / s.

    Attributes
    ----------
    default_f32
        torch's own float32.
    onednn_f32
        oneDNN's float32, where torch was built with it; else 0.
    bf16
        torch's bfloat16.
    """

    default_f32: float
    onednn_f32: float
    bf16: float

    @property
    def f32(self) -> float:
        """The better of both float32 rates."""
        return max(self.default_f32, self.onednn_f32)


def chain_flops(net: BasicCnn) -> int:
    """Give the floating-point operations of the fully connected layers per window: 1,126,880 for one band."""
    _, _, dense = net.layers()
    return sum(2 * layer.in_features * layer.out_features for layer in dense)


def gemm_rates(net: BasicCnn, repeats: int = 15) -> GemmRates:
    """Measure the rates on the largest layer of a network and on a square product; medians over the repeats."""
    products = dict(_products(_largest(net)))
    for _, run in products.values():
        run()
    with torch.inference_mode():
        seconds = interleaved({name: run for name, (_, run) in products.items()}, repeats).medians
    rates = {name: flops / seconds[name] for name, (flops, _) in products.items()}
    return GemmRates(*(_best(rates, kind) for kind in ("default_f32", "onednn_f32", "bf16")))


def _best(rates: Mapping[str, float], kind: str) -> float:
    return max((rate for name, rate in rates.items() if name.startswith(kind)), default=0.0)


def _largest(net: BasicCnn) -> nn.Linear:
    _, _, dense = net.layers()
    return max(dense, key=lambda layer: layer.in_features * layer.out_features)


def _products(layer: nn.Linear) -> Iterator[tuple[str, Product]]:
    shapes = [(batch, layer.in_features, layer.out_features) for batch in BATCHES] + [(2048, 2048, 2048)]
    draw = torch.Generator().manual_seed(1)
    for rows, inner, outer in shapes:
        x, weight = torch.randn(rows, inner, generator=draw), torch.randn(outer, inner, generator=draw)
        flops, name = 2 * rows * inner * outer, f"{rows} x {inner} x {outer}"
        yield f"default_f32 {name}", (flops, partial(linear, x, weight))
        yield f"bf16 {name}", (flops, partial(linear, x.bfloat16(), weight.bfloat16()))
        if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            packed = (x.to_mkldnn(), weight.to_mkldnn(), torch.zeros(outer).to_mkldnn())
            yield f"onednn_f32 {name}", (flops, partial(linear, *packed))

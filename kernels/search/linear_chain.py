"""Linear layers of a window network, in batches of fixed size, on the CPU."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from kernels.search.fused_net import Dense

Precision = Literal["float32", "bfloat16"]

_ROWS = 64
"""Batches are padded to a multiple of this."""


@dataclass(frozen=True)
class LinearChain:
    """Linear layers with ReLU between them, up to one log odds per window.

    Parameters
    ----------
    layers
        Layers in order; the last gives one value.
    precision
        Precision of weights and activations; sums are in float32. bfloat16 keeps 8 bits of a number. The first layer
        is always float32: it is small, and eight ninths of the loss from bfloat16 would occur there.
    batch
        Windows per batch. A window's log odds do not depend on its position in the batch.
    """

    layers: tuple[Dense, ...]
    precision: Precision
    batch: int

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the log odds of each row of (n, features) float32, (n,) float32."""
        logits = np.empty(len(features), np.float32)
        with torch.inference_mode():
            for start in range(0, len(features), self.batch):
                part = torch.from_numpy(features[start : start + self.batch])
                count = len(part)
                values = functional.pad(part, (0, 0, 0, self._padded(count) - count))
                for layer in self._packed:
                    values = layer(values.to(layer.bias.dtype))
                logits[start : start + count] = values[:count, 0].float().numpy()
        return logits

    def _padded(self, count: int) -> int:
        """Return the number of rows of a batch that holds ``count`` windows.

        oneDNN gives a row the same bits in a batch of any size. Other libraries do not guarantee
        that, so with them all batches have one size.
        """
        return -(-count // _ROWS) * _ROWS if all(layer.packed for layer in self._packed) else self.batch

    @cached_property
    def _packed(self) -> "tuple[_Linear, ...]":
        small = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        behind = len(self.layers) - 1
        activations, kinds = [*["relu"] * behind, "none"], [torch.float32, *[small] * behind]
        return tuple(
            _Linear.pack(layer, activation, kind, self.batch)
            for layer, activation, kind in zip(self.layers, activations, kinds, strict=True)
        )


def has_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware; without that, bfloat16 is slower than float32."""
    return _supports("_is_avx512_bf16_supported") or _supports("_is_amx_tile_supported")


def convolves_bfloat16() -> bool:
    """Return whether this CPU convolves bfloat16 faster than float32.

    Intel CPUs do only with AMX tiles: with AVX512-BF16 they take 1.6 times as long, and other CPUs 0.6 times.
    """
    return has_bfloat16() and (_supports("_is_amx_tile_supported") or not _is_of_intel())


def _is_of_intel() -> bool:
    with suppress(OSError):
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    return False


def _supports(name: str) -> bool:
    # Private to torch, and the only source of this fact; float32 is correct without it.
    test = getattr(torch.cpu, name, None)
    return test is not None and bool(test())


@dataclass(frozen=True)
class _Linear:
    """Linear layer with its weight laid out for oneDNN, which adds bias and ReLU in the same pass.

    On CPUs other than Intel's, torch's default (MKL) uses only 256-bit vectors and takes twice as long.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    activation: str
    packed: bool

    @classmethod
    def pack(cls, layer: Dense, activation: str, kind: torch.dtype, batch: int) -> "_Linear":
        weight, bias = torch.from_numpy(layer.weight).to(kind), torch.from_numpy(layer.bias).to(kind)
        packed = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        if kind == torch.bfloat16:  # oneDNN does not support it on CPUs without AVX-512
            packed = packed and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        if packed:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, batch)
        return cls(weight, bias, activation, packed)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        if self.packed:
            out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
                values, self.weight, self.bias, self.activation, [], ""
            )
            return out
        made = functional.linear(values, self.weight, self.bias)
        return torch.relu(made) if self.activation == "relu" else made

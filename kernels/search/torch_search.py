"""Search of whole images with a window network, on a torch device."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad

from kernels.search.fused_net import Dense, FusedNet
from kernels.search.linear_chain import Precision
from kernels.search.torch_maps import DenseConvolution, SecondConvolution, shared_maps, single_maps, window_moments
from kernels.search.windows import FLAT, MARGIN, require_on_image

ALIGNED = 8
"""Widths are padded with zeros to a multiple of this: matrix units want rows of whole 16 byte words."""


class Chain:
    """Linear layers: from the features of windows to their log odds.

    Parameters
    ----------
    net
        Network.
    device
        Device for the computation.
    dtype
        Type of the stored weights and activations, float32 or bfloat16; products are summed in float32 in both cases,
        if `full_precision` is in force. The first layer is always float32: it has 0.26 % of the arithmetic, and eight
        ninths of the loss from bfloat16 would occur there.
    batch
        Windows per batch. Their widest activations should fit in the device's cache. Batches have a fixed size, with
        padding in the last, so that a window's result does not depend on the number of windows.
    """

    def __init__(self, net: FusedNet, device: torch.device, dtype: torch.dtype, batch: int) -> None:
        self._batch = batch
        kinds = [torch.float32, *[dtype] * len(net.hidden)]
        self._layers = [
            _padded(layer, device, kind) for layer, kind in zip((*net.hidden, net.last), kinds, strict=True)
        ]

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Return the log odds of windows, (n, features) float32 -> (n,) float32."""
        logits = torch.empty(len(features), device=features.device)
        spare = len(self._layers[0][0]) - features.shape[1]
        for start in range(0, len(features), self._batch):
            part = features[start : start + self._batch]
            count = len(part)
            part = pad(part, (0, spare, 0, self._batch - count))
            for matrix, bias in self._layers[:-1]:
                part = torch.addmm(bias, part.to(matrix.dtype), matrix).relu_()
            matrix, bias = self._layers[-1]
            logits[start : start + count] = torch.addmm(bias, part.to(matrix.dtype), matrix)[:count, 0]
        return logits


def _padded(layer: Dense, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a matrix (inputs, outputs) and its bias, padded with zeros, which stay zero through the ReLU."""
    matrix, bias = torch.from_numpy(layer.weight).T, torch.from_numpy(layer.bias)
    down, across = (-size % ALIGNED for size in matrix.shape)
    return pad(matrix, (0, across, 0, down)).contiguous().to(device, dtype), pad(bias, (0, across)).to(device, dtype)


def single_windows(
    image: torch.Tensor, usable: torch.Tensor, background: float, origin: tuple[torch.Tensor, torch.Tensor], side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return z-scored cutouts of windows, computed in float64 in two passes by the rules of `kernels.search.windows`.

    Parameters
    ----------
    image : (bands, ny, nx) float32
        Pixels.
    usable : (ny, nx) bool
        Pixels that count.
    background
        Value that replaces pixels that do not count.
    origin : two of (n,) int64
        y and x of the first pixel of each window.
    side
        Side of the windows, pixels.

    Returns
    -------
    windows : (n, bands, side, side) float32
        Windows; zero if not ``scored``.
    scored : (n,) bool
        Whether the usable pixels have spread in every band.
    """
    y, x = origin
    good = usable.unfold(0, side, 1).unfold(1, side, 1)[y, x][:, None]
    raw = image.unfold(1, side, 1).unfold(2, side, 1)[:, y, x].movedim(0, 1).double()
    values = torch.where(good, raw, 0.0)
    count = good.sum((2, 3), keepdim=True).clamp_min(1)
    mean = values.sum((2, 3), keepdim=True) / count
    centred = torch.where(good, raw, background) - mean
    std = (torch.where(good, centred, 0.0).square().sum((2, 3), keepdim=True) / count).sqrt()
    spread = (std > FLAT * values.abs().amax((2, 3), keepdim=True)).all(1, keepdim=True)
    windows = torch.where(spread, centred / std, 0.0).float()
    return windows, spread.flatten()


PROCESSOR = 256 * 2**20
"""Memory used on the processor, bytes: enough for matrix products at full speed, too little to be noticed."""

SHARE = 0.5
"""Fraction of a GPU's free memory that is used: the allocator's pieces do not always fit together."""

LARGEST = 8 * 2**30
"""Maximum memory used at once, bytes: more gains nothing, and indices stay below 2^31."""


def chunk_rows(net: FusedNet, device: torch.device, columns: int, nx: int, stride: int) -> int:
    """Return the number of rows of windows to search at once, at least 1.

    Parameters
    ----------
    net
        Network.
    device
        Device, whose free memory counts, including torch's reserve.
    columns, nx
        Windows in a row, and width of the image, pixels.
    stride
        Step between windows, pixels.
    """
    budget = PROCESSOR
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        budget = min(LARGEST, int(SHARE * (torch.cuda.mem_get_info(device)[0] + idle)))
    row = columns * window_bytes(net) + stride * nx * pixel_bytes(net)
    halo = (net.side - stride) * nx * pixel_bytes(net)
    return max(1, (budget - halo) // row)


def pixel_bytes(net: FusedNet) -> int:
    """Return the peak memory per pixel, bytes, while an image is measured and convolved."""
    channels, _, kernel, _ = net.first_weight.shape
    moments = 8 * (2 * net.bands + 1)  # float64 pixels, their squares, the mask
    patches = 4 * kernel * (kernel + 7) // 8 + 8
    maps = 4 * channels * (3 if net.bands == 1 else net.bands)  # a pool holds its input and two steps
    return moments + patches + maps + 8 * net.bands


def window_bytes(net: FusedNet) -> int:
    """Return the peak memory per window, bytes, after the first convolution."""
    channels = net.first_weight.shape[0]
    values = net.pooled_side**2 * channels
    results = net.second_weight.shape[0] * (net.pooled_side - net.second_weight.shape[2] + 1) ** 2
    summed = 0 if net.bands == 1 else 2 * channels * (2 * net.pooled_side + 2) ** 2  # before and while pooling
    return 4 * (max(summed, 2 * results) + values) + 128


_LOCK = threading.Lock()


@contextmanager
def full_precision() -> Iterator[None]:
    """Context in which float32 products and convolutions, and sums of bfloat16 products, use full float32 precision.

    These settings belong to the whole process, so only one thread at a time may enter. They are restored at the end.
    """
    with _LOCK:
        rounding = [one for one in _choices() if getattr(one[0], one[1]) not in one[2]]
        chosen = [getattr(owner, name) for owner, name, _ in rounding]
        try:
            for owner, name, harmless in rounding:
                setattr(owner, name, harmless[0])
            yield
        finally:
            for (owner, name, _), value in zip(rounding, chosen, strict=True):
                setattr(owner, name, value)


def _choices() -> list[tuple[Any, str, tuple[Any, ...]]]:
    """Return the owners and names of the settings, and their values for full precision."""
    backends: Any = torch.backends
    matmul = backends.cuda.matmul
    sums = matmul, "allow_bf16_reduced_precision_reduction", (False,)
    exact = "fp32_precision", ("ieee", "none")
    convolutions = backends.cudnn.conv, "fp32_precision", ("ieee",)  # "none" is TF32 there
    return [sums, (matmul, *exact), (backends.mkldnn.matmul, *exact), convolutions]


def precise_on(device: torch.device) -> AbstractContextManager[None]:
    """Return `full_precision` on a GPU; on the CPU networks are precise without it."""
    return nullcontext() if device.type == "cpu" else full_precision()


BATCH = {"cuda": 16384, "cpu": 1024}
"""Windows that pass the linear layers together: 1,500 activations of 2 bytes for 16,384 of them are 49 MB, the size of
an H200's second-level cache; fewer would be bound by the time it takes to start so many products."""

SINGLE = 2048
"""Number of windows cut out at once; each takes 60 kB per band."""


class TorchSearch:
    """Search of images with a network, without cutting windows out; `shared_maps` explains why that is exact.

    It may be called from several threads, which then take turns.

    Parameters
    ----------
    net
        Network.
    device
        ``cpu`` or ``cuda``.
    precision
        Precision of the linear layers after the first, which do nearly all arithmetic. Statistics are always float64
        and everything else float32.
    floor
        Log odds of a hit. With bfloat16, windows that reach ``floor - MARGIN`` are scored again in float32, so that
        the windows that reach the floor are those of float32.
    batch
        Windows per batch in the linear layers; None chooses by device.
    """

    def __init__(
        self,
        net: FusedNet,
        device: torch.device,
        precision: Precision = "float32",
        floor: float | None = None,
        batch: int | None = None,
    ) -> None:
        self.net, self.device, self.precision, self.floor = net, device, precision, floor
        self._dense, self._second = DenseConvolution(net, device), SecondConvolution(net, device)
        size = batch if batch is not None else BATCH[device.type]
        self._exact = Chain(net, device, torch.float32, size)
        self._chain = self._exact if precision == "float32" else Chain(net, device, torch.bfloat16, size)

    def search(
        self,
        image: NDArray[np.float32],
        usable: NDArray[np.bool_],
        background: float,
        grid: tuple[int, int],
        stride: int,
    ) -> tuple[NDArray[np.float32], int]:
        """Return the log odds of every window, and the number without a score; see `FusedSearch.search`."""
        there = host_tensor(image).to(self.device), host_tensor(usable).to(self.device)
        logits = self.score(*there, background, grid, stride)
        return logits.cpu().numpy(), int(torch.isneginf(logits).sum())

    @torch.inference_mode()
    def score(
        self, image: torch.Tensor, usable: torch.Tensor, background: float, grid: tuple[int, int], stride: int
    ) -> torch.Tensor:
        """Return the log odds, (rows * columns,) float32, of every window of an image on the device; see `search`."""
        require_on_image(tuple(image.shape), grid, stride, self.net.side)
        rows, columns = grid
        logits = torch.empty(rows * columns, device=self.device)
        if not len(logits):
            return logits
        step = chunk_rows(self.net, self.device, columns, image.shape[2], stride)
        with full_precision():
            for row in range(0, rows, step):
                count = min(step, rows - row)
                box = slice(row * stride, (row + count - 1) * stride + self.net.side)
                logits[row * columns : (row + count) * columns] = self._chunk(
                    image[:, box], usable[box], float(np.float32(background)), stride, columns
                )
        return logits

    def _chunk(
        self, image: torch.Tensor, usable: torch.Tensor, background: float, stride: int, columns: int
    ) -> torch.Tensor:
        # An image may be wider than its windows need.
        width = (columns - 1) * stride + self.net.side
        image = image[:, :, :width]
        usable = usable[:, :width] & torch.isfinite(image).all(0)
        pixels = torch.where(usable, image.double() - background, 0.0)
        moments = window_moments(pixels, usable, background, self.net.side, stride)
        planes = pixels.float()
        del pixels
        features = self._second(shared_maps(self.net, self._dense, planes, moments, stride))
        logits = torch.where(moments.enough.flatten(), self._chain(features), -torch.inf)
        if self.floor is not None and self._chain is not self._exact:
            near = (logits >= self.floor - MARGIN).nonzero()[:, 0]
            logits[near] = self._exact(features[near])
        for index in torch.split((moments.enough & ~moments.shared).flatten().nonzero()[:, 0], SINGLE):
            origin = index // columns * stride, index % columns * stride
            windows, scored = single_windows(image, usable, background, origin, self.net.side)
            found = self._exact(self._second(single_maps(self.net, self._dense, windows[scored])))
            logits[index] = torch.full_like(logits[index], -torch.inf).masked_scatter(scored, found)
        return logits


def host_tensor(values: NDArray[Any]) -> torch.Tensor:
    """Return an array as a tensor; a read-only array is copied, because tensors cannot be read-only."""
    return torch.from_numpy(np.require(values, requirements="W"))

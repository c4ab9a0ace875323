"""Compared ways of searching, their timing, and the arithmetic limit."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import linear

from kernels.nets.basic_cnn import BasicCnn
from schemas.exposure import ExposureInfo
from schemas.pixels import UNUSABLE, Tiling

BATCH = 64


@dataclass(frozen=True)
class Pixels:
    """Image to search.

    Attributes
    ----------
    image : (bands, ny, nx) float32
        Finite values.
    usable : (ny, nx) bool
        Usable pixels.
    background
        Value used for the others.
    side, stride
        Side and step of windows, px.
    """

    image: NDArray[np.float32]
    usable: NDArray[np.bool_]
    background: float
    side: int = 26
    stride: int = 7

    @classmethod
    def of(cls, info: ExposureInfo, image: NDArray[np.float32], mask: NDArray[np.uint16]) -> "Pixels":
        """Return the pixels of an exposure with one band."""
        usable = np.ascontiguousarray((mask & np.uint16(UNUSABLE)) == 0)
        return cls(np.ascontiguousarray(image[None]), usable, info.background)

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Return the numbers of rows and columns of windows."""
        return Tiling(self.usable.shape, self.stride, self.side, self.stride).grid


def plain_logits(pixels: Pixels, net: BasicCnn) -> NDArray[np.float32]:
    """Loop over windows, z-score each with numpy, and pass batches of 64 to the network.

    Parameters
    ----------
    pixels
        Image to search.
    net
        Network in evaluation mode.

    Returns
    -------
    (windows,) float32
        Log odds; minus infinity for windows that cannot be scored, by the rules of
        `kernels.search.windows.fill_windows`.
    """
    rows, columns = pixels.grid
    logits = np.full(rows * columns, -np.inf, np.float32)
    batch: list[NDArray[np.float32]] = []
    places: list[int] = []
    for row in range(rows):
        for column in range(columns):
            window = _standardised(pixels, row * pixels.stride, column * pixels.stride, net.side)
            if window is None:
                continue
            batch.append(window)
            places.append(row * columns + column)
            if len(batch) == BATCH:
                logits[places] = _scores(net, batch)
                batch, places = [], []
    if batch:
        logits[places] = _scores(net, batch)
    return logits


def _standardised(pixels: Pixels, y: int, x: int, side: int) -> NDArray[np.float32] | None:
    window: NDArray[np.float32] = pixels.image[:, y : y + side, x : x + side]
    good = pixels.usable[y : y + side, x : x + side]
    if good.all():
        mean, std = window.mean((1, 2), np.float64), window.std((1, 2), np.float64)
    elif 2 * int(good.sum()) >= good.size:
        values = window[:, good]
        mean, std = values.mean(1, np.float64), values.std(1, np.float64)
        window = np.where(good, window, np.float32(pixels.background))
    else:
        return None
    if not (std > 0).all():
        return None
    scaled: NDArray[Any] = (window - mean[:, None, None]) / std[:, None, None]
    return scaled.astype(np.float32)


def _scores(net: BasicCnn, batch: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    with torch.inference_mode():
        scores = net(torch.from_numpy(np.stack(batch)))
        return (scores[:, 1] - scores[:, 0]).numpy()


UNFOLD_BATCH = 1024


def unfold_logits(pixels: Pixels, net: BasicCnn) -> NDArray[np.float32]:
    """Do the same as `plain_logits` on an unfolded view: z-score and score 1,024 windows at a time in torch."""
    rows, columns = pixels.grid
    side, stride = net.side, pixels.stride
    filled = np.where(pixels.usable, pixels.image, np.float32(pixels.background))
    view = torch.from_numpy(filled).unfold(1, side, stride).unfold(2, side, stride)
    seen = torch.from_numpy(pixels.usable).unfold(0, side, stride).unfold(1, side, stride)
    logits = torch.empty(rows * columns)
    with torch.inference_mode():
        for start in range(0, len(logits), UNFOLD_BATCH):
            place = torch.arange(start, min(start + UNFOLD_BATCH, len(logits)))
            row, column = place // columns, place % columns
            windows, scored = _standardised_windows(view[:, row, column].transpose(0, 1), seen[row, column])
            scores = net(windows)
            logits[place] = torch.where(scored, scores[:, 1] - scores[:, 0], -torch.inf)
    return logits.numpy()


def _standardised_windows(windows: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return windows (n, bands, side, side) z-scored over ``seen`` (n, side, side), and which can be scored."""
    weight = seen[:, None].float()
    count = weight.sum((2, 3), keepdim=True).clamp(min=1)
    centred = windows - (windows * weight).sum((2, 3), keepdim=True) / count
    std = ((centred.square() * weight).sum((2, 3), keepdim=True) / count).sqrt()
    enough = 2 * seen.sum((1, 2)) >= seen.shape[1] * seen.shape[2]
    return centred / torch.where(std > 0, std, 1.0), enough & (std > 0).flatten(1).all(1)


BATCHES = (256, 1024, 4096)
"""Numbers of rows of the timed products: the best one depends on the library."""

Product = tuple[int, Callable[[], object]]


@dataclass(frozen=True)
class GemmRates:
    """Best rates of matrix products on this machine with torch's current threads, FLOP / s.

    Attributes
    ----------
    default_f32
        torch's own float32.
    onednn_f32
        oneDNN's float32 if torch has it, else 0.
    bf16
        torch's bfloat16.
    """

    default_f32: float
    onednn_f32: float
    bf16: float

    @property
    def f32(self) -> float:
        """Return the better of the two float32 rates."""
        return max(self.default_f32, self.onednn_f32)


def chain_flops(net: BasicCnn) -> int:
    """Return the floating-point operations of the fully connected layers per window: 1,126,880 for one band."""
    _, _, dense = net.layers()
    return sum(2 * layer.in_features * layer.out_features for layer in dense)


def gemm_rates(net: BasicCnn, repeats: int = 15) -> GemmRates:
    """Measure the rates on the largest layer of a network and on a square product; medians of the repeats."""
    products = dict(_products(_largest(net)))
    for _, run in products.values():
        run()
    with torch.inference_mode():
        seconds = interleaved({name: run for name, (_, run) in products.items()}, repeats).medians
    rates = {name: flops / seconds[name] for name, (flops, _) in products.items()}
    return GemmRates(*(_best(rates, kind) for kind in ("default_f32", "onednn_f32", "bf16")))


def square_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the best rate of a few large square products on a device, multiply-adds per second."""
    side = 8192 if device.type == "cuda" else 512
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return side**3 / min(on_device(device, lambda: left @ right)[0] for _ in range(6))


def on_device(device: torch.device, task: Callable[[], Any]) -> tuple[float, Any]:
    """Return the time until a device has finished a task, s, and the task's result."""
    module = torch.get_device_module(device)
    module.synchronize(device)
    start = perf_counter()
    result = task()
    module.synchronize(device)
    return perf_counter() - start, result


def _best(rates: Mapping[str, float], kind: str) -> float:
    return max((rate for name, rate in rates.items() if name.startswith(kind)), default=0.0)


def _largest(net: BasicCnn) -> nn.Linear:
    _, _, dense = net.layers()
    return max(dense, key=lambda layer: layer.in_features * layer.out_features)


def _products(layer: nn.Linear) -> Iterator[tuple[str, Product]]:
    shapes = [(batch, layer.in_features, layer.out_features) for batch in BATCHES] + [(1024, 1024, 1024)]
    draw = torch.Generator().manual_seed(1)
    for rows, inner, outer in shapes:
        x, weight = torch.randn(rows, inner, generator=draw), torch.randn(outer, inner, generator=draw)
        flops, name = 2 * rows * inner * outer, f"{rows} x {inner} x {outer}"
        yield f"default_f32 {name}", (flops, partial(linear, x, weight))
        yield f"bf16 {name}", (flops, partial(linear, x.bfloat16(), weight.bfloat16()))
        if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            packed = (x.to_mkldnn(), weight.to_mkldnn(), torch.zeros(outer).to_mkldnn())
            yield f"onednn_f32 {name}", (flops, partial(linear, *packed))


@dataclass(frozen=True)
class Timed:
    """Time of each round, s, by name, and the results of the last round."""

    rounds: Mapping[str, tuple[float, ...]]
    results: Mapping[str, Any]

    @property
    def medians(self) -> dict[str, float]:
        """Return the median times by name, s."""
        return {name: median(seconds) for name, seconds in self.rounds.items()}

    def ratio(self, slow: str, fast: str) -> float:
        """Return the median over rounds of the ratio of the times of ``slow`` and ``fast``."""
        return median(a / b for a, b in zip(self.rounds[slow], self.rounds[fast], strict=True))


def interleaved(
    variants: Mapping[str, Callable[[], Any]], repeats: int, clock: Callable[[], float] = perf_counter
) -> Timed:
    """Run each variant once per round, so that disturbances affect all alike.

    Parameters
    ----------
    variants
        Functions by name; call them once before, or the first round includes compilation.
    repeats
        Number of rounds, at least 1.
    clock
        Returns the time, s.
    """
    rounds: dict[str, list[float]] = {name: [] for name in variants}
    results: dict[str, Any] = {}
    for _ in range(repeats):
        for name, variant in variants.items():
            start = clock()
            results[name] = variant()
            rounds[name].append(clock() - start)
    return Timed({name: tuple(seconds) for name, seconds in rounds.items()}, results)

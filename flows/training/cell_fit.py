"""Fit of a `StreakNet` to crops of exposures with injected trails."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flows.training.examples import Example, TrainingField, open_field
from kernels.image.search_image import SearchImage
from kernels.nets.streak_net import CELL, StreakNet
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.search.dense_search import dense_input
from kernels.statistics.matching import LEAST_VISIBLE, segment_distance
from kernels.trails.geometry import DetectedSegment
from kernels.trails.injection import add_light, trail_stamp, visible_stamp_share
from kernels.trails.matched_filter import template_snr

ON_PX = 3.0
"""A cell is on a trail if its centre is within this distance, so that even a point has at least one cell."""

BESIDE_PX = 8.0
"""Cells up to this distance are neither on a trail nor free of it."""

_WEIGHT = 6.0  # of a trail with one cell; k cells together have sqrt(k) times this


class CellLabels:
    """Labels and weights of the cells of a square crop, filled source by source.

    Parameters
    ----------
    cells
        Number of cells along a side.

    Attributes
    ----------
    label, weight : (cells, cells) float32
        1 on a trail, else 0; weight of each cell, 0 where nothing is known.
    """

    def __init__(self, cells: int) -> None:
        middle = np.arange(cells) * float(CELL) + (CELL - 1) / 2
        self._x, self._y = np.meshgrid(middle, middle)
        self.label = np.zeros((cells, cells), np.float32)
        self.weight = np.ones((cells, cells), np.float32)

    def ignore(self, x: float, y: float, length: float, angle: float) -> None:
        """Set the weight of cells around a source to 0, except those on a trail."""
        near = self._distance(x, y, length, angle) < BESIDE_PX
        self.weight[near & (self.label == 0)] = 0

    def add(self, x: float, y: float, length: float, angle: float) -> None:
        """Mark a trail; position and length in px of the crop, angle in deg."""
        self.ignore(x, y, length, angle)
        on = self._distance(x, y, length, angle) <= ON_PX
        self.label[on] = 1
        self.weight[on] = np.maximum(_WEIGHT / np.sqrt(max(int(on.sum()), 1)), 1.4)

    def without_border(self, width: int) -> None:
        """Set the weight of the outermost cells to 0, since they do not see what is outside."""
        inner = np.zeros(self.weight.shape, bool)
        inner[width:-width, width:-width] = True
        self.weight[~inner] = 0

    def _distance(self, x: float, y: float, length: float, angle: float) -> NDArray[np.float64]:
        return segment_distance(self._x, self._y, x, y, length, angle)


SIDE = 160
"""Side of a crop, px."""

_BORDER = 3  # cells at its edge that are not scored
_INSIDE = 16.0  # px from the edge: least distance of injected trails' centres
_OUTSIDE = 24  # px that a crop may extend beyond the image
_TRAILS = 1.3  # mean number of injected trails
_POINTS = 0.3  # fraction of them up to 3 px long
_SNR = (4.5, 40.0)
_LONGEST = 60.0  # px
_MISJUDGED = 0.08  # standard deviation of ln FWHM between the network's input and the truth

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class CropPlan:
    """Positions of crops.

    Attributes
    ----------
    hard
        Exposure name -> (n, 3) float64: x, y, px, of positions that look like a trail but are not, and relative
        frequency.
    shares
        Fractions of crops that contain a hard position, and a trail; the rest are anywhere.
    batch
        Crops per batch.
    seed
        Seed for everything.
    """

    hard: Mapping[str, NDArray[np.float64]]
    shares: tuple[float, float] = (0.6, 0.15)
    batch: int = 16
    seed: int = 1


def draw_batches(examples: Sequence[Example], plan: CropPlan) -> Iterator[Batch]:
    """Draw endless batches: cells (n, 48, side, side), labels and weights (n, side, side), float32.

    Parameters
    ----------
    examples
        Exposures for the crops.
    plan
        Positions of the crops; its seed determines everything.
    """
    rng = np.random.default_rng([plan.seed, 0])
    fields = [open_field(example) for example in examples]
    while True:
        crops = [_crop(fields[rng.integers(len(fields))], plan, rng) for _ in range(plan.batch)]
        cells, label, weight = (torch.from_numpy(np.stack(part)) for part in zip(*crops, strict=True))
        yield cells.permute(0, 3, 1, 2), label, weight


def _crop(field: TrainingField, plan: CropPlan, rng: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
    x, y = _centre(field, plan, rng)
    return draw_crop(field, x - rng.uniform(20, SIDE - 20), y - rng.uniform(20, SIDE - 20), rng)


def _centre(field: TrainingField, plan: CropPlan, rng: np.random.Generator) -> tuple[float, float]:
    kind, hard = rng.uniform(), plan.hard.get(field.name, np.empty((0, 3)))
    trails = np.flatnonzero(field.wanted)
    if kind < plan.shares[0] and len(hard):
        chosen = hard[rng.choice(len(hard), p=hard[:, 2] / hard[:, 2].sum())]
        return float(chosen[0]), float(chosen[1])
    if kind < sum(plan.shares) and len(trails):
        trail = rng.choice(trails)
        return float(field.targets.x[trail]), float(field.targets.y[trail])
    ny, nx = field.pixels.shape
    return rng.uniform(0, nx), rng.uniform(0, ny)


def draw_crop(field: TrainingField, x: float, y: float, rng: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
    """Cut a crop, inject trails, and turn it at random; return its cells, labels and weights.

    Parameters
    ----------
    field
        Exposure.
    x, y
        Approximate position of its first pixel.
    rng
        Source of randomness.
    """
    ny, nx = field.pixels.shape
    x0 = int(np.clip(x, -_OUTSIDE, nx - SIDE + _OUTSIDE))
    y0 = int(np.clip(y, -_OUTSIDE, ny - SIDE + _OUTSIDE))
    pixels, usable = _cut(field, x0, y0)
    labels = CellLabels(SIDE // CELL)
    targets = field.targets
    for n in np.flatnonzero(~field.dark):
        line = (targets.x[n] - x0, targets.y[n] - y0, targets.length[n], targets.angle[n])
        (labels.add if field.wanted[n] else labels.ignore)(*line)
    for _ in range(rng.poisson(_TRAILS)):
        _inject(pixels, usable, labels, field, rng)
    labels.without_border(_BORDER)
    return _described(pixels, usable, labels, field, rng)


def _cut(field: TrainingField, x0: int, y0: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    ny, nx = field.pixels.shape
    pixels = np.full((SIDE, SIDE), field.info.background, np.float32)
    usable = np.zeros((SIDE, SIDE), bool)
    rows, columns = slice(max(y0, 0), min(y0 + SIDE, ny)), slice(max(x0, 0), min(x0 + SIDE, nx))
    inside = slice(rows.start - y0, rows.stop - y0), slice(columns.start - x0, columns.stop - x0)
    pixels[inside], usable[inside] = field.pixels[rows, columns], field.usable[rows, columns]
    return pixels, usable


def _inject(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    labels: CellLabels,
    field: TrainingField,
    rng: np.random.Generator,
) -> None:
    short = rng.uniform() < _POINTS
    length = rng.uniform(0, 3) if short else math.exp(rng.uniform(0, math.log(_LONGEST)))
    x, y = rng.uniform(_INSIDE, SIDE - _INSIDE, 2)
    snr = math.exp(rng.uniform(*np.log(_SNR)))
    trail = DetectedSegment(float(x), float(y), length, rng.uniform(0, 180), snr)
    info = field.info
    stamp = trail_stamp(trail, moffat_mixture(info.psf.fwhm_px, info.psf.beta), info.psf.fwhm_px)
    unit = template_snr(1.0, stamp.pixels, info.noise, np.array(info.noise_correlation))
    add_light(pixels, stamp, snr / unit, info.gain, rng)
    seen = visible_stamp_share(usable, stamp) >= LEAST_VISIBLE
    (labels.add if seen else labels.ignore)(trail.x, trail.y, trail.length, trail.angle)


def _described(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    labels: CellLabels,
    field: TrainingField,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], ...]:
    """Turn and mirror a crop by one of the eight symmetries, and describe its cells."""
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))

    def turned(values: NDArray[Any]) -> NDArray[Any]:
        values = np.rot90(values, turns)
        return np.ascontiguousarray(values.T if mirror else values)

    plane = SearchImage.of(field.info, turned(pixels), turned(usable))
    fwhm = plane.fwhm_px * math.exp(rng.normal(0, _MISJUDGED))
    plane = plane._replace(correlation=turned(plane.correlation), fwhm_px=fwhm)
    cells = dense_input(plane, 0, 0, SIDE // CELL, SIDE // CELL)
    return cells, turned(labels.label), turned(labels.weight)


_SHOWN = 200  # number of batches between two reports


@dataclass(frozen=True)
class CellFit:
    """Number of batches, largest learning rate and weight decay of one round."""

    batches: int
    rate: float = 2e-3
    decay: float = 1e-3


def fit_cells(
    net: StreakNet,
    examples: Sequence[Example],
    crops: CropPlan,
    fit: CellFit,
    device: torch.device,
    say: Callable[[str], None],
) -> tuple[float, ...]:
    """Fit the network in place; return the mean loss of every 200 batches.

    Parameters
    ----------
    net
        Network on ``device``.
    examples, crops
        Training exposures, and positions of crops.
    fit
        AdamW (Loshchilov & Hutter 2019, ICLR) with a one-cycle schedule (Smith & Topin 2019, SPIE 11006).
    device
        Device for the computation.
    say
        Receives a message on the loss every 200 batches.
    """
    batches = draw_batches(examples, crops)
    optimiser = torch.optim.AdamW(net.parameters(), lr=fit.rate, weight_decay=fit.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, fit.rate, total_steps=fit.batches, pct_start=0.1)
    net.train()
    losses, total, since = [], 0.0, 0
    for number in range(1, fit.batches + 1):
        cells, label, weight = (part.to(device, non_blocking=True) for part in next(batches))
        odds = net(cells)
        loss = (nn.functional.binary_cross_entropy_with_logits(odds, label, weight, reduction="sum")) / label.numel()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(100 * loss)
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        total, since = total + float(loss.detach()), since + 1
        if number % _SHOWN == 0 or number == fit.batches:
            losses.append(total / since)
            say(f"batch {number} of {fit.batches}: loss {losses[-1]:.5f}")
            total, since = 0.0, 0
    net.eval()
    return tuple(losses)

"""Crops of exposures, with boxes around their trails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flows.training.examples import Example
from flows.training.field import Field, open_field
from flows.training.region_truth import Sources, sources_of
from kernels.dense_input import dense_input
from kernels.nets.streak_net import CELL
from kernels.plane import Plane

SIDE = 224
"""Of a crop, px."""

BORDER = 5
"""Cells at its rim that are not judged."""

_MISJUDGED = 0.08  # standard deviation of ln FWHM between what the network is told and what is


class Crop(NamedTuple):
    """Described cells of a crop, (rows, columns, 48), and what is on it."""

    cells: NDArray[np.float32]
    sources: Sources


@dataclass(frozen=True)
class CropShares:
    """How many of the crops show a trail, and a hard place, somewhere; the rest lie anywhere."""

    trail: float = 0.55
    hard: float = 0.0


class CropDraw:
    """Draws crops of exposures.

    Parameters
    ----------
    examples
        The exposures.
    seed
        Of everything.
    """

    def __init__(self, examples: Sequence[Example], seed: int) -> None:
        self._fields = [open_field(example) for example in examples]
        self._sources = [sources_of(one.truth, field) for one, field in zip(examples, self._fields, strict=True)]
        self._rng = np.random.default_rng(seed)
        self._hard: Mapping[str, NDArray[np.float64]] = {}
        self._shares = CropShares()

    def show(self, hard: Mapping[str, NDArray[np.float64]], shares: CropShares) -> None:
        """Say which places are hard: per exposure, (n, 2) x and y, px."""
        self._hard, self._shares = hard, shares

    def crops(self, count: int) -> list[Crop]:
        """Draw some."""
        return [self._crop() for _ in range(count)]

    def _crop(self) -> Crop:
        rng = self._rng
        n = int(rng.integers(len(self._fields)))
        x, y = self._middle(self._fields[n], self._sources[n].boxes)
        ny, nx = self._fields[n].pixels.shape
        corner = np.array([x, y]) - rng.uniform(BORDER * CELL + 4, SIDE - BORDER * CELL - 4, 2)
        x0, y0 = (int(value) for value in np.clip(corner, 0, np.array([nx, ny]) - SIDE))
        return cut_crop(self._fields[n], self._sources[n], (x0, y0), rng)

    def _middle(self, field: Field, boxes: NDArray[np.float64]) -> tuple[float, float]:
        rng, shares = self._rng, self._shares
        kind, hard = rng.uniform(), self._hard.get(field.name, np.empty((0, 2)))
        if kind < shares.trail and len(boxes):
            box = boxes[rng.integers(len(boxes))]
            return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        if kind >= 1 - shares.hard and len(hard):
            x, y = hard[rng.integers(len(hard))]
            return float(x), float(y)
        ny, nx = field.pixels.shape
        return rng.uniform(0, nx), rng.uniform(0, ny)


def cut_crop(field: Field, sources: Sources, corner: tuple[int, int], rng: np.random.Generator) -> Crop:
    """Cut a crop whose first pixel is (x, y), and turn or mirror it: one of the eight symmetries."""
    x0, y0 = corner
    rows, columns = slice(y0, y0 + SIDE), slice(x0, x0 + SIDE)
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))

    def turned(values: NDArray[Any]) -> NDArray[Any]:
        values = np.rot90(values, turns)
        return np.ascontiguousarray(values.T if mirror else values)

    plane = Plane.of(field.info, turned(field.pixels[rows, columns]), turned(field.usable[rows, columns]))
    fwhm = plane.fwhm_px * float(np.exp(rng.normal(0, _MISJUDGED)))
    plane = plane._replace(correlation=turned(plane.correlation), fwhm_px=fwhm)
    cells = dense_input(plane, 0, 0, SIDE // CELL, SIDE // CELL)
    return Crop(cells, sources.cropped(x0, y0, SIDE, float(BORDER * CELL)).turned(turns, mirror, SIDE))

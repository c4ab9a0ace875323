"""Crops of exposures, with boxes around their trails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.training.examples import Example, TrainingField, open_field
from kernels.image.search_image import SearchImage
from kernels.nets.streak_net import CELL
from kernels.search.dense_search import dense_input

Floats = NDArray[np.float64]


class Sources(NamedTuple):
    """Sources on an image or on a square crop of it.

    Attributes
    ----------
    boxes : (n, 4)
        Boxes of trails to be found: x0, y0, x1, y1, px.
    lines : (m, 4)
        Lines of what is ignored, such as point sources: x, y, length, px, and angle, deg.
    """

    boxes: Floats
    lines: Floats

    def cropped(self, x0: int, y0: int, side: int, border: float) -> "Sources":
        """Return the sources on a crop; trails whose middle is nearer than ``border`` px to its edge are ignored."""
        first = np.array([x0, y0], float)
        boxes, lines = self.boxes - np.tile(first, 2), self.lines - np.array([x0, y0, 0, 0])
        middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        inner = ((middle > border) & (middle < side - 1 - border)).all(1)
        touching = ((middle + half > 0) & (middle - half < side - 1)).all(1) & ~inner
        # A box has no angle: the trail is replaced by a line along x, as long as the longer side.
        added = np.concatenate([middle, 2 * half.max(1, keepdims=True, initial=0), np.zeros((len(half), 1))], 1)
        reach = lines[:, 2] / 2 + 20
        close = ((lines[:, :2] > -reach[:, None]) & (lines[:, :2] < side + reach[:, None])).all(1)
        return Sources(boxes[inner], np.concatenate([lines[close], added[touching]]))

    def turned(self, turns: int, mirror: bool, side: int) -> "Sources":
        """Return the sources on a crop after ``np.rot90(..., turns)`` and, if ``mirror``, transposition."""
        boxes, lines = self.boxes, self.lines
        for _ in range(turns):
            boxes = np.stack([boxes[:, 1], side - 1 - boxes[:, 2], boxes[:, 3], side - 1 - boxes[:, 0]], 1)
            lines = np.stack([lines[:, 1], side - 1 - lines[:, 0], lines[:, 2], lines[:, 3] - 90], 1)
        if mirror:
            boxes = boxes[:, [1, 0, 3, 2]]
            lines = np.stack([lines[:, 1], lines[:, 0], lines[:, 2], 90 - lines[:, 3]], 1)
        return Sources(boxes, lines)


def sources_of(truth: pa.Table, field: TrainingField) -> Sources:
    """Return boxes of the trails to be found, from a truth table, and lines of all other sources except dark ones."""
    targets, wanted = field.targets, field.wanted
    lines = np.stack([targets.x, targets.y, targets.length, targets.angle], 1)
    return Sources(true_boxes(truth)[wanted], lines[~wanted & ~field.dark])


def true_boxes(truth: pa.Table) -> Floats:
    """Return boxes of all sources in a truth table, (sources, 4), to the edges of their outermost pixels."""
    edges = [truth[f"box_{name}"].to_numpy().astype(np.float64) for name in ("xmin", "ymin", "xmax", "ymax")]
    return np.stack(edges, 1) + np.array([-0.5, -0.5, 0.5, 0.5])


SIDE = 224
"""Side of a crop, px."""

BORDER = 5
"""Number of cells at its edge that are not scored."""

_MISJUDGED = 0.08  # standard deviation of ln FWHM between the network's input and the truth


class RegionCrop(NamedTuple):
    """Described cells of a crop, (rows, columns, 48), and its sources."""

    cells: NDArray[np.float32]
    sources: Sources


@dataclass(frozen=True)
class CropShares:
    """Fractions of crops with a trail, and with a hard position, somewhere in them; the rest are anywhere."""

    trail: float = 0.55
    hard: float = 0.0


class CropDraw:
    """Random crops of exposures.

    Parameters
    ----------
    examples
        Exposures.
    seed
        Seed for everything.
    """

    def __init__(self, examples: Sequence[Example], seed: int) -> None:
        self._fields = [open_field(example) for example in examples]
        self._sources = [sources_of(one.truth, field) for one, field in zip(examples, self._fields, strict=True)]
        self._rng = np.random.default_rng(seed)
        self._hard: Mapping[str, NDArray[np.float64]] = {}
        self._shares = CropShares()

    def show(self, hard: Mapping[str, NDArray[np.float64]], shares: CropShares) -> None:
        """Set the hard positions, exposure name -> (n, 2) x and y, px, and the fractions of crops."""
        self._hard, self._shares = hard, shares

    def crops(self, count: int) -> list[RegionCrop]:
        """Return ``count`` random crops."""
        return [self._crop() for _ in range(count)]

    def _crop(self) -> RegionCrop:
        rng = self._rng
        n = int(rng.integers(len(self._fields)))
        x, y = self._middle(self._fields[n], self._sources[n].boxes)
        ny, nx = self._fields[n].pixels.shape
        corner = np.array([x, y]) - rng.uniform(BORDER * CELL + 4, SIDE - BORDER * CELL - 4, 2)
        x0, y0 = (int(value) for value in np.clip(corner, 0, np.array([nx, ny]) - SIDE))
        return cut_region_crop(self._fields[n], self._sources[n], (x0, y0), rng)

    def _middle(self, field: TrainingField, boxes: NDArray[np.float64]) -> tuple[float, float]:
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


def cut_region_crop(
    field: TrainingField, sources: Sources, corner: tuple[int, int], rng: np.random.Generator
) -> RegionCrop:
    """Cut a crop with first pixel (x, y), and turn or mirror it by one of the eight symmetries."""
    x0, y0 = corner
    rows, columns = slice(y0, y0 + SIDE), slice(x0, x0 + SIDE)
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))

    def turned(values: NDArray[Any]) -> NDArray[Any]:
        values = np.rot90(values, turns)
        return np.ascontiguousarray(values.T if mirror else values)

    plane = SearchImage.of(field.info, turned(field.pixels[rows, columns]), turned(field.usable[rows, columns]))
    fwhm = plane.fwhm_px * float(np.exp(rng.normal(0, _MISJUDGED)))
    plane = plane._replace(correlation=turned(plane.correlation), fwhm_px=fwhm)
    cells = dense_input(plane, 0, 0, SIDE // CELL, SIDE // CELL)
    return RegionCrop(cells, sources.cropped(x0, y0, SIDE, float(BORDER * CELL)).turned(turns, mirror, SIDE))

"""Boxes around the trails of an image from a `RegionNet`, converted to log odds of cells."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.image.search_image import Places, SearchImage
from kernels.nets.region_net import ANCHORS, BINS, CUT, UNIT, RegionNet
from kernels.nets.streak_net import CELL, PLANES
from kernels.psf.gaussian_mixture import RADIUS
from kernels.search.boxes import decode, outdone, rival_reach, roi_align
from kernels.search.dense_search import dense_input, round_up
from kernels.search.torch_search import precise_on
from kernels.search.windows import require_on_image
from schemas.model_card import ModelCard
from schemas.pixels import SearchGrid


def cut_pixels(
    cells: NDArray[np.float32], x: NDArray[np.floating], y: NDArray[np.floating], side: int
) -> NDArray[np.float32]:
    """Return ``side`` x ``side`` px around points, with the channels of `kernels.search.dense_search.dense_input`.

    Parameters
    ----------
    cells : (rows, columns, 48) float32
        Cells; the first starts at pixel 0.
    x, y : (n,)
        Points, px; rounded down to pixels.
    side
        Side, px, even; the point's pixel is the first after the middle.

    Returns
    -------
    (n, 3, side, side) float32

    Raises
    ------
    ValueError
        A square does not lie on the cells.
    """
    steps = np.arange(side) - side // 2
    row, column = (np.floor(place).astype(np.int64)[:, None] + steps for place in (y, x))
    for place, count in ((row, cells.shape[0]), (column, cells.shape[1])):
        if place.size and (place.min() < 0 or place.max() >= count * CELL):
            raise ValueError(f"squares of pixels {place.min()} to {place.max()} on {count} cells of {CELL} px")
    row, column = row[:, None, :, None], column[:, None, None, :]
    plane = np.arange(PLANES)[:, None, None] * CELL**2
    return cells[row // CELL, column // CELL, plane + row % CELL * CELL + column % CELL]


LONGEST = 80.0
"""Longest side of a box, px."""

FURTHEST = 8.0
"""Maximum shift of the centre of a box in each of its two shifts, along x or y, px."""

SHARE = 0.4
"""Overlap, as a fraction of the union, above which only the box with the higher score is kept."""

_CLAIM = 16  # px
_CORE = 96  # cells along the side of the kept features of a block
_BATCH = 64  # boxes per batch of the head

# Cells around a place: those whose proposals affect it, and those with the features of their boxes.
_RIVALS = math.ceil((rival_reach(LONGEST, SHARE) + 2 * FURTHEST) / CELL) + 1
_MARGIN = _RIVALS + math.ceil((FURTHEST + LONGEST / 2) / CELL) + 2


class RegionHits(NamedTuple):
    """Boxes around possible trails.

    Attributes
    ----------
    boxes : (n, 4) float64
        x0, y0, x1, y1, px; the edge of the first pixel of the first place is at -0.5.
    logits : (n,) float32
        Log odds of a trail.
    """

    boxes: NDArray[np.float64]
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class RegionSearch:
    """Search of an image for boxes around trails.

    Parameters
    ----------
    net
        The network, in evaluation mode, on ``device``.
    device
        Device of the network.
    card
        Card of its weights.
    floor
        Log odds above which a proposal is passed to the head.
    """

    net: RegionNet
    device: torch.device
    card: ModelCard
    floor: float

    @property
    def grid(self) -> SearchGrid:
        """Return the grid of the centres of the boxes."""
        return region_grid(self.net.reach)

    def search(self, plane: SearchImage, places: Places) -> tuple[NDArray[np.float32], int]:
        """Return the log odds of the boxes centred in each cell, and the number of cells that could not be searched.

        Parameters and errors are those of `kernels.search.detector.Detector.search`, with cells of stride `CELL`.

        Returns
        -------
        logits : (rows * columns,) float32
            Highest log odds of the boxes in a cell; -inf without one.
        unscored : int
            Cells without a usable pixel.

        Notes
        -----
        On a CPU, the result does not depend, to the bit, on the part of the image that is searched with a cell: blocks
        and batches have one size, and boxes have no effect beyond ``grid.reach``.
        """
        found, hidden = self.boxes(plane, places)
        logits = np.full(hidden.shape, -np.inf, np.float32)
        column, row = np.floor((found.boxes[:, :2] + found.boxes[:, 2:] + 1) / (2 * CELL)).astype(np.int64).T
        inside = (row >= 0) & (row < places.rows) & (column >= 0) & (column < places.columns)
        np.maximum.at(logits, (row[inside], column[inside]), found.logits[inside])
        logits[hidden] = -np.inf
        return logits.ravel(), int(hidden.sum())

    def boxes(self, plane: SearchImage, places: Places) -> tuple[RegionHits, NDArray[np.bool_]]:
        """Return the boxes around the cells, including those slightly outside, and the cells without a usable pixel."""
        y, x, rows, columns, _ = places
        require_on_image(plane.pixels[None, y:, x:].shape, (rows, columns), CELL, CELL)
        halo = self.net.reach
        tall, wide = (round_up(count + 2 * _MARGIN, _CORE) for count in (rows, columns))
        skip = (halo + _MARGIN) * CELL
        cells = dense_input(plane, y - skip, x - skip, tall + 2 * halo, wide + 2 * halo)
        inner = cells[halo : halo + tall, halo : halo + wide]
        hidden = np.asarray(inner[:, :, 2 * CELL**2 :].all(2))
        with torch.inference_mode(), precise_on(self.device):
            features, proposed = self._features(cells)
            proposed[hidden] = -np.inf
            near = _near_places(proposed.shape, rows, columns)
            found = self._judged(features, inner, *np.nonzero(_peaks(proposed, self.floor) & near))
        kept = ~outdone(found.boxes, found.logits, SHARE)
        place = hidden[_MARGIN : _MARGIN + rows, _MARGIN : _MARGIN + columns]
        return RegionHits(found.boxes[kept] - float(_MARGIN * CELL), found.logits[kept]), place

    def _features(self, cells: NDArray[np.float32]) -> tuple[torch.Tensor, NDArray[np.float32]]:
        """Return the features of all cells except the halo, (1, channels, rows, columns), and their best proposals."""
        halo = self.net.reach
        tall, wide = (count - 2 * halo for count in cells.shape[:2])
        features = torch.empty((1, self.net.channels, tall, wide), device=self.device).contiguous(
            memory_format=torch.channels_last
        )
        proposed = np.empty((tall, wide), np.float32)
        channels = torch.from_numpy(cells).permute(2, 0, 1)[None]
        for top in range(0, tall, _CORE):
            for left in range(0, wide, _CORE):
                side = _CORE + 2 * halo
                block = self.net.features(channels[:, :, top : top + side, left : left + side].to(self.device))
                core = block[:, :, halo : halo + _CORE, halo : halo + _CORE]
                features[:, :, top : top + _CORE, left : left + _CORE] = core
                best = self.net.objectness(core).amax(1)[0]
                proposed[top : top + _CORE, left : left + _CORE] = best.cpu().numpy()
        return features, proposed

    def _judged(
        self, features: torch.Tensor, cells: NDArray[np.float32], row: NDArray[np.intp], column: NDArray[np.intp]
    ) -> RegionHits:
        """Return the boxes proposed at some cells, and the results of the head for them, computed in batches."""
        boxes, logits = [np.empty((0, 4))], [np.empty(0, np.float32)]
        for start in range(0, len(row), _BATCH):
            part = slice(start, start + _BATCH)
            count = len(row[part])
            # All batches have one size, so that sums always run in the same order.
            rows, columns = (np.resize(place[part], _BATCH) for place in (row, column))
            proposals = propose(self.net, features, np.zeros(_BATCH, np.int64), rows, columns)
            odds, moved = look_at_boxes(self.net, features, np.zeros(_BATCH, np.int64), [cells], proposals)
            shifts = moved.cpu().numpy() / np.array(UNIT)
            boxes.append(decode(shifts, proposals, FURTHEST, LONGEST)[:count])
            logits.append(odds.cpu().numpy()[:count])
        return RegionHits(np.concatenate(boxes), np.concatenate(logits))


def region_grid(reach: int) -> SearchGrid:
    """Return the grid of a `RegionNet` whose features use cells up to ``reach`` cells away."""
    return SearchGrid(CELL, CELL, (_MARGIN + reach) * CELL + RADIUS, _CLAIM)


def anchor_boxes(row: NDArray[np.integer], column: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the anchors of cells, (k,) -> (k, anchors, 4), px."""
    middle = np.stack([column, row], 1)[:, None] * float(CELL) + (CELL - 1) / 2
    half = np.array(ANCHORS)[None] / 2
    return np.concatenate([middle - half, middle + half], 2)


def propose(
    net: RegionNet,
    features: torch.Tensor,
    image: NDArray[np.integer],
    row: NDArray[np.integer],
    column: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Return the most likely box of some cells of (n, channels, rows, columns) features, (k, 4) px."""
    chosen = features.permute(0, 2, 3, 1)[image, row, column]
    best = net.objectness(chosen[:, :, None, None])[:, :, 0, 0].argmax(1).cpu().numpy()
    each = np.arange(len(best))
    shifts = net.shifts(chosen).cpu().numpy()[each, best]
    return decode(shifts, anchor_boxes(row, column)[each, best], FURTHEST, LONGEST)


def look_at_boxes(
    net: RegionNet,
    features: torch.Tensor,
    image: NDArray[np.integer],
    cells: list[NDArray[np.float32]],
    boxes: NDArray[np.float64],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the results of the head for boxes on images whose cells and features both start at pixel 0."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    pixels = np.empty((len(boxes), 3, CUT, CUT), np.float32)
    for n, one in enumerate(cells):
        of = image == n
        pixels[of] = cut_pixels(one, middle[of, 0] + 0.5, middle[of, 1] + 0.5, CUT)
    device = features.device
    regions = roi_align(features, torch.from_numpy(image).to(device), torch.from_numpy(boxes).to(device), BINS)
    sides = torch.from_numpy((boxes[:, 2:] - boxes[:, :2]).astype(np.float32)).to(device)
    return net.judge(regions, torch.from_numpy(pixels).to(device), sides)


def _peaks(proposed: NDArray[np.float32], floor: float) -> NDArray[np.bool_]:
    """Return which cells are at least as likely as their eight neighbours and above the floor."""
    around = torch.nn.functional.max_pool2d(torch.from_numpy(proposed)[None, None], 3, 1, 1)[0, 0].numpy()
    return (proposed == around) & (proposed > floor)


def _near_places(shape: tuple[int, ...], rows: int, columns: int) -> NDArray[np.bool_]:
    near, first = np.zeros(shape, np.bool_), _MARGIN - _RIVALS
    near[first : _MARGIN + rows + _RIVALS, first : _MARGIN + columns + _RIVALS] = True
    return near

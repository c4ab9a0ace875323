"""Boxes around sources, and feature maps inside them."""

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import nn

from kernels.nets.streak_net import CELL

Boxes = NDArray[np.floating]


def box_overlap(first: Boxes, second: Boxes) -> NDArray[np.float64]:
    """Return intersection over union of each box of ``first`` with each of ``second``, (n, 4), (m, 4) -> (n, m)."""
    a, b = first[:, None].astype(np.float64), second[None].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.maximum(sides, 0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    return shared / union


def encode(boxes: Boxes, anchors: Boxes) -> NDArray[np.float32]:
    """Return boxes relative to anchors: shifts of centres in units of the anchor's sides, and logs of side ratios.

    Parameters
    ----------
    boxes, anchors : (n, 4)
        px.

    Returns
    -------
    (n, 4) float32
        Values for x, y, width, height (Girshick et al. 2014, CVPR, 580, eqs. 6-9).
    """
    (centre, sides), (origin, unit) = _centres(boxes), _centres(anchors)
    return np.concatenate([(centre - origin) / unit, np.log(sides / unit)], 1).astype(np.float32)


def decode(shifts: NDArray[np.floating], anchors: Boxes, furthest: float, longest: float) -> NDArray[np.float64]:
    """Return the boxes that `encode` encoded; shifts are limited to ``furthest`` and sides to ``longest``, px.

    Notes
    -----
    Edges are rounded to 1/256 px. Differences of edges and centres are then exact, and do not depend on the position
    of the first pixel of the image.
    """
    origin, unit = _centres(anchors)
    # The output of a network may have any value.
    shifts = np.clip(np.nan_to_num(shifts.astype(np.float64)), -100, 100)
    sides = np.clip(unit * np.exp(np.clip(shifts[:, 2:], -4, 4)), 1.0, longest)
    moved = np.clip(shifts[:, :2] * unit, -furthest, furthest)
    half = np.round(sides * 128) / 256
    centre = origin + np.round(moved * 256) / 256
    return np.concatenate([centre - half, centre + half], 1)


def outdone(boxes: Boxes, scores: NDArray[np.floating], share: float) -> NDArray[np.bool_]:
    """Return which boxes overlap a box of higher score by more than ``share`` of their union, (n,).

    Parameters
    ----------
    boxes : (n, 4)
    scores : (n,)
        Boxes of equal score do not outdo each other.
    share
        Intersection over union, 0 to 1.

    Notes
    -----
    Boxes that are themselves outdone still count, unlike in greedy non-maximum suppression. There the result for a box
    depends on a chain of others at any distance; here it depends only on those within `rival_reach`.
    """
    found = np.zeros(len(boxes), bool)
    if len(boxes) < 2:
        return found
    centre, sides = _centres(boxes)
    reach = rival_reach(float(sides.max()), share) * 2**0.5 + 1e-6
    near = scipy.spatial.KDTree(centre).query_pairs(reach, output_type="ndarray")
    if not len(near):
        return found
    first, second = boxes[near[:, 0]].astype(np.float64), boxes[near[:, 1]].astype(np.float64)
    shared = np.maximum(np.minimum(first, second)[:, 2:] - np.maximum(first, second)[:, :2], 0).prod(1)
    union = (first[:, 2:] - first[:, :2]).prod(1) + (second[:, 2:] - second[:, :2]).prod(1) - shared
    near = near[shared > share * union]
    less = np.where(scores[near[:, 0]] < scores[near[:, 1]], near[:, 0], near[:, 1])
    found[less[scores[near[:, 0]] != scores[near[:, 1]]]] = True
    return found


def rival_reach(longest: float, share: float) -> float:
    """Return the largest distance in x or y between centres of boxes with sides ``longest`` that overlap this much."""
    return longest * (1 - share) / (1 + share)


def _centres(boxes: Boxes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    wide = boxes.astype(np.float64)
    return (wide[:, :2] + wide[:, 2:]) / 2, wide[:, 2:] - wide[:, :2]


SAMPLES = 2
"""Points along each side of a bin."""


def roi_align(maps: torch.Tensor, image: torch.Tensor, boxes: torch.Tensor, bins: int) -> torch.Tensor:
    """Return the mean of each map in each of ``bins`` x ``bins`` parts of each box (He et al. 2017, ICCV, 2980).

    Parameters
    ----------
    maps : (n, channels, rows, columns)
        Maps of cells; the first cell starts at pixel 0.
    image : (k,) int64
        Index of the image of each box.
    boxes : (k, 4) float64
        x0, y0, x1, y1, px: the edge of the first pixel is at -0.5.
    bins
        Number of parts along a side.

    Returns
    -------
    (k, channels, bins, bins)
        Mean over 2 x 2 points of a part, interpolated linearly between cells; beyond the maps the edge values are used.

    Notes
    -----
    If edges are multiples of 1/256 px, the result depends, to the bit, only on the content of the box, and not on its
    position in the maps.
    """
    channels, rows, columns = maps.shape[1:]
    low_y, part_y = _points(boxes[:, 1], boxes[:, 3], bins)
    low_x, part_x = _points(boxes[:, 0], boxes[:, 2], bins)
    # One row per cell: values that are gathered together are contiguous.
    flat = maps.permute(0, 2, 3, 1).reshape(-1, channels)
    first = image[:, None, None] * (rows * columns)
    found: torch.Tensor | None = None
    for step_y in (0, 1):
        for step_x in (0, 1):
            weight_y = part_y if step_y else 1 - part_y
            weight_x = part_x if step_x else 1 - part_x
            weight = (weight_y[:, :, None] * weight_x[:, None, :]).to(maps.dtype)
            row = (low_y + step_y).clamp(0, rows - 1)[:, :, None]
            column = (low_x + step_x).clamp(0, columns - 1)[:, None, :]
            corner = flat.index_select(0, (first + row * columns + column).reshape(-1))
            corner = corner * weight.reshape(-1, 1)
            found = corner if found is None else found + corner
    assert found is not None
    side = bins * SAMPLES
    dense = found.reshape(len(boxes), side, side, channels).permute(0, 3, 1, 2)
    return nn.functional.avg_pool2d(dense, SAMPLES)


def _points(start: torch.Tensor, end: torch.Tensor, bins: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cell before each point along one side, and the distance of the point from its centre."""
    begin = (start - (CELL - 1) / 2) / CELL
    whole = torch.floor(begin)
    steps = (torch.arange(bins * SAMPLES, dtype=torch.float64, device=start.device) + 0.5) / (bins * SAMPLES)
    place = (begin - whole)[:, None] + steps * ((end - start) / CELL)[:, None]
    low = torch.floor(place)
    return low.long() + whole.long()[:, None], place - low

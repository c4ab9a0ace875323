"""What maps of features say about boxes of any size."""

import torch
from torch import nn

from kernels.nets.streak_net import CELL

SAMPLES = 2
"""Points along each side of a bin."""


def roi_align(maps: torch.Tensor, image: torch.Tensor, boxes: torch.Tensor, bins: int) -> torch.Tensor:
    """Give the mean of each map in each of ``bins`` x ``bins`` parts of each box (He et al. 2017, ICCV, 2980).

    Parameters
    ----------
    maps : (n, channels, rows, columns)
        Of cells; the first begins at pixel 0.
    image : (k,) int64
        Which of the n images a box lies on.
    boxes : (k, 4) float64
        x0, y0, x1, y1, px: the edge of the first pixel is at -0.5.
    bins
        Along a side.

    Returns
    -------
    (k, channels, bins, bins)
        Mean over 2 x 2 points of a part, between cells linear; beyond the maps they go on as at their edge.

    Notes
    -----
    If edges are multiples of 1/256 px, the result depends on what is in the box alone, to the bit, and not on the place
    of the box in the maps.
    """
    channels, rows, columns = maps.shape[1:]
    low_y, part_y = _points(boxes[:, 1], boxes[:, 3], bins)
    low_x, part_x = _points(boxes[:, 0], boxes[:, 2], bins)
    # One row per cell: what is gathered lies side by side.
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
    """Give the cell before each point along one side, and how far behind its centre the point lies."""
    begin = (start - (CELL - 1) / 2) / CELL
    whole = torch.floor(begin)
    steps = (torch.arange(bins * SAMPLES, dtype=torch.float64, device=start.device) + 0.5) / (bins * SAMPLES)
    place = (begin - whole)[:, None] + steps * ((end - start) / CELL)[:, None]
    low = torch.floor(place)
    return low.long() + whole.long()[:, None], place - low

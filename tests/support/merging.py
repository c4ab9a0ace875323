"""Hits that a search gives on sources whose places are known."""

import math

import numpy as np
import pyarrow as pa

from schemas.dia_source import HIT

WINDOW, STRIDE = 26, 7
SHAPE = (260, 280)


def middles(size):
    """Return where the middles of the windows along a side lie, px."""
    return np.arange(1 + (size - WINDOW) // STRIDE) * STRIDE + 12.5


def hit_table(row, column, logit):
    """Return rows of `HIT`."""
    columns = {"row": np.int32(row), "column": np.int32(column), "logit": np.float32(logit)}
    return pa.table(columns, schema=HIT.schema)


def hits_over(trails, shape=SHAPE, within=9.0):
    """Return windows that have a piece of a trail near their centre, with logits that fall away from it.

    Trails begin with x, y, length and angle.
    """
    y, x = (middles(size) for size in shape)
    apart = np.full((len(y), len(x)), np.inf)
    for x0, y0, length, angle, *_ in trails:
        for t in np.arange(-length / 2, length / 2 + 0.5):
            dx = abs(x - x0 - t * math.cos(math.radians(angle)))
            dy = abs(y - y0 - t * math.sin(math.radians(angle)))
            apart = np.minimum(apart, np.maximum(dx[None, :], dy[:, None]))
    row, column = np.nonzero(apart <= within)
    return hit_table(row, column, 4 - apart[row, column] / 4)

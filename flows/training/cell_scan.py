"""Where a `StreakNet` sees trails on whole exposures."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from flows.training.field import Field
from kernels.dense_search import DenseSearch
from kernels.matching import segment_distance
from kernels.nets.streak_net import CELL
from kernels.plane import Places, Plane

_CLEAR_PX = 10.0  # from every source, to be a hard place
_SPREAD = 4.0  # below its peak, log odds still belong to a place


@dataclass(frozen=True)
class Spots:
    """Connected cells above a floor: (n,) centre, px, highest log odds."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    peak: NDArray[np.float64]


def spots_on(search: DenseSearch, field: Field, floor: float) -> Spots:
    """Search an exposure and give what stands out.

    Parameters
    ----------
    search
        The network.
    field
        The exposure.
    floor
        Least log odds of a cell.
    """
    ny, nx = field.pixels.shape
    plane = Plane.of(field.info, np.asarray(field.pixels), np.asarray(field.usable))
    logits, _ = search.search(plane, Places(0, 0, ny // CELL, nx // CELL, CELL))
    return spots(logits.reshape(ny // CELL, nx // CELL), floor)


def spots(logits: NDArray[np.float32], floor: float) -> Spots:
    """Join neighbouring cells of (rows, columns) log odds to spots; their centre is that of the brightest cells."""
    label, count = ndimage.label(logits > floor, np.ones((3, 3)))
    row, column = np.nonzero(label)
    of, value = label[row, column] - 1, logits[row, column].astype(np.float64)
    peak = np.full(count, -np.inf)
    np.maximum.at(peak, of, value)
    weight = np.where(value > peak[of] - _SPREAD, 1 / (1 + np.exp(-value)), 0.0)
    total = np.bincount(of, weight, count)
    x, y = (np.bincount(of, weight * place, count) / total * CELL + (CELL - 1) / 2 for place in (column, row))
    return Spots(x, y, peak)


def hard_places(search: DenseSearch, field: Field, floor: float) -> NDArray[np.float64]:
    """Give what looks like a trail and is none, (n, 3): x, y, px, and how often to show it."""
    found = spots_on(search, field, floor)
    free = np.ones(len(found.x), bool)
    targets = field.targets
    for n in np.flatnonzero(~field.dark):
        line = (targets.x[n], targets.y[n], targets.length[n], targets.angle[n])
        free &= segment_distance(found.x, found.y, *line) > _CLEAR_PX
    often = 1 / (1 + np.exp(-(found.peak[free] - 1.0))) + 0.03
    return np.column_stack([found.x[free], found.y[free], often])


def bright_places(field: Field, snr: float) -> NDArray[np.float64]:
    """Give peaks of the smoothed image as hard places of a network that knows nothing yet; see `hard_places`."""
    info = field.info
    values = np.where(field.usable, (field.pixels - info.background) / info.noise, 0).astype(np.float32)
    smooth = torch.from_numpy(ndimage.gaussian_filter(values, info.psf.fwhm_px / 2.355))
    smooth = smooth / (1.4826 * smooth.abs().median())
    highest = torch.nn.functional.max_pool2d(smooth[None, None], 5, 1, 2)[0, 0]
    y, x = ((smooth == highest) & (smooth > snr)).nonzero(as_tuple=True)
    return np.column_stack([x.numpy(), y.numpy(), np.ones(len(x))]).astype(np.float64)

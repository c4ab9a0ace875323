"""Variation of a quantity over an image, on a mesh."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from schemas.exposure import Variation

_SAMPLE = 20_000  # approximate number of pixels of a variance plane that are examined
_WEIGHTLESS = 1e6  # times the variance of the sky: more than the light of unsaturated pixels adds
_CELL = 256  # px, approximate: side of the cells in which a quantity is measured

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


def mesh_cells(shape: tuple[int, ...], sample: int) -> tuple[Places, Places, list[tuple[slice, slice]]]:
    """Return the edges of the rows and the columns of cells of about 256 px, and about ``sample`` pixels of each."""
    rows, columns = (np.linspace(0, size, max(1, round(size / _CELL)) + 1).astype(np.intp) for size in shape)
    step = max(1, int((shape[0] * shape[1] / ((len(rows) - 1) * (len(columns) - 1)) / sample) ** 0.5))
    cells = [
        (slice(y0, y1, step), slice(x0, x1, step))
        for y0, y1 in pairwise(rows.tolist())
        for x0, x1 in pairwise(columns.tolist())
    ]
    return rows, columns, cells


def with_nearest(values: Floats) -> Floats:
    """Replace NaN in an array (rows, columns) by the value of the nearest cell that has one, and return it."""
    known = np.argwhere(np.isfinite(values))
    for row, column in np.argwhere(~np.isfinite(values)):
        nearest = known[np.square(known - (row, column)).sum(1).argmin()]
        values[row, column] = values[tuple(nearest)]
    return values


def varied(variation: Variation, x: NDArray[Any], y: NDArray[Any]) -> Floats:
    """Return the values at n places (px), (layers, n): bilinear between the nodes, constant beyond them."""
    values = np.array(variation.values)
    row, below, down = _between(y, variation.y, values.shape[1])
    column, after, right = _between(x, variation.x, values.shape[2])
    upper = values[:, row, column] * (1 - right) + values[:, row, after] * right
    lower = values[:, below, column] * (1 - right) + values[:, below, after] * right
    return np.asarray(upper * (1 - down) + lower * down, np.float64)


def _between(at: NDArray[Any], nodes: tuple[float, float], count: int) -> tuple[Places, Places, Floats]:
    """Return the nodes before and after each place, and how far it is from the one to the other, 0 to 1."""
    place = np.clip((np.asarray(at, np.float64) - nodes[0]) / nodes[1], 0, count - 1)
    first = np.floor(place).astype(np.intp)
    return first, np.minimum(first + 1, count - 1), place - first


def evened(
    image: NDArray[np.float32], background: float, noise: Variation | None, y0: int = 0, x0: int = 0
) -> NDArray[np.float32]:
    """Return an image, or a part of one, whose noise is everywhere that of the whole image.

    Parameters
    ----------
    image : (ny, nx)
        Pixels from row y0 and column x0 on.
    background
        Level of the image, which stays, pixel units.
    noise
        Noise relative to that of the image, one layer; None: it does not vary, and the image itself is returned.

    Notes
    -----
    A pixel's value does not depend on what else is in the part, and is what `varied` gives there, to the bit.
    """
    if noise is None:
        return image
    values, (ny, nx) = np.array(noise.values[0]), image.shape
    column, after, right = _between(np.arange(nx) + x0, noise.x, values.shape[1])
    lines = values[:, column] * (1 - right) + values[:, after] * right  # those of the nodes, at each column
    below, above, down = _between(np.arange(ny) + y0, noise.y, len(values))
    return _over_noise(image, np.float32(background), np.ascontiguousarray(lines), below, above, down)


@njit(cache=True, nogil=True, error_model="numpy")
def _over_noise(
    image: NDArray[np.float32], level: np.float32, lines: Floats, below: Places, above: Places, down: Floats
) -> NDArray[np.float32]:
    """Divide each row's light above a level by the noise between the lines before and after it."""
    out = np.empty_like(image)
    for y in range(image.shape[0]):
        first, second, share = lines[below[y]], lines[above[y]], down[y]
        for x in range(image.shape[1]):
            relative = np.float32(first[x] * (1 - share) + second[x] * share)
            out[y, x] = (image[y, x] - level) / relative + level
    return out


def variance_scale(
    variance: NDArray[np.float32], usable: NDArray[np.bool_], noise: float, variation: Variation | None
) -> float:
    """Return what takes a plane of variances to the noise that was measured; NaN where it tells nothing.

    Parameters
    ----------
    variance, usable : (ny, nx)
        The plane, and which pixels count.
    noise, variation
        Of the image, pixel units.
    """
    step = max(1, int((variance.size / _SAMPLE) ** 0.5))
    y, x = np.nonzero(usable[::step, ::step])
    relative = 1.0 if variation is None else varied(variation, x * step, y * step)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.square(noise * relative) / variance[::step, ::step][y, x]
    scale = scale[np.isfinite(scale) & (scale > 0)]
    return float(np.median(scale)) if scale.size else np.nan


def leave_weightless(usable: NDArray[np.bool_], variance: NDArray[np.float32], usual: float) -> None:
    """Mark as not usable, in place, what has no weight: archives say so by a variance that is infinite, or as good as.

    Parameters
    ----------
    usable, variance : (ny, nx)
        Pixels to be trusted, and the plane; NaN says nothing.
    usual
        Variance of the sky in its unit.
    """
    most = min(_WEIGHTLESS * usual, float(np.finfo(np.float32).max))
    for mine, told in zip(usable, variance, strict=True):  # row by row: both may be larger than the memory
        mine[told >= most] = False

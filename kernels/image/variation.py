"""Variation of a quantity over an image, on a mesh, and that of its noise."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.image.noise import MAD_TO_SIGMA
from kernels.image.order_statistic import median
from schemas.exposure import Variation

_CELL = 256  # px, about: pixels of which one value of the noise is
_SAMPLE = 20_000  # pixels of a cell that are looked at, about
_LEAST = 1_000  # of these, for a value of the noise
_EVEN = 0.1  # noise that varies by less is one number: half of that is what stars do to a cell
_MOST = 5.0  # times the noise of the image, or a share of it: more is a piece of something else

_WEIGHTLESS = 1e6  # times the variance of the sky: more than the light of any pixel that is not saturated adds

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


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
    out, level = np.empty_like(image), np.float32(background)
    for here, upper, lower, down in zip(range(ny), *_between(np.arange(ny) + y0, noise.y, len(values)), strict=True):
        relative = (lines[upper] * (1 - down) + lines[lower] * down).astype(np.float32)
        out[here] = (image[here] - level) / relative + level
    return out


def noise_variation(
    image: NDArray[np.float32], usable: NDArray[np.bool_], noise: float, variance: NDArray[np.float32] | None = None
) -> Variation | None:
    """Measure the noise over an image, relative to that of all of it.

    Parameters
    ----------
    image, usable : (ny, nx)
        Pixels, and which count.
    noise
        Of the image, pixel units.
    variance : (ny, nx)
        Variance of each pixel as its archive tells, in any unit: only its ratios count, as the size of the noise is
        measured. The light of bright sources is in it, and a median does not see it.

    Returns
    -------
    Variation or None
        None where it varies by less than 10 %.

    Notes
    -----
    Cells of about 256 px: the square root of the median variance; else 1.4826 times the median absolute deviation,
    which is good to 1 % in a cell. Cells with too few pixels have the value of the nearest that has enough.
    """
    rows, columns = (max(1, round(size / _CELL)) for size in image.shape)
    edges = [np.linspace(0, size, n + 1).astype(int) for size, n in zip(image.shape, (rows, columns), strict=True)]
    step = max(1, int((image.size / (rows * columns) / _SAMPLE) ** 0.5))
    cells = [
        np.s_[edges[0][row] : edges[0][row + 1] : step, edges[1][column] : edges[1][column + 1] : step]
        for row in range(rows)
        for column in range(columns)
    ]
    seen = np.array([_spread(image[here], usable[here]) for here in cells])
    if variance is not None:
        told = np.sqrt([_middle(variance[here], usable[here]) for here in cells])
        known = np.isfinite(seen / told)
        seen = told * np.median((seen / told)[known]) if known.any() else seen
    if not np.isfinite(seen).any():
        return None
    relative = _filled(seen.reshape(rows, columns) / noise)
    if np.ptp(relative) < _EVEN:
        return None
    values = np.clip(relative, 1 / _MOST, _MOST).round(4).tolist()
    steps = [size / n for size, n in zip(image.shape, (rows, columns), strict=True)]
    nodes = [(0.5 * one - 0.5, one) for one in steps]
    return Variation(values=(tuple(map(tuple, values)),), y=nodes[0], x=nodes[1])


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


def _middle(plane: NDArray[np.float32], usable: NDArray[np.bool_]) -> float:
    """Return the median of a cell; NaN where too little of it counts, or where it is not positive."""
    middle = _median(plane[usable], usable.size)
    return middle if middle > 0 else np.nan


def _spread(image: NDArray[np.float32], usable: NDArray[np.bool_]) -> float:
    """Return the noise of a cell; NaN where too little of it counts, or where it has none."""
    values = image[usable]
    spread = _median(np.abs(values - np.float32(_median(values, usable.size))), usable.size)
    return spread * MAD_TO_SIGMA if spread > 0 else np.nan


def _median(values: NDArray[np.float32], pixels: int) -> float:
    """Return the median of what is finite of a cell; NaN where that is too little of its ``pixels``."""
    values = values[np.isfinite(values)]
    return median(values.astype(np.float64)) if values.size >= max(1, min(_LEAST, pixels // 4)) else np.nan


def _filled(values: Floats) -> Floats:
    """Replace NaN by the value of the nearest cell that has one."""
    known = np.argwhere(np.isfinite(values))
    for row, column in np.argwhere(~np.isfinite(values)):
        nearest = known[np.square(known - (row, column)).sum(1).argmin()]
        values[row, column] = values[tuple(nearest)]
    return values

"""State of the pixels of an image: usable, masked, saturated, without value."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from schemas.pixels import UNUSABLE, MaskPlane

_BLOCK = 4
_QUIET = 0.15  # of the usual scatter; lossy compression scatters a constant by up to 0.07 sigma


REACH = 3 * _BLOCK
"""Distance within which other pixels affect a pixel's state, px; bands of rows must start at multiples of 4, too."""


def usual_scatter(image: NDArray[np.float32]) -> float:
    """Return the median of the standard deviations of the blocks of 4 x 4 px, those with none left out; 0 if all are.

    Parameters
    ----------
    image : (ny, nx) float32
        May hold NaN.
    """
    return _usual(_block_moments(image, image.shape[0] // _BLOCK, image.shape[1] // _BLOCK)[1])


def _usual(scatter: NDArray[np.float64]) -> float:
    alive = np.isfinite(scatter) & (scatter > 0)
    return float(np.median(scatter[alive])) if alive.any() else 0.0


def flat_regions(image: NDArray[np.float32], usual: float | None = None) -> NDArray[np.bool_]:
    """Mark pixels that hardly differ from their surroundings, as no noise would let them.

    Parameters
    ----------
    image : (ny, nx) float32
        May hold NaN.
    usual
        `usual_scatter` of the whole, if this is a part of an image.

    Returns
    -------
    (ny, nx) bool
        True in blocks of 4 x 4 px whose scatter is below 0.15 of the median block's, if a block beside them is like
        them, and on pixels next to these within three times the block's scatter of its level. All False if no block
        has any scatter.
    """
    level, scatter = _block_moments(image, image.shape[0] // _BLOCK, image.shape[1] // _BLOCK)
    quiet = _QUIET * (_usual(scatter) if usual is None else usual)
    flat = np.isfinite(scatter) & (scatter < quiet)
    flat &= _beside(flat)
    marked = np.zeros(image.shape, np.bool_)
    if flat.any():
        _spread(image, flat, level, 3 * scatter, marked)
    return marked


def _beside(flat: NDArray[np.bool_]) -> NDArray[np.bool_]:
    wide = np.pad(flat, 1)
    return wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]


@njit(cache=True)
def _block_moments(image: NDArray[np.float32], ny: int, nx: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and standard deviation of each block; NaN if a pixel is not finite."""
    level, scatter = np.empty((ny, nx)), np.empty((ny, nx))
    count = _BLOCK * _BLOCK
    for row in range(ny):
        for column in range(nx):
            y0, x0 = row * _BLOCK, column * _BLOCK
            pivot = np.float64(image[y0, x0])  # so that a high level costs no digits
            total = square = 0.0
            for y in range(y0, y0 + _BLOCK):
                for x in range(x0, x0 + _BLOCK):
                    value = np.float64(image[y, x]) - pivot
                    total += value
                    square += value * value
            mean = total / count
            level[row, column] = pivot + mean
            scatter[row, column] = np.sqrt(max(square / count - mean * mean, 0.0)) if np.isfinite(square) else np.nan
    return level, scatter


@njit(cache=True)
def _spread(
    image: NDArray[np.float32],
    flat: NDArray[np.bool_],
    level: NDArray[np.float64],
    tolerance: NDArray[np.float64],
    marked: NDArray[np.bool_],
) -> None:
    """Mark the flat blocks, and around each what is within its ``tolerance`` of its level."""
    ny, nx = image.shape
    for row in range(flat.shape[0]):
        for column in range(flat.shape[1]):
            if not flat[row, column]:
                continue
            y0, x0 = row * _BLOCK, column * _BLOCK
            for y in range(max(0, y0 - _BLOCK), min(ny, y0 + 2 * _BLOCK)):
                for x in range(max(0, x0 - _BLOCK), min(nx, x0 + 2 * _BLOCK)):
                    inside = y0 <= y < y0 + _BLOCK and x0 <= x < x0 + _BLOCK
                    if inside or abs(image[y, x] - level[row, column]) <= tolerance[row, column]:
                        marked[y, x] = True


_LARGEST = np.finfo(np.float32).max
_NOTHING, _NO_DATA, _SAT = np.uint16(0), np.uint16(MaskPlane.NO_DATA), np.uint16(MaskPlane.SAT)
_UNUSABLE = np.uint16(UNUSABLE)


class PixelState(NamedTuple):
    """State of the pixels of an image, from their values.

    Attributes
    ----------
    mask : (ny, nx) uint16
        Bits of `MaskPlane`: those given, and what was found.
    usable : (ny, nx) bool
        Pixels with none of the bits of `schemas.pixels.UNUSABLE`.
    finite, infinite, good
        Numbers of finite, of infinite and of usable pixels.
    first
        Value of the first finite pixel; NaN without one.
    constant
        Whether all finite pixels have that value.
    """

    mask: NDArray[np.uint16]
    usable: NDArray[np.bool_]
    finite: int
    infinite: int
    good: int
    first: float
    constant: bool


def pixel_state(
    difference: NDArray[np.float32],
    mask: NDArray[np.uint16],
    science: NDArray[np.float32] | None = None,
    saturation: float | None = None,
    usual: float | None = None,
) -> PixelState:
    """Mark pixels without a value and saturated ones.

    Parameters
    ----------
    difference : (ny, nx)
        Difference image; may hold NaN and infinities, which become NO_DATA, as do regions that hold no sky (see
        `kernels.image.pixel_state`).
    mask : (ny, nx)
        What is known already; it is not changed.
    science : (ny, nx)
        Direct image, if there is one.
    saturation
        Finite pixels of the difference image at or above it become SAT, and so do those whose direct image is; unit of
        the pixels.
    usual
        `usual_scatter` of the whole, if this is a part of an image.
    """
    with np.errstate(over="ignore"):
        limit = np.float32(np.inf if saturation is None else saturation)
    known, values = np.array(mask, np.uint16, order="C"), np.ascontiguousarray(difference)
    first = _first(values.ravel())
    finite, infinite, others = _mark(values.ravel(), limit, first, known.ravel())
    if science is not None and saturation is not None:
        known[(science >= limit) & np.isfinite(values)] |= _SAT
    usable = np.empty(known.shape, np.bool_)
    good = _settle(known.ravel(), flat_regions(values, usual).ravel(), usable.ravel())
    return PixelState(known, usable, finite, infinite, good, float(first), not others)


def filled(image: NDArray[np.float32], mask: NDArray[np.uint16], value: float) -> NDArray[np.float32]:
    """Return an image (ny, nx) with ``value`` where the mask says NO_DATA."""
    whole = np.empty(image.shape, np.float32)
    _fill(np.ascontiguousarray(image).ravel(), mask.ravel(), np.float32(value), whole.ravel())
    return whole


@njit(cache=True)
def _first(values: NDArray[np.float32]) -> np.float32:
    """Return the first finite value, or NaN."""
    for value in values:
        if np.isfinite(value):
            return value
    return np.float32(np.nan)


@njit(cache=True)
def _mark(
    values: NDArray[np.float32], limit: np.float32, first: np.float32, mask: NDArray[np.uint16]
) -> tuple[int, int, int]:
    """Mask pixels by their values; count the finite, the infinite, and the finite other than ``first``."""
    finite = infinite = others = 0
    # No branches: eight or sixteen pixels are done at a time.
    for i in range(values.size):
        value = values[i]
        good = abs(value) <= _LARGEST
        finite += good
        infinite += (value == value) & (not good)
        others += good & (value != first)
        mask[i] |= (_NOTHING if good else _NO_DATA) | (_SAT if good & (value >= limit) else _NOTHING)
    return finite, infinite, others


@njit(cache=True)
def _settle(mask: NDArray[np.uint16], flat: NDArray[np.bool_], usable: NDArray[np.bool_]) -> int:
    """Mark flat regions in ``mask``, and in ``usable`` the pixels that remain usable; count the latter."""
    count = 0
    for i in range(mask.size):
        mask[i] |= _NO_DATA if flat[i] else _NOTHING
        usable[i] = (mask[i] & _UNUSABLE) == 0
        count += usable[i]
    return count


@njit(cache=True)
def _fill(image: NDArray[np.float32], mask: NDArray[np.uint16], value: np.float32, whole: NDArray[np.float32]) -> None:
    for i in range(image.size):
        whole[i] = value if mask[i] & _NO_DATA else image[i]


def usable_pixels(
    pixels: NDArray[np.float32],
    mask: NDArray[np.uint16],
    allocate: Callable[[tuple[int, ...], str], NDArray[Any]] = np.empty,
) -> NDArray[np.bool_]:
    """Return the pixels that are finite and not masked as unusable.

    Parameters
    ----------
    pixels, mask : (ny, nx)
        Difference image, and its mask plane (`schemas.pixels.MaskPlane`).
    allocate
        Returns the array to be filled, of a shape and a dtype.

    Returns
    -------
    (ny, nx) bool
        A new array, for the caller to change.
    """
    out = allocate(pixels.shape, "bool")
    _mark_unusable(pixels, mask, out)
    return out


@njit(cache=True, nogil=True)
def _mark_unusable(pixels: NDArray[np.float32], mask: NDArray[np.uint16], out: NDArray[np.bool_]) -> None:
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            # Without a branch; neither NaN nor infinity is less than infinity.
            out[row, column] = ((mask[row, column] & _UNUSABLE) == 0) & (abs(pixels[row, column]) < math.inf)

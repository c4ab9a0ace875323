"""Which pixels of an image can be used, found in as few passes over it as can be."""

from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from kernels.flat_regions import flat_regions
from schemas.mask import UNUSABLE, MaskPlane

_LARGEST = np.finfo(np.float32).max
_NOTHING, _NO_DATA, _SAT = np.uint16(0), np.uint16(MaskPlane.NO_DATA), np.uint16(MaskPlane.SAT)
_UNUSABLE = np.uint16(UNUSABLE)


class PixelState(NamedTuple):
    """What the values of an image say of its pixels.

    Attributes
    ----------
    mask : (ny, nx) uint16
        Bits of `MaskPlane`: those given, and what was found.
    usable : (ny, nx) bool
        Pixels with none of the bits of `schemas.mask.UNUSABLE`.
    finite, infinite, good
        Numbers of finite, of infinite and of usable pixels.
    constant
        Whether all finite pixels have one value.
    """

    mask: NDArray[np.uint16]
    usable: NDArray[np.bool_]
    finite: int
    infinite: int
    good: int
    constant: bool


def pixel_state(
    difference: NDArray[np.float32],
    mask: NDArray[np.uint16],
    science: NDArray[np.float32] | None = None,
    saturation: float | None = None,
) -> PixelState:
    """Mark pixels without a value and saturated ones.

    Parameters
    ----------
    difference : (ny, nx)
        Difference image; may hold NaN and infinities, which become NO_DATA, as do regions that hold no sky (see
        `kernels.flat_regions`).
    mask : (ny, nx)
        What is known already; it is not changed.
    science : (ny, nx)
        Direct image, if there is one.
    saturation
        Finite pixels of the difference image at or above it become SAT, and so do those whose direct image is; unit of
        the pixels.
    """
    with np.errstate(over="ignore"):
        limit = np.float32(np.inf if saturation is None else saturation)
    known, values = np.array(mask, np.uint16, order="C"), np.ascontiguousarray(difference)
    finite, infinite, others = _mark(values.ravel(), limit, _first(values.ravel()), known.ravel())
    if science is not None and saturation is not None:
        known[(science >= limit) & np.isfinite(values)] |= _SAT
    usable = np.empty(known.shape, np.bool_)
    good = _settle(known.ravel(), flat_regions(values).ravel(), usable.ravel())
    return PixelState(known, usable, finite, infinite, good, not others)


def filled(image: NDArray[np.float32], mask: NDArray[np.uint16], value: float) -> NDArray[np.float32]:
    """Give an image (ny, nx) with ``value`` where the mask says NO_DATA."""
    whole = np.empty(image.shape, np.float32)
    _fill(np.ascontiguousarray(image).ravel(), mask.ravel(), np.float32(value), whole.ravel())
    return whole


@nb.njit(cache=True)
def _first(values: NDArray[np.float32]) -> np.float32:
    """First finite value, or NaN."""
    for value in values:
        if np.isfinite(value):
            return value
    return np.float32(np.nan)


@nb.njit(cache=True)
def _mark(
    values: NDArray[np.float32], limit: np.float32, first: np.float32, mask: NDArray[np.uint16]
) -> tuple[int, int, int]:
    """Put what the values say into ``mask``; count the finite, the infinite, and the finite other than ``first``."""
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


@nb.njit(cache=True)
def _settle(mask: NDArray[np.uint16], flat: NDArray[np.bool_], usable: NDArray[np.bool_]) -> int:
    """Put flat regions into ``mask``, and what can be used then into ``usable``; count it."""
    count = 0
    for i in range(mask.size):
        mask[i] |= _NO_DATA if flat[i] else _NOTHING
        usable[i] = (mask[i] & _UNUSABLE) == 0
        count += usable[i]
    return count


@nb.njit(cache=True)
def _fill(image: NDArray[np.float32], mask: NDArray[np.uint16], value: np.float32, whole: NDArray[np.float32]) -> None:
    for i in range(image.size):
        whole[i] = value if mask[i] & _NO_DATA else image[i]

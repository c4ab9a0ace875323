"""Medians and quantiles, compiled: exact, in time proportional to the number of values."""

import math

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit

_FEW = 24
_PER_BUCKET, _MOST_BUCKETS = 4, 4096
_LEAST = 1_000  # minimum number of pixels measured in a cell, or a quarter of it if that is less


@njit(cache=True, nogil=True)
def median(values: NDArray[np.float64]) -> float:
    """Return the median of finite numbers, as numpy does; NaN of none."""
    return quantile(values, 0.5)


def median_of_cell(values: NDArray[np.floating], pixels: int) -> float:
    """Return the median of what is finite of a cell; NaN where that is too little of its ``pixels``."""
    values = values[np.isfinite(values)]
    return median(values.astype(np.float64)) if values.size >= max(1, min(_LEAST, pixels // 4)) else np.nan


@njit(cache=True, nogil=True)
def quantile(values: NDArray[np.float64], share: float) -> float:
    """Return a quantile of finite numbers, interpolated linearly as numpy does by default.

    Parameters
    ----------
    values : (n,)
        In any order; they are not changed.
    share
        0 to 1.

    Returns
    -------
    float
        NaN if there are no values.
    """
    count = values.shape[0]
    if count == 0:
        return math.nan
    place = (count - 1) * share
    rank = min(int(place), count - 1)
    low = _smallest(values, rank)
    part = place - rank
    if part == 0.0:
        return low
    high = _successor(values, rank, low)
    return 0.5 * (low + high) if part == 0.5 else low + (high - low) * part


@njit(cache=True, nogil=True)
def _smallest(values: NDArray[np.float64], rank: int) -> float:
    """Return the value of a rank, 0 the least: sort into buckets, then search the one that holds it."""
    left = values
    while left.shape[0] > _FEW:
        low, high = left[0], left[0]
        for value in left:
            low, high = min(low, value), max(high, value)
        buckets = min(left.shape[0] // _PER_BUCKET, _MOST_BUCKETS)
        scale = (buckets - 1) / (high - low) if high > low else math.inf
        if not scale < 1e300:  # alike, to 1e-297
            return low
        counts = np.zeros(buckets, np.int64)
        for value in left:
            counts[int((value - low) * scale)] += 1
        bucket = 0
        while rank >= counts[bucket]:
            rank -= counts[bucket]
            bucket += 1
        kept, found = np.empty(counts[bucket]), 0
        for value in left:
            if int((value - low) * scale) == bucket:
                kept[found] = value
                found += 1
        left = kept
    return _sorted(left)[rank]


@njit(cache=True, nogil=True)
def _sorted(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a few values sorted, by insertion."""
    out = values.copy()
    for i in range(1, out.shape[0]):
        value, j = out[i], i
        while j > 0 and out[j - 1] > value:
            out[j] = out[j - 1]
            j -= 1
        out[j] = value
    return out


@njit(cache=True, nogil=True)
def _successor(values: NDArray[np.float64], rank: int, value: float) -> float:
    """Return the value of the next rank."""
    above, least = 0, math.inf
    for other in values:
        if other > value:
            above += 1
            least = min(least, other)
    return value if values.shape[0] - above > rank + 1 else least

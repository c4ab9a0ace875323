"""Background and noise of an image that also holds stars, trails and artefacts."""

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

_SAMPLE = 1_000_000  # of this many pixels the median is known to 0.1 % of sigma
_CLIP = 4.0  # sigma; leaves 99.994 % of a Gaussian
_MAD_TO_SIGMA = 1.482602218505602  # 1 / quantile(3/4) of the normal distribution


def background_and_noise(image: NDArray[np.float32], usable: NDArray[np.bool_]) -> tuple[float, float]:
    """Give the median of an image and the standard deviation of its pixels about it, both robust.

    Parameters
    ----------
    image : (ny, nx)
        Any unit; finite where usable.
    usable : (ny, nx)
        Pixels to take into account.

    Returns
    -------
    background, noise
        Median, and 1.4826 times the median absolute deviation, of the pixels within 4 sigma; unit of ``image``.
        Images of more than a million pixels are sampled on a regular grid.

    Raises
    ------
    ValueError
        No pixel is usable.
    """
    step = max(1, round((image.size / _SAMPLE) ** 0.5))
    sampled = image[::step, ::step][usable[::step, ::step]]
    # A grid may miss what little is usable.
    values: NDArray[np.floating] = sampled if sampled.size > 1000 else image[usable]
    if not values.size:
        raise ValueError("no pixel is usable")
    if (values == np.rint(values)).all():
        # Counts: their median and MAD come in whole numbers, too coarse for a noise of a few. Spread over the unit
        # that each stands for (always alike), they do not.
        values = values + np.random.default_rng(0).uniform(-0.5, 0.5, values.size)
    # Sorted once, medians and what lies within a limit are a matter of a few looks.
    ordered = np.sort(values).astype(np.float64)
    centre, spread = _moments(ordered)
    for _ in range(10):
        kept = _within(ordered, centre, _CLIP * spread)
        if kept.size == ordered.size or not spread:
            break
        ordered = kept
        centre, spread = _moments(ordered)
    return centre, spread


def _within(ordered: NDArray[np.float64], centre: float, reach: float) -> NDArray[np.float64]:
    first = bisect_left(ordered, True, key=lambda value: centre - value <= reach)
    return ordered[first : bisect_left(ordered, True, first, key=lambda value: value - centre > reach)]


def _moments(ordered: NDArray[np.float64]) -> tuple[float, float]:
    """Median, and the scaled median absolute deviation from it, of sorted values."""
    middle = (ordered.size - 1) // 2, ordered.size // 2
    centre = float(ordered[middle[0]] + ordered[middle[1]]) / 2
    deviations = [_deviation(ordered, centre, rank) for rank in middle]
    return centre, _MAD_TO_SIGMA * (sum(deviations) / 2)


def _deviation(ordered: NDArray[np.float64], centre: float, rank: int) -> float:
    """Absolute deviation from ``centre`` that ``rank`` of the sorted values stay below.

    The ``rank + 1`` values nearest to the centre are neighbours; of all such runs it is the one whose ends are equally
    far away, or as nearly as can be.
    """

    def right_end_is_farther(first: int) -> bool:
        return bool(ordered[first + rank] - centre >= centre - ordered[first])

    runs = range(ordered.size - rank)
    first = bisect_left(runs, True, key=right_end_is_farther)
    ends = [ordered[first + rank] - centre] if first < len(runs) else []
    return float(min([*ends, *([centre - ordered[first - 1]] if first else [])]))

"""Background and noise of an image that also holds stars, trails and artefacts."""

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
    values = (sampled if sampled.size > 1000 else image[usable]).astype(np.float64)
    if not values.size:
        raise ValueError("no pixel is usable")
    if (values == np.rint(values)).all():
        # Counts: their median and MAD come in whole numbers, too coarse for a noise of a few. Spread over the unit
        # that each stands for (always alike), they do not.
        values += np.random.default_rng(0).uniform(-0.5, 0.5, values.size)
    centre, spread = _moments(values)
    for _ in range(10):
        kept = values[np.abs(values - centre) <= _CLIP * spread]
        if kept.size == values.size or not spread:
            break
        values = kept
        centre, spread = _moments(values)
    return centre, spread


def _moments(values: NDArray[np.float64]) -> tuple[float, float]:
    centre = float(np.median(values))
    return centre, _MAD_TO_SIGMA * float(np.median(np.abs(values - centre)))

"""Magnitudes of the detections of one object, and how often those of unrelated ones are as alike."""

import math

import numpy as np
from numpy.typing import NDArray

from kernels.linking.detections import SkyDetections

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_SPREADS = (0.2, 0.6)  # mag, standard deviations of an object's magnitudes: usual, and with odd shapes or bands
_SHARES = (0.7, 0.3)  # of objects with each
_WINDOWS = (0.5, 0.15)  # mag: detections of an exposure as close as this show how dense its magnitudes are


def density_of_magnitudes(magnitude: Floats) -> Floats:
    """Return the share of an exposure's detections in a magnitude, around that of each; NaN where it has none.

    It is that within 0.5 or 0.15 mag, or on the fuller side of it, whichever is most: at the limit of an exposure one
    side is empty.
    """
    ordered, found = np.sort(magnitude[np.isfinite(magnitude)]), np.zeros(len(magnitude))
    first, last = np.searchsorted(ordered, magnitude), np.searchsorted(ordered, magnitude, side="right")
    for near in _WINDOWS:
        low = np.searchsorted(ordered, magnitude - near)
        high = np.searchsorted(ordered, magnitude + near, side="right")
        number = np.maximum(high - low, 2 * np.maximum(last - low, high - first))
        found = np.maximum(found, number / (2 * near * max(len(ordered), 1)))
    return np.where(np.isfinite(magnitude), found, np.nan)


def chance_of_magnitude(detections: SkyDetections, i: Indices, j: Indices, member: Indices, density: Floats) -> Floats:
    """Return the share of unrelated detections with a magnitude that an object is as likely to have; 1 at most.

    Parameters
    ----------
    detections, i, j
        Detections of the object; both may be the same.
    member
        What may be another one.
    density
        Of magnitudes around the member, as of `density_of_magnitudes`.

    Returns
    -------
    (n,) float64
        1 where a magnitude is not known. It is never more, as objects may turn fast or be seen in unknown bands.
    """
    one, other = detections.magnitude[i], detections.magnitude[j]
    mean = np.where(np.isnan(one), other, np.where(np.isnan(other), one, (one + other) / 2))
    number = np.maximum(np.isfinite(one).astype(int) + np.isfinite(other) - (i == j), 1)
    share = density / np.maximum(_likelihood(detections.magnitude[member] - mean, number), 1e-9)
    return np.where(np.isnan(share), 1.0, np.minimum(share, 1.0))


def _likelihood(off: Floats, number: NDArray[np.int_]) -> Floats:
    """Return the probability per mag that an object's magnitude differs so from the mean of a number of others."""
    likely = np.zeros(len(off))
    for spread, share in zip(_SPREADS, _SHARES, strict=True):
        width = spread * np.sqrt(1 + 1 / number)
        likely += share / (math.sqrt(2 * math.pi) * width) * np.exp(-np.square(off / width) / 2)
    return likely


def least_chance_of_magnitude(density: Floats) -> Floats:
    """Return about the least that `chance_of_magnitude` is of what a detection's object has near it."""
    most = float(_likelihood(np.zeros(1), np.full(1, 2))[0])
    return np.where(np.isnan(density), 1.0, np.minimum(density / (2 * most), 1.0))

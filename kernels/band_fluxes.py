"""Means of fluxes that several exposures of a band give of the same objects."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.point_photometry import Fluxes


class BandFlux(NamedTuple):
    """Mean flux of each object, its standard error, and from how many exposures; NaN and 0 where there is none."""

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    exposures: NDArray[np.int64]


class FluxSum:
    """Adds up fluxes, one exposure at a time, weighted by the noise of the sky alone.

    Weights by the whole error, which grows with the flux, would favour low values.

    Parameters
    ----------
    objects
        How many there are.
    """

    def __init__(self, objects: int) -> None:
        self._weight, self._light, self._variance = (np.zeros(objects) for _ in range(3))
        self._count = np.zeros(objects, np.int64)

    def add(self, which: NDArray[np.int64], fluxes: Fluxes, scale: float) -> None:
        """Add the fluxes of some objects, each at most once, times ``scale``; those that are NaN are left out."""
        good = np.isfinite(fluxes.value) & (fluxes.sky_error > 0)
        which = which[good]
        value, error, sky = (scale * part[good] for part in (fluxes.value, fluxes.error, fluxes.sky_error))
        weight = sky**-2
        self._weight[which] += weight
        self._light[which] += weight * value
        self._variance[which] += np.square(weight * error)
        self._count[which] += 1

    def mean(self) -> BandFlux:
        """Give the weighted means."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return BandFlux(self._light / self._weight, np.sqrt(self._variance) / self._weight, self._count)

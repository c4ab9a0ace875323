"""Stars, galaxies and quasars of the sky, by magnitude and galactic latitude, before anything is seen of them."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

GALAXIES = ((13, -0.9), (16, 0.85), (18, 2.05), (20, 3.15), (22, 4.05), (24, 4.75), (26, 5.35))
"""AB magnitude in r, log10 of the number of brighter galaxies per square degree: Yasuda et al. 2001 (AJ 122, 1104) to
20, Capak et al. 2007 (ApJS 172, 99) beyond."""

DUST = 0.12
"""Extinction of extragalactic light at the Galactic poles, mag in r; elsewhere over sin |b|."""

UNMEASURED = 20.0
"""Magnitude assumed if no band has one with an acceptable error: that of a faint source."""

_LESS_R = {"r": 0.0, "g": 0.6, "i": -0.2, "z": -0.3, "u": 2.0}
"""Colours against r, mag, of the commonest stars, G and K dwarfs; the first band present counts."""

_LOWEST = 20.0  # deg; closer to the Milky Way, where counts of stars fail, those of this latitude are used
_RANGE = (13.5, 25.5)  # r; brighter and fainter sources have the fractions of its ends
_V_LESS_R = 0.27  # for a star with g - r = 0.6, by Jester et al. 2005 (AJ 130, 873)
_QUASARS, _TO, _BREAK, _SLOPES = 99.0, 22.0, 19.1, (0.98, 0.15)


def sky_shares(ra: NDArray[np.floating], dec: NDArray[np.floating], r: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the shares of stars, galaxies and quasars among what has a magnitude at a place, (n, 3), sums 1.

    Parameters
    ----------
    ra, dec : (n,)
        ICRS, deg.
    r : (n,)
        AB magnitude in r, of `in_r`; NaN counts as `UNMEASURED`.

    Notes
    -----
    Counts per square degree and magnitude. Stars: equation B1 of Bahcall & Soneira 1980 (ApJS 44, 73), right within
    15 % from 20 deg of galactic latitude on. Galaxies: `GALAXIES`. Quasars: 99 to g = 22 (Palanque-Delabrouille et al.
    2013, A&A 551, A29), with slopes of 0.98 and 0.15 about 19.1: 6 to 19.1, where Richards et al. 2006 (AJ 131, 2766)
    have 9.5. Between 14 and 22 the shares hold within a factor of two away from clusters of stars and galaxies.
    """
    from astropy.coordinates import SkyCoord  # takes a while, and every plan of a run imports the stages

    galactic = SkyCoord(ra, dec, unit="deg").galactic
    latitude = np.maximum(np.abs(galactic.b.rad), np.deg2rad(_LOWEST))
    magnitude = np.clip(np.where(np.isfinite(r), r, UNMEASURED), *_RANGE)
    beyond = magnitude - DUST / np.sin(latitude)
    counts = (
        _per_magnitude(lambda m: _stars_to(m + _V_LESS_R, galactic.l.rad, latitude), magnitude),
        _per_magnitude(_galaxies_to, beyond),
        _quasars(beyond),
    )
    found = np.stack(counts, axis=-1)
    return np.asarray(found / found.sum(axis=-1, keepdims=True), np.float64)


def in_r(magnitudes: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float64]:
    """Return about the magnitude in r of n sources from that in any band of ugriz, (n,), NaN where none is finite."""
    found = np.full(len(next(iter(magnitudes.values()))), np.nan)
    for band, colour in _LESS_R.items():
        if band in magnitudes:
            found = np.where(np.isfinite(found), found, magnitudes[band] - colour)
    return found


def _per_magnitude(
    counted: Callable[[NDArray[np.float64]], NDArray[np.float64]], magnitude: NDArray[np.float64]
) -> NDArray[np.float64]:
    return (counted(magnitude + 0.25) - counted(magnitude - 0.25)) / 0.5


def _stars_to(
    v: NDArray[np.float64], longitude: NDArray[np.float64], latitude: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the stars per square degree up to a magnitude in V at a galactic place, rad."""
    mu = np.clip(0.0075 * (v - 12) + 0.03, 0.03, 0.09)
    gamma = np.clip(0.36 - 0.04 * (v - 12), 0.04, 0.36)
    across = np.cos(latitude) * np.cos(longitude)
    disc = 925 * 10 ** (0.035 * (v - 15.75)) / (1 + 10 ** (-0.132 * (v - 15.75))) ** 3
    halo = 1050 * 10 ** (0.087 * (v - 17.5)) / (1 + 10 ** (-0.18 * (v - 17.5))) ** 2.5
    return disc / (np.sin(latitude) - mu * across) ** (3 - 5 * gamma) + halo / (1 - across) ** (1.45 - 0.2 * across)


def _galaxies_to(r: NDArray[np.float64]) -> NDArray[np.float64]:
    magnitude, counts = np.array(GALAXIES).T
    return np.asarray(10 ** np.interp(r, magnitude, counts), np.float64)


def _quasars(r: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quasars per square degree and magnitude, whose g and r hardly differ."""
    steps = np.linspace(12.0, _TO, 1001)
    return _broken(r) * _QUASARS / np.trapezoid(_broken(steps), steps)


def _broken(magnitude: NDArray[np.float64]) -> NDArray[np.float64]:
    bright, faint = _SLOPES
    return 1 / (10 ** (-bright * (magnitude - _BREAK)) + 10 ** (-faint * (magnitude - _BREAK)))

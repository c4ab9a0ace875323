"""Where half is found: brightness at a completeness of 0.5, with an interval."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, xlog1py, xlogy
from scipy.stats import chi2

LEAST = 20
"""Sources below which nothing is said."""

_POINTS = 241  # of the grid of half points
_BINS = 64  # into which sources are put
_SLOPES = np.geomspace(1.0, 60.0, 12)
_CEILINGS = np.array([0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 1.0])
_LEAST_CHANCE = 1e-6  # a source against all expectation is not the end of it


class HalfPoint(NamedTuple):
    """Brightness at which half of the sources is found.

    Attributes
    ----------
    value, low, high
        The point and the ends of its 95 % interval; None where the sources do not define it.
    reason
        Why they do not; empty where they do.
    """

    value: float | None
    low: float | None
    high: float | None
    reason: str


def half_point(brightness: NDArray[np.float64], found: NDArray[np.bool_]) -> HalfPoint:
    """Find where completeness is 0.5, and how well that is known.

    Parameters
    ----------
    brightness : (n,)
        Signal to noise or flux of each source, > 0, any unit.
    found : (n,) bool
        Whether it was found.

    Returns
    -------
    HalfPoint
        Without a value for fewer than 20 sources, if none or all were found, and if the point or an end of its interval
        is not within the range of the sources: nothing is said about sources that were not tried.

    Notes
    -----
    The model is that of `kernels.completeness.fit_completeness`: ``ceiling / (1 + exp(-slope (ln b - centre)))`` with a
    ceiling above 0.5. Its likelihood is computed on a grid of half points, slopes and ceilings; the interval holds the
    half points whose likelihood, at the best slope and ceiling of each, is within 1.92 of the largest, and one step of
    the grid either side (profile likelihood; Wilks 1938, Ann. Math. Stat. 9, 60).
    """
    if len(brightness) < LEAST:
        return _nothing(f"fewer than {LEAST} streaks")
    if not found.any() or found.all():
        return _nothing("all were recovered" if found.any() else "none was recovered")
    log = np.log(brightness)
    points = np.linspace(log.min(), log.max(), _POINTS)
    profile = _profile(points, *_binned(log, found))
    best = int(np.argmax(profile))
    inside = np.flatnonzero(profile >= profile[best] - chi2.ppf(0.95, 1) / 2)
    low, high = int(inside[0]) - 1, int(inside[-1]) + 1
    if low < 0 or high >= _POINTS:
        return _nothing("its interval reaches beyond the streaks put in")
    value, lower, upper = np.exp(points[[best, low, high]]).tolist()
    return HalfPoint(value, lower, upper, "")


def _nothing(reason: str) -> HalfPoint:
    return HalfPoint(None, None, None, reason)


def _binned(
    log: NDArray[np.float64], found: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean of the logarithm, sources found and sources lost, in narrow bins."""
    edges = np.linspace(log.min(), log.max(), _BINS + 1)
    place = np.clip(np.searchsorted(edges, log, "right") - 1, 0, _BINS - 1)
    count, hits, total = (
        np.bincount(place, weights, _BINS).astype(np.float64) for weights in (np.ones(len(log)), found, log)
    )
    filled = count > 0
    return total[filled] / count[filled], hits[filled], (count - hits)[filled]


def _profile(
    points: NDArray[np.float64], log: NDArray[np.float64], hits: NDArray[np.float64], lost: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log likelihood of each half point at the slope and ceiling that suit it best."""
    best = np.full(len(points), -np.inf)
    for ceiling in _CEILINGS:
        for slope in _SLOPES:
            centre = points + np.log(2 * ceiling - 1) / slope
            chance = ceiling * expit(slope * (log - centre[:, None]))
            chance = np.clip(chance, _LEAST_CHANCE, 1 - _LEAST_CHANCE)
            best = np.maximum(best, (xlogy(hits, chance) + xlog1py(lost, -chance)).sum(axis=1))
    return best

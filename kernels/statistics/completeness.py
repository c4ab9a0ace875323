"""Completeness and other shares, their intervals, and their dependence on signal to noise."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SNR_EDGES = (3.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0)
LENGTH_EDGES = (0.0, 2.0, 5.0, 10.0, 20.0, 35.0, 60.0)
_LEAST_FOR_FIT = 20


@dataclass(frozen=True)
class Share:
    """``found`` of ``n``, with the 95 % interval of Clopper & Pearson 1934 (Biometrika 26, 404)."""

    found: int
    n: int

    @property
    def value(self) -> float | None:
        """Return the share found; None without sources."""
        return self.found / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """Return the lower and upper bound; (0, 1) without sources."""
        return binomial_interval(self.found, self.n)


@dataclass(frozen=True)
class Bin:
    """Share of the sources with ``lo`` <= value < ``hi`` that were found."""

    lo: float
    hi: float
    share: Share


@dataclass(frozen=True)
class Logistic:
    """Completeness ``ceiling / (1 + exp(-slope (ln snr - centre)))``.

    Attributes
    ----------
    ceiling
        Completeness of the brightest, 0 to 1.
    slope
        Steepness, per unit of ln S/N.
    centre
        ln S/N at half of the ceiling.
    """

    ceiling: float
    slope: float
    centre: float

    def at(self, snr: Floats) -> Floats:
        """Return the completeness at a signal to noise."""
        return self.ceiling * scipy.special.expit(self.slope * (np.log(snr) - self.centre))

    @property
    def s50(self) -> float | None:
        """Return the signal to noise at a completeness of 0.5; None if the curve never gets there, or beyond 1e300."""
        if self.ceiling <= 0.5:
            return None
        log_snr = self.centre - np.log(2 * self.ceiling - 1) / self.slope
        return float(np.exp(log_snr)) if log_snr <= np.log(1e300) else None


def binomial_interval(found: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of Clopper & Pearson for a share: it covers at least that, however small n is.

    Parameters
    ----------
    found, n
        Successes and trials.
    """
    tail = (1 - 0.95) / 2
    low = float(scipy.special.betaincinv(found, n - found + 1, tail)) if found else 0.0
    high = float(scipy.special.betaincinv(found + 1, n - found, 1 - tail)) if found < n else 1.0
    return low, high


def poisson_interval(n: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean of which ``n`` events were seen (Garwood 1936, Biometrika 28, 437)."""
    tail = (1 - 0.95) / 2
    low = float(scipy.special.gammaincinv(n, tail)) if n else 0.0
    return low, float(scipy.special.gammaincinv(n + 1, 1 - tail))


def share_above(value: Floats, found: Bools, least: float) -> Share:
    """Return the share found among the sources of at least ``least``."""
    above = value >= least
    return Share(int(found[above].sum()), int(above.sum()))


def binned(value: Floats, found: Bools, edges: tuple[float, ...]) -> tuple[Bin, ...]:
    """Return the share found per bin; the last bin holds its upper edge too.

    Parameters
    ----------
    value : (n,)
        Signal to noise or length of each source.
    found : (n,) bool
        Whether it was found.
    edges
        Increasing bounds of the bins, unit of ``value``.
    """
    bins = []
    for lo, hi in pairwise(edges):
        inside = (value >= lo) & ((value < hi) | ((hi == edges[-1]) & (value == hi)))
        bins.append(Bin(lo, hi, Share(int(found[inside].sum()), int(inside.sum()))))
    return tuple(bins)


def fit_completeness(snr: Floats, found: Bools) -> Logistic | None:
    """Fit a logistic in ln S/N with a free ceiling, by maximum likelihood.

    Parameters
    ----------
    snr : (n,)
        Signal to noise of each source; those that are not positive are left out.
    found : (n,) bool
        Whether it was found.

    Returns
    -------
    Logistic or None
        None where the data do not define it: fewer than 20 sources, all or none found, or a 50 % point outside the
        range of S/N that the sources cover.
    """
    usable = snr > 0
    log_snr, hit = np.log(snr[usable]), found[usable]
    if len(hit) < _LEAST_FOR_FIT or hit.all() or not hit.any():
        return None

    def loss(parameters: Floats) -> float:
        model = _logistic(parameters).at(np.exp(log_snr))
        chance = np.clip(np.where(hit, model, 1 - model), 1e-12, 1.0)
        return -float(np.log(chance).sum())

    starts = [(2.0, np.log(slope), np.quantile(log_snr, q)) for slope in (2.0, 8.0) for q in (0.25, 0.5, 0.75)]
    fits = (scipy.optimize.minimize(loss, start, method="Nelder-Mead") for start in starts)
    best = min(fits, key=lambda fit: float(fit.fun))
    curve = _logistic(best.x)
    inside = curve.s50 is not None and snr[usable].min() <= curve.s50 <= snr[usable].max()
    return curve if inside else None


def _logistic(parameters: Floats) -> Logistic:
    """Return the logistic of unbounded parameters: logit of the ceiling, log of the slope (at most 150), centre."""
    ceiling, slope, centre = parameters
    return Logistic(float(scipy.special.expit(ceiling)), float(np.exp(min(slope, 5.0))), float(centre))


LEAST = 20
"""Minimum number of sources for a result."""

_POINTS = 241  # in the grid of half points
_BINS = 64  # number of bins for sources
_SLOPES = np.geomspace(1.0, 60.0, 12)
_CEILINGS = np.array([0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 1.0])
_LEAST_CHANCE = 1e-6  # minimum probability of a source, so that an outlier does not decide everything


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
    The model is that of `fit_completeness`: ``ceiling / (1 + exp(-slope (ln b - centre)))`` with a
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
    inside = np.flatnonzero(profile >= profile[best] - scipy.special.gammaincinv(0.5, 0.95))
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
    """Return the mean of the logarithm and the numbers of sources found and lost, in narrow bins."""
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
            chance = ceiling * scipy.special.expit(slope * (log - centre[:, None]))
            chance = np.clip(chance, _LEAST_CHANCE, 1 - _LEAST_CHANCE)
            likelihood = scipy.special.xlogy(hits, chance) + scipy.special.xlog1py(lost, -chance)
            best = np.maximum(best, likelihood.sum(axis=1))
    return best

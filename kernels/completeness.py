"""Shares, their intervals, and how they depend on signal to noise."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import beta

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
        """Share found; None of nothing."""
        return self.found / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound; (0, 1) of nothing."""
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
        """Completeness at a signal to noise."""
        return self.ceiling * expit(self.slope * (np.log(snr) - self.centre))

    @property
    def s50(self) -> float | None:
        """Signal to noise at a completeness of 0.5; None if the curve never gets there."""
        if self.ceiling <= 0.5:
            return None
        return float(np.exp(self.centre - np.log(2 * self.ceiling - 1) / self.slope))


def binomial_interval(found: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Give the interval of Clopper & Pearson for a share: it covers at least ``confidence``, however small n is.

    Parameters
    ----------
    found, n
        Successes and trials.
    confidence
        Of the two-sided interval, 0 to 1.
    """
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, found, n - found + 1)) if found else 0.0
    high = float(beta.ppf(1 - tail, found + 1, n - found)) if found < n else 1.0
    return low, high


def share_above(value: Floats, found: Bools, least: float) -> Share:
    """Give the share found among the sources of at least ``least``."""
    above = value >= least
    return Share(int(found[above].sum()), int(above.sum()))


def binned(value: Floats, found: Bools, edges: tuple[float, ...]) -> tuple[Bin, ...]:
    """Give the share found per bin; the last bin holds its upper edge too.

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
    best = min((minimize(loss, start, method="Nelder-Mead") for start in starts), key=lambda fit: float(fit.fun))
    curve = _logistic(best.x)
    inside = curve.s50 is not None and snr[usable].min() <= curve.s50 <= snr[usable].max()
    return curve if inside else None


def _logistic(parameters: Floats) -> Logistic:
    """Logistic from unbounded parameters: logit of the ceiling, log of the slope (at most 150), centre."""
    ceiling, slope, centre = parameters
    return Logistic(float(expit(ceiling)), float(np.exp(min(slope, 5.0))), float(centre))

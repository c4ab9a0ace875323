"""Drift of a night against earlier ones: distributions of features, and single values."""

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]

GROUPS = 10
"""Number of groups of about equal content for the population stability index."""


def stability_index(night: Counts, reference: Counts) -> float:
    """Return the population stability index, the symmetric Kullback-Leibler divergence of two histograms.

    Parameters
    ----------
    night, reference : (bins,)
        Counts on the same bins. They are combined into `GROUPS` groups, of about equal content in the reference.

    Notes
    -----
    sum((p - q) ln(p / q)) (Siddiqi 2006, Credit Risk Scorecards), with half a count added to each group, so that an
    empty one gives no infinity. For equal distributions it is about (GROUPS - 1) (1 / n + 1 / m).
    """
    below = np.cumsum(reference) - reference
    group = np.minimum((below * GROUPS) // max(1, int(reference.sum())), GROUPS - 1)
    p, q = (
        np.bincount(group, weights=counts, minlength=GROUPS)[np.unique(group)] + 0.5 for counts in (night, reference)
    )
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((p - q) * np.log(p / q)))


def distribution_distance(night: Counts, reference: Counts) -> float:
    """Return the largest difference of the two cumulative shares (Kolmogorov & Smirnov), at the limits of the bins."""
    if not night.sum() or not reference.sum():
        return 0.0
    return float(np.abs(np.cumsum(night) / night.sum() - np.cumsum(reference) / reference.sum()).max())


def distance_p(value: float, n: int, m: int) -> float:
    """Return probability of a distance no smaller, for equal distributions; binned values make it larger than it is.

    Asymptotic (Smirnov 1948, Ann. Math. Statist. 19, 279).
    """
    return float(scipy.stats.kstwobign.sf(value * np.sqrt(n * m / max(n + m, 1))))


def adjusted(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust p-values of several features, however they depend on each other (Benjamini & Yekutieli 2001)."""
    return np.asarray(scipy.stats.false_discovery_control(p, method="by")) if len(p) else p


def least_distance(alpha: float, features: int, n: float) -> float:
    """Return the distance that is not due to chance, of several features tested together; 1: none is that large.

    Parameters
    ----------
    alpha
        Level.
    features
        How many are tested together, as in `adjusted`.
    n
        Effective number of values, n m / (n + m).
    """
    together = features * float(np.sum(1 / np.arange(1, features + 1)))
    return min(1.0, float(scipy.stats.kstwobign.isf(alpha / together)) / float(np.sqrt(n)))


def usual_distance(reference: Counts, n: int, sigmas: float, least: float) -> float:
    """Return the distance that a night which only differs as earlier ones do hardly exceeds; below 1.

    Each night of the reference is compared with all others. What chance adds to a distance falls with the number of
    values, what differs from night to night does not: they are kept separate, to compare nights of few
    values and of many.

    Parameters
    ----------
    reference : (nights, bins)
        Counts of each night; two nights at least have values.
    n
        Number of values of the night that is judged.
    sigmas
        How rarely.
    least
        Distance that is not due to chance for that night, see `least_distance`.

    Notes
    -----
    Distances end at 1, so they are taken as the separation of two unit Gaussians that far from each other,
    u = 2 Phi^-1((1 + d) / 2). What chance adds to u^2 is 2 pi K^2 / n, n = n_1 n_2 / (n_1 + n_2), K distributed as
    Kolmogorov's. The upper quartile of the reference, less that of chance, is that of half a Gaussian. A night with
    more values than those of the reference mostly have is allowed what was chance there, as that hides what differs.
    """
    nights = reference[reference.sum(axis=1) > 0]
    total, each = nights.sum(axis=0), nights.sum(axis=1)
    effective = each * (total.sum() - each) / total.sum()
    apart = _separation(np.array([distribution_distance(night, total - night) for night in nights]))
    chance = 2 * np.pi * float(scipy.stats.kstwobign.ppf(0.75)) ** 2 / effective
    sigma = float(np.sqrt(max(np.quantile(apart**2 - chance, 0.75), 0))) / float(scipy.stats.halfnorm.ppf(0.75))
    here = n * total.sum() / (n + total.sum())
    coarser = max(1.0, float(np.sqrt(here / np.median(effective))))
    limit = np.hypot(sigmas * sigma, coarser * float(_separation(np.array(least))))
    return float(2 * scipy.stats.norm.cdf(limit / 2) - 1)


def _separation(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(2 * scipy.stats.norm.ppf((1 + np.minimum(distances, 1 - 1e-6)) / 2))


@dataclass(frozen=True)
class Departure:
    """Departure of a value from earlier ones.

    Attributes
    ----------
    median
        Median of the earlier ones.
    sigma
        Scatter of such a value about that median.
    score
        How many sigma the value is above the median; infinite where nothing scatters and the value differs.
    """

    median: float
    sigma: float
    score: float


def departure(value: float, error: float, earlier: ArrayLike, floor: float = 0.0) -> Departure:
    """Compare a value with earlier ones, robustly.

    Parameters
    ----------
    value, error
        The value, and its standard error, which adds to the scatter in quadrature.
    earlier : (n,)
        Earlier values, n >= 2.
    floor
        Least sigma: differences that do not matter, however little the values scatter.

    Notes
    -----
    The scatter is 1.4826 MAD, times n / (n - 0.8) for small n (Croux & Rousseeuw 1992, COMPSTAT 411), times
    sqrt(1 + pi / 2n), as the median of n Gaussian values scatters by sqrt(pi / 2n) itself.
    """
    values = np.asarray(earlier, np.float64)
    n = len(values)
    median = float(np.median(values))
    deviation = float(scipy.stats.median_abs_deviation(values, scale="normal"))
    scatter = deviation * n / (n - 0.8) * float(np.sqrt(1 + np.pi / (2 * n)))
    sigma = max(math.hypot(scatter, error), floor)
    if sigma == 0:
        return Departure(median, 0.0, 0.0 if value == median else float(np.copysign(np.inf, value - median)))
    return Departure(median, sigma, (value - median) / sigma)


@dataclass(frozen=True)
class Bins:
    """Bins of equal width from ``low`` to ``high``, or in the logarithm; values beyond are in the end bins."""

    low: float
    high: float
    count: int
    log: bool = False

    def histogram(self, values: ArrayLike) -> NDArray[np.int64]:
        """Count finite values.

        Parameters
        ----------
        values : (n,)

        Returns
        -------
        (count,)
        """
        given = np.asarray(values, np.float64)
        given = given[np.isfinite(given)]
        low, high = self.low, self.high
        if self.log:
            given, low, high = np.log(np.maximum(given, self.low)), np.log(self.low), np.log(self.high)
        place = np.clip((given - low) / (high - low) * self.count, 0, self.count - 1)
        return np.bincount(place.astype(np.int64), minlength=self.count)


FEATURES = {
    "reliability": Bins(0, 1, 50),
    "logitPeak": Bins(-10, 30, 80),
    "snr": Bins(3, 300, 80, log=True),
    "trailLengthPx": Bins(0.1, 1000, 80, log=True),
    "sharpness": Bins(0, 3, 60),
    "negativeFraction": Bins(0, 2, 40),
    "reducedChi2": Bins(0.1, 100, 80, log=True),
}
"""Columns of `dia_source`, and chi squared of the trail fit per pixel.

Only quantities with a value per detection: values common to an exposure or night are judged by their median.
"""

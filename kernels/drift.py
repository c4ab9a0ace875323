"""Whether a night's distribution of a feature is another than that of earlier nights."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, kstwobign, median_abs_deviation

Counts = NDArray[np.int64]

GROUPS = 10
"""Groups of about equal content that the population stability index is taken over."""


def stability_index(night: Counts, reference: Counts, groups: int = GROUPS) -> float:
    """Give the population stability index, the symmetric Kullback-Leibler divergence of two histograms.

    Parameters
    ----------
    night, reference : (bins,)
        Counts on the same bins.
    groups
        The bins are brought together to so many groups, of about equal content in the reference.

    Notes
    -----
    sum((p - q) ln(p / q)) (Siddiqi 2006, Credit Risk Scorecards), with half a count added to each group, so that an
    empty one gives no infinity. For equal distributions it is about (groups - 1) (1 / n + 1 / m).
    """
    below = np.cumsum(reference) - reference
    group = np.minimum((below * groups) // max(1, int(reference.sum())), groups - 1)
    p, q = (
        np.bincount(group, weights=counts, minlength=groups)[np.unique(group)] + 0.5 for counts in (night, reference)
    )
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((p - q) * np.log(p / q)))


def distance(night: Counts, reference: Counts) -> float:
    """Give the largest difference of the two cumulative shares (Kolmogorov & Smirnov), at the limits of the bins."""
    if not night.sum() or not reference.sum():
        return 0.0
    return float(np.abs(np.cumsum(night) / night.sum() - np.cumsum(reference) / reference.sum()).max())


def distance_p(value: float, n: int, m: int) -> float:
    """Give the probability of a distance no smaller, for equal distributions; binned values make it larger than it is.

    Asymptotic (Smirnov 1948, Ann. Math. Statist. 19, 279).
    """
    return float(kstwobign.sf(value * np.sqrt(n * m / (n + m)))) if n and m else 1.0


def adjusted(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust p-values of several features, however they depend on each other (Benjamini & Yekutieli 2001)."""
    return np.asarray(false_discovery_control(p, method="by")) if len(p) else p


def usual_distance(reference: NDArray[np.int64], sigmas: float) -> float:
    """Give the distance that a night of the reference hardly exceeds.

    Each night of it is compared with all others; the distances are positive and skew, so their logarithms count:
    exp(median + sigmas * 1.4826 MAD).

    Parameters
    ----------
    reference : (nights, bins)
        Counts of each night, two nights at least.
    sigmas
        How rarely.
    """
    total = reference.sum(axis=0)
    each = np.array([distance(night, total - night) for night in reference if night.sum()])
    logs = np.log(np.maximum(each, 1e-6))
    if not len(logs):
        return 0.0
    return float(np.exp(np.median(logs) + sigmas * median_abs_deviation(logs, scale="normal")))

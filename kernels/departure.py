"""How far a value is from what came before."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import median_abs_deviation


@dataclass(frozen=True)
class Departure:
    """Of a value from earlier ones.

    Attributes
    ----------
    median
        Of the earlier ones.
    sigma
        What such a value scatters about that median.
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
    scatter = float(median_abs_deviation(values, scale="normal")) * n / (n - 0.8) * float(np.sqrt(1 + np.pi / (2 * n)))
    sigma = max(math.hypot(scatter, error), floor)
    if sigma == 0:
        return Departure(median, 0.0, 0.0 if value == median else float(np.copysign(np.inf, value - median)))
    return Departure(median, sigma, (value - median) / sigma)

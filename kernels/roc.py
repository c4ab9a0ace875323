"""How well a score tells two groups apart."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

_Z95 = 1.959963984540054


class Area(NamedTuple):
    """Area under the ROC curve, with its 95 % interval."""

    value: float
    low: float
    high: float


def area_under_roc(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> Area | None:
    """Give the chance that a positive scores above a negative, ties counting half.

    Parameters
    ----------
    positive, negative : (n,), (m,)
        Scores; minus infinity is the least.

    Returns
    -------
    Area or None
        None if either group is empty.

    Notes
    -----
    Area of Mann & Whitney; variance of DeLong, DeLong & Clarke-Pearson 1988 (Biometrics 44, 837), by ranks (Sun & Xu
    2014, IEEE Signal Process. Lett. 21, 1389). The interval is that of the logit of the area, which stays within 0 and
    1; for a perfect separation, that of Clopper & Pearson for the smaller group.
    """
    n, m = len(positive), len(negative)
    if not n or not m:
        return None
    ranks = rankdata(np.concatenate([positive, negative]))
    above = (ranks[:n] - rankdata(positive)) / m  # share of the negatives that each positive exceeds
    below = 1 - (ranks[n:] - rankdata(negative)) / n
    value = float(above.mean())
    if value in (0.0, 1.0):
        edge = 0.025 ** (1 / min(n, m))
        return Area(value, edge, 1.0) if value else Area(value, 0.0, 1 - edge)
    variance = float(np.var(above, ddof=1) / n if n > 1 else 0.25) + float(np.var(below, ddof=1) / m if m > 1 else 0.25)
    reach = _Z95 * math.sqrt(variance) / (value * (1 - value))
    middle = math.log(value / (1 - value))
    low, high = (1 / (1 + math.exp(-(middle + sign * reach))) for sign in (-1, 1))
    return Area(value, low, high)

"""Agreement of two judges beyond chance."""

import numpy as np
from numpy.typing import NDArray


def cohen_kappa(table: NDArray[np.integer]) -> tuple[float, float]:
    """Return Cohen's kappa and its standard error.

    Parameters
    ----------
    table : (k, k)
        How often the first judge said i where the second said j.

    Returns
    -------
    kappa, error : float
        1: they always agree, 0: as often as by chance. NaN where chance alone explains all: both always say the same
        one thing, or there is nothing.

    Notes
    -----
    kappa = (p - c) / (1 - c), with p the share of the diagonal and c the sum of the products of the margins (Cohen
    1960, Educ. Psychol. Meas. 20, 37). The error is that of Fleiss, Cohen & Everitt (1969, Psychol. Bull. 72, 323,
    eq. 13), for large numbers.
    """
    counts = np.asarray(table, np.float64)
    total = counts.sum()
    if total == 0:
        return float("nan"), float("nan")
    share = counts / total
    first, second, agreed = share.sum(1), share.sum(0), float(np.trace(share))
    chance = float(first @ second)
    if 1 - chance < 1e-12:
        return float("nan"), float("nan")
    kappa = (agreed - chance) / (1 - chance)
    rest = 1 - kappa
    on = float(np.sum(np.diag(share) * (1 - (first + second) * rest) ** 2))
    apart = share * np.add.outer(second, first) ** 2  # (share of the second saying i) + (of the first saying j)
    off = rest**2 * float(apart.sum() - np.trace(apart))
    variance = (on + off - (kappa - chance * rest) ** 2) / (total * (1 - chance) ** 2)
    return kappa, float(np.sqrt(max(variance, 0.0)))

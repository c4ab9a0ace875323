"""Probabilities at other shares of the classes than those a model was trained on."""

import numpy as np
from numpy.typing import NDArray

SKY_STARS = {
    "O": 1e-5,
    "B": 1e-3,
    "A": 0.01,
    "F": 0.15,
    "G": 0.25,
    "K": 0.30,
    "M": 0.28,
    "D": 0.008,
    "C": 1e-4,
    "d": 1e-4,
}
"""Rough shares of the stellar classes among stars of r 15 to 20 away from the Milky Way, set by hand: mostly dwarfs of
F to M, right within a factor of two; some in a thousand blue stars and white dwarfs; about one in ten thousand a carbon
star (of that order: Green 2013, ApJ 765, 12) or a brown dwarf, right within a factor of ten."""


def at_shares(
    probability: NDArray[np.floating], training: NDArray[np.floating], shares: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Give probabilities as they are where the classes have other shares.

    Parameters
    ----------
    probability : (n, classes)
        At the shares ``training``; NaN stays NaN.
    training, shares : (classes,)
        Sums of 1, or in proportion to shares.

    Notes
    -----
    A change of shares multiplies each probability by new share / old share (Saerens et al. 2002, Neural Computation 14,
    21).
    """
    changed = probability / training * shares
    return np.asarray(changed / changed.sum(axis=1, keepdims=True), np.float64)

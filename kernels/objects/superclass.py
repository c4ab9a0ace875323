"""Star, galaxy or quasar: what the colours and the image of a source say together."""

import numpy as np
from numpy.typing import NDArray

from kernels.objects.class_model import ClassVerdict

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
    """Return probabilities as they are where the classes have other shares.

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


SKY = np.array([0.5, 0.495, 0.005])
"""Shares of stars, galaxies and quasars among what an image shows. Away from the Milky Way one point source in a
hundred is a quasar: 9.5 per square degree to i = 19.1 (Richards et al. 2006, AJ 131, 2766), and over a thousand stars.
"""


def superclass_verdict(
    colours: ClassVerdict,
    training: NDArray[np.floating],
    has_u: NDArray[np.bool_],
    point: NDArray[np.floating],
    point_outlier: NDArray[np.floating],
) -> ClassVerdict:
    """Judge n sources.

    Parameters
    ----------
    colours
        Of a model of colours; classes star, galaxy, quasar. NaN where there is no colour.
    training : (3,)
        Shares of the classes among the rows it was trained on: its probabilities are of these.
    has_u : (n,)
        Whether its colours include u.
    point : (n,)
        Probability of being a point source, from the image; NaN where there is none.
    point_outlier : (n,)
        How far outside its training the judge of the image was: above 1 it does not count.

    Returns
    -------
    ClassVerdict
        NaN where nothing can be said: neither an image nor colours with u.

    Notes
    -----
    The image tells point sources from galaxies, colours tell stars from quasars among point sources:
    P(galaxy) = 1 - p, P(star) = p w, P(quasar) = p (1 - w), where w / (1 - w) are the odds of star against quasar by
    the colours, at the shares `SKY`; without a colour, the odds of these shares. Without an image, colours alone at
    these shares. A change of shares multiplies each probability by new share / old share (Saerens et al. 2002, Neural
    Computation 14, 21).
    """
    at_sky = at_shares(colours.probability, training, SKY)
    of_points = np.where(np.isfinite(at_sky), at_sky, SKY)
    star = of_points[:, 0] / (of_points[:, 0] + of_points[:, 2])
    together = np.stack([point * star, 1 - point, point * (1 - star)], axis=1)
    seen = judged(point, point_outlier)
    probability = np.where(seen[:, None], together, np.where(has_u[:, None], at_sky, np.nan))
    outlier = np.where(seen, np.fmax(colours.outlier, point_outlier), colours.outlier)
    return ClassVerdict(probability, np.where(np.isfinite(probability[:, 0]), outlier, np.nan))


def judged(point: NDArray[np.floating], point_outlier: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which sources the judge of the image has an opinion of, (n,) bool."""
    return np.isfinite(point) & (point_outlier <= 1)

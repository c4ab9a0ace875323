"""Colours of stars and galaxies."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.archive_columns import BANDS
from schemas.classes import STELLAR_CLASSES

RUBIN_BANDS = ("u", "g", "r", "i", "z", "y")

Floats = NDArray[np.float64]

_UBV = {
    "O": ((-1.175, -0.62, -0.26), (-1.130, -0.62, -0.25), (-1.110, -0.62, -0.24)),
    "B": ((-1.070, -0.59, -0.23), (-0.790, -0.475, -0.136), (-0.581, -0.413, -0.095), (-0.200, -0.280, -0.033)),
    "A": ((-0.005, -0.250, 0.003), (0.063, -0.170, 0.049), (0.100, -0.070, 0.097), (0.080, 0.060, 0.151)),
    "F": ((0.053, 0.100, 0.173), (-0.008, 0.160, 0.219), (-0.029, 0.240, 0.254), (0.014, 0.370, 0.308)),
    "G": ((0.057, 0.403, 0.332), (0.133, 0.460, 0.350), (0.185, 0.497, 0.361), (0.358, 0.600, 0.397)),
    "K": ((0.436, 0.640, 0.410), (0.581, 0.718, 0.438), (0.986, 0.960, 0.547), (1.222, 1.220, 0.717)),
}
"""(U-B, g-r, Rc-Ic) of dwarfs from early to late: Pecaut & Mamajek 2013 (ApJS 208, 9), table 5 as of 2024."""

_SDSS = {
    "M": (
        (2.60, 1.38, 0.68, 0.33), (2.62, 1.43, 0.96, 0.53), (2.62, 1.47, 1.50, 0.71), (2.62, 1.51, 1.85, 0.91),
        (2.62, 1.57, 2.11, 1.10), (2.62, 1.70, 2.62, 1.60), (2.62, 1.75, 2.70, 1.90),
    ),
    "d": ((2.4, 1.9, 2.43, 2.01), (2.2, 1.9, 2.34, 2.10), (2.0, 1.9, 2.15, 2.33), (1.8, 1.9, 2.1, 2.93),
          (1.6, 1.9, 2.1, 3.36), (1.4, 1.9, 2.1, 3.98)),
    "D": (
        (0.412, 0.133, -0.005, -0.074), (0.341, 0.000, -0.088, -0.148), (0.345, -0.066, -0.135, -0.193),
        (0.346, -0.123, -0.176, -0.231), (0.327, -0.169, -0.209, -0.256), (0.238, -0.267, -0.264, -0.289),
        (-0.004, -0.363, -0.309, -0.316), (-0.175, -0.422, -0.338, -0.335), (-0.303, -0.469, -0.359, -0.349),
        (-0.381, -0.497, -0.370, -0.354), (-0.478, -0.539, -0.386, -0.360),
    ),
    "C": ((2.0, 1.05, 0.36, 0.16), (2.5, 1.50, 0.50, 0.25), (3.0, 1.95, 0.65, 0.35)),
}  # fmt: skip
"""(u-g, g-r, r-i, i-z). M and d (L0 to T7): the same table, except u and g, which it lacks: roughly those of Bochanski
et al. 2007 (AJ 133, 531), and faint for later types. D: DA of 0.7 solar masses, 7,500 to 60,000 K, Holberg & Bergeron
2006 (AJ 132, 1221). C: roughly the faint carbon stars of Downes et al. 2004 (AJ 127, 2838)."""

EXTINCTION = np.array([4.239, 3.303, 2.285, 1.698, 1.263])
"""A / E(B-V), mag, in u, g, r, i, z for R_V = 3.1: Schlafly & Finkbeiner 2011 (ApJ 737, 103), table 6."""

_SCATTER = {"C": (0.5, 0.2, 0.1, 0.08), "d": (0.6, 0.25, 0.2, 0.15), "D": (0.06, 0.04, 0.03, 0.04)}
_USUAL_SCATTER = (0.08, 0.03, 0.02, 0.02)  # metallicity, gravity, binaries
_DEPTH = np.array([22.15, 23.13, 22.70, 22.20, 20.71])  # magnitude at S/N 5: SDSS DR16, point sources
_FLOOR = 0.02  # error of the calibration, mag
_REDDENING = 0.04  # mean E(B-V) of an exponential distribution


def star_sequence(name: str) -> NDArray[np.float64]:
    """Return the colours of a class along its types, (types, 4): u-g, g-r, r-i, i-z.

    Notes
    -----
    Johnson-Cousins colours by Jester et al. 2005 (AJ 130, 873), table 1: u-g = 1.28 (U-B) + 1.13,
    r-i = 0.91 (Rc-Ic) - 0.20, r-z = 1.72 (Rc-Ic) - 0.41.
    """
    if name in _SDSS:
        return np.array(_SDSS[name])
    ub, gr, ri = np.array(_UBV[name]).T
    red = 0.91 * ri - 0.20
    return np.stack([1.28 * ub + 1.13, gr, red, 1.72 * ri - 0.41 - red], axis=1)


def star_table(
    count: int, seed: int, classes: Sequence[str] = STELLAR_CLASSES, bright: float = 14.0, faint: float = 19.5
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int16]]:
    """Draw stars.

    Parameters
    ----------
    count
        Number of stars, divided equally among the classes.
    seed
        Seed.
    classes
        Classes from `schemas.classes.STELLAR_CLASSES`.
    bright, faint
        Range of r before extinction, mag, uniform.

    Returns
    -------
    columns, code
        ugriz, (count,) float32, and the index of the class.

    Notes
    -----
    Types are uniform along a class; colours have a scatter; dust reddens by an exponential E(B-V) with mean 0.04 mag;
    noise is that of SDSS at its depth. Magnitudes of flux below S/N 2 are NaN.
    """
    rng = np.random.default_rng(seed)
    code = np.arange(count, dtype=np.int16) % len(classes)
    colour = np.empty((count, 4))
    for k, name in enumerate(classes):
        rows, sequence = code == k, star_sequence(name)
        at = rng.uniform(0, len(sequence) - 1, int(rows.sum()))
        steps = np.arange(len(sequence))
        colour[rows] = np.stack([np.interp(at, steps, sequence[:, c]) for c in range(4)], axis=1)
        colour[rows] += rng.normal(0, _SCATTER.get(name, _USUAL_SCATTER), (int(rows.sum()), 4))
    r = rng.uniform(bright, faint, count)
    g, i = r + colour[:, 1], r - colour[:, 2]
    true = np.stack([g + colour[:, 0], g, r, i, i - colour[:, 3]], axis=1)
    true += rng.exponential(_REDDENING, count)[:, None] * EXTINCTION
    relative = 0.2 * 10 ** (0.4 * (true - _DEPTH))  # noise over signal
    flux = 1 + rng.normal(0, 1, true.shape) * np.hypot(relative, _FLOOR * 0.4 * np.log(10))
    with np.errstate(invalid="ignore", divide="ignore"):
        seen = np.where(flux > 2 * relative, true - 2.5 * np.log10(flux), np.nan)
    return {band: seen[:, k].astype(np.float32) for k, band in enumerate(BANDS)}, code


def star_colours(number: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Draw magnitudes of stars relative to r, by band, in the SDSS system.

    Straight lines along the stellar locus of SDSS (Covey et al. 2007, AJ 134, 2398) with a scatter of 0.03 mag: 60 % of
    the stars are on the blue branch, the others are M dwarfs.
    """
    blue = rng.uniform(size=number) < 0.6
    gr = np.where(blue, rng.uniform(0.2, 1.25, number), rng.normal(1.42, 0.05, number))
    ri = np.where(blue, 0.42 * gr - 0.06, rng.uniform(0.5, 1.7, number)) + rng.normal(0, 0.03, number)
    iz = 0.55 * ri - 0.02 + rng.normal(0, 0.03, number)
    ug = np.where(blue, 0.7 + 1.25 * gr, 2.5) + rng.normal(0, 0.05, number)
    return _relative(ug, gr, ri, iz, 0.5 * iz)


def galaxy_colours(early: NDArray[np.bool_], rng: np.random.Generator) -> dict[str, Floats]:
    """Draw magnitudes of galaxies relative to r, by band, in the SDSS system.

    Early types are red, late types blue with more scatter. Means and scatter are roughly those at redshift 0.1
    (Strateva et al. 2001, AJ 122, 1861).
    """

    def draw(red: tuple[float, float], blue: tuple[float, float]) -> Floats:
        return np.where(early, rng.normal(*red, len(early)), rng.normal(*blue, len(early)))

    gr, ri, iz = draw((0.90, 0.08), (0.52, 0.14)), draw((0.39, 0.04), (0.26, 0.07)), draw((0.28, 0.04), (0.14, 0.07))
    return _relative(draw((1.80, 0.12), (1.25, 0.20)), gr, ri, iz, 0.6 * iz)


def _relative(ug: Floats, gr: Floats, ri: Floats, iz: Floats, zy: Floats) -> dict[str, Floats]:
    return {"u": ug + gr, "g": gr, "r": np.zeros_like(gr), "i": -ri, "z": -ri - iz, "y": -ri - iz - zy}

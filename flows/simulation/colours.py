"""Colours of stars and galaxies."""

import numpy as np
from numpy.typing import NDArray

BANDS = ("u", "g", "r", "i", "z", "y")

Floats = NDArray[np.float64]


def star_colours(number: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Draw magnitudes of stars less those in r, by band.

    Straight lines along the stellar locus of SDSS (Covey et al. 2007, AJ 134, 2398), with a scatter of 0.03 mag: six in
    ten stars are on the blue branch, the others are M dwarfs.
    """
    blue = rng.uniform(size=number) < 0.6
    gr = np.where(blue, rng.uniform(0.2, 1.25, number), rng.normal(1.42, 0.05, number))
    ri = np.where(blue, 0.42 * gr - 0.06, rng.uniform(0.5, 1.7, number)) + rng.normal(0, 0.03, number)
    iz = 0.55 * ri - 0.02 + rng.normal(0, 0.03, number)
    ug = np.where(blue, 0.7 + 1.25 * gr, 2.5) + rng.normal(0, 0.05, number)
    return _relative(ug, gr, ri, iz, 0.5 * iz)


def galaxy_colours(early: NDArray[np.bool_], rng: np.random.Generator) -> dict[str, Floats]:
    """Draw magnitudes of galaxies less those in r, by band: red for early types, blue with more scatter for late ones.

    Means and scatter are about those of galaxies at redshift 0.1 (Strateva et al. 2001, AJ 122, 1861).
    """

    def draw(red: tuple[float, float], blue: tuple[float, float]) -> Floats:
        return np.where(early, rng.normal(*red, len(early)), rng.normal(*blue, len(early)))

    gr, ri, iz = draw((0.90, 0.08), (0.52, 0.14)), draw((0.39, 0.04), (0.26, 0.07)), draw((0.28, 0.04), (0.14, 0.07))
    return _relative(draw((1.80, 0.12), (1.25, 0.20)), gr, ri, iz, 0.6 * iz)


def _relative(ug: Floats, gr: Floats, ri: Floats, iz: Floats, zy: Floats) -> dict[str, Floats]:
    return {"u": ug + gr, "g": gr, "r": np.zeros_like(gr), "i": -ri, "z": -ri - iz, "y": -ri - iz - zy}

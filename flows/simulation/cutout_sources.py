"""Stars and galaxies: magnitudes, colours, sizes and shapes."""

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from flows.simulation.cutout_psf import COARSE

_LOCUS = np.array(
    # g-r, r-i, i-z of dwarfs from F to M6
    [
        (0.25, 0.08, 0.02), (0.45, 0.15, 0.05), (0.60, 0.22, 0.10), (1.00, 0.40, 0.20),
        (1.35, 0.65, 0.36), (1.40, 1.00, 0.55), (1.45, 1.40, 0.78), (1.50, 1.90, 1.05),
    ]
)  # fmt: skip
_SERSIC = np.arange(0.5, 4.01, 0.25)  # few indices: GalSim keeps a table for each


@dataclass(frozen=True)
class Galaxy:
    """A galaxy without its brightness.

    Attributes
    ----------
    profile
        GalSim profile of unit flux, arcsec.
    radius
        Half-light radius along the major axis, arcsec.
    bulge
        Share of light in the bulge; NaN of a single Sersic profile.
    sersic
        Index of a single Sersic profile; NaN of bulge and disc.
    ellipticity
        (a - b) / (a + b).
    knots
        Share of the light in knots.
    """

    profile: galsim.GSObject
    radius: float
    bulge: float
    sersic: float
    ellipticity: float
    knots: float


def star_colours(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw g-r, r-i and i-z on the stellar locus, 0.03 mag wide, after Covey et al. 2007 (AJ 134, 2398)."""
    place = rng.uniform(0, len(_LOCUS) - 1)
    low = min(int(place), len(_LOCUS) - 2)
    return _LOCUS[low] + (place - low) * (_LOCUS[low + 1] - _LOCUS[low]) + rng.normal(0, 0.03, 3)


def galaxy_colours(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw g-r, r-i and i-z of a galaxy: broad, correlated, across the locus of the stars."""
    common, own = rng.normal(), rng.normal(size=3)
    return np.array([0.75, 0.45, 0.25]) + np.array([0.35, 0.22, 0.12]) * (0.8 * common + 0.6 * own)


def magnitudes(i: float, colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give g, r, i, z of an i magnitude and the colours g-r, r-i, i-z."""
    return np.array([i + colours[1] + colours[0], i + colours[1], i, i - colours[2]])


def scale_length(i: float, rng: np.random.Generator) -> float:
    """Draw the exponential scale length of a disc along its major axis, arcsec, of an i magnitude.

    Miller et al. 2013 (MNRAS 429, 2858, appendix B): the median follows ln r = -1.145 - 0.269 (i - 23), the
    distribution is p(r) ~ r exp(-(r / a)^(4/3)).
    """
    median = np.exp(-1.145 - 0.269 * (i - 23))
    # With t = (r / a)^(4/3), p(t) ~ t^(1/2) exp(-t): a gamma distribution of shape 3/2, whose median is 1.183.
    return float(median * (rng.gamma(1.5) / 1.18299) ** 0.75)


def ellipticity(rng: np.random.Generator) -> float:
    """Draw (a - b) / (a + b) of a disc by Miller et al. 2013, equation B2."""
    grid = np.linspace(0, 0.804, 400)
    density = grid * (1 - np.exp((grid - 0.804) / 0.2539)) / ((1 + grid) * np.sqrt(grid**2 + 0.0256**2))
    total = np.cumsum(density)
    return float(np.interp(rng.random() * total[-1], total, grid))


def draw_galaxy(i: float, rng: np.random.Generator) -> Galaxy:
    """Draw a galaxy of an i magnitude.

    70 % are a disc with a de Vaucouleurs bulge: in a tenth of these all light is bulge, in the others its share is half
    a Gaussian of 0.1 to 0.3; 40 % of the discs have knots. 30 % are single Sersic profiles, index 0.5 to 4.
    """
    length, shape = scale_length(i, rng), ellipticity(rng)
    radius = 1.678 * length
    shear = galsim.Shear(g=shape, beta=rng.uniform(0, np.pi) * galsim.radians)
    if rng.random() < 0.3:
        index = float(rng.choice(_SERSIC))
        plain = galsim.Sersic(index, half_light_radius=radius, trunc=5 * radius, gsparams=COARSE)
        return Galaxy(_turned(plain, shear, shape), radius, np.nan, index, shape, 0.0)
    bulge = 1.0 if rng.random() < 0.1 else min(abs(rng.normal(0, rng.uniform(0.1, 0.3))), 1.0)
    knots = float(rng.uniform(0.05, 0.25)) * (1 - bulge) if rng.random() < 0.4 else 0.0
    parts = []
    if bulge < 1:
        parts.append((1 - bulge - knots) * galsim.Exponential(scale_radius=length, gsparams=COARSE))
    if knots > 0:
        seed = galsim.BaseDeviate(int(rng.integers(1, 2**31)))
        disc = galsim.Exponential(scale_radius=length)
        parts.append(knots * galsim.RandomKnots(int(rng.integers(5, 20)), profile=disc, rng=seed, gsparams=COARSE))
    if bulge > 0.01:
        of_bulge = radius * (1.0 if bulge == 1 else 0.6)
        parts.append(bulge * galsim.Sersic(4.0, half_light_radius=of_bulge, trunc=4.5 * of_bulge, gsparams=COARSE))
    return Galaxy(_turned(galsim.Sum(parts, gsparams=COARSE), shear, shape), radius, bulge, np.nan, shape, knots)


def _turned(profile: galsim.GSObject, shear: galsim.Shear, shape: float) -> galsim.GSObject:
    """Flatten along a direction; the major axis keeps its length."""
    # An area-keeping shear stretches the major axis by sqrt(a / b).
    return profile.shear(shear).dilate(float(np.sqrt((1 - shape) / (1 + shape))))

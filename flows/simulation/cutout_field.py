"""Cutouts of stars and galaxies of one simulated field."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import galsim
import numpy as np
from numpy.typing import NDArray

from flows.simulation.cutout_survey import (
    COARSE,
    ZERO_POINT,
    BandPsf,
    CutoutSurvey,
    draw_band_psfs,
    render_profiles,
    waves,
)
from flows.simulation.presets import random_stream

_LOCUS = np.array(
    # g-r, r-i, i-z of dwarfs from F to M6
    [
        (0.25, 0.08, 0.02), (0.45, 0.15, 0.05), (0.60, 0.22, 0.10), (1.00, 0.40, 0.20),
        (1.35, 0.65, 0.36), (1.40, 1.00, 0.55), (1.45, 1.40, 0.78), (1.50, 1.90, 1.05),
    ]
)  # fmt: skip
_SERSIC = np.arange(0.5, 4.01, 0.25)  # only a few indices, since GalSim keeps a table for each


@dataclass(frozen=True)
class Galaxy:
    """Galaxy without its magnitude.

    Attributes
    ----------
    profile
        GalSim profile with unit flux, arcsec.
    radius
        Half-light radius along the major axis, arcsec.
    bulge
        Fraction of light in the bulge; NaN for a single Sersic profile.
    sersic
        Index of a single Sersic profile; NaN for bulge and disc.
    ellipticity
        (a - b) / (a + b).
    knots
        Fraction of light in knots.
    """

    profile: galsim.GSObject
    radius: float
    bulge: float
    sersic: float
    ellipticity: float
    knots: float


def cutout_star_colours(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw g-r, r-i and i-z on the stellar locus, 0.03 mag wide, after Covey et al. 2007 (AJ 134, 2398)."""
    place = rng.uniform(0, len(_LOCUS) - 1)
    low = min(int(place), len(_LOCUS) - 2)
    return _LOCUS[low] + (place - low) * (_LOCUS[low + 1] - _LOCUS[low]) + rng.normal(0, 0.03, 3)


def cutout_galaxy_colours(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw g-r, r-i and i-z of a galaxy: broad and correlated, overlapping the stellar locus."""
    common, own = rng.normal(), rng.normal(size=3)
    return np.array([0.75, 0.45, 0.25]) + np.array([0.35, 0.22, 0.12]) * (0.8 * common + 0.6 * own)


def magnitudes(i: float, colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the g, r, i, z magnitudes for an i magnitude and the colours g-r, r-i, i-z."""
    return np.array([i + colours[1] + colours[0], i + colours[1], i, i - colours[2]])


def scale_length(i: float, rng: np.random.Generator) -> float:
    """Draw the exponential scale length of a disc with a given i magnitude, arcsec along its major axis.

    Miller et al. 2013 (MNRAS 429, 2858, appendix B): the median follows ln r = -1.145 - 0.269 (i - 23), with the
    distribution p(r) ~ r exp(-(r / a)^(4/3)).
    """
    median = np.exp(-1.145 - 0.269 * (i - 23))
    # With t = (r / a)^(4/3), p(t) ~ t^(1/2) exp(-t): a gamma distribution of shape 3/2, whose median is 1.183.
    return float(median * (rng.gamma(1.5) / 1.18299) ** 0.75)


def ellipticity(rng: np.random.Generator) -> float:
    """Draw (a - b) / (a + b) of a disc from Miller et al. 2013, equation B2."""
    grid = np.linspace(0, 0.804, 400)
    density = grid * (1 - np.exp((grid - 0.804) / 0.2539)) / ((1 + grid) * np.sqrt(grid**2 + 0.0256**2))
    total = np.cumsum(density)
    return float(np.interp(rng.random() * total[-1], total, grid))


def draw_galaxy(i: float, rng: np.random.Generator) -> Galaxy:
    """Draw a galaxy with a given i magnitude.

    70 % are a disc with a de Vaucouleurs bulge: in a tenth of these all light is in the bulge, in the others its
    fraction is half a Gaussian of width 0.1 to 0.3; 40 % of the discs have knots. 30 % are single Sersic profiles with
    index 0.5 to 4.
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
    """Flatten in one direction; the major axis keeps its length."""
    # A shear that keeps the area stretches the major axis by sqrt(a / b).
    return profile.shear(shear).dilate(float(np.sqrt((1 - shape) / (1 + shape))))


NEIGHBOURS = 0.2
"""Fraction of cutouts with a second source."""

_CENTRE = 0.6  # px: largest offset of the source from the middle of the cutout in each direction


class CutoutField(NamedTuple):
    """Cutouts (n, 2 bands, side, side) float32 in nJy, images before PSFs, and a row of truth for each."""

    cutouts: NDArray[np.float32]
    rows: list[dict[str, Any]]


class _Source(NamedTuple):
    magnitude: NDArray[np.float64]
    galaxy: Galaxy | None
    waves: NDArray[np.complex64] | None
    x: float
    y: float


def draw_field(survey: CutoutSurvey, seed: int, field: int, count: int) -> CutoutField:
    """Simulate ``count`` cutouts of one field; the same seed and field always give the same cutouts.

    Parameters
    ----------
    survey
        Properties of the cutouts.
    seed, field
        Non-negative.
    count
        Number of cutouts.
    """
    rng = random_stream(f"cutouts/{survey.name}", seed, field)
    psfs = draw_band_psfs(survey, rng)
    bands = len(survey.bands)
    cutouts = np.empty((count, 2 * bands, survey.side, survey.side), np.float32)
    rows = []
    for n in range(count):
        source = _draw_source(survey, rng, *rng.uniform(-_CENTRE, _CENTRE, 2))
        beside = _draw_neighbour(survey, source, rng) if rng.random() < NEIGHBOURS else None
        snr = []
        for band, psf in enumerate(psfs):
            light = _draw(survey, psf, band, source)
            snr.append(float(np.sqrt((light**2 / (psf.sky_sigma**2 + np.maximum(light, 0) / psf.gain)).sum())))
            if beside is not None:
                light = light + _draw(survey, psf, band, beside)
            variance = psf.sky_sigma**2 + np.maximum(light, 0) / psf.gain
            level = rng.normal(0, 0.1) * psf.sky_sigma  # residual sky level
            if survey.saturation > 0:
                light = bled(light, _full_well(survey, psf), rng)
            cutouts[n, band] = light + rng.normal(size=light.shape) * np.sqrt(variance) + level
            cutouts[n, bands + band] = psf.images[rng.integers(len(psf.images))]
        rows.append(_row(survey, field, n, source, beside, snr, psfs))
    return CutoutField(cutouts, rows)


def bled(light: NDArray[np.float64], full: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Spread light above the full well along its column, over pixels that fill up to about that level."""
    excess = np.maximum(light - full, 0).sum(0)
    held = np.minimum(light, full)
    for column in np.flatnonzero(excess):
        order = np.argsort(np.abs(np.arange(len(held)) - light[:, column].argmax()), kind="stable")
        room = full - held[order, column]
        held[order, column] += np.clip(excess[column] - (np.cumsum(room) - room), 0, room)
    level = full * rng.normal(1, 0.03, held.shape)
    return np.where(held >= full, level, held)


def _full_well(survey: CutoutSurvey, psf: BandPsf) -> float:
    return float(10 ** (0.4 * (ZERO_POINT - survey.saturation)) * psf.images[len(psf.images) // 2].max())


def _draw_source(survey: CutoutSurvey, rng: np.random.Generator, x: float, y: float) -> _Source:
    i = rng.uniform(*survey.magnitude)
    if rng.random() < survey.galaxies:
        galaxy = draw_galaxy(i, rng)
        return _Source(magnitudes(i, cutout_galaxy_colours(rng)), galaxy, waves(galaxy.profile, survey.scale), x, y)
    return _Source(magnitudes(i, cutout_star_colours(rng)), None, None, x, y)


def _draw_neighbour(survey: CutoutSurvey, source: _Source, rng: np.random.Generator) -> _Source:
    """Draw a second source more than a quarter of the side from the middle and at most half a magnitude brighter."""
    while True:
        x, y = rng.uniform(-0.5, 0.5, 2) * survey.side
        beside = _draw_source(survey, rng, x, y)
        if np.hypot(x, y) > survey.side / 4 and beside.magnitude[2] > source.magnitude[2] - 0.5:
            return beside


def _draw(survey: CutoutSurvey, psf: BandPsf, band: int, source: _Source) -> NDArray[np.float64]:
    flux = 10 ** (0.4 * (ZERO_POINT - source.magnitude["griz".index(survey.bands[band])]))
    product = psf.waves if source.waves is None else psf.waves * source.waves
    return flux * render_profiles(product, survey.side, source.x, source.y)


def _row(
    survey: CutoutSurvey,
    field: int,
    number: int,
    source: _Source,
    beside: _Source | None,
    snr: list[float],
    psfs: tuple[BandPsf, ...],
) -> dict[str, Any]:
    galaxy = source.galaxy
    row: dict[str, Any] = {
        "field": field,
        "number": number,
        "label": "star" if galaxy is None else "galaxy",
        "x": source.x,
        "y": source.y,
        "halfLightRadius": galaxy.radius if galaxy else 0.0,
        "bulge": galaxy.bulge if galaxy else np.nan,
        "sersic": galaxy.sersic if galaxy else np.nan,
        "ellipticity": galaxy.ellipticity if galaxy else 0.0,
        "knots": galaxy.knots if galaxy else 0.0,
        "neighbour": beside is not None,
    }
    for name, value in zip("griz", source.magnitude, strict=True):
        row[f"{name}Mag"] = float(value)
    for band, psf, ratio in zip(survey.bands, psfs, snr, strict=True):
        row[f"{band}Seeing"], row[f"{band}Snr"] = psf.fwhm, ratio
    return row

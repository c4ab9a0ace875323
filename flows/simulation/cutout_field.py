"""Cutouts of the stars and galaxies of one simulated field."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flows.simulation.cutout_psf import BandPsf, draw_psfs
from flows.simulation.cutout_render import render, waves
from flows.simulation.cutout_sources import Galaxy, draw_galaxy, galaxy_colours, magnitudes, star_colours
from flows.simulation.cutout_survey import ZERO_POINT, CutoutSurvey
from flows.simulation.streams import stream

NEIGHBOURS = 0.2
"""Share of the cutouts with a second source in them."""

_CENTRE = 0.6  # px: the source lies up to so far from the middle of the cutout, in each direction


class Field(NamedTuple):
    """Cutouts (n, 2 bands, side, side) float32 nJy, images before PSFs, and a row of truth for each."""

    cutouts: NDArray[np.float32]
    rows: list[dict[str, Any]]


class _Source(NamedTuple):
    magnitude: NDArray[np.float64]
    galaxy: Galaxy | None
    waves: NDArray[np.complex64] | None
    x: float
    y: float


def draw_field(survey: CutoutSurvey, seed: int, field: int, count: int) -> Field:
    """Simulate ``count`` cutouts of one field; the same seed and field give the same cutouts, wherever they are made.

    Parameters
    ----------
    survey
        What they are like.
    seed, field
        Non-negative.
    count
        Cutouts.
    """
    rng = stream(f"cutouts/{survey.name}", seed, field)
    psfs = draw_psfs(survey, rng)
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
            level = rng.normal(0, 0.1) * psf.sky_sigma  # what is left of the sky
            if survey.saturation > 0:
                light = bled(light, _full_well(survey, psf), rng)
            cutouts[n, band] = light + rng.normal(size=light.shape) * np.sqrt(variance) + level
            cutouts[n, bands + band] = psf.images[rng.integers(len(psf.images))]
        rows.append(_row(survey, field, n, source, beside, snr, psfs))
    return Field(cutouts, rows)


def bled(light: NDArray[np.float64], full: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Spread what is above the full well up and down its column, to pixels that fill to about that level."""
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
        return _Source(magnitudes(i, galaxy_colours(rng)), galaxy, waves(galaxy.profile, survey.scale), x, y)
    return _Source(magnitudes(i, star_colours(rng)), None, None, x, y)


def _draw_neighbour(survey: CutoutSurvey, source: _Source, rng: np.random.Generator) -> _Source:
    """Draw a second source a quarter of the side or more from the middle, at most half a magnitude brighter."""
    while True:
        x, y = rng.uniform(-0.5, 0.5, 2) * survey.side
        beside = _draw_source(survey, rng, x, y)
        if np.hypot(x, y) > survey.side / 4 and beside.magnitude[2] > source.magnitude[2] - 0.5:
            return beside


def _draw(survey: CutoutSurvey, psf: BandPsf, band: int, source: _Source) -> NDArray[np.float64]:
    flux = 10 ** (0.4 * (ZERO_POINT - source.magnitude["griz".index(survey.bands[band])]))
    product = psf.waves if source.waves is None else psf.waves * source.waves
    return flux * render(product, survey.side, source.x, source.y)


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

"""Sky of a field: stars, galaxies, and differences between the science image and its template."""

import numpy as np

from flows.simulation.asteroids import trails_on, unit_snr
from flows.simulation.canvas import Stars
from flows.simulation.conditions import Conditions
from flows.simulation.galaxies import galaxies_on, turn_of
from flows.simulation.stars import stars_on
from flows.simulation.subtraction.observed import Change, Components, FieldSky, Streak
from kernels.objects.sky_prior import DUST, GALAXIES

_CLUSTERING = 0.25  # scatter of the number between fields, ln
_SIZE, _SIZE_SLOPE, _SIZE_SCATTER = 1.1, 0.12, 0.2  # arcsec at magnitude 20; per mag and scatter, log10
_EARLY = 0.35  # fraction of galaxies that are mostly bulge
_BULGE_SIZE = 0.5  # relative to the disc
_POLE = (192.85948, 27.12825)  # of the Galaxy, (ra, dec) J2000, deg


def sky_of(conditions: Conditions) -> FieldSky:
    """Return the content of the sky in an exposure; stars and galaxies are the same on all visits of the field."""
    first = conditions.first
    stars = stars_on(conditions, first)
    galaxies = _catalogued(conditions, first) if conditions.preset.field_bands else field_galaxies(conditions, first)
    changes = (*_variables(conditions, stars), *_in_galaxies(conditions, galaxies))
    moving = [
        Streak(one.x, one.y, one.length, one.angle, conditions.flux_of(one.asteroid.magnitude), one.asteroid.name)
        for one in trails_on(conditions)
    ]
    return FieldSky(stars, galaxies, tuple(moving), tuple(_old_trails(conditions)), changes)


def galactic_latitude(ra: float, dec: float) -> float:
    """Return the galactic latitude of a position, deg."""
    (a, d), (pole_a, pole_d) = np.deg2rad((ra, dec)), np.deg2rad(_POLE)
    sine = np.sin(d) * np.sin(pole_d) + np.cos(d) * np.cos(pole_d) * np.cos(a - pole_a)
    return float(np.rad2deg(np.arcsin(np.clip(sine, -1, 1))))


def field_galaxies(conditions: Conditions, first: Conditions) -> Components:
    """Return the galaxies of a field on an exposure, to half a magnitude below its faintest stars.

    Their number follows galaxy counts behind the dust at the galactic latitude. About one in three is a bulge with a
    small disc, the others are discs with a bulge of about a fifth of the light.
    """
    preset, rng = conditions.preset, conditions.field_stream("subtract/galaxies")
    ny, nx = preset.shape
    ra, dec = first.to_sky((nx - 1) / 2, (ny - 1) / 2)
    dust = DUST / max(np.sin(np.deg2rad(abs(galactic_latitude(float(ra[0]), float(dec[0]))))), 0.05)
    limit = preset.star_magnitudes[1] + 0.5 - dust
    magnitudes, counts = np.array(GALAXIES).T
    area = ny * nx * (preset.pixel_scale / 3600) ** 2
    number = rng.poisson(10 ** np.interp(limit, magnitudes, counts) * area * np.exp(rng.normal(0, _CLUSTERING)))
    margin = 40
    ra, dec = first.to_sky(rng.uniform(-margin, nx + margin, number), rng.uniform(-margin, ny + margin, number))
    rank = np.interp(limit, magnitudes, counts) + np.log10(rng.uniform(1e-9, 1.0, number))
    magnitude = np.interp(rank, counts, magnitudes)
    early = rng.uniform(size=number) < _EARLY
    bulge = np.where(early, rng.uniform(0.6, 1.0, number), rng.beta(1.0, 4.0, number))
    size = _SIZE * 10 ** (_SIZE_SLOPE * (20 - magnitude) + rng.normal(0, _SIZE_SCATTER, number)) / preset.pixel_scale
    ratio = np.clip(np.where(early, rng.normal(0.75, 0.15, number), rng.normal(0.55, 0.2, number)), 0.15, 1.0)
    x, y = conditions.to_pixels(ra, dec)
    angle = rng.uniform(0, 180, number)
    flux = 10 ** (-0.4 * (magnitude + dust - conditions.zero_point))
    which = np.arange(number)
    disc = Components(which, x, y, flux * (1 - bulge), size / np.sqrt(ratio), ratio, angle, np.ones(number))
    round_ = np.maximum(ratio, 0.6)
    inner = Components(which, x, y, flux * bulge, _BULGE_SIZE * size, round_, angle, np.full(number, 4.0))
    both = [np.concatenate(pair) for pair in zip(disc, inner, strict=True)]
    seen = both[3] > 0.02 * np.tile(flux, 2)
    return Components(*(values[seen] for values in both))


def _catalogued(conditions: Conditions, first: Conditions) -> Components:
    """Return the galaxies of a night in several bands, from its table of objects."""
    known = galaxies_on(conditions, first)
    start, sense = turn_of(conditions)
    flux = 10 ** (-0.4 * (known.magnitudes[conditions.band] - conditions.zero_point))
    radius, angle = known.half_light / conditions.preset.pixel_scale, start + sense * known.angle
    which = np.arange(len(known.x))
    return Components(which, known.x, known.y, flux, radius, known.axis_ratio, angle, known.sersic)


_VARIABLE_SNR, _SUPERNOVA_SNR, _NUCLEUS_SNR = (4.0, 80.0), (4.0, 60.0), (3.0, 40.0)
_SUPERNOVAE, _NUCLEI = 2.0, 8.0  # mean numbers per full image


def _variables(conditions: Conditions, stars: Stars) -> list[Change]:
    preset = conditions.preset
    fixed, rng = conditions.field_stream("variables"), conditions.stream("variables")
    number = fixed.poisson(fixed.uniform(*preset.variables) * preset.area)
    faint = np.flatnonzero(stars.magnitude >= preset.saturated_magnitude)
    chosen = fixed.choice(faint, min(number, len(faint)), replace=False)
    found = []
    for index, star in enumerate(chosen):
        flux = _flux(conditions, rng, _VARIABLE_SNR, stars.x[star], stars.y[star])
        flux *= 1 if rng.uniform() < 0.6 else -min(1.0, 0.9 * float(stars.flux[star]) / flux)
        name = f"variable-{conditions.seed}-{conditions.field_id}-{conditions.detector}-{index:02d}"
        found.append(Change(name, float(stars.x[star]), float(stars.y[star]), flux, int(star)))
    return [one for one in found if _on(conditions, one)]


def _in_galaxies(conditions: Conditions, galaxies: Components) -> list[Change]:
    """Return supernovae near galaxies, and nuclei whose light has changed since the template."""
    fixed, rng = conditions.field_stream("subtract/changes"), conditions.stream("subtract/changes")
    bright = np.flatnonzero(galaxies.flux > np.median(galaxies.flux)) if len(galaxies.flux) else np.zeros(0, int)
    found: list[Change] = []
    for kind, mean, levels in (("supernova", _SUPERNOVAE, _SUPERNOVA_SNR), ("nucleus", _NUCLEI, _NUCLEUS_SNR)):
        for index in range(int(fixed.poisson(mean * conditions.preset.area)) if len(bright) else 0):
            host = int(fixed.choice(bright))
            away = galaxies.radius[host] * fixed.exponential(0.8, 2) * fixed.choice([-1, 1], 2)
            x, y = (
                float(part[host] + shift * (kind == "supernova"))
                for part, shift in zip((galaxies.x, galaxies.y), away, strict=True)
            )
            flux = _flux(conditions, rng, levels, x, y)
            if kind == "nucleus" and rng.uniform() < 0.5:
                flux = -flux
            name = f"{kind}-{conditions.seed}-{conditions.field_id}-{conditions.detector}-{index:02d}"
            found.append(Change(name, x, y, flux))
    return [one for one in found if _on(conditions, one)]


def _flux(conditions: Conditions, rng: np.random.Generator, levels: tuple[float, float], x: float, y: float) -> float:
    snr = float(np.exp(rng.uniform(*np.log(levels))))
    return snr / unit_snr(conditions, conditions.psf.trail(float(x), float(y), 0.0, 0.0), float(x), float(y))


def _on(conditions: Conditions, change: Change) -> bool:
    ny, nx = conditions.preset.shape
    return 0 <= change.x <= nx - 1 and 0 <= change.y <= ny - 1


_OLD = 0.7  # mean number of visible asteroids on the template


def _old_trails(conditions: Conditions) -> list[Streak]:
    """Return asteroids on one of the template's exposures, as they remain after co-addition."""
    rng, preset = conditions.field_stream("subtract/old asteroids"), conditions.preset
    ny, nx = preset.shape
    found = []
    for _ in range(rng.poisson(_OLD) if preset.streaks else 0):
        x, y, angle = rng.uniform(0, nx - 1), rng.uniform(0, ny - 1), rng.uniform(0, 180)
        length = float(np.exp(rng.uniform(*np.log(preset.lengths))))
        stamp = conditions.psf.trail(x, y, length, angle)
        flux = float(np.exp(rng.uniform(*np.log((3.0, 15.0))))) / unit_snr(conditions, stamp, x, y)
        found.append(Streak(x, y, length, angle, flux, ""))
    return found

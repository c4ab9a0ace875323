"""Asteroids and variable stars."""

from dataclasses import dataclass, replace

import numpy as np

from flows.simulation.canvas import Canvas, Stars, add_stamp, source_row, stamp_footprint
from flows.simulation.conditions import Conditions, conditions_of
from flows.simulation.presets import random_stream
from flows.simulation.psf import PsfStamp
from kernels.trails.matched_filter import template_snr

_DRAWS = 200  # largest number of draws until the object was in the field on no earlier visit


@dataclass(frozen=True)
class Asteroid:
    """Object that moves on a great circle at a constant rate.

    Attributes
    ----------
    name
        Name, the same on every visit.
    ra, dec
        ICRS position at ``mjd`` (UTC), deg.
    rate, position_angle
        arcsec / h; deg from north through east, at ``mjd``.
    magnitude
        AB magnitude.
    """

    name: str
    ra: float
    dec: float
    mjd: float
    rate: float
    position_angle: float
    magnitude: float

    def at(self, mjd: float) -> tuple[float, float]:
        """Return the position (ra, dec), deg, at a time, MJD UTC."""
        arc = np.deg2rad(self.rate / 3600 * (mjd - self.mjd) * 24)
        dec, angle = np.deg2rad(self.dec), np.deg2rad(self.position_angle)
        sin_new = np.sin(dec) * np.cos(arc) + np.cos(dec) * np.sin(arc) * np.cos(angle)
        across = np.arctan2(np.sin(angle) * np.sin(arc) * np.cos(dec), np.cos(arc) - np.sin(dec) * sin_new)
        return (self.ra + float(np.rad2deg(across))) % 360, float(np.rad2deg(np.arcsin(sin_new)))


@dataclass(frozen=True)
class Trail:
    """Asteroid on one exposure: centre and length in px, angle in deg from +x towards +y."""

    asteroid: Asteroid
    x: float
    y: float
    length: float
    angle: float


def exposed_trail(asteroid: Asteroid, conditions: Conditions) -> Trail:
    """Return the straight trail between the positions when the shutter opens and closes."""
    opens = conditions.mjd_utc
    ends = [asteroid.at(mjd) for mjd in (opens, opens + conditions.preset.exposure_time / 86400)]
    x, y = conditions.to_pixels(np.array([end[0] for end in ends]), np.array([end[1] for end in ends]))
    angle = np.rad2deg(np.arctan2(y[1] - y[0], x[1] - x[0])) % 180
    return Trail(asteroid, float(x.mean()), float(y.mean()), float(np.hypot(x[1] - x[0], y[1] - y[0])), float(angle))


def trails_on(conditions: Conditions) -> list[Trail]:
    """Return the trails of ``preset.streaks`` asteroids on an exposure.

    Each place in the list stands for a trail length. An asteroid keeps its place from visit to visit until it has left
    the image; then another one of the same length takes it, which was not on any earlier image of the field. So every
    image has the same number of trails of every length, and no object appears from nowhere.
    """
    preset, number = conditions.preset, conditions.visit_index % conditions.preset.visits_per_field
    first = conditions.visit_index - number
    visits = [conditions_of(preset, conditions.seed, first + step, conditions.detector) for step in range(number)]
    visits.append(conditions)
    trails: list[Trail] = []
    for place in range(preset.streaks):
        asteroid = _draw(visits, 0, place)
        for step in range(1, len(visits)):
            if not _inside(exposed_trail(asteroid, visits[step]), visits[step]):
                asteroid = _draw(visits, step, place)
        trails.append(exposed_trail(asteroid, conditions))
    return trails


def _inside(trail: Trail, conditions: Conditions) -> bool:
    ny, nx = conditions.preset.shape
    return -0.5 <= trail.x < nx - 0.5 and -0.5 <= trail.y < ny - 0.5


def _draw(visits: list[Conditions], step: int, place: int) -> Asteroid:
    """Return the object that takes a place at visit ``step`` of the field."""
    now, preset = visits[step], visits[step].preset
    length = _length(now, place)
    key = (now.seed, now.visit_index, now.detector, place)
    rng = random_stream(f"{preset.name}/asteroid", *key)
    ny, nx = preset.shape
    for _ in range(_DRAWS):
        x, y = rng.uniform(0, nx - 1), rng.uniform(0, ny - 1)
        asteroid = _moving(now, place, x, y, length, rng.uniform(0, 360))
        if not any(_inside(exposed_trail(asteroid, before), before) for before in visits[:step]):
            break
    return replace(asteroid, magnitude=_magnitude(exposed_trail(asteroid, now), now, place))


def _length(conditions: Conditions, place: int) -> float:
    preset = conditions.preset
    rng = random_stream(f"{preset.name}/lengths", conditions.seed, conditions.field, conditions.detector, place)
    low, high = preset.lengths
    if preset.whole_lengths:
        return float(rng.integers(int(low), int(high) + 1))
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _magnitude(trail: Trail, conditions: Conditions, place: int) -> float:
    """Draw the magnitude, or the S/N of the object when it is first seen; return the magnitude."""
    preset = conditions.preset
    rng = random_stream(
        f"{preset.name}/brightness", conditions.seed, conditions.visit_index, conditions.detector, place
    )
    if preset.magnitudes is not None:
        return float(rng.uniform(*preset.magnitudes))
    low, high = preset.snr or (0.0, 0.0)
    snr = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    template = conditions.psf.trail(trail.x, trail.y, trail.length, trail.angle)
    return conditions.magnitude_of(snr / unit_snr(conditions, template, trail.x, trail.y))


def _moving(conditions: Conditions, place: int, x: float, y: float, length: float, angle: float) -> Asteroid:
    """Return the object whose trail has ``length`` px and ``angle`` deg, centred at (x, y)."""
    along = length / 2 * np.array([-1.0, 1.0])
    ends = conditions.to_sky(x + along * np.cos(np.deg2rad(angle)), y + along * np.sin(np.deg2rad(angle)))
    ra, dec = (np.deg2rad(part) for part in ends)
    step = ra[1] - ra[0]
    north = np.cos(dec[0]) * np.sin(dec[1]) - np.sin(dec[0]) * np.cos(dec[1]) * np.cos(step)
    east = np.cos(dec[1]) * np.sin(step)
    cosine = np.sin(dec[0]) * np.sin(dec[1]) + np.cos(dec[0]) * np.cos(dec[1]) * np.cos(step)
    arc = np.rad2deg(np.arctan2(np.hypot(north, east), cosine))
    return Asteroid(
        name=f"sim-{conditions.seed}-{conditions.visit}-{conditions.detector}-{place:02d}",
        ra=float(np.rad2deg(ra[0])),
        dec=float(np.rad2deg(dec[0])),
        mjd=conditions.mjd_utc,
        rate=float(arc * 3600 / (conditions.preset.exposure_time / 3600)),
        position_angle=float(np.rad2deg(np.arctan2(east, north)) % 360),
        magnitude=np.nan,  # known once the position is
    )


def unit_snr(conditions: Conditions, template: PsfStamp, x: float, y: float) -> float:
    """Return the matched-filter S/N of a source with flux 1 at (x, y) in the actual noise."""
    sigma = float(conditions.noise.sigma_at(x, y))
    return template_snr(1.0, template.pixels, sigma, conditions.noise.correlation)


_VARIABLE_SNR = (4.0, 80.0)


def add_asteroids(canvas: Canvas, conditions: Conditions) -> None:
    """Draw the asteroids of an exposure."""
    for trail in trails_on(conditions):
        stamp = conditions.psf.trail(trail.x, trail.y, trail.length, trail.angle)
        flux = conditions.flux_of(trail.asteroid.magnitude)
        _add(canvas, conditions, stamp, flux)
        snr = flux * unit_snr(conditions, stamp, trail.x, trail.y)
        shape = (trail.length, trail.angle)
        row = source_row("streak", trail.asteroid.name, conditions, (trail.x, trail.y), flux, snr, shape)
        canvas.truth.append((row, stamp_footprint(stamp, canvas.shape)))


def add_variables(canvas: Canvas, conditions: Conditions, stars: Stars) -> None:
    """Draw variable stars, brighter or fainter than on the template."""
    fixed, rng = conditions.field_stream("variables"), conditions.stream("variables")
    preset = conditions.preset
    number = fixed.poisson(fixed.uniform(*preset.variables) * preset.area)
    ny, nx = preset.shape
    for index, star in enumerate(fixed.choice(len(stars.x), min(number, len(stars.x)), replace=False)):
        x, y = float(stars.x[star]), float(stars.y[star])
        snr = float(np.exp(rng.uniform(*np.log(_VARIABLE_SNR)))) * (1 if rng.uniform() < 0.6 else -1)
        if not (0 <= x <= nx - 1 and 0 <= y <= ny - 1):
            continue
        stamp = conditions.psf.trail(x, y, 0.0, 0.0)
        flux = snr / unit_snr(conditions, stamp, x, y)
        _add(canvas, conditions, stamp, flux)
        name = f"variable-{conditions.seed}-{conditions.field_id}-{conditions.detector}-{index:02d}"
        row = source_row("point", name, conditions, (x, y), flux, snr)
        canvas.truth.append((row, stamp_footprint(stamp, canvas.shape)))


def _add(canvas: Canvas, conditions: Conditions, stamp: PsfStamp, flux: float) -> None:
    light = (flux * stamp.pixels).astype(np.float32)
    add_stamp(canvas.signal, light, stamp.y0, stamp.x0)
    add_stamp(canvas.excess, np.abs(light) / np.float32(conditions.preset.gain), stamp.y0, stamp.x0)

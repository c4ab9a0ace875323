"""What is really there: asteroids and variable stars."""

import numpy as np

from flows.simulation.asteroids import trails_on, unit_snr
from flows.simulation.canvas import Canvas
from flows.simulation.conditions import Conditions
from flows.simulation.psf import Stamp, add_stamp
from flows.simulation.stars import Stars
from flows.simulation.truth import source_row, stamp_footprint

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


def _add(canvas: Canvas, conditions: Conditions, stamp: Stamp, flux: float) -> None:
    light = (flux * stamp.pixels).astype(np.float32)
    add_stamp(canvas.signal, light, stamp.y0, stamp.x0)
    add_stamp(canvas.excess, np.abs(light) / np.float32(conditions.preset.gain), stamp.y0, stamp.x0)

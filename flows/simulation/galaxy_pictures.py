"""Simulated pictures of galaxies, from the simplest to those with arms, knots and neighbours."""

from typing import NamedTuple

import galsim
import numpy as np
from numpy.typing import NDArray

LEVELS = ("exponential", "sersic", "bulge and disc", "arms and neighbours")
"""Content of a picture; each level includes the previous ones."""

SIDE = 424
"""Side of a picture, px of 0.4 arcsec, as in Galaxy Zoo."""

_SCALE = 0.4
_SEEING = (1.1, 1.5)
_NOISE = 3.0
_COLOURS = (1.25, 1.0, 0.8)


class GalaxyShape(NamedTuple):
    """Shape of a galaxy.

    Attributes
    ----------
    level
        Index in `LEVELS`. Noise and seeing begin with the second.
    radius
        Half-light radius, arcsec.
    ratio, turn
        Minor over major axis; angle of the major axis, rad from x to y.
    bulge
        Fraction of the light in a bulge; 0 below the third level.
    arms
        Strength of arms and knots; 0 below the last level.
    """

    level: int
    radius: float
    ratio: float
    turn: float
    bulge: float
    arms: float


def drawn_shape(level: int, rng: np.random.Generator) -> GalaxyShape:
    """Draw a shape; sizes and axis ratios are distributed roughly as in Galaxy Zoo."""
    return GalaxyShape(
        level,
        radius=float(rng.uniform(4.0, 14.0)),
        ratio=float(rng.uniform(0.12, 1.0)),
        turn=float(rng.uniform(0, np.pi)),
        bulge=float(rng.uniform(0.05, 0.6)) if level >= 2 else 0.0,
        arms=float(rng.uniform(0.0, 0.9)) if level >= 3 else 0.0,
    )


def galaxy_picture(shape: GalaxyShape, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a picture of one centred galaxy, (424, 424, 3): red, green and blue.

    Parameters
    ----------
    shape
        Shape of the galaxy.
    rng
        Source of randomness for everything else: brightness, colours, seeing, noise, neighbours.

    Notes
    -----
    Light is converted to 8 bits with an inverse hyperbolic sine, as in pictures of SDSS (Lupton et al. 2004, PASP 116,
    133).
    """
    flux = 1200.0 * shape.radius**2 * rng.uniform(0.4, 3.0)
    light = [_drawn(part, rng if shape.level else None) for part in _parts(shape, flux, rng)]
    if shape.arms:
        light[0] = light[0] * spiral_arms(shape, SIDE, _SCALE, rng)
        light.append(_neighbours(rng))
    planes = _coloured(light, rng)
    if shape.level >= 1:
        planes = planes + _sky(planes.shape, correlated=shape.level >= 3, rng=rng)
    return _stretched(planes)


def _parts(shape: GalaxyShape, flux: float, rng: np.random.Generator) -> list[galsim.GSObject]:
    radius, ratio, turn = shape.radius, shape.ratio, shape.turn
    if not shape.bulge:
        index = float(rng.uniform(0.6, 4.0)) if shape.level else 1.0
        return [shaped(galsim.Sersic(index, half_light_radius=radius, flux=flux), ratio, turn)]
    disc = galsim.Exponential(half_light_radius=radius, flux=(1 - shape.bulge) * flux)
    bulge = galsim.DeVaucouleurs(half_light_radius=radius / 4, flux=shape.bulge * flux)
    return [shaped(disc, ratio, turn), shaped(bulge, max(ratio, 0.7), turn)]


def shaped(part: galsim.GSObject, ratio: float, turn: float) -> galsim.GSObject:
    """Return light with an axis ratio, with its major axis turned by an angle (rad) from x to y."""
    return part.shear(q=ratio, beta=turn * galsim.radians)


def _drawn(part: galsim.GSObject, rng: np.random.Generator | None) -> NDArray[np.float64]:
    seeing = 0.4 if rng is None else rng.uniform(*_SEEING)
    params = galsim.GSParams(maximum_fft_size=16384, folding_threshold=2e-2)
    whole = galsim.Convolve([part, galsim.Moffat(beta=3.0, fwhm=seeing)], gsparams=params)
    return np.asarray(whole.drawImage(nx=SIDE, ny=SIDE, scale=_SCALE, method="no_pixel").array, np.float64)


def spiral_arms(shape: GalaxyShape, side: int, scale: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return factors for the light of a disc: two to four logarithmic arms, and knots of star formation.

    Parameters
    ----------
    shape
        Shape, of which radius, ratio, turn and arms are used.
    side, scale
        Side of the square picture, px, with the disc in the middle; arcsec per px.
    rng
        Source of randomness for number, pitch and knots.
    """
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) * scale
    c, s = np.cos(shape.turn), np.sin(shape.turn)
    u, v = x * c + y * s, (y * c - x * s) / shape.ratio
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    pitch = np.tan(np.radians(rng.uniform(10, 30))) * rng.choice([-1, 1])
    phase = rng.integers(2, 5) * (angle - np.log(np.maximum(r, 0.3) / shape.radius) / pitch)
    out = 1 + shape.arms * np.cos(phase) * (1 - np.exp(-((r / (0.4 * shape.radius)) ** 2)))
    for _ in range(int(rng.poisson(12))):
        away, where = rng.exponential(shape.radius) + 0.3 * shape.radius, rng.uniform(0, 2 * np.pi)
        distance = (u - away * np.cos(where)) ** 2 + (v - away * np.sin(where)) ** 2
        out += shape.arms * rng.uniform(0.5, 2) * np.exp(-distance / (2 * rng.uniform(0.5, 1.2) ** 2))
    return np.maximum(out, 0.05)


def _neighbours(rng: np.random.Generator) -> NDArray[np.float64]:
    out = np.zeros((SIDE, SIDE))
    for _ in range(int(rng.poisson(6))):
        flux = 600.0 * 10 ** rng.uniform(0, 2.3)
        size = rng.choice([0.05, rng.uniform(0.5, 2.5)])
        part = galsim.Exponential(half_light_radius=size, flux=flux)
        part = shaped(part, rng.uniform(0.3, 1), rng.uniform(0, np.pi))
        place = rng.uniform(-SIDE / 2, SIDE / 2, 2) * _SCALE
        out += _drawn(part.shift(*place), rng)
    return out


def _coloured(light: list[NDArray[np.float64]], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return red, green and blue light, (3, ny, nx); each part of a galaxy has a tint of its own."""
    tints = [np.array(_COLOURS) ** rng.normal(0.6 + 0.9 * (number % 2), 0.5) for number in range(len(light))]
    return np.sum([tint[:, None, None] * part for tint, part in zip(tints, light, strict=True)], 0)


def _sky(shape: tuple[int, ...], *, correlated: bool, rng: np.random.Generator) -> NDArray[np.float64]:
    noise = rng.normal(0, _NOISE, shape)
    if not correlated:
        return noise
    return (noise + np.roll(noise, 1, -1) + np.roll(noise, 1, -2) + np.roll(noise, (1, 1), (-1, -2))) / 2


def _stretched(planes: NDArray[np.float64]) -> NDArray[np.uint8]:
    mean = np.maximum(planes.mean(0), 1e-6)
    factor = np.arcsinh(mean / 8.0) / np.arcsinh(600.0 / 8.0) / mean
    return np.clip(255 * planes * factor, 0, 255).round().astype(np.uint8).transpose(1, 2, 0).copy()

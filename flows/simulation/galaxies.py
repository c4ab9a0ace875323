"""Galaxies on science images."""

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from flows.simulation.canvas import add_stamp
from flows.simulation.conditions import Conditions
from flows.simulation.star_colours import galaxy_colours

Floats = NDArray[np.float64]


_SLOPE = 0.5  # of log10 of counts per magnitude: between the Euclidean 0.6 and that of faint galaxies
_RANGE = 4.0  # mag between the faintest and the brightest
_SIZE, _SIZE_SLOPE, _SIZE_SCATTER = 1.2, 0.13, 0.18  # arcsec at the faint end; per mag and scatter, log10
_EARLY = 0.35
_LEAST, _MOST = 32, 256  # side of a stamp, px


@dataclass(frozen=True)
class Galaxies:
    """Galaxies on one exposure, (n,) each.

    Attributes
    ----------
    ra, dec, x, y
        ICRS, deg; position, 0-based px.
    magnitudes
        AB magnitudes, by band.
    half_light, axis_ratio, angle
        Radius along the major axis, arcsec; minor over major axis; position angle of the major axis, deg, north
        through east.
    sersic
        Index: 4 or 1.
    """

    ra: Floats
    dec: Floats
    x: Floats
    y: Floats
    magnitudes: dict[str, Floats]
    half_light: Floats
    axis_ratio: Floats
    angle: Floats
    sersic: Floats


def galaxies_on(conditions: Conditions, reference: Conditions) -> Galaxies:
    """Return the galaxies of the field on this exposure; they are the same on every visit and in every band.

    Parameters
    ----------
    conditions
        Conditions of the exposure.
    reference
        Conditions of the first visit of the field, in which positions are drawn.
    """
    preset, rng = conditions.preset, conditions.field_stream("galaxies")
    ny, nx = preset.shape
    number = rng.poisson(rng.uniform(*preset.galaxies) * preset.area)
    ra, dec = reference.to_sky(rng.uniform(0, nx, number), rng.uniform(0, ny, number))
    faint = preset.star_magnitudes[1]
    magnitude = faint + np.log10(rng.uniform(10 ** (-_SLOPE * _RANGE), 1.0, number)) / _SLOPE
    early = rng.uniform(size=number) < _EARLY
    colours = galaxy_colours(early, rng)
    size = _SIZE * preset.galaxy_size * 10 ** (_SIZE_SLOPE * (faint - magnitude) + rng.normal(0, _SIZE_SCATTER, number))
    ratio = np.clip(np.where(early, rng.normal(0.75, 0.15, number), rng.normal(0.55, 0.2, number)), 0.15, 1.0)
    x, y = conditions.to_pixels(ra, dec)
    return Galaxies(
        ra=ra,
        dec=dec,
        x=x,
        y=y,
        magnitudes={band: magnitude + offset for band, offset in colours.items()},
        half_light=size / np.sqrt(ratio),
        axis_ratio=ratio,
        angle=rng.uniform(0, 180, number),
        sersic=np.where(early, 4.0, 1.0),
    )


def draw_galaxies(conditions: Conditions, galaxies: Galaxies) -> NDArray[np.float32]:
    """Draw galaxies convolved with the PSF, using GalSim; (ny, nx), pixel units."""
    image = np.zeros(conditions.preset.shape, np.float32)
    ny, nx = image.shape
    turn = turn_of(conditions)
    for n in range(len(galaxies.x)):
        x, y = float(galaxies.x[n]), float(galaxies.y[n])
        if not (-_LEAST < x < nx + _LEAST and -_LEAST < y < ny + _LEAST):
            continue
        flux = conditions.flux_of(float(galaxies.magnitudes[conditions.band][n]))
        stamp = _stamp(conditions, galaxies, n, x, y, turn)
        half = stamp.shape[0] // 2
        add_stamp(image, (flux * stamp).astype(np.float32), round(y) - half, round(x) - half)
    return image


def _stamp(
    conditions: Conditions, galaxies: Galaxies, n: int, x: float, y: float, turn: tuple[float, float]
) -> NDArray[np.float64]:
    """Draw one galaxy with unit flux on a stamp whose middle pixel is nearest to its centre."""
    scale = conditions.preset.pixel_scale
    ratio = float(galaxies.axis_ratio[n])
    radius = float(galaxies.half_light[n]) / scale * ratio**0.5
    profile = galsim.Sersic(float(galaxies.sersic[n]), half_light_radius=radius, trunc=6 * radius)
    angle = turn[0] + turn[1] * float(galaxies.angle[n])
    profile = profile.shear(q=ratio, beta=angle * galsim.degrees)
    place = np.asarray(x), np.asarray(y)
    g1, g2 = (float(part) for part in conditions.psf.shear_at(*place))
    psf = galsim.Moffat(beta=conditions.psf.beta, fwhm=float(conditions.psf.fwhm_at(*place))).shear(g1=g1, g2=g2)
    half = int(np.clip(np.ceil(8 * radius + 3 * conditions.psf.fwhm), _LEAST // 2, _MOST // 2))
    drawn = galsim.Convolve(profile, psf).drawImage(
        nx=2 * half + 1, ny=2 * half + 1, scale=1.0, offset=(x - round(x), y - round(y)), method="no_pixel"
    )
    return drawn.array


def turn_of(conditions: Conditions) -> tuple[float, float]:
    """Return the angle of north from +x towards +y, deg, and the sense of position angles (1 or -1)."""
    ny, nx = conditions.preset.shape
    centre = (nx - 1) / 2, (ny - 1) / 2
    ra, dec = conditions.to_sky(*centre)
    (x_north,), (y_north,) = conditions.to_pixels(ra, dec + 0.01)
    north = np.arctan2(y_north - centre[1], x_north - centre[0])
    return float(np.degrees(north)), -float(np.sign(np.linalg.det(conditions.wcs.pixel_scale_matrix)))

"""Stars, and their residuals after subtraction."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.simulation.canvas import Canvas, Stars, add_stamp
from flows.simulation.conditions import Conditions
from flows.simulation.presets import Preset
from flows.simulation.psf import moffat
from flows.simulation.star_colours import star_colours

_SLOPE = 0.25  # of log10 of star counts per magnitude, at intermediate galactic latitude
_FAINT = 0.15  # in units of sigma: light that a stamp may miss at its edge
_REACH = (5, 8, 12, 20, 36)  # half sides of stamps, px, for a FWHM of 2 px


def stars_on(conditions: Conditions, reference: Conditions) -> Stars:
    """Return the stars of the field on this exposure.

    Parameters
    ----------
    conditions
        Conditions of the exposure.
    reference
        Conditions of the first visit of the field, in which positions are drawn.
    """
    preset, rng = conditions.preset, conditions.field_stream("stars")
    ny, nx = preset.shape
    margin = 60
    around = (ny + 2 * margin) * (nx + 2 * margin) / (ny * nx)
    number = rng.poisson(rng.uniform(*preset.stars) * preset.area * around)
    ra, dec = reference.to_sky(rng.uniform(-margin, nx + margin, number), rng.uniform(-margin, ny + margin, number))
    bright, faint = preset.star_magnitudes
    # Inverse of the cumulative distribution of 10^(slope m) between the limits.
    low, high = 10 ** (_SLOPE * (bright - faint)), 1.0
    magnitude = faint + np.log10(rng.uniform(low, high, number)) / _SLOPE
    if preset.field_bands:
        magnitude = magnitude + star_colours(number, conditions.field_stream("colours"))[conditions.band]
    x, y = conditions.to_pixels(ra, dec)
    return Stars(x, y, magnitude, 10 ** (-0.4 * (magnitude - conditions.zero_point)))


@dataclass(frozen=True)
class Mismatch:
    """Mismatch of template and science image at each star: offset (px), relative width, relative flux, ringing."""

    dx: NDArray[np.float64]
    dy: NDArray[np.float64]
    width: NDArray[np.float64]
    flux: NDArray[np.float64]
    ringing: NDArray[np.float64]


def mismatch_of(stars: Stars, preset: Preset, rng: np.random.Generator) -> Mismatch:
    """Draw the mismatch of one exposure: smooth over the field, with scatter between stars."""
    ny, nx = preset.shape
    u, v = 2 * stars.x / nx - 1, 2 * stars.y / ny - 1
    count = len(u)

    def smooth(constant: float, slope: float, scatter: float) -> NDArray[np.float64]:
        base, along_x, along_y = rng.normal(0, constant), rng.normal(0, slope), rng.normal(0, slope)
        return base + along_x * u + along_y * v + rng.normal(0, scatter, count)

    return Mismatch(
        dx=smooth(0.06, 0.05, 0.05),
        dy=smooth(0.06, 0.05, 0.05),
        width=smooth(0.015, 0.015, 0.012),
        flux=smooth(0.004, 0.004, 0.02),
        ringing=smooth(0.006, 0.004, 0.01),
    )


def add_residuals(canvas: Canvas, stars: Stars, mismatch: Mismatch, conditions: Conditions) -> None:
    """Draw dipoles and rings at stars, and the noise of the subtracted light.

    The residual is the star minus a template that is shifted and has another width and flux (Alard & Lupton 1998, ApJ
    503, 325, on the result of imperfect matching), plus the ringing at the pixel frequency that matching kernels add.
    All of this is proportional to the star's flux.
    """
    halves = np.ceil(np.array(_REACH) * conditions.psf.fwhm / 2).astype(int)
    group = _group(stars, conditions, halves)
    for index, half in enumerate(halves):
        chosen = np.flatnonzero(group == index)
        for part in np.array_split(chosen, max(1, len(chosen) * (2 * half + 1) ** 2 // 2_000_000)):
            _add_group(canvas, stars, mismatch, conditions, part, int(half))


def _group(stars: Stars, conditions: Conditions, halves: NDArray[np.int_]) -> NDArray[np.int_]:
    """Return the index of each star's stamp size: the smallest one that misses only light hidden by the noise."""
    beta, fwhm = conditions.psf.beta, conditions.psf.fwhm
    zero = np.zeros(1)
    edge = moffat(halves.astype(float), zero, np.array(fwhm), beta, zero, zero)
    # A residual is about 5 % of the star, and its extra noise about 2 %.
    left_out = 0.06 * stars.flux[:, None] * edge[None, :]
    return np.argmax((left_out < _FAINT * conditions.noise.sigma) | (np.arange(len(halves)) == len(halves) - 1), axis=1)


def _add_group(
    canvas: Canvas,
    stars: Stars,
    mismatch: Mismatch,
    conditions: Conditions,
    part: NDArray[np.int_],
    half: int,
) -> None:
    if not len(part):
        return
    psf, gain = conditions.psf, conditions.preset.gain
    x, y, flux = stars.x[part], stars.y[part], stars.flux[part].astype(np.float32)[:, None, None]
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    offset = np.arange(-half, half + 1)
    dx = (offset[None, :] - (x - column)[:, None])[:, None, :]
    dy = (offset[None, :] - (y - row)[:, None])[:, :, None]
    fwhm = psf.fwhm_at(x, y)[:, None, None]
    g1, g2 = (g[:, None, None] for g in psf.shear_at(x, y))

    def of(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values[part][:, None, None]

    star = flux * moffat(dx, dy, fwhm, psf.beta, g1, g2)
    template = moffat(dx - of(mismatch.dx), dy - of(mismatch.dy), fwhm * (1 + of(mismatch.width)), psf.beta, g1, g2)
    parity = 1 - 2 * ((column[:, None] + offset[None, :]) % 2)
    residual = star - flux * (1 + of(mismatch.flux)) * template + of(mismatch.ringing) * star * parity[:, None, :]
    noise = star / gain * 1.15 + (0.012 * star) ** 2
    for index in range(len(part)):
        y0, x0 = int(row[index]) - half, int(column[index]) - half
        add_stamp(canvas.signal, residual[index], y0, x0)
        add_stamp(canvas.excess, noise[index], y0, x0)

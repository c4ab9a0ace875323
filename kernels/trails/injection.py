"""Synthetic trails added to pixels, to measure the recovery of a search."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.image.noise import background_and_noise
from kernels.psf.gaussian_mixture import GaussianMixture
from kernels.trails.geometry import DetectedSegment, distance
from kernels.trails.matched_filter import template_snr
from kernels.trails.trail_model import trail_image

_TRIES = 100  # tries for a position clear of all other trails
_REACH = 6.0  # FWHM beyond the ends: 0.1 % of the light of a Moffat profile of beta 3 is further out
_AROUND = 64  # px in each direction: area for the noise beneath a trail
_LEAST = 2000  # usable pixels needed for it


STEP = 4.0
"""Spacing of the points on a trail whose distance from other trails is checked, px."""


class TrailStamp(NamedTuple):
    """Unit-flux image of a trail; its first pixel is (y0, x0) of an image and may lie outside it."""

    y0: int
    x0: int
    pixels: NDArray[np.float64]


def draw_trails(
    rng: np.random.Generator,
    count: int,
    box: tuple[int, int, int, int],
    length: tuple[float, float],
    snr: tuple[float, float],
    clearance: float,
) -> list[DetectedSegment]:
    """Return random trails whose centres lie in a box, clear of each other.

    Parameters
    ----------
    rng
        Source of all random numbers.
    count
        Number of trails. A trail that finds no free position in 100 tries is left out.
    box
        (y0, x0, y1, x1) of the pixels that may hold a centre, half open.
    length, snr
        Limits between which both are log-uniform, px and matched-filter S/N.
    clearance
        Least distance between any two lines, px.
    """
    y0, x0, y1, x1 = box
    drawn: list[DetectedSegment] = []
    for _ in range(count):
        size, signal = (math.exp(rng.uniform(math.log(low), math.log(high))) for low, high in (length, snr))
        for _ in range(_TRIES):
            x, y = rng.uniform(x0 - 0.5, x1 - 0.5), rng.uniform(y0 - 0.5, y1 - 0.5)
            trail = DetectedSegment(x, y, size, rng.uniform(0.0, 180.0), signal)
            across, up = trail.points(STEP).T
            if all(distance(across, up, other).min() >= clearance for other in drawn):
                drawn.append(trail)
                break
    return drawn


def trail_stamp(trail: DetectedSegment, psf: GaussianMixture, fwhm_px: float) -> TrailStamp:
    """Return a unit-flux image of a trail that holds all but a thousandth of its light."""
    cosine, sine = trail.direction
    half_x, half_y = (math.ceil(abs(part) * trail.length / 2 + _REACH * fwhm_px) for part in (cosine, sine))
    x0, y0 = round(trail.x) - half_x, round(trail.y) - half_y
    shape = (2 * half_y + 1, 2 * half_x + 1)
    return TrailStamp(y0, x0, trail_image(shape, trail.x - x0, trail.y - y0, trail.length, trail.angle, psf))


def flux_of(
    trail: DetectedSegment,
    stamp: TrailStamp,
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    noise: float,
    correlation: NDArray[np.float64],
) -> float:
    """Return the flux that gives a trail its S/N in the actual noise.

    Parameters
    ----------
    trail, stamp
        Trail and its unit-flux image.
    image, usable : (ny, nx)
        Image that will receive the trail, and its usable pixels.
    noise
        Noise of a pixel of the exposure, used if too few pixels around the trail are usable.
    correlation
        See `kernels.image.noise.filtered_noise`.
    """
    y, x = (np.clip(round(place), 0, size - 1) for place, size in zip((trail.y, trail.x), image.shape, strict=True))
    here = np.s_[max(y - _AROUND, 0) : y + _AROUND + 1, max(x - _AROUND, 0) : x + _AROUND + 1]
    if usable[here].sum() >= _LEAST:
        _, noise = background_and_noise(image[here], usable[here])
    return trail.snr / template_snr(1.0, stamp.pixels, noise, correlation)


def add_light(
    image: NDArray[np.float32], stamp: TrailStamp, flux: float, gain: float | None, rng: np.random.Generator
) -> None:
    """Add a trail to an image, in place, with the Poisson noise of its own light.

    Parameters
    ----------
    image : (ny, nx) float32
        Image in pixel units; light beyond its border is lost.
    stamp, flux
        Trail, and its total flux, pixel units.
    gain
        Electrons per pixel unit; None if not known, in which case the light has no noise.
    rng
        Random numbers for that noise.
    """
    light = flux * stamp.pixels
    if gain is not None:
        light = rng.poisson(light * gain) / gain
    inside, part = _overlap(image.shape, stamp)
    image[inside] += light[part].astype(np.float32)


def visible_stamp_share(usable: NDArray[np.bool_], stamp: TrailStamp) -> float:
    """Return the share of a trail's light that falls on usable pixels of an image, 0 to 1."""
    inside, part = _overlap(usable.shape, stamp)
    return min(float(stamp.pixels[part][usable[inside]].sum() / stamp.pixels.sum()), 1.0)


def _overlap(shape: tuple[int, ...], stamp: TrailStamp) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the part of an image that a stamp covers, and the part of the stamp on the image."""
    spans = [
        (max(first, 0), max(min(first + extent, size), max(first, 0)), first)
        for first, extent, size in zip((stamp.y0, stamp.x0), stamp.pixels.shape, shape, strict=True)
    ]
    (y_low, y_high, y0), (x_low, x_high, x0) = spans
    return np.s_[y_low:y_high, x_low:x_high], np.s_[y_low - y0 : y_high - y0, x_low - x0 : x_high - x0]

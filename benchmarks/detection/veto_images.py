"""Small images of the known causes of false streaks, drawn with GalSim and numpy alone; noise 10 per px, white."""

import math
from typing import NamedTuple

import galsim
import numpy as np

from kernels.image.noise import Noise
from kernels.image.pixel_state import usable_pixels
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene
from schemas.pixels import MaskPlane

SIDE, SIGMA, FWHM, BETA = 161, 10.0, 2.3, 3.0
Y, X = np.mgrid[:SIDE, :SIDE].astype(float)


class Picture(NamedTuple):
    """Pixels, mask, and the candidate that a search finds."""

    pixels: np.ndarray
    mask: np.ndarray
    trail: Segment

    def scene(self, fwhm: float = FWHM) -> Scene:
        """Return what measurement works on."""
        pixels = np.where(self.mask & np.uint16(MaskPlane.SAT | MaskPlane.EDGE), np.nan, self.pixels).astype(np.float32)
        white = Noise(SIGMA, np.ones((1, 1)))
        return Scene(pixels, usable_pixels(pixels, self.mask), moffat_mixture(fwhm, BETA), fwhm, white)


def sky(seed: int = 3) -> np.ndarray:
    """Return an image of noise."""
    return np.random.default_rng(seed).normal(0, SIGMA, (SIDE, SIDE))


def blank() -> np.ndarray:
    """Mask without anything in it."""
    return np.zeros((SIDE, SIDE), np.uint16)


def trail(x: float, y: float, length: float, angle: float, flux: float, fwhm: float = FWHM) -> np.ndarray:
    """Return an asteroid's trail, or a star if the length is 0."""
    source = galsim.Moffat(beta=BETA, fwhm=fwhm)
    if length > 0:
        line = galsim.Box(width=length, height=1e-3).rotate(angle * galsim.degrees)
        source = galsim.Convolve(source, line)
    image = galsim.ImageD(SIDE, SIDE)
    offset = (x - (SIDE - 1) / 2, y - (SIDE - 1) / 2)
    return (flux * source).drawImage(image, scale=1.0, offset=offset).array


def asteroid(x=80.3, y=79.8, length=25.0, angle=35.0, flux=4000.0, fwhm=FWHM) -> Picture:
    """Return an asteroid on empty sky."""
    return Picture(sky() + trail(x, y, length, angle, flux, fwhm), blank(), Segment(x, y, length, angle))


def masked_star(x: float = 60.0, y: float = 80.0, radius: float = 12.0) -> np.ndarray:
    """Mask of a saturated star: a disc with a bar along the column."""
    bar = (np.abs(X - x) <= 3) & (np.abs(Y - y) <= 1.6 * radius)
    return np.where((np.hypot(X - x, Y - y) <= radius) | bar, np.uint16(MaskPlane.SAT), np.uint16(0))


def spike(angle: float = 25.0) -> Picture:
    """Return a saturated star with four spikes that fade outwards; the candidate is the part of one beside the mask."""
    pixels = sky()
    for arm in range(4):
        theta = math.radians(angle + 90 * arm)
        along = (X - 60) * math.cos(theta) + (Y - 80) * math.sin(theta)
        across = (Y - 80) * math.cos(theta) - (X - 60) * math.sin(theta)
        pixels += np.where(along > 0, 160 * np.exp(-along / 30 - 0.5 * np.square(across / 1.1)), 0)
    theta, middle = math.radians(angle), 32.0
    place = Segment(60 + middle * math.cos(theta), 80 + middle * math.sin(theta), 36.0, angle)
    return Picture(pixels, masked_star(), place)


def bleed() -> Picture:
    """Return charge along the column of a saturated star, three columns wide."""
    fall = 90 * np.exp(-np.maximum(np.abs(Y - 80) - 19, 0) / 14)
    pixels = sky() + np.where(np.abs(X - 61) <= 1, fall, 0)
    return Picture(pixels, masked_star(), Segment(61.0, 110.0, 22.0, 90.0))


def dipole() -> Picture:
    """Return a star less its own image, 0.6 px away."""
    pixels = sky() + trail(80, 80, 0, 0, 9000) - trail(80.5, 80.35, 0, 0, 9000)
    return Picture(pixels, blank(), Segment(79.2, 79.4, 0.0, 0.0))


def cosmic_ray(length: int = 14, slope: float = 0.45) -> Picture:
    """Return a track of single pixels with uneven charge; of one pixel if its length is 1."""
    pixels, rng = sky(), np.random.default_rng(8)
    for step in range(length):
        pixels[round(76 + slope * step), 74 + step] += 420 * rng.gamma(12, 1 / 12)
    half = 0.5 * (length - 1)
    angle = math.degrees(math.atan(slope))
    extent = (length - 1) / math.cos(math.radians(angle))
    return Picture(pixels, blank(), Segment(74 + half, 76 + slope * half, extent, angle))


def hot_column(low: int = 30, high: int = 130) -> Picture:
    """Return a column of a level of its own; the candidate is a piece of it."""
    pixels = sky()
    pixels[low:high, 80] += 35
    return Picture(pixels, blank(), Segment(80.0, 80.0, 40.0, 90.0))


def ghost() -> Picture:
    """Return a ring of reflected light, 24 px wide; the candidate is a chord along it."""
    radius = np.hypot(X - 80, Y - 10)
    pixels = sky() + 14 / (1 + np.exp((np.abs(radius - 70) - 12) / 2))
    return Picture(pixels, blank(), Segment(80.0, 80.5, 40.0, 0.0))


def edge() -> Picture:
    """Return a border without full coverage, and a bright rim along it."""
    pixels = sky() + np.where(np.abs(X - 31) <= 1, 45, 0)
    mask = np.where(X < 30 + 2 * ((Y // 20) % 2), np.uint16(MaskPlane.EDGE), np.uint16(0))
    return Picture(pixels, mask, Segment(32.0, 80.0, 60.0, 90.0))

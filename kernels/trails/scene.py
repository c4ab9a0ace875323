"""Image with the properties that a fit needs."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.image.noise import Noise
from kernels.psf.gaussian_mixture import GaussianMixture
from kernels.trails.geometry import Footprint, Segment, stadium
from kernels.trails.trail_model import trail_rows


class Scene(NamedTuple):
    """Difference image.

    Attributes
    ----------
    pixels : (ny, nx) float32
        Pixel units.
    usable : (ny, nx) bool
        Pixels with a value that is to be trusted.
    psf, fwhm_px
        Point-spread function with the response of a pixel, and its FWHM, px.
    noise
        Of the pixels.
    background
        Level of the exposure, pixel units.
    """

    pixels: NDArray[np.float32]
    usable: NDArray[np.bool_]
    psf: GaussianMixture
    fwhm_px: float
    noise: Noise
    background: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """Return (ny, nx), px."""
        return self.pixels.shape[0], self.pixels.shape[1]


class View(NamedTuple):
    """Pixels that take part in a fit.

    Attributes
    ----------
    footprint
        Which n pixels.
    values : (n,)
        Pixel units; 0 where not usable.
    use : (n,)
        Weights, 1 or 0.
    """

    footprint: Footprint
    values: NDArray[np.float64]
    use: NDArray[np.float64]


def view(scene: Scene, segment: Segment, radius: float) -> View:
    """Return the pixels within ``radius`` px of a segment."""
    footprint = stadium(scene.shape, segment, radius)
    return View(footprint, *_take(scene.pixels, scene.usable, footprint.y, footprint.x))


@njit(cache=True, nogil=True)
def _take(
    pixels: NDArray[np.float32], usable: NDArray[np.bool_], y: NDArray[np.int32], x: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the values and weights of pixels."""
    values, use = np.zeros(y.shape[0]), np.zeros(y.shape[0])
    for i in range(y.shape[0]):
        if usable[y[i], x[i]]:
            values[i], use[i] = pixels[y[i], x[i]], 1.0
    return values, use


def trail_shape(scene: Scene, footprint: Footprint, segment: Segment) -> NDArray[np.float64]:
    """Return the unit-flux trail in the pixels of a footprint, (n,)."""
    dx, dy = footprint.x - segment.x, footprint.y - segment.y
    return trail_rows(dx, dy, segment.length, math.radians(segment.angle), *scene.psf)[0]

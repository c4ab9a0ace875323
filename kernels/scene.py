"""An image with what a fit has to know of it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.footprint import Footprint, Segment, stadium
from kernels.psf import GaussianMixture
from kernels.sandwich import Noise
from kernels.trail_lm import jacobian, vector


@dataclass(frozen=True)
class Scene:
    """A difference image.

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
    """

    pixels: NDArray[np.float32]
    usable: NDArray[np.bool_]
    psf: GaussianMixture
    fwhm_px: float
    noise: Noise

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx), px."""
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
    """Take the pixels within ``radius`` px of a segment."""
    footprint = stadium(scene.shape, segment, radius)
    use = scene.usable[footprint.y, footprint.x].astype(float)
    values = np.where(use > 0, scene.pixels[footprint.y, footprint.x], 0.0).astype(float)
    return View(footprint, values, use)


def trail_shape(scene: Scene, footprint: Footprint, segment: Segment) -> NDArray[np.float64]:
    """Unit-flux trail in the pixels of a footprint, (n,)."""
    shape, _ = jacobian(footprint, vector(1.0, segment, 0.0), scene.psf.weights, scene.psf.sigmas)
    return shape

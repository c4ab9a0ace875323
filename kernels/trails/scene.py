"""Image with the properties needed for a fit."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.image.noise import Noise
from kernels.image.variation import varied
from kernels.psf.gaussian_mixture import GaussianMixture
from kernels.psf.psf_shape import psfs_at
from kernels.trails.geometry import Footprint, Segment, stadium
from kernels.trails.trail_model import trail_rows
from schemas.exposure import Variation


class Scene(NamedTuple):
    """Difference image.

    Attributes
    ----------
    pixels : (ny, nx) float32
        Pixel units.
    usable : (ny, nx) bool
        Pixels with a valid value.
    psf, fwhm_px
        Point-spread function with the response of a pixel, and its FWHM, px.
    noise
        Noise of the pixels.
    background
        Level of the exposure, pixel units.
    ellipticity_err
        Standard error of the PSF's ellipticity.
    psf_variation, noise_variation
        Variation of the PSF (see `psfs_at`) and of the noise over the image; None: constant.
    variance, variance_scale
        Plane of the variance of each pixel, (ny, nx), if there is one, and its factor to the measured noise.
    ghosts : (ny, nx) bool
        Pixels that hold ghosts of saturated stars; None if the image shows none.
    """

    pixels: NDArray[np.float32]
    usable: NDArray[np.bool_]
    psf: GaussianMixture
    fwhm_px: float
    noise: Noise
    background: float = 0.0
    ellipticity_err: float = 0.0
    psf_variation: Variation | None = None
    noise_variation: Variation | None = None
    variance: NDArray[np.float32] | None = None
    variance_scale: float = 1.0
    ghosts: NDArray[np.bool_] | None = None

    def at(self, x: float, y: float) -> "Scene":
        """Return the image with the PSF and the noise at a position, px."""
        return self.at_each([(x, y)])[0]

    def at_each(self, places: Sequence[tuple[float, float]]) -> list["Scene"]:
        """Return the image with the PSF and the noise at each of several positions (x, y), px."""
        x, y = np.reshape(np.array(places, np.float64), (-1, 2)).T
        scenes = [self] * len(places)
        if self.psf_variation is not None:
            psfs = psfs_at(self.psf, self.psf_variation, x, y)
            scenes = [scene._replace(psf=psf) for scene, psf in zip(scenes, psfs, strict=True)]
        if self.noise_variation is not None:
            sigmas = (self.noise.sigma * varied(self.noise_variation, x, y)[0]).tolist()
            noises = [self.noise._replace(sigma=sigma) for sigma in sigmas]
            scenes = [scene._replace(noise=noise) for scene, noise in zip(scenes, noises, strict=True)]
        return scenes

    @property
    def shape(self) -> tuple[int, int]:
        """Return (ny, nx), px."""
        return self.pixels.shape[0], self.pixels.shape[1]


class View(NamedTuple):
    """Pixels of a fit.

    Attributes
    ----------
    footprint
        Positions of the n pixels.
    values : (n,)
        Pixel units; 0 for unusable pixels.
    use : (n,)
        Weights, 1 or 0.
    added : (n,)
        Variance above that of the sky, from the variance plane; 0 without one.
    """

    footprint: Footprint
    values: NDArray[np.float64]
    use: NDArray[np.float64]
    added: NDArray[np.float64]


def view(scene: Scene, segment: Segment, radius: float) -> View:
    """Return the pixels within ``radius`` px of a segment."""
    footprint = stadium(scene.shape, segment, radius)
    values, use = _take(scene.pixels, scene.usable, footprint.y, footprint.x)
    return View(footprint, values, use, _added(scene, footprint))


def _added(scene: Scene, footprint: Footprint) -> NDArray[np.float64]:
    if scene.variance is None:
        return np.zeros(len(footprint.y))
    here = scene.variance_scale * scene.variance[footprint.y, footprint.x].astype(np.float64) - scene.noise.sigma**2
    return np.where(np.isfinite(here) & (here > 0), here, 0.0)  # infinite values are unusable in any case


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

"""Science images drawn by GalSim, which knows nothing of our kernels."""

import galsim
import numpy as np

from kernels.image.science_image import ScienceImage

FWHM, BETA, SIGMA = 2.6, 3.5, 5.0


def drawn(sources, shape=(120, 130), noise=SIGMA, seed=1):
    """Image of (x, y, flux, half-light radius or 0, axis ratio, angle) with white noise; the PSF holds the pixel."""
    ny, nx = shape
    image = galsim.ImageF(galsim.BoundsI(0, nx - 1, 0, ny - 1))
    psf = galsim.Moffat(beta=BETA, fwhm=FWHM)
    for x, y, flux, radius, ratio, angle in sources:
        profile = psf * flux
        if radius:
            galaxy = galsim.Sersic(1.0, half_light_radius=radius, flux=flux).shear(q=ratio, beta=angle * galsim.degrees)
            profile = galsim.Convolve(galaxy, psf)
        image += profile.drawImage(
            bounds=image.bounds, scale=1.0, center=galsim.PositionD(x, y), method="auto", dtype=np.float32
        )
    return image.array + np.random.default_rng(seed).normal(0, noise, shape).astype(np.float32)


def bare(pixels, bad=None, noise=SIGMA):
    """A science image whose sky is known to be 0."""
    bad = np.zeros(pixels.shape, np.bool_) if bad is None else bad
    return ScienceImage(np.where(bad, 0, pixels).astype(np.float32), bad, np.full(pixels.shape, noise, np.float32))


def keys(distance):
    """Cubic convolution's kernel with a = -1/2, as Keys 1981 (IEEE Trans. ASSP 29, 1153) writes it."""
    s = np.abs(distance)
    near, far = 1.5 * s**3 - 2.5 * s**2 + 1, -0.5 * s**3 + 2.5 * s**2 - 4 * s + 2
    return np.where(s < 1, near, np.where(s < 2, far, 0.0))

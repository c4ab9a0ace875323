"""Difference image as Rubin's pipelines write it, by GalSim: a PSF that varies, and noise in VARIANCE alone."""

from typing import NamedTuple

import galsim
import numpy as np
from astropy.io import fits

GAIN = 0.9
"""Electrons per nJy; no keyword tells it, VARIANCE holds it."""

NOISE = 20.0
"""Of a pixel at the left border, nJy."""

FWHM, BETA = 3.9, 3.0
SHEAR = (0.05, 0.03)
CELL = 160
"""Distance between sources, px."""


class Planted(NamedTuple):
    """Source that was put in: px, deg, nJy, and its S/N in the noise of the sky."""

    x: float
    y: float
    length: float
    angle: float
    flux: float
    snr: float


def local_psf(x, y, side):
    """Return the PSF of a place: its width varies by 7 %, its shear by 0.02 about `SHEAR`."""
    u, v = 2 * x / side - 1, 2 * y / side - 1
    width = FWHM * (1 + 0.04 * u - 0.03 * v)
    return galsim.Moffat(beta=BETA, fwhm=width).shear(g1=SHEAR[0] + 0.02 * u, g2=SHEAR[1] - 0.02 * v)


def write_lsst_file(path, seed, side, trails, *, stars=20, uneven=1.0):
    """Write image, mask and variance; return what was put in, stars first.

    Parameters
    ----------
    path, seed
        File, and what decides everything.
    side
        Of the image, px.
    trails
        Called with a generator for the (length, S/N) of each source that is not a star.
    stars
        Number of points of S/N 80 to 250, which alone tell the PSF.
    uneven
        Variance of the sky at the right border over that at the left, with a step at the middle.
    """
    rng = np.random.default_rng(seed)
    grid = np.arange(60, side - 59, CELL)
    cells = rng.permutation([(x, y) for y in grid for x in grid])
    sky = NOISE**2 * np.ones((side, 1)) * (1 + (uneven - 1) * np.linspace(0, 1, side))
    sky[:, side // 2 :] *= 1 + 0.2 * (uneven > 1)
    image = galsim.ImageD(galsim.BoundsI(0, side - 1, 0, side - 1), init_value=0.0)
    planted = []
    for n, (x, y) in enumerate(cells + rng.uniform(-0.5, 0.5, (len(cells), 2))):
        length, snr = (0.0, float(np.exp(rng.uniform(*np.log((80, 250)))))) if n < stars else trails(rng)
        angle = float(rng.uniform(0, 180))
        stamp = _stamp(local_psf(x, y, side), float(x), float(y), length, angle)
        flux = snr * np.sqrt(sky[int(y), int(x)]) / np.sqrt(np.square(stamp.array).sum())
        inside = stamp.bounds & image.bounds
        image[inside] += flux * stamp[inside]
        planted.append(Planted(float(x), float(y), length, angle, float(flux), snr))
    variance = sky + np.maximum(image.array, 0) / GAIN
    pixels = image.array + rng.normal(size=sky.shape) * np.sqrt(variance)
    _write(path, pixels.astype(np.float32), variance.astype(np.float32), 2026011900100 + seed)
    return planted


def _stamp(psf, x, y, length, angle):
    profile = psf
    if length > 0:
        line = galsim.Box(length, 1e-3).rotate(angle * galsim.degrees)
        profile = galsim.Convolve(psf, line, gsparams=galsim.GSParams(maximum_fft_size=16384))
    half = int(length / 2 + 25)
    stamp = galsim.ImageD(galsim.BoundsI(int(x) - half, int(x) + half, int(y) - half, int(y) + half))
    return profile.drawImage(image=stamp, center=galsim.PositionD(x, y), scale=1.0)


def _write(path, pixels, variance, visit):
    side = len(pixels)
    about = {
        "HIERARCH LSST BUTLER DATAID VISIT": visit,
        "HIERARCH LSST BUTLER DATAID DETECTOR": 94,
        "HIERARCH LSST BUTLER DATAID BAND": "r",
        "INSTRUME": "LSSTCam",
        "EXPTIME": 30.0,
        "DATE-AVG": "2026-01-20T03:04:05.678",
        "TIMESYS": "TAI",
    }
    sky = {
        "BUNIT": "nJy",
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRPIX1": side / 2,
        "CRPIX2": side / 2,
        "CRVAL1": 150.0,
        "CRVAL2": 2.2,
        "CD1_1": -5.5e-5,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": 5.5e-5,
    }
    bits = {"MP_SAT": 1, "MP_EDGE": 4, "HIERARCH MP_NO_DATA": 8}
    fits.HDUList(
        [
            fits.PrimaryHDU(header=_header(about)),
            fits.ImageHDU(pixels, _header(sky), name="IMAGE"),
            fits.CompImageHDU(np.zeros(pixels.shape, np.int32), _header(bits), name="MASK"),
            fits.ImageHDU(variance, name="VARIANCE"),
        ]
    ).writeto(path, overwrite=True)


def _header(cards):
    made = fits.Header()
    for key, value in cards.items():
        made[key] = value
    return made

"""Surveys of simulated cutouts, their PSFs, and rendering of profiles by Fourier transforms."""

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy.fft import ifft, irfft

ZERO_POINT = 31.4
"""AB magnitude of 1 nJy."""


@dataclass(frozen=True)
class CutoutSurvey:
    """Properties of the cutouts of a survey; sequences have one value per band.

    Attributes
    ----------
    name, bands
        Name of the survey, and its filters.
    side, scale
        Side of a cutout, px; arcsec per px.
    seeing
        Median FWHM of the PSF, arcsec.
    depth
        Median magnitude of a point source with S/N 5 (PSF-weighted).
    sky
        Sky brightness, AB mag / arcsec2; with the depth it sets the gain, and so the photon noise of sources.
    magnitude
        Range in i: both stars and galaxies are uniform in it, so that brightness alone is uninformative.
    galaxies
        Fraction of galaxies.
    saturation
        Magnitude of a point source whose peak fills its pixel, in median seeing.
    scatter
        Scatter of the seeing from field to field, natural logarithm.
    psf_error
        Largest relative error of the width of the PSF image given with an object.
    """

    name: str
    bands: str
    side: int
    scale: float
    seeing: tuple[float, ...]
    depth: tuple[float, ...]
    sky: tuple[float, ...]
    magnitude: tuple[float, float]
    galaxies: float = 0.58
    saturation: float = -99.0
    scatter: float = 0.12
    psf_error: float = 0.014


DEEP = CutoutSurvey(
    name="deep",
    bands="griz",
    side=26,
    scale=0.2,
    seeing=(0.77, 0.76, 0.58, 0.68),
    depth=(26.5, 26.1, 25.9, 25.1),
    sky=(22.3, 21.2, 20.5, 19.6),
    magnitude=(18.0, 24.5),
)
"""Seeing and depth like the wide layer of the Hyper Suprime-Cam survey (Aihara et al. 2019, PASJ 71, 114), pixels and
dark sky like Rubin's (Ivezić et al. 2019, ApJ 873, 111)."""

NIGHT = CutoutSurvey(
    name="night",
    bands="griz",
    side=26,
    scale=1.012,
    seeing=(2.5, 2.4, 2.4, 2.4),
    depth=(20.8, 20.6, 20.0, 19.5),
    sky=(21.8, 20.9, 20.0, 19.2),
    magnitude=(13.0, 20.5),
    saturation=12.8,
    scatter=0.25,
    psf_error=0.04,
)
"""Night with large pixels: exposures like ZTF's in four bands and any seeing, with a PSF that varies over the image and
is known from stars to a few per cent."""

ZTF = CutoutSurvey(
    name="ztf",
    bands="i",
    side=20,
    scale=1.012,
    seeing=(2.0,),
    depth=(20.2,),
    sky=(19.5,),
    magnitude=(11.5, 20.2),
    galaxies=0.5,
    saturation=12.8,
)
"""i band of the Zwicky Transient Facility (Bellm et al. 2019, PASP 131, 018002): 30 s, single exposures."""


Waves = NDArray[np.complexfloating]

_GRID = 128  # samples in each direction
_FINE = 2  # samples per px; a PSF passes nothing beyond their Nyquist frequency


def waves(profile: galsim.GSObject, scale: float) -> NDArray[np.complex64]:
    """Return the Fourier transform of a profile, (128, 65), at the frequencies of a grid of 64 x 64 px.

    Parameters
    ----------
    profile
        Profile in arcsec.
    scale
        arcsec per px.
    """
    step = 2 * np.pi / (_GRID * scale / _FINE)
    half = _GRID // 2
    image = galsim.ImageCF(galsim.BoundsI(0, half, -half, half - 1))
    profile.drawKImage(image=image, scale=step, recenter=False)
    return np.fft.ifftshift(image.array, axes=0)


def pixel_waves(scale: float) -> NDArray[np.complex64]:
    """Return the Fourier transform of a square pixel, as in `waves`."""
    return waves(galsim.Pixel(scale), scale)


def render_profiles(product: Waves, side: int, x: float = 0.0, y: float = 0.0) -> NDArray[np.float64]:
    """Render a product of transforms, with its origin at pixel (side // 2, side // 2) plus (x, y) px.

    Light more than 64 - side px outside wraps around to the opposite side.
    """
    frequency = 2 * np.pi / _GRID * _FINE  # rad / px per wave
    ky = frequency * np.fft.fftfreq(_GRID, 1 / _GRID)
    kx = frequency * np.arange(_GRID // 2 + 1)
    down = np.exp(-1j * ky * (side // 2 + y)).astype(np.complex64)
    right = np.exp(-1j * kx * (side // 2 + x)).astype(np.complex64)
    # Rows that are not needed are dropped between the two directions.
    rows = ifft(product * down[:, None], axis=0)[: _FINE * side : _FINE] * right
    return irfft(rows, _GRID, axis=1)[:, : _FINE * side : _FINE].astype(np.float64) * _FINE**2


MODEL_ERRORS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Possible errors of the width of an object's PSF image, in units of the survey's largest error."""

COARSE = galsim.GSParams(folding_threshold=1e-2, maxk_threshold=3e-3, kvalue_accuracy=1e-4, xvalue_accuracy=1e-4)
"""Accuracy of 1 %: below the noise, and several times faster than GalSim's default."""


@dataclass(frozen=True)
class BandPsf:
    """PSF and noise of one band of one field.

    Attributes
    ----------
    waves : (128, 65) complex
        Fourier transform of PSF and pixel (`flows.simulation.cutout_survey.waves`).
    fwhm
        FWHM of the seeing, arcsec.
    images : (5, side, side) float32
        PSF as a pipeline may know it, including the pixel, with unit sum except for light outside; the third is
        exact, the others are too narrow or too wide.
    sky_sigma
        Noise of a pixel of empty sky, nJy.
    gain
        Electrons per nJy.
    """

    waves: NDArray[np.complexfloating]
    fwhm: float
    images: NDArray[np.float32]
    sky_sigma: float
    gain: float


def draw_band_psfs(survey: CutoutSurvey, rng: np.random.Generator) -> tuple[BandPsf, ...]:
    """Draw seeing, shape and depth of every band of a field; bands are observed at different times.

    The night has a common seeing (12 % scatter in `DEEP`), and each band an additional scatter (7 %). The profile is
    Kolmogorov's or a Moffat with slope 2.5 to 4.5, sheared by about 2 %; 3 to 8 % of its light is shifted by a fifth of
    the FWHM.
    """
    night = np.exp(rng.normal(0, survey.scatter))
    return tuple(_draw_band(survey, band, night, rng) for band in range(len(survey.bands)))


def _draw_band(survey: CutoutSurvey, band: int, night: float, rng: np.random.Generator) -> BandPsf:
    fwhm = survey.seeing[band] * night * float(np.exp(rng.normal(0, 0.07)))
    if rng.random() < 0.5:
        round_one = galsim.Kolmogorov(fwhm=fwhm, gsparams=COARSE)
    else:
        round_one = galsim.Moffat(beta=rng.uniform(2.5, 4.5), fwhm=fwhm, gsparams=COARSE)
    g1, g2 = np.clip(rng.normal(0, 0.02, 2), -0.1, 0.1)
    aside, direction = rng.uniform(0.03, 0.08), rng.uniform(0, 2 * np.pi)
    step = 0.2 * fwhm
    profile = (1 - aside) * round_one + aside * round_one.shift(step * np.cos(direction), step * np.sin(direction))
    profile = profile.shear(g1=float(g1), g2=float(g2))
    pixel = pixel_waves(survey.scale)
    seen = [pixel * waves(profile.dilate(1 + error * survey.psf_error), survey.scale) for error in MODEL_ERRORS]
    images = np.stack([render_profiles(one, survey.side) for one in seen]).astype(np.float32)
    depth = survey.depth[band] + rng.normal(0, 0.15)
    # S/N of a PSF-weighted flux in white noise: flux sqrt(sum p^2) / sigma.
    sky_sigma = (
        10 ** (0.4 * (ZERO_POINT - depth)) / 5 * float(np.sqrt((images[len(images) // 2].astype(float) ** 2).sum()))
    )
    sky = 10 ** (0.4 * (ZERO_POINT - survey.sky[band])) * survey.scale**2
    return BandPsf(seen[len(seen) // 2], fwhm, images, sky_sigma, sky / sky_sigma**2)

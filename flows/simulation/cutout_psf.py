"""PSF of each band in a field of cutouts."""

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from flows.simulation.cutout_render import pixel_waves, render, waves
from flows.simulation.cutout_survey import ZERO_POINT, CutoutSurvey

MODEL_ERRORS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Errors of the width that the PSF image of an object may have, in units of the survey's largest."""

COARSE = galsim.GSParams(folding_threshold=1e-2, maxk_threshold=3e-3, kvalue_accuracy=1e-4, xvalue_accuracy=1e-4)
"""Accuracy of 1 %: below the noise, and several times as fast as GalSim's default."""


@dataclass(frozen=True)
class BandPsf:
    """One band of one field.

    Attributes
    ----------
    waves : (128, 65) complex
        Its Fourier transform, through the pixels (`flows.simulation.cutout_render.waves`).
    fwhm
        Of the atmosphere, arcsec.
    images : (5, side, side) float32
        As the pipeline may know it: through the pixels, sum 1 but for what lies outside; the third is right, the others
        are too narrow or too wide.
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


def draw_psfs(survey: CutoutSurvey, rng: np.random.Generator) -> tuple[BandPsf, ...]:
    """Draw seeing, shape and depth of every band of a field: bands are taken at different times.

    The night has a seeing (12 % scatter in `DEEP`), each band its own on top (7 %). The profile is Kolmogorov's or a
    Moffat with a slope of 2.5 to 4.5, sheared by about 2 %; 3 to 8 % of its light lies a fifth of the FWHM to one side.
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
    images = np.stack([render(one, survey.side) for one in seen]).astype(np.float32)
    depth = survey.depth[band] + rng.normal(0, 0.15)
    # S/N of a PSF-weighted flux in white noise: flux sqrt(sum p^2) / sigma.
    sky_sigma = (
        10 ** (0.4 * (ZERO_POINT - depth)) / 5 * float(np.sqrt((images[len(images) // 2].astype(float) ** 2).sum()))
    )
    sky = 10 ** (0.4 * (ZERO_POINT - survey.sky[band])) * survey.scale**2
    return BandPsf(seen[len(seen) // 2], fwhm, images, sky_sigma, sky / sky_sigma**2)

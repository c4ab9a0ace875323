"""Science and template images whose difference is the difference image."""

import numpy as np
from numpy.typing import NDArray

from flows.simulation.exposure import SimulatedExposure
from flows.simulation.psf import add_stamp, moffat

_SKY = 25.0  # times the noise: level of the science image's sky
_TEMPLATE_NOISE = 0.2  # times that of the difference
_REACH = (6, 12, 24, 60)


def science_and_template(exposure: SimulatedExposure) -> dict[str, NDArray[np.float32]]:
    """Give the planes ``science`` and ``template``, float32, pixel units, NaN where the difference is.

    The template holds the stars and little noise; the science image is template + difference + sky.
    """
    conditions = exposure.conditions
    sigma = conditions.noise.sigma
    bands = conditions.preset.field_bands
    rng = conditions.field_stream(f"template/{conditions.band}" if bands else "template")
    template = rng.standard_normal(conditions.preset.shape, dtype=np.float32) * np.float32(_TEMPLATE_NOISE * sigma)
    _draw_stars(template, exposure)
    if exposure.galaxies is not None:
        template += exposure.galaxies
    template[np.isnan(exposure.difference)] = np.nan
    return {"science": template + exposure.difference + np.float32(_SKY * sigma), "template": template}


def _draw_stars(image: NDArray[np.float32], exposure: SimulatedExposure) -> None:
    psf, stars = exposure.conditions.psf, exposure.stars
    limit = np.float32(exposure.conditions.preset.saturation)
    zero = np.zeros(1)
    for x, y, flux in zip(stars.x, stars.y, stars.flux, strict=True):
        edges = flux * moffat(np.array(_REACH, float) * psf.fwhm / 2, zero, np.array(psf.fwhm), psf.beta, zero, zero)
        step = min(int(np.sum(edges > 0.1 * exposure.conditions.noise.sigma)), len(_REACH) - 1)
        half = int(np.ceil(_REACH[step] * psf.fwhm / 2))
        offset = np.arange(-half, half + 1.0)
        g1, g2 = psf.shear_at(x, y)
        star = moffat(
            offset[None, :] + round(x) - x, offset[:, None] + round(y) - y, psf.fwhm_at(x, y), psf.beta, g1, g2
        )
        add_stamp(image, np.minimum(flux * star, limit).astype(np.float32), round(y) - half, round(x) - half)

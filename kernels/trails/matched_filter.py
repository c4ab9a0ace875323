"""Signal to noise of a template in correlated noise, and of a filter made from the true trail."""

import numpy as np
from numpy.typing import NDArray

from kernels.image.noise import filtered_noise
from kernels.psf.gaussian_mixture import GaussianMixture
from kernels.trails.trail_model import trail_image


def template_snr(flux: float, template: NDArray[np.floating], noise: float, correlation: NDArray[np.floating]) -> float:
    """Return the matched-filter signal to noise ``flux * sum(m^2) / std(m-filtered noise)``.

    Parameters
    ----------
    flux
        Flux of the source whose image is ``flux * template``; unit of ``noise``.
    template : (ny, nx)
        Unit-flux image m of the source.
    noise, correlation
        See `filtered_noise`.
    """
    return flux * float(np.sum(np.square(template))) / filtered_noise(template, noise, correlation)


ALARM_DENSITY_PER_PX = 0.004828
ALARM_POWER = 3.382
"""Factor measured by ``python -m benchmarks.detection.oracle_threshold``; see `false_alarms`."""

_SHIFTS = (-1.0, 0.0, 1.0)


def oracle_snr(
    image: NDArray[np.floating],
    usable: NDArray[np.bool_],
    place: tuple[float, float],
    length: float,
    angle: float,
    psf: GaussianMixture,
    noise: float,
    correlation: NDArray[np.floating],
) -> float:
    """Return the signal to noise of the true template on the image, the best of nine positions within 1 px.

    Parameters
    ----------
    image : (ny, nx)
        Pixels around the streak, background subtracted.
    usable : (ny, nx) bool
        Usable pixels; the template is cut to them.
    place
        True centre (x, y) of the streak on ``image``, 0-based px.
    length, angle
        True length before convolution, px, and angle from +x towards +y, deg.
    psf
        True PSF with the response of a pixel included.
    noise, correlation
        Noise of the image; see `kernels.image.noise.filtered_noise`.

    Returns
    -------
    float
        sum(m image) / std(m-filtered noise); minus infinity if no pixel is usable.
    """
    pixels = np.where(usable, image, 0.0)
    best = -np.inf
    for dy in _SHIFTS:
        for dx in _SHIFTS:
            template = trail_image(pixels.shape, place[0] + dx, place[1] + dy, length, angle, psf)
            template[~usable] = 0.0
            if (spread := filtered_noise(template, noise, correlation)) > 0:
                best = max(best, float(np.sum(template * pixels)) / spread)
    return best


def false_alarms(threshold: float, area_px: float) -> float:
    """Return the expected number of peaks above ``threshold`` of a bank of trail templates on pure noise.

    Parameters
    ----------
    threshold
        Signal to noise, at least 4.
    area_px
        Searched area, px.

    Notes
    -----
    ``density area t^power exp(-t^2 / 2)`` is the form of the expected number of peaks of a Gaussian random field
    (Adler 1981, *The Geometry of Random Fields*, ch. 6; the power grows with the number of parameters searched). Its
    two constants were measured on correlated noise with a bank of 203 trails of 0 to 60 px: 1 per 3080 x 3072 px at
    5.77.
    """
    return ALARM_DENSITY_PER_PX * area_px * threshold**ALARM_POWER * float(np.exp(-(threshold**2) / 2))


def oracle_threshold(false_per_image: float, area_px: float) -> float:
    """Return the signal to noise (4 to 12) above which the bank has ``false_per_image`` peaks on pure noise.

    Parameters
    ----------
    false_per_image
        Allowed number of peaks, > 0.
    area_px
        Area of one image, px.
    """
    from scipy.optimize import brentq

    low, high = 4.0, 12.0
    if false_alarms(low, area_px) <= false_per_image:
        return low
    if false_alarms(high, area_px) >= false_per_image:
        return high
    return float(brentq(lambda t: np.log(false_alarms(t, area_px) / false_per_image), low, high))

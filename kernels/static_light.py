"""Light that was there before: what the science image shows beneath a trail, and the difference image does not."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kernels.footprint import Footprint, Segment, stadium
from kernels.scene import Scene, trail_shape
from schemas.reliability import STATIC, UNKNOWN

_LEVEL_FWHM = 8.0  # from the axis: pixels whose median is the level of the sky
_LIGHT_FWHM = 2.5  # and those that hold the trail
_CORE = 0.3  # share of the trail's brightest pixel from which on a pixel is of its core
_UNLIKE = 0.3  # share of its own light that may be elsewhere on the science image, whose PSF is another
_LEAST_SEEN = 0.5  # share of the trail's light whose pixels have a value


def static_light(scene: Scene, science: NDArray[np.float32] | None, segments: Sequence[Segment]) -> NDArray[np.float32]:
    """Describe the light of the science image under some trails that the difference image does not have.

    Subtraction leaves residues where stars are, in proportion to their light; what moves is rarely in front of one. So
    surveys weigh a detection by what the reference image shows there (Duev et al. 2019, MNRAS 489, 3582; Masci et al.
    2019, PASP 131, 018003, on distance to the nearest reference source). Science less difference is the reference, as
    matched to this exposure, wherever the reference image itself is kept. The two images may differ in PSF and scale
    (Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27, give a difference image a PSF of its own), so 0.3 of a pixel's own
    difference is granted.

    Parameters
    ----------
    scene
        Difference image with its PSF and noise.
    science : (ny, nx)
        On the same pixels and in the same unit; may hold NaN. None if there is no science image.
    segments
        Fitted trails.

    Returns
    -------
    (n, len(STATIC)) float32
        As listed in `schemas.reliability.STATIC`.
    """
    found = [UNKNOWN if science is None else _under(scene, science, segment) for segment in segments]
    return np.array(found, np.float32).reshape(-1, len(STATIC))


def _under(scene: Scene, science: NDArray[np.float32], segment: Segment) -> tuple[float, float, float]:
    here = stadium(scene.shape, segment, _LIGHT_FWHM * scene.fwhm_px)
    shape, light = trail_shape(scene, here, segment), _light(scene, science, here)
    seen = np.isfinite(light)
    if not seen.any() or shape[seen].sum() < _LEAST_SEEN * shape.sum():
        return UNKNOWN
    level = np.nanmedian(_light(scene, science, stadium(scene.shape, segment, _LEVEL_FWHM * scene.fwhm_px)))
    own = np.abs(scene.pixels[here.y, here.x] - scene.background)
    light, shape = ((light - level - _UNLIKE * own) / scene.noise.sigma)[seen], shape[seen]
    mean, peak = (light * shape).sum() / shape.sum(), light[shape >= _CORE * shape.max()].max()
    return math.log1p(max(float(mean), 0.0)), math.log1p(max(float(peak), 0.0)), 0.0


def _light(scene: Scene, science: NDArray[np.float32], area: Footprint) -> NDArray[np.float64]:
    """Science less difference; NaN where either does not count."""
    light = science[area.y, area.x].astype(np.float64) - scene.pixels[area.y, area.x]
    return np.where(scene.usable[area.y, area.x] & np.isfinite(light), light, np.nan)

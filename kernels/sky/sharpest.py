"""Choice of the exposure of a band that shows an object best."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.sky.projection import celestial_wcs, pixel_scale, pixels_of
from schemas.exposure import ExposureInfo


class Placed(NamedTuple):
    """Objects that one exposure shows best.

    Attributes
    ----------
    info
        The exposure.
    which : (n,) int64
        Places of the objects among all.
    x, y : (n,) int64
        Column and row of the pixel that holds each.
    """

    info: ExposureInfo
    which: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]


def sharpest_first(infos: Sequence[ExposureInfo], band: str) -> list[ExposureInfo]:
    """Return the exposures of a band that have WCS and zero point: the sharpest first, then the least noisy."""
    usable = [one for one in infos if one.band == band and one.wcs_header is not None and one.ab_zero_point is not None]
    return sorted(usable, key=lambda info: (psf_arcsec(info), info.noise, info.visit, info.detector))


def sharpest(
    infos: Sequence[ExposureInfo], band: str, ra: NDArray[np.float64], dec: NDArray[np.float64], before: int, after: int
) -> list[Placed]:
    """Share objects out to the exposures of a band.

    Parameters
    ----------
    infos
        Exposures of any band; those without WCS or zero point do not count.
    band
        Which is asked for.
    ra, dec : (n,)
        Of the objects, degrees.
    before, after
        Pixels that should lie on the image before that of the object, and from it on.

    Returns
    -------
    list of Placed
        Of several exposures the sharpest counts on which all of those pixels lie; if there is none, the sharpest on
        which the object's own does. Equally sharp ones go by noise, visit and detector. Exposures without objects are
        left out.
    """
    free = np.ones(len(ra), np.bool_)
    placed = []
    for info in sharpest_first(infos, band):
        which, x, y = pixels_of(celestial_wcs(info.wcs_header or ""), info.shape, ra, dec)
        column, row = (np.clip(np.rint(place).astype(np.int64), 0, None) for place in (x, y))
        placed.append(Placed(info, which, np.minimum(column, info.shape[1] - 1), np.minimum(row, info.shape[0] - 1)))
    # Marked first, cut after: so each exposure is read once, whichever way it serves.
    taken = [np.zeros(one.which.size, np.bool_) for one in placed]
    for whole in (True, False):
        for one, mine in zip(placed, taken, strict=True):
            ny, nx = one.info.shape
            inside = (np.minimum(one.x, one.y) >= before) & (one.x + after <= nx) & (one.y + after <= ny)
            mine |= free[one.which] & (inside if whole else ~inside)
            free[one.which[mine]] = False
    return [
        Placed(one.info, one.which[mine], one.x[mine], one.y[mine])
        for one, mine in zip(placed, taken, strict=True)
        if mine.any()
    ]


def psf_arcsec(info: ExposureInfo) -> float:
    """Return the FWHM of the PSF of an exposure with a WCS, arcsec."""
    return info.psf.fwhm_px * pixel_scale(celestial_wcs(info.wcs_header or ""))

"""Stage: cutouts of the objects of a patch of the sky."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.image.cutouts import cut
from kernels.image.science_image import NeededPlaces, image_of
from kernels.measure.photometry import njy_per_unit
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.psf.psf_field import bright, draw_psfs, field_of, psf_stars
from kernels.sky.sharpest import sharpest
from schemas.errors import Misconfigured
from schemas.exposure import ExposureInfo
from schemas.objects import CENTRE, CUTOUTS, OBJECT, SIDE, SOURCE
from schemas.settings import CutCutoutsSettings
from schemas.stage import Context, NightPixels, Stage

_ROWS = 4096  # rows processed at a time


def cut_cutouts(inputs: Mapping[str, Any], context: Context) -> NDArray[np.float32]:
    """Return cutouts of each object, from one exposure per band.

    In each band the sharpest exposure that holds the whole cutout is used. If there is none, the sharpest that holds
    the object's pixel is used, and pixels beyond its border are NaN. Ties are broken by noise, visit and detector.

    Parameters
    ----------
    inputs
        ``object``, and ``source``, whose digest covers the pixels of the exposures and the stars that give the PSF.
    context
        The section `CutCutoutsSettings`, and the pixels of the patch.

    Returns
    -------
    (n, 2 * bands, SIDE, SIDE) float32
        Array `CUTOUTS`, in the order of the objects, with the PSF at each object's position (`kernels.psf.psf_field`).
    """
    settings: CutCutoutsSettings = context.settings
    if context.pixels is None:
        raise Misconfigured("no_pixels", "stage cut_cutouts", "it works on the pixels of a patch.", "give it them.")
    objects = inputs[OBJECT.name]
    ra, dec = (objects[name].to_numpy() for name in ("ra", "dec"))
    count = len(settings.bands)
    made: NDArray[np.float32] = context.allocate((len(ra), 2 * count, SIDE, SIDE), CUTOUTS.dtype)
    for start in range(0, len(ra), _ROWS):
        made[start : start + _ROWS] = np.nan
    for plane, band in enumerate(settings.bands):
        for info, which, x, y in sharpest(context.pixels.exposures(), band, ra, dec, CENTRE, SIDE - CENTRE):
            stars = psf_stars(context.pixels.rows(info, SOURCE), info)
            _fill(made, info, context.pixels, stars, which, x, y, (plane, count + plane), settings.mesh)
    return made


def _fill(
    made: NDArray[np.float32],
    info: ExposureInfo,
    pixels: NightPixels,
    stars: tuple[NDArray[np.float64], NDArray[np.float64]],
    which: NDArray[np.int64],
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    planes: tuple[int, int],
    mesh: int,
) -> None:
    """Fill in the cutouts of objects from one exposure, and its PSF at their positions."""
    if info.ab_zero_point is None:
        return
    psf = moffat_mixture(info.psf.fwhm_px, info.psf.beta)
    seen_x, seen_y = bright(*stars)
    needed = NeededPlaces(np.concatenate([x, seen_x]), np.concatenate([y, seen_y]), SIDE)
    with image_of(pixels, info, mesh, needed) as image:
        if image is None:
            return
        cut(image.pixels, image.bad, njy_per_unit(info.ab_zero_point), y, x, which, planes[0], made)
        field = field_of(image, psf, *stars)
    for start in range(0, len(which), _ROWS):
        part = slice(start, start + _ROWS)
        made[which[part], planes[1]] = draw_psfs(psf, field.at(x[part], y[part]), SIDE)


STAGE = Stage(
    name="cut_cutouts",
    version="3",
    per="patch",
    needs=(OBJECT, SOURCE),
    gives=CUTOUTS,
    run=cut_cutouts,
    settings=CutCutoutsSettings,
    pixels=True,
)

"""Stage: pictures of the galaxies of a patch of the sky."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.image.science_image import NeededPlaces, image_of
from kernels.measure.photometry import njy_per_unit
from kernels.pictures.galaxy_stamps import LARGEST, LEAST_USABLE, SCALES, WHOLE, coloured, half_side, stamp
from kernels.sky.projection import celestial_wcs, pixel_scale, pixels_of
from kernels.sky.sharpest import sharpest_first
from schemas.errors import Misconfigured
from schemas.exposure import ExposureInfo
from schemas.galaxy_pictures import GALAXY, GALAXY_PICTURE, PICTURE_SIDE
from schemas.objects import SOURCE
from schemas.settings import CutPicturesSettings
from schemas.stage import Context, NightPixels, Stage


def cut_pictures(inputs: Mapping[str, Any], context: Context) -> NDArray[np.uint8]:
    """Return a colour picture of each galaxy, in the style of the training pictures, from one exposure per band.

    The sharpest exposure that shows all of the galaxy is used; if there is none, the sharpest that shows four fifths.

    Parameters
    ----------
    inputs
        ``galaxy``, and ``source``, whose digest covers the pixels.
    context
        The section `CutPicturesSettings`, and the pixels of the patch.

    Returns
    -------
    (n, PICTURE_SIDE, PICTURE_SIDE, 3) uint8
        Array `GALAXY_PICTURE`, in the order of the galaxies.

    Raises
    ------
    Misconfigured
        There are no pixels.
    """
    settings: CutPicturesSettings = context.settings
    if context.pixels is None:
        raise Misconfigured("no_pixels", "stage cut_pictures", "it works on the pixels of a patch.", "give it them.")
    ra, dec, radius = (inputs[GALAXY.name][name].to_numpy() for name in ("ra", "dec", "halfLightRadius"))
    shape = (len(ra), len(settings.bands), PICTURE_SIDE, PICTURE_SIDE)
    made: NDArray[np.uint8] = context.allocate((len(ra), PICTURE_SIDE, PICTURE_SIDE, 3), GALAXY_PICTURE.dtype)
    stamps: NDArray[np.float32] = context.allocate(shape, "float32")
    there = np.zeros(shape[:2], np.bool_)
    for plane, band in enumerate(settings.bands):
        waiting = np.ones(len(ra), np.bool_)
        for least in (WHOLE, LEAST_USABLE):
            for info in sharpest_first(context.pixels.exposures(), band):
                places = _placed(info, ra, dec, radius, waiting, least)
                _fill(stamps[:, plane], there[:, plane], waiting, info, places, context.pixels, settings, least)
    for row in np.flatnonzero(there.any(1)):
        made[row] = coloured(stamps[row, there[row]])
    return made


class _Place(NamedTuple):
    which: int
    x: int
    y: int
    radius: float


def _placed(
    info: ExposureInfo,
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    radius: NDArray[np.float32],
    waiting: NDArray[np.bool_],
    least: float,
) -> list[_Place]:
    """Return the waiting galaxies with at least a given share of their picture on an exposure, in its pixels."""
    wcs, found = celestial_wcs(info.wcs_header or ""), list[_Place]()
    rows = np.flatnonzero(waiting)
    which, x, y = pixels_of(wcs, info.shape, ra[rows], dec[rows])
    sizes, scale = np.array(info.shape[::-1]), pixel_scale(wcs)
    for n, *place in zip(rows[which].tolist(), x.tolist(), y.tolist(), strict=True):
        pixel, size = np.minimum(np.maximum(np.rint(place), 0), sizes - 1).astype(int), float(radius[n]) / scale
        half = half_side(size)
        inside = np.minimum(pixel + half, sizes) - np.maximum(pixel - half, 0)
        if inside.prod() >= least * (2 * half) ** 2:
            found.append(_Place(n, int(pixel[0]), int(pixel[1]), size))
    return found


def _fill(
    stamps: NDArray[np.float32],
    there: NDArray[np.bool_],
    waiting: NDArray[np.bool_],
    info: ExposureInfo,
    places: Sequence[_Place],
    pixels: NightPixels,
    settings: CutPicturesSettings,
    least: float,
) -> None:
    """Fill in the galaxies of one exposure, in nJy; these stop waiting, whether bright enough or not."""
    if not places or info.ab_zero_point is None:
        return
    unit = njy_per_unit(info.ab_zero_point) * SCALES.get(info.band, 1.0)
    x0, y0 = (np.array([getattr(place, name) for place in places]) for name in ("x", "y"))
    needed = NeededPlaces(x0, y0, min(max(half_side(place.radius) for place in places), LARGEST))
    with image_of(pixels, info, settings.mesh, needed) as image:
        if image is None:
            return
        for n, x, y, radius in places:
            found = stamp(image, x, y, radius, PICTURE_SIDE, least)
            if found is not None:
                waiting[n] = False
                if found.snr >= settings.least_snr:
                    stamps[n], there[n] = found.pixels * unit, True


STAGE = Stage(
    name="cut_pictures",
    version="1",
    per="patch",
    needs=(GALAXY, SOURCE),
    gives=GALAXY_PICTURE,
    run=cut_pictures,
    settings=CutPicturesSettings,
    pixels=True,
)

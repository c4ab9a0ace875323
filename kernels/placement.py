"""From the sky to pixels, with the full distortion of the image."""

from typing import NamedTuple

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.typing import NDArray

from kernels.motion import along_great_circle, separation

Floats = NDArray[np.float64]

_STEP = 1 / 3600  # deg; over it the scale of an image is taken as constant
_FARTHEST = 1.2  # radii of the image: further out a distortion is not defined
_CLOSE = 0.05  # px; a solution that does not lead back to the sky is none


class PlacedTrails(NamedTuple):
    """Trails on an image, arrays of one entry per trail; NaN where the image is not.

    Attributes
    ----------
    x, y
        Centre, px; the centre of the first pixel is (0, 0).
    length, angle
        px; from +x towards +y, deg, modulo 180; a point has angle 0.
    """

    x: Floats
    y: Floats
    length: Floats
    angle: Floats


def place_trails(
    wcs: WCS, shape: tuple[int, int], ra: Floats, dec: Floats, length: Floats, angle: Floats
) -> PlacedTrails:
    """Carry trails from the sky to an image.

    Parameters
    ----------
    wcs, shape
        Of the image; (ny, nx), px.
    ra, dec : (n,)
        Centres (ICRS), deg.
    length, angle : (n,)
        arcsec; position angle at the centre, from north through east, deg.

    Returns
    -------
    PlacedTrails
        NaN where the centre lies outside of the image. Length and angle are those of an arc second at the centre.
    """
    placed = PlacedTrails(*(np.full(len(ra), np.nan) for _ in range(4)))
    near = np.flatnonzero(_near(wcs, shape, ra, dec))
    x, y = _pixels(wcs, ra[near], dec[near])
    with np.errstate(invalid="ignore"):
        inside = (x >= -0.5) & (x < shape[1] - 0.5) & (y >= -0.5) & (y < shape[0] - 0.5)
    here, x, y = near[inside], x[inside], y[inside]
    half = np.full(len(here), _STEP / 2)
    (x0, y0), (x1, y1) = (
        _pixels(wcs, *along_great_circle(ra[here], dec[here], angle[here], side * half)[:2]) for side in (-1, 1)
    )
    placed.x[here], placed.y[here] = x, y
    placed.length[here] = length[here] / 3600 / _STEP * np.hypot(x1 - x0, y1 - y0)
    moving = length[here] > 0
    placed.angle[here] = np.where(moving, np.degrees(np.arctan2(y1 - y0, x1 - x0)) % 180, 0.0)
    return placed


def _near(wcs: WCS, shape: tuple[int, int], ra: Floats, dec: Floats) -> NDArray[np.bool_]:
    """Tell what lies within the circle around the image, or not far outside."""
    ny, nx = shape
    y, x = np.mgrid[-0.5 : ny - 0.5 : 3j, -0.5 : nx - 0.5 : 3j].reshape(2, -1)
    sky = wcs.pixel_to_world(x, y).icrs
    middle = float(sky.ra.deg[4]), float(sky.dec.deg[4])
    radius = separation(sky.ra.deg, sky.dec.deg, *middle).max()
    return separation(ra, dec, *middle) <= _FARTHEST * radius


def _pixels(wcs: WCS, ra: Floats, dec: Floats) -> tuple[Floats, Floats]:
    """Pixels of ICRS positions, deg; NaN where the distortion cannot be undone."""
    if not len(ra):
        return np.empty(0), np.empty(0)
    sky = SkyCoord(ra, dec, unit="deg").transform_to(wcs_to_celestial_frame(wcs)).spherical
    lon, lat = sky.lon.deg, sky.lat.deg
    with np.errstate(all="ignore"):
        x, y = wcs.all_world2pix(lon, lat, 0, tolerance=1e-6, maxiter=50, quiet=True)
        back = wcs.all_pix2world(x, y, 0)
        east = ((back[0] - lon + 180) % 360 - 180) * np.cos(np.radians(lat))
        scale = np.sqrt(np.abs(np.linalg.det(wcs.pixel_scale_matrix)))
        lost = ~(np.hypot(east, back[1] - lat) < _CLOSE * scale)
    return np.where(lost, np.nan, x), np.where(lost, np.nan, y)

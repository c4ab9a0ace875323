"""Projection from pixels to the sky and back, with the full distortion of the image."""

import math
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.sky.positions import along_great_circle, separation

if TYPE_CHECKING:
    from astropy.wcs import WCS

_SINGULAR = 1e-8  # determinant over squared norm


class SkyTrails(NamedTuple):
    """Trails on the sky, arrays of one entry per trail.

    Attributes
    ----------
    ra, dec
        ICRS position of the centre, deg.
    covariance : (n, 2, 2)
        Of (ra cos(dec), dec), deg^2.
    length, length_err
        Between the ends, arcsec.
    angle, angle_err
        Position angle at the centre, from north through east, deg, modulo 180.
    """

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    covariance: NDArray[np.float64]
    length: NDArray[np.float64]
    length_err: NDArray[np.float64]
    angle: NDArray[np.float64]
    angle_err: NDArray[np.float64]


@lru_cache(maxsize=64)
def celestial_wcs(header: str) -> "WCS":
    """Read a WCS.

    Parameters
    ----------
    header
        FITS header cards, newline separated; SIP, TPV and other distortions included.

    Raises
    ------
    ValueError
        It holds no celestial WCS of two axes, or one whose matrix is singular.
    """
    from astropy.io.fits import Header
    from astropy.utils.exceptions import AstropyWarning
    from astropy.wcs import WCS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)  # about what it repairs
        try:
            wcs = WCS(Header.fromstring(header, sep="\n"))
            celestial = wcs.naxis == 2 and wcs.has_celestial
            matrix = wcs.pixel_scale_matrix if celestial else np.zeros((2, 2))
        except Exception as error:  # wcslib's errors have no common base
            raise ValueError(f"not a WCS: {error}") from error
    if not abs(np.linalg.det(matrix)) > _SINGULAR * np.sum(np.square(matrix)):
        raise ValueError("no celestial WCS of two axes with a regular matrix")
    return wcs


def pixel_scale(wcs: "WCS") -> float:
    """Return the side of a pixel at the WCS's reference point, arcsec: the root of its area."""
    return float(3600 * math.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix))))


def pixels_of(
    wcs: "WCS", shape: tuple[int, int], ra: NDArray[np.float64], dec: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Find which positions lie on an image.

    Parameters
    ----------
    wcs, shape
        Of the image; (ny, nx), px.
    ra, dec : (n,)
        ICRS, deg.

    Returns
    -------
    which : (m,) int
        Those on the image, in order.
    x, y : (m,)
        Where, px, 0-based.
    """
    from astropy.coordinates import SkyCoord

    ny, nx = shape
    corners = wcs.pixel_to_world([-0.5, nx, nx, -0.5], [-0.5, -0.5, ny, ny]).icrs
    centre = wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2).icrs
    reach = 1.2 * float(corners.separation(centre).deg.max())
    near = np.flatnonzero(_separation(ra, dec, centre.ra.deg, centre.dec.deg) <= reach)
    if not near.size:
        return near, np.zeros(0), np.zeros(0)
    x, y = wcs.world_to_pixel(SkyCoord(ra[near], dec[near], unit="deg", frame="icrs"))
    on = (x >= -0.5) & (x < nx - 0.5) & (y >= -0.5) & (y < ny - 0.5)
    return near[on], x[on], y[on]


def sky_trails(
    wcs: "WCS",
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    length: NDArray[np.float64],
    angle: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> SkyTrails:
    """Project trails from the image to the sky.

    Parameters
    ----------
    wcs
        Of the image.
    x, y : (n,)
        Centres, px, 0-based.
    length, angle : (n,)
        px; deg from +x towards +y.
    covariance : (n, 4, 4)
        Of (x, y, length, angle in deg); NaN gives NaN.

    Returns
    -------
    SkyTrails
        Length and angle follow from the two end points through the full WCS; the errors from its Jacobian at the
        centre. A point has the angle of a trail of 1 px.
    """
    theta = np.radians(angle)
    unit = np.stack([np.cos(theta), np.sin(theta)])
    half = 0.5 * unit * np.maximum(length, 1.0)
    steps = np.array([[0.0, 0], [0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]]).T[:, :, None]
    offsets = np.concatenate([np.broadcast_to(steps, (2, 5, len(x))), half[:, None], -half[:, None]], axis=1)
    sky = wcs.pixel_to_world((x + offsets[0]).ravel(), (y + offsets[1]).ravel()).icrs
    ra, dec = sky.ra.deg.reshape(7, -1), sky.dec.deg.reshape(7, -1)
    east, north = tangent_offsets(ra[1:], dec[1:], ra[0], dec[0])
    jacobian = np.stack([[east[0] - east[1], east[2] - east[3]], [north[0] - north[1], north[2] - north[3]]])
    jacobian = np.moveaxis(jacobian, -1, 0)  # (n, sky, pixel)
    along_east, along_north = east[4] - east[5], north[4] - north[5]
    direction = np.einsum("nsp,pn->ns", jacobian, unit)
    scale = np.hypot(*direction.T)
    turning = np.abs(np.linalg.det(jacobian)) / np.square(scale)
    errors = np.sqrt(np.einsum("nii->ni", covariance))
    return SkyTrails(
        ra=ra[0],
        dec=dec[0],
        covariance=jacobian @ covariance[:, :2, :2] @ np.swapaxes(jacobian, 1, 2),
        length=_separation(ra[5], dec[5], ra[6], dec[6]) * 3600 * length / np.maximum(length, 1.0),
        length_err=errors[:, 2] * scale * 3600,
        angle=np.degrees(np.arctan2(along_east, along_north)) % 180,
        angle_err=np.minimum(errors[:, 3] * turning, 90.0),
    )


def local_scales(
    wcs: "WCS", x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return where places of an image lie on the sky, and how its pixels lie there.

    Parameters
    ----------
    wcs
        Of the image.
    x, y : (n,)
        Places, px, 0-based.

    Returns
    -------
    ra, dec : (n,)
        ICRS, deg.
    matrix : (n, 2, 2)
        Degrees to the east and to the north (first axis) per pixel along x and y, in the tangent plane.
    """
    steps = np.array([[0.0, 0], [0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]]).T[:, :, None]
    sky = wcs.pixel_to_world((x + steps[0]).ravel(), (y + steps[1]).ravel()).icrs
    ra, dec = sky.ra.deg.reshape(5, -1), sky.dec.deg.reshape(5, -1)
    east, north = tangent_offsets(ra[1:], dec[1:], ra[0], dec[0])
    matrix = np.array([[east[0] - east[1], east[2] - east[3]], [north[0] - north[1], north[2] - north[3]]])
    return ra[0], dec[0], np.moveaxis(matrix, -1, 0)


def tangent_offsets(
    ra: NDArray[np.float64], dec: NDArray[np.float64], ra0: NDArray[np.float64], dec0: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the offsets to the east and north of ``(ra0, dec0)`` in the tangent plane there, deg."""
    a, d, d0 = np.radians(ra - ra0), np.radians(dec), np.radians(dec0)
    depth = np.sin(d) * np.sin(d0) + np.cos(d) * np.cos(d0) * np.cos(a)
    east = np.cos(d) * np.sin(a) / depth
    # sin(d) cos(d0) - cos(d) sin(d0) cos(a), without its loss of digits
    north = (np.sin(d - d0) + 2 * np.cos(d) * np.sin(d0) * np.square(np.sin(a / 2))) / depth
    return np.degrees(east), np.degrees(north)


def _separation(
    ra1: NDArray[np.float64], dec1: NDArray[np.float64], ra2: NDArray[np.float64], dec2: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the angle between two directions, deg (haversine)."""
    a, d1, d2 = np.radians(ra2 - ra1), np.radians(dec1), np.radians(dec2)
    root = np.square(np.sin((d2 - d1) / 2)) + np.cos(d1) * np.cos(d2) * np.square(np.sin(a / 2))
    return np.degrees(2 * np.arcsin(np.minimum(np.sqrt(root), 1)))


Floats = NDArray[np.float64]

_STEP = 1 / 3600  # deg; over this distance the scale of an image is taken to be constant
_FARTHEST = 1.2  # radii of the image: further out a distortion is not defined
_CLOSE = 0.05  # px; a solution that does not lead back to the same position is invalid


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
    wcs: "WCS", shape: tuple[int, int], ra: Floats, dec: Floats, length: Floats, angle: Floats
) -> PlacedTrails:
    """Project trails from the sky to an image.

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
    x, y = positions_in_pixels(wcs, ra[near], dec[near])
    with np.errstate(invalid="ignore"):
        inside = (x >= -0.5) & (x < shape[1] - 0.5) & (y >= -0.5) & (y < shape[0] - 0.5)
    here, x, y = near[inside], x[inside], y[inside]
    half = np.full(len(here), _STEP / 2)
    (x0, y0), (x1, y1) = (
        positions_in_pixels(wcs, *along_great_circle(ra[here], dec[here], angle[here], side * half)[:2])
        for side in (-1, 1)
    )
    placed.x[here], placed.y[here] = x, y
    placed.length[here] = length[here] / 3600 / _STEP * np.hypot(x1 - x0, y1 - y0)
    moving = length[here] > 0
    placed.angle[here] = np.where(moving, np.degrees(np.arctan2(y1 - y0, x1 - x0)) % 180, 0.0)
    return placed


def _near(wcs: "WCS", shape: tuple[int, int], ra: Floats, dec: Floats) -> NDArray[np.bool_]:
    """Return which positions lie within the circle around the image, or not far outside."""
    ny, nx = shape
    y, x = np.mgrid[-0.5 : ny - 0.5 : 3j, -0.5 : nx - 0.5 : 3j].reshape(2, -1)
    sky = wcs.pixel_to_world(x, y).icrs
    middle = float(sky.ra.deg[4]), float(sky.dec.deg[4])
    radius = separation(sky.ra.deg, sky.dec.deg, *middle).max()
    return separation(ra, dec, *middle) <= _FARTHEST * radius


def positions_in_pixels(wcs: "WCS", ra: Floats, dec: Floats) -> tuple[Floats, Floats]:
    """Return the pixels of ICRS positions, deg; NaN where the distortion cannot be undone."""
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    if not len(ra):
        return np.empty(0), np.empty(0)
    sky = SkyCoord(ra, dec, unit="deg").transform_to(wcs_to_celestial_frame(wcs)).spherical
    lon, lat = sky.lon.deg, sky.lat.deg
    order = [wcs.wcs.lng, wcs.wcs.lat]  # the latitude may come first
    with np.errstate(all="ignore"):
        world = np.stack([lon, lat])[order]
        x, y = wcs.all_world2pix(*world, 0, tolerance=1e-6, maxiter=50, quiet=True)
        back = np.stack(wcs.all_pix2world(x, y, 0))[order]
        east = ((back[0] - lon + 180) % 360 - 180) * np.cos(np.radians(lat))
        scale = np.sqrt(np.abs(np.linalg.det(wcs.pixel_scale_matrix)))
        lost = ~(np.hypot(east, back[1] - lat) < _CLOSE * scale)
    return np.where(lost, np.nan, x), np.where(lost, np.nan, y)

"""From pixels to the sky, with the full distortion of the image."""

import math
import warnings
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io.fits import Header
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from numpy.typing import NDArray

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
def celestial_wcs(header: str) -> WCS:
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


def pixel_scale(wcs: WCS) -> float:
    """Give the side of a pixel at the WCS's reference point, arcsec: the root of its area."""
    return float(3600 * math.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix))))


def pixels_of(
    wcs: WCS, shape: tuple[int, int], ra: NDArray[np.float64], dec: NDArray[np.float64], margin: float = 0.0
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Find which positions lie on an image.

    Parameters
    ----------
    wcs, shape
        Of the image; (ny, nx), px.
    ra, dec : (n,)
        ICRS, deg.
    margin
        How far beyond the border still counts, px.

    Returns
    -------
    which : (m,) int
        Those on the image, in order.
    x, y : (m,)
        Where, px, 0-based.
    """
    ny, nx = shape
    corners = wcs.pixel_to_world([-0.5, nx, nx, -0.5], [-0.5, -0.5, ny, ny]).icrs
    centre = wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2).icrs
    reach = 1.2 * float(corners.separation(centre).deg.max()) + margin * pixel_scale(wcs) / 3600
    near = np.flatnonzero(_separation(ra, dec, centre.ra.deg, centre.dec.deg) <= reach)
    if not near.size:
        return near, np.zeros(0), np.zeros(0)
    x, y = wcs.world_to_pixel(SkyCoord(ra[near], dec[near], unit="deg", frame="icrs"))
    least, last = -0.5 - margin, -0.5 + margin
    on = (x >= least) & (x < nx + last) & (y >= least) & (y < ny + last)
    return near[on], x[on], y[on]


def sky_trails(
    wcs: WCS,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    length: NDArray[np.float64],
    angle: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> SkyTrails:
    """Carry trails from the image to the sky.

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


def tangent_offsets(
    ra: NDArray[np.float64], dec: NDArray[np.float64], ra0: NDArray[np.float64], dec0: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the offsets to the east and north of ``(ra0, dec0)`` in the tangent plane there, deg."""
    a, d, d0 = np.radians(ra - ra0), np.radians(dec), np.radians(dec0)
    depth = np.sin(d) * np.sin(d0) + np.cos(d) * np.cos(d0) * np.cos(a)
    east = np.cos(d) * np.sin(a) / depth
    # sin(d) cos(d0) - cos(d) sin(d0) cos(a), without its loss of digits
    north = (np.sin(d - d0) + 2 * np.cos(d) * np.sin(d0) * np.square(np.sin(a / 2))) / depth
    return np.degrees(east), np.degrees(north)


def _separation(
    ra1: NDArray[np.float64], dec1: NDArray[np.float64], ra2: NDArray[np.float64], dec2: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Angle between two directions, deg (haversine)."""
    a, d1, d2 = np.radians(ra2 - ra1), np.radians(dec1), np.radians(dec2)
    root = np.square(np.sin((d2 - d1) / 2)) + np.cos(d1) * np.cos(d2) * np.square(np.sin(a / 2))
    return np.degrees(2 * np.arcsin(np.minimum(np.sqrt(root), 1)))

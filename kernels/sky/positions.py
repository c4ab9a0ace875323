"""Positions on the sphere: steady motion, one object of many sources, distance in units of an object's size."""

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit

Floats = NDArray[np.float64]


def along_great_circle(ra: Floats, dec: Floats, angle: Floats, arc: Floats) -> tuple[Floats, Floats, Floats]:
    """Return positions along a great circle.

    Parameters
    ----------
    ra, dec : (n,)
        Where to start, deg.
    angle : (n,)
        Which way: position angle there, from north through east, deg.
    arc : (n,)
        How far, deg; backwards where negative.

    Returns
    -------
    ra, dec, angle : (n,)
        Place and position angle at the end of the way, deg; ra in [0, 360), angle in [0, 360).

    Notes
    -----
    With n the direction of the start and t that of the motion, both unit vectors, the end lies at n cos(arc) +
    t sin(arc), and the motion there is t cos(arc) - n sin(arc). No formula of spherical trigonometry loses digits
    then, near the poles and for short ways either.
    """
    start, way, s = _unit(ra, dec), _tangent(ra, dec, angle), np.radians(arc)
    end, onward = start * np.cos(s) + way * np.sin(s), way * np.cos(s) - start * np.sin(s)
    ra_end = whole_turn(end[1], end[0])
    dec_end = np.degrees(np.arctan2(end[2], np.hypot(end[0], end[1])))
    east, north = (np.sum(onward * _tangent(ra_end, dec_end, np.full_like(s, side)), axis=0) for side in (90.0, 0.0))
    return ra_end, dec_end, whole_turn(east, north)


def whole_turn(y: Floats, x: Floats) -> Floats:
    """Return the angles from x towards y, deg, in [0, 360)."""
    return np.asarray(np.degrees(np.arctan2(y, x)) % 360 % 360)  # the first leaves 360 of what is hardly below 0


def separation(ra: Floats, dec: Floats, ra0: float, dec0: float) -> Floats:
    """Return the angle between directions and one of them, deg; all arguments in deg."""
    here, there = _unit(ra, dec), _unit(np.atleast_1d(ra0), np.atleast_1d(dec0))
    return np.degrees(2 * np.arcsin(np.minimum(np.linalg.norm(here - there, axis=0) / 2, 1.0)))


def _unit(ra: Floats, dec: Floats) -> Floats:
    """Return unit vectors, (3, n)."""
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def _tangent(ra: Floats, dec: Floats, angle: Floats) -> Floats:
    """Return unit vectors towards a position angle, (3, n)."""
    a, d, p = np.radians(ra), np.radians(dec), np.radians(angle)
    east = np.stack([-np.sin(a), np.cos(a), np.zeros_like(a)])
    north = np.stack([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)])
    return east * np.sin(p) + north * np.cos(p)


def unit_vectors(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the directions (n, 3) of positions in deg."""
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)


def sky_position(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (ra, dec), deg, of directions (n, 3) of any length but 0; ra in [0, 360)."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    return whole_turn(y, x), np.degrees(np.arctan2(z, np.hypot(x, y)))


def displaced(ra: Floats, dec: Floats, angle: float | Floats, arcsec: float) -> tuple[Floats, Floats]:
    """Return the positions so far away in one direction or several.

    Parameters
    ----------
    ra, dec : (n,)
        deg.
    angle : () or (k,)
        East of north, radians.
    arcsec
        How far.

    Returns
    -------
    ra, dec : (n,) or (k, n)
        deg; ra in [0, 360).
    """
    a, d, way = np.radians(ra), np.radians(dec), np.asarray(angle)[..., None, None]
    east = np.stack([-np.sin(a), np.cos(a), np.zeros_like(a)], axis=-1)
    north = np.stack([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)], axis=-1)
    arc = np.radians(arcsec / 3600)
    moved = np.cos(arc) * unit_vectors(ra, dec) + np.sin(arc) * (np.sin(way) * east + np.cos(way) * north)
    return sky_position(moved)


def merge_positions(
    vectors: NDArray[np.float64],
    exposure: NDArray[np.int64],
    weight: NDArray[np.float64],
    radius: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return each source the number of its object.

    The source of greatest weight that is not taken begins an object, and takes from each other exposure the nearest
    source within the radius that is not taken; and so on. Two sources of one exposure are never one object.

    Parameters
    ----------
    vectors : (n, 3)
        Directions.
    exposure, weight : (n,)
        Number of the exposure of each; what decides which come first. Of equal ones the first of the list does.
    radius : (n,)
        Of each, arcsec: that of two sources is the larger one.

    Returns
    -------
    (n,) int64
        0, 1, 2, ... in the order in which the objects began.
    """
    from scipy.spatial import cKDTree

    if not len(vectors):
        return np.zeros(0, np.int64)
    chord = 2 * np.sin(np.radians(radius / 3600) / 2)
    pairs = cKDTree(vectors).query_pairs(float(chord.max()), output_type="ndarray")
    distance = np.sum(np.square(vectors[pairs[:, 0]] - vectors[pairs[:, 1]]), axis=1)
    near = distance <= np.square(np.maximum(chord[pairs[:, 0]], chord[pairs[:, 1]]))
    pairs, distance = pairs[near], np.tile(distance[near], 2)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    order = np.lexsort((both[:, 1], distance, both[:, 0]))
    starts = np.searchsorted(both[order, 0], np.arange(len(vectors) + 1))
    first = np.argsort(-weight, kind="stable")
    return _claimed(first, starts, both[order, 1].astype(np.int64), exposure, int(exposure.max()) + 1)


@njit(cache=True, nogil=True)
def _claimed(
    first: NDArray[np.int64],
    starts: NDArray[np.int64],
    neighbours: NDArray[np.int64],
    exposure: NDArray[np.int64],
    exposures: int,
) -> NDArray[np.int64]:
    """Assign sources to objects, in order; the neighbours of each are sorted by distance."""
    found = np.full(len(first), -1, np.int64)
    taken_from = np.full(exposures, -1, np.int64)
    count = 0
    for source in first:
        if found[source] >= 0:
            continue
        found[source] = count
        taken_from[exposure[source]] = count
        for place in range(starts[source], starts[source + 1]):
            other = neighbours[place]
            if found[other] < 0 and taken_from[exposure[other]] != count:
                found[other] = count
                taken_from[exposure[other]] = count
        count += 1
    return found


def object_ids(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the order-29 nested HEALPix cells of positions in deg: 0.4 mas wide, different for all objects."""
    return healpix_cells(ra, dec, 29)


def healpix_cells(ra: NDArray[np.float64], dec: NDArray[np.float64], order: int) -> NDArray[np.int64]:
    """Return the nested HEALPix cells of an order (Gorski et al. 2005, ApJ 622, 759) of positions in deg."""
    from astropy import units
    from astropy_healpix import HEALPix

    grid = HEALPix(nside=2**order, order="nested")
    return np.asarray(grid.lonlat_to_healpix(ra * units.deg, dec * units.deg), np.int64).reshape(-1)


def directional_distance(
    separation: NDArray[np.float64],
    direction: NDArray[np.float64],
    half_light: NDArray[np.float64],
    elongation: NDArray[np.float64],
    position_angle: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the separation over the directional light radius.

    Parameters
    ----------
    separation, direction : (n,)
        From the object to the place, any unit of angle; its position angle, deg, north through east.
    half_light, elongation, position_angle : (n,)
        Of the object: half-light radius in the same unit, major over minor axis, position angle of the major axis, deg.

    Returns
    -------
    (n,)
        1 on the ellipse of the half-light radius (Gupta et al. 2016, AJ 152, 154, eqs. 1 to 3).

    Notes
    -----
    The ellipse has the area of the half-light circle: semi-axes R sqrt(e) and R / sqrt(e). The radius towards phi is
    a b / sqrt((a sin phi)^2 + (b cos phi)^2).
    """
    phi = np.radians(direction - position_angle)
    a, b = half_light * np.sqrt(elongation), half_light / np.sqrt(elongation)
    radius = a * b / np.hypot(a * np.sin(phi), b * np.cos(phi))
    return separation / radius

"""Association of detections with objects at rest: matches on the sky, places in cells, and statistics of fluxes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.linking.detections import arc, chord
from kernels.linking.proper_motion import fit_motions, motion_sums
from kernels.sky.patches import neighbours
from kernels.sky.positions import displaced, healpix_cells

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CELLS, _WIDE = 14, 9
"""Orders of the cells in which objects are searched."""

_RING = 16  # points around a position with which neighbouring cells are found
_UNKNOWN = 0.2  # arcsec: assumed for positions without an error
_FLOOR = 0.05  # arcsec: errors of astrometry not included in the stated ones
_SAME = 1e-6  # arcsec: smaller distances are rounding errors of unit vectors
_SIGNIFICANT = 3.0  # standard errors of a trail's length


class Reach(NamedTuple):
    """Distance within which a detection is the object's.

    Attributes
    ----------
    sigmas
        Standard deviations of the distance, from the errors of both positions.
    least, most
        Limits of that, arcsec.
    """

    sigmas: float = 4.0
    least: float = 0.75
    most: float = 1.5

    def of(self, sigma: Floats) -> Floats:
        """Return the reach where the distance has a standard deviation, arcsec."""
        return np.clip(self.sigmas * sigma, self.least, self.most)


class PlaceMatches(NamedTuple):
    """Pairs of a detection and an object.

    Attributes
    ----------
    rows, which : (k,) int64
        Their numbers; no detection and no object is in two pairs.
    separation : (k,)
        arcsec; 0 at the place itself, whatever the last digits of its unit vector.
    """

    rows: Integers
    which: Integers
    separation: Floats


def position_sigma(ra_err: Floats, dec_err: Floats) -> Floats:
    """Return the error of positions along each axis, arcsec, from those in deg; 0.2 arcsec where one is not known."""
    sigma = 3600 * np.sqrt((np.square(ra_err) + np.square(dec_err)) / 2)
    return np.hypot(np.where(np.isfinite(sigma), sigma, _UNKNOWN), _FLOOR)


def is_trail(length: Floats, error: Floats, least: float) -> NDArray[np.bool_]:
    """Return which trails are longer than ``least``, arcsec, and that by more than chance: 3 standard errors.

    What has a length without an error counts: its fit failed, and the length is the first estimate.
    """
    with np.errstate(invalid="ignore"):
        return (length > least) & ~(length < _SIGNIFICANT * error)


def match_places(
    vectors: Floats, sigma: Floats, places: Floats, place_sigma: Floats, seen: Integers, reach: Reach
) -> PlaceMatches:
    """Pair detections of one exposure with objects, one to one.

    Pairs within reach are taken by decreasing probability, each if neither of the two is taken: that of the distance,
    exp(-d^2 / 2 s^2) / s^2, times that of the object, which grows as the number of its detections, and one. So beside
    an object that is often seen a false detection of earlier takes none of its detections. No two that are both left,
    or both in worse pairs, would rather have each other; and the order of the detections plays no part, except between
    equal probabilities.

    Parameters
    ----------
    vectors : (n, 3)
        Directions of the detections, unit vectors.
    sigma : (n,)
        Errors of their positions along each axis, arcsec.
    places : (m, 3)
        Directions of the objects.
    place_sigma : (m,)
        Errors of theirs.
    seen : (m,)
        Number of their detections.
    reach
        How far apart the two of a pair may be.

    Returns
    -------
    PlaceMatches
        By increasing number of the detection.
    """
    from scipy.spatial import cKDTree

    # Of the many, a tree that is made fast: each is looked up once.
    tree = cKDTree(places, balanced_tree=False, compact_nodes=False)
    near = cKDTree(vectors).sparse_distance_matrix(tree, float(chord(reach.most)), output_type="ndarray")
    rows, which, apart = near["i"].astype(np.int64), near["j"].astype(np.int64), arc(near["v"])
    spread = np.hypot(sigma[rows], place_sigma[which])
    within = apart <= reach.of(spread)
    rows, which, apart, spread = rows[within], which[within], apart[within], spread[within]
    worse = np.square(apart / spread) + 4 * np.log(spread) - 2 * np.log1p(seen[which])
    taken_row, taken_place, chosen = set[int](), set[int](), []
    for pair in np.lexsort((which, rows, apart, worse)).tolist():
        row, place = int(rows[pair]), int(which[pair])
        if row not in taken_row and place not in taken_place:
            taken_row.add(row)
            taken_place.add(place)
            chosen.append(pair)
    kept = np.array(chosen, np.int64)
    kept = kept[np.argsort(rows[kept])]
    return PlaceMatches(rows[kept], which[kept], _unlike(apart[kept]))


def _unlike(apart: Floats) -> Floats:
    return np.where(apart < _SAME, 0.0, apart)


def separations_from_earlier(
    group: Integers, vectors: Floats, weight: Floats, mjd: Floats, night: Integers, last: NDArray[np.bool_]
) -> Floats:
    """Return how far detections are from the place of their object by those before them, arcsec; 0 of the first.

    That depends on the detections of the object alone, to the last digit: not on the order in which they were
    associated, nor on other objects.

    Parameters
    ----------
    group : (k,)
        Number of each one's object, from 0; rows are in an order that does not change, as that of the ids.
    vectors : (k, 3)
        Directions, unit vectors.
    weight, mjd : (k,)
        As of `kernels.linking.proper_motion.motion_sums`.
    night : (k,)
        Numbers of the nights.
    last : (k,)
        Which are of the last night: of n of these separations are returned, in their order. All others were before;
        among these it is the time that counts.
    """
    known, rows = _known_before(group, vectors, weight, mjd, night, last), np.flatnonzero(last)
    rows = rows[np.lexsort((mjd[rows], group[rows]))]
    of = group[rows]
    rank = np.arange(len(of)) - np.searchsorted(of, of)
    added = np.column_stack([motion_sums(vectors[rows], weight[rows], mjd[rows]), np.ones(len(of)), rank == 0])
    before = np.zeros_like(added)
    for same in np.split(np.argsort(rank, kind="stable"), np.cumsum(np.bincount(rank))):
        before[same] = known[of[same]]
        known[of[same]] += added[same]
    some = before[:, -2] > 0
    rows, before = rows[some], before[some]
    number, nights = before[:, -2:].astype(np.int64).T
    motions, apart = fit_motions(before[:, :-2], number), np.zeros(len(group))
    places, _ = motions.at(mjd[rows], motions.moving(nights))
    apart[rows] = _unlike(arc(np.linalg.norm(vectors[rows] - places, axis=1)))
    return np.asarray(apart[last])


def _known_before(
    group: Integers, vectors: Floats, weight: Floats, mjd: Floats, night: Integers, last: NDArray[np.bool_]
) -> Floats:
    """Return sums, number and nights of the detections of each object before the last night, (objects, 11)."""
    objects, nights = int(group.max(initial=-1)) + 1, int(night.max(initial=0)) + 1
    sums = [np.bincount(group, np.where(last, 0.0, term), objects) for term in motion_sums(vectors, weight, mjd).T]
    seen = np.unique((group * nights + night)[~last]) // nights
    counts = [np.bincount(one, minlength=objects) for one in (group[~last], seen)]
    return np.stack([*sums, *counts], axis=1, dtype=np.float64)


def pairs_beside(places: Floats, touched: NDArray[np.bool_], arcsec: float) -> tuple[Integers, Integers]:
    """Return pairs of places that lie within a distance of each other, of which one at least is among some.

    Parameters
    ----------
    places : (m, 3)
        Unit vectors.
    touched : (m,)
        Which are among these.
    arcsec
        The distance.

    Returns
    -------
    first, second : (k,) int64
        Their numbers, the lower one first; sorted.
    """
    from scipy.spatial import cKDTree

    if len(places) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    found = cKDTree(places).query_pairs(float(chord(arcsec)), output_type="ndarray").astype(np.int64)
    found = np.sort(found[touched[found].any(axis=1)], axis=1)
    found = found[np.lexsort((found[:, 1], found[:, 0]))]
    return found[:, 0], found[:, 1]


def cells_of(ra: Floats, dec: Floats) -> Integers:
    """Return the order-14 nested HEALPix cells of places in deg: 13 arcsec wide (Gorski et al. 2005, ApJ 622, 759)."""
    return healpix_cells(ra, dec, CELLS)


def cells_near(ra: Floats, dec: Floats, arcsec: float) -> Integers:
    """Return the cells in which all lies that is within some arcsec, 5 at most, of places in deg; sorted.

    A ring of 16 points, twice as far away, is in each of them: no corner of a cell is so acute that it would reach
    within the circle between two of these.
    """
    ring = displaced(ra, dec, np.arange(_RING) * 2 * np.pi / _RING, 2 * arcsec)
    return np.unique(np.concatenate([cells_of(ra, dec), cells_of(*map(np.ravel, ring))]))


def wide_cells_of(ra: Floats, dec: Floats) -> Integers:
    """Return the order-9 nested HEALPix cells of places in deg: 7 arcmin wide."""
    return healpix_cells(ra, dec, _WIDE)


def wide_cells_near(ra: Floats, dec: Floats) -> Integers:
    """Return the wide cells of places in deg and their neighbours: in them lies all within 4 arcmin; sorted."""
    own = np.unique(wide_cells_of(ra, dec))
    return np.sort(np.concatenate([own, neighbours(own, _WIDE)]))


class FluxStatistics(NamedTuple):
    """Statistics of the fluxes of objects in one band, (n,) each; NaN where there are too few.

    Attributes
    ----------
    used
        Fluxes, of those that are finite and have an error.
    mean, mean_error
        Mean by the inverse variances, and its standard error.
    sigma
        Standard deviation about the plain mean, of two or more.
    chi2
        Squared distances from the mean in units of the errors, summed.
    stetson_j
        Mean of sgn(P) sqrt(abs(P)), P = d^2 - 1, d = sqrt(n / (n - 1)) (flux - mean) / error, of two or more (Stetson
        1996, PASP 108, 851, eqs. 1 and 2, each observation by itself).
    least, most
        Extremes.
    """

    used: Integers
    mean: Floats
    mean_error: Floats
    sigma: Floats
    chi2: Floats
    stetson_j: Floats
    least: Floats
    most: Floats


def flux_statistics(group: Integers, flux: Floats, error: Floats, groups: int) -> FluxStatistics:
    """Return the statistics of fluxes, group by group.

    Parameters
    ----------
    group : (k,)
        Number of each one's object, from 0.
    flux, error : (k,)
        One unit; those that are not finite, or whose error is not positive, are left out.
    groups
        Number of objects, n.
    """
    good = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    group, flux, error = group[good], flux[good], error[good]

    def total(values: Floats) -> Floats:
        return np.asarray(np.bincount(group, values, groups), np.float64)

    count = np.bincount(group, minlength=groups)
    some, several = np.where(count > 0, count, np.nan), np.where(count > 1, count, np.nan)
    weight = np.square(1 / error)
    whole = np.where(count > 0, total(weight), np.nan)
    mean = total(weight * flux) / whole
    pull = (flux - mean[group]) / error
    excess = (several / (several - 1))[group] * np.square(pull) - 1
    plain = total(flux) / some
    least, most = np.full(groups, np.inf), np.full(groups, -np.inf)
    np.minimum.at(least, group, flux)
    np.maximum.at(most, group, flux)
    return FluxStatistics(
        used=count.astype(np.int64),
        mean=mean,
        mean_error=1 / np.sqrt(whole),
        sigma=np.sqrt(total(np.square(flux - plain[group])) / (several - 1)),
        chi2=np.where(count > 0, total(np.square(pull)), np.nan),
        stetson_j=total(np.where(np.isfinite(excess), np.sign(excess) * np.sqrt(np.abs(excess)), 0)) / several,
        least=np.where(count > 0, least, np.nan),
        most=np.where(count > 0, most, np.nan),
    )

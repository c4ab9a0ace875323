"""Orbits of two bodies that are fitted to detections, and links: detections of several nights that lie on one."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.linking.nights import NIGHTS, Window, ecliptic, nights_of
from kernels.sky.observatories import AU_KM

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_GM = 0.01720209895**2  # au^3 / d^2
_LIGHT = 173.1446326847  # au / d
_STARTS = (1.3, 2.6)  # au from the Sun: on both sides of what short arcs leave undetermined
_FLOOR = 0.1  # arcsec: errors of astrometry not included in the stated ones
_WORST = 2.0  # maximum rms of a link's residuals over degrees of freedom, in standard deviations
_DROPPED = 1 / 3  # maximum fraction of detections that may be removed from a candidate
_AT_ONCE = 8  # one detection in 8 is removed before the orbit is fitted again
_LEAST = 6  # minimum number of detections in a link
_CLOSEST = 0.01  # au from the Earth
_TURNS = 7  # iterations of Newton's method
_TRIES = 15  # iterations of least squares


class Link(NamedTuple):
    """Detections of one object in several nights.

    Attributes
    ----------
    members
        Their indices, by time.
    nights
        In which they are.
    rms
        Of their distances from the orbit, arcsec.
    a, e, i
        Of the orbit about the Sun: au; deg, to the ecliptic.
    """

    members: tuple[int, ...]
    nights: int
    rms: float
    a: float
    e: float
    i: float


class Orbit(NamedTuple):
    """State (6,) at the mean time, au and au / d, ICRS; residuals (n, 2) to the east and north, arcsec."""

    state: Floats
    residuals: Floats


def propagate(states: Floats, days: Floats) -> Floats:
    """Return places about the Sun by the motion of two bodies.

    Parameters
    ----------
    states : (..., 6)
        Place and velocity, au and au / d; bound.
    days : (..., n)
        Since then.

    Returns
    -------
    (..., n, 3)
        au.

    Notes
    -----
    Kepler's equation in the universal variable, by Newton's method (Bate, Mueller & White 1971, section 4.4).
    """
    place, velocity = states[..., None, :3], states[..., None, 3:]
    r = np.linalg.norm(place, axis=-1)
    inverse = np.maximum(2 / r - (velocity * velocity).sum(-1) / _GM, 1e-6)
    root = math.sqrt(_GM)
    radial = (place * velocity).sum(-1) / root
    x = root * inverse * days
    for _ in range(_TURNS):
        z = x * x * inverse
        c, s = _stumpff(z)
        time = radial * x * x * c + (1 - r * inverse) * x**3 * s + r * x
        slope = x * x * c + radial * x * (1 - z * s) + r * (1 - z * c)
        x = x + (root * days - time) / slope
    z = x * x * inverse
    c, s = _stumpff(z)
    f, g = 1 - x * x * c / r, days - x**3 * s / root
    return np.asarray(f[..., None] * place + g[..., None] * velocity)


def _stumpff(z: Floats) -> tuple[Floats, Floats]:
    """Return C and S of positive arguments; their series where those are small."""
    large = np.maximum(z, 1e-2)
    root = np.sqrt(large)
    c = np.where(z < 1e-2, 1 / 2 - z / 24 + z * z / 720, (1 - np.cos(root)) / large)
    s = np.where(z < 1e-2, 1 / 6 - z / 120 + z * z / 5040, (root - np.sin(root)) / root**3)
    return c, s


def fit_orbit(window: Window, rows: Indices) -> Orbit | None:
    """Fit an orbit about the Sun to detections of a window; None if there is none.

    Notes
    -----
    For an assumed distance from the Sun the places that the first terms of the f and g series give are linear in the
    state, and so are the conditions that they lie in the directions of the detections. Two such starts are improved by
    least squares in the errors of the detections, with the time that light takes, and the better one is taken.
    """
    days = window.mjd[rows] - window.mjd[rows].mean()
    observer, sigma = window.observer[rows] / AU_KM, np.hypot(window.sigma[rows], _FLOOR)[:, None]
    axes = _axes(window.ra[rows], window.dec[rows])

    def residuals(states: Floats) -> Floats:
        return _residuals(states, days, observer, axes) / sigma

    with np.errstate(all="ignore"):
        fitted = [_improved(residuals, _start(r, days, observer, axes)) for r in _STARTS]
        orbits = [Orbit(state, residuals(state) * sigma) for state in fitted if _plausible(state, observer)]
    return min(orbits, key=lambda one: float(np.square(one.residuals / sigma).sum()), default=None)


def _improved(residuals: Callable[[Floats], Floats], start: Floats) -> Floats:
    """Return the state of least residuals near a start."""
    from scipy.optimize import least_squares

    scale = np.repeat([1.0, 0.1], 3)
    step = 1e-6 * scale

    def jacobian(state: Floats) -> Floats:
        shifted = residuals(np.concatenate([state + np.diag(step), state - np.diag(step)]))
        return np.asarray(((shifted[:6] - shifted[6:]).reshape(6, -1) / (2 * step[:, None])).T)

    try:
        return np.asarray(
            least_squares(
                lambda state: residuals(state).ravel(), start, jacobian, method="lm", x_scale=scale, max_nfev=_TRIES
            ).x
        )
    except ValueError:  # residuals that are not finite
        return np.full(6, np.nan)


def _axes(ra: Floats, dec: Floats) -> Floats:
    """Return the directions, east and north of them, (n, 3, 3)."""
    a, d = np.radians(ra), np.radians(dec)
    zero = np.zeros_like(a)
    way = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)
    east = np.stack([-np.sin(a), np.cos(a), zero], axis=-1)
    return np.stack([way, east, np.cross(way, east)], axis=1)


def _start(r: float, days: Floats, observer: Floats, axes: Floats) -> Floats:
    f, g = 1 - _GM * days**2 / (2 * r**3), days - _GM * days**3 / (6 * r**3)
    conditions = np.concatenate([f[:, None, None] * axes[:, 1:], g[:, None, None] * axes[:, 1:]], axis=2).reshape(-1, 6)
    aims = (axes[:, 1:] * observer[:, None, :]).sum(-1).ravel()
    return np.asarray(np.linalg.lstsq(conditions, aims, rcond=None)[0])


def _residuals(states: Floats, days: Floats, observer: Floats, axes: Floats) -> Floats:
    """Return where detections are off the orbits, (..., n, 2), to the east and north, arcsec."""
    seen = propagate(states, np.broadcast_to(days, (*states.shape[:-1], len(days)))) - observer
    late = np.linalg.norm(seen, axis=-1) / _LIGHT
    seen = propagate(states, days - late) - observer
    depth, east, north = np.moveaxis((seen[..., None, :] * axes).sum(-1), -1, 0)
    return np.degrees(np.stack([np.arctan2(east, depth), np.arctan2(north, np.hypot(depth, east))], axis=-1)) * 3600


def _plausible(states: Floats, observer: Floats) -> NDArray[np.bool_]:
    """Return which orbits are bound and not those of the observer."""
    place, velocity = states[..., :3], states[..., 3:]
    r = np.linalg.norm(place, axis=-1)
    bound = (velocity * velocity).sum(-1) < 2 * _GM / r
    return np.asarray(bound & (np.linalg.norm(place - observer.mean(axis=0), axis=-1) > _CLOSEST))


def fit_link(window: Window, rows: Indices) -> Link | None:
    """Return the link of most of a candidate's detections, or None if no orbit explains them.

    Parameters
    ----------
    window
        Its detections.
    rows : (n,)
        Those of the candidate. Of those that share a time all but the best go, then the worst of all, one or an eighth
        of them at a time, while the rest does not fit: a third of them at most.
    """
    rows, fewest = np.sort(rows), max(_LEAST, math.ceil((1 - _DROPPED) * len(rows)))
    while len(rows) >= fewest and nights_of(window.mjd[rows]) >= NIGHTS:
        orbit = fit_orbit(window, rows)
        if orbit is None:
            return None
        off = np.square(orbit.residuals).sum(axis=1)
        size = off / (np.square(window.sigma[rows]) + _FLOOR**2)
        order = np.lexsort((size, window.mjd[rows]))
        again = order[1:][np.diff(window.mjd[rows][order]) == 0]
        if not len(again) and size.sum() <= _WORST**2 * (2 * len(rows) - 6):
            members = tuple(rows.tolist())
            return Link(members, nights_of(window.mjd[rows]), math.sqrt(off.mean()), *elements(orbit.state))
        doubtful = again if len(again) else np.arange(len(rows))
        worst = doubtful[np.argsort(-size[doubtful], kind="stable")]
        rows = np.delete(rows, worst[: max(1, len(rows) // _AT_ONCE)])
    return None


def elements(state: Floats) -> tuple[float, float, float]:
    """Return axis, au, eccentricity and inclination to the ecliptic, deg, of an orbit about the Sun."""
    place, velocity = ecliptic(state.reshape(2, 3))
    spin = np.cross(place, velocity)
    distance = float(np.linalg.norm(place))
    a = 1 / (2 / distance - float(velocity @ velocity) / _GM)
    e = float(np.linalg.norm(np.cross(velocity, spin) / _GM - place / distance))
    return a, e, math.degrees(math.acos(spin[2] / float(np.linalg.norm(spin))))


def choose_links(window: Window, candidates: list[Indices]) -> list[Link]:
    """Fit candidates, those of most nights and detections first; what a link has no later one gets."""
    taken = np.zeros(len(window.mjd), np.bool_)
    links = []
    order = sorted(candidates, key=lambda rows: (-nights_of(window.mjd[rows]), -len(rows), tuple(rows.tolist())))
    for rows in order:
        left = rows[~taken[rows]]
        link = fit_link(window, left)
        if link is not None:
            taken[list(link.members)] = True
            links.append(link)
    return links


def without_rivals(links: list[Link]) -> list[Link]:
    """Choose the links of most nights, then most detections, then the least rms: none with a detection of another."""
    taken: set[int] = set()
    chosen = []
    for link in sorted(links, key=lambda one: (-one.nights, -len(one.members), one.rms, one.members)):
        if taken.isdisjoint(link.members):
            taken.update(link.members)
            chosen.append(link)
    return sorted(chosen, key=lambda one: one.members)

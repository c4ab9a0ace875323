"""Ephemerides: known objects as an observer on the Earth sees them."""

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from kernels.orbits.motion import GAUSS, LIGHT, ROUNDING, Orbits, perturbed, two_body
from kernels.sky.observatories import Observer
from kernels.sky.positions import sky_position, unit_vectors, whole_turn

Floats = NDArray[np.float64]

_DRIFT = 2e-7  # AU / d^2: acceleration by distant planets off the two-body orbit: at most 1.2e-7 for 500 objects
_FASTEST = 0.025  # AU in half a day, relative to the Earth
_MARGIN = math.radians(0.3)  # for further effects of the planets
_CLOSE = 0.05  # AU: the Earth may have deflected anything this close, by any angle
_SLOPE = 0.15  # G if not known
_COMET_SLOPE = 4.0  # K1 if not known
_MOST_ERROR = 120.0  # arcsec, of the runoff at 1 AU: a less certain orbit is useless
_MOST_DAYS = 3653.0  # since the epoch
_U = 5.0  # if not known
_OURS = 0.06  # arcsec / year at 1 AU: error of our integration
_CLOCK = 1.0  # s
_ANOMALY = 5e-6  # deg: half of the last digit of a mean anomaly in MPCORB
_PASSAGE = 5e-5  # d: of a comet's time at perihelion
_BLOCK = 65536


class Ephemeris(NamedTuple):
    """Known objects at a time, one entry each.

    Attributes
    ----------
    ra, dec
        Astrometric place (ICRS), deg: with light time, without aberration, as stars of a catalogue have theirs.
    rate, angle
        Motion on the sky, deg / day, and its position angle from north through east, deg, in [0, 360).
    magnitude
        V, by H and G, of comets in total, by M1 and K1; NaN where H or M1 is not known.
    distance, sun_distance
        From the observer and the Sun, AU.
    phase, elongation
        Angles at the object and at the observer, deg.
    """

    ra: Floats
    dec: Floats
    rate: Floats
    angle: Floats
    magnitude: Floats
    distance: Floats
    sun_distance: Floats
    phase: Floats
    elongation: Floats

    def take(self, chosen: NDArray[np.intp]) -> "Ephemeris":
        """Return some of them."""
        return Ephemeris(*(column[chosen] for column in self))


class KnownObjects(NamedTuple):
    """Known objects of a field.

    Attributes
    ----------
    names
        Designation of each.
    seen
        How they are seen.
    uncertainty
        How far along its motion each may be from its place, arcsec.
    """

    names: list[str]
    seen: Ephemeris
    uncertainty: Floats


class FieldCatalogue(Protocol):
    """Knows the objects of a field: by orbits, or by asking somebody."""

    def in_field(
        self, observer: Observer, code: str, toward: Floats, radius: float, faintest: float = math.inf
    ) -> KnownObjects:
        """Return the objects in a round field.

        Parameters
        ----------
        observer, code
            At the time of the exposure; code of the observatory, 500 where there is none.
        toward : (3,)
            Middle of the field, unit vector.
        radius
            Of the field, deg.
        faintest
            V; objects that are fainter are left out, those of unknown magnitude are not.
        """


class OrbitCatalogue:
    """Orbits of all known objects, and those of them that are in a field.

    Parameters
    ----------
    orbits
        Their elements.

    Notes
    -----
    Where all are without the pull of planets is worked out once a day, and kept.
    """

    def __init__(self, orbits: Orbits) -> None:
        self.orbits = orbits
        self._day: _Day | None = None

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.orbits.epoch)

    def in_field(
        self, observer: Observer, code: str, toward: Floats, radius: float, faintest: float = math.inf
    ) -> KnownObjects:
        """Return the objects in a round field; parameters as of `FieldCatalogue`.

        Of several orbits of an object the one that tells its place best is used, of equally good ones the last.
        """
        index, seen = self.seen(observer, toward, radius, faintest)
        names = [name.decode("ascii") for name in self.orbits.designation[index].tolist()]
        uncertainty = self.uncertainty(index, observer, seen)
        worst_first = np.argsort(-uncertainty, kind="stable").tolist()
        best = np.array(sorted({names[n]: n for n in worst_first}.values()), np.intp)
        return KnownObjects([names[n] for n in best], seen.take(best), uncertainty[best])

    def seen(
        self, observer: Observer, toward: Floats, radius: float, faintest: float = math.inf
    ) -> tuple[NDArray[np.intp], Ephemeris]:
        """Return the objects in a round field, by their numbers, and how they are seen.

        Parameters
        ----------
        observer
            At the time of the exposure.
        toward : (3,)
            Middle of the field, unit vector.
        radius
            Of the field, deg.
        faintest
            V; objects that are fainter are left out, those of unknown magnitude are not.

        Notes
        -----
        Of all objects those are chosen that an unperturbed orbit brings near the field, given what planets do to
        objects that they do not meet (2e-7 AU / d^2 since the epoch), 0.3 deg, and the error of the orbit, or to within
        0.05 AU of the observer, in whatever direction, as the Earth bends the ways of these; their orbits are then
        integrated with the planets. What has met a planet since its epoch and is farther away may be missed. Orbits
        whose runoff is more than 2 arcmin times the distance in AU, or that are more than ten years old, are left out.
        """
        day = self._of_day(observer)
        cosine = day.toward @ toward.astype(np.float32)
        bright = ~(day.magnitude > faintest + 0.5) | (day.slack >= np.float32(np.pi))  # what is close fades in hours
        apart = np.arccos(np.clip(cosine, -1, 1))
        index = np.flatnonzero(bright & (apart <= math.radians(radius) + day.slack))
        some = self.orbits.take(index)
        place = two_body(some, observer.mjd)[0]
        away = place - observer.position
        distance = np.linalg.norm(away, axis=1)
        slack = _slack(some, observer.mjd, distance, 0.0)
        near = np.arccos(np.clip(away @ toward / distance, -1, 1)) <= math.radians(radius) + slack
        near &= _is_known(some, observer.mjd, distance) & ~(_magnitude(some, place, away) > faintest + 1)
        index, some = index[near], some.take(near)
        seen = observe(some, observer)
        error = np.radians(np.minimum(self.uncertainty(index, observer, seen), _MOST_ERROR) / 3600)
        off = np.arccos(np.clip(unit_vectors(seen.ra, seen.dec) @ toward, -1, 1))
        inside = np.flatnonzero((off <= math.radians(radius) + error) & ~(seen.magnitude > faintest))
        return index[inside], seen.take(inside)

    def uncertainty(self, index: NDArray[np.intp], observer: Observer, seen: Ephemeris) -> Floats:
        """Return how far along its motion each of some objects may be from its predicted place, arcsec.

        Parameters
        ----------
        index, seen
            Objects, and how they are seen.
        observer
            Who sees them, and when.

        Notes
        -----
        By the uncertainty parameter U of the Minor Planet Center: an orbit's runoff in longitude is at most
        4.43^U arcsec in ten years, U from 0 to 9, 5 if it is not known; seen from the observer's distance instead of
        the Sun's. And by what we add: 0.03 arcsec in half a year at 1 AU, a clock that is 1 s off, the parallax that is
        not known, and the last digit of the mean anomaly, which is long on wide orbits.
        """
        some = self.orbits.take(index)
        years = np.abs(observer.mjd - some.epoch) / 365.25
        runoff = _runoff(some.uncertainty, years)
        ours = observer.parallax + _OURS * years + _CLOCK * seen.rate * seen.distance / 24
        return np.asarray((runoff * seen.sun_distance + ours + _rounding(some, seen)) / seen.distance)

    def _of_day(self, observer: Observer) -> "_Day":
        """Return where all objects are about a time."""
        if self._day is None or abs(self._day.mjd - observer.mjd) > 0.5:
            starts = range(0, max(len(self), 1), _BLOCK)
            parts = [_rough(self.orbits.take(slice(start, start + _BLOCK)), observer) for start in starts]
            self._day = _Day(observer.mjd, *(np.concatenate(column) for column in zip(*parts, strict=True)))
        return self._day


class _Day(NamedTuple):
    """Directions of all objects at a time, MJD TT, how far from there they may be within half a day (rad), and V."""

    mjd: float
    toward: NDArray[np.float32]
    slack: NDArray[np.float32]
    magnitude: NDArray[np.float32]


def _rough(orbits: Orbits, observer: Observer) -> tuple[NDArray[np.float32], ...]:
    place = two_body(orbits, observer.mjd)[0]
    away = place - observer.position
    distance = np.linalg.norm(away, axis=1)
    slack = _slack(orbits, observer.mjd, distance, _FASTEST)
    slack[~_is_known(orbits, observer.mjd, distance + _FASTEST, 1.0)] = -math.tau
    magnitude = _magnitude(orbits, place, away)
    return tuple(value.astype(np.float32) for value in (away / distance[:, None], slack, magnitude))


def _slack(orbits: Orbits, mjd: float, distance: Floats, moved: float) -> Floats:
    """Return how far from its unperturbed place, rad, an object may be seen that may also have moved, AU."""
    days = np.abs(mjd - orbits.epoch)
    off = (moved + _DRIFT * days * days) / distance
    wide = np.where((off < 1) & (distance > _CLOSE + moved), np.arcsin(np.minimum(off, 1)), np.pi)
    return np.asarray(_MARGIN + math.radians(_MOST_ERROR / 3600) + wide)


def _runoff(uncertainty: Floats, years: Floats) -> Floats:
    """Return the error in longitude after some years, arcsec."""
    return np.asarray(np.power(4.43, np.where(np.isfinite(uncertainty), uncertainty, _U)) * years / 10)


def _rounding(orbits: Orbits, seen: Ephemeris) -> Floats:
    """Return how far objects move in the time that the last digit of their orbits leaves open, arcsec at 1 AU.

    Above `ROUNDING`, which any place is granted, and 2 arcmin at most. The speed is that of the vis-viva equation.
    """
    inverse = (1 - orbits.eccentricity) / orbits.nearest
    with np.errstate(divide="ignore"):
        anomaly = math.radians(_ANOMALY) * np.power(np.abs(inverse), -1.5) / GAUSS
    speed = GAUSS * np.sqrt(np.maximum(2 / seen.sun_distance - inverse, 0.0))
    moved = np.degrees(np.where(orbits.comet, _PASSAGE, anomaly) * speed) * 3600
    return np.clip(moved - ROUNDING, 0.0, _MOST_ERROR)


def _is_known(orbits: Orbits, mjd: float, distance: Floats, spare: float = 0.0) -> NDArray[np.bool_]:
    """Return which orbits still tell where their objects are, from a distance in AU, with some days to spare."""
    days = np.maximum(np.abs(mjd - orbits.epoch) - spare, 0)
    return np.asarray((days <= _MOST_DAYS) & (_runoff(orbits.uncertainty, days / 365.25) <= _MOST_ERROR * distance))


def observe(orbits: Orbits, observer: Observer) -> Ephemeris:
    """Return how objects are seen: orbits are integrated with the planets (`kernels.orbits.motion.perturbed`)."""
    place, speed = perturbed(orbits, observer.mjd)
    pull = -place * (GAUSS**2 / np.linalg.norm(place, axis=1, keepdims=True) ** 3)
    away = place - observer.position
    for _ in range(3):  # light time
        late = np.linalg.norm(away, axis=1, keepdims=True) / LIGHT
        away = place - speed * late + pull * late * late / 2 - observer.position
    distance = np.linalg.norm(away, axis=1)
    direction = away / distance[:, None]
    ra, dec = sky_position(direction)
    relative = speed - observer.velocity
    across = (relative - direction * np.einsum("nj,nj->n", relative, direction)[:, None]) / distance[:, None]
    lon, lat = np.radians(ra), np.radians(dec)
    east = -np.sin(lon) * across[:, 0] + np.cos(lon) * across[:, 1]
    north = -np.sin(lat) * (np.cos(lon) * across[:, 0] + np.sin(lon) * across[:, 1]) + np.cos(lat) * across[:, 2]
    return Ephemeris(
        ra, dec, np.degrees(np.hypot(east, north)), whole_turn(east, north),
        _magnitude(orbits, place, away), distance, np.linalg.norm(place, axis=1), _phase(place, away),
        _between(-np.broadcast_to(observer.position, away.shape), away),
    )  # fmt: skip


def _phase(place: Floats, away: Floats) -> Floats:
    return _between(-place, -away)


def _between(one: Floats, other: Floats) -> Floats:
    cosine = np.einsum("nj,nj->n", one, other) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _magnitude(orbits: Orbits, place: Floats, away: Floats) -> Floats:
    """Return V by the H-G system (Bowell et al. 1989, in Asteroids II, p. 524, their equations A4), and of comets.

    Theirs is the total magnitude M1 + 5 log delta + 2.5 K1 log r, as the Minor Planet Center has it for the absolute
    magnitude and the slope parameter of its comets (https://minorplanetcenter.net/iau/info/CometOrbitFormat.html).
    """
    half = np.tan(np.radians(_phase(place, away)) / 2)
    slope = np.where(np.isfinite(orbits.slope), orbits.slope, np.where(orbits.comet, _COMET_SLOPE, _SLOPE))
    first, second = np.exp(-3.33 * half**0.63), np.exp(-1.87 * half**1.22)
    sun, earth = np.linalg.norm(place, axis=1), np.linalg.norm(away, axis=1)
    with np.errstate(divide="ignore", over="ignore"):
        dimming = 2.5 * np.log10(np.maximum((1 - slope) * first + slope * second, 1e-8))
    found = np.asarray(orbits.magnitude + 5 * np.log10(sun * earth) - dimming)
    if len(comets := np.flatnonzero(orbits.comet)):
        fading = 5 * np.log10(earth[comets]) + 2.5 * slope[comets] * np.log10(sun[comets])
        found[comets] = orbits.magnitude[comets] + fading
    return found

"""Motion about the Sun: osculating elements, two bodies, and the planets' pull."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.orbits.conic import near_parabola

Floats = NDArray[np.float64]

GAUSS = 0.01720209895
"""Gaussian gravitational constant: GM of the Sun is its square, AU^3 / d^2."""

LIGHT = 173.1446326846693
"""Speed of light, AU / d."""

ROUNDING = 0.15
"""Position error at 1 AU from the rounding of elements in MPCORB, arcsec."""

_OBLIQUITY = math.radians(84381.448 / 3600)  # of the ecliptic of J2000, to which elements refer (IAU 1976)
_MASSES = (6023600.0, 408523.71, 332946.05, 3098708.0, 1047.3486, 3497.898, 22902.98, 19412.24, 27068703.0)
"""Sun's mass over that of Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus, Neptune and the Moon (IAU 2009)."""

_ECCENTRIC = 0.98
_MOST = 256  # orbits integrated with common steps
_PRECISION = 1e-11  # of each step, relative
_PLANET_STEP = 1.0  # d between interpolated positions of planets: 1e-6 AU for Mercury, 1e-8 for others
_JD = 2400000.5


class Orbits(NamedTuple):
    """Heliocentric osculating elements, one entry each; angles in deg, ecliptic and equinox of J2000.

    Attributes
    ----------
    designation : (n,) bytes
        As it is written.
    epoch : (n,)
        Of the elements, MJD TT.
    nearest, eccentricity, inclination, node, perihelion, passage : (n,)
        Perihelion distance, AU; e, of any conic; i; longitude of the ascending node; argument of perihelion; time at
        perihelion, MJD TT.
    magnitude, slope : (n,)
        H and G of Bowell et al. (1989), of comets M1 and K1; NaN where they are not known.
    uncertainty : (n,)
        U of the Minor Planet Center, 0 to 9; NaN where it is not known.
    comet : (n,) bool
        Whether it is as bright as comets are.
    """

    designation: NDArray[np.bytes_]
    epoch: Floats
    nearest: Floats
    eccentricity: Floats
    inclination: Floats
    node: Floats
    perihelion: Floats
    passage: Floats
    magnitude: Floats
    slope: Floats
    uncertainty: Floats
    comet: NDArray[np.bool_]

    @classmethod
    def elliptic(cls, axis: Floats, anomaly: Floats, epoch: Floats, eccentricity: Floats, **others: Any) -> "Orbits":
        """Return orbits of asteroids by semi-major axis, AU, and mean anomaly at the epoch, deg."""
        others["nearest"] = axis * (1 - eccentricity)
        others["passage"] = epoch - np.radians((anomaly + 180) % 360 - 180) * np.power(axis, 1.5) / GAUSS
        return cls(epoch=epoch, eccentricity=eccentricity, comet=np.zeros(len(axis), np.bool_), **others)

    @property
    def axis(self) -> Floats:
        """Return semi-major axes, AU: infinite of parabolas, negative of hyperbolas."""
        with np.errstate(divide="ignore"):
            return np.asarray(self.nearest / (1 - self.eccentricity))

    @property
    def anomaly(self) -> Floats:
        """Return mean anomalies at the epoch, deg, from 0 to 360 of ellipses."""
        found = np.degrees(GAUSS * (self.epoch - self.passage) / np.power(np.abs(self.axis), 1.5))
        return np.asarray(np.where(self.eccentricity < 1, found % 360, found))

    def take(self, chosen: NDArray[Any] | slice) -> "Orbits":
        """Return some of them."""
        columns: Any = (column[chosen] for column in self)
        return Orbits(*columns)


def two_body(orbits: Orbits, mjd: Floats | float) -> tuple[Floats, Floats]:
    """Return heliocentric positions, AU, and velocities, AU / d, on unperturbed orbits.

    Parameters
    ----------
    orbits
        Their elements.
    mjd
        Time or times, MJD TT.

    Returns
    -------
    position, velocity : (n, 3)
        Along the axes of the ICRS.

    Notes
    -----
    Kepler's equation by Newton's method from Danby's start (1988, Fundamentals of Celestial Mechanics, 6.6), which
    needs six steps at most for e <= 0.99. What is more eccentric, of any conic, is in `kernels.orbits.conic`.
    """
    days, most = mjd - orbits.passage, orbits.eccentricity > _ECCENTRIC
    e = np.where(most, 0.0, orbits.eccentricity)
    axis = orbits.nearest / (1 - e)
    motion = GAUSS / np.power(axis, 1.5)
    mean = np.remainder(motion * days + math.pi, 2 * math.pi) - math.pi
    angle = mean + np.copysign(0.85, mean) * e
    for _ in range(12):
        step = (angle - e * np.sin(angle) - mean) / (1 - e * np.cos(angle))
        angle = angle - step
        if np.abs(step).max(initial=0.0) < 1e-13:
            break
    sin, cos = np.sin(angle), np.cos(angle)
    minor = np.sqrt(1 - e * e)
    rate = motion / (1 - e * cos)
    place = np.stack([axis * (cos - e), axis * minor * sin])
    speed = np.stack([-axis * sin * rate, axis * minor * cos * rate])
    if len(some := np.flatnonzero(most)):
        found = near_parabola(orbits.nearest[some], orbits.eccentricity[some], GAUSS * days[some])
        place[:, some], speed[:, some] = found[0], GAUSS * found[1]
    axes = _orbital_axes(orbits)
    return np.einsum("kn,knj->nj", place, axes), np.einsum("kn,knj->nj", speed, axes)


def _orbital_axes(orbits: Orbits) -> Floats:
    """Return unit vectors to perihelion and a quarter of the orbit on, (2, n, 3), along the axes of the ICRS."""
    node, inclination, argument = (np.radians(part) for part in (orbits.node, orbits.inclination, orbits.perihelion))
    sin_n, cos_n, sin_i, cos_i = np.sin(node), np.cos(node), np.sin(inclination), np.cos(inclination)
    axes = []
    for turn in (argument, argument + math.pi / 2):
        sin, cos = np.sin(turn), np.cos(turn)
        x, y, z = cos_n * cos - sin_n * sin * cos_i, sin_n * cos + cos_n * sin * cos_i, sin * sin_i
        sin_o, cos_o = math.sin(_OBLIQUITY), math.cos(_OBLIQUITY)
        axes.append(np.stack([x, cos_o * y - sin_o * z, sin_o * y + cos_o * z], axis=1))
    return np.stack(axes)


def perturbed(orbits: Orbits, mjd: float) -> tuple[Floats, Floats]:
    """Return positions and velocities as `two_body` does, moved from the epoch by the Sun, the planets and the Moon.

    Notes
    -----
    Massless objects; the Earth of Bretagnon & Francou (1988, A&A 202, 309), the other planets of Simon et al. (1994,
    A&A 282, 663) and the Moon of Meeus (1998), as ERFA has them; the Sun's relativistic term (Einstein, Infeld and
    Hoffmann, for a light body). Dormand and Prince's method of order 8, all objects of a group with the same fraction
    of their way as the variable, so that epochs may differ; no step of any object errs by more than 1e-11 of its place.
    The planets err by less than 1e-5 AU and 1e-3 of their pull, which moves a main-belt asteroid by less than 0.1
    arcsec in half a year.
    """
    from scipy.interpolate import CubicSpline

    position, velocity = two_body(orbits, orbits.epoch)
    moving = np.flatnonzero(orbits.epoch != mjd)
    if not len(moving):
        return position, velocity
    low, high = min(float(orbits.epoch.min()), mjd), max(float(orbits.epoch.max()), mjd)
    times = np.linspace(low - 1, high + 1, max(8, math.ceil((high - low + 2) / _PLANET_STEP)))
    planets = CubicSpline(times, _planets(times))
    # What has far to go and what goes fast share their steps with their like.
    order = moving[np.argsort(np.abs(mjd - orbits.epoch[moving]) / np.power(orbits.nearest[moving], 1.5))]
    for part in np.array_split(order, math.ceil(len(order) / _MOST)):
        position[part], velocity[part] = _integrated(position[part], velocity[part], orbits.epoch[part], mjd, planets)
    return position, velocity


def _planets(mjd: Floats) -> Floats:
    """Return heliocentric places of the planets and the Moon, AU, (n, 9, 3)."""
    import erfa

    planets = [erfa.plan94(_JD, mjd, number)["p"] for number in range(1, 9)]
    planets[2] = erfa.epv00(_JD, mjd)[0]["p"]  # a thousand times as good: what comes near is bent by it
    return np.stack([*planets, planets[2] + erfa.moon98(_JD, mjd)["p"]], axis=1)


def _integrated(
    position: Floats, velocity: Floats, epoch: Floats, mjd: float, planets: Callable[[Floats], Floats]
) -> tuple[Floats, Floats]:
    from scipy.integrate import solve_ivp

    days, count = (mjd - epoch)[:, None], len(epoch)

    def change(part: float, state: Floats) -> Floats:
        place, speed = state.reshape(2, count, 3)
        pull = _acceleration(place, speed, planets(epoch + part * days[:, 0]))
        return np.concatenate([days * speed, days * pull]).ravel()

    # scipy holds the mean square of the errors: no single one exceeds the precision if that is so much less.
    precision = _PRECISION / math.sqrt(6 * count)
    # Velocities, AU / d, are two orders of magnitude less than places, AU.
    state = np.concatenate([position, velocity]).ravel()
    scale = np.repeat([precision, 1e-2 * precision], 3 * count)
    done = solve_ivp(change, (0.0, 1.0), state, method="DOP853", rtol=max(precision, 3e-14), atol=scale, t_eval=[1.0])
    place, speed = done.y[:, -1].reshape(2, count, 3)
    return place, speed


def _acceleration(place: Floats, speed: Floats, planets: Floats) -> Floats:
    """Return heliocentric accelerations, AU / d^2, (n, 3), of objects beside planets, (n, 9, 3)."""
    gm = GAUSS * GAUSS
    distance2 = np.einsum("nj,nj->n", place, place)[:, None]
    distance = np.sqrt(distance2)
    toward = planets - place[:, None]
    near = np.einsum("npj,npj->np", toward, toward) ** -1.5
    far = np.einsum("npj,npj->np", planets, planets) ** -1.5
    masses = 1 / np.array(_MASSES)
    pull = np.einsum("np,npj->nj", masses * near, toward) - np.einsum("np,npj->nj", masses * far, planets)
    speed2 = np.einsum("nj,nj->n", speed, speed)[:, None]
    outward = np.einsum("nj,nj->n", place, speed)[:, None]
    relativity = ((4 * gm / distance - speed2) * place + 4 * outward * speed) / LIGHT**2
    return np.asarray(gm * (pull + (relativity - place) / (distance * distance2)))

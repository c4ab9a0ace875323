"""Orbits, their lines in the format of MPCORB, and where an independent integration puts them."""

from datetime import date, timedelta

import numpy as np
from astropy import units as u
from astropy.constants import GM_sun
from astropy.coordinates import EarthLocation, get_body_barycentric_posvel
from astropy.time import Time
from astropy.utils import iers
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from kernels.orbits.motion import Orbits

GM = GM_sun.to_value(u.au**3 / u.d**2)
BODIES = {
    "sun": 1.0, "mercury": 6023600.0, "venus": 408523.71, "earth-moon-barycenter": 328900.56, "mars": 3098708.0,
    "jupiter": 1047.3486, "saturn": 3497.898, "uranus": 22902.98, "neptune": 19412.24,
}  # fmt: skip
"""Body -> mass of the Sun over its own."""

PALOMAR = (-116.8597, 33.3573, 1706.0)
"""Longitude, latitude, deg, and height, m, of the observatory I41."""

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"


def asteroids(count, epoch, seed=1, axis=(2.1, 3.3)):
    """Return orbits of the main belt, drawn at random, with elements rounded as MPCORB has them."""
    rng = np.random.default_rng(seed)
    names = np.array([f"2026 TA{n}" for n in range(count)], "S28")
    angles = (rng.uniform(0, 360, count).round(5) for _ in range(3))
    inclination, size, e = (
        rng.rayleigh(6, count).round(5),
        rng.uniform(*axis, count).round(7),
        rng.uniform(0, 0.3, count),
    )
    node, perihelion, anomaly = angles
    return Orbits.elliptic(
        size, anomaly, np.full(count, epoch), e.round(7), inclination=inclination, node=node, perihelion=perihelion,
        designation=names, magnitude=rng.uniform(12, 17, count).round(2), slope=np.full(count, 0.15),
        uncertainty=np.zeros(count),
    )  # fmt: skip


def comets(epoch):
    """Return orbits of an ellipse, a parabola and hyperbolas near a date, two of which have passed perihelion."""
    shape = {"nearest": [0.9, 1.2, 0.8, 2.0], "eccentricity": [0.995, 1.0, 1.0004, 3.36]}
    turns = {"inclination": [89.7, 12.0, 140.0, 44.3], "node": [281.8, 20.0, 100.0, 307.8]}
    others = {
        "perihelion": [130.7, 200.0, 30.0, 209.3], "passage": [epoch - 30, epoch + 40, epoch - 90.5, epoch + 100],
        "magnitude": [4.0, 9.0, 11.5, np.nan], "slope": [4.0, 3.2, np.nan, 4.0],
    }  # fmt: skip
    names = np.array([b"C/2026 A1 (One)", b"C/2026 B2", b"C/2026 C3", b"4I/Nobody"])
    numbers = {name: np.array(values) for name, values in (shape | turns | others).items()}
    return Orbits(names, np.full(4, epoch), uncertainty=np.zeros(4), comet=np.ones(4, bool), **numbers)


def mpcorb_line(orbits, n):
    """Return the line of an orbit."""
    (line,) = mpcorb_lines(orbits.take(slice(n, n + 1)), n)
    return line


def mpcorb_lines(orbits, first=0):
    """Yield the lines of orbits that are numbered from ``first``."""
    axis, anomaly = orbits.axis, orbits.anomaly  # of all at once: they are worked out whenever they are asked for
    motion = np.degrees(np.sqrt(GM / axis**3))
    for n in range(len(orbits.epoch)):
        day = date(1858, 11, 17) + timedelta(days=int(orbits.epoch[n]))
        epoch = f"{'IJK'[day.year // 100 - 18]}{day.year % 100:02d}{DIGITS[day.month]}{DIGITS[day.day]}"
        yield (
            f"{first + n:07d} {orbits.magnitude[n]:5.2f} {orbits.slope[n]:5.2f} {epoch} "
            f"{anomaly[n]:9.5f}  {orbits.perihelion[n]:9.5f}  {orbits.node[n]:9.5f}  {orbits.inclination[n]:9.5f}  "
            f"{orbits.eccentricity[n]:9.7f} {motion[n]:11.8f} {axis[n]:11.7f}  {orbits.uncertainty[n]:1.0f} MPO123456 "
            f" 1234   5 2000-2026 0.50 M-v 3Ek MPCLINUX   0000 {orbits.designation[n].decode():>27s} 20260901"
        )


def write_mpcorb(path, orbits, heading="Heading of the file\n\n" + 160 * "-" + "\n"):
    """Write a file in the format of MPCORB."""
    path.write_text(heading + "".join(f"{line}\n" for line in mpcorb_lines(orbits)))
    return path


def start(orbits, n):
    """Return heliocentric place and velocity at the epoch, AU and AU / d, along the axes of the ICRS."""
    if orbits.eccentricity[n] >= 1:
        return _turned(orbits, n, _from_perihelion(orbits, n))
    a, e, mean = orbits.axis[n], orbits.eccentricity[n], np.radians(orbits.anomaly[n])
    angle = brentq(lambda x: x - e * np.sin(x) - mean, -1.0, 8.0, xtol=1e-14)
    rate = np.sqrt(GM / a**3) / (1 - e * np.cos(angle))
    flat = np.array([
        [a * (np.cos(angle) - e), a * np.sqrt(1 - e * e) * np.sin(angle), 0],
        [-a * np.sin(angle) * rate, a * np.sqrt(1 - e * e) * np.cos(angle) * rate, 0],
    ])  # fmt: skip
    return _turned(orbits, n, flat)


def _from_perihelion(orbits, n):
    """Return place and velocity in the plane of the orbit at the epoch, integrated from perihelion."""
    q, e = orbits.nearest[n], orbits.eccentricity[n]

    def change(_, state):
        return np.concatenate([state[3:], -GM * state[:3] / np.linalg.norm(state[:3]) ** 3])

    days = orbits.epoch[n] - orbits.passage[n]
    there = [q, 0, 0, 0, np.sqrt(GM * (1 + e) / q), 0]
    return solve_ivp(change, (0, days), there, "DOP853", rtol=1e-13, atol=1e-15).y[:, -1].reshape(2, 3)


def _turned(orbits, n, flat):
    """Return vectors in the plane of an orbit along the axes of the ICRS."""
    turns = orbits.node[n], orbits.inclination[n], orbits.perihelion[n]
    to_ecliptic = Rotation.from_euler("ZXZ", turns, degrees=True)
    to_equator = Rotation.from_euler("x", 84381.448 / 3600, degrees=True)
    return (to_equator * to_ecliptic).apply(flat)


def integrated(orbits, mjd, site):
    """Return (ra, dec), deg, as seen from a site (longitude, latitude, height) at some times (TAI), each (n, times).

    Sun and planets move under their own pull from where astropy's built-in ephemeris has them at the epoch, all about
    the barycentre, by LSODA; the objects of one epoch with them.
    """
    epoch, count = float(orbits.epoch[0]), len(orbits.epoch)
    states = [get_body_barycentric_posvel(name, Time(epoch, format="mjd", scale="tdb")) for name in BODIES]
    massive = np.array([[part.xyz.to_value(unit) for part, unit in zip(one, (u.au, u.au / u.d), strict=True)]
                        for one in states])  # fmt: skip
    light = np.array([start(orbits, n) for n in range(count)]) + massive[0]
    everything = np.concatenate([massive, light]).transpose(1, 0, 2)
    gm = GM / np.array(list(BODIES.values()))

    def change(_, state):
        place, speed = state.reshape(2, -1, 3)
        apart = place[None, : len(gm)] - place[:, None]
        distance = np.linalg.norm(apart, axis=2)
        distance[distance == 0] = np.inf
        return np.concatenate([speed, (gm[None, :, None] * apart / distance[..., None] ** 3).sum(axis=1)]).ravel()

    times = np.asarray(mjd) + 32.184 / 86400
    done = solve_ivp(change, (epoch, times[-1]), everything.ravel(), "LSODA", rtol=1e-10, atol=1e-13, dense_output=True)
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
        moments = Time(times, format="mjd", scale="tt")
        earth = get_body_barycentric_posvel("earth", moments)[0].xyz.to_value(u.au).T
        local = EarthLocation.from_geodetic(*site).get_gcrs_posvel(moments)[0].xyz.to_value(u.au).T
    found = []
    for n in range(count):
        index = np.s_[3 * (len(gm) + n) : 3 * (len(gm) + n) + 3]
        late = np.zeros(len(times))
        for _ in range(4):
            away = np.array([done.sol(t)[index] for t in times - late]) - earth - local
            late = np.linalg.norm(away, axis=1) / 173.1446326846693
        x, y, z = away.T
        found.append([np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))])
    return tuple(np.array(found).transpose(1, 0, 2))

"""Known objects near the Earth: whether they are found where an independent integration has them.

`python -m benchmarks.motion.near_objects [--objects 500]` draws bodies 0.003 to 0.5 AU from the Earth, integrates them
to epochs up to 180 days off, writes their elements with the digits of MPCORB, and matches what is predicted from these
with detections that have errors of 0.15 arcsec. The integration is in the barycentric frame, with Sun, planets, Earth
and Moon from astropy's built-in ephemeris and the Sun's relativistic term; the product's is about the Sun.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import EarthLocation, get_body_barycentric, get_body_barycentric_posvel
from astropy.time import Time
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation
from scipy.stats import binomtest

from benchmarks.support.command_line import command_line
from flows.inputs.orbit_file import read_orbits
from kernels.orbits.ephemeris import observe
from kernels.orbits.matching import match_ephemerides, near_radius
from kernels.orbits.motion import Orbits
from kernels.sky.observatories import OBSERVATORIES, observer_at
from tests.support.orbits import GM, PALOMAR, mpcorb_line

SEEN = 61000.3  # MJD TAI
TT = 32.184 / 86400
MASSES = {
    "sun": 1.0, "mercury": 6023600.0, "venus": 408523.71, "earth": 332946.05, "moon": 27068703.0, "mars": 3098708.0,
    "jupiter": 1047.3486, "saturn": 3497.898, "uranus": 22902.98, "neptune": 19412.24,
}  # fmt: skip
LIGHT = 173.1446326846693  # AU / d
NOISE = 0.15  # arcsec
TO_ECLIPTIC = Rotation.from_euler("x", -84381.448 / 3600, degrees=True)


def bodies(reach):
    """Return a function of time, MJD TT, that gives the places of all massive bodies about the barycentre, AU."""
    mjd = np.arange(SEEN - reach - 1, SEEN + reach + 1, 0.1)
    moments = Time(mjd, format="mjd", scale="tdb")
    return CubicSpline(mjd, np.stack([get_body_barycentric(name, moments).xyz.to_value("AU").T for name in MASSES], 1))


def pull(place, speed, there, sun_speed):
    """Return the acceleration of a light body, with the Sun's relativistic term (Einstein, Infeld & Hoffmann 1938)."""
    away = there - place
    distance = np.linalg.norm(away, axis=1)
    total = (GM / np.array(list(MASSES.values())) / distance**3) @ away
    r, v = place - there[0], speed - sun_speed
    far = np.linalg.norm(r)
    return total + GM / LIGHT**2 / far**3 * ((4 * GM / far - v @ v) * r + 4 * (r @ v) * v)


def moved(place, speed, start, end, massive):
    """Return place and speed at another time."""
    sun_speed = massive.derivative()

    def change(t, state):
        return np.concatenate([state[3:], pull(state[:3], state[3:], massive(t), sun_speed(t)[0])])

    found = solve_ivp(change, (start, end), [*place, *speed], "DOP853", rtol=1e-12, atol=1e-14)
    return found.y[:3, -1], found.y[3:, -1]


def elements(r, v, epoch, name):
    """Return the orbit of a heliocentric place and speed along the axes of the ICRS."""
    r, v = TO_ECLIPTIC.apply(r), TO_ECLIPTIC.apply(v)
    h = np.cross(r, v)
    towards = np.cross(v, h) / GM - r / np.linalg.norm(r)
    e, axis = np.linalg.norm(towards), 1 / (2 / np.linalg.norm(r) - v @ v / GM)
    inclination, node = np.arccos(h[2] / np.linalg.norm(h)), np.arctan2(h[0], -h[1])
    x, y = np.array([np.cos(node), np.sin(node), 0]), np.cross(h / np.linalg.norm(h), [np.cos(node), np.sin(node), 0])
    perihelion = np.arctan2(towards @ y, towards @ x)
    true = np.arctan2(r @ y, r @ x) - perihelion
    eccentric = 2 * np.arctan2(np.sqrt(1 - e) * np.sin(true / 2), np.sqrt(1 + e) * np.cos(true / 2))
    angles = np.degrees([eccentric - e * np.sin(eccentric), inclination, node, perihelion]) % 360
    given = dict(zip(("inclination", "node", "perihelion"), (angles[n : n + 1] for n in (1, 2, 3)), strict=True))
    return Orbits.elliptic(
        np.array([axis]), angles[:1], np.array([epoch]), np.array([e]), **given, designation=np.array([name], "S28"),
        magnitude=np.array([20.0]), slope=np.array([0.15]), uncertainty=np.zeros(1),
    )  # fmt: skip


def drawn(rng, count, massive):
    """Yield the orbit of a body, where it is seen, ra and dec, deg, and how fast it goes, deg / d."""
    site = EarthLocation.from_geodetic(*PALOMAR)
    while count:
        at = SEEN + TT
        earth, earth_speed = (
            one.xyz.to_value(unit)
            for one, unit in zip(
                get_body_barycentric_posvel("earth", Time(at, format="mjd", scale="tdb")),
                (u.AU, u.AU / u.d),
                strict=True,
            )
        )
        there, sun_speed = massive(at), massive.derivative()(at)[0]
        way = rng.normal(size=3)
        distance = np.exp(rng.uniform(np.log(0.003), np.log(0.5)))
        place = earth + distance * way / np.linalg.norm(way)
        sun = place - there[0]
        onward = np.cross(TO_ECLIPTIC.inv().apply([0, 0, 1]), sun)
        circular = np.sqrt(GM / np.linalg.norm(sun))
        speed = sun_speed + circular * (
            onward / np.linalg.norm(onward) * rng.uniform(0.85, 1.2) + rng.normal(0, 0.12, 3)
        )
        epoch = np.floor(SEEN) + rng.integers(-180, 181)
        before, before_speed = moved(place, speed, at, float(epoch), massive)
        sun_then, sun_speed_then = massive(float(epoch))[0], massive.derivative()(float(epoch))[0]
        from_sun, own_speed = before - sun_then, before_speed - sun_speed_then
        if own_speed @ own_speed / 2 > 0.95 * GM / np.linalg.norm(from_sun):  # nearly unbound
            continue
        orbit = elements(from_sun, own_speed, epoch, f"2026 NE{count}")
        seen = np.zeros(3)
        for _ in range(3):  # light that leaves at SEEN arrives later
            arrives = Time(SEEN + np.linalg.norm(seen) / LIGHT, format="mjd", scale="tai")
            observer = get_body_barycentric("earth", arrives.tdb).xyz + site.get_gcrs_posvel(arrives)[0].xyz
            seen = place - observer.to_value("AU")
        rate = np.degrees(np.linalg.norm(speed - earth_speed - seen * ((speed - earth_speed) @ seen) / (seen @ seen)))
        sky = np.degrees([np.arctan2(seen[1], seen[0]), np.arctan2(seen[2], np.hypot(*seen[:2]))])
        yield orbit, arrives.mjd, sky, rate / np.linalg.norm(seen)
        count -= 1


def main():
    """Print, by the rate of motion, how many of the bodies have their own name."""
    given = command_line(__doc__, objects=500)
    rng, massive, counts, off = np.random.default_rng(1), bodies(181), {}, []
    with tempfile.TemporaryDirectory() as folder:
        for orbit, mjd, (ra, dec), rate in drawn(rng, given.objects, massive):
            path = Path(folder) / "orbit"
            path.write_text(mpcorb_line(orbit, 0) + "\n")
            catalogue, observer = read_orbits(path), observer_at(mjd, OBSERVATORIES["I41"])
            seen = observe(catalogue.orbits, observer)
            noise = rng.normal(0, NOISE / 3600, 2)
            detection = (np.array([ra + noise[0] / np.cos(np.radians(dec))]) % 360, np.array([dec + noise[1]]))
            known = (seen.ra, seen.dec, seen.angle, np.minimum(catalogue.uncertainty(np.arange(1), observer, seen), 30))
            matched = match_ephemerides((*detection, np.array([NOISE])), known, near_radius(2.0, seen.distance, 30.0))
            group = "below 1" if rate < 1 else "1 to 10" if rate < 10 else "10 to 60" if rate < 60 else "above 60"
            counts.setdefault(group, []).append(bool(matched))
            exact = observe(orbit, observer)
            east = (exact.ra[0] - ra + 180) % 360 - 180
            off.append((seen.distance[0], 3600 * np.hypot(east * np.cos(np.radians(dec)), exact.dec[0] - dec)))
    for group in (one for one in ("below 1", "1 to 10", "10 to 60", "above 60") if one in counts):
        found = counts[group]
        low, high = binomtest(sum(found), len(found)).proportion_ci(method="exact")
        named = {"deg / d": group, "bodies": len(found), "named": sum(found)}
        print(json.dumps(named | {"95 %": [round(low, 4), round(high, 4)]}))
    distance, apart = np.array(off).T
    for low, high in ((0.003, 0.01), (0.01, 0.03), (0.03, 0.5)):
        own = apart[(distance >= low) & (distance < high)]
        off = dict(zip(("median, arcsec", "99 %", "largest"), np.quantile(own, [0.5, 0.99, 1]).round(3), strict=True))
        print(json.dumps({"AU": [low, high], "bodies": len(own)} | off))


if __name__ == "__main__":
    main()

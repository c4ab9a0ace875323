"""Tracklets of what passes the Earth, whose rates change as it comes nearer or goes:

    python -m benchmarks.motion.passing_objects [--nights 4] [--first 0]

Bodies move straight past the Earth at 6 to 30 km / s in any direction, 0.1 to 60 deg / day as they are seen from
Palomar, which turns with the Earth (astropy). Three, four and five visits within 1 to 4 hours, a detection in twenty
missing, in fields at the ecliptic, a pole, the south and RA 0. Of those with three detections and more it prints how
many are in one tracklet with three of them, and with all; and how many tracklets are of several objects.
"""

from collections import Counter
from itertools import product

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.time import Time

from benchmarks.motion.linking import ERROR, EXPOSURE, MOVERS, PALOMAR, SIDE, interval, link
from benchmarks.support.command_line import command_line

FIELDS = ((150.0, 12.0), (40.0, 87.0), (0.05, 0.5), (95.0, -48.0))
MIDDLE = 61000.3  # MJD, UTC
MISSING = 0.05
HALF = EXPOSURE / 2 / 86400  # d
FALSE = -1


def directions(rng, centre, count):
    """Return unit vectors spread evenly over the field, (count, 3)."""
    ra, dec = np.radians(centre)
    axis = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    x, y = np.radians(rng.uniform(-SIDE / 2, SIDE / 2, (2, count)))
    found = axis + x[:, None] * east + y[:, None] * np.cross(axis, east)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def observer(mjd):
    """Return place, km, and velocity, km / s, of Palomar about the Earth's centre, (3,) each."""
    place, velocity = PALOMAR.get_gcrs_posvel(Time(mjd, format="mjd", scale="utc"))
    return place.xyz.to_value(u.km), velocity.xyz.to_value(u.km / u.s)


def bodies(rng, centre):
    """Return places, km, and velocities, km / s, about the Earth's centre in the middle of the night; and rates."""
    towards, (here, turning) = directions(rng, centre, MOVERS), observer(MIDDLE)
    motion = rng.normal(size=(MOVERS, 3))
    motion *= (np.clip(rng.normal(17, 5, MOVERS), 6, 30) / np.linalg.norm(motion, axis=1))[:, None]
    across = np.linalg.norm(motion - (motion * towards).sum(axis=1, keepdims=True) * towards, axis=1)
    rate = np.exp(rng.uniform(np.log(0.1), np.log(60), MOVERS))
    return here + towards * (across * 86400 / np.radians(rate))[:, None], motion + turning, rate


def seen(place, motion, mjd):
    """Return where bodies are seen from Palomar at a time."""
    way = place + motion * (mjd - MIDDLE) * 86400 - observer(mjd)[0]
    sky = SkyCoord(*way.T, unit="km", representation_type="cartesian").spherical
    return SkyCoord(sky.lon, sky.lat)


def night(seed, centre, visits, density):
    """Return ra, dec, mjd, body, trail's length and angle, magnitude of all detections, and the rate of each body."""
    rng = np.random.default_rng(seed)
    hours, bright = rng.uniform(1, 4), rng.uniform(16, 20, MOVERS)
    place, motion, rate = bodies(rng, centre)
    inner = (np.arange(1, visits - 1) + rng.uniform(-0.3, 0.3, visits - 2)) / (visits - 1)
    parts = []
    for mjd in MIDDLE + (np.concatenate([[0], inner, [1]]) - 0.5) * hours / 24:
        there = np.flatnonzero(rng.uniform(size=MOVERS) >= MISSING)
        sky, tail, head = (seen(place[there], motion[there], mjd + late) for late in (0, -HALF, HALF))
        length = np.abs(tail.separation(head).arcsec + rng.normal(0, 0.5, len(there)))
        turned = rng.normal(0, 1, len(there)) * np.degrees(0.4 / np.maximum(length, 1))
        count = rng.poisson(density * SIDE**2)
        x, y, z = directions(rng, centre, count).T
        false = (np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arcsin(z)))
        jitter = rng.normal(0, ERROR / 3600, (2, len(there)))
        own = (sky.ra.deg + jitter[0] / np.cos(sky.dec.rad), sky.dec.deg + jitter[1])
        parts.append((
            *(np.concatenate(pair) for pair in zip(own, false, strict=True)),
            np.full(len(there) + count, mjd), np.concatenate([there, np.full(count, FALSE)]),
            np.concatenate([length, rng.exponential(3, count)]),
            np.concatenate([tail.position_angle(head).deg + turned, rng.uniform(0, 180, count)]) % 180,
            np.concatenate([bright[there] + rng.normal(0, 0.1, len(there)), rng.uniform(16, 20.5, count)]),
        ))  # fmt: skip
    return [np.concatenate(column) for column in zip(*parts, strict=True)], rate


def measured(density, trails, nights, first):
    """Return of each body with three detections its rate, how many there are, and how many one tracklet has of them."""
    rows, wrong, total = [], 0, 0
    for number, (_, visits, centre) in enumerate(product(range(nights), (3, 4, 5), FIELDS)):
        (ra, dec, mjd, owner, length, angle, bright), rate = night(first + number, centre, visits, density)
        errors = {"length_error": np.full(len(ra), 0.5), "angle_error": np.degrees(0.4 / np.maximum(length, 1))}
        shape = {"trail_length": length, "trail_angle": angle, **errors} if trails else {}
        tracklets, _ = link(ra, dec, mjd, magnitude=bright, exposure_time=np.full(len(ra), EXPOSURE), **shape)
        best = Counter()
        for members in (owner[list(one.members)] for one in tracklets):
            pure = len(set(members.tolist())) == 1 and members[0] != FALSE
            wrong, total = wrong + (not pure), total + 1
            if pure:
                best[members[0]] = max(best[members[0]], len(members))
        there = Counter(owner.tolist())
        rows += [(rate[one], there[one], best[one]) for one in range(MOVERS) if there[one] >= 3]
    return np.array(rows), wrong, total


def main():
    """Measure and print."""
    given = command_line(
        __doc__, nights=(4, "of each number of visits and field"), first=(0, "seed of the first night")
    )
    print(
        "| false per deg2 and visit | trails | three linked | all | above 15 deg / day: three | tracklets of several |"
    )
    print("|---|---|---|---|---|---|")
    for density, trails in product((1, 10), (True, False)):
        rows, wrong, total = measured(density, trails, given.nights, given.first)
        three, fast = rows[:, 2] >= 3, rows[:, 0] > 15
        words = (interval(int(one.sum()), len(one)) for one in (three, rows[:, 2] == rows[:, 1], three[fast]))
        print(f"| {density} | {'yes' if trails else 'no'} | {' | '.join(words)} | {wrong} of {total} |", flush=True)


if __name__ == "__main__":
    main()

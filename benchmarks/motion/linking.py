"""Tracklets: of real ZTF detections of named asteroids, and of movers among false detections; links over nights.

`python -m benchmarks.motion.linking [--real FILE.parquet] [--nights 5]`. The real table has the columns of ZTF's alerts
(`jd`, `ra`, `dec`, `magpsf`, `exptime`, `candid`) and `ssnamenr`, the asteroid, which linking does not see. With
`--link-nights 14` links over so many nights are measured instead, of the same table and of bodies whose orbits are
integrated numerically. `--rest` adds sources at rest to the nights, and counts those that tracklets have; `--scrambled`
gives each visit of a night another time, and each detection of the real table, so that what is linked is by chance.
"""

import json
import os
from itertools import product

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.coordinates import EarthLocation, SkyCoord, get_body_barycentric
from astropy.time import Time
from scipy.integrate import solve_ivp
from scipy.stats import beta

from benchmarks.support.command_line import command_line
from flows.results.detection_table import DetectionTable
from flows.results.link_nights import link_over_nights
from flows.results.linking import link_table
from kernels.linking.detections import detections_at, find_stationary
from kernels.linking.tracklets import find_tracklets

CENTRE = SkyCoord(150 * u.deg, 20 * u.deg)
SIDE = 6.86  # deg: the field of ZTF
MOVERS, EXPOSURE, ERROR = 30, 30.0, 0.15  # number, s, arcsec
DEPTH = 20.6  # mag of a point of S/N 5
GM = 0.01720209895**2  # au^3 / d^2
LIGHT = 173.1446  # au / d
REST, QUADRANT = -2, 0.735  # owner of sources at rest; deg2
PALOMAR = EarthLocation.from_geodetic(-116.8598, 33.3563, 1712)
CADENCE = (0, 1, 3, 5, 8, 12)  # nights


def interval(found, total):
    """Return the share with its 95 % interval (Clopper & Pearson 1934), as text."""
    low = beta.ppf(0.025, found, total - found + 1) if found else 0.0
    high = beta.ppf(0.975, found + 1, total - found) if found < total else 1.0
    return f"{found} of {total} ({low:.3f}-{high:.3f})"


def processor_time():
    """Return seconds of processor time, those of processes that have ended among them."""
    return sum(os.times()[:4])


def link(ra, dec, mjd, **known):
    """Return the tracklets, and the seconds of processor time they took."""
    start = processor_time()
    detections = detections_at(ra, dec, mjd, np.full(len(ra), ERROR), **known)
    return find_tracklets(detections, ~find_stationary(detections)), processor_time() - start


def real(path):
    """Print completeness and purity of asteroid-nights with three detections and more."""
    table = pq.read_table(path).to_pandas()
    mjd, name = table["jd"].to_numpy() - 2400000.5, table["ssnamenr"].to_numpy()
    known = {"exposure_time": table["exptime"].to_numpy(), "magnitude": table["magpsf"].to_numpy()}
    tracklets, _ = link(table["ra"].to_numpy(), table["dec"].to_numpy(), mjd, **known)
    night = np.floor(mjd).astype(int)
    sizes = table.assign(night=night).groupby(["ssnamenr", "night"]).size()
    wanted = set(sizes[sizes >= 3].index)
    pure = [one for one in tracklets if len(set(name[list(one.members)])) == 1]
    found = {(name[one.members[0]], night[one.members[0]]) for one in pure}
    return {
        "asteroid-nights of 3 detections and more": interval(len(found & wanted), len(wanted)),
        "pure tracklets": interval(len(pure), len(tracklets)),
        "their detections": f"{sum(len(one.members) for one in pure)} of {int(sizes[sizes >= 3].sum())}",
    }


def night(rng, visits, density, movers=MOVERS, bend=0.0):
    """Return ra, dec, mjd, owner, trail length and angle of a night; a mover's rate changes by 1 % an hour or so.

    Its way bends across by ``bend`` of it or so in an hour.
    """
    days = np.arange(visits) * 30 / 1440
    rates, angles = np.exp(rng.uniform(np.log(0.1), np.log(60), movers)), rng.uniform(0, 360, movers)
    change = rng.normal(0, 0.01 * 24, movers)
    starts = CENTRE.spherical_offsets_by(*(rng.uniform(-0.3 * SIDE, 0.3 * SIDE, (2, movers)) * u.deg))
    bends = 24 * 4 * rates * (rng.normal(0, bend, movers) if bend else 0.0)
    parts = []
    for day in days:
        since = day - days.mean()
        way = rates * since * (1 + 0.5 * change * since)
        places = starts.directional_offset_by(angles * u.deg, way * u.deg)
        places = places.directional_offset_by((angles + 90) * u.deg, bends * since**2 * u.deg)
        parts.append((places.ra.deg, places.dec.deg, day, np.arange(movers), rates / 24 * EXPOSURE, angles))
        count = rng.poisson(density * SIDE**2)
        false = CENTRE.spherical_offsets_by(*(rng.uniform(-SIDE / 2, SIDE / 2, (2, count)) * u.deg))
        lengths = np.exp(rng.uniform(np.log(0.3), np.log(60), count))
        parts.append((false.ra.deg, false.dec.deg, day, np.full(count, -1), lengths, rng.uniform(0, 180, count)))
    ra, dec, owner, length, angle = (np.concatenate([part[n] for part in parts]) for n in (0, 1, 3, 4, 5))
    mjd = 60000.2 + np.concatenate([np.full(len(part[0]), part[2]) for part in parts])
    ra, dec = (values + rng.normal(0, ERROR / 3600, len(ra)) for values in (ra, dec))
    length = np.abs(length + rng.normal(0, 0.5, len(ra)))
    return (
        ra,
        dec,
        mjd,
        owner,
        length,
        (angle + rng.normal(0, 1, len(ra)) * np.degrees(0.4 / np.maximum(length, 1))) % 180,
    )


def magnitudes(rng, owner):
    """Return magnitudes in one band: of movers more that are faint, each turning; most false ones are at the limit."""
    magnitude = DEPTH - 2.5 * np.log10(1 + rng.exponential(0.4, len(owner)))
    magnitude = np.where(rng.random(len(owner)) < 0.2, rng.uniform(15, DEPTH, len(owner)), magnitude)
    for mover in range(owner.max() + 1):
        own = np.flatnonzero(owner == mover)
        mean = np.log10(rng.uniform(10 ** (0.3 * 15), 10 ** (0.3 * (DEPTH - 0.3)))) / 0.3
        swing = min(0.25 * np.exp(rng.normal(0, 0.6)), 1.5)  # from the greatest to the least
        seen = mean + swing / 2 * np.sin(rng.uniform(0, 2 * np.pi, len(own)))
        magnitude[own] = seen + rng.normal(0, 1.09 / 5, len(own)) * 10 ** (0.4 * (seen - DEPTH))
    return magnitude


def simulated(visits, density, nights, trails, first=0, bend=0.0, with_magnitudes=False):
    """Return completeness and purity over some nights, and the tracklets of as many without movers."""
    found = pure = total = empty = rows = 0
    seconds = 0.0
    for seed, movers in product(range(first, first + nights), (MOVERS, 0)):
        ra, dec, mjd, owner, length, angle = night(np.random.default_rng(seed), visits, density, movers, bend)
        shape = {"trail_length": length, "trail_angle": angle, "exposure_time": np.full(len(ra), EXPOSURE)}
        known = shape if trails else {}
        if with_magnitudes:
            known["magnitude"] = magnitudes(np.random.default_rng(seed + 10_000), owner)
        tracklets, took = link(ra, dec, mjd, **known)
        if not movers:
            empty += len(tracklets)
            continue
        owners = [set(owner[list(one.members)].tolist()) for one in tracklets]
        good = [next(iter(some)) for some in owners if len(some) == 1 and -1 not in some]
        found, pure, total = found + len(set(good)), pure + len(good), total + len(tracklets)
        rows, seconds = rows + len(ra), seconds + took
    return {
        "visits": visits, "false per deg2": density, "trails": trails, "magnitudes": with_magnitudes,
        "detections a night": rows // nights, "linked": interval(found, MOVERS * nights),
        "pure": interval(pure, total), "tracklets without movers": empty, "s": round(seconds / nights, 2),
    }  # fmt: skip


def at_rest(visits, density, nights, trails, sources=100):
    """Return how many detections of sources at rest tracklets have; each is seen in 3 to 10 of 10 visits."""
    quadrants, members, own, wrong = round(SIDE**2 / QUADRANT), 0, 0, 0
    for seed in range(nights):
        rng = np.random.default_rng(1000 + seed)
        ra, dec, mjd, owner, length, angle = night(rng, visits, density)
        count = sources * quadrants
        places = CENTRE.spherical_offsets_by(*(rng.uniform(-SIDE / 2, SIDE / 2, (2, count)) * u.deg))
        visit, source = np.nonzero(rng.random((visits, count)) < rng.uniform(0.3, 1, count))
        noise = rng.normal(0, ERROR / 3600, (2, len(visit)))
        ra = np.append(ra, places.ra.deg[source] + noise[0] / np.cos(places.dec.rad[source]))
        dec, mjd = np.append(dec, places.dec.deg[source] + noise[1]), np.append(mjd, np.unique(mjd)[visit])
        owner = np.append(owner, np.full(len(visit), REST))
        shape = {
            "trail_length": np.append(length, np.abs(rng.normal(0, 0.5, len(visit)))),
            "trail_angle": np.append(angle, rng.uniform(0, 180, len(visit))),
            "exposure_time": np.full(len(ra), EXPOSURE),
        }
        tracklets, _ = link(ra, dec, mjd, **(shape if trails else {}))
        owners = [set(owner[list(one.members)].tolist()) for one in tracklets]
        true = [len(some) == 1 and min(some) >= 0 for some in owners]
        members += sum(int((owner[list(one.members)] == REST).sum()) for one in tracklets)
        wrong += true.count(False)
        own += len({min(some) for some, one in zip(owners, true, strict=True) if one})
    return {
        "visits": visits, "false per deg2": density, "at rest per quadrant": sources, "trails": trails,
        "in tracklets per quadrant-night": round(members / quadrants / nights, 4),
        "false tracklets": wrong, "linked": interval(own, MOVERS * nights),
    }  # fmt: skip


def scrambled(visits, density, nights, trails):
    """Return how many tracklets nights have whose visits were given other times, at random within five hours."""
    found = mixed = rows = 0
    for seed in range(nights):
        rng = np.random.default_rng(2000 + seed)
        ra, dec, mjd, owner, length, angle = night(rng, visits, density)
        moments, which = np.unique(mjd, return_inverse=True)
        mjd = moments[0] + rng.uniform(0, 5 / 24, len(moments))[which]
        shape = {"trail_length": length, "trail_angle": angle, "exposure_time": np.full(len(ra), EXPOSURE)}
        tracklets, _ = link(ra, dec, mjd, **(shape if trails else {}))
        found += len(tracklets)
        mixed += sum(len(set(owner[list(one.members)].tolist())) > 1 for one in tracklets)
        rows += len(ra)
    return {
        "visits": visits, "false per deg2": density, "trails": trails, "nights": nights, "detections": rows // nights,
        "tracklets a night": round(found / nights, 3), "of several sources": mixed,
    }  # fmt: skip


def real_scrambled(path, times=100):
    """Return how many tracklets the real table has when each detection has any time within its night."""
    table, rng = pq.read_table(path).to_pandas(), np.random.default_rng(0)
    mjd = table["jd"].to_numpy() - 2400000.5
    night, counts = np.floor(mjd).astype(int), []
    for _ in range(times):
        other = mjd.copy()
        for one in np.unique(night):
            own = mjd[night == one]
            other[night == one] = rng.uniform(own.min(), own.max(), len(own))
        known = {"exposure_time": table["exptime"].to_numpy(), "magnitude": table["magpsf"].to_numpy()}
        counts.append(len(link(table["ra"].to_numpy(), table["dec"].to_numpy(), other, **known)[0]))
    return {"times": times, "nights": len(np.unique(night)), "tracklets": sum(counts)}


def observer(mjd):
    """Return where Palomar is from the Sun, au; times are UTC."""
    moment = Time(mjd, format="mjd", scale="utc")
    earth = get_body_barycentric("earth", moment) - get_body_barycentric("sun", moment)
    return (earth + PALOMAR.get_gcrs_posvel(moment)[0]).xyz.to_value("AU").T


def orbit_seen(state, epoch, mjd, places):
    """Return ra and dec of a body, deg: its motion about the Sun is integrated (Dormand & Prince), light takes time."""

    def pull(_, y):
        return np.concatenate([y[3:], -GM * y[:3] / np.linalg.norm(y[:3]) ** 3])

    days, aim = mjd - epoch, {"rtol": 1e-10, "atol": 1e-13, "dense_output": True}
    back, onward = (solve_ivp(pull, (0, end), state, **aim).sol for end in (days.min() - 1, days.max() + 1))
    seen = np.zeros_like(places)
    for _ in range(3):
        at = days - np.linalg.norm(seen, axis=1) / LIGHT
        seen = np.where(at < 0, back(np.minimum(at, 0))[:3], onward(np.maximum(at, 0))[:3]).T - places
    return np.degrees(np.arctan2(seen[:, 1], seen[:, 0])) % 360, np.degrees(
        np.arctan2(seen[:, 2], np.hypot(*seen.T[:2]))
    )


def several_nights(rng, movers, density, visits=2, cadence=CADENCE, side=SIDE):
    """Return ra, dec, mjd and owner of a field opposite the Sun; a third of the bodies is near the Earth.

    A body is missed in one of 20 exposures; visits are 40 minutes apart.
    """
    mjd = 60200.3 + np.array([night + visit / 36 for night in cadence for visit in range(visits)])
    epoch, places = float(mjd.mean()), observer(mjd)
    middle = observer(np.array([epoch]))[0]
    field = SkyCoord(*middle, representation_type="cartesian")
    field = SkyCoord(field.spherical.lon, field.spherical.lat)
    pole = np.array([0, -np.sin(np.radians(23.4393)), np.cos(np.radians(23.4393))])
    parts = []
    for owner in range(movers):
        far = rng.uniform(0.15, 0.8) if owner % 3 == 0 else rng.uniform(1.0, 2.4)
        way = field.spherical_offsets_by(*(rng.uniform(-side / 2, side / 2, 2) * u.deg)).cartesian.xyz.value
        place = middle + far * way
        circular = np.sqrt(GM / np.linalg.norm(place))
        onward = np.cross(pole, place)
        velocity = circular * (onward / np.linalg.norm(onward) * (1 + rng.normal(0, 0.08)) + rng.normal(0, 0.12, 3))
        ra, dec = orbit_seen(np.concatenate([place, velocity]), epoch, mjd, places)
        x, y = field.spherical_offsets_to(SkyCoord(ra * u.deg, dec * u.deg))
        seen = (np.maximum(abs(x.deg), abs(y.deg)) < side / 2) & (rng.random(len(mjd)) < 0.95)
        parts.append((ra[seen], dec[seen], mjd[seen], np.full(seen.sum(), owner)))
    for moment in mjd:
        count = rng.poisson(density * side**2)
        false = field.spherical_offsets_by(*(rng.uniform(-side / 2, side / 2, (2, count)) * u.deg))
        parts.append((false.ra.deg, false.dec.deg, np.full(count, moment), np.full(count, -1)))
    ra, dec, mjd, owner = (np.concatenate(part) for part in zip(*parts, strict=True))
    dec = dec + rng.normal(0, ERROR / 3600, len(dec))
    return (ra + rng.normal(0, ERROR / 3600, len(ra)) / np.cos(np.radians(dec))) % 360, dec, mjd, owner


def findable(mjd, owner):
    """Return who has two detections, ten minutes apart or more, in each of three nights."""
    night, found = np.floor(mjd - 0.5), []
    for one in np.unique(owner[owner != -1]):
        spans = [np.ptp(mjd[(owner == one) & (night == n)]) for n in np.unique(night[owner == one])]
        if sum(span >= 10 / 1440 for span in spans) >= 3:
            found.append(one)
    return set(found)


def over_nights(ra, dec, mjd, owner, nights, **known):
    """Return how many of the bodies that can be found are, and the purity of links; false detections are of -1."""
    order = np.argsort(mjd, kind="stable")
    ra, dec, mjd, owner = (column[order] for column in (ra, dec, mjd, owner))
    own = detections_at(ra, dec, mjd, np.full(len(ra), ERROR), **{name: some[order] for name, some in known.items()})
    table = DetectionTable(pa.array(np.arange(len(ra))), own, np.full(len(ra), "I41"), "utc", len(ra), {}, {})
    _, tracklets, still = link_table(table)
    start = processor_time()
    links, notes = link_over_nights(table, tracklets, still, nights)
    owners = [set(owner[list(one.members)].tolist()) for one in links]
    pure = [next(iter(some)) for some in owners if len(some) == 1 and -1 not in some]
    wanted = set()
    for begin in np.arange(mjd[0], max(mjd[-1] - nights, mjd[0]) + nights / 2, nights / 2):
        inside = (mjd >= begin) & (mjd < begin + nights)
        wanted |= findable(mjd[inside], owner[inside])
    return {
        "detections": len(ra), "nights": nights, "found": interval(len(wanted & set(pure)), len(wanted)),
        "pure": interval(len(pure), len(links)) if links else "no links", "notes": notes,
        "s": round(processor_time() - start, 1),
    }  # fmt: skip


def real_nights(path, nights):
    """Measure links of the real table."""
    table = pq.read_table(path).to_pandas()
    mjd = table["jd"].to_numpy() - 2400000.5 + table["exptime"].to_numpy() / 2 / 86400
    known = {"exposure_time": table["exptime"].to_numpy(), "magnitude": table["magpsf"].to_numpy()}
    return over_nights(
        table["ra"].to_numpy(), table["dec"].to_numpy(), mjd, table["ssnamenr"].to_numpy(), nights, **known
    )


def survey(visits=720, rows=47):
    """Return what a night of many fields takes: each is seen three times, in turn with others, and nothing moves."""
    rng, fields = np.random.default_rng(0), [(10 + 7.0 * (n % 12), 7.0 * (n // 12) - 10) for n in range(visits // 3)]
    parts, mjd = [], 61000.2
    for first in range(0, len(fields), 40):
        for ra, dec in fields[first : first + 40] * 3:
            east, north = rng.uniform(-SIDE / 2, SIDE / 2, (2, rows))
            parts.append((ra + east / np.cos(np.radians(dec)), dec + north, np.full(rows, mjd)))
            mjd += 40 / 86400
    ra, dec, times = (np.concatenate(column) for column in zip(*parts, strict=True))
    shape = {"trail_length": np.abs(rng.normal(0, 1, len(ra))), "trail_angle": rng.uniform(0, 180, len(ra))}
    tracklets, took = link(ra, dec, times, exposure_time=np.full(len(ra), EXPOSURE), **shape)
    return {"visits": visits, "detections": len(ra), "tracklets": len(tracklets), "s": round(took, 1)}


def main():
    """Print a JSON object for each measurement."""
    chosen = command_line(
        __doc__,
        real=str,
        nights=5,
        first=(0, "number of the first night, of others than the usual ones"),
        bend=(0.0, "of ways across, in an hour, as a part of these"),
        link_nights=int,
        survey=(False, "a night of 720 visits of 240 fields only"),
        rest=False,
        scrambled=False,
    )
    if chosen.scrambled and chosen.real:
        print(json.dumps(real_scrambled(chosen.real)), flush=True)
    if chosen.rest or chosen.scrambled:
        for trails, visits, density in product((True, False), (3, 5), (1.0, 10.0)):
            measured = at_rest if chosen.rest else scrambled
            print(json.dumps(measured(visits, density, chosen.nights, trails)), flush=True)
        return
    if chosen.survey:
        print(json.dumps(survey()))
        return
    if chosen.link_nights:
        if chosen.real:
            print(json.dumps(real_nights(chosen.real, chosen.link_nights)), flush=True)
        for movers, density in ((60, 0.0), (60, 1.0), (60, 10.0), (60, 100.0), (0, 30.0)):
            table = several_nights(np.random.default_rng(1), movers, density)
            print(json.dumps({"false per deg2": density} | over_nights(*table, nights=chosen.link_nights)), flush=True)
        return
    if chosen.real:
        print(json.dumps(real(chosen.real)))
    known = (True, False), (False, False), (False, True)  # trails, magnitudes
    for (trails, bright), visits, density in product(known, (3, 4, 5), (1.0, 10.0, 100.0)):
        measured = simulated(visits, density, chosen.nights, trails, chosen.first, chosen.bend, bright)
        print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    main()

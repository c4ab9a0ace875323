"""Tracklets: of real ZTF detections of named asteroids, and of movers among false detections.

`python -m benchmarks.linking [--real FILE.parquet] [--nights 5]`. The real table has the columns of ZTF's alerts (`jd`,
`ra`, `dec`, `magpsf`, `exptime`, `candid`) and `ssnamenr`, the asteroid, which linking does not see.
"""

import argparse
import json
import time

import astropy.units as u
import numpy as np
import pyarrow.parquet as pq
from astropy.coordinates import SkyCoord
from scipy.stats import beta

from kernels.linking.detections import detections_at, find_stationary
from kernels.linking.tracklets import find_tracklets

CENTRE = SkyCoord(150 * u.deg, 20 * u.deg)
SIDE = 6.86  # deg: the field of ZTF
MOVERS, EXPOSURE, ERROR = 30, 30.0, 0.15  # number, s, arcsec


def interval(found, total):
    """Return the share with its 95 % interval (Clopper & Pearson 1934), as text."""
    low = beta.ppf(0.025, found, total - found + 1) if found else 0.0
    high = beta.ppf(0.975, found + 1, total - found) if found < total else 1.0
    return f"{found} of {total} ({low:.3f}-{high:.3f})"


def link(ra, dec, mjd, **known):
    """Return the tracklets, and the seconds they took."""
    start = time.perf_counter()
    detections = detections_at(ra, dec, mjd, np.full(len(ra), ERROR), **known)
    return find_tracklets(detections, ~find_stationary(detections)), time.perf_counter() - start


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


def night(rng, visits, density, movers=MOVERS):
    """Return ra, dec, mjd, owner, trail length and angle of a night; a mover's rate changes by 1 % an hour or so."""
    days = np.arange(visits) * 30 / 1440
    rates, angles = np.exp(rng.uniform(np.log(0.1), np.log(60), movers)), rng.uniform(0, 360, movers)
    change = rng.normal(0, 0.01 * 24, movers)
    starts = CENTRE.spherical_offsets_by(*(rng.uniform(-0.3 * SIDE, 0.3 * SIDE, (2, movers)) * u.deg))
    parts = []
    for day in days:
        since = day - days.mean()
        way = rates * since * (1 + 0.5 * change * since)
        places = starts.directional_offset_by(angles * u.deg, way * u.deg)
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


def simulated(visits, density, nights, trails):
    """Return completeness and purity over some nights."""
    found = pure = total = rows = 0
    seconds = 0.0
    for seed in range(nights):
        ra, dec, mjd, owner, length, angle = night(np.random.default_rng(seed), visits, density)
        shape = {"trail_length": length, "trail_angle": angle, "exposure_time": np.full(len(ra), EXPOSURE)}
        tracklets, took = link(ra, dec, mjd, **(shape if trails else {}))
        owners = [set(owner[list(one.members)].tolist()) for one in tracklets]
        good = [next(iter(some)) for some in owners if len(some) == 1 and -1 not in some]
        found, pure, total = found + len(set(good)), pure + len(good), total + len(tracklets)
        rows, seconds = rows + len(ra), seconds + took
    return {
        "visits": visits, "false per deg2": density, "trails": trails, "detections a night": rows // nights,
        "linked": interval(found, MOVERS * nights), "pure": interval(pure, total), "s": round(seconds / nights, 2),
    }  # fmt: skip


def main():
    """Print a JSON object for each measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--real")
    parser.add_argument("--nights", type=int, default=5)
    chosen = parser.parse_args()
    if chosen.real:
        print(json.dumps(real(chosen.real)))
    for trails in (True, False):
        for visits in (3, 4, 5):
            for density in (1.0, 10.0, 100.0):
                print(json.dumps(simulated(visits, density, chosen.nights, trails)), flush=True)


if __name__ == "__main__":
    main()

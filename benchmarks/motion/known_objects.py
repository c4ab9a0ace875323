"""Cost and accuracy of the prediction of known objects.

``python -m benchmarks.motion.known_objects [--objects 1400000]`` writes a file of so many orbits in the format of
MPCORB, reads it, and predicts the objects of fields on the ecliptic; then compares places with those of an independent
integration of all bodies about the barycentre, at several times from the epoch.

``--named [--objects 300]`` puts detections where that integration has as many asteroids, three times within 0.07 d,
links them with orbits of all but every fourth, whose epochs are 10 to 180 days off, and counts whose names they get.
"""

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import binomtest
from typer.testing import CliRunner

from benchmarks.support.command_line import command_line
from flows.cli.app import app
from flows.inputs.orbit_file import read_orbits
from kernels.orbits.ephemeris import observe
from kernels.sky.observatories import OBSERVATORIES, observer_at
from kernels.sky.positions import unit_vectors
from tests.support.orbits import PALOMAR, asteroids, integrated, write_mpcorb

EPOCH = 61000.0
FIELDS = 10
SLOWEST = 0.1
"""Minimum rate of asteroids that are counted, deg / d; some stand nearly still for weeks."""

RADIUS = 0.62
"""Radius of a circle around a ZTF quadrant, deg."""


def main() -> None:
    """Print the figures."""
    given = command_line(__doc__, objects=int, named=False)
    if given.named:
        print("| days from the epoch | known | linked | named | 95 % | linked of all | named wrongly |")
        print("|---|---|---|---|---|---|---|")
        for days in (-180, -60, 10, 90, 180):
            _named(days, given.objects or 300)
        return
    given.objects = given.objects or 1_400_000
    print(f"writing {given.objects:,} orbits", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = write_mpcorb(Path(folder) / "MPCORB.DAT", asteroids(given.objects, EPOCH))
        _cost(path)
    print("\n| days from the epoch | median, arcsec | 99 % | largest of 200 objects |\n|---|---|---|---|")
    for days in (10, 30, 90, 180, -180, 365):
        _accuracy(days)


def _cost(path: Path) -> None:
    began = time.perf_counter()
    catalogue = read_orbits(path)
    read = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(catalogue):,} orbits, {path.stat().st_size / 2**20:.0f} MiB: read in {read:.1f} s, peak {peak:.2f} GiB"
    )
    for days in (60.0, 180.0):
        took, found = [], 0
        for field in range(FIELDS):
            observer = observer_at(EPOCH + days + field / 1000, OBSERVATORIES["I41"])
            opposite = np.degrees(np.arctan2(observer.position[1], observer.position[0])) + 3 * field
            toward = unit_vectors(np.array([opposite]), np.array([0.0]))[0]
            began = time.perf_counter()
            found += len(catalogue.seen(observer, toward, RADIUS)[0])
            took.append(time.perf_counter() - began)
        print(
            f"{days:.0f} days from the epoch: first field of a night {took[0]:.2f} s, others "
            f"{np.median(took[1:]):.3f} s, {found / FIELDS:.0f} objects each"
        )


def _accuracy(days: float) -> None:
    orbits, site = asteroids(200, EPOCH, seed=7), OBSERVATORIES["I41"]
    seen = observe(orbits, observer_at(EPOCH + days, site))
    ra, dec = integrated(orbits, [EPOCH + days], PALOMAR)
    off = np.linalg.norm(unit_vectors(seen.ra, seen.dec) - unit_vectors(ra[:, 0], dec[:, 0]), axis=1)
    arcsec = np.degrees(off) * 3600
    print(
        f"| {days:+.0f} | {np.median(arcsec):.3f} | {np.quantile(arcsec, 0.99):.3f} | {arcsec.max():.3f} |", flush=True
    )


def _named(days: float, count: int) -> None:
    orbits, rng = asteroids(count, EPOCH, seed=int(1000 + days)), np.random.default_rng(int(1000 + days))
    mjd = EPOCH + days + np.array([0.0, 0.03, 0.07])
    places = [np.degrees(np.unwrap(np.radians(one))) for one in integrated(orbits, mjd, PALOMAR)]
    ra, dec = (place + rng.normal(0, 0.15 / 3600, place.shape) for place in places)
    true = [one.decode() for one in orbits.designation]
    way = np.linalg.norm(np.diff(unit_vectors(places[0][:, [0, -1]], places[1][:, [0, -1]]), axis=1)[:, 0], axis=1)
    fast = np.degrees(way) / 0.07 >= SLOWEST
    known = np.arange(count) % 4 > 0
    detections = pa.table({
        "id": [f"{n} {visit}" for n in range(count) for visit in range(3)],
        "mjd": np.tile(mjd - 37 / 86400, count), "ra": ra.ravel() % 360, "dec": dec.ravel(),
        "posErr": np.full(3 * count, 0.15), "obscode": ["I41"] * (3 * count),
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        pq.write_table(detections, folder / "detections.parquet")
        catalogue = write_mpcorb(folder / "MPCORB.DAT", orbits.take(np.flatnonzero(known)))
        members = folder / "members.parquet"
        command = ["link", str(folder / "detections.parquet"), "--orbits", str(catalogue), "--out", str(members)]
        result = CliRunner().invoke(app, [*command, "--json"])
        if result.exit_code:
            raise RuntimeError(result.output)
        rows = pq.read_table(members).to_pylist()
    said = {int(row["id"].split()[0]): row["designation"] for row in rows}
    asked = np.flatnonzero(known & fast).tolist()
    linked, right = sum(n in said for n in asked), sum(said.get(n) == true[n] for n in asked)
    wrong = sum(bool(name) and not (known[n] and name == true[n]) for n, name in said.items())
    low, high = binomtest(right, len(asked)).proportion_ci(method="exact")
    cells = (f"{days:+.0f}", len(asked), linked, right, f"{low:.4f} to {high:.4f}", f"{len(said)} of {count}", wrong)
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()

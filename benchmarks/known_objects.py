"""Cost and accuracy of the prediction of known objects.

``python -m benchmarks.known_objects [--objects 1400000]`` writes a file of so many orbits in the format of MPCORB,
reads it, and predicts the objects of fields on the ecliptic; then compares places with those of an independent
integration of all bodies about the barycentre, at several times from the epoch.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from flows.inputs.orbit_file import read_orbits
from kernels.orbits.ephemeris import observe
from kernels.sky.observatories import OBSERVATORIES, observer_at
from kernels.sky.positions import unit_vectors
from tests.support.orbits import PALOMAR, asteroids, integrated, write_mpcorb

EPOCH = 61000.0
FIELDS = 10
RADIUS = 0.62
"""deg: a circle about a ZTF quadrant."""


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--objects", type=int, default=1_400_000)
    given = options.parse_args()
    print(f"writing {given.objects:,} orbits", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = write_mpcorb(Path(folder) / "MPCORB.DAT", asteroids(given.objects, EPOCH))
        _cost(path)
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
    print(f"{days:+.0f} days: median {np.median(arcsec):.3f}, 99 % {np.quantile(arcsec, 0.99):.3f}, largest "
          f"{arcsec.max():.3f} arcsec of {len(arcsec)} objects")  # fmt: skip


if __name__ == "__main__":
    main()

"""Effect of neighbours on PSF fluxes: stars of a field with eight times the usual number, by the nearest other object.

`python -m benchmarks.measurement.neighbours [--times 8] [--seed 5]`
"""

import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
from astropy.coordinates import SkyCoord

from benchmarks.catalogues.objects_accuracy import objects_of, spread
from benchmarks.support.command_line import command_line
from flows.simulation.night import OBJECTS, SimulatedNight, simulate_night
from flows.simulation.presets import find_preset

SHAPE = (1000, 1000)
NEAR = 1.0  # arcsec
APART = (0.0, 1.0, 2.0, 3.0, 6.0, 99.0)  # FWHM of the r image


def simulate(folder, times, seed):
    """Write a night of three bands with ``times`` times the stars."""
    preset = find_preset("ztf", None, SHAPE, ("g", "r", "i"))
    crowd = replace(preset, stars=(preset.stars[0] * times, preset.stars[1] * times))
    simulate_night(SimulatedNight(crowd, seed, visits=3, detectors=1, folder=folder), 1)


def main():
    """Print medians and spreads of magnitude and pull by the distance of the nearest object."""
    chosen = command_line(__doc__, times=8.0, seed=5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate(folder, chosen.times, chosen.seed)
        objects, truth = objects_of(folder), pq.read_table(folder / OBJECTS).to_pandas()
    ours, theirs = (SkyCoord(one["ra"], one["dec"], unit="deg") for one in (objects, truth))
    index, offset, _ = ours.match_to_catalog_sky(theirs)
    _, nearest, _ = ours.match_to_catalog_sky(ours, nthneighbor=2)
    true = truth.iloc[index].reset_index(drop=True)
    star = (true["kind"] == "star") & (offset.arcsec < NEAR) & (true["r_mag"] > 15)
    flux = 10 ** (-0.4 * (true["r_mag"] - 31.4))
    print("| nearest object, FWHM away | stars | `r_psfMag` less true | pull of `r_psfFlux` |\n|---|---|---|---|")
    for low, high in pairwise(APART):
        fwhm = nearest.arcsec / objects["r_fwhm"]
        rows = star & (fwhm > low) & (fwhm <= high)
        off = spread((objects["r_psfMag"] - true["r_mag"])[rows])
        pull = spread(((objects["r_psfFlux"] - flux) / objects["r_psfFluxErr"])[rows])
        cells = (f"{one['median']:.3f} ± {one['sigma']:.3f}" for one in (off, pull))
        print(f"| {low:g} to {high:g} | {off['n']} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

"""Accuracy of objects against the truth of a night simulated in several bands.

`nightstride simulate --preset ztf --subtract none --bands g,r,i --visits 4 --seed 5 --size 1000 1000 --out NIGHT`
`python -m benchmarks.catalogues.objects_accuracy NIGHT`
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.coordinates import SkyCoord

from flows.inputs.ingest import prepare
from flows.inputs.sources import list_sources
from flows.simulation.night import OBJECTS
from schemas.settings import Settings
from schemas.stage import Context
from stages import find_sources, gather_objects
from tests.support.science_night import FakeNight

NEAR = 1.5  # arcsec


def objects_of(folder):
    """Return the objects of a night of FITS files, by the stages themselves."""
    settings = Settings()
    prepared = [prepare(source, settings) for source in list_sources([str(folder)], settings)]
    found = [
        find_sources.STAGE(planes, Context(info, settings=settings.find_sources)).rows for info, planes in prepared
    ]
    night = FakeNight({info.visit: planes for info, planes in prepared}, [info for info, _ in prepared])
    context = Context(settings=settings.gather_objects, pixels=night)
    return gather_objects.STAGE({"source": pa.concat_tables(found)}, context).rows.to_pandas()


def spread(values):
    """Return the median and 1.4826 times the median absolute deviation, without NaN."""
    values = np.asarray(values)[np.isfinite(values)]
    centre = np.median(values)
    return {
        "n": len(values),
        "median": round(float(centre), 3),
        "sigma": round(1.4826 * float(np.median(abs(values - centre))), 3),
    }


def accuracy(objects, truth):
    """Return completeness by kind and magnitude, and magnitudes, pulls and positions of objects without flags."""
    ours, theirs = (SkyCoord(one["ra"], one["dec"], unit="deg") for one in (objects, truth))
    index, offset, _ = ours.match_to_catalog_sky(theirs)
    _, missed, _ = theirs.match_to_catalog_sky(ours)
    found = {}
    for kind in ("star", "galaxy"):
        for low in (15, 17, 18, 19):
            among = (truth["kind"] == kind) & truth["r_mag"].between(low, low + (2 if low == 15 else 1))
            found[f"{kind}, r {low} to {low + (2 if low == 15 else 1)}"] = {
                "n": int(among.sum()), "completeness": round(float((missed.arcsec[among] < NEAR).mean()), 2),
            }  # fmt: skip
    clean = (offset.arcsec < NEAR) & (objects["flags"] == 0)
    mine, true = objects[clean].reset_index(drop=True), truth.iloc[index[clean]].reset_index(drop=True)
    star, weak = true["kind"] == "star", true["r_mag"] > 18.5
    bright = star & true["r_mag"].between(14.5, 17.5)
    flux = 10 ** (-0.4 * (true["r_mag"] - 31.4))
    away = offset.arcsec[clean]
    faint, strong = star & (mine["snr"] < 15), star & (mine["snr"] > 50)
    pull = away[faint] / np.sqrt(2) / mine["posErr"][faint]
    colour = mine["gMinusR"] - true["g_mag"] + true["r_mag"]
    return {
        "objects": len(objects), "matched": int((offset.arcsec < NEAR).sum()), "completeness": found,
        "stars, r_psfMag less true": spread((mine["r_psfMag"] - true["r_mag"])[bright]),
        "stars, r_apMag less true": spread((mine["r_apMag"] - true["r_mag"])[bright]),
        "faint stars, r_psfFlux pull": spread(((mine["r_psfFlux"] - flux) / mine["r_psfFluxErr"])[star & weak]),
        "stars, gMinusR less true": spread(colour[bright]),
        "position, rms over posErr, S/N < 15": round(float(np.sqrt(np.mean(pull**2))), 2),
        "position, median arcsec, S/N > 50": round(float(np.median(away[strong])), 3),
        "half-light radius, arcsec, stars": spread(mine["halfLightRadius"][star]),
        "half-light radius, arcsec, galaxies": spread(mine["halfLightRadius"][~star]),
    }  # fmt: skip


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    truth = pq.read_table(folder / OBJECTS).to_pandas()
    print(json.dumps(accuracy(objects_of(folder), truth), indent=1))

"""How many objects of a simulated night are told right as star or galaxy, and what they are called beyond that.

`nightstride simulate --preset ztf --bands g,r,i,z --visits 4 --seed 5 --size 1000 1000 --out NIGHT/raw`
`nightstride run NIGHT/raw --out NIGHT/out`
`python -m benchmarks.object_classes NIGHT`
"""

import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
from astropy.coordinates import SkyCoord

from flows.simulation.night import OBJECTS
from kernels.completeness import binomial_interval

NEAR = 1.0  # arcsec
EDGES = (12.0, 15.0, 17.0, 18.0, 19.0, 20.0)  # r magnitude


def matched(night):
    """Objects of the night with their verdicts and the kind and magnitude of what was put there."""
    (objects,) = (night / "out" / "catalogs" / "object").glob("night=*/object.parquet")
    table = pq.ParquetFile(objects).read().to_pandas()
    for stage in ("star_galaxy", "spectral_class"):
        (file,) = (night / "out" / "catalogs" / stage).glob(f"night=*/{stage}.parquet")
        labels = pq.ParquetFile(file).read(["objectId", "classLabel"]).to_pandas()
        table = table.merge(labels.rename(columns={"classLabel": stage}), on="objectId")
    truth = pq.read_table(night / "raw" / OBJECTS).to_pandas()
    ours, theirs = (SkyCoord(one["ra"], one["dec"], unit="deg") for one in (table, truth))
    index, offset, _ = ours.match_to_catalog_sky(theirs)
    table["kind"], table["magnitude"] = truth["kind"].to_numpy()[index], truth["r_mag"].to_numpy()[index]
    return table[offset.arcsec < NEAR]


def main(night):
    """Print verdicts by kind and magnitude."""
    table = matched(night)
    for kind in ("star", "galaxy"):
        for low, high in pairwise(EDGES):
            among = table[(table["kind"] == kind) & table["magnitude"].between(low, high)]
            judged = among[among["star_galaxy"] != "unknown"]
            right = int((judged["star_galaxy"] == kind).sum())
            interval = [round(edge, 3) for edge in binomial_interval(right, len(judged))]
            print(f"{kind}, r {low:g} to {high:g}: {len(among)}, {len(judged)} judged, {right} right {interval}")
        print(kind, dict(Counter(table["spectral_class"][table["kind"] == kind])))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

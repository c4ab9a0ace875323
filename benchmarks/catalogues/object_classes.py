"""Objects of simulated nights classified correctly as star or galaxy, and their further classes.

`nightstride simulate --preset ztf --subtract none --bands g,r,i --visits 4 --seed 5 --size 1000 1000 --out NIGHT/raw`
`NIGHTSTRIDE_SPECTRAL_CLASS__PHOTOMETRIC_SYSTEM=sdss nightstride run NIGHT/raw --out NIGHT/out`
`python -m benchmarks.catalogues.object_classes NIGHT ...`
"""

import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from astropy.coordinates import SkyCoord

from flows.simulation.night import OBJECTS
from flows.storage.catalog_store import CatalogStore
from kernels.statistics.class_scores import calibration_error
from kernels.statistics.completeness import binomial_interval
from schemas.class_table import SPECTRAL_CLASS, STAR_GALAXY
from schemas.objects import OBJECT

NEAR = 1.0  # arcsec
PURITIES = (("star", 12, 20), ("galaxy", 12, 20), ("galaxy", 12, 17), ("galaxy", 17, 20), ("quasar", 12, 20))
EDGES = (12.0, 15.0, 17.0, 18.0, 19.0, 20.0)  # r magnitude


def matched(night):
    """Return objects of the night with their verdicts and the kind and magnitude of what was put there."""
    store = CatalogStore(night / "out")
    (label,) = {path.name.partition("=")[2] for path in (night / "out" / "catalogs" / OBJECT.name).iterdir()}
    table = store.read_night(OBJECT, label).to_pandas()
    for dataset in (STAR_GALAXY, SPECTRAL_CLASS):
        stage = dataset.name
        columns = ["objectId", "classLabel", "pStar", "pGalaxy"]
        columns += ["pQuasar"] if stage == "spectral_class" else []
        verdicts = store.read_night(dataset, label, columns).to_pandas()
        named = {"classLabel": stage} | {name: f"{stage}_{name}" for name in columns[2:]}
        table = table.merge(verdicts.rename(columns=named), on="objectId")
    truth = pq.read_table(night / "raw" / OBJECTS).to_pandas()
    ours, theirs = (SkyCoord(one["ra"], one["dec"], unit="deg") for one in (table, truth))
    index, offset, _ = ours.match_to_catalog_sky(theirs)
    table["kind"], table["magnitude"] = truth["kind"].to_numpy()[index], truth["r_mag"].to_numpy()[index]
    return table[offset.arcsec < NEAR]


def _share(right, of):
    """Return a share and its 95 % interval in words."""
    return f"{right} of {of} {[round(edge, 3) for edge in binomial_interval(right, of)]}" if of else "none"


def print_superclass(table):
    """Print the classes by `spectral_class`, how often they are right, and the calibration of their probabilities."""
    for kind in ("star", "galaxy"):
        said = Counter(table["spectral_class"][table["kind"] == kind])
        print(f"superclass of {said.total()} of kind {kind}: {dict(said.most_common())}")
    for said, low, high in PURITIES:
        among = table[(table["spectral_class"] == said) & table["magnitude"].between(low, high)]
        print(f"purity of {said}, r {low} to {high}: {_share(int((among['kind'] == said).sum()), len(among))}")
    known = table[table["spectral_class"] != "unknown"]
    right = int((known["spectral_class"] == known["kind"]).sum())
    interval = [round(edge, 3) for edge in binomial_interval(right, len(known))]
    print(f"{len(known)} with a superclass, {right} right: {right / len(known):.3f} {interval}")
    shares = known[[f"spectral_class_p{name}" for name in ("Star", "Galaxy", "Quasar")]].to_numpy()
    truth = (known["kind"] == "galaxy").to_numpy(np.int64)
    print(f"calibration error {calibration_error(truth, shares):.3f}, mean probability {shares.max(1).mean():.3f}")


def main(nights):
    """Print verdicts by kind and magnitude."""
    table = pd.concat([matched(night) for night in nights])
    for kind in ("star", "galaxy"):
        for low, high in pairwise(EDGES):
            among = table[(table["kind"] == kind) & table["magnitude"].between(low, high)]
            judged = among[among["star_galaxy"] != "unknown"]
            right = int((judged["star_galaxy"] == kind).sum())
            interval = [round(edge, 3) for edge in binomial_interval(right, len(judged))]
            print(f"{kind}, r {low:g} to {high:g}: {len(among)}, {len(judged)} judged, {right} right {interval}")
    print_superclass(table)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])

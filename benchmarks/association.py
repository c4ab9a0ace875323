"""Association: how fast a match is, and whether a visit costs the same as the store grows.

`python -m benchmarks.association [--objects 1000000] [--visits 700] [--detections 100] [--nights 7] [--fields N]
[--folder DIR] [--store URL]`. The nights are put into the store itself, without catalogues: fields that are seen twice
a night, each with as many variable objects, of which a visit sees four of five, and false detections for the rest. The
objects are known, so that pure and whole ones can be counted.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from flows.storage.association_store import opened_association
from kernels.linking.association import Reach, match_places
from kernels.sky.positions import unit_vectors
from schemas.exposure import ExposureKey
from schemas.settings import AssociationSettings
from tests.support.association import detections

ERROR = 0.1 / 3600  # deg
FIELD = 0.86  # deg: a quadrant of ZTF


def matching(rng, count, seen=10_000):
    """Return the seconds in which some detections find theirs among many objects on 7 x 7 deg."""
    ra, dec = 150 + rng.uniform(0, 7, count), rng.uniform(0, 7, count)
    chosen = rng.choice(count, seen, replace=False)
    moved = unit_vectors(ra[chosen] + rng.normal(0, ERROR, seen), dec[chosen] + rng.normal(0, ERROR, seen))
    start = time.perf_counter()
    objects = unit_vectors(ra, dec)
    loading, start, busy = time.perf_counter() - start, time.perf_counter(), time.process_time()
    found = match_places(moved, np.full(seen, 0.1), objects, np.full(count, 0.1), Reach())
    matched, worked = time.perf_counter() - start, time.process_time() - busy
    right = int((found.which == chosen[found.rows]).sum())
    spent = {"directions_s": loading, "match_s": matched, "match_processor_s": worked}
    return {name: round(value, 2) for name, value in spent.items()} | {"right": f"{right} of {seen}"}


def fields(rng, count, objects):
    """Return the corners of fields that do not overlap, and the objects in each, as ra and dec, deg."""
    across = int(np.ceil(np.sqrt(count)))
    for n in range(count):
        ra, dec = 100 + (n % across) * 1.2, -20 + (n // across) * 1.2
        yield ra, dec, ra + rng.uniform(0, FIELD, objects), dec + rng.uniform(0, FIELD, objects)


def week(rng, folder, settings, visits, objects, nights, across):
    """Return the seconds of a visit in each night, and how the detections lie in objects."""
    places, truth = list(fields(rng, across or visits // 2, objects)), {}
    with opened_association(folder, settings, anew=True) as store:
        for night in range(nights):
            spent, working = [], 0.0
            for visit in range(visits):
                number = night * visits + visit
                ra0, dec0, ra, dec = places[visit % len(places)]
                seen = np.flatnonzero(rng.random(objects) < 0.8)
                false = objects - len(seen)
                where = [
                    np.concatenate(
                        [place[seen] + rng.normal(0, ERROR, len(seen)), corner + rng.uniform(0, FIELD, false)]
                    )
                    for place, corner in ((ra, ra0), (dec, dec0))
                ]
                found = detections(number, *where, mjd=61000 + night + visit / 2000)
                owners = [(visit % len(places), one) for one in seen.tolist()] + [None] * false
                truth |= dict(zip(found["diaSourceId"].to_pylist(), owners, strict=True))
                key = ExposureKey(night=f"202601{night + 1:02}", visit=number, detector=3)
                start, busy = time.perf_counter(), time.process_time()
                store.associate(key, "d", found, settings)
                spent.append(time.perf_counter() - start)
                working += time.process_time() - busy
            start = time.perf_counter()
            store.settle(key.night, "s")
            settled, start = time.perf_counter() - start, time.perf_counter()
            history = store.history(key.night)
            read = time.perf_counter() - start
            row = {
                "night": night + 1, "processor_ms": 1e3 * working / visits, "median_ms": 1e3 * np.median(spent),
                "p99_ms": 1e3 * np.percentile(spent, 99),
            }  # fmt: skip
            counts = dict(zip(("objects", "sources"), store.counts(), strict=True))
            rest = {"settle_s": round(settled, 2), "history_s": round(read, 2), "history": len(history)}
            print(json.dumps({name: round(value, 1) for name, value in row.items()} | counts | rest), flush=True)
        members = defaultdict(set)
        for source, identity in zip(
            *(history[name].to_pylist() for name in ("diaSourceId", "diaObjectId")), strict=True
        ):
            members[truth[source]].add(identity)
    real = {one: ids for one, ids in members.items() if one is not None}
    whole = sum(len(ids) == 1 for ids in real.values())
    owned = defaultdict(set)
    for one, ids in real.items():
        for identity in ids:
            owned[identity].add(one)
    pure = sum(len(ones) == 1 for ones in owned.values())
    return {"whole": f"{whole} of {len(real)} objects", "pure": f"{pure} of {len(owned)} ids"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--visits", type=int, default=700)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--nights", type=int, default=7)
    parser.add_argument("--fields", type=int, help="default: half as many as visits")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--store", default="auto")
    given = parser.parse_args()
    rng = np.random.default_rng(1)
    print(json.dumps(matching(rng, given.objects)))
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        settings = AssociationSettings(store=given.store)
        print(json.dumps(week(rng, Path(folder), settings, given.visits, given.detections, given.nights, given.fields)))
        sizes = [path.stat().st_size for path in Path(folder).glob("*.sqlite")]
        print(json.dumps({"MB": [round(size / 1e6, 1) for size in sizes]}))

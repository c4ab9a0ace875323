"""Association: how fast a match is, what a visit costs as the store grows, and whether stars keep their ids.

`python -m benchmarks.motion.association [--objects 1000000] [--visits 700] [--detections 100] [--nights 7] [--fields N]
[--folder DIR] [--store URL]`. The nights are put into the store itself, without catalogues: fields that are seen twice
a night, each with as many variable objects, of which a visit sees four of five, and false detections for the rest. The
objects are known, so that pure and whole ones can be counted.

`python -m benchmarks.motion.association --stars [--detections 400] [--years 3] [--seed 1]`: as many stars with proper
motions of 0.05 to 10 arcsec / yr as objects at rest, seen every three days in seasons of 200 days, four times of five,
among false detections: how many keep one id, and what the catalogue says of their motions.

`python -m benchmarks.motion.association --static [--objects 192000] [--nights 5]`: objects of the science images, 3,000
in a quadrant of ZTF, associated night by night, and their histories read patch by patch.
"""

import json
import tempfile
import time
from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from benchmarks.support.command_line import command_line
from flows.storage.association_store import opened_association
from flows.storage.association_tables import SOURCE
from flows.storage.static_links import PatchObjects
from flows.storage.static_objects import StaticObjects
from kernels.linking.association import Reach, match_places
from kernels.sky.patches import Patch, pixels_at
from kernels.sky.positions import along_great_circle, sky_position, unit_vectors
from schemas.dia_object import ASSOCIATION
from schemas.exposure import ExposureKey
from schemas.objects import OBJECT
from schemas.patch import PatchKey
from schemas.settings import AssociationSettings, PatchesSettings
from schemas.stage import Context
from stages.gather_dia_objects import STAGE
from tests.support.association import detections
from tests.support.static import objects as static_objects

ERROR = 0.1 / 3600  # deg
FIELD = 0.86  # deg: a quadrant of ZTF
PATCH = PatchesSettings().order


def matching(rng, count, seen=10_000):
    """Return the seconds in which some detections find theirs among many objects on 7 x 7 deg."""
    ra, dec = 150 + rng.uniform(0, 7, count), rng.uniform(0, 7, count)
    chosen = rng.choice(count, seen, replace=False)
    moved = unit_vectors(ra[chosen] + rng.normal(0, ERROR, seen), dec[chosen] + rng.normal(0, ERROR, seen))
    start = time.perf_counter()
    objects = unit_vectors(ra, dec)
    loading, start, busy = time.perf_counter() - start, time.perf_counter(), time.process_time()
    found = match_places(moved, np.full(seen, 0.1), objects, np.full(count, 0.1), np.ones(count, np.int64), Reach())
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
    with opened_association(folder, settings, rebuild=True) as store:
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
            rest |= by_patches(store, key.night, history)
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


def by_patches(store, night, history):
    """Return how long reading a night takes patch by patch, how many there are, and the most that is read at a time."""
    ra, dec = sky_position(np.stack([history[axis].to_numpy() for axis in "xyz"], axis=1))
    pixels, margin = np.unique(pixels_at(ra, dec, PatchesSettings().order)), PatchesSettings().margin_arcsec
    start = time.perf_counter()
    rows = [len(store.history(night, Patch(PatchesSettings().order, pixel, margin))) for pixel in pixels.tolist()]
    took = time.perf_counter() - start
    return {"patches_s": round(took, 2), "patches": len(rows), "of_patches": sum(rows), "at_most": max(rows)}


def star_field(rng, objects):
    """Return ra and dec, deg, of stars and then of objects at rest, and their motions, arcsec / yr, and directions."""
    ra, dec = 150 + rng.uniform(0, FIELD, 2 * objects), rng.uniform(0, FIELD, 2 * objects)
    speed = np.concatenate([10 ** rng.uniform(np.log10(0.05), 1, objects), np.zeros(objects)])
    return ra, dec, speed, rng.uniform(0, 360, 2 * objects)


def observed(rng, place, day, false):
    """Return rows of detections of a day, as ra and dec, and which of the field each is of; -1: a false one.

    Errors are those that the association assumes: 0.1 arcsec that are stated, and 0.05 that are not.
    """
    ra, dec, speed, angle = place
    seen = np.flatnonzero(rng.random(len(ra)) < 0.8)
    lon, lat, _ = along_great_circle(ra[seen], dec[seen], angle[seen], speed[seen] * day / 365.25 / 3600)
    noise = rng.normal(0, np.hypot(ERROR, 0.05 / 3600), (2, len(seen)))
    anywhere = 150 + rng.uniform(0, FIELD, false), rng.uniform(0, FIELD, false)
    found = lon + noise[0] / np.cos(np.radians(lat)), lat + noise[1]
    which = np.concatenate([seen, np.full(false, -1)])
    return *(np.concatenate(both) for both in zip(found, anywhere, strict=True)), which


def stars(rng, folder, settings, objects, years):
    """Print, by their motion, which stars have one id; then what the catalogue has of their motions."""
    place, owner, spent = star_field(rng, objects), {}, 0.0
    days = np.cumsum(rng.uniform(1.5, 4.5, int(years * 365.25 / 3)))
    with opened_association(folder, settings, rebuild=True) as store:
        for visit, day in enumerate(days[days % 365.25 < 200]):
            ra, dec, which = observed(rng, place, day, objects // 4)
            found = detections(visit, ra, dec, mjd=60000 + day)
            owner |= dict(zip(found["diaSourceId"].to_pylist(), which.tolist(), strict=True))
            night = (date(2023, 2, 25) + timedelta(day)).strftime("%Y%m%d")
            busy = time.process_time()
            store.associate(ExposureKey(night=night, visit=visit, detector=3), "d", found, settings)
            spent += time.process_time() - busy
        names = [one.name for one in ASSOCIATION.schema]
        rows = store.rows(sa.select(*(SOURCE.c[name] for name in names)))
    links = pa.Table.from_pylist([dict(row._mapping) for row in rows], schema=ASSOCIATION.schema)
    told(links, np.array([owner[one] for one in links["diaSourceId"].to_pylist()]), place)
    print(json.dumps({"visits": visit + 1, "detections": len(links), "processor_ms": round(1e3 * spent / (visit + 1))}))


def told(links, owner, place):
    """Print what came of stars and of objects at rest."""
    table = STAGE({ASSOCIATION.name: links}, Context()).rows
    row_of = {identity: n for n, identity in enumerate(table["diaObjectId"].to_pylist())}
    columns = {name: table[name].to_numpy() for name in ("pmRa", "pmRaErr", "pmDec", "pmDecErr")}
    speed, angle = place[2], np.radians(place[3])
    ids, pulls, significant = links["diaObjectId"].to_numpy(), np.full((len(speed), 2), np.nan), np.zeros(len(speed))
    one_id, main = np.zeros(len(speed), bool), np.zeros(len(speed))
    for star in range(len(speed)):
        own, count = np.unique(ids[owner == star], return_counts=True)
        one_id[star], main[star] = len(own) == 1, count.max() / count.sum()
        east, east_error, north, north_error = (values[row_of[own[count.argmax()]]] for values in columns.values())
        true = 1e3 * speed[star] * np.sin(angle[star]), 1e3 * speed[star] * np.cos(angle[star])
        pulls[star] = (east - true[0]) / east_error, (north - true[1]) / north_error
        significant[star] = np.hypot(east, north) / np.hypot(east_error, north_error) * 2**0.5
    for low, high in ((0.05, 0.2), (0.2, 1), (1, 3), (3, 10), (0, 0)):
        some = (speed >= low) & (speed < high) if high else speed == 0
        report = {
            "arcsec_yr": [low, high], "objects": int(some.sum()), "one_id": int(one_id[some].sum()),
            "in_main_id": round(float(main[some].mean()), 4), "above_5_sigma": int((significant[some] > 5).sum()),
        }  # fmt: skip
        kept = pulls[some & one_id]
        spread = {"pull_mean": kept.mean(axis=0), "pull_sigma": kept.std(axis=0)}
        print(json.dumps(report | {name: np.round(value, 2).tolist() for name, value in spread.items()}))


def lasting(rng, folder, settings, objects, nights):
    """Print what a night of objects of the science images costs, and how many keep their ids."""
    side = np.sqrt(objects / 3000) * FIELD
    ra, dec = 150 + rng.uniform(0, side, objects), rng.uniform(0, side, objects)
    with opened_association(folder, settings, rebuild=True) as store:
        for night in range(nights):
            label = f"202601{night + 1:02}"
            seen = [place + rng.normal(0, ERROR, objects) for place in (ra, dec)]
            tables, pixels = static_objects(*seen, r_psfFlux=1e4, r_psfFluxErr=1e2), pixels_at(seen[0], seen[1], PATCH)
            owner = pixels_at(tables["ra"].to_numpy(), tables["dec"].to_numpy(), PATCH)
            patches = [PatchObjects(tables.filter(pa.array(owner == one)), OBJECT.empty()) for one in np.unique(pixels)]
            start, busy = time.perf_counter(), time.process_time()
            known, new = StaticObjects(store).associate(label, "d", patches, settings)
            spent, worked = time.perf_counter() - start, time.process_time() - busy
            start, most = time.perf_counter(), 0
            for one in np.unique(pixels):
                most = max(most, len(StaticObjects(store).history(PatchKey(night=label, order=PATCH, pixel=int(one)))))
            row = {
                "associate_s": spent,
                "processor_us": 1e6 * worked / objects,
                "history_s": time.perf_counter() - start,
            }
            counts = {"patches": len(patches), "most_rows": most, "known": known, "new": new}
            sizes = {"MB": sum(path.stat().st_size for path in folder.glob("*.sqlite")) / 1e6}
            print(
                json.dumps({"night": night + 1, **{n: round(v, 1) for n, v in (row | sizes).items()}, **counts}),
                flush=True,
            )


if __name__ == "__main__":
    given = command_line(
        __doc__, objects=int, visits=700, detections=int, nights=int, fields=(int, "default: half as many as visits"),
        folder=Path, store="auto", stars=False, static=False, years=3.0, seed=1,
    )  # fmt: skip
    rng = np.random.default_rng(given.seed)
    if given.stars:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            stars(rng, Path(folder), AssociationSettings(store=given.store), given.detections or 400, given.years)
        raise SystemExit
    if given.static:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            settings = AssociationSettings(store=given.store)
            lasting(rng, Path(folder), settings, given.objects or 192_000, given.nights or 5)
        raise SystemExit
    given.detections, given.nights = given.detections or 100, given.nights or 7
    print(json.dumps(matching(rng, given.objects or 1_000_000)))
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        settings = AssociationSettings(store=given.store)
        print(json.dumps(week(rng, Path(folder), settings, given.visits, given.detections, given.nights, given.fields)))
        sizes = [path.stat().st_size for path in Path(folder).glob("*.sqlite")]
        print(json.dumps({"MB": [round(size / 1e6, 1) for size in sizes]}))

"""A night of `dia_source` with movers, stars that are seen again, and false detections."""

import astropy.units as u
import numpy as np
import pyarrow as pa
from astropy.coordinates import SkyCoord

from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE, exposure_of
from schemas.ledger import NightRecord
from schemas.settings import LinkTrackletsSettings
from schemas.stage import Context
from schemas.tracklets import TRACKLET, TRACKLET_SOURCE
from stages.fit_tracklets import STAGE as FIT
from stages.link_tracklets import STAGE as LINK

MJD, STEP = 60000.2, 0.5 / 24  # d: first visit, and from one to the next
EXPOSURE, ERROR = 30.0, 0.1  # s, arcsec


def source_id(visit, detector, rank):
    return visit << 21 | detector << 12 | rank


def source_table(rows):
    """Rows of `DIA_SOURCE` with little in them but what is given; the exposure follows from the id."""
    columns = {}
    rows = [
        dict(zip(("visit", "detector"), exposure_of(row["diaSourceId"]), strict=True)) | {"trailClass": ""} | row
        for row in rows
    ]
    for field in DIA_SOURCE.schema:
        default = "" if pa.types.is_string(field.type) else None if field.nullable else 0
        columns[field.name] = pa.array([row.get(field.name, default) for row in rows], field.type)
    return pa.table(columns, schema=DIA_SOURCE.schema)


def place(ra, dec, visit, **changes):
    """Row without an id of a detection on visit 0, 1, ..."""
    known = {"ra": ra, "dec": dec, "raErr": ERROR / 3600, "decErr": ERROR / 3600, "trailLength": 0.2}
    known |= {"midpointMjdTai": MJD + STEP * visit, "exposureTime": EXPOSURE, "magAB": 20.0, "reliability": 0.9}
    return known | changes


def mover(ra, dec, rate, angle, visits, **changes):
    """Rows of what moves on a great circle, by astropy; deg / day and deg."""
    start = SkyCoord(ra * u.deg, dec * u.deg)
    found = []
    for visit in visits:
        now = start.directional_offset_by(angle * u.deg, rate * STEP * visit * u.deg)
        trail = {"trailLength": rate / 24 * EXPOSURE, "trailAngle": angle % 180}
        found.append(place(float(now.ra.deg), float(now.dec.deg), visit, **(trail | changes)))
    return found


def numbered(groups, visits=3, first=100):
    """All rows with ids, by visit, and the ids of each group by time; visits are numbered from ``first``."""
    rows, ids = [], [[] for _ in groups]
    for visit in range(visits):
        here = [
            (n, row) for n, group in enumerate(groups) for row in group if row["midpointMjdTai"] == MJD + STEP * visit
        ]
        for rank, (n, row) in enumerate(here):
            one = source_id(first + visit, 5, rank)
            rows.append({"diaSourceId": one} | row)
            ids[n].append(one)
    return rows, ids


def false_detections(count, visits=3, seed=1):
    """As many groups of one detection each on each visit, anywhere in 4 deg2."""
    rng = np.random.default_rng(seed)
    where = rng.uniform(-1, 1, (visits, count, 2))
    return [[place(150 + ra, dec, visit)] for visit in range(visits) for ra, dec in where[visit]]


def linked(table, **settings):
    """Rows of `tracklet_source` and of `tracklet`."""
    links = LINK({"dia_source": table}, Context(settings=LinkTrackletsSettings(**settings))).rows
    return links, FIT({"dia_source": table, "tracklet_source": links}, Context()).rows


def publish_linked(out, false=2):
    """Publish a night of three visits with a star at rest, two movers and false detections; ids of each, by visit."""
    from tests.flows.results.page.conftest import NIGHT, make_info, make_rows, publish

    star = [place(150.01, 20.02, visit) for visit in range(3)]
    groups = [star, mover(150.0, 20.0, 0.5, 40.0, range(3)), mover(150.03, 20.01, 1.5, 200.0, range(3))]
    rows, ids = numbered([*groups, *false_detections(false)])
    known = {}
    for visit in range(3):
        here = [row for row in rows if exposure_of(row["diaSourceId"])[0] == 100 + visit]
        info = make_info(visit=100 + visit, detector=5, midpoint_mjd_tai=MJD + STEP * visit)
        made = [base | row for base, row in zip(make_rows(info, len(here), visit), here, strict=True)]
        publish(out, info, made, visit)
        known |= {row["diaSourceId"]: row for row in made}
    table = pa.Table.from_pylist(list(known.values()), schema=DIA_SOURCE.schema)
    store = CatalogStore(out)
    datasets = {}
    for dataset, found in zip((TRACKLET_SOURCE, TRACKLET), linked(table), strict=True):
        datasets[dataset.name] = store.record(store.publish(dataset, NIGHT, found, "d" * 64))
    Ledger(out).put_night(
        NightRecord(night=NIGHT, datasets=datasets, exposures=3, software="0", finished_at="2026-11-04T04:00:00+00:00")
    )
    return ids

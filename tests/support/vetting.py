"""An output folder to look through: three visits of one place with all planes, movers, known objects and hosts."""

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import numpy as np
from astropy.io.fits import Header
from astropy.wcs import WCS

from flows.storage.association_store import off_because, opened_association
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import write_exposure
from flows.vetting.app import make_app
from flows.vetting.guard import Doors, doors
from flows.vetting.server import Workplace, listen, make_server
from kernels.sky.patches import cover
from schemas.dataset import TableOf
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureKey
from schemas.known_object import SS_EPHEMERIS, SS_SOURCE
from schemas.ledger import ExposureRecord
from schemas.objects import DIA_LINK, OBJECT
from schemas.settings import AssociationSettings, TileSettings
from schemas.tracklets import TRACKLET, TRACKLET_SOURCE
from tests.flows.results.page.conftest import NIGHT, make_info, make_pixels, make_rows, paint
from tests.support.filled import filled_rows
from tests.support.wait import until

SHAPE = (420, 380)
VISITS = (101, 102, 103)
EACH = 12
BAND = 'r<b>"&'
"""Text from a header may be anything; this one tries to get out of its element."""

TOKEN = "a-token-of-the-tests-and-long-enough"
KNOWN = "(99942) Apophis"


def filled(dataset: TableOf, rows):
    """Rows of a dataset; what is not given is blank."""
    return filled_rows(dataset.schema, rows)


def build(out: Path) -> Path:
    """Publish the night into a folder; return it."""
    rows = {visit: _exposure(out, visit) for visit in VISITS}
    movers = [rows[visit][0] for visit in VISITS]
    _motion(out, movers, [one for visit in VISITS for one in rows[visit]])
    _objects(out, [one for visit in VISITS for one in rows[visit]])
    if off_because(out, AssociationSettings()) is not None:
        return out
    with opened_association(out, AssociationSettings()) as store:
        for visit in VISITS:
            table = filled(DIA_SOURCE, rows[visit][1:2])
            store.associate(ExposureKey(night=NIGHT, visit=visit, detector=3), "d", table, AssociationSettings())
    return out


def _exposure(out, visit):
    info = make_info(SHAPE, visit=visit, band=BAND if visit == 101 else "r", planes=("science", "template"))
    wcs = WCS(Header.fromstring(info.wcs_header, sep="\n"))
    rows = make_rows(info, EACH, 7)  # the same places on each visit
    for rank, row in enumerate(rows):
        row |= {"flags": 0, "reliability": 0.2 + 0.06 * rank, "pTrail": 0.6, "pPoint": 0.2, "pSatellite": 0.05}
        row |= {"pArtefact": 0.15, "psfFlux": 1500.0 + 10 * visit, "psfFluxErr": 60.0}
        row |= {"raErr": 2e-5, "decErr": 2e-5, "ra_dec_Cov": 0.0, "trailLength": row["trailLengthPx"]}
    rows[0] |= {"x": 80.0 + 12 * (visit - 101), "y": 200.0, "trailLengthPx": 9.0, "trailAnglePx": 0.0, "snr": 25.0}
    rows[0] |= {"trailFlux": 2500.0, "trailFluxErr": 100.0}
    rows[0] |= {"trailLength": 9.0, "trailLengthErr": 0.4, "trailAngle": 90.0, "reliability": 0.97}
    rows[1] |= {"x": 250.0, "y": 300.0, "trailLengthPx": 0.0, "trailLength": 0.0, "snr": 40.0}
    for row in rows:
        sky = wcs.pixel_to_world(row["x"], row["y"])
        row |= {"ra": float(sky.ra.deg), "dec": float(sky.dec.deg)}
    image, mask = make_pixels(SHAPE, visit)
    paint(image, rows)
    science = (np.nan_to_num(image) + 900 + np.random.default_rng(1).normal(0, 3, SHAPE)).astype(np.float32)
    template = np.random.default_rng(2).normal(900, 12, SHAPE).astype(np.float32)
    key = ExposureKey(night=NIGHT, visit=visit, detector=3)
    planes = {"difference": image, "mask": mask, "science": science, "template": template}
    write_exposure(tile_path(out, key), info, planes, TileSettings(tile=112, chunk=28), "d" * 64)
    store, first = CatalogStore(out), rows[0]
    known = {"designation": KNOWN, "ephRa": first["ra"] + 1e-4, "ephDec": first["dec"], "ephRate": 0.4, "ephVmag": 18.2}
    tables = {
        DIA_SOURCE: filled(DIA_SOURCE, rows),
        SS_EPHEMERIS: filled(SS_EPHEMERIS, [known | {"visit": visit, "detector": 3}]),
        SS_SOURCE: filled(SS_SOURCE, [known | {"diaSourceId": rows[3]["diaSourceId"]}] if visit == 102 else []),
    }
    datasets = {one.name: store.record(store.publish(one, key, table, "e" * 64)) for one, table in tables.items()}
    Ledger(out).put(ExposureRecord(
        **key.model_dump(), source_uri=f"file:///data/<script>alert({visit})</script>.fits", source_sha256="0" * 64,
        digest="e" * 64, datasets=datasets, detections=EACH, sky=cover(info.wcs_header, SHAPE), software="0.1.0",
        finished_at="2026-11-04T03:12:00+00:00",
    ))  # fmt: skip
    return rows


def _motion(out, movers, every):
    tracklet, linked = movers[0]["diaSourceId"], {one["diaSourceId"] for one in movers}
    sources = [
        {"diaSourceId": one["diaSourceId"], "stationary": one["diaSourceId"] & 4095 == 1}
        | ({"trackletId": tracklet} if one["diaSourceId"] in linked else {})
        for one in every
    ]
    row = {"trackletId": tracklet, "nSources": 3, "nVisits": 3, "firstMjdTai": movers[0]["midpointMjdTai"]}
    row |= {"midpointMjdTai": movers[1]["midpointMjdTai"]}
    row |= {"lastMjdTai": movers[2]["midpointMjdTai"], "rate": 3.3, "positionAngle": 270.0, "arc": 24.0, "chance": 1e-4}
    row |= {
        "ra": movers[1]["ra"],
        "dec": movers[1]["dec"],
        "rms": 0.1,
        "rateErr": 0.01,
        "positionAngleErr": 0.3,
        "reliabilityMean": 0.2,
        "magAB": 19.5,
    }
    store = CatalogStore(out)
    store.publish(TRACKLET_SOURCE, NIGHT, filled(TRACKLET_SOURCE, sources), "f" * 64)
    store.publish(TRACKLET, NIGHT, filled(TRACKLET, [row]), "f" * 64)


def _objects(out, every):
    one = next(row for row in every if row["diaSourceId"] & 4095 == 2)
    store = CatalogStore(out)
    found = {"objectId": 77, "ra": one["ra"], "dec": one["dec"], "refBand": "r", "snr": 55.0, "halfLightRadius": 1.7}
    store.publish(OBJECT, NIGHT, filled(OBJECT, [found]), "f" * 64)
    links = [
        {"diaSourceId": row["diaSourceId"]}
        | ({"objectId": 77, "separation": 0.4} if row["diaSourceId"] & 4095 == 2 else {})
        | ({"hostObjectId": 77, "hostSeparation": 9.4, "hostDlr": 2.5} if row["diaSourceId"] & 4095 == 1 else {})
        for row in every
    ]
    store.publish(DIA_LINK, NIGHT, filled(DIA_LINK, links), "f" * 64)


def source_id(visit, rank):
    """Id of a detection of the night."""
    return visit << 21 | 3 << 12 | rank


DOORS = doors("127.0.0.1", 8462, (), {"NIGHTSTRIDE_VET_TOKEN": TOKEN})
"""Its secrets are those of every port."""


@dataclass(frozen=True)
class Served:
    """A server that runs in a thread of this process, and who is let in."""

    place: Workplace
    doors: Doors

    @property
    def address(self):
        return f"http://127.0.0.1:{self.doors.port}"


@contextmanager
def serving(place):
    """Serve an output folder on any free port, as the command does."""
    with listen("127.0.0.1", 0) as listening:
        let_in = doors("127.0.0.1", listening.getsockname()[1], (), {"NIGHTSTRIDE_VET_TOKEN": TOKEN})
        server = make_server(make_app(place, let_in), let_in)
        thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        until(lambda: server.started, 60)
        try:
            yield Served(place, let_in)
        finally:
            server.should_exit = True
            thread.join(10)

"""Published exposures around a corner of large pixels of the sky, with sources on the borders of small ones."""

import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
from astropy import units
from astropy.wcs import WCS
from astropy_healpix import HEALPix

from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import write_exposure
from kernels.sky.patches import cover
from schemas.dataset import TableOf, column
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord
from schemas.objects import SOURCE
from schemas.settings import FindSourcesSettings, TileSettings
from schemas.stage import Context, Stage
from stages import PIPELINE as ALL
from stages.find_sources import STAGE as FIND_SOURCES
from stages.link_hosts import STAGE as LINK_HOSTS
from tests.support.cards import as_text, gnomonic
from tests.support.filled import filled
from tests.support.science_night import SHAPE, cards_of, exposure, science

NIGHT = "20260101"
SCALE = 4.0
"""arcsec / px: the images are 11 by 12 arcmin, an order 9 pixel 7 arcmin."""

CORNER = [float(one.deg[0, 0]) for one in HEALPix(2**5, "nested").boundaries_lonlat([1700], step=1)]
"""Where four pixels of order 5 meet, and so those of all higher orders."""

PIPELINE = tuple(stage for stage in ALL if stage.per != "night")


def header(rotation, shift):
    return as_text(gnomonic(CORNER, [90.5 + shift[0], 80.5 + shift[1]], SCALE, rotation))


INFOS = tuple(
    exposure(visit, band, wcs_header=header(rotation, shift))
    for visit, band, rotation, shift in (
        (1, "r", 0.0, (0.0, 0.0)), (2, "r", 30.0, (6.3, -4.1)), (3, "g", -10.0, (-25.0, 10.0)),
    )
)  # fmt: skip


def places(seed=5):
    """(ra, dec) of sources on a loose grid, and of some within 3 arcsec of the borders of pixels of order 9."""
    rng = np.random.default_rng(seed)
    wcs = WCS(cards_of(INFOS[0].wcs_header))
    x, y = np.meshgrid(np.arange(12.0, SHAPE[1] - 8, 24), np.arange(12.0, SHAPE[0] - 8, 24))
    grid = wcs.all_pix2world(x.ravel() + rng.uniform(-3, 3, x.size), y.ravel() + rng.uniform(-3, 3, x.size), 0)
    ra, dec = (np.array(one) for one in grid)
    fine = HEALPix(2**9, "nested")
    edge = np.concatenate([
        np.stack([one.deg[0] for one in fine.boundaries_lonlat([pixel], step=16)])
        for pixel in np.unique(fine.lonlat_to_healpix(ra * units.deg, dec * units.deg))
    ], axis=1)  # fmt: skip
    px, py = wcs.all_world2pix(edge[0], edge[1], 0)
    inside = (px > 8) & (px < SHAPE[1] - 8) & (py > 8) & (py < SHAPE[0] - 8)
    near = edge[:, inside][:, ::3] + rng.uniform(-3, 3, edge[:, inside][:, ::3].shape) / 3600
    both = np.concatenate([np.stack([ra, dec]), near], axis=1)
    return _apart(both, 40.0)


def _apart(both, arcsec):
    """Leave out what is nearer than ``arcsec`` to what comes before, those of the borders first."""
    kept = []
    for ra, dec in both.T[::-1]:
        if all(np.hypot((ra - a) * np.cos(np.radians(dec)), dec - d) * 3600 > arcsec for a, d in kept):
            kept.append((ra, dec))
    return np.array(kept)


def detections(info, where):
    """Rows of ``dia_source`` at some places."""
    ids = info.visit * 1000 + np.arange(len(where))
    return filled(DIA_SOURCE.schema, len(where), diaSourceId=ids, visit=info.visit, ra=where[:, 0], dec=where[:, 1])


def publish(out, info, where, flux=3e4, **changed):
    """Put an exposure of sources, and a detection 3 arcsec north of each, into an output folder."""
    planes = {"science": science(info, [(*one, flux, 0.0) for one in where], info.visit)}
    planes["mask"] = np.zeros(SHAPE, np.uint16)
    stage = FIND_SOURCES
    source = stage(planes, Context(info, settings=FindSourcesSettings())).rows
    planes["difference"] = np.zeros(SHAPE, np.float32)
    key = ExposureKey(night=info.night, visit=info.visit, detector=info.detector)
    write_exposure(tile_path(out, key), info, planes, TileSettings(tile=56, chunk=28), "d")
    store = CatalogStore(out)
    tables = {SOURCE: source, DIA_SOURCE: detections(info, where + np.array([0.0, 3.0 / 3600]))}
    digest = f"{info.visit} {flux}"
    datasets = {form.name: store.record(store.publish(form, key, rows, digest)) for form, rows in tables.items()}
    record = ExposureRecord(**{
        **key.model_dump(), "source_uri": str(info.visit), "source_sha256": info.source_sha256, "digest": digest,
        "datasets": datasets, "sky": cover(info.wcs_header, SHAPE), "software": "0",
        "finished_at": "now",
    } | changed)  # fmt: skip
    Ledger(out).put(record)


def without(pipeline, name):
    """A pipeline whose stage of a name is of another version."""
    return tuple(replace(stage, version="x") if stage.name == name else stage for stage in pipeline)


def deadly(inputs, context):
    """Kill the worker that has the corner's first pixel of order 7, as a lack of memory would."""
    if context.patch.holds(*np.array(CORNER)[:, None] + np.array([[0.002], [0.002]])).any():
        os._exit(1)
    return LINK_HOSTS.run(inputs, context)


TOLD = TableOf(
    "told", pa.schema([column(name, kind, "", name) for name, kind in (("process", pa.int64()), ("read", pa.string()))])
)


def tell(inputs, context):
    """Return the process that it is called in, and the columns that it is given."""
    names = inputs[DIA_SOURCE.name].schema.names
    return pa.table({"process": [os.getpid()] * len(names), "read": names}, schema=TOLD.schema)


TELLING = Stage("tell", "1", "night", (DIA_SOURCE,), TOLD, tell, columns={DIA_SOURCE.name: ("ra", "visit")})
"""Stage of a whole night."""

"""Output folders with published detections of objects at rest and of trails, their pixels and their association."""

import numpy as np

from flows.nights.association import associate
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import write_exposure
from kernels.psf.gaussian_mixture import brightness, moffat_mixture
from kernels.sky.projection import celestial_wcs
from schemas.dia_source import DIA_SOURCE
from schemas.known_object import SS_SOURCE
from schemas.settings import AssociationSettings, TileSettings
from tests.support.association import detections
from tests.support.forced import MJD, NOISE, plain_info, record_of

NIGHT = "20260101"
FLUX = 400.0
"""Of each point, pixel units."""


def places(count, shape, seed=5):
    """Pixels (x, y) of objects: the first two at corners, where cutouts reach beyond the image."""
    rng = np.random.default_rng(seed)
    ny, nx = shape
    x, y = rng.uniform(40, nx - 40, count), rng.uniform(40, ny - 40, count)
    x[:2], y[:2] = (3.2, nx - 2.4)[: len(x[:2])], (4.7, ny - 3.1)[: len(y[:2])]
    order = np.lexsort((x, y))
    return x[order], y[order]


def visit_of(n):
    return 100 + n


def exposure_planes(info, x, y, seed, sky=150.0):
    """Noise with a point of `FLUX` at each place, the sky and the same points in science and template."""
    rng = np.random.default_rng(seed)
    noise = [rng.normal(0, NOISE, info.shape).astype(np.float32) for _ in range(3)]
    light, psf = np.zeros(info.shape, np.float32), moffat_mixture(info.psf.fwhm_px, info.psf.beta)
    norm = brightness(psf, np.add.outer(np.arange(-30, 31.0) ** 2, np.arange(-30, 31.0) ** 2)).sum()
    for column, row in zip(x, y, strict=True):
        y0, x0 = max(round(row) - 12, 0), max(round(column) - 12, 0)
        part = light[y0 : round(row) + 13, x0 : round(column) + 13]
        yy, xx = np.indices(part.shape)
        part += FLUX / norm * brightness(psf, (yy + y0 - row) ** 2 + (xx + x0 - column) ** 2)
    planes = {
        "difference": noise[0] + light,
        "mask": np.zeros(info.shape, np.uint16),
        "variance": np.full(info.shape, NOISE**2, np.float32),
        "science": noise[1] + 2 * light + np.float32(sky),
        "template": noise[2] + light + np.float32(sky),
    }
    return {name: plane for name, plane in planes.items() if name in ("difference", "mask", *info.planes)}


def rows_of(info, x, y, **columns):
    """Detections at pixels of an exposure, measured as points of `FLUX` unless columns say otherwise."""
    count = len(x)
    scale = 10 ** ((31.4 - info.zero_point) / 2.5) if info.zero_point is not None else np.nan
    ra, dec = celestial_wcs(info.wcs_header).all_pix2world(x, y, 0)
    given = {
        "x": x, "y": y, "xErr": np.full(count, 0.1), "yErr": np.full(count, 0.1), "snr": np.full(count, 20.0),
        "exposureTime": np.full(count, info.exposure_time_s), "psfFlux": np.full(count, scale * FLUX),
        "psfFluxErr": np.full(count, scale * 20.0), "psfChi2": np.full(count, 101.5), "trailNdata": np.full(count, 97),
        "apFlux": np.full(count, scale * FLUX), "apFluxErr": np.full(count, scale * 25.0), "trailRa": ra,
        "trailDec": dec, "trailAngle": np.full(count, 30.0), "trailLengthPx": np.zeros(count),
        "reliability": np.linspace(0.6, 0.9, count), "reliabilityVersion": ["2"] * count,
        "bboxSize": np.full(count, 9), "band": [info.band] * count, "trailClass": [""] * count,
    }  # fmt: skip
    ra, dec = columns.pop("ra", ra), columns.pop("dec", dec)
    return detections(info.visit, ra, dec, mjd=info.midpoint_mjd_tai, detector=info.detector, **(given | columns))


def put(out, info, rows, planes=None, *, known=None, chunk=84, **record):
    """Publish an exposure as a run does."""
    if planes is not None:
        write_exposure(tile_path(out, info), info, planes, TileSettings(tile=chunk, chunk=chunk), f"d{info.visit}")
    catalogues = CatalogStore(out)
    datasets = {DIA_SOURCE: rows} | ({SS_SOURCE: known} if known is not None else {})
    records = {
        one.name: catalogues.record(catalogues.publish(one, info, table, f"{one.name}-{info.name}"))
        for one, table in datasets.items()
    }
    finished = f"2026-01-02T00:{info.visit % 60:02d}:00+00:00"
    Ledger(out).put(
        record_of(info, **({"datasets": records, "detections": len(rows), "finished_at": finished} | record))
    )


def make_night(out, *, visits=3, detectors=1, count=12, shape=(280, 300), seed=5, planes=None, **changes):
    """Make a night of visits to one field, 30 minutes apart, whose objects are at rest, and associate it."""
    x, y = places(count, shape, seed)
    for n in range(visits):
        for detector in range(detectors):
            info = info_of(n, detector, shape, planes, **changes)
            put(out, info, rows_of(info, x, y), exposure_planes(info, x, y, seed + 10 * n + detector))
    assert not associate(out, AssociationSettings(), None).summary.failed
    return out


def info_of(n, detector=0, shape=(280, 300), planes=None, **changes):
    """Exposure number n; each detector has a field of its own, a degree to the north of the last."""
    header = plain_info().wcs_header.replace("CRVAL2  = 20.0", f"CRVAL2  = {20 + detector}.0")
    found = ("science", "template", "variance") if planes is None else planes
    given = {"visit": visit_of(n), "detector": detector, "night": NIGHT, "shape": shape, "wcs_header": header,
             "midpoint_mjd_tai": MJD + n / 48, "planes": found, "flags": ("subtracted",)}  # fmt: skip
    return plain_info(**(given | changes))

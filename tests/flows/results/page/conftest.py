"""A small night in an output folder, written by the stores themselves."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.ndimage import gaussian_filter

from flows.results.page.cards import Limits
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from flows.storage.quarantine import Quarantine
from flows.storage.zarr_tiles import write_exposure
from schemas.dia_source import CAUSES, DIA_SOURCE
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo, ExposureKey, PsfModel
from schemas.injection import INJECTION
from schemas.ledger import ExposureRecord
from schemas.pixels import MaskPlane
from schemas.settings import TileSettings
from schemas.summary import ExposureCounts, RunSummary
from tests.flows.results.evaluation.test_recovery import injection
from tests.support.cards import as_text, gnomonic

NIGHT = "20261103"
SKY, NOISE = 3.0, 12.0


def wcs_cards(shape: tuple[int, int], turn: float = 0.0) -> str:
    """TAN projection with 1" pixels, east to the left, north up and then turned by ``turn`` deg from +y to -x."""
    return as_text(gnomonic([150.0, 20.0], [(shape[1] + 1) / 2, (shape[0] + 1) / 2], rotation=-turn))


def make_info(shape: tuple[int, int] = (420, 380), visit: int = 101, detector: int = 3, **changes: Any) -> ExposureInfo:
    fields: dict[str, Any] = {
        "night": NIGHT,
        "visit": visit,
        "detector": detector,
        "instrument": "ZTF",
        "band": "r",
        "midpoint_mjd_tai": 61347.2 + visit / 1000,
        "exposure_time_s": 30.0,
        "shape": shape,
        "zero_point": 26.3,
        "wcs_header": wcs_cards(shape),
        "psf": PsfModel(fwhm_px=2.2),
        "background": SKY,
        "noise": NOISE,
        "source_uri": f"file:///data/{visit}_{detector}.fits.fz",
        "source_sha256": "0" * 64,
    }
    return ExposureInfo.model_validate(fields | changes)


def make_pixels(shape: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated noise with a masked disc, a black border and a bad column."""
    rng = np.random.default_rng(seed)
    image = gaussian_filter(rng.normal(size=shape), 0.6)
    image = (SKY + NOISE * image / image.std()).astype(np.float32)
    mask = np.zeros(shape, np.uint16)
    y, x = np.indices(shape)
    mask[(y - 0.3 * shape[0]) ** 2 + (x - 0.7 * shape[1]) ** 2 < 200] = MaskPlane.SAT
    mask[:, :6] = MaskPlane.EDGE
    mask[:, shape[1] // 2] = MaskPlane.BAD
    image[mask == MaskPlane.EDGE] = np.nan
    return image, mask


def make_rows(info: ExposureInfo, n: int, seed: int) -> list[dict[str, Any]]:
    """Detections at random places, every fourth with null columns."""
    rng = np.random.default_rng(seed)
    rows = []
    for rank in range(n):
        bare = rank % 4 == 3
        length = float(rng.choice([0.0, 1.5, 6.0, 14.0, 33.0]))
        row = dict.fromkeys(DIA_SOURCE.schema.names)
        row |= {f"{name}Evidence": 0.0 for name, _, _ in CAUSES} | {"trailClass": ""}
        row |= {
            "diaSourceId": (info.visit << 21) | (info.detector << 12) | rank,
            "visit": info.visit,
            "detector": info.detector,
            "x": float(rng.uniform(8, info.shape[1] - 9)),
            "y": float(rng.uniform(0, info.shape[0] - 1)),
            "midpointMjdTai": info.midpoint_mjd_tai,
            "xErr": 0.1,
            "band": info.band,
            "snr": float(rng.lognormal(2.4, 0.7)),
            "trailLengthPx": length,
            "trailAnglePx": float(rng.uniform(0, 180)),
            "maskedFraction": 0.0,
            "logitSum": 10.0,
            "logitPeak": 3.0,
            "nHits": 4,
            "trailNdata": 169,
            "reliability": float(rng.beta(2.0, 0.6)),
            "reliabilityVersion": "basic_cnn 1 + reliability 1",
            "flags": 1 | 128 | 64 if bare else int(rng.choice([0, 0, 0, 2, 8, 16])),
            "bboxSize": int(length + 12),
        }
        if not bare:
            row |= {"ra": 150.01, "dec": 20.02, "magAB": 19.4, "magABErr": 0.06, "trailLength": length}
            row |= {"trailAngle": 33.0}
        rows.append(row)
    return rows


def paint(image: np.ndarray, rows: list[dict[str, Any]]) -> None:
    """Add a Gaussian trail of the row's S/N for each row."""
    for row in rows:
        angle, half = np.radians(row["trailAnglePx"]), row["trailLengthPx"] / 2
        reach = int(half) + 8
        y0, x0 = max(int(row["y"]) - reach, 0), max(int(row["x"]) - reach, 0)
        here = image[y0 : int(row["y"]) + reach, x0 : int(row["x"]) + reach]
        y, x = np.indices(here.shape)
        dx, dy = x + x0 - row["x"], y + y0 - row["y"]
        along, across = dx * np.cos(angle) + dy * np.sin(angle), -dx * np.sin(angle) + dy * np.cos(angle)
        beyond = np.maximum(np.abs(along) - half, 0)
        profile = np.exp(-(across**2 + beyond**2) / 2)
        here += (row["snr"] * NOISE * 1.6 * profile / np.sqrt(np.sum(profile**2))).astype(np.float32)


def publish(out: Path, info: ExposureInfo, rows: list[dict[str, Any]], seed: int, **changes: Any) -> ExposureRecord:
    """Store an exposure, its catalogue and its record."""
    image, mask = make_pixels(info.shape, seed)
    paint(image, rows)
    path = out / "tiles" / info.night / f"{info.name}.zarr"
    write_exposure(path, info, {"difference": image, "mask": mask}, TileSettings(), "d" * 64)
    store, key = CatalogStore(out), ExposureKey(night=info.night, visit=info.visit, detector=info.detector)
    file = store.publish(DIA_SOURCE, key, pa.Table.from_pylist(rows, schema=DIA_SOURCE.schema), "e" * 64)
    fields: dict[str, Any] = {
        "night": info.night,
        "visit": info.visit,
        "detector": info.detector,
        "source_uri": info.source_uri,
        "source_sha256": info.source_sha256,
        "digest": "e" * 64,
        "datasets": {"dia_source": store.record(file)},
        "windows": 3000,
        "windows_unscored": 40,
        "detections": len(rows),
        "seconds": {"ingest": 0.8, "detect": 4.1, "merge": 0.3, "measure": 1.2},
        "software": "0.1.0",
        "finished_at": f"2026-11-04T03:12:{info.visit % 60:02d}+00:00",
    }
    record = ExposureRecord.model_validate(fields | changes)
    Ledger(out).put(record)
    return record


def make_summary(seen: int, quarantined: int, seconds: Mapping[str, float] | None = None) -> RunSummary:
    done = seen - quarantined
    return RunSummary(
        exposures=ExposureCounts(seen=seen, done=done, skipped=0, quarantined=quarantined, failed=0),
        windows=3000 * done,
        unscored=40 * done,
        detections=9 * done,
        not_run={},
        seconds=seconds or {"wall": 14.2, "startup": 3.1, "detect": 4.1 * done},
        report=None,
    )


def build_night(out: Path, visits: int = 2, detectors: int = 1, each: int = 9, injections: int = 0) -> None:
    for visit in range(101, 101 + visits):
        for detector in range(3, 3 + detectors):
            seed = 10 * visit + detector
            info = make_info(visit=visit, detector=detector)
            record = publish(out, info, make_rows(info, each, seed), seed)
            if injections:
                put_in(out, record, injections, seed)


def put_in(out: Path, record: ExposureRecord, count: int, seed: int) -> None:
    """Publish synthetic streaks of an exposure, and add them to its record."""
    store = CatalogStore(out)
    path = store.publish(INJECTION, record.key, injection(count, seed, record.visit, record.detector), "f" * 64)
    datasets = {**record.datasets, "injection": store.record(path)}
    Ledger(out).put(record.model_copy(update={"datasets": datasets}))


def quarantine_one(out: Path) -> None:
    error = BadInput("missing_keyword", "bad.fits.fz: MAGZP", "is <missing> & needed.", "add the keyword.")
    Quarantine(out).put(error, "file:///data/bad.fits.fz", ExposureKey(night=NIGHT, visit=199, detector=1))


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """Builders of test nights."""
    return SimpleNamespace(
        NIGHT=NIGHT,
        SKY=SKY,
        NOISE=NOISE,
        info=make_info,
        pixels=make_pixels,
        rows=make_rows,
        publish=publish,
        summary=make_summary,
        night=build_night,
        limits=Limits(),
        quarantine=quarantine_one,
        cards=wcs_cards,
        table=lambda rows: pa.Table.from_pylist(rows, schema=DIA_SOURCE.schema),
    )

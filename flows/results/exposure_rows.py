"""Exposures of an output folder as rows, from the ledger and the metadata stored with their pixels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from flows.results.catalogue_rows import NIGHT
from flows.runtime.parallel import side_by_side
from flows.storage.bucket_path import BucketPath
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from schemas.dataset import column
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo, ExposureKey

_RECORDED = pa.schema(
    [
        NIGHT.with_nullable(False),
        column("visit", pa.int64(), "", "Visit."),
        column("detector", pa.int32(), "", "Detector."),
        column("status", pa.string(), "", "done, quarantined or failed.", ucd="meta.code"),
        column("nDetections", pa.int64(), "", "Published detections.", ucd="meta.number"),
        column("reason", pa.string(), "", "Why it is not done, or not done again.", nullable=True, ucd="meta.note"),
        column("sourceUri", pa.string(), "", "File of the image.", ucd="meta.ref.uri"),
        column("shutterClosedAt", pa.string(), "", "End of the exposure, UTC.", nullable=True, ucd="time.end"),
        column("finishedAt", pa.string(), "", "When it was searched, UTC.", ucd="time.processing"),
    ]
)


def _told(name: str, kind: pa.DataType, unit: str, doc: str, ucd: str = "") -> pa.Field:
    return column(name, kind, unit, doc, nullable=True, ucd=ucd)


_STORED = pa.schema(
    [
        _told("instrument", pa.string(), "", "Instrument.", "meta.id;instr"),
        _told("band", pa.string(), "", "Filter band."),
        _told("midpointMjdTai", pa.float64(), "d", "Middle of the exposure, MJD TAI."),
        _told("exposureTime", pa.float64(), "s", "Exposure time."),
        _told("fwhm", pa.float64(), "pix", "FWHM of the PSF before the pixels blur it."),
        _told("psfSource", pa.string(), "", "What told the PSF; assumed: nothing did.", "meta.code"),
        _told("zeroPoint", pa.float64(), "mag(AB)", "AB magnitude of one pixel unit of flux.", "phot.mag;arith.zp"),
        _told("gain", pa.float64(), "", "Electrons per pixel unit.", "instr.param"),
        _told("pixelUnit", pa.string(), "", "Unit of the pixels.", "meta.unit"),
        _told("background", pa.float64(), "", "Median of the usable pixels, pixel units.", "instr.background"),
        _told("noise", pa.float64(), "", "Standard deviation of a pixel, pixel units.", "instr.det.noise"),
        _told("maskedFraction", pa.float64(), "", "Share of unusable pixels."),
        _told("ny", pa.int32(), "pix", "Rows of the image.", "meta.number"),
        _told("nx", pa.int32(), "pix", "Columns of the image.", "meta.number"),
        _told("planes", pa.string(), "", "Planes beside difference and mask.", "meta.id"),
        _told("assumed", pa.string(), "", "What is not known or was assumed: no_wcs, assumed_psf, ...", "meta.note"),
    ]
)
"""Columns that are null if the tiles of an exposure were removed, and in a release, which has none."""

SCHEMA = pa.schema([*_RECORDED, *_STORED])
"""Columns of an exposure."""


@dataclass(frozen=True)
class ExposureRows:
    """Exposures of some nights of an output folder, or of all (``chosen`` is None).

    Columns stored with the pixels are read from a small file for each exposure, and only if requested.
    """

    out: Path
    chosen: tuple[str, ...] | None = None
    name: str = "exposure"

    @property
    def schema(self) -> pa.Schema:
        """Return the columns."""
        return SCHEMA

    @cached_property
    def nights(self) -> tuple[str, ...]:
        """Return the nights with exposures, sorted."""
        known = Ledger(self.out).nights()
        return tuple(one for one in known if self.chosen is None or one in self.chosen)

    @property
    def parts(self) -> int:
        """Return the number of nights, each of which has one file."""
        return len(self.nights)

    def of(self, nights: Sequence[str]) -> "ExposureRows":
        """Return the exposures of some of the nights."""
        return replace(self, chosen=tuple(nights))

    def read(self, columns: Sequence[str], where: pc.Expression | None, limit: int | None = None) -> pa.Table:
        """Return columns of the exposures that meet a condition, at most ``limit``.

        Raises
        ------
        Misconfigured, Retryable
            As in `flows.storage.ledger.Ledger`.
        """
        rows = self._recorded()
        if limit is not None and where is None:
            rows = rows[:limit]
        wanted = where is not None or any(name in _STORED.names for name in columns)
        stored = self._stored(rows) if wanted else [None] * len(rows)
        values = [row | _values(info) for row, info in zip(rows, stored, strict=True)]
        found = pa.Table.from_pylist(values, schema=SCHEMA)
        if where is not None:
            found = ds.dataset(found).to_table(filter=where).cast(SCHEMA)
        found = found.select(list(columns))
        return found if limit is None else found.slice(0, limit)

    def count(self, where: pc.Expression | None) -> int:
        """Return the number of exposures that meet a condition; raise as `read` does."""
        return len(self._recorded()) if where is None else len(self.read(["visit"], where))

    def _recorded(self) -> list[dict[str, Any]]:
        ledger = Ledger(self.out)
        return [
            {
                "night": night, "visit": one.visit, "detector": one.detector, "status": one.status,
                "nDetections": one.detections, "reason": one.reason, "sourceUri": one.source_uri,
                "shutterClosedAt": one.shutter_closed_at, "finishedAt": one.finished_at,
            }
            for night in self.nights
            for one in ledger.briefs(night)
        ]  # fmt: skip

    def _stored(self, rows: Iterable[dict[str, Any]]) -> list[ExposureInfo | None]:
        keys = [ExposureKey(night=one["night"], visit=one["visit"], detector=one["detector"]) for one in rows]
        return side_by_side(lambda key: stored_info(tile_path(self.out, key)), keys, isinstance(self.out, BucketPath))


def stored_info(path: Path) -> ExposureInfo | None:
    """Return the metadata stored with the pixels of an exposure; None if missing or unreadable."""
    from flows.storage.zarr_tiles import read_info  # zarr takes a while, and the ledger needs none

    try:
        return read_info(path)
    except BadInput:
        return None


def _values(info: ExposureInfo | None) -> dict[str, Any]:
    if info is None:
        return dict.fromkeys(_STORED.names)
    return {
        "instrument": info.instrument, "band": info.band, "midpointMjdTai": info.midpoint_mjd_tai,
        "exposureTime": info.exposure_time_s, "fwhm": info.psf.fwhm_px, "psfSource": info.psf.source,
        "zeroPoint": info.ab_zero_point, "gain": info.gain, "pixelUnit": info.pixel_unit,
        "background": info.background, "noise": info.noise, "maskedFraction": info.masked_fraction,
        "ny": info.shape[0], "nx": info.shape[1], "planes": " ".join(info.planes), "assumed": " ".join(info.flags),
    }  # fmt: skip

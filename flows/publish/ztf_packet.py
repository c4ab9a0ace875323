"""Alerts in ZTF's format: a packet of schema 3.3 for each detection, with gzipped FITS stamps."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from math import isfinite, log10, sqrt
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.inputs.fits_ztf import BANDS
from flows.inputs.ztf_packets import SIDE, WIDENED_PX2
from flows.publish.history import History, ObjectsSeen
from flows.publish.packet import Packet
from flows.publish.published import PublishedExposures
from flows.publish.rubin_schema import record_schema
from flows.publish.stamps import Stamps, cut_stamps
from flows.publish.ztf_schema import CUTOUTS, FORM, VERSION, serialise, stamp_record
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.zarr_tiles import TileStore
from kernels.psf.gaussian_mixture import brightness, moffat_mixture
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput
from schemas.exposure import NJY_ZERO_POINT, ExposureInfo
from schemas.known_object import SS_SOURCE
from schemas.ledger import ExposureRecord
from schemas.pixels import DIFFERENCE, MASK, UNUSABLE, MaskPlane

UNKNOWN = -999
"""ZTF's value for a required number that is not known."""

PUBLISHER = "nightstride"
HISTORY_VERSION = "11.1"
"""Version of Rubin's schema in which histories are read."""

_FIDS = {band: number for number, band in BANDS.items()}
_UNSEEN = np.uint16(MaskPlane.NO_DATA | MaskPlane.EDGE)
_LIMIT_SIGMA = 5.0
_MAG = 2.5 / np.log(10)
_MJD_JD = 2400000.5


class ZtfAlerts:
    """Maker of packets, one exposure after another.

    Parameters
    ----------
    published, history
        Published exposures, and histories of their objects.
    refuse
        Receives the detection of an alert that could not be made, as JSON, and the error.
    """

    def __init__(
        self, published: PublishedExposures, history: History, refuse: Callable[[Packet, BadInput], object]
    ) -> None:
        self._published, self._history, self._refuse = published, history, refuse

    def packets(self, record: ExposureRecord, rows: pa.Table) -> Iterator[Packet]:
        """Yield the packets of detections of an exposure.

        Parameters
        ----------
        record, rows
            Record of the exposure, and detections on it with a position and a time.

        Raises
        ------
        BadInput, Retryable
            Catalogues, pixels or the association cannot be read.
        """
        if not len(rows):
            return
        objects = self._history.of(record, float(rows["midpointMjdTai"][0].as_py()))
        known = self._known(record)
        path = tile_path(self._published.out, record.key)
        store = TileStore.open(path) if path.exists() else None
        unit = "DN" if store is None or store.info.pixel_unit == "adu" else store.info.pixel_unit
        for which, stamps in _stamps(store, rows):
            for n, source in enumerate(rows.take(pa.array(which)).to_pylist()):
                alert = _Alert(source, record, None if store is None else store.info, objects, known)
                try:
                    body = serialise(alert.record({} if stamps is None else _cutouts(stamps, n, source, unit)))
                except BadInput as error:  # with the detection, because there is no alert
                    self._refuse(_packet(record, source, json.dumps(source).encode()), error)
                    continue
                yield _packet(record, source, body)

    def _known(self, record: ExposureRecord) -> Mapping[int, Mapping[str, Any]] | None:
        """Return the known objects by diaSourceId; None if the exposure was not searched for them."""
        if SS_SOURCE.name not in record.datasets:
            return None
        found = CatalogStore(self._published.out).read(SS_SOURCE, record.key)
        return {one["diaSourceId"]: one for one in found.to_pylist()}


def _packet(record: ExposureRecord, source: Mapping[str, Any], body: bytes) -> Packet:
    made_from = record.datasets[DIA_SOURCE.name].digest
    return Packet(source["diaSourceId"], record.night, record.visit, record.detector, FORM, body, made_from)


class _Alert:
    """Maker of the packet of a detection, given as a row of `DIA_SOURCE`."""

    def __init__(
        self,
        source: Mapping[str, Any],
        record: ExposureRecord,
        info: ExposureInfo | None,
        objects: ObjectsSeen,
        known: Mapping[int, Mapping[str, Any]] | None,
    ) -> None:
        self._source, self._record, self._info, self._objects, self._known = source, record, info, objects, known

    def record(self, cutouts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the packet; ``cutouts`` holds the stamps, and numbers counted on them."""
        source = self._source
        owner = self._objects.of_source.get(source["diaSourceId"])
        before = [_decoded(one) for one in self._objects.sources.get(-1 if owner is None else owner, [])]
        told = {name: value for name, value in cutouts.items() if name not in CUTOUTS.values()}
        candidate = {
            **_measured(source, self._info),
            **self._image(),
            **self._of_known(),
            **self._of_object(before),
            "magzpsci": None if self._info is None else self._info.ab_zero_point,
            "exptime": source["exposureTime"] or 0.0,
            "drb": source["reliability"],
            "drbversion": source["reliabilityVersion"],
            "tooflag": 0,
            **dict.fromkeys(("ncovhist", "nmtchps", "rfid", "nframesref", "nmatches"), UNKNOWN),
            **dict.fromkeys(("ranr", "decnr", "jdstartref", "jdendref"), float(UNKNOWN)),
            **told,
        }
        return {
            "schemavsn": VERSION,
            "publisher": PUBLISHER,
            "objectId": str(source["diaSourceId"] if owner is None else owner),
            "candid": source["diaSourceId"],
            "candidate": candidate,
            "prv_candidates": list(_earlier(before)) or None,
            **dict.fromkeys(CUTOUTS.values()),
            **{name: value for name, value in cutouts.items() if name in CUTOUTS.values()},
        }

    def _image(self) -> dict[str, Any]:
        """Return the values of the image as a whole, and the distance of the detection from its edge."""
        info = self._info
        if info is None:
            return {}
        ny, nx = info.shape
        x, y = self._source["x"], self._source["y"]
        return {
            "fwhm": sqrt(info.psf.fwhm_px**2 + WIDENED_PX2),
            "seeratio": 1.0,
            "diffmaglim": _limit(info),
            "magzpsciunc": info.zero_point_err,
            "mindtoedge": min(x + 0.5, y + 0.5, nx - 0.5 - x, ny - 0.5 - y),
        }

    def _of_known(self) -> dict[str, Any]:
        if self._known is None:
            return {}
        found = self._known.get(self._source["diaSourceId"])
        if found is None:
            return {"ssdistnr": float(UNKNOWN), "ssmagnr": float(UNKNOWN), "ssnamenr": "null"}
        return {"ssdistnr": found["ephOffset"], "ssmagnr": found["ephVmag"], "ssnamenr": found["designation"]}

    def _of_object(self, before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return how often the object was detected, including now, and the first and the last time."""
        now = start_jd(self._source["midpointMjdTai"], self._source["exposureTime"] or 0.0)
        first = before[0] if before else self._source
        return {
            "ndethist": len(before) + 1,
            "jdstarthist": start_jd(first["midpointMjdTai"], first["exposureTime"] or 0.0),
            "jdendhist": now,
        }


def _earlier(before: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield earlier detections in ZTF's format, except those in other bands or without a magnitude."""
    for source in before:
        with suppress(BadInput):
            yield {**_measured(source, None), "ranr": None, "decnr": None}


def _decoded(source: bytes) -> Mapping[str, Any]:
    """Return a detection of a history as a record of Rubin's diaSource."""
    from fastavro import schemaless_reader

    return dict(schemaless_reader(BytesIO(source), record_schema("diaSource", HISTORY_VERSION), None))


def _measured(source: Mapping[str, Any], info: ExposureInfo | None) -> dict[str, Any]:
    """Return the measurements of a detection in ZTF's format.

    Raises
    ------
    BadInput
        ZTF does not have the filter, or there is no magnitude, which ZTF requires (``no_ztf_form``).
    """
    band, where = source["band"], f"alert {source['diaSourceId']}"
    if band not in _FIDS:
        remedy = "publish it in Rubin's form: --schema 11.1."
        raise BadInput("no_ztf_form", where, f"is in band {band!r}, ZTF has {', '.join(_FIDS)}.", remedy)
    magnitude, error = _magnitude(source["psfFlux"], source["psfFluxErr"])
    if magnitude is None:
        remedy = "publish it in Rubin's form: --schema 11.1."
        raise BadInput("no_ztf_form", where, f"has a flux of {source['psfFlux']} nJy, which has no magnitude.", remedy)
    aperture, aperture_error = _magnitude(source["apFlux"], source["apFluxErr"])
    chi2, pixels = source["psfChi2"], source["trailNdata"]
    return {
        "jd": start_jd(source["midpointMjdTai"], source["exposureTime"] or 0.0),
        "fid": _FIDS[band],
        "pid": 10_000 * source["visit"] + 100 * source["detector"] + 15,
        "programid": 0,
        "candid": source["diaSourceId"],
        "isdiffpos": "t",
        "rcid": source["detector"],
        "xpos": source["x"] + 1.0,  # ZTF's pixel coordinates start at 1
        "ypos": source["y"] + 1.0,
        "ra": source["ra"],
        "dec": source["dec"],
        "magpsf": magnitude,
        "sigmapsf": error,
        "chipsf": sqrt(chi2 / pixels) if chi2 is not None and pixels else None,
        "magap": aperture,
        "sigmagap": aperture_error,
        "rb": source["reliability"],
        "rbversion": source["reliabilityVersion"],
        "scorr": source["snr"],
    }


def _magnitude(flux: float | None, error: float | None) -> tuple[float | None, float | None]:
    """Return the AB magnitude of a flux, nJy, and its error; None if it has no magnitude."""
    if flux is None or error is None or not flux > 0 or not isfinite(error):
        return None, None
    return NJY_ZERO_POINT - 2.5 * log10(flux), _MAG * error / flux


@lru_cache(4096)
def start_jd(midpoint_mjd_tai: float, exposure_s: float) -> float:
    """Return the start of an exposure, JD UTC."""
    from astropy.time import Time, TimeDelta

    start = Time(_MJD_JD, midpoint_mjd_tai, format="jd", scale="tai") - TimeDelta(exposure_s / 2, format="sec")
    return float(start.utc.jd)


@lru_cache(64)
def _limit(info: ExposureInfo) -> float | None:
    """Return the AB magnitude of a point source of 5 standard errors in the noise of the image."""
    if info.ab_zero_point is None:
        return None
    place = np.arange(-10, 11) * 1.0
    psf = brightness(moffat_mixture(info.psf.fwhm_px, info.psf.beta), place[:, None] ** 2 + place**2)
    flux = _LIMIT_SIGMA * info.noise / float(np.sqrt(((psf / psf.sum()) ** 2).sum()))
    return info.ab_zero_point - 2.5 * log10(flux)


def _stamps(store: TileStore | None, rows: pa.Table) -> Iterator[tuple[NDArray[np.int64], Stamps | None]]:
    """Yield indices of detections and squares of ZTF's size around them, in groups; without pixels, all and None."""
    if store is None:
        yield np.arange(len(rows)), None
        return
    x, y = rows["x"].to_numpy(), rows["y"].to_numpy()
    for stamps in cut_stamps(store, x, y, np.full(len(rows), SIDE)):
        yield stamps.which, stamps


def _cutouts(stamps: Stamps, n: int, source: Mapping[str, Any], unit: str) -> dict[str, Any]:
    """Return the stamps of one detection, without pixels beyond the image, and ``nneg`` and ``nbad``."""
    mask = stamps.planes[MASK.name][n].astype(np.uint16)
    pixels = {name: stamps.planes[name][n].astype(np.float32) for name in CUTOUTS if name in stamps.planes}
    difference = np.where((mask & _UNSEEN) != 0, np.float32(np.nan), pixels[DIFFERENCE.name])
    pixels[DIFFERENCE.name] = difference
    inside = np.isfinite(stamps.planes[DIFFERENCE.name][n])
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else np.s_[0:0, 0:0]
    middle = np.s_[SIDE // 2 - 2 : SIDE // 2 + 3, SIDE // 2 - 2 : SIDE // 2 + 3]
    files = {
        CUTOUTS[name]: stamp_record(source["diaSourceId"], name, plane[part], unit) for name, plane in pixels.items()
    }
    return {
        **(files if len(rows) else {}),
        "nneg": int((difference[middle] < 0).sum()),
        "nbad": int(((mask[middle] & np.uint16(UNUSABLE)) != 0).sum()),
    }

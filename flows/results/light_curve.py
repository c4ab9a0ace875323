"""Light curves: the detections of a stationary object or of a tracklet, by time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.results.catalogue_rows import NIGHT, CatalogueRows
from flows.storage.catalog_store import CatalogStore, read_described
from flows.storage.ledger import Ledger
from schemas.dataset import TableOf, column
from schemas.dia_object import DIA_OBJECT_SOURCE
from schemas.dia_source import DIA_SOURCE, exposure_of
from schemas.errors import Misconfigured, missing_extra
from schemas.exposure import ExposureKey
from schemas.tracklets import TRACKLET_SOURCE

Kind = Literal["object", "tracklet", "detection"]


def _of_source(name: str) -> pa.Field:
    return DIA_SOURCE.schema.field(name).with_nullable(True)


LIGHT_CURVE = pa.schema(
    [
        _of_source("midpointMjdTai"),
        NIGHT,
        *(_of_source(name) for name in ("visit", "detector", "band")),
        column("flux", pa.float64(), "nJy", "psfFlux of an object at rest, trailFlux of what moves.", nullable=True),
        column("fluxErr", pa.float64(), "nJy", "Its standard error.", nullable=True),
        *(_of_source(name) for name in ("magAB", "magABErr", "snr", "ra", "dec", "diaSourceId", "flags")),
        column(
            "offset", pa.float64(), "arcsec", "From the object's place, or from the tracklet's motion.", nullable=True
        ),
    ]
)
"""Columns of a light curve."""

_FEATURES: Mapping[str, tuple[float, ...]] = {
    "Amplitude": (), "BeyondNStd": (1.0,), "EtaE": (), "ExcessVariance": (), "InterPercentileRange": (0.25,),
    "Kurtosis": (), "LinearTrend": (), "MaximumSlope": (), "Mean": (), "Median": (), "MedianAbsoluteDeviation": (),
    "ReducedChi2": (), "Skew": (), "StandardDeviation": (), "StetsonK": (), "WeightedMean": (),
}  # fmt: skip

_FLUX: Mapping[Kind, str] = {"object": "psfFlux", "detection": "psfFlux", "tracklet": "trailFlux"}


@dataclass(frozen=True)
class LightCurveRows:
    """Light curve: rows of `LIGHT_CURVE` by time, with the kind and id of the measured group."""

    kind: Kind
    identity: int
    rows: pa.Table


def find_detection(out: Path, nights: Sequence[str], source_id: int) -> tuple[ExposureKey, dict[str, Any]]:
    """Return the exposure of a published detection, and its row of `dia_source`.

    Raises
    ------
    Misconfigured
        There is no detection with this id (``no_detection``).
    BadInput
        A catalogue cannot be read.
    """
    visit, detector = exposure_of(source_id)
    ledger = Ledger(out)
    for night in nights if 0 <= source_id < 2**63 else ():
        key = ExposureKey(night=night, visit=visit, detector=detector)
        if (record := ledger.get(key)) is None or DIA_SOURCE.name not in record.datasets:
            continue
        if rows := _rows_of(out, key, [source_id]).to_pylist():
            return key, rows[0]
    raise Misconfigured(
        "no_detection", str(out), f"holds no detection {source_id} (exposure {visit}-{detector}) in these nights.",
        "give the diaSourceId of a published row, as `.detections()` has them.",
    )  # fmt: skip


def light_curve(out: Path, nights: Sequence[str], identity: int, of: Kind | None = None) -> LightCurveRows:
    """Return the detections of an object, of a tracklet, or a single detection.

    Parameters
    ----------
    out, nights
        Output folder, and the nights to search.
    identity
        ``diaObjectId``, ``trackletId``, or the ``diaSourceId`` of any of their detections.
    of
        Kind of light curve. None: of the object if it was seen more than once, else of the tracklet if there is one,
        else of the object or the detection.

    Raises
    ------
    Misconfigured
        There is no such light curve (``no_light_curve``).
    BadInput
        A catalogue cannot be read.
    """
    found: dict[Kind, tuple[int, pa.Table]] = {}
    if of in (None, "object") and (rows := _linked(out, nights, DIA_OBJECT_SOURCE, "diaObjectId", identity)):
        found["object"] = rows
    if of in (None, "tracklet") and (rows := _linked(out, nights, TRACKLET_SOURCE, "trackletId", identity)):
        found["tracklet"] = rows
    if of in (None, "detection") and not found:
        key, row = find_detection(out, nights, identity)
        linked = pa.table({NIGHT.name: [key.night], "diaSourceId": [row["diaSourceId"]], "offset": [0.0]})
        found["detection"] = row["diaSourceId"], linked
    if not found:
        raise Misconfigured(
            "no_light_curve", str(out), f"knows no {of} {identity} in these nights.",
            "give a diaObjectId of `.dia_objects()`, a trackletId of `.tracklets()`, or a diaSourceId.",
        )  # fmt: skip
    lone = "object" in found and len(found["object"][1]) < 2 and "tracklet" in found
    kind: Kind = "tracklet" if lone else next(iter(found))
    return LightCurveRows(kind, found[kind][0], _curve(out, kind, found[kind][1]))


def light_curve_features(rows: pa.Table) -> dict[str, dict[str, float]]:
    """Return the features of a light curve in each band, from the package light-curve (Malanchev et al. 2021).

    Parameters
    ----------
    rows
        Rows of `LIGHT_CURVE`, by time. Rows without a flux or its error do not count.

    Returns
    -------
    dict
        Band -> feature -> value, for fluxes in nJy and times in d; NaN if the band has too few detections.

    Raises
    ------
    Misconfigured
        The package, which is under the GPL and in the extra ``features``, is not installed.
    """
    try:
        import light_curve as package
    except ModuleNotFoundError as error:
        raise missing_extra(str(error.name), "features", "extra", "features") from error
    kinds = [getattr(package, name)(*values) for name, values in _FEATURES.items()]
    extract, found = package.Extractor(*kinds), dict[str, dict[str, float]]()
    rows = rows.filter(pc.and_(rows["flux"].is_valid(), pc.greater(rows["fluxErr"], 0.0)))
    for band in sorted(set(rows["band"].to_pylist())):
        own = rows.filter(pc.equal(rows["band"], band))
        columns = (np.asarray(own[name].to_numpy(), np.float64) for name in ("midpointMjdTai", "flux", "fluxErr"))
        values = extract(*columns, sorted=True, fill_value=np.nan)
        found[band] = dict(zip(extract.names, map(float, values), strict=True))
    return found


def _linked(
    out: Path, nights: Sequence[str], dataset: TableOf, group: str, identity: int
) -> tuple[int, pa.Table] | None:
    """Return the group with an id, or the group of a detection with that id, and its detections."""
    if not 0 <= identity < 2**63:
        return None
    offset = "separation" if group == "diaObjectId" else "acrossOffset"
    catalogue = CatalogueRows(out, dataset, tuple(nights))
    columns = [NIGHT.name, "diaSourceId", group, offset]
    near = catalogue.read(columns, (pc.field(group) == identity) | (pc.field("diaSourceId") == identity))
    own = near.filter(pc.equal(near["diaSourceId"], identity))[group].drop_null().to_pylist()
    which = own[0] if own else identity
    if which != identity:
        near = catalogue.read(columns, pc.field(group) == which)
    rows = near.filter(pc.equal(near[group], which))
    return (which, rows.rename_columns([NIGHT.name, "diaSourceId", group, "offset"])) if len(rows) else None


def _curve(out: Path, kind: Kind, linked: pa.Table) -> pa.Table:
    wanted: dict[tuple[str, int, int], dict[int, float | None]] = {}
    for one in linked.to_pylist():
        wanted.setdefault((one["night"], *exposure_of(one["diaSourceId"])), {})[one["diaSourceId"]] = one["offset"]
    rows = []
    for (night, visit, detector), offsets in wanted.items():
        key = ExposureKey(night=night, visit=visit, detector=detector)
        for row in _rows_of(out, key, offsets).to_pylist():
            flux = {"flux": row.get(_FLUX[kind]), "fluxErr": row.get(f"{_FLUX[kind]}Err")}
            rows.append(row | flux | {"night": night, "offset": offsets[row["diaSourceId"]]})
    values = [{name: row.get(name) for name in LIGHT_CURVE.names} for row in rows]
    return pa.Table.from_pylist(values, schema=LIGHT_CURVE).sort_by("midpointMjdTai")


def _rows_of(out: Path, key: ExposureKey, ids: Sequence[int] | Mapping[int, Any]) -> pa.Table:
    """Return rows of an exposure's detections as they are stored, of whatever version."""
    _, table = read_described(CatalogStore(out).path(DIA_SOURCE, key))
    return table.filter(pc.is_in(table["diaSourceId"], pa.array(list(ids), pa.int64())))

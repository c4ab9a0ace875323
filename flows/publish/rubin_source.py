"""Detections in the format of Rubin's DiaSource."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.publish.avro_rows import Column, Encoded, encode_rows, table_columns
from flows.publish.rubin_schema import record_schema
from flows.publish.stamps import Stamps
from schemas.dia_source import DetectionFlag
from schemas.pixels import MASK, MaskPlane

SAME = (
    "diaSourceId", "visit", "detector", "midpointMjdTai", "exposureTime", "ra", "raErr", "dec", "decErr", "ra_dec_Cov",
    "x", "xErr", "y", "yErr", "apFlux", "apFluxErr", "snr", "psfFlux", "psfFluxErr", "psfChi2", "trailFlux",
    "trailFluxErr", "trailRa", "trailDec", "trailLength", "trailLengthErr", "trailAngle", "trailAngleErr", "trailChi2",
    "trailNdata", "reliability", "reliabilityVersion", "band", "bboxSize",
)  # fmt: skip
"""Columns of `dia_source` that have Rubin's names."""

RENAMED = {"psfNdata": "trailNdata", "trailRaErr": "raErr", "trailDecErr": "decErr"}
"""Rubin's name -> column that means the same: both fits use the same pixels, a trail's centre is its position."""

FROM_FLAGS = {
    "centroid_flag": DetectionFlag.FIT_FAILED,
    "trail_flag": DetectionFlag.FIT_FAILED,
    "trail_flag_edge": DetectionFlag.EDGE,
    "psfFlux_flag_edge": DetectionFlag.EDGE,
    "apFlux_flag": DetectionFlag.EDGE,
    "apFlux_flag_apertureTruncated": DetectionFlag.EDGE,
    "isDipole": DetectionFlag.DIPOLE,
    "pixelFlags_edge": DetectionFlag.EDGE,
    "pixelFlags_saturated": DetectionFlag.SATURATED,
    "pixelFlags_cr": DetectionFlag.COSMIC_RAY,
    "pixelFlags_streak": DetectionFlag.SATELLITE,
}
"""Rubin's name -> bit of ``flags``."""

ALWAYS: Mapping[str, Any] = {
    "isNegative": False, "dipoleFitAttempted": False, "dipoleNdata": 0, "pixelFlags": False,
    "pixelFlags_offimage": False, "pixelFlags_injected": False, "pixelFlags_injectedCenter": False,
    "pixelFlags_injected_template": False, "pixelFlags_injected_templateCenter": False,
}  # fmt: skip
"""Values of every detection: positive, without a fit of a dipole, on the image, and not synthetic."""

SINCE_11_1 = frozenset(("exposureTime", "trailAlgorithm", "trail_flag", "reliabilityVersion"))
"""Fields that versions before 11.1 do not have."""

_PIXEL_FLAGS = {
    MaskPlane.BAD: ("pixelFlags_bad", None),
    MaskPlane.SAT: ("pixelFlags_saturated", "pixelFlags_saturatedCenter"),
    MaskPlane.INTRP: ("pixelFlags_interpolated", "pixelFlags_interpolatedCenter"),
    MaskPlane.CR: ("pixelFlags_cr", "pixelFlags_crCenter"),
    MaskPlane.EDGE: ("pixelFlags_edge", None),
    MaskPlane.NO_DATA: ("pixelFlags_nodata", "pixelFlags_nodataCenter"),
    MaskPlane.SUSPECT: ("pixelFlags_suspect", "pixelFlags_suspectCenter"),
    MaskPlane.STREAK: ("pixelFlags_streak", "pixelFlags_streakCenter"),
}
"""Bit of the mask -> flag for the footprint, and flag for the 3 x 3 px around the centre."""


def source_columns(
    rows: pa.Table, processed: float, owners: Mapping[str, Column], pixels: Mapping[str, NDArray[Any]] | None
) -> dict[str, Column]:
    """Return detections as columns of DiaSource, by Rubin's names.

    Parameters
    ----------
    rows
        Rows of `DIA_SOURCE` with a position.
    processed
        Processing time of their exposure, MJD TAI.
    owners
        Columns ``diaObjectId`` and ``ssObjectId``.
    pixels
        Rubin's name -> values from the pixels: flags of `pixel_flags`, which add to those of the detection, and
        fluxes, nJy; NaN is null.
    """
    count, flags = len(rows), rows["flags"].to_numpy()
    columns = table_columns(rows, SAME)
    columns |= {name: columns[ours] for name, ours in RENAMED.items()}
    lost = rows["psfChi2"].is_null().to_numpy()
    booleans = {name: (flags & int(bit)) != 0 for name, bit in FROM_FLAGS.items()}
    booleans |= {"psfFlux_flag": lost, "psfFlux_flag_noGoodPixels": lost}
    booleans["glint_trail"] = np.array([one == "glint_trail" for one in rows["trailClass"].to_pylist()], np.bool_)
    for name, values in (pixels or {}).items():
        if values.dtype == np.bool_:
            booleans[name] = booleans[name] | values if name in booleans else values
        else:
            columns[name] = Column(values)
    columns |= {name: Column(values) for name, values in booleans.items()}
    columns |= {name: Column(np.full(count, value)) for name, value in ALWAYS.items()}
    return columns | {**owners, "timeProcessedMjdTai": Column(np.full(count, processed))}


def encode_sources(
    rows: pa.Table,
    version: str,
    processed: float,
    owners: Mapping[str, Column],
    pixels: Mapping[str, NDArray[Any]] | None = None,
) -> list[Encoded]:
    """Return detections as Avro records of DiaSource in a version of the schema; parameters as in `source_columns`.

    Raises
    ------
    BadInput, Misconfigured
        As in `encode_rows` and `record_schema`.
    """
    columns = source_columns(rows, processed, owners, pixels)
    kept = {name: one for name, one in columns.items() if version == "11.1" or name not in SINCE_11_1}
    return encode_rows(record_schema("diaSource", version), kept, len(rows))


def pixel_flags(rows: pa.Table, stamps: Stamps, radius: float) -> dict[str, NDArray[np.bool_]]:
    """Return the flags of detections from the mask, by Rubin's names, (n,) each.

    Parameters
    ----------
    rows
        Rows of `DIA_SOURCE`, one for each stamp.
    stamps
        Squares around them.
    radius
        Distance from its axis to which the footprint of a trail reaches, px.
    """
    mask = stamps.planes[MASK.name]
    footprint, centre = _near_trail(rows, stamps, radius)
    found = {}
    for bit, (whole, middle) in _PIXEL_FLAGS.items():
        hit = (mask & np.uint16(bit)) != 0
        found[whole] = (hit & footprint).any(axis=(1, 2))
        if middle is not None:
            found[middle] = (hit & centre).any(axis=(1, 2))
    return found


def _near_trail(rows: pa.Table, stamps: Stamps, radius: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the pixels within a radius of each trail, and the 3 x 3 px around its centre, (n, side, side)."""
    x, y = rows["x"].to_numpy() - stamps.x0, rows["y"].to_numpy() - stamps.y0
    half = rows["trailLengthPx"].to_numpy().astype(float) / 2
    theta = np.radians(rows["trailAnglePx"].to_numpy().astype(float))
    place = np.arange(stamps.side, dtype=np.float64)
    dx, dy = (place - x[:, None])[:, None, :], (place - y[:, None])[:, :, None]
    cos, sin = np.cos(theta)[:, None, None], np.sin(theta)[:, None, None]
    beyond = np.maximum(np.abs(dx * cos + dy * sin) - half[:, None, None], 0)
    footprint = beyond**2 + (dy * cos - dx * sin) ** 2 <= radius**2
    middle_x, middle_y = np.rint(x)[:, None, None], np.rint(y)[:, None, None]
    centre = (np.abs(place[None, None, :] - middle_x) <= 1) & (np.abs(place[None, :, None] - middle_y) <= 1)
    return footprint, centre

"""From alerts to rows of `received_alert`, whatever survey they are of."""

import math
from collections.abc import Mapping
from typing import Any

from flows.inputs.fits_rubin import PACHON_LONGITUDE
from flows.inputs.fits_ztf import PALOMAR_LONGITUDE
from flows.publish.wire import ReceivedAlert
from kernels.sky.times import night_label, tai
from schemas.errors import BadInput

ZTF_BANDS = {1: "g", 2: "r", 3: "i"}
"""Filter number of ZTF -> band."""

ZTF_KNOWN_ARCSEC = 5.0
"""A known object that is further from a detection of ZTF's is not named."""

_AB_NJY = 31.4  # magnitude of 1 nJy
_MAGNITUDE = 2.5 / math.log(10)
_AS_THEY_ARE = (
    "diaSourceId", "visit", "detector", "midpointMjdTai", "ra", "dec", "band", "psfFlux", "psfFluxErr", "snr",
    "trailLength", "trailAngle", "reliability", "reliabilityVersion", "diaObjectId", "ssObjectId",
)  # fmt: skip


def row_of(alert: ReceivedAlert) -> tuple[str, dict[str, Any]]:
    """Return the night of an alert, and its row without the place of its message.

    The night is that of the site: of ZTF's alerts Palomar, of others Cerro Pachon.

    Raises
    ------
    BadInput
        It is an alert neither of Rubin's form nor of ZTF's (``other_alert``), or lacks what a row needs
        (``incomplete_alert``).
    """
    record = alert.record
    try:
        if isinstance(record.get("diaSource"), Mapping):
            row, longitude = _rubin(record), PACHON_LONGITUDE
        elif isinstance(record.get("candidate"), Mapping):
            row, longitude = _ztf(record), PALOMAR_LONGITUDE
        else:
            raise BadInput(
                "other_alert", "alert", "has neither a diaSource, as Rubin's have, nor a candidate, as ZTF's.",
                "send alerts of one of these forms.",
            )  # fmt: skip
        row["schemaId"] = alert.schema
        if not all(math.isfinite(row[name]) for name in ("midpointMjdTai", "ra", "dec")):
            raise ValueError("time or place is no number")
        return night_label(row["midpointMjdTai"], longitude), row
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise BadInput(
            "incomplete_alert",
            "alert",
            f"lacks what a row needs ({type(error).__name__}: {error}).",
            "see who sends it.",
        ) from error


def _rubin(record: Mapping[str, Any]) -> dict[str, Any]:
    source = record["diaSource"]
    row = {name: source.get(name) for name in _AS_THEY_ARE}
    solar, orbit = record.get("ssSource"), record.get("mpc_orbits") or record.get("MPCORB")
    if isinstance(solar, Mapping):
        row["ssObjectId"] = solar.get("ssObjectId")
    return {
        **row,
        # Versions of the schema before 10 write 0 for none.
        "ssObjectId": row["ssObjectId"] or None,
        "diaObjectId": row["diaObjectId"] or None,
        "objectName": None,
        "designation": (orbit.get("designation") or orbit.get("mpcDesignation"))
        if isinstance(orbit, Mapping)
        else None,
        "earlierDetections": len(record.get("prvDiaSources") or ()),
    }


def _ztf(record: Mapping[str, Any]) -> dict[str, Any]:
    found = record["candidate"]
    flux = 10 ** (0.4 * (_AB_NJY - found["magpsf"])) * (1 if found["isdiffpos"] in ("t", "1") else -1)
    deep = found.get("drb") is not None
    known = found.get("ssnamenr") not in (None, "", "null") and 0 <= found["ssdistnr"] <= ZTF_KNOWN_ARCSEC
    middle = tai(found["jd"] + (found.get("exptime") or 30.0) / 172_800, "jd", "utc")
    return {
        "diaSourceId": record["candid"],
        "visit": found["pid"] // 10_000,
        "detector": found["rcid"],
        "midpointMjdTai": float(middle.mjd),
        "ra": found["ra"],
        "dec": found["dec"],
        "band": ZTF_BANDS.get(found["fid"]),
        "psfFlux": flux,
        "psfFluxErr": abs(flux) * found["sigmapsf"] / _MAGNITUDE,
        "snr": _MAGNITUDE / found["sigmapsf"],
        "trailLength": None,
        "trailAngle": None,
        "reliability": found["drb"] if deep else found.get("rb"),
        "reliabilityVersion": found.get("drbversion") if deep else found.get("rbversion"),
        "diaObjectId": None,
        "objectName": record["objectId"],
        "ssObjectId": None,
        "designation": found["ssnamenr"] if known else None,
        "earlierDetections": sum(one.get("candid") is not None for one in record.get("prv_candidates") or ()),
    }

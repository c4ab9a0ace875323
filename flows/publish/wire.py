"""Alert messages, Rubin's with Confluent's header and ZTF's containers, and their rows of `received_alert`."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any, Literal

from flows.inputs.avro_container import require_bounded
from flows.inputs.fits_rubin import PACHON_LONGITUDE
from flows.inputs.fits_ztf import PALOMAR_LONGITUDE
from flows.inputs.ztf_packets import EXPOSURE_S, LONGEST_S, POSITIVE, packet_visit
from flows.publish.container import MAGIC, write_container
from flows.publish.packet import Packet
from flows.publish.rubin_schema import decoded, schema_id
from flows.publish.ztf_schema import container_schema
from kernels.sky.times import night_label, tai
from schemas.errors import BadInput
from schemas.received_alert import RECEIVED_ALERT

HEADER = 5
"""Size of Confluent's header, bytes: a 0, and the number of the schema, big-endian, in four bytes."""

ZTF = "ztf"

MOST_RECORDS = 1000
"""Largest number of alerts in a message; a message with more is refused."""

Kind = Literal["rubin", "ztf", "other"]
Resolve = Callable[[int], Mapping[str, Any]]
"""Returns the parsed schema with a number."""


@dataclass(frozen=True)
class ReceivedAlert:
    """Alert from a message.

    Attributes
    ----------
    record
        Alert in the form of its schema.
    schema
        Number of the schema; None: the message holds its schema, as those of ZTF do.
    """

    record: Mapping[str, Any]
    schema: int | None


def message_of(packet: Packet) -> bytes:
    """Return the message of a packet: Confluent's header and Avro; for ZTF, a container with one record."""
    if packet.schema == ZTF:
        file = BytesIO()
        write_container(file, container_schema(ZTF), [packet.body])
        return file.getvalue()
    return _header(packet.schema) + packet.body


def message_key(packet: Packet) -> bytes:
    """Return the key of a message, with which consumers can drop repeats: diaSourceId in digits."""
    return str(packet.source_id).encode()


@cache
def _header(version: str) -> bytes:
    return b"\0" + schema_id(version).to_bytes(4, "big")


def kind_of(message: bytes) -> Kind:
    """Return what a message is by its first bytes: an alert in the wire format of Rubin or ZTF, or something else."""
    if message[:1] == b"\0":
        return "rubin"
    return "ztf" if message[:4] == MAGIC else "other"


def alerts_of(message: bytes, resolve: Resolve) -> list[ReceivedAlert]:
    """Return the alerts in a message: one, or all in a container.

    Parameters
    ----------
    message
        Value of the message.
    resolve
        Returns schemas by their numbers.

    Raises
    ------
    BadInput
        The message is not an alert (``no_alert``), or is damaged (``damaged_alert``).
    NightstrideError
        As raised by ``resolve``.
    """
    kind = kind_of(message)
    if kind == "ztf":
        return [ReceivedAlert(record, None) for record in _records(message)]
    if kind == "other" or len(message) < HEADER:
        raise BadInput(
            "no_alert", "message", f"is not an alert: it begins with {message[:8]!r}.",
            "send alerts with Confluent's header or as Avro object containers; announcements of exposures have a topic "
            "of their own.",
        )  # fmt: skip
    number = int.from_bytes(message[1:HEADER], "big")
    return [ReceivedAlert(decoded(message[HEADER:], resolve(number), str(number)), number)]


def _records(message: bytes) -> list[Mapping[str, Any]]:
    from fastavro import parse_schema, reader

    found: list[Mapping[str, Any]] = []
    try:
        file = reader(BytesIO(message))
        require_bounded(parse_schema(file.writer_schema))
        if file.codec not in ("null", "snappy"):  # tighter compression could expand a thousandfold
            raise ValueError(f"its codec is {file.codec}, and must be null or snappy")
        for record in file:
            if not isinstance(record, dict) or len(found) == MOST_RECORDS:
                raise ValueError("holds no records" if not isinstance(record, dict) else "holds too many alerts")
            found.append(record)
    except Exception as error:  # reading damaged bytes may raise any error
        raise BadInput(
            "damaged_alert", "message", f"cannot be read as an Avro object container ({_words(error)}).",
            "have it sent again, whole.",
        ) from error  # fmt: skip
    return found


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


ZTF_BANDS = {1: "g", 2: "r", 3: "i"}
"""Filter number of ZTF -> band."""

ZTF_KNOWN_ARCSEC = 5.0
"""Known objects farther than this from a detection of ZTF are not named."""

_AB_NJY = 31.4  # AB magnitude of 1 nJy
_MAGNITUDE = 2.5 / math.log(10)
_AS_THEY_ARE = (
    "diaSourceId", "visit", "detector", "midpointMjdTai", "ra", "dec", "band", "psfFlux", "psfFluxErr", "snr",
    "trailLength", "trailAngle", "reliability", "reliabilityVersion", "diaObjectId", "ssObjectId",
)  # fmt: skip


def row_of(alert: ReceivedAlert) -> tuple[str, dict[str, Any]]:
    """Return the night of an alert, and its row without the partition and offset of its message.

    The night is that at the site: Palomar for ZTF's alerts, Cerro Pachon for others.

    Raises
    ------
    BadInput
        The alert has neither Rubin's nor ZTF's form (``other_alert``), or lacks values for a row
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
        row = {name: _fitting(value, name) for name, value in row.items()}
        if not (0 <= row["ra"] < 360 and -90 <= row["dec"] <= 90):
            raise ValueError("ra and dec are not a place on the sky")
        return night_label(row["midpointMjdTai"], longitude), row
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise BadInput(
            "incomplete_alert",
            "alert",
            f"lacks what a row needs ({type(error).__name__}: {error}).",
            "see who sends it.",
        ) from error


def _fitting(value: Any, name: str) -> Any:
    """Return a value of a message as its column can hold it, NaN and infinity as null; raise if it does not fit."""
    column = RECEIVED_ALERT.schema.field(name)
    if isinstance(value, float) and not math.isfinite(value):
        value = None
    if value is None and column.nullable:
        return None
    kind, least = _KINDS[str(column.type)]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}"[:100])
    if least is not None and not least <= value < -least:
        raise ValueError(f"{name} is {value}, which takes more bits than there are")
    if name in ("visit", "detector") and value < 0:
        raise ValueError(f"{name} is {value}, below 0")
    return float(value) if kind is _NUMBER else value  # pyarrow does not convert large integers


_NUMBER = int | float
_KINDS: Mapping[str, tuple[Any, int | None]] = {
    "int64": (int, -(1 << 63)), "int32": (int, -(1 << 31)), "double": (_NUMBER, None), "float": (_NUMBER, None),
    "string": (str, None),
}  # fmt: skip
"""Type of a column -> type of its values, and the smallest integer."""


def _rubin(record: Mapping[str, Any]) -> dict[str, Any]:
    source = record["diaSource"]
    row = {name: source.get(name) for name in _AS_THEY_ARE}
    solar, orbit = record.get("ssSource"), record.get("mpc_orbits") or record.get("MPCORB")
    if isinstance(solar, Mapping):
        row["ssObjectId"] = solar.get("ssObjectId")
    return {
        **row,
        # Versions of the schema before 10 write 0 if there is none.
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
    if found["isdiffpos"] not in POSITIVE:  # else the sign of the flux would be a guess
        raise ValueError(f"isdiffpos is {found['isdiffpos']!r}"[:100])
    flux = 10 ** (0.4 * (_AB_NJY - found["magpsf"])) * (1 if POSITIVE[found["isdiffpos"]] else -1)
    error = math.nan if found["sigmapsf"] < 0 else found["sigmapsf"]
    deep = _told(found.get("drb")) is not None
    apart = _told(found.get("ssdistnr"), ZTF_KNOWN_ARCSEC)
    known = found.get("ssnamenr") not in (None, "", "null") and apart is not None
    exposure_s = _told(found.get("exptime"), LONGEST_S)
    middle = tai(found["jd"] + (EXPOSURE_S if exposure_s is None else exposure_s) / 172_800, "jd", "utc")
    return {
        "diaSourceId": record["candid"],
        "visit": packet_visit(found["pid"], found["rcid"]),
        "detector": found["rcid"],
        "midpointMjdTai": float(middle.mjd),
        "ra": found["ra"],
        "dec": found["dec"],
        "band": ZTF_BANDS.get(found["fid"]),
        "psfFlux": flux,
        "psfFluxErr": abs(flux) * error / _MAGNITUDE,
        "snr": _MAGNITUDE / error,
        "trailLength": None,
        "trailAngle": None,
        "reliability": found["drb"] if deep else _told(found.get("rb")),
        "reliabilityVersion": found.get("drbversion") if deep else found.get("rbversion"),
        "diaObjectId": None,
        "objectName": record["objectId"],
        "ssObjectId": None,
        "designation": found["ssnamenr"] if known else None,
        "earlierDetections": sum(one.get("candid") is not None for one in record.get("prv_candidates") or ()),
    }


def _told(value: float | None, most: float = math.inf) -> float | None:
    """Return a number from 0 to ``most``; else None: ZTF's packets hold null, NaN or -999 where nothing is known."""
    return value if value is not None and 0 <= value <= most else None

"""Messages of alerts: Confluent's wire format of Rubin's, and one ZTF packet each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any, Literal

from flows.publish.container import MAGIC, write_container
from flows.publish.packet import Packet
from flows.publish.rubin_schema import decoded, schema_id
from flows.publish.sinks import container_schema
from schemas.errors import BadInput

HEADER = 5
"""Bytes of Confluent's header: 0, and the number of the schema, big-endian."""

ZTF = "ztf"

MOST_RECORDS = 1000
"""Alerts in one message; a message of more is refused."""

Kind = Literal["rubin", "ztf", "other"]
Resolve = Callable[[int], Mapping[str, Any]]
"""Returns the parsed schema of a number."""


@dataclass(frozen=True)
class ReceivedAlert:
    """Alert of a message.

    Attributes
    ----------
    record
        As its schema has it.
    schema
        Number of the schema; None: the message brought its own, as ZTF's do.
    """

    record: Mapping[str, Any]
    schema: int | None


def message_of(packet: Packet) -> bytes:
    """Return the message of a packet: Confluent's header and Avro; of ZTF an Avro object container of one record."""
    if packet.schema == ZTF:
        file = BytesIO()
        write_container(file, container_schema(ZTF), [packet.body])
        return file.getvalue()
    return _header(packet.schema) + packet.body


def key_of(packet: Packet) -> bytes:
    """Return the key of a message, by which consumers drop repeats: diaSourceId in digits."""
    return str(packet.source_id).encode()


@cache
def _header(version: str) -> bytes:
    return b"\0" + schema_id(version).to_bytes(4, "big")


def kind_of(message: bytes) -> Kind:
    """Return what a message is by its first bytes: an alert of Rubin's or of ZTF's wire format, or something else."""
    if message[:1] == b"\0":
        return "rubin"
    return "ztf" if message[:4] == MAGIC else "other"


def alerts_of(message: bytes, resolve: Resolve) -> list[ReceivedAlert]:
    """Return the alerts of a message: one, or as many as a container holds.

    Parameters
    ----------
    message
        Value of the message.
    resolve
        Finds schemas by their numbers.

    Raises
    ------
    BadInput
        It is no alert (``no_alert``), or is damaged (``damaged_alert``).
    NightstrideError
        As ``resolve`` raises.
    """
    kind = kind_of(message)
    if kind == "ztf":
        return [ReceivedAlert(record, None) for record in _records(message)]
    if kind == "other" or len(message) < HEADER:
        raise BadInput(
            "no_alert", "message", f"is no alert: it begins with {message[:8]!r}.",
            "send alerts with Confluent's header or as Avro object containers; announcements of exposures have a topic "
            "of their own.",
        )  # fmt: skip
    number = int.from_bytes(message[1:HEADER], "big")
    return [ReceivedAlert(decoded(message[HEADER:], resolve(number), f"schema {number}"), number)]


def _records(message: bytes) -> list[Mapping[str, Any]]:
    from fastavro import reader

    found: list[Mapping[str, Any]] = []
    try:
        file = reader(BytesIO(message))
        if file.codec not in ("null", "snappy"):  # what is packed tighter may be a thousand times its size
            raise ValueError(f"its codec is {file.codec}, and must be null or snappy")
        for record in file:
            if not isinstance(record, dict) or len(found) == MOST_RECORDS:
                raise ValueError("holds no records" if not isinstance(record, dict) else "holds too many alerts")
            found.append(record)
    except Exception as error:  # whatever a reader of damaged bytes comes upon
        raise BadInput(
            "damaged_alert", "message", f"cannot be read as an Avro object container ({_words(error)}).",
            "have it sent again, whole.",
        ) from error  # fmt: skip
    return found


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]

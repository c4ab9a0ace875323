"""Reading and validation of alert files: Avro object containers, and messages with Confluent's header."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import IO, Any

from flows.inputs.avro_container import require_bounded
from flows.publish.container import MAGIC
from flows.publish.rubin_schema import SCHEMAS, decoded, packaged, packet_version, serialise
from flows.publish.wire import HEADER
from schemas.errors import BadInput, Misconfigured

_NAME = re.compile(r"lsst\.v(\d+)_(\d+)\.alert")
_FITS, _BLOCK = b"SIMPLE  =", 2880
_CUTOUTS = ("cutoutDifference", "cutoutScience", "cutoutTemplate")


@dataclass(frozen=True)
class AlertRead:
    """Alert read from a file.

    Attributes
    ----------
    schema
        Version of Rubin's schema, or the name of the schema in the file.
    record
        Alert in the form of the schema.
    """

    schema: str
    record: Mapping[str, Any]


def read_alerts(path: Path) -> Iterator[AlertRead]:
    """Yield the alerts of a file, one by one.

    Parameters
    ----------
    path
        Avro object container, or one message with Confluent's header.

    Raises
    ------
    Misconfigured
        The file does not exist or may not be read (``no_file``), or the extra ``rubin`` is missing.
    BadInput
        The file has another format or no alerts (``no_alerts``), or is damaged (``damaged_alert``); raised after the
        readable alerts.
    """
    try:
        with path.open("rb") as file:
            start = file.read(HEADER)
            if start[: len(MAGIC)] == MAGIC:
                file.seek(0)
                yield from _container(path, file)
            elif start[:1] == b"\0" and len(start) == HEADER:
                version = packet_version(int.from_bytes(start[1:], "big"))
                yield AlertRead(version, decoded(file.read(), packaged(version), version))
            else:
                raise BadInput(
                    "no_alerts", str(path), f"holds no alerts: it begins with {start!r}.",
                    "give Avro object containers, or messages with Confluent's header.",
                )  # fmt: skip
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}."
        raise Misconfigured("no_file", str(path), reason, "give a file of alerts.") from error


def _container(path: Path, file: IO[bytes]) -> Iterator[AlertRead]:
    from fastavro import parse_schema, reader

    try:
        found = reader(file)
        record: Any = None
        require_bounded(parse_schema(found.writer_schema))
        name = str(dict(found.writer_schema).get("name", ""))
        for record in found:
            if not isinstance(record, dict):
                raise ValueError("holds no records")
            yield AlertRead(_version(name), record)
        if record is None:
            raise BadInput("no_alerts", str(path), "holds no alerts.", "give a file that does.")
    except OSError:
        raise
    except BadInput:
        raise
    except Exception as error:  # reading damaged bytes may raise any error
        reason = f"cannot be read to its end ({type(error).__name__}: {error})"[:300]
        raise BadInput("damaged_alert", str(path), f"{reason}.", "have it written again.") from error


def _version(name: str) -> str:
    """Return the version of Rubin's schema that a name stands for, or the name."""
    found = _NAME.fullmatch(name)
    return f"{int(found[1])}.{int(found[2])}" if found else name


@dataclass
class Validation:
    """Counts of alerts that conform to their schema, and of others by reason.

    Attributes
    ----------
    files, valid, invalid
        Numbers of files and of valid and invalid alerts; a truncated or empty file counts as an invalid alert.
    reasons
        Reason -> number of alerts.
    schemas
        Version or name of the schema -> number of alerts.
    """

    files: int = 0
    valid: int = 0
    invalid: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    schemas: Counter[str] = field(default_factory=Counter)

    def values(self) -> dict[str, Any]:
        """Return the counts as JSON-serialisable values."""
        counts = {name: dict(sorted(getattr(self, name).items())) for name in ("schemas", "reasons")}
        return {"files": self.files, "valid": self.valid, "invalid": self.invalid, **counts}


def validate_alerts(paths: Sequence[Path]) -> Validation:
    """Return the validation of the alerts in files against `lsst-alert-packet`, or else the schemas in the files.

    Raises
    ------
    Misconfigured
        A file does not exist, or the extra ``rubin`` is missing.
    """
    found = Validation()
    for path in paths:
        found.files += 1
        try:
            for one in read_alerts(path):
                found.schemas[one.schema] += 1
                reason = _fault(one)
                found.valid += reason is None
                if reason is not None:
                    found.invalid += 1
                    found.reasons[reason] += 1
        except BadInput as error:
            found.invalid += 1
            found.reasons[f"{error.code}: {error.problem}"] += 1
    return found


def _fault(one: AlertRead) -> str | None:
    """Return the fault of an alert, or None; alerts with other than Rubin's schema were read with their own."""
    if one.schema not in SCHEMAS:
        return None
    try:
        serialise(one.record, one.schema)
    except BadInput as error:
        return f"{error.code}: {error.problem}"
    return next(_oddities(one.record), None)


def _oddities(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield faults that the schema does not exclude."""
    source = record["diaSource"]
    if source["diaSourceId"] != record["diaSourceId"]:
        yield "ids: diaSource.diaSourceId is not diaSourceId"
    if not (0 <= source["ra"] < 360 and -90 <= source["dec"] <= 90):
        yield "position: diaSource.ra and dec are not a place on the sky"
    if not (isfinite(source["midpointMjdTai"]) and isfinite(source["timeProcessedMjdTai"])):
        yield "time: midpointMjdTai or timeProcessedMjdTai is not a time"
    if source["reliability"] is not None and not 0 <= source["reliability"] <= 1:
        yield "reliability: is not from 0 to 1"
    for name in _CUTOUTS:
        content = record[name]
        if content is not None and (content[: len(_FITS)] != _FITS or len(content) % _BLOCK):
            yield f"{name}: is not a FITS file"


def shown(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return an alert for JSON, with short descriptions of bytes, text for nan and inf, and no nulls."""
    return {name: value for name, value in ((name, _plain(one)) for name, one in record.items()) if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return _of_bytes(value)
    if isinstance(value, Mapping):
        return shown(value)
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _of_bytes(content: bytes) -> str:
    """Return a description of a cutout."""
    if content[: len(_FITS)] == _FITS:
        cards = (content[at : at + 80].decode("ascii", "replace") for at in range(0, _BLOCK, 80))
        found = {card[:8].strip(): card[10:30].strip(" '") for card in cards if card[8:10] == "= "}
        with suppress(KeyError):
            return f"FITS, {found['NAXIS1']} x {found['NAXIS2']} px, {found.get('BUNIT', '')}, {len(content):,} bytes"
    return f"{len(content):,} bytes"

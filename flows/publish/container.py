"""Avro object containers of serialised alerts: a header, then blocks of unchanged alerts."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import md5
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any
from uuid import uuid4

from flows.publish.avro_rows import avro_long
from flows.storage.atomic import STAGED, make_folder, publish_file
from flows.storage.bucket_path import BucketPath
from flows.storage.writing import writing
from schemas.errors import BadInput, NightstrideError

MAGIC = b"Obj\x01"
"""First bytes of an Avro object container."""

BLOCK = 1 << 20
"""Bytes after which a block ends."""

_NIGHT = b"nightstride.night"
_ENTRIES = (b"avro.codec", b"avro.schema")


def write_container(
    target: Path | IO[bytes], schema: Mapping[str, Any], bodies: Iterable[bytes], night: str | None = None
) -> int:
    """Write serialised records as an Avro object container (Avro 1.11, "Object Container Files"); return its length.

    The records are not decoded, so each keeps the bytes that are sent elsewhere. The marker between blocks depends only
    on the schema, so the same records give the same bytes.

    Parameters
    ----------
    target
        Path, where the whole file appears in one step, or a file open for writing.
    schema
        Schema parsed by `fastavro`; all of it goes into the header.
    bodies
        Avro of each record, without header.
    night
        Night of the alerts, written to the header (``nightstride.night``); None: not written.

    Raises
    ------
    Retryable, Misconfigured
        The file cannot be written; see `flows.storage.atomic.write_file`.
    """
    if isinstance(target, BucketPath):
        with TemporaryDirectory(prefix="nightstride-") as folder, writing(local := Path(folder) / "container"):
            length = write_container(local, schema, bodies, night)
            target.upload(local)
        return length
    if isinstance(target, Path):
        with writing(target), _staged(target) as staged, staged.open("xb") as file:
            return write_container(file, schema, bodies, night)
    text = _schema_text(schema)
    marker = md5(text, usedforsecurity=False).digest()
    length = target.write(_header(text, marker, night))
    block, size = list[bytes](), 0
    for body in bodies:
        block.append(body)
        size += len(body)
        if size >= BLOCK:
            length += target.write(_block(block, size, marker))
            block, size = [], 0
    if block:
        length += target.write(_block(block, size, marker))
    return length


@contextmanager
def _staged(path: Path) -> Iterator[Path]:
    make_folder(path.parent)
    staged = path.parent / f".{path.name}.{uuid4().hex}{STAGED}"
    try:
        yield staged
        publish_file(staged, path)
    finally:
        with suppress(FileNotFoundError):
            staged.unlink()


def _schema_text(schema: Mapping[str, Any]) -> bytes:
    own = {name: value for name, value in schema.items() if not name.startswith("__")}
    return json.dumps(own, separators=(",", ":")).encode()


def require_same_night(path: Path, visit: int, night: str) -> None:
    """Raise unless a container may be written: its path has none, or one of the same night.

    An empty file, or one that ends within the header like a truncated copy, holds no alerts and counts as missing.

    Raises
    ------
    BadInput
        ``other_night``: the container holds alerts of another or an unknown night.
    """
    start = _beginning(night)
    found = _first_bytes(path, len(start))
    if found == start or (
        len(found) < len(start) and start[: -len(night)].startswith(found[: len(start) - len(night)])
    ):
        return
    of = found[-len(night) :].decode(errors="replace")
    whose = f"of night {of}" if found.startswith(start[: -len(night)]) else "of another program or an earlier version"
    raise BadInput(
        "other_night", str(path),
        f"holds alerts {whose}: those of visit {visit} of night {night} would replace them.",
        "send each night somewhere of its own, or move that file away.",
    )  # fmt: skip


def has_header(path: Path) -> bool:
    """Return whether a path has a container with a complete header; raise as reading it does."""
    start = _beginning("")
    return len(_first_bytes(path, len(start))) == len(start)


def holds_alerts_of(path: Path, detector: int) -> bool:
    """Return whether a container has alerts of a detector; one that is missing or damaged counts as without.

    Raises
    ------
    Retryable, Misconfigured
        The store of objects does not answer.
    """
    from fastavro import reader

    try:
        with path.open("rb") as file:
            return any(_detector_of(record) == detector for record in reader(file))
    except NightstrideError:
        raise
    except Exception:  # reading damaged bytes may raise any error
        return False


def _detector_of(record: Any) -> int | None:
    source = record.get("diaSource")
    return record["candidate"]["rcid"] if source is None else source["detector"]


def _first_bytes(path: Path, count: int) -> bytes:
    """Return the first bytes of a file; empty if there is no file."""
    try:
        with writing(path):
            if isinstance(path, BucketPath):  # of an empty object a store gives no range
                there = min([count, *path.sizes()])
                return path.read_ranges([(0, there)])[0] if there else b""
            with path.open("rb") as file:
                return file.read(count)
    except FileNotFoundError:
        return b""


def _beginning(night: str | None) -> bytes:
    """Return the start of a container, up to the entries common to all."""
    if night is None:
        return MAGIC + avro_long(len(_ENTRIES))
    return MAGIC + avro_long(len(_ENTRIES) + 1) + _text(_NIGHT) + _text(night.encode())


def _header(schema: bytes, marker: bytes, night: str | None) -> bytes:
    pairs = zip(_ENTRIES, (b"null", schema), strict=True)
    return _beginning(night) + b"".join(_text(name) + _text(value) for name, value in pairs) + avro_long(0) + marker


def _text(value: bytes) -> bytes:
    return avro_long(len(value)) + value


def _block(bodies: list[bytes], size: int, marker: bytes) -> bytes:
    return b"".join((avro_long(len(bodies)), avro_long(size), *bodies, marker))

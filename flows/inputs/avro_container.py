"""Avro object containers, read record by record, with sizes checked before memory is used."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import IO, Any

from schemas.errors import BadInput, Misconfigured, NightstrideError

MAGIC = b"Obj\x01"
"""First bytes of a container."""

MOST_DEEP = 64
"""Maximum nesting of schemas; those of alerts have 5 levels."""

MOST_BLOCK = 2**26
"""Maximum size of a block, bytes, packed or not. ZTF's alerts take 60 kB each, and a block of them a few MB."""


def open_container(file: IO[bytes], where: str) -> tuple[Mapping[str, Any], Iterator[Any]]:
    """Return the schema of a container (Avro 1.11, "Object Container Files"), and an iterator over its records.

    Only one block is in memory at a time.

    Parameters
    ----------
    file, where
        File to read from its current position, and its name for messages.

    Raises
    ------
    BadInput
        ``bad_avro``: the file is not a container, is damaged, or has a codec other than null and deflate;
        ``truncated``: it ends within a block; ``too_large``: a block is larger than `MOST_BLOCK`. May also be raised by
        the iterator; the records before are then valid.
    Misconfigured
        ``fastavro`` is not installed.
    """
    try:
        import fastavro
    except ModuleNotFoundError as error:
        raise Misconfigured(
            "no_fastavro", "fastavro", "is not installed, and alert packets are Avro.", "pip install 'fastavro>=1.12'."
        ) from error
    bounded = _Bounded(file)
    with _damage(where):
        head = fastavro.reader(bounded)  # it reads blocks only when asked for records
        schema = fastavro.parse_schema(head.writer_schema)
        require_bounded(schema)
        codec, marker = head.metadata.get("avro.codec", "null"), head._header["sync"]

    def records() -> Iterator[Any]:
        with _damage(where):
            while (block := _block(bounded, codec, marker, where)) is not None:
                yield from _records(*block, schema, fastavro.schemaless_reader)

    return schema, records()


def require_bounded(schema: Any) -> None:
    """Refuse a schema that allows a few bytes to stand for endless values or nesting.

    Decoders would follow it until memory or stack are exhausted, and the process is killed.

    Parameters
    ----------
    schema
        Schema parsed by `fastavro`.

    Raises
    ------
    ValueError
        A type contains itself; is nested more than `MOST_DEEP` levels deep; has values without bytes, outside a union;
        or is a decimal, of which a megabyte takes minutes to decode.
    """
    _depth(schema, {})


def _depth(kind: Any, known: dict[str, int | None]) -> int:
    """Return how deep a type is; ``known`` holds the depths of named types, None while one is being measured."""
    if isinstance(kind, str):
        if kind == "null":
            raise ValueError("its schema has values without bytes")
        if (deepest := known.get(kind, 0)) is None:
            raise ValueError(f"its schema has {kind} within itself")
        return deepest
    if isinstance(kind, list):
        return max((_depth(one, known) for one in kind if one != "null"), default=1)
    if kind.get("size") == 0 or kind.get("fields") == []:
        raise ValueError("its schema has values without bytes")
    if kind.get("logicalType") == "decimal":
        raise ValueError("its schema has decimals, which take the square of their length")
    name, inner = str(kind.get("name", "")), [field["type"] for field in kind.get("fields", ())]
    inner += [kind[part] for part in ("items", "values") if part in kind]
    if not inner and kind["type"] not in ("enum", "fixed"):
        inner = [kind["type"]]
    known |= {name: None} if name else {}
    deepest = 1 + max((_depth(one, known) for one in inner), default=0)
    known |= {name: deepest} if name else {}
    if deepest > MOST_DEEP:
        raise ValueError(f"its schema is more than {MOST_DEEP} types deep")
    return deepest


@contextmanager
def _damage(where: str) -> Iterator[None]:
    """Convert the errors, of all kinds, that damaged bytes cause in the decoder."""
    try:
        yield
    except NightstrideError:
        raise
    except Exception as error:
        raise _bad(where, f"{type(error).__name__}: {error}"[:300]) from error


def _bad(where: str, reason: str) -> BadInput:
    return BadInput("bad_avro", where, f"is not a readable Avro container: {reason}.", "fetch it again.")


class _Bounded:
    """File that refuses to read more than a block's size at once, whatever length damaged bytes ask for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_BLOCK:
            raise ValueError(f"a length of {size} bytes")
        return self._file.read(size)


def _block(file: _Bounded, codec: str, marker: bytes, where: str) -> tuple[int, bytes] | None:
    """Read a block; return its number of records and their bytes, None at the end of the file."""
    start = file.read(1)
    if not start:
        return None
    count, size = _long(file, start, where), _long(file, b"", where)
    if not 0 <= size <= MOST_BLOCK:
        raise BadInput("too_large", where, f"a block has {size} bytes, the limit is {MOST_BLOCK}.", "fetch it again.")
    data, end = file.read(size), file.read(len(marker))
    if len(data) + len(end) < size + len(marker):
        raise BadInput("truncated", where, "is not a whole Avro container: it ends within a block.", "fetch it again.")
    if end != marker:
        raise _bad(where, "a block does not end with the marker of the file")
    return count, _unpacked(data, codec, where)


def _long(file: _Bounded, start: bytes, where: str) -> int:
    """Read an Avro number: zigzag-encoded, seven bits per byte, the lowest first."""
    value = shift = 0
    while shift < 64:
        byte = start or file.read(1)
        if not byte:
            raise BadInput("truncated", where, "is not a whole Avro container: it ends early.", "fetch it again.")
        start = b""
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value >> 1 ^ -(value & 1)
        shift += 7
    raise _bad(where, "a length has more than 64 bits")


def _unpacked(data: bytes, codec: str, where: str) -> bytes:
    if codec == "null":
        return data
    if codec != "deflate":
        raise BadInput(
            "bad_avro", where, f"is packed with the codec {codec!r}.", "write it with the codec null or deflate."
        )
    plain = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, MOST_BLOCK + 1)
    if len(plain) > MOST_BLOCK:
        raise BadInput("too_large", where, f"a block unpacks to more than {MOST_BLOCK} bytes.", "fetch it again.")
    return plain


def _records(count: int, data: bytes, schema: Any, read: Any) -> Iterator[Mapping[str, Any]]:
    file = BytesIO(data)
    for _ in range(count):
        before = file.tell()
        yield read(file, schema, None)
        if file.tell() == before:
            raise ValueError("a record without bytes")
    if (rest := len(data) - file.tell()) != 0:
        raise ValueError(f"{rest} bytes of a block are left over")

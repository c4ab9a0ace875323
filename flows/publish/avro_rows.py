"""Encoding of all rows of a table as Avro records at once; `fastavro` takes 50 us for each of a hundred fields."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from schemas.errors import BadInput

_KINDS = {"boolean": 0, "int": 1, "long": 1, "float": 2, "double": 3, "string": 4}
_NUMPY = {"boolean": np.uint64, "int": np.int64, "long": np.int64, "float": np.float32, "double": np.float64}
_WIDEST = 11  # bytes of a field that is not a string
_INT = 1 << 31


class Encoded(bytes):
    """Avro bytes of a record within a larger one."""


class Column(NamedTuple):
    """Values of a field.

    Attributes
    ----------
    values : (n,)
        Numbers, booleans or texts. NaN and infinity are null.
    valid : (n,) bool
        False for missing values; None: all are valid.
    """

    values: NDArray[Any] | Sequence[str]
    valid: NDArray[np.bool_] | None = None


def table_columns(rows: pa.Table, names: Iterable[str]) -> dict[str, Column]:
    """Return some columns of a table, of which only floating-point columns may have nulls."""
    return {
        name: Column(rows[name].to_pylist() if pa.types.is_string(rows[name].type) else rows[name].to_numpy())
        for name in names
    }


def ids_or_null(ids: Sequence[int | None]) -> Column:
    """Return a column of ids."""
    valid = np.array([one is not None for one in ids], np.bool_)
    return Column(np.array([one or 0 for one in ids], np.int64), valid)


def avro_long(value: int) -> bytes:
    """Return a non-negative number in Avro: zigzag, seven bits per byte, low bits first."""
    rest, out = value << 1, bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((*out, rest))


def encode_rows(schema: Mapping[str, Any], columns: Mapping[str, Column], count: int) -> list[Encoded]:
    """Return rows in Avro, without header.

    Parameters
    ----------
    schema
        Schema of a record with fields of primitive types, and unions of null (first) and one of these.
    columns
        Columns by field name; missing columns are null.
    count
        Number of rows.

    Raises
    ------
    BadInput
        A column is not in the schema, a required one is missing or has no value somewhere, or a whole number does not
        fit its type (``alert_schema``).
    """
    fields, name = schema["fields"], schema["name"]
    if unknown := columns.keys() - {field["name"] for field in fields}:
        raise _none_of(name, f"{', '.join(sorted(unknown))}: not in the schema")
    kinds, nullable = np.zeros(len(fields), np.int64), np.zeros(len(fields), np.bool_)
    bits, valid = np.zeros((len(fields), count), np.uint64), np.zeros((len(fields), count), np.bool_)
    texts = _Texts()
    for k, field in enumerate(fields):
        nullable[k] = isinstance(field["type"], list)
        kind = field["type"][1] if nullable[k] else field["type"]
        kinds[k] = _KINDS[kind]
        if field["name"] in columns and count:
            bits[k], valid[k] = _bits(columns[field["name"]], kind, texts, f"{name}: {field['name']}")
        if not nullable[k] and not valid[k].all():
            raise _none_of(name, f"{field['name']} is missing, or null")
    pool, starts = texts.pool()
    room = int(count * (len(fields) * _WIDEST + (starts[1:] - starts[:-1]).max(initial=0) * (kinds == 4).sum()))
    out, ends = np.empty(room, np.uint8), np.zeros(count + 1, np.int64)
    _encode(kinds, nullable, bits, valid, pool, starts, out, ends)
    whole, places = out[: ends[-1]].tobytes(), ends.tolist()
    return [Encoded(whole[first:last]) for first, last in pairwise(places)]


class _Texts:
    """Distinct strings in Avro, by number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    def pool(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the concatenated strings, and the start of each and the end of the last."""
        coded = [text.encode() for text in self._numbers]
        found = [avro_long(len(one)) + one for one in coded]
        starts = np.cumsum([0, *map(len, found)])
        return np.frombuffer(b"".join(found), np.uint8), starts.astype(np.int64)


def _bits(column: Column, kind: str, texts: _Texts, where: str) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return values as 64 bits each, and which of them are present."""
    if kind == "string":
        numbers = np.array([texts.number(one or "") for one in column.values], np.uint64)
        return numbers, np.array([one is not None for one in column.values], np.bool_)
    plain = np.asarray(column.values)
    valid = np.ones(len(plain), np.bool_) if column.valid is None else column.valid
    if np.issubdtype(plain.dtype, np.floating):
        valid = valid & np.isfinite(plain)
    if kind in ("int", "long") and not np.issubdtype(plain.dtype, np.integer):
        raise _none_of(where, f"holds {plain.dtype}, must hold whole numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        typed = np.ascontiguousarray(plain, _NUMPY[kind])
    if kind == "int" and not ((typed[valid] >= -_INT) & (typed[valid] < _INT)).all():
        raise _none_of(where, "holds a number of more than 32 bits")
    if kind == "float":
        return typed.view(np.uint32).astype(np.uint64), valid
    return typed.view(np.uint64), valid


def _none_of(where: str, problem: str) -> BadInput:
    remedy = "give each field of the schema values of its type, and none that it does not have."
    return BadInput("alert_schema", where, f"{problem}.", remedy)


@njit(cache=True, nogil=True)
def _encode(
    kinds: NDArray[np.int64],
    nullable: NDArray[np.bool_],
    bits: NDArray[np.uint64],
    valid: NDArray[np.bool_],
    pool: NDArray[np.uint8],
    starts: NDArray[np.int64],
    out: NDArray[np.uint8],
    ends: NDArray[np.int64],
) -> None:
    """Write rows one after another (Avro 1.11, "Binary Encoding"); ``ends[n + 1]`` is the end of row n."""
    at = 0
    for n in range(bits.shape[1]):
        for k in range(len(kinds)):
            if nullable[k]:
                out[at] = 2 if valid[k, n] else 0
                at += 1
                if not valid[k, n]:
                    continue
            value = bits[k, n]
            if kinds[k] == 0:
                out[at] = 1 if value else 0
                at += 1
            elif kinds[k] == 1:  # zigzag, seven bits per byte, low bits first
                signed = np.int64(value)
                rest = np.uint64((signed << 1) ^ (signed >> 63))
                while rest > np.uint64(0x7F):
                    out[at] = np.uint8((rest & np.uint64(0x7F)) | np.uint64(0x80))
                    rest >>= np.uint64(7)
                    at += 1
                out[at] = np.uint8(rest)
                at += 1
            elif kinds[k] == 4:
                for j in range(starts[value], starts[value + np.uint64(1)]):
                    out[at] = pool[j]
                    at += 1
            else:
                for byte in range(4 if kinds[k] == 2 else 8):
                    out[at] = np.uint8((value >> np.uint64(8 * byte)) & np.uint64(0xFF))
                    at += 1
        ends[n + 1] = at

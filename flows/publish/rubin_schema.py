"""Rubin's alert schemas from the package `lsst-alert-packet`, and their Avro encoding and decoding."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from flows.publish.avro_rows import Encoded, avro_long
from schemas.errors import BadInput, Misconfigured, choice, missing_extra

SCHEMAS = ("11.1", "11.0", "10.0")
"""Supported versions, latest first."""


def schema_id(version: str) -> int:
    """Return the number of a version in registries and message headers: major, then minor in two digits.

    >>> schema_id("11.1")
    1101
    """
    major, minor = version.split(".")
    return 100 * int(major) + int(minor)


def packet_version(identity: int) -> str:
    """Return the version with a number, as given by `schema_id`.

    Raises
    ------
    BadInput
        No version in `SCHEMAS` has this number (``unknown_schema``).
    """
    known = {schema_id(version): version for version in SCHEMAS}
    if identity not in known:
        raise BadInput(
            "unknown_schema",
            "alert",
            f"has schema id {identity}.",
            f"send one of {', '.join(f'{number} ({version})' for number, version in known.items())}.",
        )
    return known[identity]


@cache
def parsed(version: str) -> dict[str, Any]:
    """Return the schema of an alert, including those of its parts, parsed by `fastavro`.

    Raises
    ------
    Misconfigured
        The version is not in `SCHEMAS` (``no_schema``), or the extra ``rubin`` is missing.
    """
    if version not in SCHEMAS:
        raise Misconfigured("no_schema", "--schema", f"{version!r} is not a version.", choice(version, SCHEMAS))
    return packaged(version)


@cache
def packaged(version: str) -> dict[str, Any]:
    """Return the schema of any version in the package; raise as `parsed` does."""
    try:
        from fastavro.schema import load_schema
    except ImportError as error:
        raise missing_extra("fastavro", "rubin") from error
    major, minor = version.split(".")
    file = _schema_folder() / major / minor / f"lsst.v{major}_{minor}.alert.avsc"
    if not file.is_file():
        raise Misconfigured(
            "no_schema", "lsst-alert-packet", f"has no schema {version} ({file} is missing).",
            "pip install --upgrade 'nightstride[rubin]'.",
        )  # fmt: skip
    return dict(load_schema(file))


@cache
def record_schema(record: str, version: str) -> dict[str, Any]:
    """Return the schema of a part of an alert, such as diaSource; raise as `parsed` does."""
    major, minor = version.split(".")
    return dict(parsed(version)["__named_schemas"][f"lsst.v{major}_{minor}.{record}"])


def _schema_folder() -> Path:
    """Return the folder of the package's schemas, without importing it, which takes half a second."""
    try:
        spec = find_spec("lsst.alert.packet")
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise missing_extra("lsst-alert-packet", "rubin")
    return Path(next(iter(spec.submodule_search_locations))) / "schema"


def serialise(record: Mapping[str, Any], version: str) -> bytes:
    """Return an alert in Avro, without header; its records may be `Encoded`.

    Unlike `fastavro` by default, it refuses fields that are not in the schema instead of dropping them.

    Raises
    ------
    BadInput
        A field is not in the schema, a required one is missing or null, or a value is not of its type
        (``alert_schema``).
    Misconfigured
        As in `parsed`.
    """
    schema = parsed(version)
    try:
        if unknown := record.keys() - {part.name for part in _parts(version)}:
            raise ValueError(f"{sorted(unknown)} are not in the schema")
        return b"".join(piece for part in _parts(version) for piece in part.encoded(record.get(part.name)))
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        problem = field_problem(record, schema, error)
        raise BadInput(
            "alert_schema",
            f"alert {record.get('diaSourceId')}",
            f"is not one of schema {version}: {problem}.",
            "give each field of the schema a value of its type, and none that it does not have.",
        ) from error


class _Part(NamedTuple):
    """Field of an alert; its records are written one by one, because within unions `fastavro` checks each twice.

    Attributes
    ----------
    name, nullable
        Name of the field, and whether it is a union of null and one other type.
    kind, schema
        Avro name of the (other) type; its schema, or that of the items of an array, parsed by `fastavro`.
    """

    name: str
    nullable: bool
    kind: str
    schema: Any

    def encoded(self, value: Any) -> Iterator[bytes]:
        """Yield the field in Avro; raise as `fastavro` does."""
        if self.nullable:
            yield avro_long(int(value is not None))
            if value is None:
                return
        if self.kind == "array":
            if value:
                yield avro_long(len(value))
                yield from map(self._one, value)
            yield avro_long(0)
        elif self.kind == "bytes":
            yield avro_long(len(value))
            yield bytes(value)
        else:
            yield self._one(value)

    def _one(self, value: Any) -> bytes:
        if isinstance(value, Encoded):
            return value
        from fastavro import schemaless_writer

        file = BytesIO()
        schemaless_writer(file, self.schema, value, strict_allow_default=True)
        return file.getvalue()


@cache
def _parts(version: str) -> tuple[_Part, ...]:
    """Return the fields of an alert."""
    from fastavro import parse_schema

    whole, found = parsed(version), list[_Part]()
    names = whole["__named_schemas"]
    for field in whole["fields"]:
        kind, nullable = field["type"], isinstance(field["type"], list)
        if nullable:
            _, kind = kind
        schema = names.get(kind, {"type": kind}) if isinstance(kind, str) else kind
        inner = schema["items"] if schema["type"] == "array" else schema
        parsed_schema = parse_schema(names.get(inner, inner) if isinstance(inner, str) else inner)
        found.append(_Part(field["name"], nullable, schema["type"], parsed_schema))
    return tuple(found)


def field_problem(record: Mapping[str, Any], schema: Mapping[str, Any], error: Exception) -> str:
    """Return what is wrong with the fields of a record, or the error of its writer if they are right."""
    return next(_problems(record, schema, schema["__named_schemas"]), f"{type(error).__name__}: {error}"[:300])


def deserialise(body: bytes, version: str) -> dict[str, Any]:
    """Return the record of an alert in Avro, without header.

    Raises
    ------
    BadInput
        The bytes are too few or too many, or not an alert of this version (``damaged_alert``).
    Misconfigured
        As in `parsed`.
    """
    return decoded(body, parsed(version), version)


def decoded(body: bytes, schema: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return a record in Avro by a parsed schema, which errors call ``version``; raise as `deserialise` does."""
    from fastavro import schemaless_reader

    file = BytesIO(body)
    try:
        record = schemaless_reader(file, dict(schema), None)
    except Exception as error:  # reading damaged bytes may raise any error
        raise _damaged(version, f"{type(error).__name__}: {error}"[:200]) from error
    if (rest := len(body) - file.tell()) != 0:
        raise _damaged(version, f"{rest} bytes are left over after its end")
    if not isinstance(record, dict):  # a registry may have the schema of a string
        raise _damaged(version, f"it is a {type(record).__name__}, not a record")
    return record


def _damaged(version: str, reason: str) -> BadInput:
    return BadInput(
        "damaged_alert", "alert", f"cannot be read by schema {version} ({reason}).", "have it sent again, whole."
    )


def _problems(value: Any, kind: Any, names: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield what is wrong with a value, field by field.

    Parameters
    ----------
    value, kind
        Value, and its schema.
    names
        Name of a record -> its schema.
    path
        Path of the value in the alert, with a dot at its end.
    """
    from fastavro import validate

    if isinstance(kind, list):
        if value is None:
            return
        kind = next(one for one in kind if one != "null")
    schema = names.get(kind, {"type": kind}) if isinstance(kind, str) else kind
    if schema["type"] == "record" and isinstance(value, Mapping):
        fields = {field["name"]: field for field in schema["fields"]}
        yield from (f"{path}{name} is not in the schema" for name in value if name not in fields)
        for name, field in fields.items():
            if name in value:
                yield from _problems(value[name], field["type"], names, f"{path}{name}.")
            elif "default" not in field:
                yield f"{path}{name} is missing"
    elif schema["type"] == "array" and isinstance(value, list):
        for number, one in enumerate(value):
            yield from _problems(one, schema["items"], names, f"{path[:-1]}[{number}].")
    elif schema["type"] in ("record", "array") or not validate(value, schema, raise_errors=False):
        shown = "null" if value is None else f"{value!r} ({type(value).__name__})"[:100]
        yield f"{path[:-1]} is {shown}, must be {schema['type']}"

from io import BytesIO

import fastavro
import pytest

from flows.publish.rubin_schema import (
    SCHEMAS,
    deserialise,
    packaged,
    packet_version,
    parsed,
    record_schema,
    schema_id,
    serialise,
)
from schemas.errors import BadInput, Misconfigured

EXAMPLE = {"float": 1.5, "double": 2.25, "int": 3, "long": 1 << 40, "boolean": True, "string": "x"}


def filled(record, version, **values):
    """A record with a value in every field."""
    kinds = {one["name"]: one["type"] for one in record_schema(record, version)["fields"]}
    plain = {name: kind[1] if isinstance(kind, list) else kind for name, kind in kinds.items()}
    dates = {name for name, kind in plain.items() if isinstance(kind, dict)}
    return {name: EXAMPLE[kind] for name, kind in plain.items() if name not in dates} | values


def least(record, version):
    """A record with what it must have."""
    required = {one["name"] for one in record_schema(record, version)["fields"] if "default" not in one}
    return {name: value for name, value in filled(record, version).items() if name in required}


def alert(version, **values):
    return {"diaSourceId": 5, "diaSource": filled("diaSource", version)} | values


def whole(version):
    parts = {name: filled(name, version) for name in ("diaObject", "ssSource", "mpc_orbits")}
    histories = {
        "prvDiaSources": [filled("diaSource", version, diaSourceId=n) for n in range(3)],
        "prvDiaForcedSources": [filled("diaForcedSource", version)],
    }
    return alert(version, target_name="field", cutoutDifference=b"\0\1\2", **parts, **histories)


@pytest.mark.parametrize("version", SCHEMAS)
@pytest.mark.parametrize("make", [alert, whole], ids=["short", "whole"])
def test_alerts_have_the_bytes_that_fastavro_writes(version, make):
    record, file = make(version), BytesIO()
    fastavro.schemaless_writer(file, parsed(version), record)
    assert serialise(record, version) == file.getvalue()


@pytest.mark.parametrize("version", SCHEMAS)
def test_rubins_own_reader_finds_every_field(version):
    from lsst.alert.packet import Schema, get_schema_path

    major, minor = version.split(".")
    schema = Schema.from_file(f"{get_schema_path(major, minor)}/lsst.v{major}_{minor}.alert.avsc")
    record = whole(version)
    found = schema.deserialize(serialise(record, version))
    assert found == deserialise(serialise(record, version), version)
    found["mpc_orbits"] = {name: value for name, value in found["mpc_orbits"].items() if value is not None}  # dates
    assert {name: found[name] for name in record} == record
    assert schema.get_schema_id() == schema_id(version)
    assert schema.validate(record)


def test_versions_require_what_they_say():
    counts = {version: len(least("diaSource", version)) for version in SCHEMAS}
    assert counts == {"11.1": 13, "11.0": 13, "10.0": 9}
    fields = {version: set(filled("diaSource", version)) for version in SCHEMAS}
    assert fields["11.1"] - fields["11.0"] == {"exposureTime", "trailAlgorithm", "trail_flag", "reliabilityVersion"}
    assert fields["11.0"] == fields["10.0"]


def test_the_number_of_a_version_is_that_of_its_wire_header():
    assert [schema_id(one) for one in SCHEMAS] == [1101, 1100, 1000]
    assert [packet_version(schema_id(one)) for one in SCHEMAS] == list(SCHEMAS)


def test_a_wrong_number_is_refused():
    with pytest.raises(BadInput, match="has schema id 701") as caught:
        packet_version(701)
    assert caught.value.code == "unknown_schema"


def _without(record, name):
    return {key: value for key, value in record.items() if key != name}


WRONG = {
    "foo is not in the schema": lambda source: {"foo": 1},
    "diaSource.foo is not in the schema": lambda source: {"diaSource": source | {"foo": 1}},
    "prvDiaSources[1].foo is not in the schema": lambda source: {"prvDiaSources": [source, source | {"foo": 1}]},
    "prvDiaSources[0].ra is missing": lambda source: {"prvDiaSources": [_without(source, "ra")]},
    "diaSource.ra is null": lambda source: {"diaSource": source | {"ra": None}},
    "diaSource.band is 3 (int), must be string": lambda source: {"diaSource": source | {"band": 3}},
    "diaObject.nDiaSources is missing": lambda _: {"diaObject": _without(filled("diaObject", "11.1"), "nDiaSources")},
    "diaSource.ra is {} (dict), must be double": lambda source: {"diaSource": source | {"ra": {}}},
    "diaSource is 3 (int), must be record": lambda _: {"diaSource": 3},
    "prvDiaSources is 3 (int), must be array": lambda _: {"prvDiaSources": 3},
    "cutoutScience is 'x' (str), must be bytes": lambda _: {"cutoutScience": "x"},
}


@pytest.mark.parametrize("problem", WRONG)
def test_what_breaks_the_schema_is_named(problem):
    changes = WRONG[problem](filled("diaSource", "11.1"))
    with pytest.raises(BadInput) as caught:
        serialise(alert("11.1", **changes), "11.1")
    assert caught.value.code == "alert_schema"
    assert problem in str(caught.value)


def test_each_required_field_is_missed():
    source = filled("diaSource", "11.1")
    for name in least("diaSource", "11.1"):
        with pytest.raises(BadInput, match=rf"diaSource\.{name} is missing"):
            serialise(alert("11.1", diaSource=_without(source, name)), "11.1")
    with pytest.raises(BadInput, match=": diaSource is missing"):
        serialise({"diaSourceId": 5}, "11.1")


def test_fields_of_a_later_version_are_refused():
    with pytest.raises(BadInput, match=r"diaSource\.\w+ is not in the schema"):
        serialise(alert("11.0", diaSource=filled("diaSource", "11.1")), "11.0")


def test_a_packet_that_ends_early_or_goes_on_is_damaged():
    body = serialise(whole("11.1"), "11.1")
    for wrong in (*(body[:length] for length in range(0, len(body), 97)), body + b"\0", b"\xff" * 40, body[3:]):
        with pytest.raises(BadInput) as caught:
            deserialise(wrong, "11.1")
        assert caught.value.code == "damaged_alert"


def test_an_unknown_version_is_refused():
    with pytest.raises(Misconfigured, match=r"not a version.*11\.1"):
        parsed("7.1")


def test_without_the_package_the_remedy_is_its_name(monkeypatch):
    monkeypatch.setattr("flows.publish.rubin_schema.find_spec", lambda _: None)
    with pytest.raises(Misconfigured, match=r"pip install 'nightstride\[rubin\]'") as caught:
        packaged.__wrapped__("11.1")
    assert caught.value.code == "missing_extra"

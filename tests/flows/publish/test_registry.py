import json

import fastavro
import pytest

from flows.publish import registry as module
from flows.publish.registry import SchemaRegistry
from flows.publish.rubin_schema import parsed
from schemas.errors import BadInput, Misconfigured, Retryable
from tests.support.registry import registry

OWN = {"type": "record", "name": "theirs", "fields": [{"name": "diaSourceId", "type": "long"}]}


def plain(version):
    return {name: one for name, one in parsed(version).items() if not name.startswith("__")}


def test_without_a_registry_the_schemas_are_those_of_the_package():
    found = SchemaRegistry()
    for number, version in ((1101, "11.1"), (1100, "11.0"), (1000, "10.0")):
        assert found.schema(number)["name"] == parsed(version)["name"]
    assert found.schema(900)["name"].startswith("lsst.v9_0")  # older ones are read, too
    for number in (1, 1199, 2**32 - 1):
        with pytest.raises(BadInput, match=f"schema id {number}") as caught:
            found.schema(number)
        assert caught.value.code == "unknown_schema"


def test_a_registry_gives_schemas_by_their_numbers_once():
    with registry({77: OWN}) as (url, asked):
        found = SchemaRegistry(url)
        assert fastavro.schema.to_parsing_canonical_form(found.schema(77)) == (
            '{"name":"theirs","type":"record","fields":[{"name":"diaSourceId","type":"long"}]}'
        )
        found.schema(77)
        assert asked == ["/schemas/ids/77"]
        with pytest.raises(BadInput, match="schema id 78"):
            found.schema(78)


def test_schemas_of_one_name_are_told_apart():
    other = {**OWN, "fields": [{"name": "candid", "type": "long"}]}
    with registry({77: OWN, 78: other}) as (url, _):
        found = SchemaRegistry(url)
        assert [one["name"] for one in found.schema(77)["fields"]] == ["diaSourceId"]
        assert [one["name"] for one in found.schema(78)["fields"]] == ["candid"]


def test_a_registry_that_is_down_is_made_up_for_where_the_package_can():
    with registry({}, status=500) as (url, asked):
        found = SchemaRegistry(url)
        assert found.schema(1101)["name"] == parsed("11.1")["name"]
        assert "taken from lsst-alert-packet" in found.warnings[0]
        with pytest.raises(Retryable, match="without alerts") as caught:
            found.schema(77)
        assert caught.value.code == "registry_down"
        found.schema(1100)
        assert len(asked) == 1  # it is left alone for a while


def test_nobody_listening_is_a_registry_that_is_down():
    with registry({}) as (url, _):
        pass
    with pytest.raises(Retryable, match="does not answer"):
        SchemaRegistry(url, timeout_s=2).schema(77)


def test_user_and_password_come_from_the_environment(monkeypatch):
    with registry({77: OWN}, "night", "shift") as (url, _):
        with pytest.raises(Misconfigured, match="NIGHTSTRIDE_REGISTRY_USER") as caught:
            SchemaRegistry(url).schema(77)
        assert caught.value.code == "registry_refuses"
        monkeypatch.setenv("NIGHTSTRIDE_REGISTRY_USER", "night")
        monkeypatch.setenv("NIGHTSTRIDE_REGISTRY_PASSWORD", "shift")
        assert SchemaRegistry(url).schema(77)["name"] == "theirs"


@pytest.mark.parametrize("answer", [{"schema": "{"}, {"schema": '"no such type"'}, {"schema": 5}, {"schema": "{}"},
                                    {"schema": "syntax", "schemaType": "PROTOBUF"}])  # fmt: skip
def test_what_is_no_schema_is_bad_input(answer):
    with registry({77: answer}) as (url, _), pytest.raises(BadInput) as caught:
        SchemaRegistry(url).schema(77)
    assert caught.value.code == "bad_schema"


def test_a_schema_without_bounds_reads_nothing():
    endless = {"type": "record", "name": "n", "fields": [{"name": "next", "type": ["null", "n"]}]}
    with registry({88: endless}) as (url, _), pytest.raises(BadInput, match="within itself") as caught:
        SchemaRegistry(url).schema(88)
    assert caught.value.code == "bad_schema"


def test_nothing_is_sent_by_a_number_that_stands_for_another_schema():
    with registry({1101: OWN}) as (url, _), pytest.raises(Misconfigured, match="another schema") as caught:
        SchemaRegistry(url).require_same("11.1")
    assert caught.value.code == "other_schema"
    with registry({}) as (url, _), pytest.raises(Misconfigured, match="no schema under 1101"):
        SchemaRegistry(url).require_same("11.1")
    with registry({1101: plain("11.1")}) as (url, _):
        SchemaRegistry(url).require_same("11.1")
    with registry({}, status=503) as (url, _):
        found = SchemaRegistry(url)
        found.require_same("11.1")
        assert len(found.warnings) == 1


def test_an_answer_that_is_no_schema_stops_sending_and_is_not_the_fault_of_the_alerts():
    with registry({1101: {"schema": "{"}}) as (url, _), pytest.raises(Misconfigured, match="schema 1101 of") as caught:
        SchemaRegistry(url).require_same("11.1")
    assert (caught.value.code, caught.value.where) == ("bad_schema", url)


def test_a_schema_has_a_length_that_schemas_have(monkeypatch):
    answer = len(json.dumps({"schema": json.dumps(OWN)}).encode())
    with registry({77: OWN}) as (url, _):
        monkeypatch.setattr(module, "LONGEST", answer)
        assert SchemaRegistry(url).schema(77)["name"] == "theirs"
        monkeypatch.setattr(module, "LONGEST", answer - 1)
        with pytest.raises(BadInput, match="is longer than") as caught:
            SchemaRegistry(url).schema(77)
    assert caught.value.code == "bad_schema"


def test_without_the_package_it_is_the_extra_that_is_named(monkeypatch):
    def missing(version):
        raise Misconfigured("missing_extra", "alerts", "is not installed.", "install it.")

    monkeypatch.setattr(module, "packaged", missing)
    with pytest.raises(Misconfigured) as caught:
        SchemaRegistry().schema(1101)
    assert caught.value.code == "missing_extra"


def test_a_registry_that_answers_is_no_reason_for_a_warning():
    with registry({77: OWN}) as (url, _):
        found = SchemaRegistry(url)
        found.schema(77)
        found.schema(1101)  # which it lacks, and the package has
        assert found.warnings == []


def test_a_registry_that_is_down_is_told_once_and_left_alone_for_a_while(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    with registry({}, status=500) as (url, asked):
        found = SchemaRegistry(url)
        for number, seconds, times in ((1101, 0.0, 1), (1100, module.REST_S - 0.001, 1), (1000, module.REST_S, 2)):
            clock[0] = 100.0 + seconds
            found.schema(number)
            assert len(asked) == times
        assert len(found.warnings) == 1


@pytest.mark.parametrize(
    ("more", "read"),
    [({}, True), ({"schemaType": "AVRO", "references": []}, True), ({"schemaType": "JSON"}, False),
     ({"references": [{"name": "other"}]}, False)],
)  # fmt: skip
def test_a_schema_is_a_whole_one_of_avro(more, read):
    with registry({77: {"schema": json.dumps(OWN), **more}}) as (url, _):
        if read:
            assert SchemaRegistry(url).schema(77)["name"] == "theirs"
            return
        with pytest.raises(BadInput) as caught:
            SchemaRegistry(url).schema(77)
        assert caught.value.code == "bad_schema"

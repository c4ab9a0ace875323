import io
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tarfile
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from flows.publish import receive as module
from flows.publish.container import write_container
from flows.publish.outbox import opened_outbox
from flows.publish.receive import AlertCatalogue, AlertTopic, ReceivedSummary, receive
from flows.publish.registry import SchemaRegistry
from flows.publish.row_filter import RowFilter
from flows.publish.wire import MOST_RECORDS, ReceivedAlert, alerts_of, message_of, row_of
from schemas.errors import BadInput, Retryable
from schemas.received_alert import RECEIVED_ALERT
from tests.support.packets import packet
from tests.support.registry import registry
from tests.support.topic import Reader
from tests.support.wait import until
from tests.support.ztf import CANDID, GOOD

pytest_plugins = ("tests.support.topic_fixture",)

DATA = os.environ.get("NIGHTSTRIDE_DATA")
real = pytest.mark.skipif(DATA is None, reason="NIGHTSTRIDE_DATA is not set")


def of_archive(name):
    """Yield the Avro files of an archive of real alerts."""
    with tarfile.open(Path(DATA) / "02_ztf_alerts" / name) as archive:
        for member in archive:
            if member.name.endswith(".avro"):
                yield archive.extractfile(member).read()


@pytest.fixture
def box(tmp_path):
    with opened_outbox(tmp_path) as found:
        yield found


@pytest.fixture
def send(broker, topic):
    """Return a function that sends values and gives the messages as they came."""

    def sent(*values):
        broker.send(topic, *values)
        reader = Reader(broker, topic)
        messages = reader.until(len(values))
        reader.close()
        return messages

    return sent


@pytest.fixture
def take(box, tmp_path):
    """Return a function that publishes messages."""

    def add(messages, chosen=None, schemas=None):
        row_filter = None if chosen is None else RowFilter(chosen, RECEIVED_ALERT)
        found = AlertCatalogue(tmp_path, "kafka://host/topic", box, schemas or SchemaRegistry(), row_filter)
        for begin in range(0, len(messages), 4):
            found.add(messages[begin : begin + 4])
        return found

    return add


def catalogue(out):
    return {path.parent.name + "/" + path.name: pq.read_table(path, partitioning=None)
            for path in sorted((out / "catalogs").rglob("*.parquet"))}  # fmt: skip


def test_alerts_become_rows_of_their_visits(send, take, tmp_path):
    values = {1: {"snr": 9.5, "reliability": 0.75, "trailLength": 3.0, "band": "r"}, 2: {"visit": 78}, 3: {}}
    found = take(send(*(message_of(packet(source, **fields)) for source, fields in values.items()))).summary
    assert (found.messages, found.alerts, found.kept, found.dead, found.nights) == (3, 3, 3, 0, ("20260101",))
    assert found.exit_code == 0
    tables = catalogue(tmp_path)
    assert {name: table["diaSourceId"].to_pylist() for name, table in tables.items()} == {
        "night=20260101/77.parquet": [1, 3],
        "night=20260101/78.parquet": [2],
    }
    row = tables["night=20260101/77.parquet"].to_pylist()[0]
    assert (row["snr"], row["reliability"], row["trailLength"], row["band"]) == (9.5, 0.75, 3.0, "r")
    assert (row["schemaId"], row["ra"], row["dec"], row["psfFlux"]) == (1101, 10.0, -3.0, None)


def test_repeats_are_dropped_whoever_reads_them_again(broker, topic, box, tmp_path):
    broker.send(topic, *(message_of(packet(source)) for source in (1, 2, 1, 3, 2)))

    def take(group, **ends):
        source = AlertTopic(f"kafka://{broker.address}/{topic}?group={group}-{topic}")
        found = AlertCatalogue(tmp_path, source.name, box, SchemaRegistry())
        try:
            return receive(source, found, lambda: False, say=print, **ends)
        finally:
            source.close()

    found = take("readers", idle_exit_s=2.0)
    assert (found.messages, found.kept, found.repeated) == (5, 3, 2)
    before = (tmp_path / "catalogs" / "received_alert" / "night=20260101" / "77.parquet").read_bytes()
    reader = Consumer({"bootstrap.servers": broker.address, "group.id": f"readers-{topic}", "log_level": 2})
    (place,) = reader.committed([TopicPartition(topic, 0)], timeout=30)
    reader.close()
    assert place.offset == 5  # where the group goes on: all is committed
    again = take("others", idle_exit_s=None, once=True)
    assert (again.messages, again.kept, again.repeated) == (5, 0, 5)
    assert (tmp_path / "catalogs" / "received_alert" / "night=20260101" / "77.parquet").read_bytes() == before


def test_once_ends_with_the_last_that_was_there_however_many_arrive_meanwhile(
    broker, topic, box, tmp_path, monkeypatch
):
    monkeypatch.setenv("NIGHTSTRIDE_KAFKA_SESSION_TIMEOUT_MS", "6000")  # after which the mock cluster's group is free
    broker.send(topic, *(message_of(packet(source)) for source in range(1, 1201)))
    following = count(2000)

    def take(meanwhile):
        source = AlertTopic(f"kafka://{broker.address}/{topic}?group=once-{topic}")
        found = AlertCatalogue(tmp_path, source.name, box, SchemaRegistry())
        try:
            return receive(source, found, lambda: bool(meanwhile()), None, print, once=True)
        finally:
            source.close()

    def arrive():
        broker.send(topic, message_of(packet(next(following))))

    found = take(arrive)
    arrived = next(following) - 2000
    assert 1200 <= found.kept <= 1200 + arrived
    rest = take(list)
    assert found.kept + rest.kept == 1200 + arrived
    assert take(list).messages == 0  # and what is read to its end ends, too


@pytest.mark.parametrize("ends", [{"once": True, "idle_exit_s": None}, {"idle_exit_s": 0.2}])
def test_brokers_that_cannot_be_reached_are_no_empty_topic(box, tmp_path, monkeypatch, ends):
    monkeypatch.setattr("flows.publish.receive.JOIN_S", 2.0)
    source, said = AlertTopic("kafka://127.0.0.1:9/t"), []
    found = AlertCatalogue(tmp_path, source.name, box, SchemaRegistry())
    with pytest.raises(Retryable, match="no partition of it was given to this reader") as caught:
        receive(source, found, lambda: False, say=lambda text, level: said.append((text[:8], level)), **ends)
    source.close()
    assert caught.value.code == "kafka"
    assert ("waiting:", logging.WARNING) in said  # which -q does not keep back


def test_a_filter_says_which_are_kept(send, take, tmp_path):
    found = take(send(*(message_of(packet(n, reliability=n / 10)) for n in range(10))), "reliability > 0.65").summary
    assert (found.alerts, found.kept, found.filtered) == (10, 3, 7)
    (table,) = catalogue(tmp_path).values()
    assert table["diaSourceId"].to_pylist() == [7, 8, 9]


def test_what_cannot_be_read_dies_with_its_reason_and_stops_nothing(send, box, take):
    good = message_of(packet(1))
    header, body = good[:5], good[5:]
    bad = {
        "damaged_alert": header + body[: len(body) // 2],
        "unknown_schema": b"\0" + (7777).to_bytes(4, "big") + body,
        "no_alert": json.dumps({"uri": "/data/a.fits"}).encode(),
    }
    others = [header + body + b"more", b"", b"\0\0", b"Obj\x01 and no more", header + os.urandom(200)]
    found = take(send(*bad.values(), *others, good)).summary
    assert (found.messages, found.dead, found.kept) == (9, 8, 1)
    assert found.exit_code == 3
    letters = {letter.name.partition("/")[2]: letter for letter in box.letters()}
    assert len(letters) == 8
    for code, value in bad.items():
        (letter,) = [one for one in letters.values() if one.value == value]
        assert letter.code == code
        assert letter.reason
    assert sorted(one.value for one in letters.values()) == sorted([*bad.values(), *others])
    assert "announcements of exposures have a topic" in next(
        one.reason for one in letters.values() if one.value == bad["no_alert"]
    )


def test_a_registry_that_is_down_costs_only_the_alerts_it_is_asked_for(send, box, take):
    own = {"type": "record", "name": "other", "fields": [{"name": "number", "type": "long"}]}
    messages = send(b"\0" + (88).to_bytes(4, "big") + b"\x02", message_of(packet(1)))
    with registry({88: own}, status=500) as (url, _):
        found = take(messages, schemas=SchemaRegistry(url))
    assert (found.summary.dead, found.summary.kept) == (1, 1)
    assert "taken from lsst-alert-packet" in found.registry.warnings[0]
    assert [letter.code for letter in box.letters()] == ["registry_down"]
    with registry({88: own}) as (url, _):
        found = take(messages, schemas=SchemaRegistry(url)).summary
    assert (found.dead, found.repeated) == (1, 1)
    assert [letter.code for letter in box.letters()] == ["other_alert"]  # the same message, known better now


def test_any_mutation_is_an_alert_or_bad_input():
    good, draw, registry_ = message_of(packet(1, snr=5.0)), random.Random(3), SchemaRegistry()
    for _ in range(3000):
        mutated = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            mutated[draw.randrange(len(mutated))] = draw.randrange(256)
        try:
            for alert in alerts_of(
                bytes(mutated[: draw.choice([len(good), draw.randrange(len(good))])]), registry_.schema
            ):
                row_of(alert)
        except BadInput:
            continue


@real
def test_real_packets_of_ztf_are_rows():
    checked = 0
    for content in of_archive("fink_broker_basic.tar.gz"):
        (record,) = fastavro.reader(io.BytesIO(content))
        ((night, row),) = (row_of(alert) for alert in alerts_of(content, None))
        candidate = record["candidate"]
        assert row["diaSourceId"] == record["candid"]
        assert (row["detector"], row["ra"], row["dec"]) == (candidate["rcid"], candidate["ra"], candidate["dec"])
        magnitude = -2.5 * np.log10(abs(row["psfFlux"])) + 31.4
        assert magnitude == pytest.approx(candidate["magpsf"], abs=1e-6)
        assert (row["psfFlux"] > 0) == (candidate["isdiffpos"] in ("t", "1"))
        # Their names hold the date of the exposure, UTC; Palomar's nights begin on the day before.
        stamp = candidate["pdiffimfilename"].split("_")[1][:8] if candidate.get("pdiffimfilename") else None
        assert stamp is None or 0 <= (np.datetime64(_iso(stamp)) - np.datetime64(_iso(night))).astype(int) <= 1
        checked += 1
        if checked == 60:
            break
    assert checked == 60


def _iso(label):
    return f"{label[:4]}-{label[4:6]}-{label[6:]}"


@real
def test_real_alerts_of_rubin_are_rows():
    contents = list(of_archive("rubin_v9.tar.gz"))
    assert len(contents) == 62
    for content in contents:
        (record,) = fastavro.reader(io.BytesIO(content))
        ((night, row),) = (row_of(alert) for alert in alerts_of(content, None))
        source = record["diaSource"]
        for name in ("diaSourceId", "visit", "detector", "ra", "dec", "psfFlux", "snr", "reliability", "trailLength"):
            assert row[name] == source[name]
        assert str(row["visit"]).startswith(night)  # a visit of Rubin's begins with its day


@pytest.mark.parametrize(
    ("name", "distance", "known"),
    [
        ("55", 0.5, "55"), ("55", 0.0, "55"), ("55", 5.0, "55"), ("55", 5.1, None), ("55", -999.0, None),
        ("null", 0.5, None), ("", 0.5, None), (None, 0.5, None), (None, None, None),
    ],
)  # fmt: skip
def test_an_alert_of_ztf_is_of_a_known_object_that_is_named_and_near(name, distance, known):
    candidate = GOOD | {"ssnamenr": name, "ssdistnr": distance}
    _, row = row_of(ReceivedAlert({"candidate": candidate, "candid": CANDID, "objectId": "ZTF18a"}, None))
    assert (row["diaSourceId"], row["designation"]) == (CANDID, known)


def test_a_record_of_another_kind_is_bad_input():
    for record in ({}, {"diaSource": {}}, {"candidate": {}, "candid": 1}, {"diaSource": {"ra": "x"}}):
        with pytest.raises(BadInput) as caught:
            row_of(ReceivedAlert(record, None))
        assert caught.value.code in ("other_alert", "incomplete_alert")


_NEEDED = {"diaSourceId": 1, "visit": 77, "detector": 3, "midpointMjdTai": 61041.0, "ra": 10.0, "dec": -3.0}


def _own_schema(source):
    """Return a message of an alert that brings its own schema, as the types of its values are."""
    names = {int: "long", float: "double", str: "string", bool: "boolean"}
    fields = [{"name": name, "type": names[type(value)]} for name, value in source.items()]
    record = {"type": "record", "name": "source", "fields": fields}
    file = io.BytesIO()
    schema = {"type": "record", "name": "alert", "fields": [{"name": "diaSource", "type": record}]}
    fastavro.writer(file, fastavro.parse_schema(schema), [{"diaSource": source}])
    return file.getvalue()


def test_values_that_no_column_holds_are_dead_letters(send, box, take, tmp_path):
    """Their schema may be any; a message that ended the reader would end it again, as nothing is committed."""
    wrong = [
        {"visit": "77"}, {"visit": "../77"}, {"visit": -77}, {"detector": 1 << 40}, {"diaSourceId": 1.5}, {"band": 5},
        {"psfFlux": "x"}, {"ra": True}, {"ra": 360.0}, {"dec": -91.0}, {"midpointMjdTai": 1e9}, {"detector": -1},
    ]  # fmt: skip
    lacking = [{name: value for name, value in _NEEDED.items() if name != left} for left in _NEEDED]
    messages = [_own_schema({**_NEEDED, **one}) for one in wrong] + [_own_schema(one) for one in lacking]
    good = _own_schema({**_NEEDED, "psfFlux": float("nan"), "snr": 7.0})
    found = take(send(*messages, good)).summary
    assert (found.dead, found.kept) == (len(wrong) + len(lacking), 1)
    assert {letter.code for letter in box.letters()} == {"incomplete_alert"}
    (table,) = catalogue(tmp_path).values()
    (row,) = table.to_pylist()
    assert (row["visit"], row["psfFlux"], row["snr"]) == (77, None, 7.0)


def test_a_schema_without_bounds_is_a_dead_letter(send, box, take):
    nested = {"type": "record", "name": "n", "fields": [{"name": "next", "type": ["null", "n"]}]}
    schema = {"type": "record", "name": "alert", "fields": [{"name": "diaSource", "type": nested}]}
    file = io.BytesIO()
    write_container(file, fastavro.parse_schema(schema), [b"\x02" * 500_000 + b"\x00"])
    found = take(send(file.getvalue(), message_of(packet(1)))).summary
    assert (found.dead, found.kept) == (1, 1)
    assert [letter.code for letter in box.letters()] == ["damaged_alert"]


@pytest.mark.slow
@pytest.mark.faults
def test_a_reader_that_is_killed_or_stopped_misses_nothing(broker, topic, tmp_path):
    """SIGKILL while it writes, twice, then SIGTERM, which ends it within ten seconds."""
    ids = list(range(1, 4001))
    draw = random.Random(20)
    command = [Path(sys.executable).with_name("nightstride"), "watch", f"kafka://{broker.address}/{topic}?group={topic}",
               "--content", "alerts", "--out", tmp_path / "out", "--json"]  # fmt: skip
    environment = {**os.environ, "NIGHTSTRIDE_KAFKA_SESSION_TIMEOUT_MS": "6000"}

    def published():
        files = list((tmp_path / "out" / "catalogs").rglob("*.parquet"))
        # Whole at once: a file may be replaced while it is read.
        tables = (pq.read_table(pa.BufferReader(path.read_bytes())) for path in files)
        return sorted(source for table in tables for source in table["diaSourceId"].to_pylist())

    def started():
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)

    for begin in range(0, 4000, 400):  # one visit after the other
        broker.send(
            topic, *(message_of(packet(source, visit=70 + source // 200)) for source in ids[begin : begin + 400])
        )
    for _ in range(2):
        process, before = started(), len(published())
        wanted = before + draw.randint(1, 800)
        until(lambda wanted=wanted: len(published()) >= wanted, 120, process=process)
        process.kill()
        process.communicate()
    process = started()
    until(lambda: len(published()) >= 4000, 120, process=process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert published() == ids
    summary = json.loads(said.splitlines()[-1])
    assert summary["alerts"] == summary["kept"] + summary["repeated"]
    assert pc.sum(pq.read_table(next((tmp_path / "out").rglob("70.parquet")))["detector"]).as_py() > 0


def container(schema, *records, codec="null"):
    file = io.BytesIO()
    fastavro.writer(file, schema, records, codec=codec)
    return file.getvalue()


SMALL = {"type": "record", "name": "one", "fields": [{"name": "candid", "type": "long"}]}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (container(SMALL, *[{"candid": n} for n in range(MOST_RECORDS)]), ""),
        (container(SMALL, *[{"candid": n} for n in range(MOST_RECORDS + 1)]), "too many alerts"),
        (container({"type": "long"}, 5), "holds no records"),
        (container(SMALL, {"candid": 1}, codec="deflate"), "its codec is deflate"),
    ],
    ids=["most", "too many", "numbers", "deflate"],
)
def test_a_container_of_alerts_is_small_and_of_records(message, said):
    if not said:
        assert {tuple(one.record) for one in alerts_of(message, None)} == {("candid",)}
        return
    with pytest.raises(BadInput, match=said) as caught:
        alerts_of(message, None)
    assert caught.value.code == "damaged_alert"


@pytest.mark.parametrize("message", [b"\0" * 4, b"Obx", b"", b"\1" * 9])
def test_what_is_no_alert_is_told(message):
    with pytest.raises(BadInput) as caught:
        alerts_of(message, None)
    assert caught.value.code == "no_alert"


@pytest.mark.parametrize(("kept", "good"), [(2, True), (1, False), (3, False)])
def test_every_alert_is_kept_filtered_or_repeated(kept, good):
    counts = {"alerts": 5, "kept": kept, "filtered": 2, "repeated": 1}
    if good:
        assert ReceivedSummary(**counts).kept == kept
    else:
        with pytest.raises(ValueError, match="kept \\+ filtered \\+ repeated"):
            ReceivedSummary(**counts)


class Told:
    """A message, or an error of a partition."""

    def __init__(self, offset=0, error=None, partition=0):
        self.partition, self.offset, self.error = (lambda one=one: one for one in (partition, offset, error))


def test_a_topic_is_read_to_the_ends_that_its_partitions_had(monkeypatch):
    failures = (KafkaError._NO_OFFSET, KafkaError._ALL_BROKERS_DOWN)
    none, down = (KafkaError(code, "words") for code in failures)
    eof = KafkaError(KafkaError._PARTITION_EOF)
    batches = [[Told(3)], [Told(4), Told(error=none, partition=1)], [Told(error=eof, partition=1)], [Told(error=down)]]
    consumer = SimpleNamespace(consume=lambda *_, **__: batches.pop(0), subscribe=lambda *_, **__: None)
    monkeypatch.setattr(module, "consumer_of", lambda *_: consumer)
    source = AlertTopic("kafka://127.0.0.1:9/t")
    source._ends, source.joined = {0: 5, 1: None}, True
    seen = []
    for count_ in (1, 1, 0):
        assert len(source.take()) == count_
        seen.append(source.finished)
    assert seen == [False, False, True]
    with pytest.raises(Retryable, match="words"):
        source.take()


def test_it_is_said_at_times_how_far_it_is_and_it_ends_when_it_is_asked_to(monkeypatch):
    clock, said, taken = [0.0], [], []

    class Topic:
        joined, finished = True, False

        def take(self):
            clock[0] += 15.0
            return ["message"]

        def commit(self):
            taken.append(clock[0])

    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    found = SimpleNamespace(add=lambda messages: None, summary=ReceivedSummary(), registry=SimpleNamespace(warnings=[]))
    ended = receive(Topic(), found, lambda: len(taken) == 5, None, lambda text, level: said.append((clock[0], level)))
    assert taken == [15.0, 30.0, 45.0, 60.0, 75.0]
    assert said == [(30.0, logging.INFO), (60.0, logging.INFO)]
    assert ended.seconds == 75.0

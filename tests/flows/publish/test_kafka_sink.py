import io
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice

import fastavro
import pytest
from confluent_kafka import KafkaError, KafkaException

from benchmarks.alerting.alert_kills import FIRST, killed_again_and_again, marked_sent
from flows.publish import kafka_sink
from flows.publish.kafka_sink import KafkaSink, _librdkafka, _Transfer, _untrusted
from flows.publish.outbox import Letter, opened_outbox
from flows.publish.packet import Packet
from flows.publish.registry import SchemaRegistry
from flows.publish.rubin_schema import deserialise
from schemas.alert_settings import KafkaSettings
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from tests.support.certificates import certificate
from tests.support.packets import NIGHT, VISIT, packet, packets
from tests.support.registry import registry
from tests.support.wait import until

pytest_plugins = ("tests.support.topic_fixture",)


@pytest.fixture
def box(tmp_path):
    with opened_outbox(tmp_path) as found:
        yield found


@pytest.fixture
def sink(box, url):
    return KafkaSink(url, KafkaSettings(), box, SchemaRegistry())


def counts(sent):
    return sent.alerts, sent.kept, sent.held, sent.dead, sent.left


def test_a_message_has_the_header_the_key_and_the_time(sink, reader):
    before = time.time()
    sent = sink.send(iter([packet(1 << 40, snr=7.5)]))
    (message,) = reader.until(1)
    assert counts(sent) == (1, 0, 0, 0, 0)
    assert sent.bytes == len(message.value())
    assert message.value()[:5] == bytes.fromhex("000000044d")
    assert message.key() == b"1099511627776"
    ((name, stamp),) = message.headers()
    assert name == "producer_timestamp"
    assert before - 1 < int(stamp) / 1000 < time.time() + 1
    assert deserialise(message.value()[5:], "11.1")["diaSource"]["snr"] == 7.5


@pytest.mark.parametrize(("version", "number"), [("11.0", 1100), ("10.0", 1000)])
def test_earlier_versions_have_their_own_numbers(sink, reader, version, number):
    sink.send(packets(1, version=version))
    (message,) = reader.until(1)
    assert int.from_bytes(message.value()[1:5], "big") == number
    assert deserialise(message.value()[5:], version)["diaSourceId"] == 1 << 40


def test_ids_arrive_once_and_what_has_arrived_is_not_sent_again(sink, reader):
    assert counts(sink.send(packets(300))) == (300, 0, 0, 0, 0)
    assert counts(sink.send(packets(350))) == (50, 300, 0, 0, 0)
    found = [int(message.key()) for message in reader.until(350)]
    assert sorted(found) == list(range(1 << 40, (1 << 40) + 350))
    assert reader.take(0.3) == 350


def test_a_visit_that_is_searched_again_is_held_until_it_is_asked_for(box, url, sink, reader):
    sink.send(packets(3))
    renewed = list(packets(4, made_from="another search", snr=9.0))
    assert counts(sink.send(iter(renewed))) == (1, 0, 3, 0, 0)
    again = KafkaSink(url, KafkaSettings(), box, SchemaRegistry(), again=True)
    assert counts(again.send(iter(renewed))) == (3, 1, 0, 0, 0)
    assert len(reader.until(7)) == 7
    assert counts(again.send(iter(renewed))) == (0, 4, 0, 0, 0)


def test_only_what_is_not_sent_is_wanted_and_the_rest_is_counted(sink):
    key, ids = ExposureKey(night=NIGHT, visit=VISIT, detector=3), list(range(1 << 40, (1 << 40) + 4))
    sink.send(packets(3))
    assert sink.wanted(key, "11.1", "search", ids) == [False, False, False, True]
    assert counts(sink.send(iter([packet(ids[3])]))) == (1, 3, 0, 0, 0)
    assert sink.wanted(key, "11.1", "another", ids[:2]) == [False, False]
    sent = sink.send(iter(()))
    assert counts(sent) == (0, 0, 2, 0, 0)
    assert sent.withdrawn == 2  # the others had been sent


def test_a_message_too_large_is_a_dead_letter_and_the_rest_arrives(box, url, reader):
    small = KafkaSink(url, KafkaSettings(max_message_kib=1), box, SchemaRegistry())
    large = Packet(7, NIGHT, VISIT, 3, "11.1", os.urandom(5000), "search")
    sent = small.send(iter([*packets(2), large]))
    assert counts(sent) == (2, 0, 0, 1, 0)
    assert sent.exit_code == 3
    (letter,) = box.letters()
    assert (letter.name, letter.code, letter.value[5:]) == ("7", "too_large", large.body)
    assert counts(small.send(iter([*packets(2), large]))) == (0, 2, 0, 1, 0)
    wide = KafkaSink(url, KafkaSettings(), box, SchemaRegistry())
    assert wide.send_letters(iter(box.letters())).alerts == 1
    assert box.letters() == []
    assert counts(small.send(iter([large]))) == (0, 1, 0, 0, 0)
    assert [message.key() for message in reader.until(3)].count(b"7") == 1


def test_what_breaks_its_schema_dies_until_it_is_made_well(box, sink):
    flawed = Packet(1 << 40, NIGHT, VISIT, 3, "11.1", b'{"diaSourceId": null}', "search")
    sink.bury(flawed, BadInput("alert_schema", "alert", "diaSourceId is null.", "give it."))
    (letter,) = box.letters()
    assert (letter.value, letter.reason) == (flawed.body, "diaSourceId is null.")
    assert counts(sink.send(packets(1))) == (1, 0, 0, 0, 0)
    assert box.letters() == []


class Refusing:
    """Producer that gets one answer for all that it sends together, as brokers give it."""

    def __init__(self, log, alone):
        self.log, self.alone, self.waiting = log, alone, []

    def produce(self, topic, value, key, headers, on_delivery):
        self.waiting.append((value, key, on_delivery))

    def poll(self, _):
        waiting, self.waiting = self.waiting, []
        size = sum(len(value) for value, _, _ in waiting)
        for value, key, told in waiting:
            self.log.append((self.alone, key))
            refused = (len(value) if self.alone else size) > 100
            told(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE) if refused else None, Answered(value, key))

    def __len__(self):
        return len(self.waiting)


class Answered:
    def __init__(self, value, key):
        self.value, self.key = lambda: value, lambda: key

    def __len__(self):
        return len(self.value())


def test_messages_refused_together_are_sent_each_by_itself():
    """Brokers have limits of their own, and judge a batch by them."""
    log, letters, arrived = [], [], []

    def make(error_cb, **changed):
        return Refusing(log, alone=changed == {"batch.num.messages": 1})

    transfer = _Transfer("t", "kafka://h/t", make, 5.0, lambda some, dead: (arrived.extend(some), letters.extend(dead)))
    for name, size in (("a", 60), ("b", 60), ("c", 101)):
        transfer.put((name, b""), name.encode(), b"x" * size, name)
    sent = transfer.finished()
    assert (sent.alerts, sent.dead, sent.left, sent.trouble) == (2, 1, 0, None)
    assert [letter.name for letter in letters] == ["c"]
    assert [mark[0] for mark, _ in arrived] == ["a", "b"]
    assert log.count((True, b"a")) == 1


def test_a_broker_that_nobody_runs_ends_soon_and_loses_nothing(box, url, sink, reader):
    gone = KafkaSink("kafka://127.0.0.1:1/topic", KafkaSettings(delivery_timeout_s=1.0), box, SchemaRegistry())
    begun, taken = time.monotonic(), []

    def read():
        for one in packets(5000):
            taken.append(one.source_id)
            yield one

    sent = gone.send(read())
    assert time.monotonic() - begun < 20
    assert sent.exit_code == 1
    assert sent.trouble.code == "kafka_down"
    assert "publish again" in str(sent.trouble)
    assert counts(sent)[:4] == (0, 0, 0, 0)
    assert sent.left == len(taken)
    assert box.counts()["kafka://127.0.0.1:1/topic", "11.1"] == {"waiting": len(taken)}
    assert counts(sink.send(packets(10))) == (10, 0, 0, 0, 0)  # another topic is another matter


def test_memory_does_not_grow_with_what_is_on_its_way(box, sink):
    """No more is read from what makes packets than fits into the queue."""
    gone = KafkaSink(
        "kafka://127.0.0.1:1/topic", KafkaSettings(delivery_timeout_s=2.0, queue_mib=1), box, SchemaRegistry()
    )
    taken = []

    def large():
        for source in range(3000):
            taken.append(source)
            yield Packet(source, NIGHT, VISIT, 3, "11.1", bytes(60_000), "search")

    gone.send(large())
    assert len(taken) <= 1000


def test_a_registry_with_another_schema_stops_it_before_anything_is_sent(box, url):
    other = {"type": "record", "name": "other", "fields": []}
    with registry({1101: other}) as (address, _):
        sink = KafkaSink(url, KafkaSettings(), box, SchemaRegistry(address))
        with pytest.raises(Misconfigured, match="another schema"):
            sink.send(packets(3))
    assert box.counts().get((sink.name, "11.1"), {}) == {}


@pytest.mark.parametrize("bad", ["kafka://", "kafka://host:1", "kafka://host:1/a/b", "kafka://host:1/t?x=1"])
def test_a_url_that_names_no_topic_is_refused(box, bad):
    with pytest.raises(Misconfigured, match="is not a URL of a topic"):
        KafkaSink(bad, KafkaSettings(), box, SchemaRegistry())


def test_a_setting_that_librdkafka_does_not_know_is_named(box, url):
    sink = KafkaSink(url, KafkaSettings(settings={"no.such.setting": "1"}), box, SchemaRegistry())
    with pytest.raises(Misconfigured, match=r"no\.such\.setting"):
        sink.send(packets(1))


@pytest.mark.parametrize("name", ["sasl.password", "ssl.key.password", "sasl.username", "bootstrap.servers"])
def test_secrets_have_no_place_in_a_file(name):
    with pytest.raises(ValueError, match="must not be"):
        KafkaSettings(settings={name: "x"})


SASL_HANDSHAKE, API_VERSIONS, SASL_AUTHENTICATE = 17, 18, 36


def answered(key, version, body, said):
    """What a broker answers that lets nobody in, by Kafka's protocol guide."""
    if key == API_VERSIONS and version > 0:
        return struct.pack(">hi", 35, 0)  # as one that knows the first version alone
    if key == API_VERSIONS:
        # Those that librdkafka asks for before it uses SASL, and idempotent producers.
        known = [(key, 0, 0) for key in (SASL_AUTHENTICATE, 3)] + [(SASL_HANDSHAKE, 0, 1), (0, 0, 7), (22, 0, 1)]
        return struct.pack(">hi", 0, len(known)) + b"".join(struct.pack(">hhh", *one) for one in known)
    said.append(body)
    if key == SASL_HANDSHAKE:
        return struct.pack(">hi", 0, 1) + body
    reason = b"no such user"
    return struct.pack(">hh", 58, len(reason)) + reason + struct.pack(">i", 0)


@pytest.fixture
def secure(tmp_path):
    """A broker with TLS that lets nobody in: its URL, its certificate and another, and what clients say by SASL."""
    certificates = [certificate(tmp_path, datetime.now(UTC) + timedelta(days=2), name) for name in ("localhost", "x")]
    context, said = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    context.load_cert_chain(*certificates[0])
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:  # it is closed
                return
            with suppress(OSError), context.wrap_socket(raw, server_side=True) as client, client.makefile("rb") as file:
                while length := file.read(4):
                    request = file.read(int.from_bytes(length, "big"))
                    key, version, correlation, name = struct.unpack(">hhih", request[:10])
                    body = struct.pack(">i", correlation) + answered(key, version, request[10 + name :], said)
                    client.sendall(struct.pack(">i", len(body)) + body)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    yield f"kafka://localhost:{listener.getsockname()[1]}/t", [path for path, _ in certificates], said
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def test_a_broker_of_another_authority_is_refused_at_once(box, secure):
    url, (_, other), _ = secure
    trusts = {"security.protocol": "SSL", "ssl.ca.location": str(other)}
    sink, begun = KafkaSink(url, KafkaSettings(settings=trusts), box, SchemaRegistry()), time.monotonic()
    sent = sink.send(packets(3))
    assert time.monotonic() - begun < 20
    assert (sent.trouble.code, sent.exit_code, sent.left) == ("kafka_tls", 2, 3)
    assert isinstance(sent.trouble, Misconfigured)
    assert "NIGHTSTRIDE_KAFKA_SSL_CA_LOCATION" in str(sent.trouble)
    assert box.counts()[url, "11.1"] == {"waiting": 3}


def test_an_authority_that_is_not_there_is_named(box, url):
    sink = KafkaSink(
        url,
        KafkaSettings(settings={"security.protocol": "SSL", "ssl.ca.location": "/no/ca.pem"}),
        box,
        SchemaRegistry(),
    )
    with pytest.raises(Misconfigured, match=r"ssl\.ca\.location"):
        sink.send(packets(1))


def test_user_and_password_of_the_environment_go_to_a_broker_that_is_trusted(box, secure, monkeypatch):
    url, (own, _), said = secure
    given = {"SECURITY_PROTOCOL": "SASL_SSL", "SSL_CA_LOCATION": own, "SASL_MECHANISM": "PLAIN"}
    for name, value in {**given, "SASL_USERNAME": "ann", "SASL_PASSWORD": "s3cret"}.items():
        monkeypatch.setenv(f"NIGHTSTRIDE_KAFKA_{name}", str(value))
    before_it = KafkaSettings(delivery_timeout_s=10.0, settings={"sasl.mechanism": "SCRAM-SHA-512"})
    sent = KafkaSink(url, before_it, box, SchemaRegistry()).send(packets(2))
    assert said[:2] == [b"\0\5PLAIN", struct.pack(">i", 11) + b"\0ann\0s3cret"]
    assert (sent.trouble.code, sent.exit_code, sent.left) == ("kafka_refuses", 2, 2)
    assert "no such user" in str(sent.trouble)
    assert "s3cret" not in str(sent.trouble)


BROKER = """
import sys, time
from benchmarks.faults.kafka_broker import Broker
broker = Broker()
print(broker.address, flush=True)
time.sleep(600)
"""


@pytest.fixture
def paused():
    """A broker in a process of its own, which can be stopped and go on."""
    process = subprocess.Popen(
        [sys.executable, "-c", BROKER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.faults
def test_a_broker_that_hangs_is_given_up_and_the_rest_is_sent_when_it_is_back(box, paused):
    process, address = paused
    sink = KafkaSink(f"kafka://{address}/alerts", KafkaSettings(delivery_timeout_s=1.0), box, SchemaRegistry())
    assert counts(sink.send(packets(50))) == (50, 0, 0, 0, 0)
    process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    sent = sink.send(packets(200))
    assert time.monotonic() - begun < 20
    assert sent.exit_code == 1
    assert (sent.kept, sent.left) == (50, 150)
    process.send_signal(signal.SIGCONT)

    def sent_all():
        sink.send(packets(200))
        return box.counts()[sink.name, "11.1"] == {"sent": 200}

    until(sent_all, 60)


@pytest.mark.slow
@pytest.mark.faults
def test_a_producer_that_is_killed_again_and_again_loses_nothing(tmp_path):
    found, last, kills = killed_again_and_again(tmp_path, 10_000, kills=3, seed=int(time.time()))
    assert kills == 3
    assert sorted(found) == list(range(FIRST, FIRST + 10_000))
    assert marked_sent(tmp_path) == set(found)
    assert last["alerts"] + last["kept"] == 10_000
    assert last["left"] == 0


def test_bodies_are_those_that_the_official_schema_reads(sink, reader):
    from importlib.resources import files

    path = files("lsst.alert.packet") / "schema" / "11" / "1" / "lsst.v11_1.alert.avsc"
    sent = {one.source_id: one.body for one in islice(packets(20), 20)}
    sink.send(packets(20))
    for message in reader.until(20):
        record = fastavro.schemaless_reader(io.BytesIO(message.value()[5:]), fastavro.schema.load_schema(str(path)))
        assert sent.pop(record["diaSourceId"]) == message.value()[5:]
    assert not sent


def test_sizes_of_the_settings_reach_librdkafka_in_its_units():
    found = _librdkafka("host:9092", KafkaSettings(batch_kib=3, queue_mib=5, max_message_kib=7))
    named = {name: found[name] for name in ("batch.size", "queue.buffering.max.kbytes", "message.max.bytes")}
    assert named == {"batch.size": 3072, "queue.buffering.max.kbytes": 5120, "message.max.bytes": 7168}
    assert found["enable.idempotence"] is True  # no message twice, and none before an earlier one


@pytest.mark.parametrize(
    ("code", "words", "untrusted"),
    [
        (KafkaError._SSL, "certificate verify failed", True), (KafkaError._SSL, "wrong version number", False),
        (KafkaError._TRANSPORT, "certificate verify failed", False),
    ],
)  # fmt: skip
def test_a_certificate_is_not_trusted_if_it_could_not_be_verified(code, words, untrusted):
    assert _untrusted(KafkaError(code, words)) is untrusted


class Faulty:
    """Producer that is full at first, then refuses to take some messages, and delivers none."""

    def __init__(self, code=None):
        self.code, self.full, self.taken, self.purged = code, 1, [], 0

    def produce(self, topic, value, key, headers, on_delivery):
        if self.full:
            self.full -= 1
            raise BufferError
        if self.code is not None:
            raise KafkaException(KafkaError(self.code, "words"))
        self.taken.append((value, key, on_delivery))

    def poll(self, _):
        return 0

    def purge(self):
        self.purged += 1
        for value, key, told in self.taken:
            told(KafkaError(KafkaError._PURGE_QUEUE), Answered(value, key))
        self.taken = []

    def __len__(self):
        return len(self.taken)


@pytest.mark.parametrize(
    ("code", "dead", "left", "trouble"),
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, 2, 0, None),
        (KafkaError._STATE, 0, 2, "kafka_down"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, 0, 2, "kafka_refuses"),
    ],
)
def test_what_is_not_taken_is_dead_if_it_is_too_large_and_else_left(code, dead, left, trouble):
    letters = []
    transfer = _Transfer("t", "kafka://h/t", lambda **_: Faulty(code), 5.0, lambda _, some: letters.extend(some))
    for name in "ab":
        transfer.put((name, b""), name.encode(), b"x", name)
    sent = transfer.finished()
    assert (sent.alerts, sent.dead, sent.left, sent.trouble and sent.trouble.code) == (0, dead, left, trouble)
    assert [letter.code for letter in letters] == ["too_large"] * dead


@pytest.mark.parametrize(("code", "tried"), [(None, 1), (KafkaError.MSG_SIZE_TOO_LARGE, 2)])
def test_after_a_failure_messages_of_another_schema_are_not_tried(box, url, monkeypatch, code, tried):
    monkeypatch.setattr(kafka_sink, "monotonic", iter(range(1000)).__next__)
    made, settings = [], KafkaSettings(delivery_timeout_s=2.0)
    monkeypatch.setattr(kafka_sink, "_producer", lambda *_, **__: made.append(Faulty(code)) or made[-1])
    sink, both = KafkaSink(url, settings, box, SchemaRegistry()), [packet(1), packet(2, version="10.0")]
    sent = sink.send(iter(both))
    assert (len(made), sent.trouble is None) == (tried, code is not None)
    assert sum(counts(sent)) == tried
    for one in both:
        box.record(box.route(sink.name, one.schema), [], [Letter(str(one.source_id), "refused", "x", b"1", one.body)])
    made.clear()
    sent = sink.send_letters(iter(box.letters()[-2:]))
    assert (len(made), sent.trouble is None) == (tried, code is not None)


def test_who_is_silent_for_twice_the_time_of_a_delivery_is_given_up(monkeypatch):
    clock, producer = [0.0], Faulty()

    def tick():
        clock[0] += 1.0
        return clock[0]

    monkeypatch.setattr(kafka_sink, "monotonic", tick)
    transfer = _Transfer("t", "kafka://h/t", lambda **_: producer, 2.0, lambda *_: None)
    transfer.put(("a", b""), b"a", b"x", "a")
    sent = transfer.finished()
    assert (sent.alerts, sent.left, producer.purged) == (0, 1, 1)
    assert sent.trouble.code == "kafka_down"
    assert clock[0] == 6.0  # begun at 1, and over from 5 on

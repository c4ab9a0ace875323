import time
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from threading import Event
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from benchmarks.faults.kafka_broker import Broker
from flows.inputs import kafka_arrivals
from flows.inputs.kafka_arrivals import KafkaArrivals
from flows.inputs.source import AN_ALERT
from schemas.errors import Misconfigured, Retryable

DEEP = "[" * 100_000
"""More lists in each other than Python's parser follows."""


@pytest.fixture(scope="module")
def broker():
    return Broker()


@pytest.fixture
def topic(request, broker, monkeypatch):
    """A topic of this test's own, with a reader of its own group."""
    # The broker waits so long for a reader that has left.
    monkeypatch.setenv("NIGHTSTRIDE_KAFKA_SESSION_TIMEOUT_MS", "6000")
    name = request.node.name.replace("[", "-").replace("]", "")
    opened = []

    def read():
        opened.append(KafkaArrivals(f"kafka://{broker.address}/{name}?group={name}"))
        return opened[-1]

    yield name, read
    for one in opened:
        if not getattr(one, "closed", False):
            one.close()


def take(arrivals, count, patience=60.0):
    """Poll until so many messages have come."""
    found, end = [], time.monotonic() + patience
    while len(found) < count and time.monotonic() < end:
        found += arrivals.poll(count - len(found))
    return found


def close(arrivals):
    arrivals.close()
    arrivals.closed = True


def test_messages_name_files_plainly_or_as_json(broker, topic):
    name, read = topic
    broker.send(name, "/data/a.fits", '{"uri": "s3://bucket/b.fits", "visit": 3}', "{broken", '{"uri": 5}', "[1]", DEEP)
    assert take(read(), 6) == ["/data/a.fits", "s3://bucket/b.fits", "{broken", '{"uri": 5}', "[1]", DEEP]


def test_silence_says_nothing_before_the_group_has_given_partitions(broker, topic):
    name, read = topic
    broker.send(name, "/data/a.fits")
    arrivals = read()
    assert not arrivals.ready
    assert take(arrivals, 1) == ["/data/a.fits"]
    assert arrivals.ready


def test_no_more_than_there_is_room_for_is_taken(broker, topic):
    name, read = topic
    broker.send(name, *map(str, range(7)))
    arrivals = read()
    assert len(take(arrivals, 3)) == 3
    assert arrivals.waiting == 4
    assert len(take(arrivals, 4)) == 4
    assert arrivals.waiting == 0


def test_what_was_not_finished_is_given_again_to_the_next_reader(broker, topic):
    name, read = topic
    broker.send(name, *"abcde")
    first = read()
    assert take(first, 5) == list("abcde")
    for uri in "abd":  # c is open: d is given again, which does no harm
        first.finished(uri)
    close(first)
    second = read()
    assert take(second, 3) == list("cde")
    for uri in "edc":
        second.finished(uri)
    close(second)
    assert take(read(), 1, patience=5.0) == []


def test_a_name_that_came_twice_is_finished_twice(broker, topic):
    name, read = topic
    broker.send(name, *"aab")
    first = read()
    take(first, 3)
    first.finished("a")
    close(first)
    assert take(read(), 1) == ["b"]


def test_one_thread_takes_while_another_finishes_and_a_third_asks(broker, topic):
    name, read = topic
    names = [str(number) for number in range(3000)]
    broker.send(name, *names)
    first, told, over = read(), Queue(), Event()

    def finish():
        while (uri := told.get()) is not None:
            first.finished(uri)

    def ask():
        while not over.is_set():
            assert first.waiting >= 0

    with ThreadPoolExecutor(2) as pool:
        finishing, asking = pool.submit(finish), pool.submit(ask)
        taken = 0
        while taken < len(names):
            found = take(first, 50)
            assert found
            taken += len(found)
            for uri in found:
                told.put(uri)
        told.put(None)
        finishing.result()
        over.set()
        asking.result()
    close(first)
    assert first.waiting == 0
    assert take(read(), 1, patience=5.0) == []


def test_a_commit_that_fails_is_told_at_the_next_look(broker, topic, monkeypatch):
    name, read = topic
    broker.send(name, "a")
    arrivals = read()
    take(arrivals, 1)

    class Refusing:
        def __getattr__(self, attribute):
            return getattr(consumer, attribute)

        def commit(self, **_):
            raise KafkaException(KafkaError(KafkaError._STATE, "no coordinator"))

    consumer = arrivals._consumer
    monkeypatch.setattr(arrivals, "_consumer", Refusing())
    arrivals.finished("a")
    with pytest.raises(Retryable, match="no coordinator"):
        arrivals.poll(1)


@pytest.mark.parametrize(
    "url", ["kafka://", "kafka://host:1", "kafka://host:1/", "kafka://host:1/a/b", "kafka://host:1/a?token=x"]
)
def test_a_url_that_makes_no_sense_is_refused(url):
    with pytest.raises(Misconfigured, match="is not a URL of a topic"):
        KafkaArrivals(url)


def test_settings_of_librdkafka_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("NIGHTSTRIDE_KAFKA_NO_SUCH_SETTING", "1")
    with pytest.raises(Misconfigured, match=r"no\.such\.setting"):
        KafkaArrivals("kafka://localhost:1/topic")


def test_a_broker_that_is_not_there_is_waited_for():
    arrivals = KafkaArrivals("kafka://localhost:1/topic")
    with pytest.raises(Retryable, match="cannot be read"):
        take(arrivals, 1)
    assert arrivals.ready  # with that as the reason
    with pytest.raises(Retryable, match="cannot be read"):  # as long as it is so
        arrivals.poll(1)
    arrivals.close()


def test_alerts_among_announcements_are_all_one(broker, topic):
    """Not a quarantine of its own for each of ten thousand."""
    name, read = topic
    broker.send(name, b"\0\0\0\x04\x4d and an alert", b"\0another", b"Obj\x01 a container", "/data/a.fits")
    assert take(read(), 4) == [AN_ALERT, AN_ALERT, AN_ALERT, "/data/a.fits"]


def test_an_error_among_messages_is_told_once_they_are_all_taken(monkeypatch):
    def message(offset=0, value=b"", error=None):
        told = {"partition": 0, "offset": offset, "value": value, "error": error}
        return SimpleNamespace(**{name: lambda one=one: one for name, one in told.items()})

    end, down = (KafkaError(code, "words") for code in (KafkaError._PARTITION_EOF, KafkaError._ALL_BROKERS_DOWN))
    batches = [[message(error=down), message(3, b"/a.fits")], [], [message(error=end)]]
    consumer = SimpleNamespace(consume=lambda room, timeout: batches.pop(0), subscribe=lambda *_, **__: None)
    monkeypatch.setattr(kafka_arrivals, "consumer_of", lambda *_: consumer)
    arrivals = KafkaArrivals("kafka://localhost:1/topic")
    assert arrivals.poll(2) == ["/a.fits"]
    with pytest.raises(Retryable, match="words"):
        arrivals.poll(2)
    assert arrivals.poll(2) == []  # to be at the end is no error

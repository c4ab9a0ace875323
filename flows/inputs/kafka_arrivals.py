"""Exposures announced on a Kafka topic."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from flows.inputs.source import AN_ALERT
from schemas.errors import Misconfigured, Retryable

GROUP = "nightstride"
"""Consumer group if the URL names none."""

ENVIRONMENT = "NIGHTSTRIDE_KAFKA_"
"""Prefix of variables with settings of librdkafka: ``NIGHTSTRIDE_KAFKA_SASL_PASSWORD`` is ``sasl.password``."""

POLL_S = 0.2
"""Waiting time for messages, s."""


class KafkaArrivals:
    """Arrivals announced by messages with a file's path or URL, or a JSON object with ``uri``.

    The offset of a message is committed once its file, and those of all earlier messages in its partition, are
    finished: after a crash, only files that were not finished are delivered again.

    Parameters
    ----------
    url
        ``kafka://HOST:PORT[,HOST:PORT...]/TOPIC[?group=NAME]``.

    Raises
    ------
    Misconfigured
        The URL is not of this form, or librdkafka refuses a setting.
    """

    announced = True

    def __init__(self, url: str) -> None:
        _, self._topic, _ = topic_of(url)
        self._url, self._error, self._joined = url, "", False
        self._open: dict[int, dict[int, str]] = {}
        self._next: dict[int, int] = {}
        # Used by three threads: one polls, one finishes, one asks what waits. Not held during librdkafka's callbacks.
        self._lock = Lock()
        # Nothing is fetched while the workers are busy; heartbeats show that the process is alive.
        self._consumer = consumer_of(url, self._failed, {"max.poll.interval.ms": 86_400_000})
        self._consumer.subscribe([self._topic], on_assign=self._given, on_revoke=self._revoked)

    @property
    def ready(self) -> bool:
        """Return whether this consumer has been assigned its partitions, or it is known why not."""
        return self._joined or bool(self._error)

    @property
    def waiting(self) -> int:
        """Return the number of messages that the brokers hold, as far as known, and that were not taken."""
        ahead = 0
        with self._lock:
            following_of = dict(self._next)
        for partition, following in following_of.items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
            ahead += max(0, high - following)
        return ahead

    def poll(self, room: int) -> list[str]:
        """Return the files named by up to ``room`` messages.

        Raises
        ------
        Retryable
            The brokers cannot be reached, or do not have the topic.
        """
        found = []
        for message in self._consumer.consume(room, timeout=POLL_S):
            if (error := message.error()) is not None:
                self._failed(error)
            else:
                found.append(self._taken(message))
        if self._error and not found:
            text = self._error
            if self._joined:  # before that, nothing can have been read
                self._error = ""
            raise Retryable("kafka", self._url, f"cannot be read: {text}.", "check brokers and topic.")
        return found

    def finished(self, uri: str) -> None:
        """Commit the offsets of messages that name ``uri``, as far as no earlier ones are unfinished."""
        with self._lock:
            for partition, messages in self._open.items():
                done = [offset for offset, named in messages.items() if named == uri]
                for offset in done:
                    del messages[offset]
                if done:
                    with self._committing():
                        self._consumer.commit(offsets=[self._committable(partition)], asynchronous=True)

    def close(self) -> None:
        """Leave the group; its next reader receives what is not finished."""
        with self._lock:
            offsets = [self._committable(partition) for partition in self._next]
        if offsets:
            with self._committing():
                self._consumer.commit(offsets=offsets, asynchronous=False)
        self._consumer.close()
        with self._lock:
            self._next.clear()

    @contextmanager
    def _committing(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            # When it is delivered again, it will be found to be published already.
            self._failed(error.args[0])

    def _taken(self, message: Message) -> str:
        partition, offset, uri = message.partition() or 0, message.offset() or 0, _uri(message.value() or b"")
        with self._lock:
            self._joined = True
            self._open.setdefault(partition, {})[offset] = uri
            self._next[partition] = offset + 1
        return uri

    def _committable(self, partition: int) -> TopicPartition:
        offset = min(self._open.get(partition) or [self._next[partition]])
        return TopicPartition(self._topic, partition, offset)

    def _given(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._joined = True

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Forget partitions that now belong to another consumer, which commits their offsets."""
        with self._lock:
            for one in partitions:
                self._open.pop(one.partition, None)
                self._next.pop(one.partition, None)

    def _failed(self, error: KafkaError) -> None:
        if error.code() != KafkaError._PARTITION_EOF:
            self._error = error.str()


def topic_of(url: str) -> tuple[str, str, str]:
    """Return brokers, topic and group of a URL ``kafka://HOST:PORT[,HOST:PORT...]/TOPIC[?group=NAME]``.

    Raises
    ------
    Misconfigured
        The URL is not of this form.
    """
    parts = urlsplit(url)
    topic = parts.path.strip("/")
    query = parse_qs(parts.query)
    if not parts.netloc or not topic or "/" in topic or query.keys() - {"group"}:
        raise Misconfigured(
            "kafka", url, "is not a URL of a topic.", "write kafka://HOST:PORT[,HOST:PORT...]/TOPIC[?group=NAME]."
        )
    return parts.netloc, topic, query.get("group", [GROUP])[0]


def consumer_of(url: str, failed: Callable[[KafkaError], object], own: Mapping[str, Any]) -> Consumer:
    """Return a consumer for the brokers and group of a URL that commits only on request.

    Parameters
    ----------
    url
        URL as for `topic_of`.
    failed
        Receives the errors of the brokers.
    own
        Further settings of librdkafka; those in the environment take precedence.

    Raises
    ------
    Misconfigured
        The URL is not of this form, or librdkafka refuses a setting.
    """
    brokers, _, group = topic_of(url)
    settings = {
        "bootstrap.servers": brokers,
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "log_level": 2,  # errors are reported by our own code
        **own,
        **librdkafka_environment(),
    }
    try:
        return Consumer(settings, error_cb=failed)
    except (KafkaException, ValueError) as error:
        raise Misconfigured(
            "kafka", url, f"librdkafka refuses a setting: {error}.", f"correct the URL or {ENVIRONMENT}... ."
        ) from error


def librdkafka_environment() -> dict[str, str]:
    """Return the settings of librdkafka in the environment, see `ENVIRONMENT`."""
    names = [name for name in os.environ if name.startswith(ENVIRONMENT)]
    return {name.removeprefix(ENVIRONMENT).lower().replace("_", "."): os.environ[name] for name in names}


def _uri(value: bytes) -> str:
    """Return the URI in a message; if there is none, the message itself, which is then quarantined as unreadable."""
    if value[:1] == b"\0" or value[:4] == b"Obj\x01":  # Confluent's wire format; an Avro object container
        return AN_ALERT
    text = value.decode(errors="replace").strip()
    try:
        named = json.loads(text)["uri"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return text
    return named if isinstance(named, str) else text

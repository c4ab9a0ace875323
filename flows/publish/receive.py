"""Reading of alerts from a Kafka topic into catalogues of visits; unreadable messages become dead letters."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from pydantic import Field, model_validator

from flows.inputs.kafka_arrivals import consumer_of, topic_of
from flows.publish.outbox import Letter, Outbox, opened_outbox
from flows.publish.registry import SchemaRegistry, registry_of
from flows.publish.row_filter import RowFilter
from flows.publish.wire import alerts_of, row_of
from flows.runtime.secrets import refuse_credentials
from flows.storage.atomic import write_file
from flows.storage.catalog_store import encoded, read_table
from flows.storage.digest import digest
from flows.storage.layout import dataset_folder, staging_folder
from flows.storage.lease import patient_lease
from schemas.alert_settings import AlertSettings
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.received_alert import RECEIVED_ALERT
from schemas.summary import QUARANTINED, Record

AT_ONCE = 500
"""Messages taken together; their alerts are written before more are taken."""

JOIN_S = 30.0
"""Longest time until a consumer group gives partitions to its first reader, s."""

RECEIVED = "received"
"""Form of dead letters that came from a topic, instead of the version of a schema."""

_POLL_S, _SAY_S, _ASK_S = 0.5, 30.0, 10.0


class ReceivedSummary(Record):
    """Result of ``nightstride watch --content alerts``; the last line of its output with ``--json``."""

    messages: Annotated[int, Field(ge=0, description="Messages taken from the topic.")] = 0
    dead: Annotated[int, Field(ge=0, description="Messages that became dead letters.")] = 0
    alerts: Annotated[int, Field(ge=0, description="Alerts in the other messages; a message may hold several.")] = 0
    kept: Annotated[int, Field(ge=0, description="Alerts published now.")] = 0
    filtered: Annotated[int, Field(ge=0, description="Alerts for which the filter is not true.")] = 0
    repeated: Annotated[int, Field(ge=0, description="Alerts published before: Kafka may deliver a message twice.")] = 0
    nights: Annotated[tuple[str, ...], Field(description="Nights with alerts that were published now.")] = ()
    seconds: Annotated[float, Field(ge=0)] = 0.0
    warnings: Annotated[tuple[str, ...], Field(description="Failures for which there was a substitute.")] = ()

    @model_validator(mode="after")
    def _reconciled(self) -> "ReceivedSummary":
        if self.alerts != self.kept + self.filtered + self.repeated:
            raise ValueError(f"alerts must be kept + filtered + repeated, got {self!r}")
        return self

    @property
    def exit_code(self) -> int:
        """Return 3 if there are dead letters, else 0."""
        return QUARANTINED if self.dead else 0


@dataclass
class AlertCatalogue:
    """Catalogue ``received_alert`` of an output folder: one file per visit, with each alert once.

    Parameters
    ----------
    out
        Output folder; the caller holds its lease.
    source
        Name of the topic.
    outbox
        Receives dead letters.
    registry
        Source of the schemas.
    row_filter
        Filter of the alerts to publish; None: all are published.
    """

    out: Path
    source: str
    outbox: Outbox
    registry: SchemaRegistry
    row_filter: RowFilter | None = None
    summary: ReceivedSummary = field(default_factory=ReceivedSummary, init=False)

    def add(self, messages: Sequence[Message]) -> None:
        """Publish the alerts of messages; unreadable messages become dead letters.

        Raises
        ------
        Misconfigured, Retryable
            A catalogue or a dead letter cannot be written, the registry refuses, or the package of schemas is missing.
        """
        rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        letters = list[Letter]()
        for message in messages:
            try:
                found = [row_of(alert) for alert in alerts_of(_bytes(message.value()) or b"", self.registry.schema)]
            except (BadInput, Retryable) as error:  # a registry that is down must not stop the others
                letters.append(_letter(message, error))
                continue
            place = {"topicPartition": message.partition(), "topicOffset": message.offset()}
            for night, row in found:
                rows[night].append({**row, **place})
        kept, filtered, repeated, nights = 0, 0, 0, set(self.summary.nights)
        for night, listed in rows.items():
            table = pa.Table.from_pylist(listed, RECEIVED_ALERT.schema)
            taken = table if self.row_filter is None else self.row_filter.taken(table)
            new = sum(self._publish(night, visit, taken) for visit in pc.unique(taken["visit"]).to_pylist())
            kept, filtered, repeated = kept + new, filtered + len(table) - len(taken), repeated + len(taken) - new
            nights |= {night} if new else set()
        self.outbox.record(self.outbox.route(self.source, RECEIVED), [], letters)
        before = self.summary
        self.summary = ReceivedSummary(
            messages=before.messages + len(messages),
            dead=before.dead + len(letters),
            alerts=before.alerts + sum(map(len, rows.values())),
            kept=before.kept + kept,
            filtered=before.filtered + filtered,
            repeated=before.repeated + repeated,
            nights=tuple(sorted(nights)),
        )

    def _publish(self, night: str, visit: int, taken: pa.Table) -> int:
        """Add the rows of a visit to its file, except those already there; return the number of new rows."""
        path = dataset_folder(self.out, RECEIVED_ALERT.name, night) / f"{visit}.parquet"
        there = _read(path) if path.exists() else RECEIVED_ALERT.empty()
        rows = pa.concat_tables([there, taken.filter(pc.equal(taken["visit"], visit))])
        ids = rows["diaSourceId"].to_pylist()
        first = {source: number for number, source in reversed(list(enumerate(ids)))}
        new = len(first) - len(there)
        if new:
            whole = rows.take(sorted(first.values())).sort_by([("detector", "ascending"), ("diaSourceId", "ascending")])
            content = encoded(
                RECEIVED_ALERT.name, RECEIVED_ALERT.schema, whole, digest(self.source, {"ids": sorted(first)})
            )
            write_file(path, content, staging_folder(self.out))
        return new


def _read(path: Path) -> pa.Table:
    try:
        return read_table(path, RECEIVED_ALERT)
    except BadInput as error:
        raise Misconfigured(
            error.code, error.where, error.problem,
            "move it away; with another ?group= what the topic still holds of the visit is read again.",
        ) from error  # fmt: skip


def _letter(message: Message, error: BadInput | Retryable) -> Letter:
    name = f"{message.topic()}/{message.partition()}/{message.offset()}"
    return Letter(name, error.code, f"{error.problem} To fix, {error.remedy}", _bytes(message.key()),
                  _bytes(message.value()) or b"")  # fmt: skip


def _bytes(text: str | bytes | None) -> bytes | None:
    return text.encode() if isinstance(text, str) else text


class AlertTopic:
    """Topic from which alerts are read; the broker remembers for each group how far it has read.

    Parameters
    ----------
    url
        ``kafka://HOST:PORT[,HOST:PORT...]/TOPIC[?group=NAME]``.

    Attributes
    ----------
    name
        The URL without the group.
    joined
        Whether the group has assigned partitions to this reader, which takes seconds.
    finished
        Whether all messages that these partitions then had were taken.

    Raises
    ------
    Misconfigured
        The URL has another form, or librdkafka refuses a setting.
    """

    def __init__(self, url: str) -> None:
        brokers, topic, _ = topic_of(url)
        self.name, self.joined, self._error = f"kafka://{brokers}/{topic}", False, ""
        # Fetch ahead no more than about a batch of the largest alerts.
        ahead = {"queued.max.messages.kbytes": 32 << 10, "log_level": 2, "enable.partition.eof": True}
        self._ends = dict[int, int | None]()  # partition -> its end when assigned, until that is reached
        self._consumer = consumer_of(url, self._failed, ahead)
        self._consumer.subscribe([topic], on_assign=self._assigned)

    def take(self, most: int = AT_ONCE) -> list[Message]:
        """Return the next messages, at most a given number; none if none comes within half a second.

        Raises
        ------
        Retryable
            The brokers cannot be reached, or do not have the topic; the next call tries again.
        """
        found = []
        for message in self._consumer.consume(most, timeout=_POLL_S):
            partition, error = message.partition() or 0, message.error()
            if error is None:
                found.append(message)
                end = self._ends.get(partition)
                if end is not None and (message.offset() or 0) + 1 >= end:
                    del self._ends[partition]
            elif error.code() == KafkaError._PARTITION_EOF:
                self._ends.pop(partition, None)
            else:
                self._failed(error)
        if self._error and not found:
            text, self._error = self._error, ""
            raise Retryable("kafka", self.name, f"cannot be read: {text}.", "check brokers and topic.")
        return found

    def commit(self) -> None:
        """Record at the broker that all messages taken are done; if this fails, they may come again."""
        try:
            self._consumer.commit(asynchronous=False)
        except KafkaException as error:
            self._failed(error.args[0])

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    @property
    def finished(self) -> bool:
        """Return whether all messages that the partitions had when they were assigned were taken."""
        return self.joined and not self._ends

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._ends = {one.partition: self._end(consumer, one) for one in partitions}
        self.joined = True

    def _end(self, consumer: Consumer, partition: TopicPartition) -> int | None:
        """Return the offset after the last message of a partition; None: unknown until it is reached."""
        try:
            return consumer.get_watermark_offsets(partition, timeout=_ASK_S)[1]
        except KafkaException as error:
            self._failed(error.args[0])
            return None

    def _failed(self, error: KafkaError) -> None:
        if error.code() != KafkaError._NO_OFFSET:
            self._error = error.str()


class Stopping(Protocol):
    """Signal handler: the first signal asks for an end within a bounded time; before `begin` it ends the process."""

    @property
    def asked(self) -> bool:
        """Return whether an end was asked for."""

    def begin(self) -> None:
        """Declare that from now on there may be work to finish."""


def receive(
    topic: AlertTopic, catalogue: AlertCatalogue, stopped: Callable[[], bool], idle_exit_s: float | None,
    say: Callable[[str, int], object], *, once: bool = False,
) -> ReceivedSummary:  # fmt: skip
    """Read a topic into a catalogue until asked to stop, until no message has come for some time, or up to its end.

    A message is committed when its alerts are on disk. If the process is killed before that, the message is taken
    again, and alerts already there count as repeated.

    Parameters
    ----------
    topic, catalogue
        Source and destination.
    stopped
        Called between batches; returns whether to stop.
    idle_exit_s
        Stop after this time without a message, s, or `JOIN_S` later while no partitions are assigned; None: never.
    say
        Receives a line on the progress, and its level of `logging`.
    once
        Stop after the last message that the topic has when partitions are assigned.

    Raises
    ------
    Misconfigured, Retryable
        As in `AlertCatalogue.add`; the topic could not be read before the time to stop (``kafka``).
    """
    start = busy = told = monotonic()
    last, joined = "", False
    while not stopped():
        try:
            messages = topic.take()
        except Retryable as error:
            if str(error) != last:
                say(f"waiting: {error}", logging.WARNING)
            last, messages = str(error), []
        if topic.joined and not joined:
            joined, busy = True, monotonic()
        if messages:
            catalogue.add(messages)
            topic.commit()
            busy, last = monotonic(), ""
            if busy - told >= _SAY_S:
                say(f"{catalogue.summary.alerts:,} alerts, {catalogue.summary.kept:,} kept.", logging.INFO)
                told = busy
        if once and topic.finished:
            break
        if not messages and _is_over(topic, monotonic() - busy, idle_exit_s, once, last):
            break
    warnings = tuple(catalogue.registry.warnings)
    return catalogue.summary.model_copy(update={"seconds": round(monotonic() - start, 3), "warnings": warnings})


def _is_over(topic: AlertTopic, quiet_s: float, idle_exit_s: float | None, once: bool, trouble: str) -> bool:
    """Return whether no message has come for long enough; raise if the topic could not be read, as far as known."""
    limit = min(JOIN_S if once else float("inf"), float("inf") if idle_exit_s is None else idle_exit_s)
    if quiet_s < limit + (0 if topic.joined else JOIN_S):
        return False
    if not once and (topic.joined or not trouble):  # a group that another reader has just left takes longer
        return True
    what = "its end was not reached" if topic.joined else "no partition of it was given to this reader"
    what += f" ({trouble})" if trouble else ""
    raise Retryable(
        "kafka", topic.name, f"gave nothing for {quiet_s:.0f} s, and {what}.",
        "check brokers and topic, and run again: what was read is kept.",
    )  # fmt: skip


def receive_alerts(
    source: str, out: Path, settings: AlertSettings, row_filter: RowFilter | None, idle_exit_s: float | None,
    wait_s: float, say: Callable[..., None], stop: Stopping, *, once: bool,
) -> ReceivedSummary:  # fmt: skip
    """Read a topic of alerts into an output folder until SIGTERM or Ctrl-C.

    Parameters
    ----------
    source, out, settings
        URL of the topic, output folder, and settings.
    row_filter
        Filter of the alerts to keep; None: all are kept.
    idle_exit_s, say, once
        As in `receive`.
    wait_s
        Longest wait for another run that holds ``out``, s.
    stop
        Signal handler, which also bounds the time to the end.

    Raises
    ------
    Misconfigured, Retryable
        As in `receive`; another run holds ``out``; ``source`` is not the URL of a topic.
    """
    refuse_credentials(source, "the URL to watch")
    topic = AlertTopic(source)
    try:
        with patient_lease(out, wait_s, say), opened_outbox(out, settings.outbox) as outbox:
            stop.begin()
            say(f"Reading alerts from {topic.name}.", logging.INFO)
            catalogue = AlertCatalogue(out, topic.name, outbox, registry_of(settings), row_filter)
            return receive(topic, catalogue, lambda: stop.asked, idle_exit_s, say, once=once)
    finally:
        topic.close()

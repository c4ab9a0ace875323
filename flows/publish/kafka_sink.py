"""Sending of alerts to a Kafka topic; each is recorded in the outbox once the broker has acknowledged it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, islice
from time import monotonic, time

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from flows.inputs.kafka_arrivals import ENVIRONMENT, librdkafka_environment, topic_of
from flows.publish.outbox import EntryMark, Letter, Outbox, Standing, mark_of, marked
from flows.publish.packet import Packet
from flows.publish.registry import SchemaRegistry
from flows.publish.sinks import OwedVisits, Sent
from flows.publish.wire import ZTF, message_key, message_of
from schemas.alert_settings import KafkaSettings
from schemas.errors import BadInput, Misconfigured, NightstrideError, Retryable
from schemas.exposure import ExposureKey

AT_ONCE = 500
"""Number of packets that are entered in the outbox together."""

Bookkeeping = Callable[[list[tuple[EntryMark, float]], list[Letter]], None]
"""Function that records packets that have arrived, with the times, and dead letters."""

_POLL_S = 0.1
_OF_STANDING = {"sent": Sent(kept=1), "dead": Sent(dead=1), "held": Sent(held=1)}
_TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE
_DEAD = {_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.INVALID_TIMESTAMP, KafkaError.POLICY_VIOLATION}
_REFUSED = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_EXCEPTION,
}


class KafkaSink:
    """Kafka topic for alerts.

    The broker may receive a packet twice, if its acknowledgement was lost or the process was killed before recording
    it. The key of a message is its diaSourceId, so that consumers can drop repeats.

    Parameters
    ----------
    url
        ``kafka://HOST:PORT[,HOST:PORT...]/TOPIC``.
    settings
        Settings of messages.
    outbox
        Outbox that records the packets that have arrived.
    registry
        Registry used to check that the schema number is that of the schema.
    again
        Whether to send detections again that were sent with results of another search.

    Raises
    ------
    Misconfigured
        The URL has another form, or librdkafka refuses a setting.
    """

    def __init__(
        self, url: str, settings: KafkaSettings, outbox: Outbox, registry: SchemaRegistry, *, again: bool = False
    ) -> None:
        brokers, self._topic, _ = topic_of(url)
        self.name = f"kafka://{','.join(sorted(brokers.split(',')))}/{self._topic}"
        self._outbox, self._registry, self._again = outbox, registry, again
        self._patience_s = settings.delivery_timeout_s
        self._settings = _librdkafka(brokers, settings)
        self._passed = Sent()

    def wanted(self, key: ExposureKey, form: str, made_from: str, sources: Sequence[int]) -> list[bool]:
        """Return whether the alert of each detection still has to be sent; raise as the outbox does."""
        route = self._outbox.route(self.name, form)
        self._passed += Sent(withdrawn=self._outbox.withdraw(route, key, sources))
        standings = self._outbox.standings(route, [marked(source, made_from) for source in sources], again=self._again)
        for standing in standings:
            self._passed += _OF_STANDING.get(standing, Sent())
        return [standing == "waiting" for standing in standings]

    def owed(self, form: str) -> OwedVisits:
        """Return the visits with alerts still to send; raise as the outbox does."""
        return OwedVisits(self._outbox, self._outbox.route(self.name, form))

    def lack(self, key: ExposureKey) -> None:
        """Do nothing: messages that were sent stay in the topic."""

    def bury(self, packet: Packet, error: BadInput) -> None:
        """Store a packet that violates its schema as a dead letter; raise as the outbox does."""
        self._outbox.bury(self._outbox.route(self.name, packet.schema), packet, error)

    def send(self, packets: Iterator[Packet]) -> Sent:
        """Send packets, read one by one; return when each is acknowledged, dead, or left in the outbox.

        If the broker is down, ``trouble`` is set: packets already taken wait in the outbox, and no more are taken.

        Raises
        ------
        Misconfigured, Retryable
            The registry has another schema; the outbox fails; librdkafka refuses a setting.
        """
        sent = Sent()
        for form, group in groupby(packets, lambda packet: packet.schema):
            if form != ZTF:
                self._registry.require_same(form)
            transfer, route = self._transfer(form), self._outbox.route(self.name, form)
            try:
                while transfer.trouble is None and (batch := list(islice(group, AT_ONCE))):
                    transfer.take(batch, self._outbox.enter(route, batch, again=self._again))
            except NightstrideError:  # no more packets can be made, but outcomes of those on their way are recorded
                transfer.finished()
                raise
            sent += transfer.finished()
            if sent.trouble is not None:
                break
        passed, self._passed = self._passed, Sent()
        return sent + passed

    def send_letters(self, letters: Iterator[Letter]) -> Sent:
        """Send dead letters again, byte for byte, and remove each that has arrived; raise as `send` does."""
        sent = Sent()
        for form, group in groupby(letters, lambda letter: letter.form):
            known: dict[int, Letter] = {}
            transfer = self._transfer(form, partial(self._revive, known))
            for letter in group:
                known[letter.number] = letter
                transfer.put(EntryMark(letter.number, b""), letter.key, letter.value, letter.name)
                transfer.settle()
            sent += transfer.finished()
            if sent.trouble is not None:
                break
        return sent

    def _revive(self, known: dict[int, Letter], arrived: list[tuple[EntryMark, float]], _: list[Letter]) -> None:
        for mark, when in arrived:
            self._outbox.revive(known.pop(mark.source), when)

    def _transfer(self, form: str, record: Bookkeeping | None = None) -> "_Transfer":
        route = self._outbox.route(self.name, form)
        make = partial(_producer, self._settings, self.name)
        return _Transfer(self._topic, self.name, make, self._patience_s, record or partial(self._outbox.record, route))


def _librdkafka(brokers: str, settings: KafkaSettings) -> dict[str, str | int | float | bool]:
    return {
        "bootstrap.servers": brokers,
        "enable.idempotence": True,
        "compression.type": settings.compression,
        "batch.size": settings.batch_kib << 10,
        "batch.num.messages": 100_000,
        "linger.ms": settings.linger_ms,
        "queue.buffering.max.kbytes": settings.queue_mib << 10,
        "message.max.bytes": settings.max_message_kib << 10,
        "message.timeout.ms": round(1000 * settings.delivery_timeout_s),
        "log_level": 2,  # failures are reported by this module
        **settings.settings,
        **librdkafka_environment(),
    }


def _producer(settings: Mapping[str, str | int | float | bool], name: str, **changed: object) -> Producer:
    try:
        return Producer({**settings, **changed})
    except (KafkaException, ValueError, TypeError) as error:
        raise Misconfigured(
            "kafka", name, f"librdkafka refuses a setting: {error}.", f"correct alerts.kafka or {ENVIRONMENT}... ."
        ) from error


class _Transfer:
    """Messages on their way to a topic, and their outcomes.

    Brokers limit the total size of messages sent together, so messages refused with others are sent again one by one.
    """

    def __init__(
        self, topic: str, name: str, make: Callable[..., Producer], patience_s: float, record: Bookkeeping
    ) -> None:
        self._topic, self._name, self._make, self._patience_s, self._record = topic, name, make, patience_s, record
        self._together = make(error_cb=self._told)
        self._alone: Producer | None = None
        self._refused: list[tuple[EntryMark, str, Message]] = []
        self._arrived: list[tuple[EntryMark, float]] = []
        self._letters: list[Letter] = []
        self._times: list[float] = []
        self._sent = Sent()
        self.trouble: NightstrideError | None = None

    def take(self, packets: Sequence[Packet], standings: Sequence[Standing]) -> None:
        """Hand over the packets that must be sent, and record those that have arrived meanwhile."""
        for packet, standing in zip(packets, standings, strict=True):
            if standing == "waiting":
                self.put(mark_of(packet), message_key(packet), message_of(packet), str(packet.source_id))
            else:
                self._sent += _OF_STANDING[standing]
        self.settle()

    def put(self, mark: EntryMark, key: bytes | None, value: bytes, name: str) -> None:
        """Hand over a message as soon as the queue has room."""
        headers: list[tuple[str, str | bytes | None]] = [("producer_timestamp", str(int(1000 * time())))]
        producer = self._together if self._alone is None else self._alone
        delivered = partial(self._delivered, mark, name, self._alone is not None)
        while self.trouble is None:
            try:
                producer.produce(self._topic, value, key, headers=headers, on_delivery=delivered)
                return
            except BufferError:
                self._poll(_POLL_S)
            except KafkaException as error:
                code = error.args[0].code()
                if code == _TOO_LARGE:
                    self._bury(mark, name, error.args[0], key, value)
                    return
                self._fail(error.args[0])
        self._sent += Sent(left=1)

    def finished(self) -> Sent:
        """Wait until each message has an outcome, at most for the time-out of a delivery."""
        end = monotonic() + 2 * self._patience_s
        while self._on_the_way or self._refused:
            if monotonic() > end:
                self._fail(KafkaError(KafkaError._TIMED_OUT))
            if self.trouble is not None:
                for producer in self._producers:
                    producer.purge()
            self._poll(_POLL_S)
            self.settle()
        self.settle()
        return self._sent + Sent(trouble=self.trouble, times=tuple(self._times))

    def settle(self) -> None:
        """Record arrived and dead messages, and send again those refused together with others."""
        self._poll(0)
        arrived, letters, self._arrived, self._letters = self._arrived, self._letters, [], []
        if arrived or letters:
            self._record(arrived, letters)
        refused, self._refused = self._refused, []
        if refused and self._alone is None:
            self._alone = self._make(error_cb=self._told, **{"batch.num.messages": 1})
        for mark, name, message in refused:
            self.put(mark, _bytes(message.key()), _bytes(message.value()) or b"", name)

    @property
    def _producers(self) -> list[Producer]:
        return [self._together] if self._alone is None else [self._together, self._alone]

    @property
    def _on_the_way(self) -> int:
        return sum(map(len, self._producers))

    def _poll(self, seconds: float) -> None:
        for producer in self._producers:
            producer.poll(seconds if len(producer) else 0)

    def _delivered(self, mark: EntryMark, name: str, alone: bool, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._times.append(now := time())
            self._arrived.append((mark, now))
            self._sent += Sent(1, len(message))
        elif error.code() == _TOO_LARGE and not alone:
            self._refused.append((mark, name, message))
        elif error.code() in _DEAD:
            self._bury(mark, name, error, message.key(), message.value())
        else:
            self._sent += Sent(left=1)
            if error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
                self._fail(error)

    def _bury(
        self, mark: EntryMark, name: str, error: KafkaError, key: str | bytes | None, value: str | bytes | None
    ) -> None:
        code = "too_large" if error.code() == _TOO_LARGE else "refused"
        self._letters.append(Letter(name, code, error.str(), _bytes(key), _bytes(value) or b"", mark))
        self._sent += Sent(dead=1)

    def _told(self, error: KafkaError) -> None:
        """Handle a failure of the whole producer; unreachable brokers may come back."""
        if error.code() in _REFUSED or error.fatal() or _untrusted(error):
            self._fail(error)

    def _fail(self, error: KafkaError) -> None:
        if self.trouble is not None:
            return
        if _untrusted(error):
            self.trouble = Misconfigured(
                "kafka_tls", self._name, f"is not trusted: {error.str()}.",
                f"name the authority of its certificate ({ENVIRONMENT}SSL_CA_LOCATION), and the host as that has it; "
                "then publish again: the rest waits in the outbox.",
            )  # fmt: skip
            return
        if error.code() in _REFUSED:
            self.trouble = Misconfigured(
                "kafka_refuses", self._name, f"the broker refuses: {error.str()}.",
                f"make the topic, and set user and password ({ENVIRONMENT}SASL_USERNAME, {ENVIRONMENT}SASL_PASSWORD); "
                "then publish again: the rest waits in the outbox.",
            )  # fmt: skip
            return
        self.trouble = Retryable(
            "kafka_down", self._name,
            f"did not acknowledge a message within {self._patience_s:g} s: {error.str()}.",
            "see to the broker and publish again: what is acknowledged is not sent again, the rest is.",
        )  # fmt: skip


def _untrusted(error: KafkaError) -> bool:
    """Return whether a broker's certificate was refused, for which librdkafka has no separate code."""
    return error.code() == KafkaError._SSL and "verif" in error.str()


def _bytes(text: str | bytes | None) -> bytes | None:
    return text.encode() if isinstance(text, str) else text

"""Delivery of packets to any sink by its URL, through the outbox, and of dead letters once more."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from flows.publish.container import has_header
from flows.publish.outbox import EntryMark, Letter, Outbox, mark_of, opened_outbox
from flows.publish.packet import Packet
from flows.publish.registry import registry_of
from flows.publish.sinks import FolderSink, OwedVisits, Sent, Sink
from flows.storage.bucket_path import BucketPath, located
from schemas.alert_settings import AlertSettings
from schemas.errors import BadInput, Misconfigured, missing_extra
from schemas.exposure import ExposureKey
from schemas.summary import Record

if TYPE_CHECKING:
    from flows.publish.kafka_sink import KafkaSink

KAFKA = "kafka://"

AT_ONCE = 500
"""Packets that are entered in the outbox together."""


class ReplaySummary(Record):
    """Result of ``nightstride alerts replay``; the last line of its output with ``--json``."""

    letters: Annotated[int, Field(ge=0, description="Dead letters that are messages.")]
    sent: Annotated[int, Field(ge=0, description="That have arrived now, and are forgotten.")]
    dead: Annotated[int, Field(ge=0, description="That could not be sent this time either.")]
    left: Annotated[int, Field(ge=0, description="That were not tried, as the broker was gone.")]


def outbox_to_read(path: Path) -> Outbox:
    """Return an outbox that is there, to be read, also where nothing may be written; errors as of `Outbox`."""
    try:
        return Outbox(path)
    except Misconfigured as error:
        if error.code != "not_writable":
            raise
    return Outbox(path, write=False)


@contextmanager
def opened_sink(
    to: str, out: Path, settings: AlertSettings, *, again: bool = False, alone: bool = True
) -> Iterator[Sink]:
    """Open the sink of a URL, with the outbox of an output folder.

    Parameters
    ----------
    to
        ``kafka://HOST:PORT[,HOST:PORT...]/TOPIC``, ``s3://BUCKET/PREFIX``, or a folder.
    out, settings
        Whose alerts, and how they are sent.
    again
        Send also, to a topic, detections that were sent as another search had found them.
    alone
        As in `flows.publish.outbox.opened_outbox`.

    Raises
    ------
    Misconfigured, Retryable
        It is not such a URL; as in `flows.publish.outbox.opened_outbox`, but that a folder needs no outbox.
    """
    if to.startswith(KAFKA):
        with opened_outbox(out, settings.outbox, alone=alone) as outbox:
            yield kafka_sink(to, settings, outbox, again=again)
        return
    folder = FolderSink(located(to))
    there = settings.outbox is not None or not isinstance(out, BucketPath)
    with opened_outbox(out, settings.outbox, alone=alone) if there else nullcontext() as outbox:
        yield folder if outbox is None else RecordedFolder(folder, outbox)


def kafka_sink(to: str, settings: AlertSettings, outbox: Outbox, *, again: bool = False) -> "KafkaSink":
    """Return the sink of a topic.

    Raises
    ------
    Misconfigured
        It is not a URL of a topic, librdkafka refuses a setting, or the extra ``kafka`` is missing.
    """
    from flows.runtime.secrets import refuse_credentials

    refuse_credentials(to, "--to")
    try:
        from flows.publish.kafka_sink import KafkaSink
    except ModuleNotFoundError as error:
        raise missing_extra(str(error.name), "kafka", "extra", to) from error
    return KafkaSink(to, settings.kafka, outbox, registry_of(settings), again=again)


@dataclass(frozen=True)
class RecordedFolder:
    """Folder of containers, local or in a bucket, with an outbox that knows what is in them.

    A container appears whole, by one rename or put, and only then are its alerts recorded as sent. A visit that is
    published again, with other detections, replaces its container. Alerts count as sent again where it was taken away,
    or is empty.
    """

    folder: FolderSink
    outbox: Outbox

    def wanted(self, key: ExposureKey, form: str, made_from: str, sources: Sequence[int]) -> list[bool]:
        """Want each: a container is written whole. Errors as in `FolderSink.wanted`."""
        return self.folder.wanted(key, form, made_from, sources)

    def owed(self, form: str) -> OwedVisits:
        """Return the visits of which containers may be missing; errors as of the outbox."""
        return OwedVisits(self.outbox, self.outbox.route(self.name, form))

    def bury(self, packet: Packet, error: BadInput) -> None:
        """Keep what breaks the rules of its schema; errors as of the outbox."""
        self.outbox.bury(self.outbox.route(self.name, packet.schema), packet, error)

    @property
    def name(self) -> str:
        """Return how the outbox knows it."""
        return str(self.folder.folder.resolve())

    def send(self, packets: Iterator[Packet]) -> Sent:
        """Write packets; those of a visit follow one another. Errors as in `FolderSink.send`, and of the outbox."""
        sent = Sent()
        for (visit, form), group in groupby(packets, lambda packet: (packet.visit, packet.schema)):
            there = has_header(self.folder.path(visit))
            entered = _Entered(group, self.outbox, self.outbox.route(self.name, form), there)
            self.folder.send(iter(entered))
            entered.arrived()
            sent += entered.sent + Sent(times=(time(),) * entered.sent.alerts)
        return sent


class _Entered:
    """Packets of a visit, entered in the outbox as they are read; its container may be there already."""

    def __init__(self, packets: Iterator[Packet], outbox: Outbox, route: int, there: bool) -> None:
        self._packets, self._outbox, self._route, self._there = packets, outbox, route, there
        self._marks: list[EntryMark] = []
        self.sent = Sent()

    def __iter__(self) -> Iterator[Packet]:
        while batch := list(islice(self._packets, AT_ONCE)):
            for packet, standing in zip(batch, self._outbox.enter(self._route, batch, again=True), strict=True):
                if standing == "sent" and self._there:
                    self.sent += Sent(kept=1)
                else:
                    self._marks.append(mark_of(packet))
                    self.sent += Sent(1, len(packet.body))
                yield packet

    def arrived(self) -> None:
        now = time()
        self._outbox.record(self._route, [(mark, now) for mark in self._marks])


def replay(out: Path, to: str, settings: AlertSettings) -> tuple[ReplaySummary, Sent]:
    """Send all dead letters once more, to a topic; those that arrive are forgotten.

    Those that break the rules of their schema are not messages: publishing makes them again.

    Raises
    ------
    Misconfigured, Retryable
        ``to`` is not a URL of a topic; as in `opened_sink`.
    """
    if not to.startswith(KAFKA):
        raise Misconfigured(
            "no_topic", to, "is not a topic: dead letters are messages of Kafka.", "write kafka://HOST:PORT/TOPIC."
        )
    with opened_outbox(out, settings.outbox) as outbox:
        there = sum(1 for _ in _messages(outbox))
        sent = kafka_sink(to, settings, outbox).send_letters(_messages(outbox))
    left = there - sent.alerts - sent.dead
    return ReplaySummary(letters=there, sent=sent.alerts, dead=sent.dead, left=left), sent


def _messages(outbox: Outbox) -> Iterator[Letter]:
    """Yield each dead letter that is a message once, also while those that arrive are forgotten.

    The message of a packet has a key; a packet that was never made into one has none.
    """
    last = 0
    while found := outbox.letters(last):
        yield from (letter for letter in found if letter.mark is None or letter.key is not None)
        last = found[-1].number

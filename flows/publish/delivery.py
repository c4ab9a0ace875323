"""Delivery of packets to a sink given by its URL, recorded in the outbox, and new attempts for dead letters."""

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
"""Packets entered in the outbox together."""


class ReplaySummary(Record):
    """Result of ``nightstride alerts replay``; the last line of its output with ``--json``."""

    letters: Annotated[int, Field(ge=0, description="Dead letters that are messages.")]
    sent: Annotated[int, Field(ge=0, description="Letters that arrived and were removed.")]
    dead: Annotated[int, Field(ge=0, description="Letters that still could not be sent.")]
    left: Annotated[int, Field(ge=0, description="Letters that were not sent because the broker was down.")]


def outbox_to_read(path: Path) -> Outbox:
    """Return an existing outbox for reading, even if it is not writable; raise as `Outbox` does."""
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
        Output folder of the alerts, and settings for sending them.
    again
        Whether a topic also gets detections that were sent with results of another search.
    alone
        As in `flows.publish.outbox.opened_outbox`.

    Raises
    ------
    Misconfigured, Retryable
        The URL has another form, or names a file; as in `flows.publish.outbox.opened_outbox`, except that alerts from a
        bucket to a folder need no outbox.
    """
    if to.startswith(KAFKA):
        with opened_outbox(out, settings.outbox, alone=alone) as outbox:
            yield kafka_sink(to, settings, outbox, again=again)
        return
    folder = FolderSink(located(to))
    if not isinstance(folder.folder, BucketPath) and folder.folder.is_file():
        raise Misconfigured("not_writable", to, "is a file, no folder.", "name a folder for the alerts.")
    there = settings.outbox is not None or not isinstance(out, BucketPath)
    with opened_outbox(out, settings.outbox, alone=alone) if there else nullcontext() as outbox:
        yield folder if outbox is None else RecordedFolder(folder, outbox)


def kafka_sink(to: str, settings: AlertSettings, outbox: Outbox, *, again: bool = False) -> "KafkaSink":
    """Return the sink of a topic.

    Raises
    ------
    Misconfigured
        The URL is not that of a topic or holds credentials, librdkafka refuses a setting, or the extra ``kafka`` is
        missing.
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
    """Folder of containers, local or in a bucket, with an outbox that records their alerts.

    A container appears whole, by one rename or put, and only then are its alerts recorded as sent. If a visit is
    published again with other detections, its container is replaced, unless it has alerts of an exposure that cannot be
    read now. If a container is missing or empty, its alerts count as sent again.
    """

    folder: FolderSink
    outbox: Outbox

    def wanted(self, key: ExposureKey, form: str, made_from: str, sources: Sequence[int]) -> list[bool]:
        """Return True for each detection: a container is written whole; raise as `FolderSink.wanted` does."""
        return self.folder.wanted(key, form, made_from, sources)

    def owed(self, form: str) -> OwedVisits:
        """Return the visits whose containers may be missing; raise as the outbox does."""
        return OwedVisits(self.outbox, self.outbox.route(self.name, form))

    def lack(self, key: ExposureKey) -> None:
        """Keep the container of a visit if it has alerts of an exposure; raise as `FolderSink.lack` does."""
        self.folder.lack(key)

    def bury(self, packet: Packet, error: BadInput) -> None:
        """Store a packet that violates its schema as a dead letter; raise as the outbox does."""
        self.outbox.bury(self.outbox.route(self.name, packet.schema), packet, error)

    @property
    def name(self) -> str:
        """Return the name of the folder in the outbox."""
        return str(self.folder.folder.resolve())

    def send(self, packets: Iterator[Packet]) -> Sent:
        """Write packets, grouped by visit; raise as `FolderSink.send` and the outbox do."""
        sent = Sent()
        for (visit, form), group in groupby(packets, lambda packet: (packet.visit, packet.schema)):
            there = has_header(self.folder.path(visit))
            entered = _Entered(group, self.outbox, self.outbox.route(self.name, form), there)
            if self.folder.send(iter(entered)).left:
                sent += Sent(kept=entered.sent.kept, left=entered.sent.alerts)
                continue
            entered.arrived()
            sent += entered.sent + Sent(times=(time(),) * entered.sent.alerts)
        return sent


class _Entered:
    """Packets of a visit, entered in the outbox as they are read; ``there`` is whether their container exists."""

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
    """Send all dead letters to a topic again, and remove those that arrive.

    Alerts that violate their schema are not messages and are left out; publishing makes them again.

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
    """Yield each dead letter that is a message, once, even if letters are removed meanwhile.

    The message of a packet has a key; a packet that violates its schema has no message and no key.
    """
    last = 0
    while found := outbox.letters(last):
        yield from (letter for letter in found if letter.mark is None or letter.key is not None)
        last = found[-1].number

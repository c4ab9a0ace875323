"""Sinks: destinations of alerts."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from time import time
from typing import Protocol

from flows.publish.container import holds_alerts_of, require_same_night, write_container
from flows.publish.outbox import GivenUp, Outbox
from flows.publish.packet import Packet
from flows.publish.ztf_schema import container_schema
from schemas.errors import BadInput, NightstrideError, exit_code
from schemas.exposure import ExposureKey
from schemas.summary import QUARANTINED


@dataclass(frozen=True)
class Sent:
    """Counts of packets by outcome; the first five below add up to the packets taken.

    Attributes
    ----------
    alerts
        Packets that have arrived now.
    dead
        Packets that could not be sent, now or before: dead letters.
    kept
        Packets that had arrived before, and were not sent again.
    held
        Packets not sent because their detection was sent with results of another search.
    left
        Packets that wait in the outbox.
    withdrawn
        Alerts sent before whose detections are no longer published; consumers are not told.
    bytes
        Size of the messages that have arrived now; for files, of the bodies.
    trouble
        Error after which no more packets were taken; None: all were taken.
    times
        Times of arrival of those that have arrived now, s since 1970.
    """

    alerts: int = 0
    bytes: int = 0
    dead: int = 0
    kept: int = 0
    held: int = 0
    left: int = 0
    withdrawn: int = 0
    trouble: NightstrideError | None = None
    times: tuple[float, ...] = ()

    def __add__(self, other: "Sent") -> "Sent":
        """Return the sum of two counts."""
        return Sent(
            self.alerts + other.alerts,
            self.bytes + other.bytes,
            self.dead + other.dead,
            self.kept + other.kept,
            self.held + other.held,
            self.left + other.left,
            self.withdrawn + other.withdrawn,
            self.trouble or other.trouble,
            self.times + other.times,
        )

    @property
    def exit_code(self) -> int:
        """Return 0 if all have arrived, 3 if only dead letters have not, 1 if some wait; or the code of ``trouble``."""
        if self.trouble is not None:
            return exit_code(self.trouble)
        return 1 if self.left else QUARANTINED if self.dead else 0


class OwedVisits:
    """Visits that are owed to one sink: from before their search until all their alerts are sent.

    Parameters
    ----------
    outbox, route
        Outbox that records them, and number of the sink; None: none are recorded. Methods raise as those of `Outbox`.
    """

    def __init__(self, outbox: Outbox | None, route: int = 0) -> None:
        self._outbox, self._route = outbox, route

    def add(self, night: str, visit: int) -> None:
        """Record that a visit is owed."""
        if self._outbox is not None:
            self._outbox.owe(self._route, night, visit)

    def turn(self, night: str, visit: int) -> int:
        """Return the turn of an owed visit, as `Outbox.turn` does; 0: it is not owed."""
        return 0 if self._outbox is None else self._outbox.turn(self._route, night, visit)

    def settle(self, night: str, visit: int, turn: int, error: BadInput | None = None, made_from: str = "") -> None:
        """Record that a visit was sent, or why it is given up; parameters as in `Outbox.settle`."""
        if self._outbox is not None:
            self._outbox.settle(self._route, night, visit, turn, error, made_from)

    def given_up(self) -> list[GivenUp]:
        """Return the visits that were given up."""
        return [] if self._outbox is None else self._outbox.given_up(self._route)

    def all(self) -> set[tuple[str, int]]:
        """Return night and visit of the visits that are owed or have waiting alerts."""
        return set() if self._outbox is None else self._outbox.owed(self._route)


class Sink(Protocol):
    """Destination of alerts."""

    def wanted(self, key: ExposureKey, form: str, made_from: str, sources: Sequence[int]) -> list[bool]:
        """Return whether each detection of an exposure needs an alert; the others are counted by their outcome.

        Parameters
        ----------
        key, form
            Key of the exposure, and version of the schema.
        made_from
            Digest of the inputs of the detections, as in their packets.
        sources
            diaSourceId of the detections.

        Raises
        ------
        BadInput
            None may be sent: they would replace alerts of another night.
        """

    def lack(self, key: ExposureKey) -> None:
        """Note, while packets are read, an exposure of which no alerts can be made now."""

    def send(self, packets: Iterator[Packet]) -> Sent:
        """Send packets, read one by one and grouped by visit; return when each has an outcome."""

    def owed(self, form: str) -> OwedVisits:
        """Return the visits with alerts still to send."""

    def bury(self, packet: Packet, error: BadInput) -> None:
        """Store a packet that violates its schema, with the alert as JSON in its body, as a dead letter."""


@dataclass(frozen=True)
class FolderSink:
    """Folder with an Avro object container ``<visit>.avro`` for each visit; one of the same night is replaced.

    One with alerts of an exposure that cannot be read now is kept: a new one would lack them.

    Parameters
    ----------
    folder
        Path, created if missing.
    """

    folder: Path
    _ours: set[tuple[str, int]] = field(default_factory=set, init=False, compare=False)
    _kept: set[tuple[str, int]] = field(default_factory=set, init=False, compare=False)

    def path(self, visit: int) -> Path:
        """Return the path of the container of a visit."""
        return self.folder / f"{visit}.avro"

    def wanted(self, key: ExposureKey, form: str, made_from: str, sources: Sequence[int]) -> list[bool]:
        """Return True for each detection: a container is written whole; raise as `require_same_night` does."""
        if (key.night, key.visit) not in self._ours:
            require_same_night(self.path(key.visit), key.visit, key.night)
            self._ours.add((key.night, key.visit))
        return [True] * len(sources)

    def owed(self, form: str) -> OwedVisits:
        """Return an empty record of owed visits: there is no outbox."""
        return OwedVisits(None)

    def bury(self, packet: Packet, error: BadInput) -> None:
        """Do nothing: there is no outbox."""

    def lack(self, key: ExposureKey) -> None:
        """Keep the container of a visit if it has alerts of an exposure; raise as `holds_alerts_of` does."""
        if holds_alerts_of(self.path(key.visit), key.detector):
            self._kept.add((key.night, key.visit))

    def send(self, packets: Iterator[Packet]) -> Sent:
        """Write packets, grouped by visit; those whose container is kept are ``left``.

        Raises
        ------
        Retryable, Misconfigured
            A container cannot be written; see `flows.storage.atomic.write_file`.
        """
        sent = Sent()
        for (night, visit, version), group in groupby(packets, lambda one: (one.night, one.visit, one.schema)):
            counted = _Counted(group)
            try:
                bodies = self._whole(counted, night, visit)
                write_container(self.path(visit), container_schema(version), bodies, night)
            except _Incomplete:
                sent += Sent(left=counted.alerts)
                continue
            sent += Sent(counted.alerts, counted.bytes, times=(time(),) * counted.alerts)
        return sent

    def _whole(self, bodies: Iterable[bytes], night: str, visit: int) -> Iterator[bytes]:
        """Yield the bodies of a visit; raise at their end, before the container is replaced, if it must be kept."""
        yield from bodies
        if (night, visit) in self._kept:
            raise _Incomplete


class _Incomplete(Exception):
    """A container would lack alerts that the one before has."""


class _Counted:
    """Bodies of packets, with their number and size counted as they are read."""

    def __init__(self, packets: Iterator[Packet]) -> None:
        self._packets, self.alerts, self.bytes = packets, 0, 0

    def __iter__(self) -> Iterator[bytes]:
        for packet in self._packets:
            self.alerts += 1
            self.bytes += len(packet.body)
            yield packet.body

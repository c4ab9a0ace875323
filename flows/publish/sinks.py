"""Sinks: where alerts go."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from time import time
from typing import Protocol

from flows.publish.container import require_same_night, write_container
from flows.publish.outbox import GivenUp, Outbox
from flows.publish.packet import Packet
from flows.publish.ztf_schema import container_schema
from schemas.errors import BadInput, NightstrideError, exit_code
from schemas.exposure import ExposureKey
from schemas.summary import QUARANTINED


@dataclass(frozen=True)
class Sent:
    """What became of packets; the first five below add up to those that were taken.

    Attributes
    ----------
    alerts
        That have arrived now.
    dead
        That could not be sent, now or before: dead letters.
    kept
        That had arrived before, and were not sent again.
    held
        Whose detection was sent before, as another search had found it: not sent.
    left
        That wait in the outbox.
    withdrawn
        Alerts sent before, whose detections are not published any more; nothing tells consumers.
    bytes
        Of the messages that have arrived now; of files, of the bodies.
    trouble
        Why nothing more was taken; None: all were.
    times
        When each has arrived, of those that have now, s since 1970.
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
        """Return the sums of both."""
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
        """Return 0 if all have arrived, 3 if all but dead letters, 1 if some wait, 2 if they will wait for ever."""
        if self.trouble is not None:
            return exit_code(self.trouble)
        return 1 if self.left else QUARANTINED if self.dead else 0


class OwedVisits:
    """Visits of which all alerts are to be sent to one sink: noted before they are searched, until they are sent.

    Parameters
    ----------
    outbox, route
        What notes them, and for which sink; None: nothing does, and none is owed. Methods raise as those of `Outbox`.
    """

    def __init__(self, outbox: Outbox | None, route: int = 0) -> None:
        self._outbox, self._route = outbox, route

    def add(self, night: str, visit: int) -> None:
        """Note that a visit is owed."""
        if self._outbox is not None:
            self._outbox.owe(self._route, night, visit)

    def turn(self, night: str, visit: int) -> int:
        """Return which time it is that a visit is owed; 0: it is not."""
        return 0 if self._outbox is None else self._outbox.turn(self._route, night, visit)

    def settle(self, night: str, visit: int, turn: int, error: BadInput | None = None, made_from: str = "") -> None:
        """Note that a visit is sent, or why it is given up; parameters as of `Outbox.settle`."""
        if self._outbox is not None:
            self._outbox.settle(self._route, night, visit, turn, error, made_from)

    def given_up(self) -> list[GivenUp]:
        """Return the visits that are given up."""
        return [] if self._outbox is None else self._outbox.given_up(self._route)

    def all(self) -> set[tuple[str, int]]:
        """Return night and visit of those that are owed, and of those of which something waits."""
        return set() if self._outbox is None else self._outbox.owed(self._route)


class Sink(Protocol):
    """Place that alerts are sent to."""

    def wanted(self, key: ExposureKey, form: str, made_from: str, sources: Sequence[int]) -> list[bool]:
        """Return which detections of an exposure need an alert; the others are counted as not sent.

        Parameters
        ----------
        key, form
            The exposure, and the version of the schema.
        made_from
            Digest that their packets will have.
        sources
            diaSourceId of each.

        Raises
        ------
        BadInput
            None may be sent: alerts of another night are in their place.
        """

    def send(self, packets: Iterator[Packet]) -> Sent:
        """Send packets, which are read one by one; return when each has arrived or is known to be dead.

        Those of a visit follow one another.
        """

    def owed(self, form: str) -> OwedVisits:
        """Return the visits of which alerts are still to be sent."""

    def bury(self, packet: Packet, error: BadInput) -> None:
        """Keep, as a dead letter, what breaks the rules of its schema; its body is the alert as JSON."""


@dataclass(frozen=True)
class FolderSink:
    """Folder with an Avro object container ``<visit>.avro`` for each visit; one of the same night is replaced.

    Parameters
    ----------
    folder
        Is made if need be.
    """

    folder: Path
    _ours: set[tuple[str, int]] = field(default_factory=set, init=False, compare=False)

    def path(self, visit: int) -> Path:
        """Return the path of the container of a visit."""
        return self.folder / f"{visit}.avro"

    def wanted(self, key: ExposureKey, form: str, made_from: str, sources: Sequence[int]) -> list[bool]:
        """Want each: a container is written whole. Errors as in `flows.publish.container.require_same_night`."""
        if (key.night, key.visit) not in self._ours:
            require_same_night(self.path(key.visit), key.visit, key.night)
            self._ours.add((key.night, key.visit))
        return [True] * len(sources)

    def owed(self, form: str) -> OwedVisits:
        """Return none, and note none: there is no outbox."""
        return OwedVisits(None)

    def bury(self, packet: Packet, error: BadInput) -> None:
        """Keep nothing: there is no outbox."""

    def send(self, packets: Iterator[Packet]) -> Sent:
        """Write packets; those of a visit follow one another.

        Raises
        ------
        Retryable, Misconfigured
            It cannot be written: see `flows.storage.atomic.write_file`.
        """
        sent = Sent()
        for (night, visit, version), group in groupby(packets, lambda one: (one.night, one.visit, one.schema)):
            counted = _Counted(group)
            write_container(self.path(visit), container_schema(version), counted, night)
            sent += Sent(counted.alerts, counted.bytes, times=(time(),) * counted.alerts)
        return sent


class _Counted:
    """Bodies of packets, counted as they are read."""

    def __init__(self, packets: Iterator[Packet]) -> None:
        self._packets, self.alerts, self.bytes = packets, 0, 0

    def __iter__(self) -> Iterator[bytes]:
        for packet in self._packets:
            self.alerts += 1
            self.bytes += len(packet.body)
            yield packet.body

"""Sinks: where alerts go."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from flows.publish.container import write_container
from flows.publish.packet import Packet
from flows.publish.rubin_schema import parsed


@dataclass(frozen=True)
class Sent:
    """What became of packets.

    Attributes
    ----------
    alerts, bytes
        That have arrived, and the bytes of their bodies.
    dead
        That could not be sent.
    """

    alerts: int = 0
    bytes: int = 0
    dead: int = 0

    def __add__(self, other: "Sent") -> "Sent":
        """Return the sums of both."""
        return Sent(self.alerts + other.alerts, self.bytes + other.bytes, self.dead + other.dead)


class Sink(Protocol):
    """Place that alerts are sent to."""

    def send(self, packets: Iterator[Packet]) -> Sent:
        """Send packets, which are read one by one; return when each has arrived or is known to be dead.

        Those of a visit follow one another.
        """


def container_schema(version: str) -> Mapping[str, Any]:
    """Return the schema of a container of packets; errors as in `flows.publish.rubin_schema.parsed`."""
    return parsed(version)


@dataclass(frozen=True)
class FolderSink:
    """Folder with an Avro object container ``<visit>.avro`` for each visit; one of that name is replaced.

    Parameters
    ----------
    folder
        Is made if need be.
    """

    folder: Path

    def send(self, packets: Iterator[Packet]) -> Sent:
        """Write packets; those of a visit follow one another.

        Raises
        ------
        Retryable, Misconfigured
            It cannot be written: see `flows.storage.atomic.write_file`.
        """
        sent = Sent()
        for (visit, version), group in groupby(packets, lambda one: (one.visit, one.schema)):
            counted = _Counted(group)
            write_container(self.folder / f"{visit}.avro", container_schema(version), counted)
            sent += Sent(counted.alerts, counted.bytes)
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

"""Plan of a run over alert packets, and the catalogues of their exposures."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from flows.inputs.packet_files import read_records
from flows.inputs.ztf_packets import identify
from flows.pipeline.lineage import damaged
from flows.pipeline.packet_search import row_digest, search_digest
from flows.pipeline.provenance import provenance_of
from flows.storage.catalog_store import CatalogStore
from flows.storage.digest import digest
from flows.storage.ledger import Ledger, unpublish
from flows.storage.quarantine import Quarantine
from schemas.errors import BadInput, NightstrideError, Retryable
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord
from schemas.packet_source import ZTF_PACKET_SOURCE
from schemas.settings import Settings
from schemas.summary import Trouble
from stages import PIPELINE


class ListedPacket(NamedTuple):
    """Packet of an archive.

    Attributes
    ----------
    name, file
        Name of the packet, and its file.
    candid, key, content
        Id of the alert, its exposure, and digest of its content: `flows.inputs.ztf_packets.PacketIdentity`.
    digest
        Digest of the row from its search.
    detected
        Whether its published row has a detection.
    """

    name: str
    file: str
    candid: int
    key: ExposureKey
    content: str
    digest: str
    detected: bool = False


@dataclass
class PacketPlan:
    """Plan for each packet.

    Attributes
    ----------
    todo
        Packets to search, by name.
    published
        Packets whose published row is up to date.
    copies
        Number of packets that are copies of others.
    quarantined, failed
        Packets that cannot be used, and packets that could not be read this time.
    """

    todo: dict[str, ListedPacket] = field(default_factory=dict)
    published: list[ListedPacket] = field(default_factory=list)
    copies: int = 0
    quarantined: list[Trouble] = field(default_factory=list)
    failed: list[Trouble] = field(default_factory=list)


def plan_packets(files: Sequence[str], settings: Settings, catalogue: "PacketCatalogue") -> PacketPlan:
    """Return the plan for the packets in files, compared with published rows; unusable packets are quarantined.

    If an alert occurs twice, the first packet counts; another packet with other content is refused.

    Parameters
    ----------
    files, settings
        Of the run.
    catalogue
        Of the output folder.

    Raises
    ------
    Misconfigured
        A model or the ledger cannot be used.
    """
    plan, searched_with, listed = PacketPlan(), search_digest(settings), dict[int, ListedPacket]()
    for uri in files:
        whole = True
        for name, content in read_records(uri):
            whole = whole and name != uri  # a tarball is reported if it cannot be read to its end
            if isinstance(content, NightstrideError):
                _refuse(plan, catalogue, name, content)
                continue
            try:
                found = identify(content, name)
            except BadInput as error:
                _refuse(plan, catalogue, name, error)
                continue
            one = ListedPacket(name, uri, found.candid, found.key, found.digest, row_digest(found, searched_with))
            first = listed.setdefault(one.candid, one)
            if first is one:
                continue
            if first.content == one.content:
                plan.copies += 1
            else:
                _refuse(plan, catalogue, name, _conflict(one, first), one.key)
        if whole:
            catalogue.done(uri)
    for key, packets in _by_exposure(listed.values()):
        published, trouble = catalogue.published(key)
        if trouble is not None:
            plan.failed += [Trouble.of(one.name, trouble) for one in packets]
            continue
        for one in packets:
            there, detected = published.get(one.candid, ("", False))
            if there == one.digest:
                plan.published.append(one._replace(detected=detected))
            else:
                plan.todo[one.name] = one
    catalogue.up_to_date({one.name for one in plan.published}.difference(one.uri for one in plan.quarantined))
    return plan


def _by_exposure(packets: Iterable[ListedPacket]) -> Iterator[tuple[ExposureKey, list[ListedPacket]]]:
    groups: dict[ExposureKey, list[ListedPacket]] = {}
    for one in packets:
        groups.setdefault(one.key, []).append(one)
    yield from groups.items()


def _refuse(
    plan: PacketPlan,
    catalogue: "PacketCatalogue",
    name: str,
    error: NightstrideError,
    key: ExposureKey | None = None,
) -> None:
    trouble = Trouble.of(name, error)
    if isinstance(error, BadInput) and catalogue.quarantine(name, error, key):
        plan.quarantined.append(trouble)
    else:
        plan.failed.append(trouble)


def _conflict(one: ListedPacket, first: ListedPacket) -> BadInput:
    return BadInput(
        "conflict",
        one.name,
        f"says it is alert {one.candid}, as {first.name} does, but they differ.",
        "remove one of them, or search them with --out folders of their own.",
    )


class PacketCatalogue:
    """Catalogues of packets in an output folder, with a file and a record in the ledger for each exposure.

    The caller must hold the lease of ``out``.

    Parameters
    ----------
    out, settings
        Of the run.
    """

    def __init__(self, out: Path, settings: Settings) -> None:
        self._out, self._settings = out, settings
        self._ledger, self._store, self._quarantine = Ledger(out), CatalogStore(out), Quarantine(out)
        self.nights: set[str] = set()

    @cached_property
    def _provenance(self) -> str:
        return self._ledger.put_provenance(provenance_of(PIPELINE, self._settings))

    def quarantine(self, name: str, error: BadInput, key: ExposureKey | None) -> bool:
        """Quarantine a packet; return whether that could be recorded."""
        try:
            self._quarantine.put(error, name, key)
        except Retryable:  # the disk is full: the next run tries again
            return False
        return True

    def record(self, key: ExposureKey) -> ExposureRecord | None:
        """Return the record of an exposure in the ledger, if its catalogue is intact."""
        record = self._ledger.get(key)
        usable = record is not None and ZTF_PACKET_SOURCE.name in record.datasets
        return record if record is not None and usable and damaged(record, self._out) is None else None

    def published(self, key: ExposureKey) -> tuple[Mapping[int, tuple[str, bool]], BadInput | None]:
        """Return candid -> digest of each row of an exposure, and whether it has a detection.

        Also return the reason if no packet of the exposure can be published.
        """
        self.nights.add(key.night)
        record = self._ledger.get(key)
        if record is not None and record.datasets and ZTF_PACKET_SOURCE.name not in record.datasets:
            return {}, BadInput(
                "conflict",
                record.source_uri,
                f"is the image of exposure {key.name} of night {key.night}, and has been searched into this folder.",
                "search packets with an --out of their own.",
            )
        rows = self._read(key)
        columns = (rows[name].to_pylist() for name in ("candid", "digest", "detected"))
        return {candid: (made_from, detected) for candid, made_from, detected in zip(*columns, strict=True)}, None

    def count(self, key: ExposureKey) -> int:
        """Return the number of rows in the catalogue of an exposure, from the ledger."""
        record = self._ledger.get(key)
        entry = None if record is None else record.datasets.get(ZTF_PACKET_SOURCE.name)
        return 0 if entry is None else entry.rows

    def _read(self, key: ExposureKey) -> pa.Table:
        if self.record(key) is None:
            return ZTF_PACKET_SOURCE.empty()
        return self._store.read(ZTF_PACKET_SOURCE, key)

    def publish(
        self, key: ExposureKey, source: str, rows: Sequence[Mapping[str, Any]], gone: Iterable[int] = ()
    ) -> None:
        """Add rows to the catalogue of an exposure, replacing those of the same alerts, and record the catalogue.

        Parameters
        ----------
        key, source
            Key of the exposure, and name of one of its packets.
        rows
            Column -> value.
        gone
            Alerts whose packets can no longer be used; their rows are withdrawn.

        Raises
        ------
        Retryable, Misconfigured
            The file cannot be written; see `flows.storage.atomic.write_file`.
        """
        before = self._read(key)
        replaced = pa.array([*gone, *(row["candid"] for row in rows)], pa.int64())
        kept = before.filter(pc.invert(pc.is_in(before["candid"], replaced)))
        new = pa.Table.from_pylist(list(rows), schema=ZTF_PACKET_SOURCE.schema)
        table = pa.concat_tables([kept, new]).sort_by("candid")
        record = self._ledger.get(key)
        if not len(table):
            if record is not None:
                unpublish(record, self._out)
            return
        made_from = digest(*table["digest"].to_pylist())
        path = self._store.publish(ZTF_PACKET_SOURCE, key, table, made_from)
        self._ledger.put(
            ExposureRecord(
                **key.model_dump(),
                source_uri=source,
                source_sha256=made_from,
                digest=made_from,
                datasets={ZTF_PACKET_SOURCE.name: self._store.record(path)},
                detections=pc.sum(table["detected"]).as_py(),
                provenance=self._provenance,
                software=version("nightstride"),
                finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )

    def up_to_date(self, names: Iterable[str]) -> None:
        """Remove packets from quarantine whose rows are now published."""
        self._quarantine.clear_all(names)

    def done(self, name: str) -> None:
        """Remove a packet from quarantine after its row is published, or a tarball after it is read to its end."""
        if self._quarantine.path(name).exists():
            self._quarantine.clear(name)

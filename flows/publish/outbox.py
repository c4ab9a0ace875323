"""Outbox: packets to send, packets that have arrived, and dead letters, in one SQLite file of an output folder."""

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any, Literal, NamedTuple

from flows.publish.packet import Packet
from flows.storage.atomic import make_folder
from flows.storage.bucket_path import BucketPath
from flows.storage.file_lock import MODE, file_lock
from flows.storage.layout import other_version, outbox_path, refuse_release
from flows.storage.ledger_local import as_it_is
from flows.storage.writing import writing
from schemas.errors import BadInput, Misconfigured, NightstrideError, Retryable
from schemas.exposure import ExposureKey

VERSION = 1
"""Version of the tables."""

WAIT_S = 30.0
"""How long to wait for another command that sends from the same folder, s."""

Standing = Literal["waiting", "sent", "dead", "held"]
"""State of a packet. Held: its detection was sent before with the results of another search."""

_STATES: tuple[Standing, ...] = ("waiting", "sent", "dead")
_AT_ONCE = 500  # values in one query

_TABLES = """
CREATE TABLE meta (version INTEGER NOT NULL);
CREATE TABLE route (route INTEGER PRIMARY KEY, sink TEXT NOT NULL, form TEXT NOT NULL, UNIQUE (sink, form));
CREATE TABLE entry (
    route INTEGER NOT NULL, source INTEGER NOT NULL, made_from BLOB NOT NULL, state INTEGER NOT NULL,
    night TEXT NOT NULL, visit INTEGER NOT NULL, detector INTEGER NOT NULL, changed REAL NOT NULL,
    PRIMARY KEY (route, source, made_from)
) WITHOUT ROWID;
CREATE INDEX entry_exposure ON entry (route, night, visit, detector);
CREATE TABLE letter (
    letter INTEGER PRIMARY KEY, route INTEGER NOT NULL, name TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL,
    key BLOB, value BLOB NOT NULL, source INTEGER, made_from BLOB, died REAL NOT NULL, UNIQUE (route, name, made_from)
);
"""

_OWED = """
CREATE TABLE IF NOT EXISTS owed (
    turn INTEGER PRIMARY KEY AUTOINCREMENT, route INTEGER NOT NULL, night TEXT NOT NULL, visit INTEGER NOT NULL,
    UNIQUE (route, night, visit)
)
"""

_GIVEN_UP = """
CREATE TABLE IF NOT EXISTS given_up (
    route INTEGER NOT NULL, night TEXT NOT NULL, visit INTEGER NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL,
    made_from TEXT NOT NULL, since REAL NOT NULL, PRIMARY KEY (route, night, visit)
) WITHOUT ROWID
"""

_FORGIVE = "DELETE FROM given_up WHERE route = ? AND night = ? AND visit = ?"


class GivenUp(NamedTuple):
    """Visit whose alerts cannot be sent: sink, visit, reason, digest of its inputs, and time (s since 1970)."""

    sink: str
    form: str
    night: str
    visit: int
    code: str
    reason: str
    made_from: str
    since: float


class EntryMark(NamedTuple):
    """Key of a packet in the outbox: diaSourceId, and the digest of the inputs of its detection."""

    source: int
    made_from: bytes


@dataclass(frozen=True)
class Letter:
    """Message that could not be sent or read.

    Attributes
    ----------
    name
        Name of the message: diaSourceId if it was to be sent, partition and offset if it was received.
    code, reason
        Error code, and reason for the failure.
    key, value
        Bytes of the message.
    mark
        Key of its packet; None for a received message.
    number
        Number of the letter in its outbox; 0: it is not in one.
    sink, form
        Destination or origin, and version of its schema.
    died
        Time of the failure, s since 1970.
    """

    name: str
    code: str
    reason: str
    key: bytes | None
    value: bytes
    mark: EntryMark | None = None
    number: int = 0
    sink: str = ""
    form: str = ""
    died: float = 0.0


def marked(source: int, made_from: str | bytes) -> EntryMark:
    """Return the outbox key of the packet of a detection, from the digest of its inputs."""
    content = made_from if isinstance(made_from, bytes) else made_from.encode()
    return EntryMark(source, sha256(content).digest()[:16])


def mark_of(packet: Packet) -> EntryMark:
    """Return the outbox key of a packet, from its bytes if it has no digest of its detection."""
    return marked(packet.source_id, packet.made_from or packet.body)


class Outbox:
    """Entries ``(sink, schema, diaSourceId, digest of the detection)``, each with its state, and dead letters.

    An entry is made before its packet is sent, and is ``sent`` only when the sink has acknowledged it, so a killed
    process leaves it ``waiting``. Packets are not stored, except dead ones: the same bytes can be made again from
    published results. A visit is owed from before its search until all its alerts have an outcome. Each change is one
    transaction.

    Parameters
    ----------
    path
        File, created if missing.
    write
        False: the file exists, and is only read.

    Raises
    ------
    Misconfigured
        The file is damaged (``damaged_outbox``), of another version, or not writable. Each method may raise this.
    Retryable
        Another process keeps the file locked, or the disk is full. Each method may raise this.
    """

    def __init__(self, path: Path, *, write: bool = True) -> None:
        self._path, self._routes = path, dict[tuple[str, str], int]()
        if not write:
            with self._explained():
                self._base = as_it_is(path, _to_read)
            self._require_version()
            return
        with writing(path):
            make_folder(path.parent)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, MODE))
        with self._explained():
            self._base = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
            # Consistent if the process is killed. A power failure may undo the last changes: alerts are sent again.
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = NORMAL")
        self._prepare()

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def route(self, sink: str, form: str) -> int:
        """Return the number of a sink and a version of the schema."""
        if (sink, form) not in self._routes:
            with self._change() as base:
                base.execute("INSERT OR IGNORE INTO route (sink, form) VALUES (?, ?)", (sink, form))
                found = base.execute("SELECT route FROM route WHERE sink = ? AND form = ?", (sink, form)).fetchone()
            self._routes[sink, form] = int(found[0])
        return self._routes[sink, form]

    def enter(self, route: int, packets: Sequence[Packet], *, again: bool = False) -> list[Standing]:
        """Enter packets to send; return the state of each: those that are ``waiting`` must be sent.

        Parameters
        ----------
        route
            Number of the sink and schema.
        packets
            Packets of any visits.
        again
            Whether to include detections that were sent with results of another search.
        """
        marks, now = [mark_of(packet) for packet in packets], time()
        with self._change() as base:
            known = self._known(route, marks)
            standings = [_standing(mark, known.get(mark.source, {}), again=again) for mark in marks]
            rows = [
                (route, *mark, 0, packet.night, packet.visit, packet.detector, now)
                for packet, mark, standing in zip(packets, marks, standings, strict=True)
                if standing == "waiting"
            ]
            base.executemany("INSERT OR IGNORE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        return standings

    def record(self, route: int, arrived: Sequence[tuple[EntryMark, float]], letters: Sequence[Letter] = ()) -> None:
        """Record, in one transaction, the acknowledged packets, with times, and the dead ones."""
        if not arrived and not letters:
            return
        with self._change() as base:
            base.executemany(
                "UPDATE entry SET state = 1, changed = ? WHERE route = ? AND source = ? AND made_from = ?",
                [(when, route, *mark) for mark, when in arrived],
            )
            # Remove letters that violated their schema and were made again.
            base.executemany(
                "DELETE FROM letter WHERE route = ? AND name = ? AND made_from = ?",
                [(route, str(mark.source), mark.made_from) for mark, _ in arrived],
            )
            for letter in letters:
                self._bury(route, letter)

    def _bury(self, route: int, letter: Letter) -> None:
        source, made_from = letter.mark or (None, b"")
        values = (route, letter.name, letter.code, letter.reason, letter.key, letter.value, source, made_from, time())
        names = "route, name, code, reason, key, value, source, made_from, died"
        self._base.execute(f"INSERT OR REPLACE INTO letter ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        if letter.mark is not None:
            where = "route = ? AND source = ? AND made_from = ?"
            self._base.execute(f"UPDATE entry SET state = 2, changed = ? WHERE {where}", (time(), route, *letter.mark))

    def letters(self, after: int = 0, most: int = 100) -> list[Letter]:
        """Return a few dead letters with numbers above ``after``, in order."""
        query = (
            "SELECT name, code, reason, key, value, source, made_from, letter, sink, form, died "
            "FROM letter JOIN route USING (route) WHERE letter > ? ORDER BY letter LIMIT ?"
        )
        with self._explained():
            rows = self._base.execute(query, (after, most)).fetchall()
        return [_letter(row) for row in rows]

    def revive(self, letter: Letter, when: float) -> None:
        """Remove a dead letter that has arrived after all, and mark its entry as sent."""
        with self._change() as base:
            if letter.mark is not None:
                base.execute(
                    "UPDATE entry SET state = 1, changed = ? WHERE source = ? AND made_from = ? AND route = "
                    "(SELECT route FROM letter WHERE letter = ?)",
                    (when, *letter.mark, letter.number),
                )
            base.execute("DELETE FROM letter WHERE letter = ?", (letter.number,))

    def standings(self, route: int, marks: Sequence[EntryMark], *, again: bool = False) -> list[Standing]:
        """Return the state of packets as `enter` does, without entering them."""
        with self._explained():
            known = self._known(route, marks)
        return [_standing(mark, known.get(mark.source, {}), again=again) for mark in marks]

    def bury(self, route: int, packet: Packet, error: BadInput) -> None:
        """Store a packet that violates its schema, until its detection gives a valid alert."""
        letter = Letter(str(packet.source_id), error.code, error.problem, None, packet.body, mark_of(packet))
        self.record(route, [], [letter])

    def withdraw(self, route: int, key: ExposureKey, left: Sequence[int]) -> int:
        """Remove the waiting entries of an exposure that are no longer published; return how many such were sent.

        Parameters
        ----------
        route, key
            Number of the sink and schema, and key of the exposure.
        left
            diaSourceId of the detections that are published now.
        """
        where = "route = ? AND night = ? AND visit = ? AND detector = ?"
        with self._change() as base:
            rows = base.execute(
                f"SELECT source, made_from, state FROM entry WHERE {where}", (route, key.night, key.visit, key.detector)
            ).fetchall()
            there = set(left)
            gone = [row for row in rows if row[0] not in there]
            base.executemany(
                "DELETE FROM entry WHERE route = ? AND source = ? AND made_from = ? AND state = 0",
                [(route, source, made_from) for source, made_from, state in gone],
            )
        return len({source for source, _, state in gone if _STATES[state] == "sent"})

    def owe(self, route: int, night: str, visit: int) -> None:
        """Record that all alerts of a visit must be sent, even if this process ends."""
        with self._change() as base:
            base.execute("INSERT OR REPLACE INTO owed (route, night, visit) VALUES (?, ?, ?)", (route, night, visit))
            base.execute(_FORGIVE, (route, night, visit))

    def turn(self, route: int, night: str, visit: int) -> int:
        """Return the turn of an owed visit, which is higher each time it is recorded as owed; 0: it is not owed."""
        query = "SELECT turn FROM owed WHERE route = ? AND night = ? AND visit = ?"
        with self._explained():
            found = self._base.execute(query, (route, night, visit)).fetchone()
        return 0 if found is None else int(found[0])

    def settle(
        self, route: int, night: str, visit: int, turn: int = 0, error: BadInput | None = None, made_from: str = ""
    ) -> None:
        """Record that a visit is no longer owed, unless it has been recorded as owed again since.

        Parameters
        ----------
        route, night, visit, turn
            Visit, and the result of `turn` before it was sent.
        error, made_from
            Reason why it is given up, and digest of its inputs; None: it was sent.
        """
        with self._change() as base:
            base.execute("DELETE FROM owed WHERE turn = ?", (turn,))
            base.execute(_FORGIVE, (route, night, visit))
            again = base.execute(
                "SELECT 1 FROM owed WHERE route = ? AND night = ? AND visit = ?", (route, night, visit)
            )
            if error is not None and again.fetchone() is None:
                reason = f"{error.where}: {error.problem} To fix, {error.remedy}"
                values = (route, night, visit, error.code, reason, made_from, time())
                base.execute("INSERT INTO given_up VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def given_up(self, route: int | None = None) -> list[GivenUp]:
        """Return the visits that were given up, for one sink or all, by night and visit."""
        query = (
            "SELECT sink, form, night, visit, code, reason, made_from, since FROM given_up JOIN route USING (route) "
            "WHERE ? IS NULL OR route = ? ORDER BY night, visit, sink, form"
        )
        with self._explained():
            return [GivenUp(*row) for row in self._base.execute(query, (route, route))]

    def owed(self, route: int) -> set[tuple[str, int]]:
        """Return night and visit of the visits that are owed or have waiting entries."""
        query = (
            "SELECT night, visit FROM owed WHERE route = ? "
            "UNION SELECT DISTINCT night, visit FROM entry WHERE route = ? AND state = 0"
        )
        with self._explained():
            return set(self._base.execute(query, (route, route)))

    def counts(self) -> dict[tuple[str, str], dict[str, int]]:
        """Return (sink, version of the schema) -> state -> number of entries.

        ``letters`` counts dead letters; ``owed`` and ``given_up`` count visits.
        """
        found = dict[tuple[str, str], Counter[str]]()
        with self._explained():
            for sink, form, state, number in self._base.execute(
                "SELECT sink, form, state, COUNT(*) FROM entry JOIN route USING (route) GROUP BY sink, form, state"
            ):
                found.setdefault((sink, form), Counter())[_STATES[state]] = number
            for name, table in (("letters", "letter"), ("owed", "owed"), ("given_up", "given_up")):
                for sink, form, number in self._base.execute(
                    f"SELECT sink, form, COUNT(*) FROM {table} JOIN route USING (route) GROUP BY sink, form"
                ):
                    found.setdefault((sink, form), Counter())[name] = number
        return {route: dict(counter) for route, counter in found.items()}

    def forget(self, night: str) -> None:
        """Remove the entries of a night whose catalogues are removed, sent or not; dead letters stay."""
        with self._change() as base:
            for table in ("entry", "owed", "given_up"):
                base.execute(f"DELETE FROM {table} WHERE night = ?", (night,))

    def reasons(self) -> dict[str, int]:
        """Return code -> number of dead letters, most frequent first."""
        query = "SELECT code, COUNT(*) FROM letter GROUP BY code ORDER BY 2 DESC, 1"
        with self._explained():
            return dict(self._base.execute(query).fetchall())

    def _known(self, route: int, marks: Sequence[EntryMark]) -> Mapping[int, Mapping[bytes, Standing]]:
        """Return diaSourceId -> digest -> state, for known packets."""
        found: dict[int, dict[bytes, Standing]] = {}
        for begin in range(0, len(marks), _AT_ONCE):
            sources = [mark.source for mark in marks[begin : begin + _AT_ONCE]]
            places = ",".join("?" * len(sources))
            query = f"SELECT source, made_from, state FROM entry WHERE route = ? AND source IN ({places})"
            for source, made_from, state in self._base.execute(query, (route, *sources)):
                found.setdefault(source, {})[made_from] = _STATES[state]
        return found

    def _prepare(self) -> None:
        with self._change() as base:
            if base.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is None:
                for statement in filter(str.strip, _TABLES.split(";")):
                    base.execute(statement)
                base.execute("INSERT INTO meta VALUES (?)", (VERSION,))
            base.execute(_OWED)
            base.execute(_GIVEN_UP)
        self._require_version()

    def _require_version(self) -> None:
        with self._explained():
            version = int(self._base.execute("SELECT version FROM meta").fetchone()[0])
        if version != VERSION:
            raise other_version(self._path, version, VERSION)

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._explained():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
                self._base.execute("COMMIT")
            except BaseException:
                self._base.rollback()  # does nothing if SQLite has already done so, as on a full disk
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _translated(self._path, error) from error


def _to_read(uri: str) -> sqlite3.Connection:
    """Return a read-only connection, with the tables that an older outbox lacks."""
    base = sqlite3.connect(uri, timeout=WAIT_S, isolation_level=None, uri=True)
    try:
        there = {name for (name,) in base.execute("SELECT name FROM sqlite_master")}
        for name, table in (("owed", _OWED), ("given_up", _GIVEN_UP)):
            if name not in there:
                base.execute(table.replace("CREATE", "CREATE TEMP", 1))
    except BaseException:
        base.close()
        raise
    return base


def _standing(mark: EntryMark, known: Mapping[bytes, Standing], *, again: bool) -> Standing:
    own = known.get(mark.made_from)
    if own in ("sent", "dead"):
        return own
    return "held" if "sent" in known.values() and own is None and not again else "waiting"


def _letter(row: Sequence[Any]) -> Letter:
    name, code, reason, key, value, source, made_from, *rest = row
    return Letter(name, code, reason, key, value, None if source is None else EntryMark(source, made_from), *rest)


def _translated(path: Path, error: sqlite3.Error) -> NightstrideError:
    kind, text = getattr(error, "sqlite_errorname", ""), " ".join(str(error).split())[:200]
    if kind.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return Misconfigured(
            "damaged_outbox", str(path), f"cannot be read ({text}).",
            "put it back from a backup; or remove it: all alerts are sent again, and consumers drop what they have.",
        )  # fmt: skip
    if kind.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return Misconfigured("not_writable", str(path), f"may not be written ({text}).", "make it writable.")
    remedy = "see to it, and run again: it goes on where it stopped."
    if kind.startswith("SQLITE_FULL"):
        return Retryable("disk_full", str(path), f"could not be written ({text}).", f"free space: {remedy}")
    return Retryable("outbox_down", str(path), f"could not be used ({text}).", remedy)


@contextmanager
def opened_outbox(out: Path, elsewhere: Path | None = None, *, alone: bool = True) -> Iterator[Outbox]:
    """Open the outbox of an output folder, for one process at a time.

    Parameters
    ----------
    out
        Output folder.
    elsewhere
        Local file to use instead, if ``out`` is in a bucket or on a file system without locks.
    alone
        Whether no other process may open it, which could send the same alerts; needed unless nothing is sent.

    Raises
    ------
    Misconfigured
        The output folder is in a bucket (``outbox_in_bucket``) or a data release (``frozen``); another process sends
        (``lock_held``); as in `Outbox`.
    Retryable
        As in `Outbox`.
    """
    path = outbox_path(out) if elsewhere is None else elsewhere
    if isinstance(path, BucketPath):
        raise Misconfigured(
            "outbox_in_bucket", str(out), "is in an object store, where an outbox cannot be.",
            "set alerts.outbox to a file on this machine that stays, e.g. /var/lib/nightstride/outbox.sqlite.",
        )  # fmt: skip
    if elsewhere is None:
        refuse_release(out)
    with ExitStack() as stack:
        with writing(path):
            make_folder(path.parent)
            if alone:
                stack.enter_context(file_lock(path.with_suffix(".lock"), WAIT_S))
        outbox = Outbox(path)
        try:
            yield outbox
        finally:
            outbox.close()

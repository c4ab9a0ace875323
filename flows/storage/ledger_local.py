"""Local ledger: SQLite files, one per night, and an index that finds exposures by source."""

import errno
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

from flows.storage.atomic import file_identity, make_folder, require_lease, sync
from flows.storage.file_lock import MODE
from flows.storage.layout import ledger_folder, other_version
from flows.storage.writing import writing
from schemas.errors import Misconfigured, NightstrideError, Retryable
from schemas.exposure import ExposureKey
from schemas.ledger import LEDGER_VERSION, ExposureRecord, SourceMemo

WAIT_S = 30.0
"""How long to wait for others who read or write the file, which takes them moments, s."""

_ERRNO = {"SQLITE_FULL": errno.ENOSPC, "SQLITE_READONLY": errno.EACCES, "SQLITE_CANTOPEN": errno.EACCES}
"""Errors caused by the file system, by the first two words of their name."""

_Read = TypeVar("_Read")
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")

PUT_BACK = "put it back from a backup; or move it away and run its nights again: they are searched again."
"""Remedy for a damaged ledger file."""


class Database:
    """SQLite file; the first change creates it with its tables.

    The changes of a block are on disk, all or none, when the block ends. It uses a rollback journal, which works on
    file systems shared by hosts; write-ahead logs need shared memory.

    Parameters
    ----------
    path
        Path of the file.
    tables
        Statements that create its tables.
    version
        Version of the tables; files of other versions are refused.
    """

    def __init__(self, path: Path, tables: str, version: int) -> None:
        self.path, self._tables, self._version = path, tables, version
        self._lock = RLock()
        self._open: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; empty if the file does not exist.

        Raises
        ------
        Misconfigured
            The file has another version (``other_version``), is damaged (``damaged_ledger``), or cannot be read.
        Retryable
            It cannot be read at the moment, or stays locked for too long (``lock_held``).
        """
        with self._lock, named(self.path):
            connection = self._connection()
            return [] if connection is None else connection.execute(statement, values).fetchall()

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection whose changes are committed when the block ends, or dropped if it raises.

        Raises
        ------
        Misconfigured
            Another run holds the lease now (``taken_over``); or as in `rows`.
        Retryable
            The disk is full, or the file cannot be written at the moment.
        """
        with self._lock, named(self.path):
            connection = self._begun()
            try:
                # A run that takes over the folder writes to it after this transaction, or has done so before it began.
                require_lease(self.path)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self.close()  # the file may be empty
                raise

    def _begun(self) -> sqlite3.Connection:
        """Return a connection in a transaction on the current file of this name: another thread may have removed it."""
        while True:
            if (connection := self._connection()) is not None:
                connection.execute("BEGIN IMMEDIATE")
            else:
                connection = self._make()
            if file_identity(self.path) == self._file:
                return connection
            connection.execute("ROLLBACK")

    def damage(self) -> str | None:
        """Return the result of SQLite's own check of the file; None if it is intact. Errors as in `rows`."""
        found = self.rows("PRAGMA quick_check(1)")
        return None if not found or found[0][0] == "ok" else str(found[0][0])

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._open is not None:
                self._open.close()
            self._open = None

    __del__ = close

    def _connection(self) -> sqlite3.Connection | None:
        """Return the connection to the current file; None if it does not exist or is empty."""
        found = file_identity(self.path)
        if self._open is not None and found == self._file:
            return self._open
        self.close()
        if found is None:
            return None
        if not os.access(self.path, os.R_OK):
            raise _unreadable(self.path)
        connection = self._connect()
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, self._version):
                raise other_version(self.path, version, self._version)
        except BaseException:
            connection.close()
            raise
        if version == 0:  # its creator was killed before making the tables
            connection.close()
            return None
        self._open, self._file = connection, found
        return connection

    def _make(self) -> sqlite3.Connection:
        """Return a connection to a new file, in the transaction that creates its tables and writes its first row."""
        require_lease(self.path)
        make_folder(self.path.parent)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, MODE))
        sync(self.path.parent)
        connection = self._connect()
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {self._tables} PRAGMA user_version = {self._version};")
        except BaseException:
            connection.close()
            raise
        self._open, self._file = connection, file_identity(self.path)
        return connection

    def _connect(self) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, timeout=WAIT_S, isolation_level=None, check_same_thread=False, uri=True)
        connection.execute("PRAGMA synchronous = EXTRA")  # also flushes the folder when the journal is removed
        return connection


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Convert SQLite errors within the block to our own, which name the file: see `Database.rows`."""
    with writing(path):
        try:
            yield
        except sqlite3.Error as error:
            raise _translated(path, error) from error


def _holds_anything(path: Path) -> bool:
    """Return whether a file has content: not if its first record did not fit, or its creator was killed."""
    with suppress(FileNotFoundError):
        return path.stat().st_size > 0
    return False


def as_it_is(path: Path, read: Callable[[str], _Read]) -> _Read:
    """Return the result of a function of a database URI, even if no files can be created beside the database."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    try:
        return read(uri)
    except sqlite3.OperationalError as error:
        # SQLite reads an outbox with files beside it, which it cannot create on a read-only file system.
        cannot = getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))
        if not cannot or path.with_name(f"{path.name}-wal").exists():
            raise
        return read(f"{uri}&immutable=1")


def _translated(path: Path, error: sqlite3.Error) -> Exception:
    name = getattr(error, "sqlite_errorname", "")
    kind = "_".join(name.split("_")[:2])
    if kind in _ERRNO:
        return OSError(_ERRNO[kind], str(error), str(path))
    return _explained(path, kind, f"{name or type(error).__name__}: {error}")


def _explained(path: Path, kind: str, text: str) -> NightstrideError:
    if kind in ("SQLITE_BUSY", "SQLITE_LOCKED"):
        return Retryable(
            "lock_held",
            str(path),
            f"another process has kept it locked for {WAIT_S:g} s or more.",
            "see what that process is; if it is not one of nightstride's, end it.",
        )
    if kind in _DAMAGE:
        return Misconfigured(
            "damaged_ledger",
            str(path),
            f"cannot be read ({text}).",
            PUT_BACK,
        )
    return Retryable("io_error", str(path), f"could not be read or written ({text}).", "see the disk, and run again.")


def _unreadable(path: Path) -> Misconfigured:
    return Misconfigured(
        "not_readable",
        str(path),
        "may be read by its owner and their group only: whoever reads it can keep the run waiting.",
        "ask the owner to take you into the group.",
    )


_NIGHT = """
CREATE TABLE IF NOT EXISTS exposure (
    visit INTEGER, detector INTEGER, status TEXT, source_uri TEXT, detections INTEGER, provenance TEXT,
    shutter_closed_at TEXT, finished_at TEXT, reason TEXT, content BLOB NOT NULL, PRIMARY KEY (visit, detector));
CREATE INDEX IF NOT EXISTS exposure_reason ON exposure (visit, detector) WHERE reason IS NOT NULL;
"""
_PATCH = "CREATE TABLE IF NOT EXISTS patch (name TEXT PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID"
_INDEX = """
CREATE TABLE IF NOT EXISTS held (
    uri TEXT, night TEXT, visit INTEGER, detector INTEGER, PRIMARY KEY (uri, night, visit, detector)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS held_exposure ON held (night, visit, detector);
CREATE TABLE IF NOT EXISTS memo (name TEXT PRIMARY KEY, night TEXT NOT NULL, content BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS memo_night ON memo (night);
CREATE TABLE IF NOT EXISTS document (
    kind TEXT, name TEXT, content BLOB NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID;
"""
COLUMNS = ("status", "source_uri", "detections", "provenance", "shutter_closed_at", "finished_at", "reason")
"""Columns of a record that can be queried without parsing it."""

INDEX = "index.sqlite"
"""Name of the index file."""

OPEN = 8
"""Number of nights kept open."""

PAGE = 1000
"""Number of records read at a time: files are locked only for moments, and memory use is small."""


class LocalRecords:
    """Records as bytes in ``OUT/ledger/<night>.sqlite`` and ``OUT/ledger/index.sqlite``.

    The index lists the exposures for which a source was ever recorded. It is written before the record, and only a
    hint: check in the record whether it still has that source.
    """

    def __init__(self, out: Path) -> None:
        self._root = ledger_folder(out)
        self._index = Database(self._root / INDEX, _INDEX, LEDGER_VERSION)
        self._nights: OrderedDict[str, Database] = OrderedDict()

    def nights(self) -> list[str]:
        """Return the nights with records of exposures, sorted."""
        self._refuse_earlier()
        return sorted(path.stem for path in self._root.glob(f"{'[0-9]' * 8}.sqlite") if _holds_anything(path))

    def get(self, key: ExposureKey) -> bytes | None:
        """Return the record of an exposure; None if there is none. Errors as in `Database.rows`."""
        self._refuse_earlier()
        statement = "SELECT content FROM exposure WHERE visit = ? AND detector = ?"
        rows = self._night(key.night).rows(statement, (key.visit, key.detector))
        return rows[0][0] if rows else None

    def put(self, record: ExposureRecord, content: bytes) -> None:
        """Write or replace a record; errors as in `Database.change`."""
        self._refuse_earlier()
        held = (record.source_uri, record.night, record.visit, record.detector)
        known = "SELECT 1 FROM held WHERE uri = ? AND night = ? AND visit = ? AND detector = ?"
        if not self._index.rows(known, held):
            with self._index.change() as index:
                index.execute("INSERT OR IGNORE INTO held VALUES (?, ?, ?, ?)", held)
        values = [getattr(record, name) for name in COLUMNS]
        with self._night(record.night).change() as night:
            marks = ", ".join("?" * (3 + len(values)))
            night.execute(
                f"INSERT OR REPLACE INTO exposure (visit, detector, {', '.join(COLUMNS)}, content) VALUES ({marks})",
                (record.visit, record.detector, *values, content),
            )

    def remove(self, key: ExposureKey) -> None:
        """Remove a record, if it exists; with a night's last record its file. Errors as in `Database.change`."""
        night = self._night(key.night)
        if night.rows("SELECT 1 FROM exposure WHERE visit = ? AND detector = ?", (key.visit, key.detector)):
            with night.change() as records:
                records.execute("DELETE FROM exposure WHERE visit = ? AND detector = ?", (key.visit, key.detector))
                if not records.execute("SELECT 1 FROM exposure LIMIT 1").fetchall():
                    night.path.unlink()  # within the transaction, so nobody else writes to it meanwhile
        where = (key.night, key.visit, key.detector)
        if self._index.rows("SELECT 1 FROM held WHERE night = ? AND visit = ? AND detector = ?", where):
            with self._index.change() as index:
                index.execute("DELETE FROM held WHERE night = ? AND visit = ? AND detector = ?", where)

    def count(self, night: str) -> int:
        """Return the number of records of a night."""
        rows = self._night(night).rows("SELECT count(*) FROM exposure")
        return int(rows[0][0]) if rows else 0

    def contents(self, night: str) -> Iterator[tuple[str, bytes]]:
        """Yield name and record of each exposure of a night, by visit and detector. Errors as in `Database.rows`."""
        self._refuse_earlier()
        for visit, detector, content in self._paged(night, "content"):
            yield f"{visit}-{detector}", content

    def columns(self, night: str, condition: str = "1") -> Iterator[tuple[Any, ...]]:
        """Yield visit, detector and `COLUMNS` of each exposure of a night that meets an SQL condition, in order."""
        self._refuse_earlier()
        yield from self._paged(night, ", ".join(COLUMNS), condition)

    def stamp(self, night: str) -> str:
        """Return size, time and change counter of a night's file, which differ after each change; empty if none.

        Raises
        ------
        Misconfigured
            This user cannot read it (``not_readable``).
        """
        path = self._night(night).path
        try:
            found = path.stat()
            with path.open("rb") as file:
                counter = file.read(28)[24:].hex()  # https://www.sqlite.org/fileformat.html, file change counter
        except FileNotFoundError:
            return ""
        except PermissionError:
            raise _unreadable(path) from None
        return f"{found.st_size} {found.st_mtime_ns} {counter}"

    def patches(self, night: str) -> Iterator[tuple[str, bytes]]:
        """Yield name and record of each patch of a night, by name. Errors as in `Database.rows`."""
        if not self._night(night).rows("SELECT 1 FROM sqlite_master WHERE name = 'patch'"):
            return
        last, where = "", f"name > ? ORDER BY name LIMIT {PAGE}"
        while rows := self._night(night).rows(f"SELECT name, content FROM patch WHERE {where}", (last,)):
            yield from rows
            last = rows[-1][0]

    def put_patch(self, night: str, name: str, content: bytes) -> None:
        """Write or replace the record of a patch; errors as in `Database.change`."""
        with self._night(night).change() as records:
            records.execute(_PATCH)
            records.execute("INSERT OR REPLACE INTO patch VALUES (?, ?)", (name, content))

    def remove_patch(self, night: str, name: str) -> None:
        """Remove the record of a patch, which must exist; errors as in `Database.change`."""
        with self._night(night).change() as records:
            records.execute("DELETE FROM patch WHERE name = ?", (name,))

    def _paged(self, night: str, columns: str, condition: str = "1") -> Iterator[tuple[Any, ...]]:
        last = (-1, -1)
        where = f"(visit, detector) > (?, ?) AND {condition} ORDER BY visit, detector LIMIT {PAGE}"
        while rows := self._night(night).rows(f"SELECT visit, detector, {columns} FROM exposure WHERE {where}", last):
            yield from rows
            last = rows[-1][:2]

    def sources(self, uri: str) -> list[ExposureKey]:
        """Return the exposures for which a source was ever recorded, by night, visit and detector."""
        statement = "SELECT night, visit, detector FROM held WHERE uri = ? ORDER BY night, visit, detector"
        return [ExposureKey(night=one[0], visit=one[1], detector=one[2]) for one in self._index.rows(statement, (uri,))]

    def memo(self, name: str) -> bytes | None:
        """Return the memo of a source; None if there is none."""
        rows = self._index.rows("SELECT content FROM memo WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def put_memo(self, memo: SourceMemo, content: bytes) -> None:
        """Store the memo of a source; errors as in `Database.change`."""
        if self.memo(memo.uri) != content:
            with self._index.change() as index:
                index.execute("INSERT OR REPLACE INTO memo VALUES (?, ?, ?)", (memo.uri, memo.key.night, content))

    def memo_nights(self) -> list[str]:
        """Return the nights that have memos of sources, sorted."""
        return [night for (night,) in self._index.rows("SELECT DISTINCT night FROM memo ORDER BY night")]

    def forget(self, night: str) -> None:
        """Forget the sources of a night without records; errors as in `Database.change`."""
        for table in ("memo", "held"):
            if self._index.rows(f"SELECT 1 FROM {table} WHERE night = ? LIMIT 1", (night,)):
                with self._index.change() as index:
                    index.execute(f"DELETE FROM {table} WHERE night = ?", (night,))

    def documents(self, kind: str) -> list[str]:
        """Return the names of the documents of a kind, sorted."""
        return [name for (name,) in self._index.rows("SELECT name FROM document WHERE kind = ? ORDER BY name", (kind,))]

    def document(self, kind: str, name: str) -> bytes | None:
        """Return a document; None if there is none."""
        rows = self._index.rows("SELECT content FROM document WHERE kind = ? AND name = ?", (kind, name))
        return rows[0][0] if rows else None

    def put_document(self, kind: str, name: str, content: bytes) -> None:
        """Write or replace a document; errors as in `Database.change`."""
        with self._index.change() as index:
            index.execute("INSERT OR REPLACE INTO document VALUES (?, ?, ?)", (kind, name, content))

    def remove_document(self, kind: str, name: str) -> None:
        """Remove a document, if it exists; errors as in `Database.change`."""
        if self.document(kind, name) is not None:
            with self._index.change() as index:
                index.execute("DELETE FROM document WHERE kind = ? AND name = ?", (kind, name))

    def place(self, kind: str, name: str) -> str:
        """Return the name of a document in messages, or of an exposure's record if ``kind`` is its night."""
        return f"{self._root}/{f'{kind}.sqlite' if kind.isdigit() else f'index.sqlite {kind}'} {name}"

    def damage(self, night: str | None) -> Iterator[tuple[str, str, str]]:
        """Yield path, problem and remedy for each damaged file: of a night, or all."""
        for file in (self._index, *map(self._night, self.nights())) if night is None else (self._night(night),):
            try:
                found = file.damage()
            except Misconfigured as error:
                found = error.problem
            if found is not None:
                yield str(file.path), found, PUT_BACK

    def _night(self, night: str) -> Database:
        if night in self._nights:
            self._nights.move_to_end(night)
            return self._nights[night]
        if len(self._nights) >= OPEN:
            self._nights.popitem(last=False)
        self._nights[night] = Database(self._root / f"{night}.sqlite", _NIGHT, LEDGER_VERSION)
        return self._nights[night]

    def _refuse_earlier(self) -> None:
        if (self._root / "sources").is_dir():
            raise Misconfigured(
                "other_version",
                str(self._root),
                "was written by an earlier version, with one file per exposure.",
                "use the version of nightstride that wrote it, or another --out.",
            )

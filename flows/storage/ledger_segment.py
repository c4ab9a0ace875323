"""Segments of the ledger in a bucket: SQLite files that are written once."""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING

from schemas.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

Entry = tuple[str, str]
"""Kind and name of an entry."""

_TABLE = "CREATE TABLE IF NOT EXISTS entry (kind TEXT, name TEXT, content BLOB, PRIMARY KEY (kind, name))"
_PUT = "INSERT OR REPLACE INTO entry VALUES (?, ?, ?)"
_REMOVED = "DELETE FROM entry WHERE content IS NULL"


class Snapshot:
    """Entries of a night or of the index from several segments, in a temporary file that SQLite removes.

    Parameters
    ----------
    where
        Name in messages.
    segments
        Contents of the segments, each of which overrides earlier ones.

    Raises
    ------
    Misconfigured
        A segment is damaged (``damaged_ledger``); all methods can raise this.
    """

    def __init__(self, where: str, segments: Iterable[bytes] = ()) -> None:
        self._where, self._lock = where, RLock()
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        with self._named() as database:
            database.execute(_TABLE)
            for content in segments:
                database.execute("ATTACH ':memory:' AS new")
                database.deserialize(content, name="new")
                database.execute("INSERT OR REPLACE INTO entry SELECT kind, name, content FROM new.entry")
                database.execute("DETACH new")
            database.execute(_REMOVED)

    def __del__(self) -> None:
        self._database.close()

    def get(self, kind: str, name: str) -> bytes | None:
        """Return the content of an entry; None if it does not exist."""
        with self._named() as database:
            found = database.execute("SELECT content FROM entry WHERE kind = ? AND name = ?", (kind, name)).fetchone()
        return None if found is None else found[0]

    def names(self, kind: str) -> list[str]:
        """Return the names of the entries of a kind."""
        with self._named() as database:
            return [name for (name,) in database.execute("SELECT name FROM entry WHERE kind = ?", (kind,))]

    def change(self, entries: Mapping[Entry, bytes | None]) -> None:
        """Write or replace entries; None removes an entry."""
        with self._named() as database:
            database.execute("BEGIN")
            database.executemany(_PUT, ((*entry, content) for entry, content in entries.items()))
            database.execute(_REMOVED)
            database.execute("COMMIT")

    def packed(self) -> bytes:
        """Return all entries as one segment; empty if there are none."""
        with self._named() as database:
            if database.execute("SELECT 1 FROM entry LIMIT 1").fetchone() is None:
                return b""
            database.execute("VACUUM")
            return database.serialize()

    @contextmanager
    def _named(self) -> "Iterator[sqlite3.Connection]":
        try:
            with self._lock:
                yield self._database
        except (sqlite3.Error, MemoryError) as error:  # SQLite raises a MemoryError for an empty file
            raise damaged_ledger(self._where, f"cannot be read ({type(error).__name__}: {error})") from error


def packed_segment(entries: Mapping[Entry, bytes | None]) -> bytes:
    """Return a segment with the given entries; None removes an entry of earlier segments."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute(_TABLE)
    database.executemany(_PUT, ((*entry, content) for entry, content in entries.items()))
    content = database.serialize()
    database.close()
    return content


def damaged_ledger(where: str, what: str) -> Misconfigured:
    """Return the error for a ledger in a bucket that cannot be read."""
    remedy = "put the object back: from a former version of it in the store, or from a copy."
    return Misconfigured("damaged_ledger", where, f"{what}.", remedy)

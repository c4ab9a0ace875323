"""What damage does to the ledger on this machine: other bytes where a record is."""

import sqlite3
from contextlib import closing

WHERE = "visit = {0.visit} AND detector = {0.detector}"


def _change(path, statement, *values):
    with closing(sqlite3.connect(path)) as database, database:
        assert database.execute(statement, values).rowcount == 1


def overwrite_record(out, key, content):
    """Replace the bytes of the record of an exposure; return those that were there."""
    path = out / "ledger" / f"{key.night}.sqlite"
    with closing(sqlite3.connect(path)) as database:
        ((before,),) = database.execute(f"SELECT content FROM exposure WHERE {WHERE.format(key)}")
    _change(path, f"UPDATE exposure SET content = ? WHERE {WHERE.format(key)}", content)
    return before


def lose_record(out, key):
    """Lose the record of an exposure."""
    _change(out / "ledger" / f"{key.night}.sqlite", f"DELETE FROM exposure WHERE {WHERE.format(key)}")


def overwrite_document(out, kind, name, content):
    """Replace the bytes of the record of a whole night, of its quality, ..."""
    statement = "UPDATE document SET content = ? WHERE kind = ? AND name = ?"
    _change(out / "ledger" / "index.sqlite", statement, content, kind, name)


def forget_sources(out):
    """Forget what sources held."""
    with closing(sqlite3.connect(out / "ledger" / "index.sqlite")) as database, database:
        assert database.execute("DELETE FROM memo").rowcount > 0


def overwrite_memo(out, name, change):
    """Change the bytes of what is remembered of a source."""
    with closing(sqlite3.connect(out / "ledger" / "index.sqlite")) as database:
        ((before,),) = database.execute("SELECT content FROM memo WHERE name = ?", (name,))
    _change(out / "ledger" / "index.sqlite", "UPDATE memo SET content = ? WHERE name = ?", change(before), name)

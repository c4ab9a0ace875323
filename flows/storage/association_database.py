"""Database of the association: SQLite file or PostgreSQL, its transactions, and its errors translated to ours."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from flows.storage.association_tables import MATCHING, SETTING, SettingChange, note_settings
from flows.storage.atomic import make_folder, require_lease
from flows.storage.file_lock import MODE
from flows.storage.writing import writing
from schemas.dataset import TableOf
from schemas.errors import Misconfigured, NightstrideError, Retryable
from schemas.settings import AssociationSettings

WAIT_S = 30.0
"""How long to wait for other writers, s."""

_PART = 50_000  # rows read at a time

CACHE_KIB = 256 * 1024
"""SQLite's cache for a change, KiB: a night of 1.5 million objects has about 300 MB of pages."""

ONE_WRITER = 0x6E73
"""Key of the advisory lock that a writer holds in PostgreSQL."""


class AssociationDatabase:
    """Database in which the changes of a block are committed together, or not at all; one process writes at a time.

    Parameters
    ----------
    engine
        SQLAlchemy engine.
    where
        Name of the store in messages; also an attribute.
    path
        SQLite file; also an attribute. None: the store is a server.

    Attributes
    ----------
    changed
        Changes of matching settings noted through this object.
    """

    def __init__(self, engine: sa.Engine, where: str, path: Path | None) -> None:
        self._engine, self.where, self.path = engine, where, path
        self.changed: list[SettingChange] = []
        self._noted: dict[str, float] | None = None

    def rows(self, statement: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        """Return the rows of a query."""
        with self.reading() as connection:
            return connection.execute(statement).all()

    def table(self, statement: sa.Select[Any], form: TableOf) -> pa.Table:
        """Return the result of a query of all columns of a dataset, as its table."""
        with self.reading() as connection:
            # Database rows take ten times the memory of a table.
            found = connection.execute(statement.execution_options(stream_results=True)).partitions(_PART)
            return pa.concat_tables([form.empty(), *(_table(rows, form.schema) for rows in found)])

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Yield a read-only connection; errors as in `flows.storage.association_store.opened_association`."""
        with _explained(self.where, self.path), self._engine.connect() as connection:
            yield connection.execution_options(reads=True)

    @contextmanager
    def change(self) -> Iterator[sa.Connection]:
        """Yield a connection in a writing transaction; errors as in `reading`."""
        if self.path is not None:
            require_lease(self.path)
        with _explained(self.where, self.path), self._engine.begin() as connection:
            if self.path is None:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ONE_WRITER)))
            yield connection

    @contextmanager
    def matching(self, settings: AssociationSettings, night: str) -> Iterator[sa.Connection]:
        """Yield a connection as `change` does, to match objects of a night, and note the settings used."""
        given = {name: float(getattr(settings, name)) for name in MATCHING}
        with self.change() as connection:
            changed = [] if given == self._noted else note_settings(connection, given, night)
            yield connection
        self._noted = given
        self.changed += changed

    def setting_changes(self) -> list[SettingChange]:
        """Return the recorded changes of matching settings, in order."""
        with self.reading() as connection:
            if not sa.inspect(connection).has_table(SETTING.name):
                return []
            wanted = sa.select(*(SETTING.c[name] for name in SettingChange._fields)).order_by(SETTING.c.setting)
            return [SettingChange(*one) for one in connection.execute(wanted.where(SETTING.c.before.is_not(None)))]

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def sqlite_engine(path: Path) -> sa.Engine:
    """Return an engine for an SQLite file, which is created if necessary."""
    with writing(path):
        make_folder(path.parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, MODE))
    arguments = {"timeout": WAIT_S, "isolation_level": None}
    url = sa.URL.create("sqlite", database=str(path.absolute()))
    engine = sa.create_engine(url, connect_args=arguments, poolclass=sa.NullPool)
    # A writer locks the file from the start: two that first read and then write would block each other.
    sa.event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("reads"):
        connection.exec_driver_sql("BEGIN")
        return
    # Pages that do not fit in the cache are written early, and from then on nobody can read.
    connection.exec_driver_sql(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def postgresql_engine(url: str) -> sa.Engine:
    """Return an engine for a PostgreSQL database.

    Raises
    ------
    Misconfigured
        The driver is not installed (``missing_extra``), or the URL is not valid (``bad_url``).
    """
    try:
        limits = {"connect_timeout": 10, "options": f"-c lock_timeout={int(1000 * WAIT_S)}"}
        return sa.create_engine(url, connect_args=limits, poolclass=sa.NullPool)
    except ImportError as error:
        raise Misconfigured(
            "missing_extra", "association.store", f"needs a driver of PostgreSQL: {error}.",
            "install nightstride[postgres].",
        ) from error  # fmt: skip
    except sa.exc.ArgumentError as error:
        problem = f"{url!r} is not a URL of a database: {error}."
        raise Misconfigured("bad_url", "association.store", problem, "write it as the settings page says.") from error


@contextmanager
def _explained(where: str, path: Path | None) -> Iterator[None]:
    """Convert database errors to our own."""
    try:
        yield
    except sa.exc.IntegrityError:
        raise  # a bug of ours
    except sa.exc.DBAPIError as error:
        raise _translated(where, path, error.orig) from error


def _translated(where: str, path: Path | None, error: BaseException | None) -> NightstrideError:
    text = " ".join(str(error).split())[:300]
    kind = "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
    if kind in ("SQLITE_CORRUPT", "SQLITE_NOTADB"):
        return Misconfigured(
            "damaged_association", where, f"cannot be read ({text}).",
            "put it back from a backup; or make it again: `nightstride associate OUT --rebuild`.",
        )  # fmt: skip
    if kind in ("SQLITE_READONLY", "SQLITE_CANTOPEN"):
        return Misconfigured("not_writable", where, f"may not be written ({text}).", "make it writable.")
    if kind in ("SQLITE_BUSY", "SQLITE_LOCKED") or getattr(error, "sqlstate", None) == "55P03":
        holders = _holders(path) if path is not None else ""
        return Retryable(
            "lock_held", where, f"another process{holders} has kept it locked for {WAIT_S:g} s or more.",
            "see what that process is, and run again: it goes on where it stopped.",
        )  # fmt: skip
    return Retryable(
        "association_down", where, f"does not answer, or fails ({text}).",
        "see to the database, and run again: it goes on where it stopped.",
    )  # fmt: skip


def _holders(path: Path) -> str:
    """Return the numbers of processes with locks on a file, as far as Linux shows them; empty if unknown."""
    with suppress(OSError, IndexError):
        inode, found = str(path.stat().st_ino), set[str]()
        for line in Path("/proc/locks").read_text().splitlines():
            parts = line.split()
            if parts[-3].rpartition(":")[2] == inode and parts[-4] != str(os.getpid()):
                found.add(parts[-4])
        return f" ({', '.join(sorted(found))})" if found else ""
    return ""


def _table(rows: Sequence[sa.Row[Any]], schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)

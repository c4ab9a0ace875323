"""Versions of the tables of the association: new ones, and those of an earlier version, all of whose rows are kept."""

from collections.abc import Sequence

import sqlalchemy as sa

from flows.storage.association_tables import (
    EVENT,
    META,
    NIGHT,
    OBJECT,
    REFUSAL,
    SEEN,
    SETTING,
    STATIC,
    STATIC_EVENT,
    STATIC_NIGHT,
    SUMS,
    TABLES,
    VERSION,
    recount,
)
from kernels.linking.proper_motion import ORIGIN

EARLIER = (1, 2, 3)
"""Versions that are converted."""

_OF_SCIENCE_IMAGES = (STATIC, SEEN, STATIC_NIGHT, STATIC_EVENT)  # which the first three versions had not

_PART = 50_000  # objects counted at a time


def version_of(connection: sa.Connection) -> int | None:
    """Return the version of the tables; None: there are none."""
    if not sa.inspect(connection).has_table(META.name):
        return None
    return int(connection.execute(sa.select(META.c.version)).scalar_one())


def brought_up(connection: sa.Connection) -> int:
    """Return the version of the tables when missing ones have been made, and those of an earlier version converted.

    Parameters
    ----------
    connection
        In a transaction that writes: what fails leaves the tables as they were.
    """
    found = version_of(connection)
    if found is None:
        TABLES.create_all(connection)
        connection.execute(META.insert().values(version=VERSION))
    elif found in EARLIER:
        if found == 1:
            _add_motions(connection)
        if found < 3:
            _add(connection, EVENT, ("otherId",))
        TABLES.create_all(connection, (*_OF_SCIENCE_IMAGES, SETTING))
        connection.execute(NIGHT.update().values(stamp=""))  # so that their objects are looked at
        connection.execute(META.update().values(version=VERSION))
    else:
        return found
    return VERSION


def _add_motions(connection: sa.Connection) -> None:
    """Add to objects what motions are fitted to, from their detections."""
    REFUSAL.create(connection, checkfirst=True)  # the first stores had none
    added = (*SUMS[4:], "nights", "movingCell")
    _add(connection, OBJECT, added)
    # One that has lost its detections is as if all had been at the time of the last.
    t, weight = OBJECT.c.lastDiaSourceMjdTai - ORIGIN, OBJECT.c.weight
    sums = (*(t * OBJECT.c[axis] for axis in "xyz"), t * weight, t * t * weight)
    connection.execute(OBJECT.update().values(dict(zip(added, (*sums, 1), strict=False))))
    ids = list(connection.scalars(sa.select(OBJECT.c.diaObjectId).order_by(OBJECT.c.diaObjectId)))
    for first in range(0, len(ids), _PART):
        recount(connection, ids[first : first + _PART])


def _add(connection: sa.Connection, table: sa.Table, columns: Sequence[str]) -> None:
    """Add columns to a table, and the indexes that it lacks."""
    prepared = connection.dialect.identifier_preparer
    for name in columns:
        rule = "" if table.c[name].nullable else " NOT NULL DEFAULT 0"
        kind = table.c[name].type.compile(connection.dialect)
        statement = f"ALTER TABLE {prepared.format_table(table)} ADD COLUMN {prepared.quote(name)} {kind}{rule}"
        connection.execute(sa.text(statement))
    for index in table.indexes:
        index.create(connection, checkfirst=True)

"""Versions of the association tables: creating them, and converting earlier ones without losing rows."""

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
"""Versions that can be converted."""

_OF_SCIENCE_IMAGES = (STATIC, SEEN, STATIC_NIGHT, STATIC_EVENT)  # not in the first three versions

_PART = 50_000  # number of objects updated at a time


def version_of(connection: sa.Connection) -> int | None:
    """Return the version of the tables; None if there are none."""
    if not sa.inspect(connection).has_table(META.name):
        return None
    return int(connection.execute(sa.select(META.c.version)).scalar_one())


def brought_up(connection: sa.Connection) -> int:
    """Create missing tables or convert those of an earlier version; return the resulting version.

    Parameters
    ----------
    connection
        Connection in a writing transaction, so that a failure leaves the tables unchanged.
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
        connection.execute(NIGHT.update().values(stamp=""))  # so that their objects are processed
        connection.execute(META.update().values(version=VERSION))
    else:
        return found
    return VERSION


def _add_motions(connection: sa.Connection) -> None:
    """Add the sums for motions to objects, computed from their detections."""
    REFUSAL.create(connection, checkfirst=True)  # missing in the first stores
    added = (*SUMS[4:], "nights", "movingCell")
    _add(connection, OBJECT, added)
    # An object without detections is treated as if all had been at the time of the last one.
    t, weight = OBJECT.c.lastDiaSourceMjdTai - ORIGIN, OBJECT.c.weight
    sums = (*(t * OBJECT.c[axis] for axis in "xyz"), t * weight, t * t * weight)
    connection.execute(OBJECT.update().values(dict(zip(added, (*sums, 1), strict=False))))
    ids = list(connection.scalars(sa.select(OBJECT.c.diaObjectId).order_by(OBJECT.c.diaObjectId)))
    for first in range(0, len(ids), _PART):
        recount(connection, ids[first : first + _PART])


def _add(connection: sa.Connection, table: sa.Table, columns: Sequence[str]) -> None:
    """Add columns to a table, and its missing indexes."""
    prepared = connection.dialect.identifier_preparer
    for name in columns:
        rule = "" if table.c[name].nullable else " NOT NULL DEFAULT 0"
        kind = table.c[name].type.compile(connection.dialect)
        statement = f"ALTER TABLE {prepared.format_table(table)} ADD COLUMN {prepared.quote(name)} {kind}{rule}"
        connection.execute(sa.text(statement))
    for index in table.indexes:
        index.create(connection, checkfirst=True)

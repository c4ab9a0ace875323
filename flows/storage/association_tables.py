"""Tables of the association store, and the state of objects in them."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects import postgresql

from kernels.linking.association import cells_near, cells_of, wide_cells_near, wide_cells_of
from kernels.linking.proper_motion import ORIGIN, Motions, fit_motions
from kernels.sky.positions import sky_position
from schemas.static_object import FLUXES

FILE = "association.sqlite"
"""Name in the output folder."""

VERSION = 4
"""Version of the tables; `flows.storage.association_versions` converts earlier ones."""

_AT_ONCE = 10_000  # values in one query

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQL type of ids."""

SUMS = ("x", "y", "z", "weight", "tx", "ty", "tz", "t", "tt")
"""Columns with the sums of `kernels.linking.proper_motion.motion_sums`."""

TABLES = sa.MetaData()
"""All tables of the store, defined below."""

META = sa.Table("association_meta", TABLES, sa.Column("version", sa.Integer, primary_key=True))
OBJECT = sa.Table(
    "dia_object",
    TABLES,
    sa.Column("diaObjectId", BIG, primary_key=True, autoincrement=False),
    sa.Column("cell", BIG, nullable=False, index=True),
    sa.Column("ra", sa.Double, nullable=False),
    sa.Column("dec", sa.Double, nullable=False),
    *(sa.Column(name, sa.Double, nullable=False) for name in SUMS),
    sa.Column("nDiaSources", sa.Integer, nullable=False),
    sa.Column("nights", sa.Integer, nullable=False),  # lower limit of the number of nights with a detection
    sa.Column("movingCell", BIG, index=True),  # coarse; null for objects at rest
    sa.Column("firstDiaSourceMjdTai", sa.Double, nullable=False),
    sa.Column("lastDiaSourceMjdTai", sa.Double, nullable=False),
    sa.Column("createdBy", BIG, nullable=False),
)
SOURCE = sa.Table(
    "dia_source",
    TABLES,
    sa.Column("diaSourceId", BIG, primary_key=True, autoincrement=False),
    sa.Column("diaObjectId", BIG, nullable=False, index=True),
    sa.Column("night", sa.String(8), nullable=False, index=True),
    *(sa.Column(name, sa.Double, nullable=False) for name in ("x", "y", "z", "weight", "separation", "midpointMjdTai")),
    sa.Column("band", sa.String, nullable=False),
    sa.Column("psfFlux", sa.Double),
    sa.Column("psfFluxErr", sa.Double),
)
VISIT = sa.Table(
    "visit",
    TABLES,
    sa.Column("visit", BIG, primary_key=True, autoincrement=False),
    sa.Column("detector", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("night", sa.String(8), nullable=False, index=True),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("associatedAt", sa.String, nullable=False),
)
NIGHT = sa.Table(
    "night",
    TABLES,
    sa.Column("night", sa.String(8), primary_key=True),
    sa.Column("stamp", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
)
REFUSAL = sa.Table(
    "refusal",
    TABLES,
    sa.Column("visit", BIG, primary_key=True, autoincrement=False),
    sa.Column("detector", sa.Integer, primary_key=True, autoincrement=False),
    *(sa.Column(name, sa.String, nullable=False) for name in ("digest", "code", "where", "problem", "remedy")),
)
"""Exposures that cannot be associated, and why."""

EVENT = sa.Table(
    "event",
    TABLES,
    sa.Column("event", BIG, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("diaObjectId", BIG, nullable=False, index=True),
    sa.Column("otherId", BIG, index=True),  # nearby object of the same event
    sa.Column("visit", BIG, nullable=False),
    sa.Column("detector", sa.Integer, nullable=False),
    sa.Column("at", sa.String, nullable=False),
)

SETTING = sa.Table(
    "association_setting",
    TABLES,
    sa.Column("setting", BIG, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("before", sa.Double),  # null for the first value
    sa.Column("night", sa.String(8), nullable=False),  # first night associated with the value
    sa.Column("at", sa.String, nullable=False),
)
"""Matching settings and their changes; older stores get this table when they are next written."""

STATIC = sa.Table(
    "static_object",
    TABLES,
    sa.Column("staticObjectId", BIG, primary_key=True, autoincrement=False),
    sa.Column("cell", BIG, nullable=False, index=True),
    *(sa.Column(name, sa.Double, nullable=False) for name in SUMS),
    sa.Column("nNights", sa.Integer, nullable=False),
    sa.Column("movingCell", BIG, index=True),  # coarse; null for objects at rest
    sa.Column("firstMjd", sa.Double, nullable=False),
    sa.Column("lastMjd", sa.Double, nullable=False),
)
SEEN = sa.Table(
    "static_seen",
    TABLES,
    sa.Column("staticObjectId", BIG, primary_key=True, autoincrement=False),
    sa.Column("night", sa.String(8), primary_key=True),
    sa.Column("objectId", BIG, nullable=False),
    *(sa.Column(name, sa.Double, nullable=False) for name in ("mjd", "x", "y", "z", "weight")),
    *(sa.Column(name, sa.Double) for name in FLUXES),
    sa.Index("ix_static_seen_object", "night", "objectId"),
    sqlite_with_rowid=False,
)
"""Objects of each night, by permanent object."""

STATIC_NIGHT = sa.Table(
    "static_night",
    TABLES,
    sa.Column("night", sa.String(8), primary_key=True),
    sa.Column("madeFrom", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
)
"""Nights whose objects are associated: digests of these objects, and of the result."""

STATIC_EVENT = sa.Table(
    "static_event",
    TABLES,
    sa.Column("event", BIG, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("staticObjectId", BIG, nullable=False, index=True),
    sa.Column("otherId", BIG, index=True),  # nearby object of the same event
    sa.Column("night", sa.String(8), nullable=False),
    sa.Column("at", sa.String, nullable=False),
)

MATCHING = ("sigmas", "min_arcsec", "max_arcsec", "min_trail_arcsec")
"""Settings that decide which detections belong to an object."""

STATE = ("diaObjectId", *SUMS, "nDiaSources", "nights", "firstDiaSourceMjdTai", "lastDiaSourceMjdTai")
"""Columns with the state of an object."""

_APART_D = 0.5  # days: least separation of detections of two nights


class SettingChange(NamedTuple):
    """Change of a matching setting: values before and since, and the first night with the new value."""

    name: str
    before: float
    value: float
    night: str

    def __str__(self) -> str:
        return (
            f"association.{self.name} was {self.before:g}, and is {self.value:g} since night {self.night} was "
            "associated: objects of before were matched by other rules. To match all by the same ones, in the order of "
            "time: `nightstride associate OUT --rebuild`"
        )


class PlacedObjects(NamedTuple):
    """State of objects: ids, (n, 9) sums, numbers of detections and nights, first and last time."""

    ids: NDArray[np.int64]
    sums: NDArray[np.float64]
    number: NDArray[np.int64]
    nights: NDArray[np.int64]
    first: NDArray[np.float64]
    last: NDArray[np.float64]

    @classmethod
    def read(cls, rows: Sequence[Sequence[Any]]) -> "PlacedObjects":
        """Return objects from rows with the columns of `STATE`."""
        ids = np.array([row[0] for row in rows], np.int64)  # float64 cannot hold them
        columns = np.array([tuple(row[1:]) for row in rows], np.float64).reshape(-1, len(STATE) - 1).T
        number, nights = columns[-4:-2].astype(np.int64)
        return cls(ids, columns[:-4].T, number, nights, columns[-2], columns[-1])

    def motions(self) -> tuple[Motions, NDArray[np.bool_]]:
        """Return the motions of the objects, and which objects move."""
        found = fit_motions(self.sums, self.number)
        return found, found.moving(self.nights)

    def joined(self, which: NDArray[np.int64], sums: NDArray[np.float64], mjd: NDArray[np.float64]) -> "PlacedObjects":
        """Return selected objects with one more detection each; objects without detections start anew."""
        had = self.number[which] > 0
        apart = (mjd > self.last[which] + _APART_D) | (mjd < self.first[which] - _APART_D)
        return PlacedObjects(
            self.ids[which],
            self.sums[which] * had[:, None] + sums,
            self.number[which] + 1,
            np.where(had, self.nights[which] + apart, 1),
            np.where(had, np.minimum(self.first[which], mjd), mjd),
            np.where(had, np.maximum(self.last[which], mjd), mjd),
        )

    def values(self) -> list[dict[str, Any]]:
        """Return the rows of the objects, without ``createdBy``."""
        if not len(self.ids):
            return []
        ra, dec = sky_position(self.sums[:, :3])
        columns = {
            **dict(zip(STATE, (self.ids, *self.sums.T, *self[2:]), strict=True)),
            "ra": ra,
            "dec": dec,
            "cell": cells_of(ra, dec),
        }
        wide = np.where(self.motions()[1], wide_cells_of(ra, dec), -1).tolist()
        rows = zip(*(one.tolist() for one in columns.values()), strict=True)
        return [
            {**dict(zip(columns, row, strict=True)), "movingCell": None if cell < 0 else cell}
            for row, cell in zip(rows, wide, strict=True)
        ]


def note_settings(connection: sa.Connection, given: Mapping[str, float], night: str) -> list[SettingChange]:
    """Record the matching settings used from this night on; return those that differ from the last record.

    A store without any record is assumed to have used the given values.

    Parameters
    ----------
    connection
        Connection in a writing transaction.
    given, night
        Values by the names in `MATCHING`, and the night being associated.
    """
    SETTING.create(connection, checkfirst=True)
    noted = connection.execute(sa.select(SETTING.c.name, SETTING.c.value).order_by(SETTING.c.setting))
    before = {one.name: one.value for one in noted}
    own = {"night": night, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    new = {name: value for name, value in given.items() if before.get(name) != value}
    if new:
        rows = [{"name": name, "value": value, "before": before.get(name), **own} for name, value in new.items()]
        connection.execute(SETTING.insert(), rows)
    return [SettingChange(name, before[name], value, night) for name, value in new.items() if name in before]


def recount(connection: sa.Connection, ids: Collection[int]) -> set[int]:
    """Recompute the state of objects from their detections; return the ids of those that have any."""
    found = selected(connection, _counted(), SOURCE.c.diaObjectId, ids, group=SOURCE.c.diaObjectId)
    update_objects(connection, [{"of": one.pop("diaObjectId"), **one} for one in PlacedObjects.read(found).values()])
    return {one[0] for one in found}


def update_objects(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Update objects from rows of the table, with the id of each under ``of``."""
    execute_rows(connection, OBJECT.update().where(OBJECT.c.diaObjectId == sa.bindparam("of")), rows)


def execute_rows(
    connection: sa.Connection, statement: sa.Insert | sa.Update, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Execute an insert or update for each row; all have the same columns.

    The driver gets the values as they are: SQLAlchemy would spend more time on them than the database does.
    """
    if not rows:
        return
    compiled = statement.compile(dialect=connection.dialect, column_keys=list(rows[0]))
    names = compiled.positiontup
    given = [dict(row) for row in rows] if names is None else list(map(itemgetter(*names), rows))
    connection.exec_driver_sql(str(compiled), given)


def selected(
    connection: sa.Connection,
    columns: Sequence[Any],
    column: sa.Column[Any],
    values: Collection[int] | NDArray[np.int64],
    group: Any = None,
    also: sa.ColumnElement[bool] | None = None,
) -> list[sa.Row[Any]]:
    """Return columns of the rows whose ``column`` is in ``values``, in several queries; ``also``: a condition."""
    wanted, found = sorted(int(one) for one in values), list[sa.Row[Any]]()
    for first in range(0, len(wanted), _AT_ONCE):
        statement = sa.select(*columns).where(_among(connection, column, wanted[first : first + _AT_ONCE]))
        statement = statement if also is None else statement.where(also)
        found += connection.execute(statement if group is None else statement.group_by(group)).all()
    return found


def _among(connection: sa.Connection, column: sa.Column[Any], values: list[int]) -> sa.ColumnElement[bool]:
    """Return the condition that a column is among values, which are one parameter of the query."""
    if connection.dialect.name == "sqlite":
        listed = sa.func.json_each(json.dumps(values)).table_valued("value")
        return column.in_(sa.select(listed.c.value))
    return column == sa.any_(sa.literal(values, postgresql.ARRAY(sa.BigInteger)))


def objects_near(
    connection: sa.Connection, state: Sequence[Any], ra: NDArray[np.float64], dec: NDArray[np.float64], arcsec: float
) -> PlacedObjects:
    """Return the objects in the cells around positions, and moving objects in a wider area, by id.

    Parameters
    ----------
    connection, state
        Connection to the store, and columns of the table of objects in the order of `STATE`.
    ra, dec, arcsec
        Positions, deg, and radius around them, arcsec.
    """
    if not len(ra):
        return PlacedObjects.read([])
    table, found = state[0].table.c, dict[int, Sequence[Any]]()
    moving = wide_cells_near(ra, dec)
    for column, cells in ((table.cell, cells_near(ra, dec, arcsec)), (table.movingCell, moving)):
        found |= {one[0]: one for one in selected(connection, state, column, cells)}
    return PlacedObjects.read([found[one] for one in sorted(found)])


def _counted() -> tuple[sa.ColumnElement[Any], ...]:
    """Return query columns that compute the `STATE` of objects from their detections."""
    weight, mjd = SOURCE.c.weight, SOURCE.c.midpointMjdTai
    place, t = [SOURCE.c[axis] for axis in "xyz"], mjd - ORIGIN
    terms = (*place, 1.0, *(t * axis for axis in place), t, t * t)
    counts = sa.func.count(), sa.func.count(sa.distinct(SOURCE.c.night)), sa.func.min(mjd), sa.func.max(mjd)
    return SOURCE.c.diaObjectId, *(sa.func.sum(weight * term) for term in terms), *counts

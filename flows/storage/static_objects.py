"""Store of permanent objects: objects of the science images, their nights, and events in their history."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import sqlalchemy as sa

from flows.storage.association_database import AssociationDatabase
from flows.storage.association_tables import SEEN, STATIC, STATIC_EVENT, STATIC_NIGHT
from flows.storage.catalog_store import CatalogStore
from flows.storage.digest import digest
from flows.storage.ledger import Ledger
from flows.storage.static_links import PatchObjects, StaticLinks
from schemas.ledger import PatchRecord
from schemas.objects import OBJECT
from schemas.patch import PatchKey
from schemas.settings import AssociationSettings
from schemas.static_object import STATIC_ASSOCIATION

_ID_ORDER = 29  # order of the HEALPix index used as the id of an object in a night


class StaticObjects:
    """Part of the association store with the objects of the science images.

    A night is associated as a whole, in one transaction. Each method raises as
    `flows.storage.association_store.opened_association` does.

    Parameters
    ----------
    database
        The association store.
    """

    def __init__(self, database: AssociationDatabase) -> None:
        self._database = database

    def nights(self) -> dict[str, tuple[str, str]]:
        """Return night -> digest of its objects when associated, and digest of the result."""
        rows = self._database.rows(sa.select(STATIC_NIGHT).order_by(STATIC_NIGHT.c.night))
        return {one.night: (one.madeFrom, one.digest) for one in rows}

    def made_from(self, night: str) -> str | None:
        """Return the digest of a night's objects when they were associated; None if they are not associated."""
        rows = self._database.rows(sa.select(STATIC_NIGHT.c.madeFrom).where(STATIC_NIGHT.c.night == night))
        return rows[0].madeFrom if rows else None

    def associate(
        self, night: str, made_from: str, patches: Iterable[PatchObjects], settings: AssociationSettings
    ) -> tuple[int, int]:
        """Associate the objects of a night, as `StaticLinks.associate` does."""
        with self._database.matching(settings, night) as connection:
            return StaticLinks(connection, night).associate(made_from, patches, settings)

    def withdraw(self, night: str) -> None:
        """Remove a night whose objects are no longer published."""
        with self._database.change() as connection:
            StaticLinks(connection, night).withdraw()

    def history(self, key: PatchKey) -> pa.Table:
        """Return all nights up to this one of the objects seen in a patch, as `STATIC_ASSOCIATION`."""
        columns = [SEEN.c[name] for name in STATIC_ASSOCIATION.schema.names]
        wanted = sa.select(*columns).where(SEEN.c.staticObjectId.in_(_seen_in(key)), SEEN.c.night <= key.night)
        return self._database.table(wanted.order_by(SEEN.c.staticObjectId, SEEN.c.night), STATIC_ASSOCIATION)

    def history_rows(self, key: PatchKey) -> int:
        """Return the number of nights, including later ones, of the objects in `history`."""
        total = sa.select(sa.func.coalesce(sa.func.sum(STATIC.c.nNights), 0))
        return int(self._database.rows(total.where(STATIC.c.staticObjectId.in_(_seen_in(key))))[0][0])

    def of_object(self, identity: int) -> tuple[int, pa.Table] | None:
        """Return a permanent object's id and its nights, given its id or that of an object of a night; or None."""
        columns = [SEEN.c[name] for name in STATIC_ASSOCIATION.schema.names]
        wanted = sa.select(*columns).where(SEEN.c.staticObjectId == identity).order_by(SEEN.c.night)
        if len(nights := self._database.table(wanted, STATIC_ASSOCIATION)):
            return identity, nights
        known = sa.select(STATIC_NIGHT.c.night)
        of_night = sa.select(SEEN.c.staticObjectId).where(SEEN.c.night.in_(known), SEEN.c.objectId == identity)
        found = self._database.rows(of_night.order_by(SEEN.c.night))
        return self.of_object(found[-1][0]) if found else None

    def ending(self, identity: int) -> str | None:
        """Return how a permanent object lost its last night; None if it has nights or is unknown."""
        ended = sa.select(STATIC.c.staticObjectId).where(STATIC.c.staticObjectId == identity, STATIC.c.nNights == 0)
        if not self._database.rows(ended):
            return None
        removed = (STATIC_EVENT.c.staticObjectId == identity, STATIC_EVENT.c.kind == "removed")
        wanted = sa.select(STATIC_EVENT.c.at, STATIC_EVENT.c.night).where(*removed)
        found = self._database.rows(wanted.order_by(STATIC_EVENT.c.event))
        return f"ended at {found[-1].at}, with night {found[-1].night}" if found else "ended; when is not noted"

    def beside(self, identity: int) -> list[int]:
        """Return the objects so close to an object that both may be one, sorted."""
        one, other = STATIC_EVENT.c.staticObjectId, STATIC_EVENT.c.otherId
        found = [
            self._database.rows(sa.select(theirs).where(own == identity, STATIC_EVENT.c.kind == "beside"))
            for own, theirs in ((one, other), (other, one))
        ]
        return sorted({int(row[0]) for rows in found for row in rows})

    def events(self) -> list[tuple[str, int]]:
        """Return events of objects in order: kind (removed, restored, renamed, beside) and staticObjectId."""
        wanted = sa.select(STATIC_EVENT.c.kind, STATIC_EVENT.c.staticObjectId).order_by(STATIC_EVENT.c.event)
        return [(one.kind, one.staticObjectId) for one in self._database.rows(wanted)]

    def contradictions(self) -> list[str]:
        """Return a phrase for each inconsistency within the tables; reads all of them."""
        seen = sa.select(SEEN.c.staticObjectId, sa.func.count().label("n")).group_by(SEEN.c.staticObjectId).subquery()
        joined = STATIC.outerjoin(seen, seen.c.staticObjectId == STATIC.c.staticObjectId)
        wrong = sa.select(sa.func.count()).select_from(joined)
        wrong = wrong.where(STATIC.c.nNights != sa.func.coalesce(seen.c.n, 0))
        lost = sa.select(sa.func.count()).select_from(SEEN)
        lost = lost.where(SEEN.c.staticObjectId.not_in(sa.select(STATIC.c.staticObjectId)))
        found = {
            "lasting objects do not have as many nights as they say": self._database.rows(wrong)[0][0],
            "objects of nights are of no lasting one": self._database.rows(lost)[0][0],
        }
        return [f"{number:,} {what}" for what, number in found.items() if number]


AROUND = replace(OBJECT, name="object_margin")
"""Objects around a patch, which have a file of their own."""


def bring_up_static(
    out: Path, database: AssociationDatabase, night: str, settings: AssociationSettings
) -> tuple[int, int]:
    """Associate the published objects of a night, if they have changed since the last time.

    Parameters
    ----------
    out, database, night, settings
        Output folder, its store, label of the night, and how close objects of different nights must be.

    Returns
    -------
    known, new : int
        As in `StaticLinks.associate`; 0, 0 if nothing has changed.

    Raises
    ------
    BadInput
        A catalogue of objects is damaged or has another version.
    NightstrideError
        The store fails.
    """
    patches = (one for one in Ledger(out).patches(night) if isinstance(one, PatchRecord))
    records = [one for one in patches if OBJECT.name in one.datasets]
    static = StaticObjects(database)
    known, made_from = static.made_from(night), objects_digest(records)
    if not records:
        if known is not None:
            static.withdraw(night)
    elif known != made_from:
        return static.associate(night, made_from, _published(out, records), settings)
    return 0, 0


def _published(out: Path, records: Sequence[PatchRecord]) -> Iterator[PatchObjects]:
    tables = CatalogStore(out)
    for one in sorted(records, key=lambda record: record.name):
        around = one.datasets.get(AROUND.name)
        yield PatchObjects(
            tables.read_path(out / one.datasets[OBJECT.name].path, OBJECT),
            OBJECT.empty() if around is None else tables.read_path(out / around.path, AROUND),
        )


def objects_digest(records: Sequence[PatchRecord]) -> str:
    """Return the digest of the objects of a night, from the given records of its patches."""
    return digest({one.name: one.datasets[OBJECT.name].sha256 for one in records})


def _seen_in(key: PatchKey) -> sa.Select[tuple[int]]:
    """Return a query for the permanent objects seen in a patch of a night: object ids are HEALPix pixels within it."""
    first, shift = key.pixel, 2 * (_ID_ORDER - key.order)
    inside = SEEN.c.objectId.between(first << shift, (first + 1 << shift) - 1)
    return sa.select(SEEN.c.staticObjectId).where(SEEN.c.night == key.night, inside)

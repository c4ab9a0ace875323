"""Store of the association: objects at rest and their detections over all nights."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from flows.storage.association_database import WAIT_S, AssociationDatabase, postgresql_engine, sqlite_engine
from flows.storage.association_links import Associated, ExposureLinks, source_ids, usable_detections
from flows.storage.association_tables import (
    EVENT,
    FILE,
    NIGHT,
    OBJECT,
    REFUSAL,
    SOURCE,
    TABLES,
    VERSION,
    VISIT,
    selected,
)
from flows.storage.association_versions import EARLIER, brought_up, version_of
from flows.storage.bucket_path import BucketPath
from flows.storage.digest import digest
from kernels.linking.association import CELLS
from kernels.sky.patches import Patch, neighbours
from schemas.dia_object import ASSOCIATION
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured, NightstrideError
from schemas.exposure import ExposureKey
from schemas.known_object import SS_SOURCE
from schemas.ledger import ExposureRecord
from schemas.patch import COVER_ORDER
from schemas.settings import AssociationSettings

_FINER = 4  # number of orders: few pixels (at most 16 by 16) surround a patch
_AT_REST = 30.0  # arcsec: the mean position of an object at rest changes less


class AssociationStore(AssociationDatabase):
    """Objects, their detections, the exposures of these, and events in the history of objects.

    Changes are committed together at the end of their block, or not at all; one process writes at a time. An object
    that loses its last detection keeps its row and position: it is no longer published, and its id returns only with a
    new detection there. Each method raises as `opened_association` does.

    Parameters are those of `flows.storage.association_database.AssociationDatabase`.
    """

    def nights(self) -> dict[str, tuple[str, str]]:
        """Return night -> ledger stamp at its last association, and digest of its association."""
        return {one.night: (one.stamp, one.digest) for one in self.rows(sa.select(NIGHT).order_by(NIGHT.c.night))}

    def visits(self, night: str, visit: int | None = None) -> dict[ExposureKey, str]:
        """Return the associated exposures of a night, or of a visit in it, with the digests of their detections."""
        wanted = sa.select(VISIT).where(VISIT.c.night == night)
        found = self.rows(wanted if visit is None else wanted.where(VISIT.c.visit == visit))
        return {ExposureKey(night=night, visit=one.visit, detector=one.detector): one.digest for one in found}

    def same_ids(self, key: ExposureKey) -> list[ExposureKey]:
        """Return the associated exposure of another night with the visit and detector of an exposure, if any."""
        same = (VISIT.c.visit == key.visit) & (VISIT.c.detector == key.detector) & (VISIT.c.night != key.night)
        return [key.model_copy(update={"night": one.night}) for one in self.rows(sa.select(VISIT.c.night).where(same))]

    def made_from(self, key: ExposureKey) -> str | None:
        """Return the digest of the associated detections of an exposure; None if it is not associated."""
        where = [VISIT.c[name] == getattr(key, name) for name in ("night", "visit", "detector")]
        found = self.rows(sa.select(VISIT.c.digest).where(*where))
        return str(found[0].digest) if found else None

    def refuse(self, key: ExposureKey, made_from: str, error: BadInput) -> None:
        """Record why an exposure, with this digest of its detections, cannot be associated."""
        named = {name: getattr(error, name) for name in ("code", "where", "problem", "remedy")}
        with self.change() as connection:
            connection.execute(REFUSAL.delete().where(_is_refusal(key)))
            row = {"visit": key.visit, "detector": key.detector, "digest": made_from, **named}
            connection.execute(REFUSAL.insert().values(**row))

    def refusal(self, key: ExposureKey, made_from: str) -> BadInput | None:
        """Return why an exposure with this digest cannot be associated; None if that is not known."""
        found = self.rows(sa.select(REFUSAL).where(_is_refusal(key), REFUSAL.c.digest == made_from))
        return (
            BadInput(*(getattr(found[0], name) for name in ("code", "where", "problem", "remedy"))) if found else None
        )

    def events(self) -> list[tuple[str, int]]:
        """Return events of objects in order: kind (removed, restored, renamed, beside) and diaObjectId."""
        found = self.rows(sa.select(EVENT.c.kind, EVENT.c.diaObjectId).order_by(EVENT.c.event))
        return [(one.kind, one.diaObjectId) for one in found]

    def beside(self, identity: int) -> list[int]:
        """Return the objects so close to an object that both may be one, sorted."""
        pairs = ((EVENT.c.diaObjectId, EVENT.c.otherId), (EVENT.c.otherId, EVENT.c.diaObjectId))
        found = [self.rows(sa.select(other).where(own == identity, EVENT.c.kind == "beside")) for own, other in pairs]
        return sorted({int(row[0]) for rows in found for row in rows})

    def history(self, night: str, patch: Patch | None = None) -> pa.Table:
        """Return the detections up to a night of the objects seen in that night, as `ASSOCIATION`, by object.

        Parameters
        ----------
        night
            Label of the night.
        patch
            Only objects whose mean position up to the night may be in this patch or its margin; None: all.
        """
        seen = _seen(night) if patch is None else _seen_near(night, patch)
        columns = [SOURCE.c[name] for name in ASSOCIATION.schema.names]
        wanted = sa.select(*columns).where(SOURCE.c.diaObjectId.in_(seen), SOURCE.c.night <= night)
        return self.table(wanted.order_by(SOURCE.c.diaObjectId, SOURCE.c.diaSourceId), ASSOCIATION)

    def history_rows(self, night: str, patch: Patch) -> int:
        """Return the number of detections, on all nights, of the objects in `history`."""
        near = OBJECT.c.diaObjectId.in_(_seen_near(night, patch))
        return int(self.rows(sa.select(sa.func.coalesce(sa.func.sum(OBJECT.c.nDiaSources), 0)).where(near))[0][0])

    def of_exposure(self, key: ExposureKey) -> pa.Table:
        """Return the detections, on all nights, of the objects seen on an exposure, as `ASSOCIATION`."""
        seen = sa.select(SOURCE.c.diaObjectId).where(SOURCE.c.diaSourceId.between(*source_ids(key))).distinct()
        columns = [SOURCE.c[name] for name in ASSOCIATION.schema.names]
        wanted = sa.select(*columns).where(SOURCE.c.diaObjectId.in_(seen))
        wanted = wanted.order_by(SOURCE.c.diaObjectId, SOURCE.c.midpointMjdTai, SOURCE.c.diaSourceId)
        return self.table(wanted, ASSOCIATION)

    def of_object(self, identity: int) -> tuple[int, pa.Table] | None:
        """Return an object's id and its detections by time, given its id or that of a detection; None if unknown."""
        source = self.rows(sa.select(SOURCE.c.diaObjectId).where(SOURCE.c.diaSourceId == identity))
        identity = source[0][0] if source else identity
        found = self.detections(identity)
        return (identity, found) if len(found) else None

    def detections(self, identity: int) -> pa.Table:
        """Return the detections of an object as `ASSOCIATION`, by time.

        The detection with the object's id may belong to another object: exposures searched again assign their ids anew.
        """
        columns = [SOURCE.c[name] for name in ASSOCIATION.schema.names]
        wanted = sa.select(*columns).where(SOURCE.c.diaObjectId == identity)
        return self.table(wanted.order_by(SOURCE.c.midpointMjdTai, SOURCE.c.diaSourceId), ASSOCIATION)

    def identities(self) -> frozenset[int]:
        """Return the ids of all objects, including those without detections."""
        return frozenset(row[0] for row in self.rows(sa.select(OBJECT.c.diaObjectId)))

    def detections_of(self, ids: Collection[int]) -> dict[int, int]:
        """Return id -> number of detections for those ids that belong to objects; 0 if the object has ended."""
        columns = (OBJECT.c.diaObjectId, OBJECT.c.nDiaSources)
        with self.reading() as connection:
            return {one[0]: one[1] for one in selected(connection, columns, OBJECT.c.diaObjectId, ids)}

    def endings(self, ids: Collection[int]) -> dict[int, str]:
        """Return how each of the given objects that has no detections lost its last one."""
        ended = [one for one, number in self.detections_of(ids).items() if not number]
        columns = [EVENT.c[name] for name in ("event", "diaObjectId", "visit", "detector", "at")]
        with self.reading() as connection:
            found = selected(connection, columns, EVENT.c.diaObjectId, ended, also=EVENT.c.kind == "removed")
            own, visits = (VISIT.c.visit, VISIT.c.detector), {one.visit for one in found}
            there = {(one.visit, one.detector) for one in selected(connection, own, VISIT.c.visit, visits)}
        said = dict.fromkeys(ended, "ended; when is not noted")
        for one in sorted(found, key=lambda one: one.event):
            how = "searched again" if (one.visit, one.detector) in there else "withdrawn"
            said[one.diaObjectId] = f"ended at {one.at}, when exposure {one.visit}-{one.detector} was {how}"
        return said

    def counts(self) -> tuple[int, int]:
        """Return the number of objects that have detections, and the number of detections."""
        objects = sa.select(sa.func.count()).select_from(OBJECT).where(OBJECT.c.nDiaSources > 0)
        sources = sa.select(sa.func.count()).select_from(SOURCE)
        return self.rows(objects)[0][0], self.rows(sources)[0][0]

    def associate(self, key: ExposureKey, made_from: str, found: pa.Table, settings: AssociationSettings) -> Associated:
        """Associate the detections of an exposure in one transaction, replacing its earlier links.

        Parameters
        ----------
        key, made_from
            Exposure, and digest of its detections.
        found
            Its `dia_source`.
        settings
            How close a detection must be to an object.
        """
        rows = usable_detections(found, settings.min_trail_arcsec)
        with self.matching(settings, key.night) as connection:
            connection.execute(REFUSAL.delete().where(_is_refusal(key)))
            return ExposureLinks(connection, key).associate(made_from, rows, len(found), settings)

    def withdraw(self, key: ExposureKey) -> None:
        """Remove an exposure that is no longer published from its objects."""
        with self.change() as connection:
            ExposureLinks(connection, key).withdraw()

    def settle(self, night: str, stamp: str) -> None:
        """Record that a night is associated as in the ledger at this stamp."""
        columns = (SOURCE.c.diaSourceId, SOURCE.c.diaObjectId)
        links = self.rows(sa.select(*columns).where(SOURCE.c.night == night).order_by(SOURCE.c.diaSourceId))
        visits = sorted((key.name, made_from) for key, made_from in self.visits(night).items())
        with self.change() as connection:
            connection.execute(NIGHT.delete().where(NIGHT.c.night == night))
            now = digest(repr([tuple(one) for one in links]), repr(visits))
            connection.execute(NIGHT.insert().values(night=night, stamp=stamp, digest=now))

    def prepare(self) -> None:
        """Create missing tables, convert those of earlier versions, and refuse other versions."""
        version = self.version()
        if version is None or version in EARLIER:
            with self.change() as connection:  # another process may have done so meanwhile
                version = brought_up(connection)
        if version != VERSION:
            raise _other_version(self.where, version)

    def version(self) -> int | None:
        """Return the version of the tables; None if there are none."""
        with self.reading() as connection:
            return version_of(connection)

    def contradictions(self) -> list[str]:
        """Return a phrase for each inconsistency within the tables; reads all of them."""
        counted = sa.select(SOURCE.c.diaObjectId, sa.func.count().label("n")).group_by(SOURCE.c.diaObjectId).subquery()
        joined = OBJECT.outerjoin(counted, counted.c.diaObjectId == OBJECT.c.diaObjectId)
        wrong = sa.select(sa.func.count()).select_from(joined)
        wrong = wrong.where(OBJECT.c.nDiaSources != sa.func.coalesce(counted.c.n, 0))
        known = sa.select(OBJECT.c.diaObjectId)
        lost = sa.select(sa.func.count()).select_from(SOURCE).where(SOURCE.c.diaObjectId.not_in(known))
        found = {
            "objects do not have as many detections as they say": self.rows(wrong)[0][0],
            "detections are of no object": self.rows(lost)[0][0],
        }
        said = [f"{number:,} {what}" for what, number in found.items() if number]
        if self.path is not None:
            with self.reading() as connection:
                told = [str(one[0]) for one in connection.exec_driver_sql("PRAGMA quick_check(3)")]
            said += [] if told == ["ok"] else [f"SQLite says: {'; '.join(told)}"]
        return said

    def clear(self) -> None:
        """Delete everything in the store, whatever its version."""
        with self.change() as connection:
            TABLES.drop_all(connection)
            brought_up(connection)


def _seen(night: str) -> sa.Select[tuple[int]]:
    return sa.select(SOURCE.c.diaObjectId).where(SOURCE.c.night == night).distinct()


def _seen_near(night: str, patch: Patch) -> sa.Select[tuple[int]]:
    """Return a query for the objects seen in a night that are, from all their detections, near a patch.

    Their mean positions up to the night may differ: for objects at rest by a few arcsec, for moving ones by less than
    the width of the pixels around the patch, 4 arcmin.
    """
    order = min(COVER_ORDER, patch.order + _FINER)
    own = patch.parts(order)
    inside = _cells(own, order)
    middle, chord = patch.circle(patch.margin + _AT_REST)
    towards = sum((OBJECT.c[axis] * value for axis, value in zip("xyz", middle.tolist(), strict=True)), sa.literal(0.0))
    moves, close = OBJECT.c.movingCell.is_not(None), towards >= OBJECT.c.weight * (1 - chord**2 / 2)
    source = SOURCE.alias()
    # By object: with the index over nights, a database would read the whole night for each object.
    of_night = sa.exists().where(source.c.diaObjectId == OBJECT.c.diaObjectId, source.c.night.concat("") == night)
    return sa.select(OBJECT.c.diaObjectId).where(
        sa.or_(*inside, *_cells(neighbours(own, order), order)), sa.or_(*inside, moves, close), of_night
    )


def _cells(pixels: NDArray[np.int64], order: int) -> list[sa.ColumnElement[bool]]:
    """Return conditions of which one holds for objects in the given pixels of an order, which are sorted."""
    first = np.flatnonzero(np.diff(pixels, prepend=-2) > 1)
    last, shift = np.append(first[1:], len(pixels)) - 1, 2 * (CELLS - order)
    limits = zip((pixels[first] << shift).tolist(), ((pixels[last] + 1 << shift) - 1).tolist(), strict=True)
    return [OBJECT.c.cell.between(*one) for one in limits]


def _is_refusal(key: ExposureKey) -> sa.ColumnElement[bool]:
    return (REFUSAL.c.visit == key.visit) & (REFUSAL.c.detector == key.detector)


def digest_of(record: ExposureRecord) -> str:
    """Return the digest of an exposure's associated detections: all, except those of known solar-system objects."""
    digests = [record.datasets[one.name].digest for one in (DIA_SOURCE, SS_SOURCE) if one.name in record.datasets]
    return digests[0] if len(digests) == 1 else digest(*digests)


@contextmanager
def opened_association(
    out: Path, settings: AssociationSettings, *, rebuild: bool = False
) -> Iterator[AssociationStore]:
    """Open the association store of an output folder, creating it if necessary; ``rebuild``: delete its content first.

    Raises
    ------
    Misconfigured
        The association is off (``no_association``), the store is damaged (``damaged_association``) or has another
        version (``other_version``), or it cannot be written.
    Retryable
        It does not answer (``association_down``), or another process keeps it locked (``lock_held``).
    """
    if (reason := off_because(out, settings)) is not None:
        raise Misconfigured("no_association", str(out), f"has no association: {reason}.", "set association.store.")
    if settings.store == "auto":
        path = out / FILE
        if rebuild:
            for name in (FILE, f"{FILE}-journal"):
                (out / name).unlink(missing_ok=True)
        store = AssociationStore(sqlite_engine(path), str(path), path)
    else:
        store = _of_server(settings.store)
    try:
        if rebuild and settings.store != "auto":
            store.clear()
        store.prepare()
        yield store
    finally:
        store.close()


@contextmanager
def association_as_it_is(out: Path, settings: AssociationSettings) -> Iterator[AssociationStore | None]:
    """Open the store for reading only, without creating or converting it; errors as in `opened_association`.

    Yields None if nothing is associated, or only by an earlier version, whose store the next run converts.
    """
    path = out / FILE if settings.store == "auto" else None
    if off_because(out, settings) is not None or (path is not None and not path.exists()):
        yield None
        return
    if path is not None:  # writable only so that SQLite can recover from a run that was killed during a change
        engine = sa.create_engine(
            f"sqlite:///file:{quote(str(path.absolute()))}?mode=rw&uri=true",
            connect_args={"timeout": WAIT_S},
            poolclass=sa.NullPool,
        )
        store = AssociationStore(engine, str(path), path)
    else:
        store = _of_server(settings.store)
    try:
        version = store.version()
        if version is not None and version not in (VERSION, *EARLIER):
            raise _other_version(store.where, version)
        yield store if version == VERSION else None
    finally:
        store.close()


def off_because(out: Path, settings: AssociationSettings) -> str | None:
    """Return why an output folder has no association; None if it has one."""
    if settings.store == "none":
        return "association.store is none"
    if settings.store == "auto" and isinstance(out, BucketPath):
        return "the output folder is in an object store, and association.store names no PostgreSQL"
    return None


class ObjectSeen(NamedTuple):
    """Object: its id, its detections as from `AssociationStore.of_object`, and objects that may be the same."""

    identity: int
    detections: pa.Table
    beside: list[int]


def object_of(out: Path, identity: int, settings: AssociationSettings) -> ObjectSeen | None:
    """Return the object with this id or this detection; None if no store knows it."""
    with suppress(NightstrideError), association_as_it_is(out, settings) as store:
        found = None if store is None else store.of_object(identity)
        if store is not None and found is not None:
            return ObjectSeen(*found, store.beside(found[0]))
    return None


def ending_of(out: Path, identity: int, settings: AssociationSettings) -> str | None:
    """Return how an object lost its last detection; None if it has any, or no store knows."""
    with suppress(NightstrideError), association_as_it_is(out, settings) as store:
        return None if store is None else store.endings([identity]).get(identity)
    return None


def _other_version(where: str, version: int) -> Misconfigured:
    return Misconfigured(
        "other_version", where, f"has schema version {version}, this nightstride reads version {VERSION}.",
        "use the version that wrote it, or make it again: `nightstride associate OUT --rebuild`.",
    )  # fmt: skip


def _of_server(url: str) -> AssociationStore:
    engine = postgresql_engine(url)
    return AssociationStore(engine, engine.url.render_as_string(hide_password=True), None)

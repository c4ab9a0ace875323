"""Store of the association: objects at rest, and the detections that they are, over all nights."""

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

_FINER = 4  # orders: pixels around a patch of at most 16 by 16 pixels are few
_AT_REST = 30.0  # arcsec: more than the mean position of what does not move changes by


class AssociationStore(AssociationDatabase):
    """Objects, their detections, the exposures that these are of, and what became of objects.

    A change is kept whole when its block ends, or not at all; one process writes at a time. An object that loses its
    last detection stays, with none, at its place: it is no longer published, and its id comes back with a detection
    there, or never. Each method raises as `opened_association` does.

    Parameters are those of `flows.storage.association_database.AssociationDatabase`.
    """

    def nights(self) -> dict[str, tuple[str, str]]:
        """Return night -> stamp of the ledger when it was last associated, and digest of its association."""
        return {one.night: (one.stamp, one.digest) for one in self.rows(sa.select(NIGHT).order_by(NIGHT.c.night))}

    def visits(self, night: str, visit: int | None = None) -> dict[ExposureKey, str]:
        """Return the associated exposures of a night, or of a visit of it, with the digests of their detections."""
        wanted = sa.select(VISIT).where(VISIT.c.night == night)
        found = self.rows(wanted if visit is None else wanted.where(VISIT.c.visit == visit))
        return {ExposureKey(night=night, visit=one.visit, detector=one.detector): one.digest for one in found}

    def made_from(self, key: ExposureKey) -> str | None:
        """Return the digest of what is associated of an exposure; None: nothing is."""
        where = [VISIT.c[name] == getattr(key, name) for name in ("night", "visit", "detector")]
        found = self.rows(sa.select(VISIT.c.digest).where(*where))
        return str(found[0].digest) if found else None

    def refuse(self, key: ExposureKey, made_from: str, error: BadInput) -> None:
        """Note why an exposure, with the digest of its detections, cannot be associated, until it is."""
        named = {name: getattr(error, name) for name in ("code", "where", "problem", "remedy")}
        with self.change() as connection:
            connection.execute(REFUSAL.delete().where(_is_refusal(key)))
            row = {"visit": key.visit, "detector": key.detector, "digest": made_from, **named}
            connection.execute(REFUSAL.insert().values(**row))

    def refusal(self, key: ExposureKey, made_from: str) -> BadInput | None:
        """Return why an exposure cannot be associated as its detections are; None: that is not known."""
        found = self.rows(sa.select(REFUSAL).where(_is_refusal(key), REFUSAL.c.digest == made_from))
        return (
            BadInput(*(getattr(found[0], name) for name in ("code", "where", "problem", "remedy"))) if found else None
        )

    def events(self) -> list[tuple[str, int]]:
        """Return what became of objects, in order: kind (removed, restored, renamed, beside) and diaObjectId."""
        found = self.rows(sa.select(EVENT.c.kind, EVENT.c.diaObjectId).order_by(EVENT.c.event))
        return [(one.kind, one.diaObjectId) for one in found]

    def beside(self, identity: int) -> list[int]:
        """Return the objects that an object was seen beside, so near that both may be one; sorted."""
        pairs = ((EVENT.c.diaObjectId, EVENT.c.otherId), (EVENT.c.otherId, EVENT.c.diaObjectId))
        found = [self.rows(sa.select(other).where(own == identity, EVENT.c.kind == "beside")) for own, other in pairs]
        return sorted({int(row[0]) for rows in found for row in rows})

    def history(self, night: str, patch: Patch | None = None) -> pa.Table:
        """Return the detections up to a night of the objects that were seen in it, of `ASSOCIATION`, by object.

        Parameters
        ----------
        night
            Label.
        patch
            Part of the sky: of the objects whose mean position up to the night may lie in it, or within its margin;
            None: of all.
        """
        seen = _seen(night) if patch is None else _seen_near(night, patch)
        columns = [SOURCE.c[name] for name in ASSOCIATION.schema.names]
        wanted = sa.select(*columns).where(SOURCE.c.diaObjectId.in_(seen), SOURCE.c.night <= night)
        return self.table(wanted.order_by(SOURCE.c.diaObjectId, SOURCE.c.diaSourceId), ASSOCIATION)

    def history_rows(self, night: str, patch: Patch) -> int:
        """Return the number of detections, on all nights, of the objects of which `history` has some."""
        near = OBJECT.c.diaObjectId.in_(_seen_near(night, patch))
        return int(self.rows(sa.select(sa.func.coalesce(sa.func.sum(OBJECT.c.nDiaSources), 0)).where(near))[0][0])

    def of_exposure(self, key: ExposureKey) -> pa.Table:
        """Return the detections, of all nights, of the objects that were seen on an exposure, of `ASSOCIATION`."""
        seen = sa.select(SOURCE.c.diaObjectId).where(SOURCE.c.diaSourceId.between(*source_ids(key))).distinct()
        columns = [SOURCE.c[name] for name in ASSOCIATION.schema.names]
        wanted = sa.select(*columns).where(SOURCE.c.diaObjectId.in_(seen))
        wanted = wanted.order_by(SOURCE.c.diaObjectId, SOURCE.c.midpointMjdTai, SOURCE.c.diaSourceId)
        return self.table(wanted, ASSOCIATION)

    def of_object(self, identity: int) -> tuple[int, pa.Table] | None:
        """Return an object and its detections by time, by its id or that of a detection; None: neither is known."""
        source = self.rows(sa.select(SOURCE.c.diaObjectId).where(SOURCE.c.diaSourceId == identity))
        identity = source[0][0] if source else identity
        found = self.detections(identity)
        return (identity, found) if len(found) else None

    def detections(self, identity: int) -> pa.Table:
        """Return the detections of an object, of `ASSOCIATION`, by time.

        One of its id may be of another object: exposures that are searched again give their ids anew.
        """
        columns = [SOURCE.c[name] for name in ASSOCIATION.schema.names]
        wanted = sa.select(*columns).where(SOURCE.c.diaObjectId == identity)
        return self.table(wanted.order_by(SOURCE.c.midpointMjdTai, SOURCE.c.diaSourceId), ASSOCIATION)

    def identities(self) -> frozenset[int]:
        """Return the ids of all objects, those without detections among them."""
        return frozenset(row[0] for row in self.rows(sa.select(OBJECT.c.diaObjectId)))

    def detections_of(self, ids: Collection[int]) -> dict[int, int]:
        """Return those of some ids that objects have, or had, with their numbers of detections; 0: it has ended."""
        columns = (OBJECT.c.diaObjectId, OBJECT.c.nDiaSources)
        with self.reading() as connection:
            return {one[0]: one[1] for one in selected(connection, columns, OBJECT.c.diaObjectId, ids)}

    def endings(self, ids: Collection[int]) -> dict[int, str]:
        """Return how those of some objects that have no detection any more have lost the last one."""
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
        """Return the number of objects with detections, and of their detections."""
        objects = sa.select(sa.func.count()).select_from(OBJECT).where(OBJECT.c.nDiaSources > 0)
        sources = sa.select(sa.func.count()).select_from(SOURCE)
        return self.rows(objects)[0][0], self.rows(sources)[0][0]

    def associate(self, key: ExposureKey, made_from: str, found: pa.Table, settings: AssociationSettings) -> Associated:
        """Associate the detections of an exposure, in one transaction; what it had before is replaced.

        Parameters
        ----------
        key, made_from
            The exposure, and the digest of its detections.
        found
            Its `dia_source`.
        settings
            How near a detection has to be.
        """
        rows = usable_detections(found, settings.min_trail_arcsec)
        with self.matching(settings, key.night) as connection:
            connection.execute(REFUSAL.delete().where(_is_refusal(key)))
            return ExposureLinks(connection, key).associate(made_from, rows, len(found), settings)

    def withdraw(self, key: ExposureKey) -> None:
        """Take an exposure that is not published any more out of its objects."""
        with self.change() as connection:
            ExposureLinks(connection, key).withdraw()

    def settle(self, night: str, stamp: str) -> None:
        """Note that a night is associated as the ledger has it at a stamp."""
        columns = (SOURCE.c.diaSourceId, SOURCE.c.diaObjectId)
        links = self.rows(sa.select(*columns).where(SOURCE.c.night == night).order_by(SOURCE.c.diaSourceId))
        visits = sorted((key.name, made_from) for key, made_from in self.visits(night).items())
        with self.change() as connection:
            connection.execute(NIGHT.delete().where(NIGHT.c.night == night))
            now = digest(repr([tuple(one) for one in links]), repr(visits))
            connection.execute(NIGHT.insert().values(night=night, stamp=stamp, digest=now))

    def prepare(self) -> None:
        """Make the tables where there are none, convert those of an earlier version, and refuse those of another."""
        version = self.version()
        if version is None or version in EARLIER:
            with self.change() as connection:  # somebody else may have done so meanwhile
                version = brought_up(connection)
        if version != VERSION:
            raise _other_version(self.where, version)

    def version(self) -> int | None:
        """Return the version of its tables; None: there are none."""
        with self.reading() as connection:
            return version_of(connection)

    def contradictions(self) -> list[str]:
        """Return what is wrong with the tables by themselves, a phrase each; all of them are read."""
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
        """Drop all that it holds, of whatever version."""
        with self.change() as connection:
            TABLES.drop_all(connection)
            brought_up(connection)


def _seen(night: str) -> sa.Select[tuple[int]]:
    return sa.select(SOURCE.c.diaObjectId).where(SOURCE.c.night == night).distinct()


def _seen_near(night: str, patch: Patch) -> sa.Select[tuple[int]]:
    """Return the objects that were seen in a night and are, by all their detections, near a patch.

    Their mean positions up to the night may be elsewhere: of what is at rest by some arcsec, of what moves by less than
    the 4 arcmin that the pixels around the patch are wide.
    """
    order = min(COVER_ORDER, patch.order + _FINER)
    own = patch.parts(order)
    inside = _cells(own, order)
    middle, chord = patch.circle(patch.margin + _AT_REST)
    towards = sum((OBJECT.c[axis] * value for axis, value in zip("xyz", middle.tolist(), strict=True)), sa.literal(0.0))
    moves, close = OBJECT.c.movingCell.is_not(None), towards >= OBJECT.c.weight * (1 - chord**2 / 2)
    source = SOURCE.alias()
    # By their objects: of the index by nights a database would read the whole night, for each of them.
    of_night = sa.exists().where(source.c.diaObjectId == OBJECT.c.diaObjectId, source.c.night.concat("") == night)
    return sa.select(OBJECT.c.diaObjectId).where(
        sa.or_(*inside, *_cells(neighbours(own, order), order)), sa.or_(*inside, moves, close), of_night
    )


def _cells(pixels: NDArray[np.int64], order: int) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of which one holds for an object that lies in pixels of an order, which are sorted."""
    first = np.flatnonzero(np.diff(pixels, prepend=-2) > 1)
    last, shift = np.append(first[1:], len(pixels)) - 1, 2 * (CELLS - order)
    limits = zip((pixels[first] << shift).tolist(), ((pixels[last] + 1 << shift) - 1).tolist(), strict=True)
    return [OBJECT.c.cell.between(*one) for one in limits]


def _is_refusal(key: ExposureKey) -> sa.ColumnElement[bool]:
    return (REFUSAL.c.visit == key.visit) & (REFUSAL.c.detector == key.detector)


def digest_of(record: ExposureRecord) -> str:
    """Return the digest of what is associated of an exposure: its detections, less those of known objects."""
    digests = [record.datasets[one.name].digest for one in (DIA_SOURCE, SS_SOURCE) if one.name in record.datasets]
    return digests[0] if len(digests) == 1 else digest(*digests)


@contextmanager
def opened_association(
    out: Path, settings: AssociationSettings, *, rebuild: bool = False
) -> Iterator[AssociationStore]:
    """Open the store of an output folder, which is made if need be; ``rebuild``: without what it holds.

    Raises
    ------
    Misconfigured
        It is off (``no_association``), damaged (``damaged_association``), of another version (``other_version``), or
        may not be written.
    Retryable
        It does not answer (``association_down``), or somebody has kept it locked (``lock_held``).
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
    """Open what is known of objects to read it, without making or converting anything; errors as `opened_association`.

    None: nothing is associated, or by an earlier version, whose store the next run converts.
    """
    path = out / FILE if settings.store == "auto" else None
    if off_because(out, settings) is not None or (path is not None and not path.exists()):
        yield None
        return
    if path is not None:  # to be written only by SQLite itself, where a run was killed in the middle of a change
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
    """Return why nothing is associated in an output folder; None if it is."""
    if settings.store == "none":
        return "association.store is none"
    if settings.store == "auto" and isinstance(out, BucketPath):
        return "the output folder is in an object store, and association.store names no PostgreSQL"
    return None


class ObjectSeen(NamedTuple):
    """Object: its id, its detections as `AssociationStore.of_object` has them, and objects that may be the same."""

    identity: int
    detections: pa.Table
    beside: list[int]


def object_of(out: Path, identity: int, settings: AssociationSettings) -> ObjectSeen | None:
    """Return the object of a detection, or of an id; None where no store says."""
    with suppress(NightstrideError), association_as_it_is(out, settings) as store:
        found = None if store is None else store.of_object(identity)
        if store is not None and found is not None:
            return ObjectSeen(*found, store.beside(found[0]))
    return None


def ending_of(out: Path, identity: int, settings: AssociationSettings) -> str | None:
    """Return how an object has lost its last detection; None where it has some, or no store says."""
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

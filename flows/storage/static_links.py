"""Links between the objects of a night and permanent objects, in one transaction on the association store."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from flows.storage.association_tables import (
    SEEN,
    STATIC,
    STATIC_EVENT,
    STATIC_NIGHT,
    SUMS,
    PlacedObjects,
    execute_rows,
    objects_near,
    selected,
)
from flows.storage.digest import digest
from kernels.linking.association import (
    Reach,
    match_places,
    pairs_beside,
    position_sigma,
)
from kernels.linking.proper_motion import motion_sums
from kernels.sky.positions import sky_position, unit_vectors
from kernels.sky.times import night_begin
from schemas.settings import AssociationSettings
from schemas.static_object import FLUXES

_PART = 20_000  # objects processed at a time
_STATE = (STATIC.c.staticObjectId, *(STATIC.c[name] for name in SUMS), STATIC.c.nNights, STATIC.c.nNights,
          STATIC.c.firstMjd, STATIC.c.lastMjd)  # fmt: skip
"""Columns in the order of `flows.storage.association_tables.STATE`; an object is seen once per night."""


class PatchObjects(NamedTuple):
    """Objects of a patch in a night, and objects around it that compete for matches: tables of `object`."""

    own: pa.Table
    around: pa.Table


class _Rows(NamedTuple):
    """Objects of a night: ids, positions (deg), unit vectors, errors (arcsec), and which belong to the patch."""

    ids: NDArray[np.int64]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    vectors: NDArray[np.float64]
    sigma: NDArray[np.float64]
    own: NDArray[np.bool_]


def midnight_of(night: str) -> float:
    """Return the midnight of a night at Greenwich, MJD: at most 0.75 d from any of its exposures."""
    return night_begin(datetime.strptime(night, "%Y%m%d").date(), 0.0) + 0.5


class StaticLinks:
    """Links of the objects of a night, in one transaction.

    The links do not depend on how the night is divided into patches: objects are matched with those known before the
    night, and objects around a patch take part.

    Parameters
    ----------
    connection
        Connection in a writing transaction.
    night
        Label of the night.
    """

    def __init__(self, connection: sa.Connection, night: str) -> None:
        self._connection, self._night, self._mjd = connection, night, midnight_of(night)
        self._now = datetime.now(UTC).isoformat(timespec="seconds")

    def associate(
        self, made_from: str, patches: Iterable[PatchObjects], settings: AssociationSettings
    ) -> tuple[int, int]:
        """Associate the objects of the night, replacing earlier links.

        Parameters
        ----------
        made_from
            Digest of its objects.
        patches
            Its objects, each in one patch.
        settings
            How close objects of different nights must be.

        Returns
        -------
        known, new : int
            Numbers of existing objects that were seen, and of objects that the night began.
        """
        before = self._taken_out()
        known, new = set[int](), set[int]()
        for patch in patches:
            found, begun = self._linked(_rows(patch), patch.own, settings, known, new)
            known |= found
            new |= begun
        self._note("restored", self._emptied(known - before))
        self._join(sorted(known), sorted(new))
        self._note_beside(new, settings.max_arcsec)
        self._note("removed", self._emptied(before))
        rows = self._connection.execute(
            sa.select(SEEN.c.objectId, SEEN.c.staticObjectId)
            .where(SEEN.c.night == self._night)
            .order_by(SEEN.c.objectId)
        )
        links = digest(made_from, *(digest(repr([tuple(one) for one in part])) for part in rows.partitions(_PART)))
        self._connection.execute(STATIC_NIGHT.insert().values(night=self._night, madeFrom=made_from, digest=links))
        return len(known), len(new)

    def withdraw(self) -> None:
        """Remove the night."""
        self._note("removed", self._emptied(self._taken_out()))

    def _taken_out(self) -> set[int]:
        """Remove the night's objects; return the permanent objects affected, which are updated."""
        of_night = SEEN.c.night == self._night
        before = sorted(self._connection.scalars(sa.select(SEEN.c.staticObjectId).where(of_night)))
        self._connection.execute(SEEN.delete().where(of_night))
        self._connection.execute(STATIC_NIGHT.delete().where(STATIC_NIGHT.c.night == self._night))
        for first in range(0, len(before), _PART):
            self._recount(before[first : first + _PART])
        return set(before)

    def _recount(self, ids: Sequence[int]) -> None:
        """Recompute objects from their nights; an object without any keeps its position."""
        left = self._counted(ids)
        self._put(left)
        self._update([{"of": one, "nNights": 0} for one in sorted({*ids}.difference(left.ids.tolist()))])

    def _counted(self, ids: Sequence[int], also: sa.ColumnElement[bool] | None = None) -> PlacedObjects:
        """Return the state of objects from the nights in which they were seen; ``also``: condition on nights."""
        names = ("staticObjectId", "mjd", "weight", "x", "y", "z")
        rows = selected(self._connection, [SEEN.c[name] for name in names], SEEN.c.staticObjectId, ids, also=also)
        found, group = np.unique(np.array([one[0] for one in rows], np.int64), return_inverse=True)
        mjd, weight, *place = np.array([tuple(one[1:]) for one in rows], np.float64).reshape(-1, 5).T
        sums, count = np.zeros((len(found), 9)), np.bincount(group, minlength=len(found))
        first, last = np.full(len(found), np.inf), np.full(len(found), -np.inf)
        np.add.at(sums, group, motion_sums(np.stack(place, axis=1), weight, mjd))
        np.minimum.at(first, group, mjd)
        np.maximum.at(last, group, mjd)
        return PlacedObjects(found, sums, count, count, first, last)

    def _linked(
        self, rows: _Rows, table: pa.Table, settings: AssociationSettings, known: Collection[int], new: Collection[int]
    ) -> tuple[set[int], set[int]]:
        """Insert the patch's own objects; return the permanent objects that they are: known ones and new ones.

        Parameters
        ----------
        rows, table, settings
            Objects of the patch and around it, its own objects, and how close objects of different nights must be.
        known, new
            Permanent objects that the night already has. Patches made from different exposures may both contain an
            object on their border: then it becomes two objects rather than none.
        """
        near = objects_near(self._connection, _STATE, rows.ra, rows.dec, settings.max_arcsec)
        motions, moving = near.motions()
        reach = Reach(settings.sigmas, settings.min_arcsec, settings.max_arcsec)
        pairs = match_places(rows.vectors, rows.sigma, *motions.at(self._mjd, moving), near.number, reach)
        lasting = np.full(len(rows.ids), -1, np.int64)
        lasting[pairs.rows] = near.ids[pairs.which]
        lasting[np.isin(lasting, [one for one in near.ids.tolist() if one in known])] = -1
        first = np.flatnonzero((lasting < 0) & rows.own)
        lasting[first] = self._free(rows.ids[first].tolist(), new)
        fluxes = table.select(FLUXES).to_pylist()
        columns = (lasting, rows.ids, *rows.vectors.T, rows.sigma**-2)
        own = zip(*(one[rows.own].tolist() for one in columns), strict=True)
        names = ("staticObjectId", "objectId", "x", "y", "z", "weight")
        label = {"night": self._night, "mjd": self._mjd}
        made = [{**dict(zip(names, row, strict=True)), **label, **flux} for row, flux in zip(own, fluxes, strict=True)]
        execute_rows(self._connection, SEEN.insert(), made)
        begun = set(lasting[first].tolist())
        return set(lasting[rows.own].tolist()) - begun, begun

    def _free(self, wanted: list[int], taken: Collection[int]) -> list[int]:
        """Return ids for new objects: those of the night, or the next free id if a permanent object has it."""
        used, found = {*taken, *self._known(wanted)}, list[int]()
        for one in wanted:
            identity = one
            while identity in used or (identity != one and (identity in wanted or self._known([identity]))):
                identity += 1
            if identity != one:
                self._note("renamed", [identity])
            used.add(identity)
            found.append(identity)
        return found

    def _known(self, ids: Collection[int]) -> set[int]:
        """Return those ids that belong to permanent objects."""
        return {one[0] for one in selected(self._connection, _STATE[:1], STATIC.c.staticObjectId, ids)}

    def _join(self, known: Sequence[int], new: Sequence[int]) -> None:
        """Add the night to known permanent objects, and create the new ones."""
        tonight = SEEN.c.night == self._night
        for first in range(0, len(new), _PART):
            execute_rows(self._connection, STATIC.insert(), _values(self._counted(new[first : first + _PART], tonight)))
        for first in range(0, len(known), _PART):
            part = known[first : first + _PART]
            rows = selected(self._connection, _STATE, STATIC.c.staticObjectId, part)
            added = self._counted(part, tonight)
            there = PlacedObjects.read(sorted((tuple(one) for one in rows), key=lambda one: one[0]))
            self._put(there.joined(np.arange(len(part)), added.sums, added.first))

    def _put(self, objects: PlacedObjects) -> None:
        self._update([{"of": one.pop("staticObjectId"), **one} for one in _values(objects)])

    def _update(self, rows: Sequence[Mapping[str, Any]]) -> None:
        execute_rows(self._connection, STATIC.update().where(STATIC.c.staticObjectId == sa.bindparam("of")), rows)

    def _emptied(self, ids: Collection[int]) -> list[int]:
        """Return those of the objects that are left without nights, sorted."""
        empty = STATIC.c.nNights == 0
        return sorted(
            one[0] for one in selected(self._connection, _STATE[:1], STATIC.c.staticObjectId, ids, also=empty)
        )

    def _note_beside(self, new: Collection[int], arcsec: float) -> None:
        """Record new objects so close to another that both may be one, split or blended in one of the nights."""
        every = sorted(new)
        for first in range(0, len(every), _PART):
            part = set(every[first : first + _PART])
            begun = selected(self._connection, _STATE, STATIC.c.staticObjectId, part)
            ra, dec = sky_position(PlacedObjects.read(begun).motions()[0].place)
            near = objects_near(self._connection, _STATE, ra, dec, arcsec)
            alive = np.flatnonzero(near.number > 0)
            ids = near.ids[alive]
            touched = np.isin(ids, list(part))
            for one, other in zip(*pairs_beside(near.motions()[0].place[alive], touched, arcsec), strict=True):
                earlier, later = sorted((int(ids[one]), int(ids[other])), key=lambda n: (n in new, n))
                if later in part:  # else in that of the later one
                    self._note("beside", [later], earlier)

    def _note(self, kind: str, ids: Iterable[int], other: int | None = None) -> None:
        label = {"kind": kind, "night": self._night, "at": self._now, "otherId": other}
        execute_rows(self._connection, STATIC_EVENT.insert(), [{**label, "staticObjectId": one} for one in ids])


def _rows(patch: PatchObjects) -> _Rows:
    """Return the objects of a patch, followed by those around it."""
    found = pa.concat_tables(one.select(["objectId", "ra", "dec", "posErr"]) for one in patch)
    ra, dec, error = (found[name].to_numpy().astype(np.float64) for name in ("ra", "dec", "posErr"))
    sigma = position_sigma(error / 3600, error / 3600)
    own = np.arange(len(found)) < len(patch.own)
    return _Rows(found["objectId"].to_numpy(), ra, dec, unit_vectors(ra, dec), sigma, own)


def _values(objects: PlacedObjects) -> list[dict[str, Any]]:
    """Return objects as rows of the table."""
    same = ("cell", *SUMS, "movingCell")
    names = {"staticObjectId": "diaObjectId", "nNights": "nDiaSources"}
    names |= {"firstMjd": "firstDiaSourceMjdTai", "lastMjd": "lastDiaSourceMjdTai"}
    return [
        {**{name: one[name] for name in same}, **{ours: one[theirs] for ours, theirs in names.items()}}
        for one in objects.values()
    ]

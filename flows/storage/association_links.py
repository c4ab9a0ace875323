"""Links between the detections of an exposure and objects at rest, in one transaction."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from flows.storage.association_tables import (
    EVENT,
    OBJECT,
    SOURCE,
    STATE,
    VISIT,
    PlacedObjects,
    execute_rows,
    objects_near,
    recount,
    selected,
    update_objects,
)
from kernels.linking.association import (
    PlaceMatches,
    Reach,
    is_trail,
    match_places,
    pairs_beside,
    position_sigma,
)
from kernels.linking.proper_motion import ORIGIN, motion_sums
from kernels.sky.positions import unit_vectors
from schemas.errors import BadInput
from schemas.exposure import ExposureKey
from schemas.settings import AssociationSettings

_RANKS = 1 << 12


class Associated(NamedTuple):
    """Numbers of an exposure's detections: of known objects, of new objects, and of none."""

    known: int
    new: int
    left_out: int


class UsableDetections(NamedTuple):
    """Detections of an exposure that may belong to objects, by id; ``values`` are rows of the table of links."""

    ids: NDArray[np.int64]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    vectors: NDArray[np.float64]
    sigma: NDArray[np.float64]
    mjd: NDArray[np.float64]
    values: list[dict[str, Any]]

    @property
    def sums(self) -> NDArray[np.float64]:
        """Return the sums to which motions are fitted, (n, 9)."""
        return motion_sums(self.vectors, self.sigma**-2, self.mjd)


def usable_detections(found: pa.Table, least_trail: float) -> UsableDetections:
    """Return the detections that have a position and are not trails."""
    found = found.sort_by("diaSourceId")

    def numbers(name: str) -> NDArray[np.float64]:
        return found[name].to_numpy().astype(np.float64)

    ra, dec = numbers("ra"), numbers("dec")
    named = np.array([bool(one) for one in found["trailClass"].to_pylist()], np.bool_)
    trail = is_trail(numbers("trailLength"), numbers("trailLengthErr"), least_trail) | named
    good = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec) & ~trail)
    kept, ra, dec = found.take(good), ra[good], dec[good]
    sigma = position_sigma(numbers("raErr")[good], numbers("decErr")[good])
    vectors = unit_vectors(ra, dec)
    values = kept.select(["diaSourceId", "midpointMjdTai", "band", "psfFlux", "psfFluxErr"]).to_pylist()
    for row, vector, weight in zip(values, vectors.tolist(), (sigma**-2).tolist(), strict=True):
        row |= {**dict(zip("xyz", vector, strict=True)), "weight": weight}
    mjd = kept["midpointMjdTai"].to_numpy()
    return UsableDetections(kept["diaSourceId"].to_numpy(), ra, dec, vectors, sigma, mjd, values)


def source_ids(key: ExposureKey) -> tuple[int, int]:
    """Return the first and last diaSourceId that detections of an exposure can have."""
    first = (key.visit << 21) | (key.detector << 12)
    return first, first + _RANKS - 1


class ExposureLinks:
    """Links of an exposure in one transaction.

    Parameters
    ----------
    connection
        Connection in a writing transaction.
    key
        Exposure.
    """

    def __init__(self, connection: sa.Connection, key: ExposureKey) -> None:
        self._connection, self._key = connection, key
        self._ids = source_ids(key)
        self._now = datetime.now(UTC).isoformat(timespec="seconds")

    def associate(self, made_from: str, rows: UsableDetections, seen: int, settings: AssociationSettings) -> Associated:
        """Associate the detections of the exposure, replacing earlier links.

        Parameters
        ----------
        made_from
            Digest of its detections.
        rows, seen
            Detections that may belong to objects, and the number of all detections.
        settings
            How close a detection must be to an object.

        Raises
        ------
        BadInput
            No id is left for its objects (``no_id_left``).
        """
        before = self._taken_out()
        near = objects_near(
            self._connection, [OBJECT.c[name] for name in STATE], rows.ra, rows.dec, settings.max_arcsec
        )
        reach = Reach(settings.sigmas, settings.min_arcsec, settings.max_arcsec)
        motions, moving = near.motions()
        places = motions.at(float(rows.mjd[0]) if len(rows.ids) else ORIGIN, moving)
        pairs = match_places(rows.vectors, rows.sigma, *places, near.number, reach)
        object_of, apart = np.full(len(rows.ids), -1, np.int64), np.zeros(len(rows.ids))
        object_of[pairs.rows], apart[pairs.rows] = near.ids[pairs.which], pairs.separation
        self._join(rows, pairs, near)
        new = np.flatnonzero(object_of < 0)
        object_of[new] = self._begun(rows, new)
        links = zip(rows.values, object_of.tolist(), apart.tolist(), strict=True)
        own = {"night": self._key.night}
        made = [{**row, **own, "diaObjectId": one, "separation": far} for row, one, far in links]
        execute_rows(self._connection, SOURCE.insert(), made)
        self._events("removed", self._empty(before))
        self._events("restored", set(near.ids[pairs.which][near.number[pairs.which] == 0].tolist()) - before)
        self._note_beside(near, places[0], pairs.which, rows, new, object_of[new], settings.min_arcsec)
        self._put_visit(made_from)
        return Associated(len(pairs.rows), len(new), seen - len(rows.ids))

    def _note_beside(
        self,
        near: "PlacedObjects",
        places: NDArray[np.float64],
        seen: NDArray[np.int64],
        rows: UsableDetections,
        new: NDArray[np.int64],
        begun: NDArray[np.int64],
        arcsec: float,
    ) -> None:
        """Record pairs of objects so close on the exposure that both may be one, each pair once.

        Parameters
        ----------
        near, places, seen
            Objects near the detections, their positions at the time, and indices of those that were detected.
        rows, new, begun
            Detections, indices of those that began an object, and the ids of these objects.
        arcsec
            Largest separation, arcsec.
        """
        touched = np.zeros(len(near.ids) + len(new), np.bool_)
        touched[seen], touched[len(near.ids) :] = True, True
        alive = np.flatnonzero(np.append(near.number > 0, np.ones(len(new), np.bool_)) | touched)
        ids = np.append(near.ids, begun)[alive]
        began = np.append(near.first, rows.mjd[new])[alive]
        where = np.concatenate([places.reshape(-1, 3), rows.vectors[new]])[alive]
        pairs = set[tuple[int, int]]()
        for one, other in zip(*pairs_beside(where, touched[alive], arcsec), strict=True):
            earlier, later = sorted((one, other), key=lambda n: (began[n], ids[n]))
            pairs.add((int(ids[later]), int(ids[earlier])))
        if not pairs:
            return
        known = selected(
            self._connection, [EVENT.c.diaObjectId, EVENT.c.otherId], EVENT.c.diaObjectId, {one for one, _ in pairs}
        )
        for identity, other in sorted(pairs - {(one[0], one[1]) for one in known}):
            self._event("beside", identity, other)

    def withdraw(self) -> None:
        """Remove the exposure."""
        self._events("removed", self._empty(self._taken_out()))

    def _taken_out(self) -> set[int]:
        """Remove the exposure and its detections; return the objects affected, which are updated."""
        of_exposure = SOURCE.c.diaSourceId.between(*self._ids)
        before = set(self._connection.scalars(sa.select(SOURCE.c.diaObjectId).where(of_exposure)))
        if before:
            self._connection.execute(SOURCE.delete().where(of_exposure))
            self._refresh(before)
        self._connection.execute(VISIT.delete().where(self._is_visit))
        return before

    @property
    def _is_visit(self) -> sa.ColumnElement[bool]:
        return (VISIT.c.visit == self._key.visit) & (VISIT.c.detector == self._key.detector)

    def _join(self, rows: UsableDetections, pairs: PlaceMatches, near: "PlacedObjects") -> None:
        """Add detections to their objects; an object without detections starts anew."""
        changed = near.joined(pairs.which, rows.sums[pairs.rows], rows.mjd[pairs.rows])
        update_objects(self._connection, [{"of": one.pop("diaObjectId"), **one} for one in changed.values()])

    def _begun(self, rows: UsableDetections, new: NDArray[np.int64]) -> list[int]:
        """Create an object for each of the given detections; return the ids."""
        taken = set(
            self._connection.scalars(sa.select(OBJECT.c.diaObjectId).where(OBJECT.c.diaObjectId.between(*self._ids)))
        )
        spare = iter(
            one for one in range(self._ids[1], self._ids[0] - 1, -1) if one not in taken | set(rows.ids.tolist())
        )
        made = []
        for n in new.tolist():
            source = identity = int(rows.ids[n])
            if identity in taken:  # taken by an object of an earlier search of the exposure
                identity = next(spare, -1)
                if identity < 0:
                    raise BadInput(
                        "no_id_left", f"exposure {self._key.name}", "was searched again so often that no id is left.",
                        "run `nightstride associate OUT --rebuild`.",
                    )  # fmt: skip
                self._event("renamed", identity)
            made.append((identity, source))
        ids = np.array([identity for identity, _ in made], np.int64)
        one = np.ones(len(new), np.int64)
        begun = PlacedObjects(ids, rows.sums[new], one, one, rows.mjd[new], rows.mjd[new])
        objects = [{**one, "createdBy": source} for one, (_, source) in zip(begun.values(), made, strict=True)]
        execute_rows(self._connection, OBJECT.insert(), objects)
        return ids.tolist()

    def _refresh(self, ids: Collection[int]) -> None:
        """Update objects that have lost a detection; an object without any keeps its position."""
        left = recount(self._connection, ids)
        update_objects(self._connection, [{"of": one, "nDiaSources": 0} for one in sorted(set(ids) - left)])

    def _empty(self, ids: Collection[int]) -> set[int]:
        """Return those of the objects that have no detections."""
        found = selected(self._connection, [OBJECT.c.diaObjectId, OBJECT.c.nDiaSources], OBJECT.c.diaObjectId, ids)
        return {one[0] for one in found if one[1] == 0}

    def _events(self, kind: str, ids: Collection[int]) -> None:
        for identity in sorted(ids):
            self._event(kind, identity)

    def _event(self, kind: str, identity: int, other: int | None = None) -> None:
        row = {"kind": kind, "diaObjectId": identity, "otherId": other}
        row |= {"visit": self._key.visit, "detector": self._key.detector}
        self._connection.execute(EVENT.insert().values(**row, at=self._now))

    def _put_visit(self, made_from: str) -> None:
        row = {**self._key.model_dump(), "digest": made_from, "associatedAt": self._now}
        self._connection.execute(VISIT.insert().values(**row))

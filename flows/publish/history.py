"""History of the objects of an exposure: earlier detections, and forced fluxes at their positions."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.publish.avro_rows import Encoded, ids_or_null
from flows.publish.published import PublishedExposures
from flows.publish.rubin_object import encode_objects
from flows.publish.rubin_source import encode_sources
from flows.storage.association_links import source_ids
from flows.storage.association_store import digest_of, off_because, opened_association
from flows.storage.association_tables import FILE
from flows.storage.catalog_parts import entries, is_part
from flows.storage.catalog_store import CatalogStore, read_table
from flows.storage.digest import digest
from kernels.sky.positions import unit_vectors
from schemas.dia_object import ASSOCIATION
from schemas.dia_source import exposure_of
from schemas.errors import BadInput, Retryable
from schemas.exposure import ExposureKey, key_of
from schemas.forced import FORCED_SOURCE
from schemas.ledger import ExposureRecord
from schemas.settings import AssociationSettings
from schemas.stage import Context
from stages.gather_dia_objects import gather_dia_objects

if TYPE_CHECKING:
    from flows.storage.association_store import AssociationStore

NOT_ASSOCIATED = "not_associated"
"""Code of an exposure that is not yet associated with objects."""

_FORCED = ("visit", "detector", "band", "midpointMjdTai", "ra", "dec", "psfFlux", "psfFluxErr")


@dataclass(frozen=True)
class ObjectsSeen:
    """Stationary objects seen on an exposure, as known at that time.

    Attributes
    ----------
    of_source
        diaSourceId -> diaObjectId.
    records, sources, forced
        diaObjectId -> record of the object, of its earlier detections by time, and of earlier forced fluxes by time;
        in the format of Rubin.
    """

    of_source: dict[int, int] = field(default_factory=dict)
    records: dict[int, Encoded] = field(default_factory=dict)
    sources: dict[int, list[Encoded]] = field(default_factory=dict)
    forced: dict[int, list[dict[str, Any]]] = field(default_factory=dict)


@contextmanager
def opened_history(
    published: PublishedExposures,
    settings: AssociationSettings,
    days: float,
    version: str,
    lack: Callable[[BadInput], object] = lambda _: None,
    *,
    complete: bool = False,
) -> Iterator["History"]:
    """Open the histories of objects; they are empty if there is no association.

    Parameters
    ----------
    published
        Published results of an output folder.
    settings
        Settings with the location of the association.
    days
        Length of the histories, days.
    version
        Version of the schema of the records.
    lack
        Receives the reasons why detections are missing in histories: their catalogue cannot be read.
    complete
        Whether it is an error if an exposure is not associated as published.

    Raises
    ------
    Misconfigured, Retryable
        As in `opened_association`.
    """
    out = published.out
    off = off_because(out, settings) is not None
    if off or (settings.store == "auto" and not complete and not (out / FILE).exists()):
        yield History(published, None, None, days, version, lack)
        return
    forced = ForcedPlaces.of(published, settings.min_arcsec, lack)
    with opened_association(out, settings) as store:
        yield History(published, store, forced, days, version, lack, complete=complete)


def visit_digests(
    published: PublishedExposures, settings: AssociationSettings, visits: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], str]:
    """Return night and visit -> digest of the inputs of its alerts: its exposures and their association.

    Raises
    ------
    Misconfigured, Retryable
        As in `opened_association`.
    """
    off, found = off_because(published.out, settings) is not None, dict[tuple[str, int], str]()
    with nullcontext() if off else opened_association(published.out, settings) as store:
        for night, visit in visits:
            parts = [
                (one.name, digest_of(one), None if store is None else store.made_from(one.key))
                for one in published.exposures(night, visit)
            ]
            found[night, visit] = digest(repr(sorted(parts)))
    return found


def require_associated(store: "AssociationStore", record: ExposureRecord) -> None:
    """Refuse an exposure whose objects are not known.

    Raises
    ------
    Retryable
        The exposure is not associated as published (``not_associated``).
    BadInput
        The exposure cannot be associated.
    """
    made_from = digest_of(record)
    if store.made_from(record.key) == made_from:
        return
    if (refusal := store.refusal(record.key, made_from)) is not None:
        raise refusal
    raise Retryable(
        NOT_ASSOCIATED, f"exposure {record.name} of night {record.night}",
        "is not associated yet: what is sent of it would lack its objects.",
        "see to what failed of the association, and run again.",
    )  # fmt: skip


class History:
    """Objects of exposures, one exposure after another; parameters as in `opened_history`."""

    def __init__(
        self,
        published: PublishedExposures,
        store: "AssociationStore | None",
        forced: "ForcedPlaces | None",
        days: float,
        version: str,
        lack: Callable[[BadInput], object],
        *,
        complete: bool = False,
    ) -> None:
        self._published, self._store, self._forced = published, store, forced
        self._days, self._version, self._lack, self._complete = days, version, lack, complete

    def of(self, record: ExposureRecord, mjd: float) -> ObjectsSeen:
        """Return the objects seen on an exposure, with their history up to it.

        Parameters
        ----------
        record, mjd
            Record of the exposure, and its middle, MJD TAI.

        Raises
        ------
        Retryable
            The store does not answer; or the exposure must be associated and is not (``not_associated``).
        BadInput
            The exposure cannot be associated.
        """
        if self._store is None:
            return ObjectsSeen()
        if self._complete:
            require_associated(self._store, record)
        found = self._store.of_exposure(record.key)
        first, last = source_ids(record.key)
        ids, times = found["diaSourceId"].to_numpy(), found["midpointMjdTai"].to_numpy()
        own = (ids >= first) & (ids <= last)
        found, own = found.filter(pa.array(own | (times < mjd))), own[own | (times < mjd)]
        if not len(found):
            return ObjectsSeen()
        objects = gather_dia_objects({ASSOCIATION.name: found}, Context())
        coded = encode_objects(objects, self._version, self._published.processed(record))
        of_source = {name: found[name].to_numpy()[own].tolist() for name in ("diaSourceId", "diaObjectId")}
        before = found.filter(pa.array(~own & (found["midpointMjdTai"].to_numpy() >= mjd - self._days)))
        return ObjectsSeen(
            dict(zip(*of_source.values(), strict=True)),
            dict(zip(objects["diaObjectId"].to_pylist(), coded, strict=True)),
            self._sources(before),
            self._forced.near(objects, mjd - self._days, mjd) if self._forced is not None else {},
        )

    def _sources(self, links: pa.Table) -> dict[int, list[Encoded]]:
        """Return the records of detections by object, sorted by time, from exposures that are still published."""
        nights = {exposure_of(one): night for one, night in _pairs(links, "diaSourceId", "night")}
        owner = dict(_pairs(links, "diaSourceId", "diaObjectId"))
        found = list[tuple[int, float, Encoded]]()
        for (visit, detector), night in sorted(nights.items()):
            key = ExposureKey(night=night, visit=visit, detector=detector)
            record = self._published.record(key)
            if record is None:
                continue
            try:
                rows = self._published.detections(key)
            except BadInput as error:
                self._lack(error)
                continue
            known = pc.is_in(rows["diaSourceId"], value_set=links["diaSourceId"].combine_chunks())
            rows = rows.filter(pc.and_(known, rows["ra"].is_valid()))
            objects = [owner[one] for one in rows["diaSourceId"].to_pylist()]
            owners = {"diaObjectId": ids_or_null(objects), "ssObjectId": ids_or_null([None] * len(rows))}
            coded = encode_sources(rows, self._version, self._published.processed(record), owners)
            found += zip(objects, rows["midpointMjdTai"].to_pylist(), coded, strict=True)
        return _by_object(found)


def _pairs(table: pa.Table, *names: str) -> Iterator[Any]:
    return zip(*(table[name].to_pylist() for name in names), strict=True)


def _by_object(found: list[tuple[int, float, Any]]) -> dict[int, list[Any]]:
    """Return records grouped by object, sorted by time."""
    grouped = dict[int, list[Any]]()
    for identity, _, record in sorted(found, key=lambda one: one[:2]):
        grouped.setdefault(identity, []).append(record)
    return grouped


def _of_exposures(files: Iterable[Path], lack: Callable[[BadInput], object]) -> list[Path]:
    """Return the paths of the catalogues of exposures, including parts, each once."""
    found = set[Path]()
    for path in files:
        try:
            names = entries(path) if is_part(path.name) else (path.stem,)
        except BadInput as error:
            lack(error)
            continue
        found.update(path.parent / f"{name}.parquet" for name in names)
    return sorted(found)


@dataclass(frozen=True)
class ForcedPlaces:
    """Forced fluxes at fixed positions over all nights, from the published `forced_source`.

    Attributes
    ----------
    rows
        Columns of Rubin's diaForcedSource, without the object.
    targets
        Names of the targets.
    tree
        Tree of their directions.
    radius
        Largest distance of an object's own fluxes from it, as a chord.
    """

    rows: dict[str, list[Any]]
    targets: list[str]
    tree: Any
    radius: float

    @classmethod
    def of(
        cls, published: PublishedExposures, arcsec: float, lack: Callable[[BadInput], object]
    ) -> "ForcedPlaces | None":
        """Return the fluxes read from files; None without any. ``lack`` receives reasons for unreadable files."""
        from scipy.spatial import cKDTree

        parts, processed = list[pa.Table](), list[float]()
        for path in _of_exposures(CatalogStore(published.out).list(FORCED_SOURCE), lack):
            record = published.record(key_of(path.parent.name.removeprefix("night="), path.stem))
            try:
                rows = read_table(path, FORCED_SOURCE)
            except BadInput as error:
                lack(error)
                continue
            rows = rows.filter(pc.equal(rows["trailLength"], 0.0))
            if record is not None and len(rows):
                parts.append(rows)
                processed += [published.processed(record)] * len(rows)
        if not parts:
            return None
        table = pa.concat_tables(parts)
        columns: dict[str, list[Any]] = {name: table[name].to_pylist() for name in _FORCED}
        columns["timeProcessedMjdTai"] = processed
        named = zip(*(table[name].to_pylist() for name in ("visit", "detector", "targetName")), strict=True)
        columns["diaForcedSourceId"] = [_forced_id(*one) for one in named]
        tree = cKDTree(unit_vectors(table["ra"].to_numpy(), table["dec"].to_numpy()))
        return cls(columns, table["targetName"].to_pylist(), tree, 2 * float(np.sin(np.radians(arcsec / 3600) / 2)))

    def near(self, objects: pa.Table, since: float, until: float) -> dict[int, list[dict[str, Any]]]:
        """Return the fluxes at the positions of objects, from one time until before another.

        If an object was measured on an exposure by its own id, no other target counts there.
        """
        places = unit_vectors(objects["ra"].to_numpy(), objects["dec"].to_numpy())
        found = list[tuple[int, float, dict[str, Any]]]()
        times, names = self.rows["midpointMjdTai"], tuple(self.rows)
        for identity, near in zip(
            objects["diaObjectId"].to_pylist(), self.tree.query_ball_point(places, self.radius), strict=True
        ):
            chosen = self._own_first(str(identity), [n for n in near if since <= times[n] < until])
            found += [
                (identity, times[n], {**{name: self.rows[name][n] for name in names}, "diaObjectId": identity})
                for n in chosen
            ]
        return _by_object(found)

    def _own_first(self, name: str, near: list[int]) -> list[int]:
        on = [(self.rows["visit"][n], self.rows["detector"][n]) for n in near]
        own = {one for n, one in zip(near, on, strict=True) if self.targets[n] == name}
        return [n for n, one in zip(near, on, strict=True) if self.targets[n] == name or one not in own]


def _forced_id(visit: int, detector: int, target: str) -> int:
    """Return the id of a flux, which depends only on its exposure and target."""
    return int.from_bytes(sha256(f"{visit}-{detector}-{target}".encode()).digest()[:8], "big") >> 1

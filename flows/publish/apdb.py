"""Storage of published detections and their objects in Rubin's alert-production database, each visit once."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.publish.apdb_database import FORCED, OBJECT, SOURCE, ApdbDatabase
from flows.publish.avro_rows import Column, ids_or_null, table_columns
from flows.publish.exposure_pixels import opened_pixels
from flows.publish.history import NOT_ASSOCIATED, ForcedPlaces, require_associated
from flows.publish.published import PublishedExposures, name_failure, with_place_and_time
from flows.publish.rubin_object import OBJECT as OBJECT_COLUMNS
from flows.publish.rubin_source import source_columns
from flows.runtime.words import counted
from flows.storage.association_store import association_as_it_is, off_because
from flows.storage.catalog_store import CatalogStore
from schemas.dia_object import ASSOCIATION
from schemas.dia_source import exposure_of
from schemas.errors import BadInput, Misconfigured, NightstrideError, Retryable
from schemas.exposure import ExposureKey
from schemas.known_object import SS_SOURCE
from schemas.ledger import ExposureRecord
from schemas.night_range import NightRange
from schemas.objects import BANDS
from schemas.settings import Settings
from schemas.stage import Context
from stages.gather_dia_objects import gather_dia_objects

if TYPE_CHECKING:
    from flows.storage.association_store import AssociationStore


@dataclass
class ApdbTotals:
    """Counts of exposures by outcome.

    Attributes
    ----------
    exposures, sources, objects, forced
        Numbers of stored exposures, detections, versions of objects, and forced fluxes of objects.
    kept
        Exposures that were already stored as published.
    changed
        Exposures that were stored and have been processed again since; the stored rows are kept.
    empty
        Exposures without a detection to store.
    objects_later
        Objects already stored from a later visit, or from another detector of the same visit.
    skipped
        Reason -> number of detections that are not stored.
    failed
        Errors of exposures that are not stored, as added by `name_failure`.
    exposures_failed
        Number of these exposures.
    """

    exposures: int = 0
    kept: int = 0
    changed: int = 0
    empty: int = 0
    sources: int = 0
    objects: int = 0
    objects_later: int = 0
    forced: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failed: list[NightstrideError] = field(default_factory=list)
    exposures_failed: int = 0

    def lack(self, error: NightstrideError) -> None:
        """Add an error."""
        name_failure(self.failed, error)

    def fail(self, error: NightstrideError, exposures: int = 1) -> None:
        """Count exposures that are not stored."""
        self.exposures_failed += exposures
        self.lack(error)


def store_published(
    out: Path,
    where: str,
    settings: Settings,
    chosen: NightRange,
    totals: ApdbTotals,
    told: Callable[[str], object],
) -> None:
    """Store published exposures missing in a Rubin database, night by night, each visit in one step.

    Within a night, visits are ordered by the end of their exposures. Stored exposures are not changed. Forced fluxes
    are stored for exposures in the database.

    Parameters
    ----------
    out, where
        Output folder; configuration of the database, as in `ApdbDatabase`.
    settings
        Settings with the location of the association.
    chosen
        Range of nights.
    totals
        Receives the counts.
    told
        Receives a line for each night.

    Raises
    ------
    Misconfigured
        There are no such nights; the association is off (``no_association``); as in `ApdbDatabase`.
    Retryable
        The database, or the store of the association, does not answer.
    """
    published = PublishedExposures(out)
    nights = published.nights(chosen)
    if (reason := off_because(out, settings.association)) is not None:
        raise _no_objects(out, reason, "set association.store.")
    owners = dict[int, str]()
    with ApdbDatabase(where) as database, association_as_it_is(out, settings.association) as store:
        if store is None:
            raise _no_objects(out, "nothing is associated", "run `nightstride associate OUT`.")
        forced = ForcedPlaces.of(published, settings.association.min_arcsec, totals.lack)
        visits = _Visits(published, store, database, forced, settings, totals)
        for label in nights:
            before = totals.exposures
            for visit, detectors in _in_order(published, label):
                if (owner := owners.setdefault(visit, label)) != label:
                    totals.fail(_two_nights(visit, label, owner), len(detectors))
                    continue
                visits.put([ExposureKey(night=label, visit=visit, detector=one) for one in detectors])
            told(f"{label}: {counted(totals.exposures - before, 'exposure')} stored.")


def _no_objects(out: Path, reason: str, remedy: str) -> Misconfigured:
    return Misconfigured("no_association", str(out), f"its detections have no objects: {reason}.", remedy)


def _in_order(published: PublishedExposures, night: str) -> Iterator[tuple[int, list[int]]]:
    """Yield the visits of a night, and their detectors, by the end of their exposures."""
    detectors, ends = dict[int, list[int]](), dict[int, str]()
    for record in published.exposures(night):
        detectors.setdefault(record.visit, []).append(record.detector)
        ends.setdefault(record.visit, record.shutter_closed_at or "")
    yield from sorted(detectors.items(), key=lambda one: (ends[one[0]], one[0]))


def _two_nights(visit: int, night: str, owner: str) -> BadInput:
    return BadInput(
        "two_nights", f"visit {visit}", f"is in nights {owner} and {night}: their detections have the same ids.",
        f"store each night in a database of its own, with --night {night}.",
    )  # fmt: skip


@dataclass(frozen=True)
class _Fresh:
    """Exposure that is not in the database.

    Attributes
    ----------
    mjd
        Middle of the exposure, MJD TAI.
    columns
        Its detections with a position, as columns of DiaSource.
    links
        Detections, from all nights, of the objects seen on it.
    own
        diaSourceId -> diaObjectId of its own detections.
    """

    mjd: float
    columns: dict[str, Column]
    links: pa.Table
    own: dict[int, int]


@dataclass(frozen=True)
class _Visits:
    """Storage of visits; parameters are those of `store_published`."""

    published: PublishedExposures
    store: "AssociationStore"
    database: ApdbDatabase
    forced: ForcedPlaces | None
    settings: Settings
    totals: ApdbTotals

    def put(self, keys: list[ExposureKey]) -> None:
        """Store the missing exposures of a visit, and the forced fluxes of its objects."""
        fresh, seen = list[_Fresh](), list[pa.Table]()
        for key in keys:
            try:
                found, links = self._exposure(key)
            except (BadInput, Retryable) as error:
                if isinstance(error, Retryable) and error.code != NOT_ASSOCIATED:
                    raise
                self.totals.fail(error)
                continue
            fresh += found
            seen += links
        try:
            self._store(fresh)
        except BadInput as error:
            self.totals.fail(error, len(fresh))
        if self.forced is not None and any(map(len, seen)):
            self._forced(self.forced, gather_dia_objects({ASSOCIATION.name: _once(seen)}, Context()))

    def _exposure(self, key: ExposureKey) -> tuple[list[_Fresh], list[pa.Table]]:
        """Return the data to store for an exposure, none or one, and the links of the objects seen on it."""
        record = self.published.record(key)
        if record is None:  # it is no longer published
            return [], []
        known, lacking = with_place_and_time(self.published.detections(key))
        if self.database.contains(key.visit, key.detector):
            same = len(known) > 0 and self._as_now(record, known)
            self.totals.kept += same
            self.totals.changed += not same
            return [], [] if self.forced is None else [self.store.of_exposure(key)]
        self.totals.skipped += lacking
        if not len(known):
            self.totals.empty += 1
            return [], []
        require_associated(self.store, record)
        links = self.store.of_exposure(key)
        own = _own(key, links)
        columns = self._sources(record, known, own)
        return [_Fresh(float(known["midpointMjdTai"][0].as_py()), columns, links, own)], [links]

    def _as_now(self, record: ExposureRecord, rows: pa.Table) -> bool:
        """Return whether an exposure is stored as published, from the processing time of its first detection."""
        identity, *place = (rows[name][0].as_py() for name in ("diaSourceId", "ra", "dec", "midpointMjdTai"))
        found = self.database.processed(identity, *place)
        return found is not None and abs(found - self.published.processed(record)) < 1e-9

    def _store(self, fresh: list[_Fresh]) -> None:
        if not fresh:
            return
        mjd = fresh[0].mjd
        sources = self.database.frame(SOURCE, joined_columns([one.columns for one in fresh]))
        objects, late = self._objects(fresh, mjd)
        self.database.put(mjd, self.database.frame(OBJECT, table_columns(objects, OBJECT_COLUMNS)), sources)
        self.totals.exposures += len(fresh)
        self.totals.sources += len(sources)
        self.totals.objects += len(objects)
        self.totals.objects_later += late

    def _objects(self, fresh: list[_Fresh], mjd: float) -> tuple[pa.Table, int]:
        """Return the objects of exposures, as known up to them, that are not stored from a later time.

        Also return the number of objects left out.
        """
        links = _once([one.links for one in fresh])
        own = set().union(*(one.own for one in fresh))
        kept = [
            source in own or when < mjd
            for source, when in zip(links["diaSourceId"].to_pylist(), links["midpointMjdTai"].to_pylist(), strict=True)
        ]
        objects = gather_dia_objects({ASSOCIATION.name: links.filter(pa.array(kept, pa.bool_()))}, Context())
        if not len(objects):
            return objects, 0
        late = self.database.as_late(objects["ra"].to_numpy(), objects["dec"].to_numpy(), mjd)
        new = [identity not in late for identity in objects["diaObjectId"].to_pylist()]
        return objects.filter(pa.array(new, pa.bool_())), len(new) - sum(new)

    def _sources(self, record: ExposureRecord, rows: pa.Table, own: Mapping[int, int]) -> dict[str, Column]:
        """Return the detections of an exposure as columns of DiaSource; ``own`` are their objects."""
        ids, known = rows["diaSourceId"].to_pylist(), dict[int, int]()
        if SS_SOURCE.name in record.datasets:
            found = CatalogStore(self.published.out).read(SS_SOURCE, record.key)
            known = dict(zip(*(found[name].to_pylist() for name in ("diaSourceId", "ssObjectId")), strict=True))
        owners = {
            "diaObjectId": ids_or_null([own.get(identity) for identity in ids]),
            "ssObjectId": ids_or_null([known.get(identity) for identity in ids]),
        }
        columns = source_columns(rows, self.published.processed(record), owners, self._pixels(record.key, rows))
        bands = _bands(rows["band"].to_pylist())
        self.totals.skipped["no_band"] += bands.count("")
        return columns | {"band": Column(bands)}

    def _pixels(self, key: ExposureKey, rows: pa.Table) -> dict[str, NDArray[Any]]:
        """Return the flags and fluxes from the pixels of an exposure, by Rubin's names; none without pixels."""
        pixels = opened_pixels(self.published.out, key)
        found = dict[str, NDArray[Any]]()
        for some in () if pixels is None else pixels.pictured(rows, self.settings.alerts, cutouts=False):
            for name, values in some.values.items():
                whole = found.setdefault(name, np.zeros(len(rows), values.dtype))
                whole[some.which] = values
        return found

    def _forced(self, places: ForcedPlaces, objects: pa.Table) -> None:
        """Store the missing forced fluxes of objects, for exposures in the database."""
        found = [row for rows in places.near(objects, -np.inf, np.inf).values() for row in rows]
        if not found:
            return
        since, ids = min(row["midpointMjdTai"] for row in found), objects["diaObjectId"].to_pylist()
        there = self.database.forced(ids, objects["ra"].to_numpy(), objects["dec"].to_numpy(), since)
        exposures = {one: self.database.contains(*one) for one in {(row["visit"], row["detector"]) for row in found}}
        new = dict[tuple[int, int, int], dict[str, Any]]()
        for row in found:
            visit = row["visit"], row["detector"]
            if exposures[visit] and (row["diaObjectId"], *visit) not in there:
                new.setdefault((row["diaObjectId"], *visit), row)
        if not new:
            return
        values = {name: [row[name] for row in new.values()] for name in next(iter(new.values()))}
        values["band"] = _bands(values["band"])
        columns = {name: Column(given if name == "band" else np.array(given)) for name, given in values.items()}
        try:
            self.database.put(since, forced=self.database.frame(FORCED, columns))
            self.totals.forced += len(new)
        except BadInput as error:
            self.totals.lack(error)


def _bands(bands: list[str]) -> list[str]:
    """Return bands, with an empty string for bands that Rubin does not have."""
    return [band if band in BANDS else "" for band in bands]


def _own(key: ExposureKey, links: pa.Table) -> dict[int, int]:
    """Return diaSourceId -> diaObjectId of the detections of an exposure among links."""
    pairs = zip(*(links[name].to_pylist() for name in ("diaSourceId", "diaObjectId")), strict=True)
    return {source: identity for source, identity in pairs if exposure_of(source) == (key.visit, key.detector)}


def joined_columns(exposures: Sequence[Mapping[str, Column]]) -> dict[str, Column]:
    """Return the concatenated columns of several exposures; null where an exposure lacks one."""
    kinds = {name: column for columns in exposures for name, column in columns.items()}
    return {name: _joined([one.get(name) or _null(kind, one) for one in exposures]) for name, kind in kinds.items()}


def _null(kind: Column, of: Mapping[str, Column]) -> Column:
    """Return a column of nulls, with the type of another, for the rows of an exposure."""
    count = len(of["diaSourceId"].values)
    if not isinstance(kind.values, np.ndarray):
        return Column([""] * count)
    return Column(np.zeros(count, kind.values.dtype), np.zeros(count, np.bool_))


def _joined(columns: list[Column]) -> Column:
    if not isinstance(columns[0].values, np.ndarray):
        return Column([one for column in columns for one in column.values])
    valid = [np.ones(len(one.values), np.bool_) if one.valid is None else one.valid for one in columns]
    return Column(np.concatenate([one.values for one in columns]), np.concatenate(valid))


def _once(links: list[pa.Table]) -> pa.Table:
    """Return the links of several exposures without repeats."""
    found = pa.concat_tables(links)
    first = np.unique(found["diaSourceId"].to_numpy(), return_index=True)[1]
    return found.take(pa.array(np.sort(first)))

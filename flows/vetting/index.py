"""Index of the candidates of some nights: columns in memory, filtered and sorted with numpy."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.results.motion import read_motion
from flows.results.page.found import FoundNight, found_in, has_length, read_on_stars
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE, KINDS, exposure_of
from schemas.errors import BadInput
from schemas.exposure import ExposureKey
from schemas.known_object import SS_SOURCE
from schemas.ledger import ExposureRecord
from schemas.tracklets import TRACKLET
from schemas.vetting import SAME_PX, VerdictRecord

Read = TypeVar("Read")

CLASSES = (*KINDS, "artefact", "glint_trail", "unclassed")
"""Classes that a candidate may have: assigned by the search, or else the most probable."""

_NUMBERS = (
    "diaSourceId", "visit", "detector", "x", "y", "ra", "dec", "midpointMjdTai", "snr", "magAB", "magABErr",
    "trailLengthPx", "trailLengthPxErr", "reliability", "flags",
)  # fmt: skip
_SHARES = ("pTrail", "pPoint", "pSatellite", "pArtefact")
_READ = (*_NUMBERS, *_SHARES, "band", "trailClass", "psfFlux")
_WORKERS = 4


@dataclass(frozen=True)
class CandidateIndex:
    """Candidates of some nights, by diaSourceId.

    Attributes
    ----------
    columns
        Name -> (n,): columns of `dia_source`, and ``night`` (integer), ``klass`` (index in `CLASSES`), ``band`` (index
        in ``bands``), ``tracklet`` (-1: none), ``known`` (index in ``designations``, 0: none), ``stationary``; and the
        position on the night's page: ``kind`` (index in `KINDS_FOUND`) and ``place`` (of the entry within its kind).
    bands, designations
        Names for the indices in columns.
    tracklets
        Rows of `tracklet` of all nights, with ``night``.
    exposures
        Night -> records of its published exposures.
    damaged
        Errors for catalogues that could not be read.
    """

    columns: Mapping[str, NDArray[Any]]
    bands: tuple[str, ...]
    designations: tuple[str, ...]
    tracklets: pa.Table
    exposures: Mapping[str, tuple[ExposureRecord, ...]]
    damaged: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.columns["diaSourceId"])

    @cached_property
    def nights(self) -> tuple[str, ...]:
        """Return the nights, sorted."""
        return tuple(sorted(self.exposures))

    def row_of(self, source_id: int) -> int | None:
        """Return the row of a detection; None if it is not a candidate."""
        ids = self.columns["diaSourceId"]
        if not 0 <= source_id < 2**63:
            return None
        row = int(np.searchsorted(ids, source_id))
        return row if row < len(ids) and ids[row] == source_id else None

    def key(self, row: int) -> ExposureKey:
        """Return the exposure of a candidate."""
        night, visit, detector = (int(self.columns[name][row]) for name in ("night", "visit", "detector"))
        return ExposureKey(night=f"{night:08}", visit=visit, detector=detector)

    def rows_of(self, records: Sequence[VerdictRecord]) -> NDArray[np.int64]:
        """Return the row of the candidate at the place of each verdict; -1 if there is none.

        It usually has the id that was judged; a search with another model or other limits gives other ids.
        """
        if not records or not len(self):
            return np.full(len(records), -1, np.int64)
        wanted = np.array([one.diaSourceId for one in records], np.int64)
        ids = self.columns["diaSourceId"]
        rows = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
        x, y = (np.array([getattr(one, name) for one in records]) for name in ("x", "y"))
        near = np.hypot(self.columns["x"][rows] - x, self.columns["y"][rows] - y) <= SAME_PX
        same_night = self.columns["night"][rows] == np.array([int(one.night) for one in records])
        found = np.where((ids[rows] == wanted) & near & same_night, rows, -1)
        for number in np.flatnonzero(found < 0).tolist():
            found[number] = self._at(records[number])
        return found

    def _at(self, record: VerdictRecord) -> int:
        """Return the row of the candidate nearest to the place of a verdict; -1 if none is within `SAME_PX`."""
        if record.night not in self.exposures:
            return -1
        visit, detector = exposure_of(record.diaSourceId)
        rows = self.on_exposure(ExposureKey(night=record.night, visit=visit, detector=detector))
        apart = np.hypot(self.columns["x"][rows] - record.x, self.columns["y"][rows] - record.y)
        return int(rows[apart.argmin()]) if apart.min(initial=np.inf) <= SAME_PX else -1

    def members(self, tracklet: int) -> NDArray[np.int64]:
        """Return the rows of the detections of a tracklet, by time."""
        rows = np.flatnonzero(self.columns["tracklet"] == tracklet)
        return rows[np.argsort(self.columns["midpointMjdTai"][rows], kind="stable")]

    def on_exposure(self, key: ExposureKey) -> NDArray[np.int64]:
        """Return the rows of the candidates of an exposure."""
        first = key.visit << 21 | key.detector << 12
        low, high = np.searchsorted(self.columns["diaSourceId"], (first, first + 4096))
        rows = np.arange(low, high)
        return rows[self.columns["night"][rows] == int(key.night)]


def read_index(out: Path, nights: Sequence[str]) -> CandidateIndex:
    """Read the detections and tracklets of some nights.

    Unreadable catalogues are left out and listed in `CandidateIndex.damaged`.

    Raises
    ------
    Misconfigured
        Something was written by another version.
    """
    damaged, parts, tracklets = list[str](), [_placed(_NOTHING, "0")], [_NO_TRACKLETS]
    exposures = {}
    for night in nights:
        records = tuple(one for one in Ledger(out).records(night) if one.status == "done")
        exposures[night] = records
        rows = pa.concat_tables([_EMPTY, *_read(out, records, damaged)]).combine_chunks()
        found = _ranked(out, night, rows, records, damaged)
        parts.append(_placed(found, night))
        linked = pa.Table.from_pylist(list(found.tracklets.values()), TRACKLET.schema)
        tracklets.append(linked.append_column("night", pa.array([night] * len(linked), pa.string())))
    table = pa.concat_tables(parts).combine_chunks()
    order = np.argsort(table["diaSourceId"].to_numpy(), kind="stable")
    return CandidateIndex(
        *_columns(table.take(order)),
        tracklets=pa.concat_tables(tracklets),
        exposures=exposures,
        damaged=tuple(damaged),
    )


_EMPTY = pa.schema(
    [*(DIA_SOURCE.schema.field(name) for name in _READ), pa.field("designation", pa.string())]
).empty_table()
_NO_TRACKLETS = TRACKLET.empty().append_column("night", pa.array([], pa.string()))
_NOTHING = found_in(_EMPTY.drop_columns("designation"), {}, None)


def _read(out: Path, records: Sequence[ExposureRecord], damaged: list[str]) -> Iterator[pa.Table]:
    store = CatalogStore(out)

    def read(record: ExposureRecord) -> pa.Table | BadInput:
        try:
            rows = store.read(DIA_SOURCE, record.key).select(_READ)
            return rows.append_column("designation", _designations(store, record, rows))
        except BadInput as error:
            return error

    with ThreadPoolExecutor(_WORKERS) as pool:
        for found in pool.map(read, records):
            if isinstance(found, BadInput):
                damaged.append(str(found))
            else:
                yield found.cast(_EMPTY.schema)


def _designations(store: CatalogStore, record: ExposureRecord, rows: pa.Table) -> pa.Array:
    if SS_SOURCE.name not in record.datasets or not record.datasets[SS_SOURCE.name].rows:
        return pa.array([""] * len(rows), pa.string())
    known = store.read(SS_SOURCE, record.key)
    names = dict(zip(known["diaSourceId"].to_pylist(), known["designation"].to_pylist(), strict=True))
    return pa.array([names.get(one, "") for one in rows["diaSourceId"].to_pylist()], pa.string())


def _ranked(out: Path, night: str, rows: pa.Table, records: Sequence[ExposureRecord], damaged: list[str]) -> FoundNight:
    """Return the rows of a night in the ranking of its page, without what cannot be read."""

    def readable(read: Callable[[], Read]) -> Read | None:
        try:
            return read()
        except BadInput as error:
            damaged.append(str(error))
            return None

    motion = readable(lambda: read_motion(out, night))
    on_stars = readable(lambda: read_on_stars(out, night, rows))
    ids, names = rows["diaSourceId"].to_pylist(), rows["designation"].to_pylist()
    known = {one: name for one, name in zip(ids, names, strict=True) if name}
    compared = any(SS_SOURCE.name in record.datasets for record in records)
    return found_in(rows.drop_columns("designation"), known, motion, on_stars or (), compared=compared)


def _placed(found: FoundNight, night: str) -> pa.Table:
    """Return the rows of a night with ``night`` and ``place``: the position of the entry within its kind."""
    first = np.array([found.ranks[found.kinds == kind].min(initial=1 << 60) for kind in range(len(found.parts))])
    place = found.ranks - first[found.kinds] if len(found.kinds) else found.ranks
    table = found.table.append_column("place", pa.array(place, pa.int64()))
    return table.append_column("night", pa.array(np.full(len(table), int(night))))


def _columns(table: pa.Table) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], tuple[str, ...]]:
    found = {name: table[name].to_numpy() for name in (*_NUMBERS, "night", "kind", "place", "stationary")}
    found["tracklet"] = table["trackletId"].to_numpy()
    band, known = (pc.dictionary_encode(table[name]).combine_chunks() for name in ("band", "designation"))
    names = known.dictionary.to_pylist()
    ordered = ("", *sorted(set(names) - {""}))
    place = np.array([ordered.index(name) for name in names] or [0], np.int64)
    found["band"] = band.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    found["known"] = place[known.indices.to_numpy(zero_copy_only=False).astype(np.int64)]
    found["klass"] = _classes(table)
    return found, tuple(band.dictionary.to_pylist()), ordered


def _classes(table: pa.Table) -> NDArray[np.int64]:
    """Return the index in `CLASSES` of the class of each row; a trail without a length is a point."""
    shares = np.stack([table[name].to_numpy() for name in _SHARES], axis=1) if len(table) else np.zeros((0, 4))
    unknown = np.isnan(shares).any(1)
    klass = np.where(unknown, CLASSES.index("unclassed"), np.nan_to_num(shares).argmax(1))
    klass = np.where((klass == CLASSES.index("trail")) & ~has_length(table), CLASSES.index("point"), klass)
    own = table["trailClass"].to_pylist()
    return np.array([CLASSES.index(name) if name in CLASSES else n for name, n in zip(own, klass, strict=True)], int)

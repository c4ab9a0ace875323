"""Finds of a night, ranked: movers as tracklets, single detections, stationary sources; and links over nights."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.results.page.detection import ListPlace
from flows.results.page.words import GRADES, NOTHING, count, utc
from flows.storage.catalog_store import CatalogStore, joined
from kernels.linking.tracklets import PAIR_RATE
from kernels.objects.new_light import OBJECT_COLUMNS, all_is_new
from schemas.class_table import STAR_GALAXY
from schemas.dia_source import CAUSES, DetectionFlag
from schemas.objects import DIA_LINK, OBJECT
from schemas.tracklets import LINK_SOURCE


@dataclass(frozen=True)
class Kind:
    """Part of the list: its anchor, heading, name of an entry, and whether it is folded."""

    anchor: str
    heading: str
    one: str
    folded: bool = False


KINDS_FOUND = (
    Kind("unknown", "Unknown movers", "unknown mover"),
    Kind("known", "Known objects", "known object"),
    Kind("trails", "Single trails", "single trail"),
    Kind("points", "Single points", "single point"),
    Kind("rest", "At rest or variable", "detection at rest or on a star", folded=True),
    Kind("satellites", "Satellites and aeroplanes", "satellite trail", folded=True),
)
"""Parts of the list, in order."""

_UNCOMPARED = (Kind("unknown", "Movers", "mover"), *KINDS_FOUND[1:])
"""The same for a night not compared with known objects."""

UNKNOWN, KNOWN, TRAIL, POINT, AT_REST, SATELLITE = range(6)

_SUSPECT = int(
    np.bitwise_or.reduce([int(flag) for _, flag, _ in CAUSES])
    | DetectionFlag.MASKED
    | DetectionFlag.NEAR_BRIGHT_STAR
    | DetectionFlag.FIT_FAILED
)
CERTAIN, LEAST_PX = 3.0, 2.0
"""Minimum length of a trail in standard errors, and in px; shorter ones count as points."""


def ranked_tracklets(tracklets: pa.Table) -> pa.Table:
    """Return rows of `tracklet`, unknown objects first, then by number of detections, chance, and trackletId."""
    known = pc.not_equal(tracklets["designation"], "")
    order = [("known", "ascending"), ("nSources", "descending"), ("chance", "ascending"), ("trackletId", "ascending")]
    return tracklets.append_column("known", known).sort_by(order).drop_columns("known")


@dataclass(frozen=True)
class Entry:
    """Entry of the list: a tracklet with its detections by time, or a single detection.

    Attributes
    ----------
    kind, what
        Index in `KINDS_FOUND`, and its name.
    tracklet
        Row of `tracklet`; None for a single detection.
    rows
        Rows of `dia_source`, with ``exposure`` (index in the night), ``designation`` and ``stationary``.
    """

    rank: int
    kind: int
    what: str
    tracklet: Mapping[str, Any] | None
    rows: tuple[Mapping[str, Any], ...]

    @property
    def anchor(self) -> str:
        """Return the name of its anchor on the page."""
        return f"t{self.tracklet['trackletId']}" if self.tracklet else f"d{self.rows[0]['diaSourceId']}"


@dataclass(frozen=True)
class FoundNight:
    """Detections of a night in the order of the list.

    Attributes
    ----------
    table
        Rows of `dia_source`, with ``exposure``, ``designation``, ``stationary``, ``trackletId``, ``kind``, ``rank``.
    tracklets
        trackletId -> row of `tracklet`.
    linked
        Whether tracklets were searched for.
    compared
        Whether known objects were searched for.
    """

    table: pa.Table
    tracklets: Mapping[int, Mapping[str, Any]]
    linked: bool
    compared: bool = True

    @property
    def parts(self) -> tuple[Kind, ...]:
        """Return the parts of the list, from `KINDS_FOUND`."""
        return KINDS_FOUND if self.compared else _UNCOMPARED

    @cached_property
    def kinds(self) -> NDArray[np.int64]:
        """Return the kind of each row."""
        return np.asarray(self.table["kind"].to_numpy())

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """Return the rank of each row's entry: 1, 2, ..."""
        return np.asarray(self.table["rank"].to_numpy())

    def entries(self, kind: int) -> int:
        """Return the number of entries of a kind."""
        ranks = self.ranks[self.kinds == kind]
        return int(ranks[-1] - ranks[0] + 1) if len(ranks) else 0

    def detections(self, kind: int) -> int:
        """Return the number of detections of a kind."""
        return int(np.count_nonzero(self.kinds == kind))

    def first(self, kind: int, most: int) -> tuple[Entry, ...]:
        """Return the first entries of a kind, up to ``most``."""
        rows = np.flatnonzero(self.kinds == kind)
        if not len(rows):
            return ()
        inside = rows[self.ranks[rows] < self.ranks[rows[0]] + most]
        return tuple(self._entries(int(inside[0]), int(inside[-1]) + 1)) if len(inside) else ()

    def _entries(self, start: int, end: int) -> Iterator[Entry]:
        rows = self.table.slice(start, end - start).to_pylist()
        ranks = self.ranks[start:end]
        cuts = [0, *(np.flatnonzero(np.diff(ranks)) + 1).tolist(), len(rows)]
        for low, high in itertools.pairwise(cuts):
            first, members = rows[low], tuple(rows[low:high])
            what = self.parts[first["kind"]].one
            yield Entry(first["rank"], first["kind"], what, self.tracklets.get(first["trackletId"]), members)

    def places(self, exposure: int, shown: Mapping[int, str]) -> dict[int, ListPlace]:
        """Return diaSourceId -> position in the list, for an exposure; ``shown`` maps ranks to anchors on the page."""
        rows = self.table.filter(pc.equal(self.table["exposure"], exposure)).select(["diaSourceId", "rank"])
        pairs = zip(rows["diaSourceId"].to_pylist(), rows["rank"].to_pylist(), strict=True)
        return {one: ListPlace(rank, shown.get(rank, "")) for one, rank in pairs}


def found_in(
    table: pa.Table,
    known: Mapping[int, str],
    moving: tuple[pa.Table, pa.Table] | None,
    on_stars: Collection[int] = (),
    *,
    compared: bool = True,
) -> FoundNight:
    """Rank the finds of a night.

    Unknown tracklets come first, then known objects, single trails, single points; then stationary sources and those on
    stars, and satellites. Tracklets are ordered by `ranked_tracklets`, single detections by their class of reliability,
    one lower if a flag indicates a known cause of false streaks, then by S/N.

    Parameters
    ----------
    table
        Detections of the night: rows of `dia_source` with ``exposure``.
    known
        Detection -> known object.
    moving
        Rows of `tracklet_source` and `tracklet` of the night; None: it was not linked.
    on_stars
        Detections on stars.
    compared
        Whether known objects were searched for.
    """
    ids = table["diaSourceId"].to_numpy()
    tracklet, still = _motion(ids, None if moving is None else moving[0])
    order = [] if moving is None else ranked_tracklets(moving[1]).to_pylist()
    rows = {row["trackletId"]: row for row in order}
    designation = [
        rows[t]["designation"] if t in rows else known.get(one, "")
        for t, one in zip(tracklet.tolist(), ids.tolist(), strict=True)
    ]
    linked = np.isin(tracklet, np.array(list(rows), np.int64))
    kind = _kinds(table, linked, np.array([bool(name) for name in designation], bool))
    at_rest = still | np.isin(ids, np.array(list(on_stars), np.int64)) & (kind == POINT)
    kind = np.where(at_rest & np.isin(kind, (TRAIL, POINT)), AT_REST, kind)
    place = {row["trackletId"]: n for n, row in enumerate(order)}
    entry = np.empty(len(ids), np.int64)
    entry[linked] = [place[one] for one in tracklet[linked].tolist()]
    single = np.flatnonzero(~linked)
    entry[single[_by_interest(table.take(single))]] = len(order) + np.arange(len(single))
    lined = np.lexsort((ids, table["midpointMjdTai"].to_numpy(), entry, kind))
    rank = np.cumsum(np.diff(entry[lined], prepend=-1) != 0) if len(ids) else np.zeros(0, np.int64)
    added = {"stationary": still, "trackletId": tracklet, "kind": kind}
    table = table.append_column("designation", pa.array(designation, pa.string()))
    for name, values in added.items():
        table = table.append_column(name, pa.array(values))
    table = table.take(lined).append_column("rank", pa.array(rank, pa.int64())).combine_chunks()
    return FoundNight(table, rows, moving is not None, compared)


def _motion(ids: NDArray[np.int64], links: pa.Table | None) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the tracklet of each detection, -1 if it has none, and whether it is stationary."""
    tracklet, still = np.full(len(ids), -1, np.int64), np.zeros(len(ids), bool)
    if links is None or not len(links):
        return tracklet, still
    linked = links["diaSourceId"].to_numpy()
    order = np.argsort(linked)
    place = order[np.minimum(np.searchsorted(linked, ids, sorter=order), len(linked) - 1)]
    same = linked[place] == ids
    tracklet[same] = pc.fill_null(links["trackletId"], -1).to_numpy()[place[same]]
    still[same] = links["stationary"].to_numpy(zero_copy_only=False)[place[same]]
    return tracklet, still


def _kinds(table: pa.Table, linked: NDArray[np.bool_], named: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the kind of each row, except for stationary sources."""
    trail, point, satellite = (_values(table, name) for name in ("pTrail", "pPoint", "pSatellite"))
    kind = np.where(has_length(table) & ~(trail <= point), TRAIL, POINT)
    own = pc.not_equal(pc.fill_null(table["trailClass"], ""), "").to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        kind = np.where(own | (satellite > np.fmax(trail, point)), SATELLITE, kind)
    return np.where(named, KNOWN, np.where(linked, UNKNOWN, kind))


def has_length(table: pa.Table) -> NDArray[np.bool_]:
    """Return whether each row of `dia_source` is longer than a point, given its error."""
    length, error = _values(table, "trailLengthPx"), np.nan_to_num(_values(table, "trailLengthPxErr"))
    return np.asarray((length >= LEAST_PX) & (length >= CERTAIN * error))


def _by_interest(table: pa.Table) -> NDArray[np.int64]:
    reliability, flags = _values(table, "reliability"), table["flags"].to_numpy()
    classes = np.array([least for _, least, _ in GRADES[:-1]])
    lower = np.sum(reliability[:, None] < classes, axis=1) + ((flags & _SUSPECT) != 0)
    return np.lexsort((table["diaSourceId"].to_numpy(), -_values(table, "snr"), lower))


def _values(table: pa.Table, name: str) -> NDArray[np.float64]:
    return np.asarray(table[name].to_numpy(), np.float64)


def read_on_stars(out: Path, night: str, sources: pa.Table) -> set[int]:
    """Return the detections that `dia_link` links to stars (`star_galaxy`), except if all their light is new.

    Parameters
    ----------
    out, night
        Output folder and label of the night.
    sources
        Detections of the night: ``diaSourceId``, ``band`` and ``psfFlux``.

    Raises
    ------
    BadInput
        A catalogue is damaged.
    """
    store = CatalogStore(out)
    links = store.read_night(DIA_LINK, night, ["diaSourceId", "objectId"])
    classes = None if links is None else store.read_night(STAR_GALAXY, night, ["objectId", "classLabel"])
    if links is None or classes is None:
        return set()
    stars = classes.filter(pc.equal(classes["classLabel"], "star"))["objectId"]
    on = links.filter(pc.is_in(links["objectId"], stars.combine_chunks()))
    seen = sources.select(["diaSourceId", "band", "psfFlux"]).join(on, "diaSourceId", join_type="inner")
    ids = on["diaSourceId"].to_pylist()
    return set(ids).difference(_new_sources(store, night, seen) if len(seen) else ())


def _new_sources(store: CatalogStore, night: str, seen: pa.Table) -> list[int]:
    """Return detections with all the light of their star, by `all_is_new`; those on one star are one source."""
    wanted, on = seen["objectId"].combine_chunks(), seen["objectId"].to_numpy()
    tables = (store.read_path(path, OBJECT).select(OBJECT_COLUMNS) for path in store.list(OBJECT, night))
    objects = joined(one.filter(pc.is_in(one["objectId"], wanted)) for one in tables)
    if objects is None:
        return []
    new = all_is_new(objects, np.zeros(len(on), np.int64), on, seen["band"].to_pylist(), seen["psfFlux"].to_numpy())
    return seen["diaSourceId"].filter(pa.array(new)).to_pylist()


def found_words(found: FoundNight) -> tuple[str, str]:
    """Return the sentence that introduces the list, and a summary of other finds."""
    numbers = {kind: found.entries(kind) for kind in range(len(KINDS_FOUND))}
    movers = numbers[UNKNOWN] + numbers[KNOWN]
    unknown = f"{count(numbers[UNKNOWN])} unknown" if found.compared else "not compared with known objects"
    told = f"{count(movers, 'mover')}, {unknown}: look here"
    if not movers:
        single = ": look at the single detections" if numbers[TRAIL] + numbers[POINT] else ""
        told = "" if not found.table.num_rows else f"No mover was found{single}"
        if told and not found.linked:
            told = f"{count(found.table.num_rows, 'detection')}, not linked to movers: look here"
    others = (TRAIL, POINT, AT_REST, SATELLITE)
    rest = [_numbered(kind, numbers[kind]) for kind in others if numbers[kind]]
    verb = "There is " if rest and rest[0].startswith("1 ") else "There are "
    return told, ("Besides " if movers else verb) + _listed(rest) + "." if rest else ""


def _numbered(kind: int, number: int) -> str:
    one = KINDS_FOUND[kind].one
    if kind == AT_REST and number != 1:
        return f"{count(number)} detections at rest or on stars"
    return count(number, one)


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


LINK_HEADINGS = (
    "Link",
    "Object",
    "Detections",
    "Nights",
    "First seen",
    "Last seen at RA, Dec",
    "a, e, i",
    "Off the orbit",
)
"""Headings of the table."""


@dataclass(frozen=True)
class NightLinks:
    """Kind of a night's links, and a row of cells for each, as in `LINK_HEADINGS`."""

    lead: str
    rows: tuple[tuple[str, ...], ...]


def links_of(out: Path, night: str, most: int) -> NightLinks | None:
    """Describe the links of a night; None if nights were not linked, or there are no links.

    Parameters
    ----------
    out, night
        Output folder and label of the night.
    most
        Maximum number of rows.

    Raises
    ------
    BadInput
        The catalogue is damaged.
    """
    table = CatalogStore(out).read_night(LINK_SOURCE, night)
    if table is None or not len(table):
        return None
    groups: dict[int, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        groups.setdefault(row["linkId"], []).append(row)
    links = sorted(groups.values(), key=_link_rank)
    unknown = sum(not one[0]["designation"] for one in links)
    left = f" The first {count(most)} are listed." if len(links) > most else ""
    rate = links[0][0]["pairRateMax"]
    few = f" Of too many pairs those up to {rate:.2g} °/day were linked." if rate < PAIR_RATE else ""
    lead = (
        f"{count(len(links), 'object')} that one orbit about the Sun explains in three nights or more, "
        f"{count(unknown)} of them unknown. Orbits of a few days are uncertain.{few}{left}"
    )
    return NightLinks(lead, tuple(_link_cells(one) for one in links[:most]))


def _link_rank(rows: Sequence[dict[str, Any]]) -> tuple[Any, ...]:
    first = rows[0]
    return bool(first["designation"]), -first["nNights"], -first["nSources"], first["linkRms"], first["linkId"]


def _link_cells(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    first, last = rows[0], rows[-1]
    return (
        str(first["linkId"]),
        first["designation"] or NOTHING,
        count(first["nSources"]),
        count(first["nNights"]),
        utc(first["midpointMjdTai"])[:16],
        f"{last['ra']:.5f}, {last['dec']:+.5f}".replace("-", "−"),
        f"{first['a']:.2f} au, {first['e']:.2f}, {first['i']:.1f}°",
        f"{first['linkRms']:.2f}″",
    )

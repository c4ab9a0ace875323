"""Entries of the list of finds in words: cards on the page, and lines of the lists beside it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flows.results.page.detection import CUT_PLANES, DetectionCutout, ListPlace, cutouts_of, drawn
from flows.results.page.found import CERTAIN, KINDS_FOUND, KNOWN, LEAST_PX, POINT, TRAIL, UNKNOWN, Entry, FoundNight
from flows.results.page.night import Exposure
from flows.results.page.words import (
    NOTHING,
    Told,
    count,
    expected,
    file_name,
    flag_words,
    grade,
    links,
    measured,
    number,
    place_error,
    probability,
    seen,
    sexagesimal,
    utc,
)
from flows.storage.zarr_tiles import TileStore
from schemas.dia_source import DetectionFlag
from schemas.errors import BadInput
from schemas.pixels import DIFFERENCE

LINES = 500
"""Number of detections on one page of the lists."""

LINE_HEADINGS = ("Time", "Magnitude", "S/N", "Length", "Reliability", "RA, Dec", "File", "Id")
"""Columns for the detections in a card and in folded parts."""

LIST_HEADINGS = ("Rank", "What", "Time", "Magnitude", "S/N", "Length", "Reliability", "RA, Dec", "Flags", "File", "Id")
"""Columns of the lists."""

_ASSUMED = {
    DetectionFlag.ASSUMED_PSF: "PSF",
    DetectionFlag.ASSUMED_TIME: "time",
    DetectionFlag.ASSUMED_GAIN: "gain",
}
_KNOWN_ANGLE = 60.0  # deg: an angle with a larger error is not known


_SHARES = {UNKNOWN: 0.4, KNOWN: 0.55, TRAIL: 0.8, POINT: 1.0}
"""Part of the list with cards -> cumulative fraction of the pictures' space that it may use."""

_MEMBERS = 5  # pictured detections of a tracklet


@dataclass(frozen=True)
class Limits:
    """Limits that keep the page below 5 MB for any night.

    Attributes
    ----------
    cards
        Number of entries in each part of the list.
    pictures
        Total size of their pictures, characters.
    folded
        Number of lines in each folded part.
    panels
        Number of exposures shown in pictures.
    rows
        Number of lines in the table of exposures, and in the list of troubles.
    """

    cards: int = 60
    pictures: int = 1_400_000
    folded: int = 200
    panels: int = 8
    rows: int = 300


LIMITS = Limits()


@dataclass(frozen=True)
class Card:
    """Card for an entry of the list.

    Attributes
    ----------
    place
        Position to copy, in degrees and sexagesimal; empty if unknown.
    links
        Name and address of services that list other objects at the position.
    lines
        Detections of a tracklet, with the columns `LINE_HEADINGS`.
    cutouts
        Its pictures, if there is room on the page.
    """

    anchor: str
    rank: int
    title: str
    grade: str
    reliability: str
    facts: tuple[Told, ...]
    place: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    flags: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    cutouts: tuple[DetectionCutout, ...]


@dataclass(frozen=True)
class ListPart:
    """Part of the list on the page: cards, or lines of a folded part, and where the others are."""

    anchor: str
    heading: str
    number: str
    folded: bool
    cards: tuple[Card, ...]
    lines: tuple[tuple[str, ...], ...]
    more: str = ""
    address: str = ""


def card(entry: Entry, exposures: Sequence[Exposure], cutouts: tuple[DetectionCutout, ...]) -> Card:
    """Make the card for an entry; ``exposures`` are those of the night."""
    row, tracklet = entry.rows[0], entry.tracklet
    best = max(one["reliability"] for one in entry.rows)
    title = row["designation"] if entry.kind == KNOWN else entry.what.capitalize()
    moving = tracklet is not None
    ra, dec, mjd = ((tracklet or row)[name] for name in ("ra", "dec", "midpointMjdTai"))
    when = None if row["flags"] & DetectionFlag.NO_TIME else mjd
    return Card(
        anchor=entry.anchor,
        rank=entry.rank,
        title=title,
        grade=grade(best),
        reliability=probability(best),
        facts=_tracklet_facts(entry, exposures) if moving else _facts(row, exposures),
        place=_place(ra, dec),
        links=() if ra is None or dec is None else links(ra, dec, when, row["designation"]),
        flags=tuple(dict.fromkeys(flag for one in entry.rows for flag in _flags(one["flags"]))),
        lines=tuple(line(one, exposures) for one in entry.rows) if moving else (),
        cutouts=cutouts,
    )


def _tracklet_facts(entry: Entry, exposures: Sequence[Exposure]) -> tuple[Told, ...]:
    row = entry.tracklet or {}
    bands = sorted({one["band"] for one in entry.rows})
    visits = "" if row["nVisits"] == row["nSources"] else f" on {count(row['nVisits'], 'visit')}"
    span = f"{utc(row['firstMjdTai'])[11:16]} to {utc(row['lastMjdTai'])[11:16]} UTC"
    files = [file_name(exposures[one["exposure"]].record.source_uri) for one in entry.rows]
    seen = f"{count(row['nSources'], 'detection')}{visits}, {span}"
    return (
        Told("Rate", rate_words(row)),
        Told("Towards", direction_words(row)),
        _told(f"mag {', '.join(bands)}", _mean(row), entry.rows, "PSF"),
        _told("Seen", seen, entry.rows, "time"),
        *([Told("Scatter", f"{number(row['rms'], 2, '″')} rms about its path")] if row["nSources"] > 2 else []),
        Told("Chance", f"{expected(row['chance'])} such expected"),
        Told("File", files[0] + (f" and {len(files) - 1} more" if len(files) > 1 else "")),
    )


def _mean(row: Mapping[str, Any]) -> str:
    told, spread = number(row["magAB"], 2), row["magABStd"]
    if told == NOTHING or spread is None:
        return told
    return f"{told}, spread {number(spread, 2 if spread >= 0.01 else 3)}"


def rate_words(row: Mapping[str, Any]) -> str:
    """Return the rate of a tracklet, deg/day, with its error and the significant digits."""
    rate, error = row["rate"], row.get("rateErr")
    digits = 2 if not error else min(max(math.ceil(-math.log10(error)), 1), 6)
    return f"{measured(rate, error, 2)} °/day, {number(2.5 * rate, max(digits - 1, 1))}″/min"


def direction_words(row: Mapping[str, Any]) -> str:
    """Return the position angle of a tracklet's motion, with its error."""
    error = row.get("positionAngleErr")
    return f"PA {measured(row['positionAngle'], error and max(error, 0.01), 1, '°')}"


def _facts(row: Mapping[str, Any], exposures: Sequence[Exposure]) -> tuple[Told, ...]:
    rows, angle = (row,), _angle(row)
    at = measured(row["x"], None, 1), measured(row["y"], None, 1)
    clock = seen(row)[-8:]
    when = "at a time not known" if clock == NOTHING else f"{clock} UTC"
    return (
        _told("Seen", f"{when}, {row['band']}", rows, "time"),
        _told(f"mag {row['band']}", measured(row["magAB"], row["magABErr"], 2), rows, "PSF"),
        _told("S/N", number(row["snr"]), rows, "gain"),
        _told("Length", length_words(row), rows, "PSF"),
        *([Told("Angle", angle)] if angle else []),
        Told("Position", _certainty(row)),
        Told("x, y", f"{at[0]}, {at[1]} px"),
        Told("File", file_name(exposures[row["exposure"]].record.source_uri)),
        Told("Id", str(row["diaSourceId"])),
    )


def _has_length(row: Mapping[str, Any]) -> bool:
    length, error = row["trailLengthPx"], row["trailLengthPxErr"]
    return bool(math.isfinite(length) and length >= max(LEAST_PX, CERTAIN * (error or 0.0)))


def length_words(row: Mapping[str, Any], unit: str = " px") -> str:
    """Return the length of a trail, with its error; for a point, that it is one."""
    length, error = row["trailLengthPx"], row["trailLengthPxErr"]
    if not math.isfinite(length):
        return NOTHING
    if not _has_length(row):
        return "none" if not length else f"none: {measured(length, error, 1, unit)}"
    told = measured(length, error, 1, unit)
    if row.get("trailLength") is not None:
        told += f", {measured(row['trailLength'], row['trailLengthErr'], 1, '″')}"
    return told


def has_angle(row: Mapping[str, Any]) -> bool:
    """Return whether the angle of a row of `dia_source` is known; a point has none."""
    error = row["trailAnglePxErr"]
    return _has_length(row) and math.isfinite(row["trailAnglePx"]) and (error is None or error <= _KNOWN_ANGLE)


def _angle(row: Mapping[str, Any]) -> str:
    if not has_angle(row):
        return ""
    told = measured(row["trailAnglePx"], row["trailAnglePxErr"], 0, "°")
    return (
        told if row["trailAngle"] is None else f"{told}, PA {measured(row['trailAngle'], row['trailAngleErr'], 0, '°')}"
    )


def _certainty(row: Mapping[str, Any]) -> str:
    if row["ra"] is None:
        return "not known: no WCS"
    return place_error(row) or "error not known"


def _told(name: str, value: str, rows: Sequence[Mapping[str, Any]], what: str) -> Told:
    """Return a value, marked if it is known and one of the rows depends on an assumption about ``what``."""
    assumed = any(row["flags"] & flag for row in rows for flag, other in _ASSUMED.items() if other == what)
    return Told(name, value, what if assumed and value != NOTHING else "")


def _flags(flags: int) -> tuple[str, ...]:
    told = sum(int(flag) for flag in _ASSUMED if flags & flag)  # mentioned with the values concerned
    return flag_words(flags - told)


def _place(ra: float | None, dec: float | None) -> tuple[str, ...]:
    if ra is None or dec is None:
        return ()
    return f"{ra:.5f} {dec:+.5f}", " ".join(sexagesimal(ra, dec))


def line(row: Mapping[str, Any], exposures: Sequence[Exposure]) -> tuple[str, ...]:
    """Return the cells of a detection for the columns `LINE_HEADINGS`."""
    return (
        seen(row)[-8:],
        f"{measured(row['magAB'], row['magABErr'], 2)} {row['band']}",
        number(row["snr"]),
        length_words(row),
        probability(row["reliability"]),
        NOTHING if row["ra"] is None else f"{row['ra']:.5f} {row['dec']:+.5f}",
        file_name(exposures[row["exposure"]].record.source_uri),
        str(row["diaSourceId"]),
    )


@dataclass(frozen=True)
class DrawnList:
    """List of finds, as shown on the page.

    Attributes
    ----------
    found, exposures
        Finds and exposures of the night.
    store
        Function that returns the tiles of an exposure by its index; None if they were removed.
    limits
        Limits of the page.
    """

    found: FoundNight
    exposures: Sequence[Exposure]
    store: Callable[[int], TileStore | None]
    limits: Limits

    @cached_property
    def entries(self) -> dict[int, tuple[Entry, ...]]:
        """Return the entries on the page for each part of the list."""
        most = {kind: self.limits.folded if one.folded else self.limits.cards for kind, one in enumerate(KINDS_FOUND)}
        return {kind: self.found.first(kind, most[kind]) for kind in most}

    @cached_property
    def shown(self) -> dict[int, str]:
        """Return rank -> anchor of the cards."""
        return {one.rank: one.anchor for kind in _SHARES for one in self.entries[kind]}

    @property
    def pages(self) -> int:
        """Return the number of pages of the lists; 0 if the page holds every entry."""
        whole = all(len(one) == self.found.entries(kind) for kind, one in self.entries.items())
        return 0 if whole else -(-self.found.table.num_rows // LINES)

    def parts(self) -> tuple[ListPart, ...]:
        """Return the parts with entries."""
        cards, parts, pages = self._cards(), [], self.pages
        for kind, one in enumerate(self.found.parts):
            if not (number := self.found.entries(kind)):
                continue
            entries = self.entries[kind]
            lines = tuple(line(row, self.exposures) for entry in entries for row in entry.rows) if one.folded else ()
            more = "" if len(entries) == number else f"The first {count(len(entries))} of {count(number)} are here."
            address = f"pages/{_page_of(self.found, kind):04d}.html#{one.anchor}" if pages else ""
            heading = one.anchor, one.heading, count(number), one.folded
            parts.append(ListPart(*heading, cards.get(kind, ()), lines, more, address))
        return tuple(parts)

    def _cards(self) -> dict[int, tuple[Card, ...]]:
        """Return the cards of the parts that have cards, with pictures while there is room."""
        taken, made = 0, {}
        for kind, share in _SHARES.items():
            cards = []
            for entry in self.entries[kind]:
                cutouts = self._cutouts(entry) if taken < share * self.limits.pictures else ()
                taken += sum(len(one.picture.uri) for one in cutouts)
                cards.append(card(entry, self.exposures, cutouts))
            made[kind] = tuple(cards)
        return made

    def _cutouts(self, entry: Entry) -> tuple[DetectionCutout, ...]:
        """Return the pictures of an entry: all detections on the difference image, then the first on other planes."""
        found, others = list[DetectionCutout](), list[DetectionCutout]()
        for row in entry.rows[:_MEMBERS]:
            if (store := self.store(row["exposure"])) is None:
                continue
            detection = drawn(row, ListPlace(entry.rank, entry.anchor))
            when = utc(row["midpointMjdTai"])[11:16] if entry.tracklet else ""
            with suppress(BadInput):
                found += cutouts_of(store, detection, (DIFFERENCE.name,), when)
                others = others or cutouts_of(store, detection, CUT_PLANES[1:], when)
        return (*found, *others)


ListLine = tuple[str, str, tuple[str, ...]]
"""Line of a list: its anchor, the address of its card on the page ("" if it has none), and its cells."""


@dataclass(frozen=True)
class ListPage:
    """Page of the lists: its parts as (anchor, "" if continued from the page before; heading; lines)."""

    number: int
    parts: tuple[tuple[str, str, tuple[ListLine, ...]], ...]


def list_pages(found: FoundNight, exposures: Sequence[Exposure], shown: Mapping[int, str]) -> Iterator[ListPage]:
    """Yield the pages with all detections of the night; ``shown`` maps ranks to the anchors of cards."""
    for start in range(0, found.table.num_rows, LINES):
        rows = found.table.slice(start, LINES).to_pylist()
        parts = []
        for kind in sorted({row["kind"] for row in rows}):
            lines = tuple(_list_line(row, found, exposures, shown) for row in rows if row["kind"] == kind)
            begins = _page_of(found, kind) == start // LINES + 1
            parts.append((found.parts[kind].anchor if begins else "", found.parts[kind].heading, lines))
        yield ListPage(start // LINES + 1, tuple(parts))


def _list_line(
    row: Mapping[str, Any], found: FoundNight, exposures: Sequence[Exposure], shown: Mapping[int, str]
) -> ListLine:
    when, *middle, file, one = line(row, exposures)
    what = row["designation"] or found.parts[row["kind"]].one
    address = f"../index.html#{shown[row['rank']]}" if row["rank"] in shown else ""
    cells = (f"{row['rank']:,}", what, when, *middle, ", ".join(flag_words(row["flags"])), file, one)
    return f"d{one}", address, cells


def _page_of(found: FoundNight, kind: int) -> int:
    """Return the number of the page on which the list of a kind begins."""
    return int((found.kinds < kind).sum()) // LINES + 1

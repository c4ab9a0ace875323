"""Tracklets of the night: ranked, with the pictures of their detections that the page has."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.results.motion import NightMotion
from flows.results.page.detection import DetectionCutout, MotionNote
from flows.results.page.words import NOTHING, count, number, utc

PICTURES = 120
"""Pictures in the table."""

HEADINGS = (
    ("Rank", ""),
    ("Pictures", ""),
    ("Known as", ""),
    ("Detections", ""),
    ("First", "UTC"),
    ("RA, Dec", "deg, between"),
    ("Rate", "deg/day"),
    ("PA", "deg"),
    ("Magnitude", "mean, spread"),
    ("RMS", "″"),
    ("By chance", "expected"),
    ("Reliability", "mean"),
)
"""Names of the columns, and what they are measured in."""


@dataclass(frozen=True)
class TrackletRow:
    """Tracklet in words, in the order of `HEADINGS` less the pictures, and the cutouts of its detections, by visit."""

    anchor: str
    cells: tuple[str, ...]
    cutouts: tuple[DetectionCutout, ...]


@dataclass(frozen=True)
class Tracklets:
    """What moved in a night."""

    lead: str
    rows: tuple[TrackletRow, ...]
    headings: tuple[tuple[str, str], ...] = HEADINGS


def ranked(tracklets: pa.Table) -> pa.Table:
    """Return rows of `tracklet`: unknown objects first, then by most detections, least chance, and trackletId."""
    known = pc.not_equal(tracklets["designation"], "")
    order = [("known", "ascending"), ("nSources", "descending"), ("chance", "ascending"), ("trackletId", "ascending")]
    return tracklets.append_column("known", known).sort_by(order).drop_columns("known")


def motion_notes(motion: NightMotion | None, ids: Sequence[pa.ChunkedArray], most: int) -> dict[int, MotionNote]:
    """Return detection -> its tracklet, by its rank, with the name of a known object, or that it is at rest.

    Parameters
    ----------
    motion
        Of the night; None: nothing is known.
    ids
        Of the detections in question.
    most
        So many tracklets are on the page.
    """
    if motion is None or not ids:
        return {}
    wanted = pc.is_in(motion.sources["diaSourceId"], pa.chunked_array([one for many in ids for one in many.chunks]))
    order = ranked(motion.tracklets)
    ranks = {one: rank for rank, one in enumerate(order["trackletId"].to_pylist(), start=1)}
    names = dict(zip(*(order[column].to_pylist() for column in ("trackletId", "designation")), strict=True))
    notes = {}
    for row in motion.sources.filter(wanted).select(["diaSourceId", "stationary", "trackletId"]).to_pylist():
        if rank := ranks.get(row["trackletId"]):
            name = f", {names[row['trackletId']]}" if names[row["trackletId"]] else ""
            notes[row["diaSourceId"]] = MotionNote(f"tracklet {rank}{name}", _anchor(row) if rank <= most else "")
        elif row["stationary"]:
            notes[row["diaSourceId"]] = MotionNote("at rest")
    return notes


def tracklets_of(motion: NightMotion | None, cutouts: Iterable[DetectionCutout], most: int) -> Tracklets | None:
    """Describe the tracklets of a night; None if it was not linked.

    Parameters
    ----------
    motion
        Of the night.
    cutouts
        All that are on the page.
    most
        So many tracklets are listed.
    """
    if motion is None:
        return None
    pictured = {cutout.mark.detection.id: cutout for cutout in cutouts}
    members = _members(motion)
    left, rows = PICTURES, []
    for rank, row in enumerate(ranked(motion.tracklets).slice(0, most).to_pylist(), start=1):
        shown = tuple(pictured[one] for one in members[row["trackletId"]] if one in pictured)[:left]
        left -= len(shown)
        rows.append(TrackletRow(_anchor(row), _cells(row, rank), shown))
    return Tracklets(_lead(motion, most), tuple(rows))


def _members(motion: NightMotion) -> dict[int, list[int]]:
    linked = motion.sources.filter(motion.sources["trackletId"].is_valid())
    found = defaultdict(list)
    for tracklet, one in zip(linked["trackletId"].to_pylist(), linked["diaSourceId"].to_pylist(), strict=True):
        found[tracklet].append(one)
    return found


def _anchor(row: Mapping[str, Any]) -> str:
    return f"t{row['trackletId']}"


def _lead(motion: NightMotion, most: int) -> str:
    linked = len(motion.sources) - motion.sources["trackletId"].null_count
    rest = pc.sum(motion.sources["stationary"]).as_py() or 0
    known, total = count(len(motion.sources)), len(motion.tracklets)
    named = pc.sum(pc.not_equal(motion.tracklets["designation"], "")).as_py() or 0
    of_known = f", {count(named)} of them of known objects" if named else ""
    told = f"{count(total, 'tracklet')} of {count(linked)} of {known} detections{of_known}; {count(rest)} are at rest."
    return told + (f" The first {count(most)} are listed." if total > most else "")


def _cells(row: Mapping[str, Any], rank: int) -> tuple[str, ...]:
    magnitude = number(row["magAB"], 2)
    if magnitude != NOTHING and row["magABStd"] is not None:
        magnitude += f" ± {number(row['magABStd'], 2)}"
    visits = "" if row["nVisits"] == row["nSources"] else f" on {count(row['nVisits'], 'visit')}"
    return (
        count(rank),
        row["designation"] or NOTHING,
        count(row["nSources"]) + visits,
        utc(row["firstMjdTai"])[5:16],
        f"{number(row['ra'], 5)}, {number(row['dec'], 5)}",
        number(row["rate"], 3),
        number(row["positionAngle"], 1),
        magnitude,
        number(row["rms"], 2),
        f"{row['chance']:.1e}".replace("-", "−"),
        number(row["reliabilityMean"], 2),
    )

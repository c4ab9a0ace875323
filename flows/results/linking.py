"""Tracklets of a table of detections: read, linked, written."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel

from flows.runtime.settings import require_there
from flows.storage.atomic import write_file
from kernels.linking.detections import SkyDetections, detections_at, find_stationary
from kernels.linking.tracklets import Tracklet, find_tracklets
from schemas.errors import Misconfigured

NEEDED = {
    "id": ("id", "diaSourceId"),
    "mjd": ("mjd", "midpointMjdTai"),
    "ra": ("ra",),
    "dec": ("dec",),
}
"""Columns that a table must have, and the names each may have."""

OPTIONAL = {
    "posErr": ("posErr",),
    "trailLength": ("trailLength",),
    "trailAngle": ("trailAngle",),
    "exposureTime": ("exposureTime", "exptime"),
    "mag": ("mag", "magAB"),
    "obscode": ("obscode",),
    "trailClass": ("trailClass",),
}

_ERROR = 0.2  # arcsec, where a row has none
_RANGES = {"mjd": (15020.0, 88069.0), "ra": (0.0, 360.0), "dec": (-90.0, 90.0)}  # 1900 to 2100
_TOLD = 5  # rows named for each reason


class LinkSummary(BaseModel):
    """What was linked.

    Attributes
    ----------
    detections
        Rows of the table.
    tracklets, linked
        Tracklets, and the detections in them.
    stationary
        SkyDetections that are seen again at their place.
    left_out
        Rows that were not used, by reason.
    """

    detections: int
    tracklets: int
    linked: int
    stationary: int
    left_out: dict[str, int]

    @property
    def exit_code(self) -> int:
        """Return 1 if rows could not be used."""
        return int(any(reason != SATELLITE for reason in self.left_out))


SATELLITE = "a satellite"
"""Why rows are left out that nothing is wrong with."""


class DetectionTable(NamedTuple):
    """Rows of a table that can be used, sorted by time and id, and why others cannot."""

    ids: pa.Array
    detections: SkyDetections
    obscode: NDArray[np.str_]
    rows: int
    left_out: dict[str, list[int]]


def read_detections(path: Path) -> DetectionTable:
    """Read a table of detections: a Parquet or CSV file, or a folder of Parquet files.

    Raises
    ------
    Misconfigured
        There is no such table, it cannot be read, lacks a column, or a column holds no numbers.
    """
    require_there(path, "another table of detections.")
    try:
        table = _table(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        problem = f"cannot be read as Parquet or CSV: {error}."
        raise Misconfigured("unreadable_table", str(path), problem, "give a table in one of these formats.") from error
    columns = {name: _column(path, table, name, names) for name, names in (NEEDED | OPTIONAL).items()}
    numbers = {
        name: _numbers(path, name, columns[name]) for name in columns if name not in ("id", "obscode", "trailClass")
    }
    left_out = _unusable(columns["id"], numbers, columns["trailClass"])
    wrong = {row for rows in left_out.values() for row in rows}
    good = np.array([row for row in range(len(table)) if row not in wrong], np.intp)
    ids = columns["id"].take(pa.array(good))
    good = good[np.lexsort((pc.rank(ids, tiebreaker="first").to_numpy(), numbers["mjd"][good]))]
    some = {name: values[good] for name, values in numbers.items()}
    sigma = some["posErr"]
    detections = detections_at(
        some["ra"], some["dec"], some["mjd"], np.where(np.isfinite(sigma) & (sigma > 0), sigma, _ERROR),
        trail_length=some["trailLength"], trail_angle=some["trailAngle"], exposure_time=some["exposureTime"],
        magnitude=some["mag"],
    )  # fmt: skip
    codes = columns["obscode"].cast(pa.string()).fill_null("").take(pa.array(good))
    return DetectionTable(
        columns["id"].take(pa.array(good)), detections, np.array(codes.to_pylist(), np.str_), len(table), left_out
    )


def _table(path: Path) -> pa.Table:
    if path.is_dir() or path.read_bytes()[:4] == b"PAR1":
        return pyarrow.dataset.dataset(path, format="parquet").to_table()
    return pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True))


def _column(path: Path, table: pa.Table, name: str, names: Sequence[str]) -> pa.Array:
    for one in names:
        if one in table.column_names:
            column = table[one].combine_chunks()
            return column.cast(pa.string()) if pa.types.is_null(column.type) else column
    if name in NEEDED:
        problem = f"has no column {name!r} among {', '.join(table.column_names)}."
        raise Misconfigured("missing_column", str(path), problem, f"name it {' or '.join(names)}.")
    return pa.nulls(len(table), pa.string() if name in ("obscode", "trailClass") else pa.float64())


def _numbers(path: Path, name: str, column: pa.Array) -> NDArray[np.float64]:
    try:
        return np.asarray(column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False), np.float64)
    except pa.ArrowException as error:
        problem = f"column {name!r} holds {column.type}: {error}."
        raise Misconfigured("not_a_number", str(path), problem, "give numbers there.") from error


def _unusable(ids: pa.Array, numbers: dict[str, NDArray[np.float64]], classes: pa.Array) -> dict[str, list[int]]:
    """Return the rows that cannot be used, from 1, by reason; each has one."""
    reasons: dict[str, NDArray[np.bool_]] = {"no id": ids.is_null().to_numpy(zero_copy_only=False)}
    for name, (low, high) in _RANGES.items():
        reasons[f"{name} is not a number from {low:g} to {high:g}"] = ~(
            (numbers[name] >= low) & (numbers[name] <= high)
        )
    first: dict[Any, int] = {}
    again = [first.setdefault(value, row) != row for row, value in enumerate(ids.to_pylist())]
    reasons["the id of an earlier row"] = np.array(again, np.bool_)
    reasons[SATELLITE] = np.array([bool(value) for value in classes.to_pylist()], np.bool_)
    known: NDArray[np.bool_] = np.zeros(len(ids), np.bool_)
    found = {}
    for reason, wrong in reasons.items():
        rows = np.flatnonzero(wrong & ~known)
        known |= wrong
        if len(rows):
            found[reason] = rows.tolist()
    return found


def link_table(table: DetectionTable) -> tuple[LinkSummary, list[Tracklet]]:
    """Link the detections of each observatory; members of tracklets are places in the table, by time."""
    stationary = np.zeros(len(table.ids), np.bool_)
    tracklets: list[Tracklet] = []
    for code in np.unique(table.obscode):
        here = np.flatnonzero(table.obscode == code)
        own = table.detections.take(here)
        still = find_stationary(own)
        stationary[here] = still
        found = find_tracklets(own, ~still)
        tracklets += [one._replace(members=tuple(int(here[n]) for n in one.members)) for one in found]
    tracklets.sort(key=lambda one: (one.motion.mjd, one.members))
    summary = LinkSummary(
        detections=table.rows,
        tracklets=len(tracklets),
        linked=sum(len(one.members) for one in tracklets),
        stationary=int(stationary.sum()),
        left_out={reason: len(rows) for reason, rows in table.left_out.items()},
    )
    return summary, tracklets


def members_of(table: DetectionTable, tracklets: Sequence[Tracklet]) -> pa.Table:
    """Return a row for each detection of a tracklet; tracklets are numbered from 1, by time."""
    count = [len(one.members) for one in tracklets]
    places = pa.array([place for one in tracklets for place in one.members], pa.int64())
    motion = {
        "rate": [one.motion.rate for one in tracklets],
        "positionAngle": [one.motion.angle for one in tracklets],
        "rms": [one.motion.rms for one in tracklets],
        "chance": [one.chance for one in tracklets],
    }
    columns = {
        "trackletId": pa.array(np.repeat(np.arange(1, len(count) + 1), count), pa.int64()),
        "id": table.ids.take(places),
        **{name: pa.array(np.repeat(values, count), pa.float64()) for name, values in motion.items()},
    }
    units = {"rate": "deg / day", "positionAngle": "deg", "rms": "arcsec"}
    fields = [
        pa.field(name, column.type, metadata={"unit": units[name]} if name in units else None)
        for name, column in columns.items()
    ]
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))


def write_members(path: Path, members: pa.Table) -> None:
    """Write a Parquet file, whole or not at all; errors are those of `flows.storage.atomic.write_file`."""
    content = io.BytesIO()
    pq.write_table(members, content)
    write_file(path, content.getvalue(), path.parent)


def left_out_words(table: DetectionTable) -> list[str]:
    """Return a sentence for each reason why rows were left out, with the first of them, from 1."""
    words = []
    for reason, rows in table.left_out.items():
        shown = ", ".join(str(row + 1) for row in rows[:_TOLD]) + (", ..." if len(rows) > _TOLD else "")
        words.append(f"{len(rows)} rows left out: {reason} (rows {shown})")
    return words

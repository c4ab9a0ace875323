"""Forced photometry as a table on the terminal."""

from typing import Any

import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from schemas.forced_source import FORCED_SOURCE, ForcedFlag
from schemas.forced_summary import ForcedSummary, Note

MOST = 50
"""So many rows, names and notes are listed; the rest are counted."""


class FirstRows:
    """Keeps the first rows of many tables, so that memory does not grow with the night."""

    def __init__(self) -> None:
        self.table = FORCED_SOURCE.empty()

    def __call__(self, table: pa.Table) -> None:
        """Take what there is still room for."""
        self.table = pa.concat_tables([self.table, table.slice(0, MOST - len(self.table))])


def show(summary: ForcedSummary, rows: pa.Table, console: Console) -> None:
    """Print the rows and what they come to."""
    table = Table(title="Forced photometry", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("target", no_wrap=True)
    for heading in ("visit-detector", "band", "AB mag", "S/N"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("flags", min_width=12)
    for row in rows.to_pylist():
        table.add_row(*_cells(row))
    if len(rows):
        console.print(table)
    if summary.rows > len(rows):
        console.print(f"{summary.rows - len(rows):,} rows more, see the catalogues.", highlight=False)
    console.print(
        f"{summary.targets:,} targets, {summary.exposures:,} exposures: {summary.detections:,} detections, "
        f"{summary.limits:,} upper limits, {summary.not_measured:,} not measured; {len(summary.not_covered):,} targets "
        "on none of them.",
        highlight=False,
        soft_wrap=True,
    )


def tell(summary: ForcedSummary, console: Console) -> None:
    """Print what was left out, and why."""
    for title, notes in (
        ("left out", summary.left_out),
        ("not run", summary.not_run),
        ("quarantined", summary.quarantined),
    ):
        _list(title, notes, console)


def _list(title: str, notes: tuple[Note, ...], console: Console) -> None:
    for note in notes[:MOST]:
        console.print(f"{title}: {note}", highlight=False, markup=False, soft_wrap=True)
    if len(notes) > MOST:
        console.print(f"{title}: {len(notes) - MOST} more, see --json.", highlight=False)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    flags = ForcedFlag(row["flags"])
    return (
        escape(str(row["targetName"])),
        f"{row['visit']}-{row['detector']}",
        escape(str(row["band"])),
        _magnitude(row),
        "" if row["snr"] is None else f"{row['snr']:.1f}",
        " ".join(flag.name or "" for flag in flags),
    )


def _magnitude(row: dict[str, Any]) -> str:
    """Magnitude of a detection, limit of anything else."""
    if row["magAB"] is not None:
        return f"{row['magAB']:.2f} ± {row['magABErr']:.2f}"
    return "" if row["magABLimit"] is None else f"> {row['magABLimit']:.2f}"

"""The state of an output folder on the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from flows.quality.assess import told
from flows.status import Status
from schemas.ledger import Percentiles, WatchRecord
from schemas.summary import Trouble

STATES = ("done", "outdated", "quarantined", "failed")
MOST = 20
"""So many troubles of a night are listed; the rest are counted."""

LIVE_S = 7 * 86400.0
"""Exposures of which half became catalogues later than this after their shutter closed count as an archive, s."""


def show_status(status: Status, console: Console) -> None:
    """Print a table of the nights, what is wrong, and what is running."""
    table = Table("night", *STATES, "detections", "lag p50 / p99")
    for column in table.columns[1:6]:
        column.justify = "right"
    for one in status.nights:
        counts = (str(one.exposures.get(state, 0)) for state in STATES)
        table.add_row(one.night, *counts, f"{one.detections:,}", _lag(one.lag_s))
    console.print(table)
    for one in status.nights:
        for model, count in one.models.items():
            _say(f"{one.night} {model}: {count} exposures", console)
        for band in one.quality:
            _say(f"{one.night} quality of {band.instrument} {band.band}: {band.verdict.replace('_', ' ')}", console)
            for line in (*band.notes, *told(band)):
                _say(f"{one.night} {band.band} {line}", console)
        _list(one.night, one.troubles, console)
    if status.holder is not None:
        _say(f"held by process {status.holder.pid} on {status.holder.host}, since {status.holder.since}", console)
    if status.watch is not None:
        _say(_stream(status.watch), console)


def _stream(watch: WatchRecord) -> str:
    counts = watch.exposures
    return (
        f"watch of {watch.source}: {watch.state} at {watch.updated_at}; {watch.on_the_way} on the way, {watch.waiting} "
        f"waiting; {counts.done} done, {counts.skipped} skipped, {counts.quarantined} quarantined, "
        f"{counts.failed} failed; "
        f"from shutter close {_lag(watch.lag_s)}, from arrival {_percentiles(watch.turnaround_s)}"
    )


def _lag(lag: Percentiles | None) -> str:
    """Give the time from the end of an exposure to its catalogue; for an archive it says nothing of how fast we are."""
    return "archive" if lag is not None and lag.p50 > LIVE_S else _percentiles(lag)


def _percentiles(found: Percentiles | None) -> str:
    return "-" if found is None else f"{_duration(found.p50)} / {_duration(found.p99)}"


def _duration(seconds: float) -> str:
    """Give a duration in the unit that suits it."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _list(night: str, troubles: Sequence[Trouble], console: Console) -> None:
    for trouble in troubles[:MOST]:
        _say(f"{night} {trouble.code}: {trouble.message}", console)
    if len(troubles) > MOST:
        _say(f"{night}: {len(troubles) - MOST} more, see --json", console)


def _say(text: str, console: Console) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)

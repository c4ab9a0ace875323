"""The summary of a run as a table on the terminal."""

from rich.console import Console
from rich.table import Table

from flows.quality.assess import told
from schemas.cause_count import CauseCount
from schemas.recovery import Limit
from schemas.summary import ELAPSED, RunSummary, Trouble

MOST = 20
"""So many troubles are listed; the rest are counted."""


def show(summary: RunSummary, console: Console) -> None:
    """Print what a run came to."""
    counts = summary.exposures
    if counts.skipped == counts.seen and "objects" not in summary.seconds:
        console.print("Nothing to do: every exposure is published already.", highlight=False)
    table = Table(title="Night" if len(summary.nights) == 1 else "Nights", title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    table.add_row("night", " ".join(summary.nights) or "-")
    for name, count in counts.model_dump().items():
        table.add_row(f"exposures {name}", f"{count:,}")
    table.add_row("windows searched", f"{summary.windows:,}")
    table.add_row("windows not scored", f"{summary.unscored:,}")
    table.add_row("detections published", f"{summary.detections:,}")
    for name, rows in summary.catalogues.items():
        table.add_row(f"rows of {name}", f"{rows:,}")
    for name, counted in summary.causes.items():
        if counted != CauseCount():
            words = f"{counted.refused:,} refused, {counted.published:,} published"
            table.add_row(f"candidates, {name.replace('_', ' ')}", words)
    for one in summary.injection:
        if one.band is None:
            table.add_row(f"synthetic streaks recovered, {one.night}", f"{one.recovered:,} of {one.n:,}")
            table.add_row(f"S/N of half recovered, {one.night}", _limit(one.snr))
    for night, bands in summary.quality.items():
        for band in bands:
            table.add_row(f"quality of {night}, {band.instrument} {band.band}", band.verdict.replace("_", " "))
    worked = sum(summary.worker_seconds.values())
    for part, seconds in summary.worker_seconds.items():
        table.add_row(f"{part}, worker s", f"{seconds:,.1f} ({seconds / worked if worked else 0:4.0%})")
    for part in ELAPSED:
        if part in summary.seconds:
            table.add_row(f"{part}, s", f"{summary.seconds[part]:,.1f}")
    for stage, reason in summary.not_run.items():
        table.add_row(f"{stage} not run", reason)
    console.print(table)
    _list("quarantined", summary.quarantined, console)
    _list("failed", summary.failed, console)
    _list("failed", summary.night_failed, console)
    _list("failed", summary.quality_failed, console)
    for night, bands in summary.quality.items():
        for line in (line for band in bands for line in told(band)):
            console.print(f"quality of {night}: {line}", highlight=False, markup=False, soft_wrap=True)
    for warning in summary.warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False)
    if summary.report is not None:
        console.print(f"page: {summary.report}", highlight=False, markup=False, soft_wrap=True)


def _limit(limit: Limit) -> str:
    """Give a limit with its interval, or the reason why there is none."""
    if limit.value is None or limit.interval is None:
        return f"- ({limit.reason})"
    return f"{limit.value:.1f} ({limit.interval[0]:.1f} to {limit.interval[1]:.1f})"


def _list(title: str, troubles: tuple[Trouble, ...], console: Console) -> None:
    for trouble in troubles[:MOST]:
        console.print(f"{title}: {trouble.message}", highlight=False, markup=False, soft_wrap=True)
    if len(troubles) > MOST:
        console.print(f"{title}: {len(troubles) - MOST} more, see the JSON output or OUT/quarantine", highlight=False)

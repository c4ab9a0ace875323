"""Summary of a run as a table on the terminal."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from flows.results.quality.judge import told
from schemas.exposure import ASSUMPTIONS
from schemas.recovery import Limit
from schemas.summary import ELAPSED, CauseCount, RunSummary, Trouble

MOST = 20
"""So many troubles are listed; the rest are counted."""


def show_summary(summary: RunSummary, console: Console) -> None:
    """Print what a run came to."""
    counts = summary.exposures
    if counts.skipped == counts.seen and "objects" not in summary.seconds:
        console.print("Nothing to do: every exposure is published already.", highlight=False)
    table = Table(title="Night" if len(summary.nights) == 1 else "Nights", title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    for name, value in lines(summary):
        table.add_row(name, value)
    console.print(table)
    _list("quarantined", summary.quarantined, console)
    _list("failed", summary.failed, console)
    _list("failed", summary.night_failed, console)
    _list("failed", summary.quality_failed, console)
    _list("not sent", summary.alerts_failed, console)
    for night, bands in summary.quality.items():
        for line in (line for band in bands for line in told(band)):
            console.print(f"quality of {night}: {line}", highlight=False, markup=False, soft_wrap=True)
    for words in assumed_words(summary):
        console.print(words, highlight=False, markup=False, soft_wrap=True, style="bold yellow")
    for warning in summary.warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False)
    if summary.report is not None:
        console.print(f"page: {summary.report}", highlight=False, markup=False, soft_wrap=True)


def assumed_words(summary: RunSummary) -> Iterator[str]:
    """Yield a line for each kind of assumption that exposures of the run rest on, and what tells more."""
    for flag, count in summary.assumed.items():
        of = "1 exposure" if count == 1 else f"{count:,} exposures"
        yield f"ASSUMED ({flag}), {of}: {ASSUMPTIONS.get(flag, flag)}."
    if summary.assumed:
        yield "nightstride inspect FILE tells what a file says, and writes the settings that say the rest."


def lines(summary: RunSummary) -> Iterator[tuple[str, str]]:
    """Return what a run came to, line by line: what, and how much."""
    yield "night", " ".join(summary.nights) or "-"
    for name, count in summary.exposures.model_dump().items():
        yield f"exposures {name}", f"{count:,}"
    yield "places searched", f"{summary.windows:,}"
    yield "windows not scored", f"{summary.unscored:,}"
    yield "detections published", f"{summary.detections:,}"
    for name, rows in summary.catalogues.items():
        yield f"rows of {name}", f"{rows:,}"
    for name, counted in summary.causes.items():
        if counted != CauseCount():
            words = f"{counted.refused:,} refused, {counted.published:,} published"
            yield f"candidates, {name.replace('_', ' ')}", words
    for one in summary.injection:
        if one.band is None:
            yield f"synthetic streaks recovered, {one.night}", f"{one.recovered:,} of {one.n:,}"
            yield f"S/N of half recovered, {one.night}", _limit(one.snr)
    for night, bands in summary.quality.items():
        for band in bands:
            yield f"quality of {night}, {band.instrument} {band.band}", band.verdict.replace("_", " ")
    if summary.alerts is not None:
        for name, number in summary.alerts.model_dump(exclude={"lag_s"}).items():
            yield f"alerts {name}", f"{number:,}"
        if (lag := summary.alerts.lag_s) is not None:
            yield "alert after, s: median, 95 %, 99 %", f"{lag.p50:,.1f}, {lag.p95:,.1f}, {lag.p99:,.1f}"
    worked = sum(summary.worker_seconds.values())
    for part, seconds in summary.worker_seconds.items():
        yield f"{part}, worker s", f"{seconds:,.1f} ({seconds / worked if worked else 0:4.0%})"
    for part in ELAPSED:
        if part in summary.seconds:
            yield f"{part}, s", f"{summary.seconds[part]:,.1f}"
    for stage, reason in summary.not_run.items():
        yield f"{stage} not run", reason


def _limit(limit: Limit) -> str:
    """Return a limit with its interval, or the reason why there is none."""
    if limit.value is None or limit.interval is None:
        return f"- ({limit.reason})"
    return f"{limit.value:.1f} ({limit.interval[0]:.1f} to {limit.interval[1]:.1f})"


def _list(title: str, troubles: tuple[Trouble, ...], console: Console) -> None:
    for trouble in troubles[:MOST]:
        console.print(f"{title}: {trouble.message}", highlight=False, markup=False, soft_wrap=True)
    if len(troubles) > MOST:
        console.print(f"{title}: {len(troubles) - MOST} more, see the JSON output or OUT/quarantine", highlight=False)

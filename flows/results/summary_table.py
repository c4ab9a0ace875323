"""Summary of a run on the terminal, in ten lines or as a full table."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.results.page.words import count as how_many
from flows.results.quality.judge import failure, told
from flows.runtime.words import typed
from flows.storage.bucket_path import located
from flows.storage.layout import catalogs_folder
from schemas.errors import NightstrideError
from schemas.exposure import ASSUMPTIONS
from schemas.known_object import SS_EPHEMERIS
from schemas.recovery import Limit
from schemas.summary import ELAPSED, CauseCount, RunSummary, Trouble
from schemas.tracklets import TRACKLET

MOST = 20
"""Maximum number of troubles that are listed; the rest are counted."""


_MOST_PAGES = 2

_STATES = {
    "done": "searched", "skipped": "published before or copies", "quarantined": "in quarantine", "failed": "failed",
}  # fmt: skip
"""Words for the counts of exposures."""

LINES = 10
"""Maximum number of lines on the outcome of a run and what to do next."""


def show_night(summary: RunSummary, console: Console, out: Path | None = None) -> None:
    """Print results, problems and next steps in at most `LINES` lines.

    Parameters
    ----------
    summary, console
        Summary of the run, and console to print to.
    out
        Output folder, used to name moving objects; None: they are not named.
    """
    found, following = list(_found(summary, out)), list(_next(summary, out))
    wrong = list(_wrong(summary))
    room = LINES - len(found) - len(following)
    if len(wrong) > room:
        every = f"nightstride status {'OUT' if out is None else typed(out)} --json"
        more = (
            f"{len(wrong) - room + 1:,} more troubles: {every} lists those of all exposures; --verbose shows warnings"
        )
        wrong = [*wrong[: room - 1], more]
    for line in (*found, *wrong, *following):
        style = "bold yellow" if line.startswith("ASSUMED") else ""
        console.print(line, highlight=False, markup=False, soft_wrap=True, style=style)


def _found(summary: RunSummary, out: Path | None) -> Iterator[str]:
    """Yield at most five lines with what was searched and found, and the depth."""
    counts, nights = summary.exposures, summary.nights
    when = f"Night {nights[0]}" if len(nights) == 1 else "No night"
    if len(nights) > 1:
        when = f"{len(nights):,} nights, {nights[0]} to {nights[-1]}"
    parts = [f"{getattr(counts, name):,} {said}" for name, said in _STATES.items() if getattr(counts, name)]
    took = f", in {summary.seconds['wall']:,.0f} s" if "wall" in summary.seconds else ""
    if counts.skipped == counts.seen and "objects" not in summary.seconds and not summary.stopped:
        yield (
            "Nothing to do: every exposure is published already." if counts.seen else "Nothing to do: no exposure came."
        )
    yield f"{when}: {how_many(counts.seen, 'exposure')}: {', '.join(parts) or 'none'}{took}."
    tracklets = summary.catalogues.get(TRACKLET.name)
    yield f"Found: {how_many(summary.detections, 'detection')}" + (
        "." if tracklets is None else f", {how_many(tracklets, 'tracklet')}{_movers(out, nights) if tracklets else ''}."
    )
    judged = [one for some in summary.quality.values() for one in some]
    several = len({one.instrument for one in judged}) > 1
    bands = [
        " ".join(
            [
                *[night] * (len(summary.quality) > 1),
                *[one.instrument] * several,
                one.band,
                one.verdict.replace("_", " "),
            ]
        )
        for night, some in summary.quality.items()
        for one in some
    ]
    back = [f"{one.recovered:,} of {one.n:,}" for one in summary.injection if one.band is None]
    told = [f"quality {', '.join(bands)}"] if 0 < len(bands) <= MOST else []
    told += [f"synthetic streaks recovered {', '.join(back)}"] if 0 < len(back) <= MOST else []
    if told:
        line = "; ".join(told)
        yield f"{line[0].upper()}{line[1:]}."  # band names are case-sensitive
    if summary.alerts is not None:
        sent = (f"{number:,} {name}" for name, number in summary.alerts.model_dump(exclude={"lag_s"}).items())
        yield f"Alerts: {', '.join(sent)}."


def _movers(out: Path | None, nights: tuple[str, ...]) -> str:
    """Return a line with the number of tracklets without a known object, if orbits are given, and the best of them."""
    if out is None or not nights:
        return ""
    # Imported here because most commands that import this file do not need it.
    from flows.results.catalogue_rows import CatalogueRows

    columns = ["trackletId", "nSources", "chance", "rate", "designation"]
    with suppress(NightstrideError, OSError):
        rows = CatalogueRows(out, TRACKLET, nights).read(columns, None).to_pylist()
        if not rows:
            return ""
        unknown = sorted(
            (one for one in rows if not one["designation"]), key=lambda one: (-one["nSources"], one["chance"])
        )
        best = ", ".join(f"{one['trackletId']} ({one['rate']:.2f} deg/day)" for one in unknown[:2])
        told = f", {len(unknown):,} of no known object" if len(unknown) < len(rows) or _predicted(out, nights) else ""
        return told + (f": look first at {best}" if best else "")
    return ""


def _predicted(out: Path, nights: tuple[str, ...]) -> bool:
    """Return whether positions of known objects were predicted in any of the nights, which needs orbits."""
    return any((catalogs_folder(out) / SS_EPHEMERIS.name / f"night={night}").is_dir() for night in nights)


def _wrong(summary: RunSummary) -> Iterator[str]:
    """Yield a line for each problem, and one line for all assumptions."""
    if summary.assumed:
        told_of = ((ASSUMPTIONS.get(one, one), one, how_many(n, "exposure")) for one, n in summary.assumed.items())
        most = "; ".join(f"{words} ({flag}, {number})" for words, flag, number in told_of)
        yield f"ASSUMED: {most}. nightstride inspect FILE says what a file tells, and writes the settings."
    for title, troubles in _troubles(summary):
        yield from (f"{title}: {one.message}" for one in troubles)
    yield from _of_quality(summary)
    yield from (f"warning: {warning}" for warning in summary.warnings)


def _next(summary: RunSummary, out: Path | None) -> Iterator[str]:
    """Yield the next steps."""
    yield from (f"page: {page}" for page in _pages(summary))
    folder = "OUT" if out is None else typed(out)
    if out is not None and summary.detections:
        yield f"Next: nightstride explain {folder} ID, nightstride vet {folder}; --verbose shows all figures."
    elif out is not None and summary.exposures.quarantined + summary.exposures.failed:
        yield f"Next: nightstride status {folder}; --verbose shows all figures."


def _troubles(summary: RunSummary) -> Iterator[tuple[str, tuple[Trouble, ...]]]:
    yield "quarantined", summary.quarantined
    yield from (("failed", one) for one in (summary.failed, summary.night_failed, summary.quality_failed))
    yield "not sent", summary.alerts_failed


def _of_quality(summary: RunSummary) -> Iterator[str]:
    """Yield the quality problems of bands, except those that made a night fail, which are among the troubles."""
    failed = {one.message for one in summary.quality_failed}
    for night, bands in summary.quality.items():
        for band in bands:
            yield from (f"quality of {night}: {one}" for one in told(band) if failure(night, band, one) not in failed)


def show_troubles(summary: RunSummary, console: Console) -> None:
    """Print the failures of a run, with reasons."""
    for title, troubles in _troubles(summary):
        _list(title, troubles, console)


def show_summary(summary: RunSummary, console: Console) -> None:
    """Print all figures of a run."""
    counts = summary.exposures
    if counts.skipped == counts.seen and "objects" not in summary.seconds and not summary.stopped:
        console.print("Nothing to do: every exposure is published already.", highlight=False)
    table = Table(title="Night" if len(summary.nights) == 1 else "Nights", title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    for name, value in lines(summary):
        table.add_row(Text(name), Text(value))  # brackets of a band are not markup
    console.print(table)
    show_troubles(summary, console)
    for line in _of_quality(summary):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for words in assumed_words(summary):
        console.print(words, highlight=False, markup=False, soft_wrap=True, style="bold yellow")
    for warning in summary.warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False)
    for page in _pages(summary):
        console.print(f"page: {page}", highlight=False, markup=False, soft_wrap=True)


def _pages(summary: RunSummary) -> list[str]:
    """Return the existing pages of the nights of a run; if there are many, only the last ones."""
    if summary.report is None:
        return []
    reports, slash, name = summary.report.rpartition("/")
    folder, _, night = reports.rpartition("/")
    if night not in summary.nights:
        return [summary.report]
    pages = (f"{folder}/{night}{slash}{name}" for night in summary.nights[-_MOST_PAGES:])
    return [page for page in pages if page == summary.report or located(page).exists()]


def assumed_words(summary: RunSummary) -> Iterator[str]:
    """Yield a line for each kind of assumption made for exposures of the run, and where to find details."""
    for flag, count in summary.assumed.items():
        yield f"ASSUMED ({flag}), {how_many(count, 'exposure')}: {ASSUMPTIONS.get(flag, flag)}."
    if summary.assumed:
        yield "nightstride inspect FILE tells what a file says, and writes the settings that say the rest."


def lines(summary: RunSummary) -> Iterator[tuple[str, str]]:
    """Return the results of a run, line by line, as names and values."""
    yield "night", " ".join(summary.nights) or "-"
    for name, count in summary.exposures.model_dump().items():
        yield f"exposures {name}", f"{count:,}"
    kept = summary.exposures.done and not summary.windows
    yield "places searched", "none again" if kept else f"{summary.windows:,}"
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
    """Return a limit with its interval, or the reason why it is missing."""
    if limit.value is None or limit.interval is None:
        return f"- ({limit.reason})"
    return f"{limit.value:.1f} ({limit.interval[0]:.1f} to {limit.interval[1]:.1f})"


def _list(title: str, troubles: tuple[Trouble, ...], console: Console) -> None:
    for trouble in troubles[:MOST]:
        console.print(f"{title}: {trouble.message}", highlight=False, markup=False, soft_wrap=True)
    if len(troubles) > MOST:
        console.print(f"{title}: {len(troubles) - MOST} more, see the JSON output or OUT/quarantine", highlight=False)

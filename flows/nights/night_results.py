"""What whole nights of a run have: catalogues, quality, pages."""

from collections import Counter
from pathlib import Path
from time import perf_counter

from flows.nights.progress import Progress
from flows.pipeline.night_plan import NightWork, plan_nights
from flows.results.quality.assess import assess, told
from flows.runtime.traces import span
from schemas.recovery import Recovery
from schemas.settings import Settings
from schemas.summary import RunSummary, Trouble
from stages import PIPELINE


def with_catalogues(summary: RunSummary, out: Path, settings: Settings, progress: Progress) -> RunSummary:
    """Bring the datasets of whole nights up to date, and add them to what a run came to.

    Raises
    ------
    Misconfigured
        A model or the ledger cannot be used, or nothing may be written.
    """
    works = plan_nights(summary.nights, out, settings, PIPELINE)
    rows: Counter[str] = Counter()
    not_run = dict(summary.not_run)
    for work in works:
        if not work.outdated:
            rows.update({name: entry.rows for name, entry in work.kept.items()})
            not_run |= work.not_run
    outdated = [work for work in works if work.outdated]
    if not outdated:
        return summary.model_copy(update={"catalogues": dict(rows), "not_run": not_run})
    return _made(summary, outdated, rows, not_run, out, settings, progress)


def _made(
    summary: RunSummary,
    works: list[NightWork],
    rows: Counter[str],
    not_run: dict[str, str],
    out: Path,
    settings: Settings,
    progress: Progress,
) -> RunSummary:
    # Imported here: a rerun with nothing to do should not pay for it.
    from flows.nights.night_stages import run_nights

    start = perf_counter()
    progress.say(f"Bringing together night {', '.join(work.night for work in works)}.")
    with span("objects", {"nights": " ".join(work.night for work in works)}):
        results = run_nights(works, out, settings)
    failed = list(summary.night_failed)
    for result in results.values():
        rows.update({name: entry.rows for name, entry in result.datasets.items()})
        not_run |= result.not_run
        failed += result.failed
    seconds = {**summary.seconds, "objects": round(perf_counter() - start, 3)}
    return summary.model_copy(
        update={"catalogues": dict(rows), "not_run": not_run, "night_failed": tuple(failed), "seconds": seconds}
    )


def with_quality(
    summary: RunSummary, night: str, out: Path, settings: Settings, recoveries: tuple[Recovery, ...] | None = None
) -> RunSummary:
    """Add the verdicts on a night; that it cannot be judged is a warning, and withholds nothing.

    Parameters
    ----------
    summary
        Of the run.
    night, out, settings
        Which night, and where.
    recoveries
        What came back of its synthetic streaks, if that is added up already.
    """
    try:
        record = assess(out, night, settings.quality, recoveries)
    except Exception as error:
        warning = f"quality of night {night} not judged: {type(error).__name__}: {error}"
        return summary.model_copy(update={"warnings": (*summary.warnings, warning)})
    if record is None:
        return summary
    failed = [
        Trouble(uri=f"night {night}", code="quality", message=f"night {night}, {one.instrument} {one.band}: {line}")
        for one in record.judged
        if settings.quality.fail_night and one.verdict == "fail"
        for line in told(one)
    ]
    quality = {**summary.quality, night: record.judged}
    return summary.model_copy(update={"quality": quality, "quality_failed": (*summary.quality_failed, *failed)})


def with_reports(summary: RunSummary, out: Path, settings: Settings, progress: Progress) -> RunSummary:
    """Add up what came back of each night, judge it, and make its page; what fails is a warning, no failed night."""
    from flows.results.evaluation.recovery import read_recoveries
    from flows.results.page.page import write_report

    for night in summary.nights:
        progress.say(f"Drawing the page of night {night}.")
        try:
            found = read_recoveries(out, night)
            summary = summary.model_copy(update={"injection": (*summary.injection, *found)})
            summary = with_quality(summary, night, out, settings, found)
            with span("report", {"night": night}):
                page = write_report(out, night, summary)
        except Exception as error:
            warning = f"no page of night {night}: {type(error).__name__}: {error}"
            summary = summary.model_copy(update={"warnings": (*summary.warnings, warning)})
        else:
            summary = summary.model_copy(update={"report": str(page)})
    return summary

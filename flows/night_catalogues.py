"""What the nights that a run touched have as a whole: made where it is outdated, and counted."""

from collections import Counter
from pathlib import Path
from time import perf_counter

from flows.night_plan import NightWork, plan_nights
from flows.observe.traces import span
from flows.progress import Progress
from schemas.settings import Settings
from schemas.summary import RunSummary
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
    from flows.night_stages import run_nights

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

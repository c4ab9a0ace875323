"""Run of a night: plan, search on a cluster, night-level stages, pages."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, nullcontext, suppress
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING

from flows.inputs.source import Source
from flows.inputs.source_state import sha256_of
from flows.nights.catalogues import Again, former_source, note_exposures, with_association, with_changes, with_rows
from flows.nights.cluster.startup import import_engines, start_services
from flows.nights.forced_history import with_forced
from flows.nights.joined_catalogues import compacted, take_apart
from flows.nights.night_process import night_process
from flows.nights.progress import Progress
from flows.nights.recorder import Recorder
from flows.nights.totals import rounded_seconds, summarise_run
from flows.pipeline.models import require_weights
from flows.pipeline.night_plan import plan_nights
from flows.pipeline.night_work import NightWork
from flows.pipeline.outcome import Outcome, Plan, unfinished
from flows.results.quality.assess import assess
from flows.results.quality.judge import failure, told
from flows.runtime.collector import resume_collector
from flows.runtime.parallel import Caller, here
from flows.runtime.traces import span
from flows.storage.fence import fenced_task
from flows.storage.holder import own_fence
from flows.storage.layout import page_path
from flows.storage.ledger import Ledger
from flows.storage.night_sums import settle
from schemas.errors import Misconfigured, first_of
from schemas.exposure import ExposureKey
from schemas.night_range import nights_followed
from schemas.recovery import Recovery
from schemas.settings import AssociationSettings, Settings
from schemas.summary import RunSummary, Trouble
from stages import PIPELINE

if TYPE_CHECKING:
    from rich.console import Console

    from flows.nights.cluster.cluster import Cluster
    from flows.nights.exposure_work import Worked
    from flows.nights.meter import Meter
    from flows.nights.night_stages import NightResult
    from flows.nights.nightly import NightRun, Outlet
    from flows.pipeline.plan import Planner

RECORD_S = 20.0
"""How long a run that ends early records exposures as failed, s: it may be killed soon after being stopped."""

LARGE = 1000
"""Number of exposures above which pages are drawn in a separate process even if nothing is searched."""


def run_night(plan: Plan, out: Path, settings: Settings, progress: Progress, outlet: "Outlet | None") -> RunSummary:
    """Search the exposures that a plan leaves to do, and draw the pages of the nights.

    Parameters
    ----------
    plan, out, settings
        Plan, output folder and settings of the run. The caller holds the lease of ``out``.
    progress
        Receives each step.
    outlet
        Sends the alerts of visits; None: no alerts are sent.

    Raises
    ------
    Misconfigured
        No exposure could succeed: too little memory per worker, no cluster, a missing model, ...
    """
    start = perf_counter()
    server = start_services(settings)  # starts beside the workers and the imports below, which take seconds too
    import flows.nights.nightly  # noqa: F401
    from flows.nights.cluster.cluster import cluster, warm_up_workers
    from flows.nights.cluster.memory import require_fit
    from flows.nights.exposure_run import begun_ahead
    from flows.nights.nightly import NightRun

    resume_collector()
    server.begin()
    with ExitStack() as stack, ExitStack() as up:

        def start_workers() -> "Cluster":
            workers = up.enter_context(cluster(settings, out))
            up.enter_context(progress.watched(workers))
            require_fit([item.source for item in plan.todo], settings, workers.memory_bytes)
            warm_up_workers(workers, settings)
            todo = plan.todo if outlet is None else []  # alerts must be announced before their visit is published
            ahead.update(up.enter_context(begun_ahead(workers, todo, out, settings, own_fence(out), meanwhile)))
            if ahead:
                progress.begin()
            return workers

        take_apart(plan.todo, out)
        recorder = Recorder(out, settings, PIPELINE, sha256_of)
        call = stack.enter_context(night_process(out, settings, progress.say))
        meanwhile = cache(partial(_loaded, call))
        ahead: dict[ExposureKey, Future[Worked]] = {}
        started: Future[Cluster] = Future()
        if settings.cluster.kind == "local":
            started = up.enter_context(ThreadPoolExecutor(1)).submit(start_workers)  # the flow begins meanwhile
        else:
            started.set_result(start_workers())  # jobs may wait for hours, and this thread can be interrupted
        night = NightRun(plan.todo, out, settings, recorder, progress, started.result, outlet, meanwhile, ahead)
        import_engines()
        server.wait()
        warnings = _search(night)
        workers = started.result()  # raises what kept the workers from starting, which also ended the flow
        wait(ahead.values())  # nothing is published after this point, even if the flow ended early
        startup = max(0.0, progress.since - start)
        elapsed = {"startup": startup, "search": perf_counter() - start - startup}
        summary = summarise_run(plan, night.totals, warnings)
        waiting = max(0.0, workers.workers * elapsed["search"] - sum(summary.seconds.values()))
        summary = _timed(summary, {"waiting": waiting, **elapsed})
        if night.cut_short:  # the next run makes the datasets of the nights
            return _timed(summary, {"wall": perf_counter() - start}).model_copy(update={"stopped": True})
        summary = with_catalogues(summary, out, settings, progress, workers, call, plan.sources)
        closing = Thread(target=up.close)
        closing.start()
        done = perf_counter()
        summary = with_reports(summary, out, settings, progress, call)
        closing.join()
    now = perf_counter()
    progress.night_done(now - start)
    return _timed(summary, {"report": now - done, "wall": now - start})


def load() -> None:
    """Import what the end of a night needs, if it is installed, and compile the page templates."""
    with suppress(Exception):  # the same error is raised again where it matters
        import sqlalchemy.dialects.sqlite  # noqa: F401

        import flows.nights.patch_stages
        import flows.storage.association_store  # noqa: F401
        from flows.results.page import page
        from flows.results.quality import measure

        page.warm_up()
        measure.warm_up()


def _loaded(call: Caller) -> None:
    with suppress(RuntimeError):  # the run or the process has ended: this is raised again where it matters
        call(load)


def _timed(summary: RunSummary, seconds: Mapping[str, float]) -> RunSummary:
    return summary.model_copy(update={"seconds": rounded_seconds({**summary.seconds, **seconds})})


def _search(night: "NightRun") -> list[str]:
    """Run the flow, and return warnings about the run itself. Each exposure has an outcome afterwards."""
    from flows.nights.nightly import nightly

    warnings = []
    try:
        asyncio.run(nightly(night))
    except Exception as group:
        # Not except*: before Python 3.11.4 it wraps what is raised here in a group.
        if (ours := first_of(group, Misconfigured)) is not None:
            raise ours from group
        # The orchestrator failed, not the search: published exposures stay, the others are counted as failed.
        error = first_of(group, Exception)
        warnings.append(f"the flow ended early: {type(error).__name__}: {error}")
    if night.stopping:
        warnings.append("stopped by a signal: what had begun was finished; run again for the rest")
    until = perf_counter() + RECORD_S
    for item in (one for one in night.items if one.key not in night.totals.finished):
        trouble = unfinished(item, night.stopping, warnings)
        recorded = perf_counter() < until
        night.finished(night.recorder.failed(item, trouble) if recorded else Outcome(item, "failed", trouble=trouble))
    return warnings


def _probe(source: Source, settings: Settings) -> ExposureKey:
    """Return the identity of a source from its headers; FITS readers are imported only when first needed."""
    from flows.inputs.probe import probe

    return probe(source, settings)


def _examine(source: Source, settings: Settings) -> None:
    """Read an exposure as a search does; raises any error in it."""
    from flows.inputs.described import described
    from flows.inputs.probe import read

    described(read(source, settings))


def planner(out: Path, settings: Settings, *, dry: bool = False, tiles: bool = False) -> "Planner":
    """Return a planner of the pipeline that reads real files; errors as in `flows.pipeline.plan.Planner`."""
    from flows.pipeline.plan import Planner

    if settings.link_nights.nights:
        from flows.nights.night_window import require_linkable  # reads catalogues, which few runs do

        require_linkable(settings)
    return Planner(out, settings, PIPELINE, _probe, sha256_of, _examine, dry=dry, tiles=tiles)


def search_exposures(
    sources: Sequence[Source], out: Path, settings: Settings, console: "Console", meter: "Meter | None" = None,
    outlet: "Outlet | None" = None, *, tiles: bool = False,
) -> "RunSummary":  # fmt: skip
    """Complete the work on given exposures; the caller holds the lease of ``out``.

    Parameters
    ----------
    sources, out, settings
        Exposures, output folder and settings.
    console, meter
        Receive each step; without a meter there are no metrics.
    outlet
        Sends the alerts of visits; None: no alerts are sent.
    tiles
        As in `flows.pipeline.plan.Planner`.

    Raises
    ------
    Misconfigured
        No exposure could succeed.
    """
    plan = planner(out, settings, tiles=tiles).plan(sources)
    if not plan.todo:
        return nothing_to_search(plan, out, settings, console, meter)
    require_weights(PIPELINE, settings)
    with span("run", {"exposures": len(plan.todo)}), Progress(console, len(plan.todo), meter) as progress:
        progress.say(f"{plan.announcement}; starting the workers.")
        progress.planned(plan)
        summary = compacted(run_night(plan, out, settings, progress, outlet), out, settings, progress)
        return pruned(summary, out, settings, progress)


def pruned(summary: RunSummary, out: Path, settings: Settings, progress: Progress) -> RunSummary:
    """Remove tiles that the settings no longer keep; a failure is only a warning."""
    if not settings.prune.wanted or summary.stopped:
        return summary
    from flows.results.prune import prune_by_policy

    try:
        freed = prune_by_policy(out, settings, datetime.now(UTC).date())
    except Exception as error:
        warning = f"tiles were not pruned: {type(error).__name__}: {error}"
        return summary.model_copy(update={"warnings": (*summary.warnings, warning)})
    progress.say(f"Pruned tiles: {freed}.")
    return summary


def nothing_to_search(
    plan: "Plan", out: Path, settings: Settings, console: "Console", meter: "Meter | None" = None
) -> "RunSummary":
    """Bring the datasets of whole nights up to date, and redraw pages whose content may have changed."""
    from flows.nights.totals import NightTotals

    progress = Progress(console, 0, meter)
    progress.planned(plan)
    summary = with_catalogues(summarise_run(plan, NightTotals()), out, settings, progress, sources=plan.sources)
    summary = compacted(summary, out, settings, progress)
    # What was published of an exposure may have been withdrawn, and must disappear from the page.
    every = plan.quarantined or "objects" in summary.seconds
    due = summary.nights if every else tuple(night for night in summary.nights if _page_is_due(out, night))
    for night in sorted({*summary.nights}.difference(due)):
        summary = with_quality(summary, night, out, settings)
    if due:
        large = plan.seen > LARGE
        with night_process(out, settings, progress.say) if large else nullcontext(here) as call:
            return with_reports(summary, out, settings, progress, call, due)
    pages = (page_path(out, night) for night in reversed(summary.nights))
    return summary.model_copy(update={"report": next((str(page) for page in pages if page.exists()), None)})


def with_catalogues(
    summary: RunSummary, out: Path, settings: Settings, progress: Progress, workers: "Cluster | None" = None,
    call: Caller = here, sources: Mapping[ExposureKey, Source] | None = None,
) -> RunSummary:  # fmt: skip
    """Bring the datasets of patches and whole nights up to date, and add them to the summary of a run.

    Objects of the science images are associated with those of other nights once they are published; datasets that
    depend on this are made afterwards.

    Parameters
    ----------
    summary, out, settings, progress
        Summary so far, output folder, settings and progress of the run.
    workers
        Running cluster, if there is one.
    call
        Calls functions that need the association store.
    sources
        Known current sources of exposures: missing tiles are made again from them, or else from the files in the
        ledger.

    Raises
    ------
    Misconfigured
        A model or the ledger cannot be used, or nothing can be written.
    """
    summary, found = with_association(summary, out, settings, progress, call)
    nights = sorted({*summary.nights, *found.summary.nights})
    works = plan_nights(nights, out, settings, PIPELINE, found.digests, found.static)
    results: dict[str, NightResult] = {}
    if outdated := [work for work in works if work.outdated]:
        start = perf_counter()
        progress.say(f"Combining night {', '.join(work.night for work in outdated)}.")
        find = partial(former_source, sources or {}, Ledger(out), settings)
        after = Again(found, out, settings, call)

        def run(works: Sequence[NightWork]) -> "dict[str, NightResult]":
            from flows.nights.night_window import OVER_NIGHTS  # slow to import, and often not needed
            from flows.nights.patches import run_nights

            return run_nights(works, out, settings, workers, progress.say, call, find, after.planned, OVER_NIGHTS)

        with span("objects", {"nights": " ".join(work.night for work in outdated)}):
            results = run(outdated)
            # What is known of an object in a night depends on the nights before it.
            rest = [night for night in nights if night not in results] if after.changed(found) else []
            results |= run([work for work in after.plan(rest) if work.outdated])
            after.note(list(results))
        failed = dict.fromkeys((*summary.night_failed, *after.found.summary.failed))
        seconds = {**summary.seconds, "objects": round(perf_counter() - start, 3)}
        summary = summary.model_copy(update={"night_failed": tuple(failed), "seconds": seconds})
        summary = with_changes(summary, after.told, (), progress)
    note_exposures(out, works, results)
    summary = with_rows(summary, works, results, found.off, progress)
    if settings.link_nights.nights:
        summary = _with_later_links(summary, nights, out, settings, workers, call)
    return with_forced(summary, nights, out, settings, progress, workers, call, found)


def _with_later_links(
    summary: RunSummary, nights: Sequence[str], out: Path, settings: Settings, workers: "Cluster | None", call: Caller
) -> RunSummary:
    """Link again later nights whose window includes some of these nights; nothing else of them is made."""
    later = nights_followed(Ledger(out).nights(), nights, settings.link_nights.nights - 1)
    works = plan_nights([one for one in later if one not in nights], out, settings, PIPELINE)
    if not works:
        return summary
    from flows.nights.night_window import OVER_NIGHTS
    from flows.nights.patches import relink_nights

    failed = relink_nights(works, out, settings, workers, call, OVER_NIGHTS)
    return summary.model_copy(update={"night_failed": (*summary.night_failed, *failed)})


def with_reports(
    summary: RunSummary,
    out: Path,
    settings: Settings,
    progress: Progress,
    call: Caller = here,
    nights: Sequence[str] | None = None,
) -> RunSummary:
    """Add the recovered synthetic streaks of each night, judge it, and draw its page with the figures of the run.

    Parameters
    ----------
    summary, out, settings, progress
        Summary so far, output folder, settings and progress of the run.
    call
        Calls functions that read catalogues and tiles and draw, which need many libraries.
    nights
        Nights whose pages are due; None: all nights of the run.
    """
    for night in summary.nights if nights is None else nights:
        progress.say(f"Drawing the page of night {night}.")
        summary = with_report(summary, night, out, settings, of_run=True, call=call)
    return summary


def with_report(
    summary: RunSummary, night: str, out: Path, settings: Settings, *, of_run: bool, call: Caller = here
) -> RunSummary:
    """Add the recovered synthetic streaks of a night, judge it, and draw its page; a failure is only a warning.

    Parameters
    ----------
    summary
        Summary of the run so far.
    night, out, settings
        Night, output folder and settings.
    of_run
        Whether the page shows figures of the run; not for a stream, which does not end with the night.
    call
        As in `with_reports`.
    """
    try:
        found = call(_recoveries, out, night)
        summary = summary.model_copy(update={"injection": (*summary.injection, *found)})
        summary = with_quality(summary, night, out, settings, found, call)
        with span("report", {"night": night}):
            fence = own_fence(out) if call is here else None  # a separate process is fenced already
            task = (_page,) if fence is None else (fenced_task, fence, _page)
            page = call(*task, out, night, summary if of_run else None, settings.association)
        _note_drawn(out, night)
        settle(Ledger(out), [night])
    except Exception as error:
        warning = f"no page of night {night}: {type(error).__name__}: {error}"
        return summary.model_copy(update={"warnings": (*summary.warnings, warning)})
    return summary.model_copy(update={"report": str(page)})


def _page_is_due(out: Path, night: str) -> bool:
    """Return whether the page of a night is missing, or older than something on it."""
    whole = Ledger(out).night(night)
    return (whole is not None and whole.drawn is False) or not page_path(out, night).exists()


def _note_drawn(out: Path, night: str) -> None:
    ledger = Ledger(out)
    if (whole := ledger.night(night)) is not None and not whole.drawn:
        ledger.put_night(whole.model_copy(update={"drawn": True}))


def _recoveries(out: Path, night: str) -> tuple[Recovery, ...]:
    from flows.results.evaluation.recovery import read_recoveries

    return read_recoveries(out, night)


def _page(out: Path, night: str, summary: RunSummary | None, association: AssociationSettings) -> Path:
    from flows.results.page.page import write_report

    return write_report(out, night, summary, association=association)


def with_quality(
    summary: RunSummary,
    night: str,
    out: Path,
    settings: Settings,
    recoveries: tuple[Recovery, ...] | None = None,
    call: Caller = here,
) -> RunSummary:
    """Add the quality verdicts of a night; if it cannot be judged, that is a warning and withholds nothing.

    Parameters
    ----------
    summary
        Summary of the run so far.
    night, out, settings
        Night, output folder and settings.
    recoveries
        Recovered synthetic streaks of the night, if already known.
    call
        As in `with_reports`.
    """
    try:
        record = assess(out, night, settings.quality, recoveries, call=call)
    except Exception as error:
        warning = f"quality of night {night} not judged: {type(error).__name__}: {error}"
        return summary.model_copy(update={"warnings": (*summary.warnings, warning)})
    if record is None:
        return summary
    failed = [
        Trouble(uri=f"night {night}", code="quality", message=failure(night, one, line))
        for one in record.judged
        if settings.quality.fail_night and one.verdict == "fail"
        for line in told(one)
    ]
    quality = {**summary.quality, night: record.judged}
    return summary.model_copy(update={"quality": quality, "quality_failed": (*summary.quality_failed, *failed)})

"""A run of a night: plan, search on a cluster, stages of the whole night, pages."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from flows.inputs.source import Source, name_of
from flows.nights.cluster.local import start_worker_server
from flows.nights.cluster.prefect_server import prefect_server
from flows.nights.night_results import with_catalogues, with_reports
from flows.nights.progress import Progress
from flows.nights.recorder import Recorder
from flows.nights.totals import rounded_seconds, summarise_run
from flows.pipeline.outcome import Outcome, trouble_of
from flows.pipeline.plan import Item, Plan
from flows.runtime.traces import span
from schemas.errors import Misconfigured
from schemas.exposure import ExposureKey
from schemas.settings import Settings
from schemas.summary import STOPPED, RunSummary, Trouble
from stages import PIPELINE

if TYPE_CHECKING:
    from rich.console import Console

    from flows.nights.nightly import NightRun
    from flows.nights.observation import Meter
    from flows.pipeline.plan import Planner
    from flows.pipeline.unpublish import SourceIndex


Kind = TypeVar("Kind", bound=BaseException)


def run_night(plan: Plan, out: Path, settings: Settings, progress: Progress) -> RunSummary:
    """Search what a plan leaves to be done, and make the night's pages.

    Parameters
    ----------
    plan, out, settings
        The work. The caller holds the lease of ``out``.
    progress
        Told of each step.

    Raises
    ------
    Misconfigured
        No exposure could succeed: a worker has too little memory, the cluster or a model is not there, ...
    """
    start = perf_counter()
    # Server and workers start side by side, and this process imports what it needs meanwhile: each takes seconds.
    server = prefect_server()
    if settings.cluster.kind == "local":
        start_worker_server()
    import flows.nights.nightly  # noqa: F401
    from flows.nights.cluster.cluster import cluster, warm_up
    from flows.nights.cluster.memory import require_fit
    from flows.nights.nightly import NightRun

    with cluster(settings, out) as workers, progress.watched(workers):
        require_fit(plan.todo[0].source, settings, workers.memory_bytes)
        warm_up(workers, settings)
        night = NightRun(plan.todo, out, settings, Recorder(out, settings, PIPELINE), progress, workers)
        server.wait()
        Thread(target=_import_night_stages).start()
        startup = perf_counter() - start
        warnings = _search(night)
        elapsed = {"startup": startup, "search": perf_counter() - start - startup}
    summary = summarise_run(plan, night.tally, warnings)
    waiting = max(0.0, workers.workers * elapsed["search"] - sum(summary.seconds.values()))
    summary = _timed(summary, {"waiting": waiting, **elapsed})
    if night.draining:  # whoever asked wants it to end: the next run brings the nights together
        return _timed(summary, {"wall": perf_counter() - start}).model_copy(update={"stopped": True})
    summary = with_catalogues(summary, out, settings, progress)
    done = perf_counter()
    summary = with_reports(summary, out, settings, progress)
    report, wall = perf_counter() - done, perf_counter() - start
    progress.night_done(wall)
    return _timed(summary, {"report": report, "wall": wall})


def _import_night_stages() -> None:
    """Import what whole nights need, while the workers search: it takes seconds."""
    with suppress(Exception):  # where it is needed the same error is raised again
        import astropy.coordinates  # noqa: F401
        import scipy.spatial  # noqa: F401

        import flows.nights.night_stages
        import flows.pipeline.star_galaxy_models
        import flows.results.evaluation.recovery
        import flows.results.page.page  # noqa: F401


def _timed(summary: RunSummary, seconds: Mapping[str, float]) -> RunSummary:
    return summary.model_copy(update={"seconds": rounded_seconds({**summary.seconds, **seconds})})


def _search(night: "NightRun") -> list[str]:
    """Run the flow; give what went wrong beside the exposures. Each exposure has an outcome afterwards."""
    from flows.nights.nightly import nightly

    warnings = []
    try:
        asyncio.run(nightly(night))
    except Exception as group:
        # Not except*: Pythons before 3.11.4 would give what is raised there as a group.
        if (ours := first_of(group, Misconfigured)) is not None:
            raise ours from group
        # The orchestrator failed, not we: what is published is published, and what is not is counted.
        error = first_of(group, Exception)
        warnings.append(f"the flow ended early: {type(error).__name__}: {error}")
    if night.draining:
        warnings.append("stopped by a signal: what had begun was finished; run again for the rest")
    for item in night.items:
        if item.key not in night.tally.finished:
            night.finished(Outcome(item, "failed", trouble=_unfinished(item, night.draining, warnings)))
    return warnings


def _unfinished(item: Item, stopped: bool, warnings: Sequence[str]) -> Trouble:
    if stopped:
        return Trouble(
            uri=name_of(item.source),
            code=STOPPED,
            message=f"{name_of(item.source)}: was not begun, as the run was asked to stop. To fix, run again.",
        )
    return trouble_of(item, RuntimeError(warnings[0] if warnings else "the flow ended early"))


def first_of(error: BaseException, kind: type[Kind]) -> Kind | None:
    """Return the first error of a kind in a group, however deep it lies, or the error itself; None if there is none."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for one in error.exceptions if (found := first_of(one, kind)) is not None), None)
    return error if isinstance(error, kind) else None


def _probe(source: Source, settings: Settings) -> ExposureKey:
    """Return the identity of a source from its headers; what reads FITS is imported for the first that is not known."""
    from flows.inputs.probe import probe

    return probe(source, settings)


def planner(out: Path, settings: Settings, *, dry: bool = False, index: "SourceIndex | None" = None) -> "Planner":
    """Return the planner of the pipeline, on real files; errors as in `flows.pipeline.plan.Planner`."""
    from flows.inputs.source_state import sha256_of
    from flows.pipeline.plan import Planner
    from stages import PIPELINE

    return Planner(out, settings, PIPELINE, _probe, sha256_of, dry=dry, index=index)


def search_exposures(
    sources: Sequence[Source], out: Path, settings: Settings, console: "Console", meter: "Meter | None" = None
) -> "RunSummary":
    """Do what is left to be done of some exposures; the caller holds the lease of ``out``.

    Parameters
    ----------
    sources, out, settings
        The work.
    console, meter
        Told of each step; no meter where nobody asks for figures.

    Raises
    ------
    Misconfigured
        No exposure could succeed.
    """
    plan = planner(out, settings).plan(sources)
    if not plan.todo:
        return nothing_to_search(plan, out, settings, console, meter)
    # Imported here: a rerun with nothing to do should not pay for it.
    from flows.nights.progress import Progress

    with span("run", {"exposures": len(plan.todo)}), Progress(console, len(plan.todo), meter) as progress:
        progress.say(f"{len(plan.todo)} of {plan.seen} exposures to be searched; starting the workers.")
        progress.planned(plan)
        return run_night(plan, out, settings, progress)


def nothing_to_search(
    plan: "Plan", out: Path, settings: Settings, console: "Console", meter: "Meter | None" = None
) -> "RunSummary":
    """Bring up to date what whole nights have; and their pages, if something on them may have changed."""
    from flows.nights.night_results import with_catalogues, with_quality
    from flows.nights.progress import Progress
    from flows.nights.totals import NightTotals, summarise_run

    progress = Progress(console, 0, meter)
    progress.planned(plan)
    summary = with_catalogues(summarise_run(plan, NightTotals()), out, settings, progress)
    if summary.nights and (plan.quarantined or "objects" in summary.seconds):
        # What was published of an exposure may be withdrawn: the page must not show it any more.
        from flows.nights.night_results import with_reports

        return with_reports(summary, out, settings, progress)
    for night in summary.nights:
        summary = with_quality(summary, night, out, settings)
    pages = [out / "reports" / night / "index.html" for night in summary.nights]
    there = [str(page) for page in pages if page.exists()]
    return summary.model_copy(update={"report": there[-1] if there else None})

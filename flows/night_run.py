"""A run of a night: the flow on its cluster, then the night pages."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from flows.books import Books
from flows.night_catalogues import with_catalogues
from flows.night_pages import with_reports
from flows.outcome import Outcome, trouble_of
from flows.plan import Item, Plan
from flows.prefect_server import prefect_server
from flows.progress import Progress
from flows.source_name import name_of
from flows.tally import rounded, summarise
from flows.worker_server import start_worker_server
from schemas.errors import Misconfigured
from schemas.settings import Settings
from schemas.summary import STOPPED, RunSummary, Trouble
from stages import PIPELINE

if TYPE_CHECKING:
    from flows.night import Night

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
    import flows.nightly  # noqa: F401
    from flows.cluster import cluster, warm_up
    from flows.memory import require_fit
    from flows.night import Night

    with cluster(settings, out) as workers, progress.watched(workers):
        require_fit(plan.todo[0].source, settings, workers.memory_bytes)
        warm_up(workers, settings)
        night = Night(plan.todo, out, settings, Books(out, settings, PIPELINE), progress, workers)
        server.wait()
        startup = perf_counter() - start
        warnings = _search(night)
        elapsed = {"startup": startup, "search": perf_counter() - start - startup}
    summary = summarise(plan, night.tally, warnings)
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


def _timed(summary: RunSummary, seconds: Mapping[str, float]) -> RunSummary:
    return summary.model_copy(update={"seconds": rounded({**summary.seconds, **seconds})})


def _search(night: "Night") -> list[str]:
    """Run the flow; give what went wrong beside the exposures. Each exposure has an outcome afterwards."""
    from flows.nightly import nightly

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
    """Give the first error of a kind in a group, however deep it lies, or the error itself; None if there is none."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for one in error.exceptions if (found := first_of(one, kind)) is not None), None)
    return error if isinstance(error, kind) else None

"""Doing what is left to be done of some exposures: plan, search, bring nights together, draw pages."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.adapters.sources import Source
from flows.observe.traces import span
from schemas.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from flows.observe.meter import Meter
    from flows.plan import Plan, Planner
    from flows.withdrawal import SourceIndex
    from schemas.summary import RunSummary


def planner(out: Path, settings: Settings, *, dry: bool = False, index: "SourceIndex | None" = None) -> "Planner":
    """Give the planner of the pipeline, on real files; errors as in `flows.plan.Planner`."""
    from flows.adapters.probe import probe
    from flows.plan import Planner
    from flows.source_digest import sha256_of
    from stages import PIPELINE

    return Planner(out, settings, PIPELINE, probe, sha256_of, dry=dry, index=index)


def work(
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
    from flows.night_run import run_night
    from flows.progress import Progress

    with span("run", {"exposures": len(plan.todo)}), Progress(console, len(plan.todo), meter) as progress:
        progress.say(f"{len(plan.todo)} of {plan.seen} exposures to be searched; starting the workers.")
        progress.planned(plan)
        return run_night(plan, out, settings, progress)


def nothing_to_search(
    plan: "Plan", out: Path, settings: Settings, console: "Console", meter: "Meter | None" = None
) -> "RunSummary":
    """Bring up to date what whole nights have; and their pages, if something on them may have changed."""
    from flows.night_catalogues import with_catalogues
    from flows.night_quality import with_quality
    from flows.night_tally import NightTally
    from flows.progress import Progress
    from flows.tally import summarise

    progress = Progress(console, 0, meter)
    progress.planned(plan)
    summary = with_catalogues(summarise(plan, NightTally()), out, settings, progress)
    if summary.nights and (plan.quarantined or "objects" in summary.seconds):
        # What was published of an exposure may be withdrawn: the page must not show it any more.
        from flows.night_pages import with_reports

        return with_reports(summary, out, settings, progress)
    for night in summary.nights:
        summary = with_quality(summary, night, out, settings)
    pages = [out / "reports" / night / "index.html" for night in summary.nights]
    there = [str(page) for page in pages if page.exists()]
    return summary.model_copy(update={"report": there[-1] if there else None})

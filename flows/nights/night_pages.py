"""Pages of the nights of a run, and the verdicts on them, in a process of their own."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path

from flows.nights.cluster.local import METHOD
from flows.nights.progress import Progress
from flows.results.quality.assess import assess
from flows.results.quality.judge import told
from flows.runtime.parallel import Caller, end_with_parent, here
from flows.runtime.traces import span
from flows.storage.fence import fenced_task
from flows.storage.lease import own_fence
from flows.storage.ledger import Ledger
from flows.storage.night_sums import settle
from flows.storage.object_store import configure
from schemas.recovery import Recovery
from schemas.settings import Settings, StoreSettings
from schemas.summary import RunSummary, Trouble


def with_reports(
    summary: RunSummary, out: Path, settings: Settings, progress: Progress, call: Caller = here
) -> RunSummary:
    """Add up what came back of each night, judge it, and make its page with the figures of the run.

    Parameters
    ----------
    summary, out, settings, progress
        Of the run.
    call
        Calls what reads catalogues and tiles and draws, which needs many libraries.
    """
    for night in summary.nights:
        progress.say(f"Drawing the page of night {night}.")
        summary = with_report(summary, night, out, settings, of_run=True, call=call)
    return summary


def with_report(
    summary: RunSummary, night: str, out: Path, settings: Settings, *, of_run: bool, call: Caller = here
) -> RunSummary:
    """Add up what came back of a night, judge it, and make its page; what fails is a warning, no failed night.

    Parameters
    ----------
    summary
        Of the run.
    night, out, settings
        Which night, and where.
    of_run
        Whether the page tells of the run, too: a stream has none that ends with the night.
    call
        As of `with_reports`.
    """
    try:
        found = call(_recoveries, out, night)
        summary = summary.model_copy(update={"injection": (*summary.injection, *found)})
        summary = with_quality(summary, night, out, settings, found, call)
        with span("report", {"night": night}):
            fence = own_fence(out)
            task = (_page,) if fence is None else (fenced_task, fence, _page)
            page = call(*task, out, night, summary if of_run else None)
        settle(Ledger(out), [night])
    except Exception as error:
        warning = f"no page of night {night}: {type(error).__name__}: {error}"
        return summary.model_copy(update={"warnings": (*summary.warnings, warning)})
    return summary.model_copy(update={"report": str(page)})


@contextmanager
def page_process(settings: Settings) -> Iterator[Caller]:
    """Yield what calls functions in a process of its own, that is forked as workers are where they are local.

    Pages are drawn there: this process would take seconds to import what that takes, and memory for each exposure.
    """
    method = METHOD if settings.cluster.kind == "local" else "spawn"
    with ProcessPoolExecutor(1, get_context(method), _begin_pages, (settings.store,)) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def _begin_pages(store: StoreSettings) -> None:
    end_with_parent()
    configure(store)


def import_pages() -> None:
    """Import what draws pages, and call it once, while nothing waits for it."""
    with suppress(Exception):  # where it is needed the same error is raised again
        from flows.results.page import page
        from flows.results.quality import measure

        page.warm_up()
        measure.warm_up()


def _recoveries(out: Path, night: str) -> tuple[Recovery, ...]:
    from flows.results.evaluation.recovery import read_recoveries

    return read_recoveries(out, night)


def _page(out: Path, night: str, summary: RunSummary | None) -> Path:
    from flows.results.page.page import write_report

    return write_report(out, night, summary)


def with_quality(
    summary: RunSummary,
    night: str,
    out: Path,
    settings: Settings,
    recoveries: tuple[Recovery, ...] | None = None,
    call: Caller = here,
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
    call
        As of `with_reports`.
    """
    try:
        record = assess(out, night, settings.quality, recoveries, call=call)
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

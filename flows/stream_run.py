"""A stream from its start to its end: server and workers, the flow, the nights it touched."""

import asyncio
from functools import partial
from pathlib import Path
from time import perf_counter

from flows.adapters.arrivals import Arrivals
from flows.adapters.ledger import Ledger
from flows.adapters.quarantine import Quarantine
from flows.books import Books
from flows.feed import Feed
from flows.night_run import first_of
from flows.night_work import planner
from flows.plan import Plan
from flows.prefect_server import prefect_server
from flows.progress import Progress
from flows.stream_book import StreamBook
from flows.stream_night import Bounds, StreamNight
from flows.withdrawal import SourceIndex
from flows.worker_server import start_worker_server
from schemas.errors import NightstrideError, Retryable
from schemas.settings import Settings
from schemas.summary import RunSummary
from stages import PIPELINE


def run_stream(
    source: str, arrivals: Arrivals, bounds: Bounds, out: Path, settings: Settings, progress: Progress
) -> RunSummary:
    """Search what arrives until it is asked to stop, or nothing has arrived for long enough.

    Parameters
    ----------
    source, arrivals, bounds
        Where exposures arrive, as the user wrote it and as it is read, and how much is taken at a time.
    out, settings, progress
        Of the run. The caller holds the lease of ``out``.

    Raises
    ------
    Misconfigured
        No exposure could succeed.
    Retryable
        The orchestrator failed: what is published is published, and the same command goes on.
    """
    start = perf_counter()
    server = prefect_server()
    if settings.cluster.kind == "local":
        start_worker_server()
    from flows.cluster import cluster, warm_up

    book = StreamBook(source, out, settings, progress)
    with cluster(settings, out) as workers, progress.watched(workers):
        warm_up(workers, settings)
        index = SourceIndex(Ledger(out))
        feed = Feed(arrivals, planner(out, settings, index=index), index, Quarantine(out), settings)
        night = StreamNight(feed, book, bounds, out, settings, Books(out, settings, PIPELINE), progress, workers)
        server.wait()
        progress.say(f"Watching {source} with {workers.workers} workers.")
        startup = perf_counter() - start
        try:
            _search(night)
        finally:
            book.planned(Plan((), (), 0, failed=feed.unread))
            _let_go(night)
    if not night.drain.asked:
        book.bring_together()
    wall = perf_counter() - start
    elapsed = {"startup": startup, "search": wall - startup, "wall": wall}
    summary = book.summary()
    seconds = {**summary.seconds, **{name: round(value, 3) for name, value in elapsed.items()}}
    return summary.model_copy(update={"seconds": seconds})


def _let_go(night: StreamNight) -> None:
    """Leave the place where files arrive, and write down the end; what fails here must not hide why it ended."""
    for step in (night.feed.arrivals.close, partial(night.record, "ended")):
        try:
            step()
        except Exception as error:
            night.progress.say(f"at the end: {type(error).__name__}: {error}")


def _search(night: StreamNight) -> None:
    from flows.stream import stream

    try:
        asyncio.run(stream(night))
    except Exception as group:
        if (ours := first_of(group, NightstrideError)) is not None:
            raise ours from group
        error = first_of(group, Exception)
        raise Retryable(
            "stream",
            "the stream",
            f"ended early: {type(error).__name__}: {error}.",
            "start it again: what is published is kept, and the rest is done.",
        ) from group

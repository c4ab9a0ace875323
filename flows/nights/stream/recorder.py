"""What a stream has come to so far."""

import os
import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from flows.nights.night_results import with_catalogues, with_quality
from flows.nights.progress import Progress
from flows.nights.totals import NightTotals, combined, summarise_run
from flows.pipeline.outcome import Outcome
from flows.pipeline.plan import Plan
from flows.results.status import Lag, lag_since
from schemas.errors import NightstrideError, Retryable
from schemas.ledger import WatchRecord
from schemas.settings import Settings
from schemas.summary import RunSummary, Trouble

NOTHING = Plan((), (), 0)
"""A plan without any source."""


class StreamRecorder:
    """Adds up what becomes of arriving exposures, and brings nights together when it is quiet.

    Parameters
    ----------
    source
        Where exposures arrive, as the user wrote it.
    out, settings, progress
        Of the run.
    """

    def __init__(self, source: str, out: Path, settings: Settings, progress: Progress) -> None:
        self._source, self._out, self._settings, self._progress = source, out, settings, progress
        self._since, self._said = _now(), ""
        self._tally = summarise_run(NOTHING, NightTotals())
        self._nights: dict[str, RunSummary] = {}
        self._touched: set[str] = set()
        self._listed: set[str] = set()
        self._lag, self._turnaround = Lag(), Lag()

    def planned(self, plan: Plan) -> None:
        """Count what needs no search: published before, unusable, or not to be read now."""
        self._progress.planned(plan)
        self._add(summarise_run(replace(plan, todo=(), published=(), withdrawn=()), NightTotals()))
        self._touched |= {record.night for item in plan.todo for record in item.superseded}
        self._touched |= {record.night for record in plan.withdrawn}
        self._listed |= {record.night for record in plan.published} - self._nights.keys()

    def trouble(self, text: str) -> None:
        """Say what is tried again: once, however often it fails."""
        if text != self._said:
            self._progress.say(f"waiting: {text}")
        self._said = text

    def finished(self, outcome: Outcome, waited_s: float) -> None:
        """Count an exposure that has its outcome, so long after it arrived."""
        self._add(summarise_run(Plan((outcome.item,), (), 0), NightTotals([outcome])))
        self._touched.add(outcome.item.key.night)
        if outcome.status == "done":
            self._turnaround.add(waited_s)
            if outcome.shutter_closed is not None:
                self._lag.add(lag_since(outcome.shutter_closed))

    def bring_together(self) -> None:
        """Run the stages of whole nights that something has changed of, and draw their pages.

        A night of which that fails is counted as failed; if it may succeed later, the next time tries again.
        """
        touched, nights = self._touched, sorted(self._touched | self._listed)
        self._touched, self._listed = set(), set()
        for night in nights:
            empty = summarise_run(NOTHING, NightTotals()).model_copy(update={"nights": (night,)})
            try:
                made = with_catalogues(empty, self._out, self._settings, self._progress)
            except NightstrideError as error:
                self._nights[night] = self._not_made(empty, night, error)
                continue
            if night in touched or "objects" in made.seconds:
                made = self._with_page(made, night)
            self._nights[night] = made

    def summary(self) -> RunSummary:
        """Return everything so far."""
        nights = {*self._nights, *self._touched, *self._listed}
        return combined([self._tally, *self._nights.values()]).model_copy(update={"nights": tuple(sorted(nights))})

    def record(self, state: Literal["running", "draining", "ended"], on_the_way: int, waiting: int) -> WatchRecord:
        """Return how the stream goes.

        Parameters
        ----------
        state
            What it is doing.
        on_the_way, waiting
            Exposures taken and not finished; files known to wait where they arrived.
        """
        return WatchRecord(
            state=state,
            source=self._source,
            host=socket.gethostname(),
            pid=os.getpid(),
            since=self._since,
            updated_at=_now(),
            on_the_way=on_the_way,
            waiting=waiting,
            exposures=self._tally.exposures,
            lag_s=self._lag.percentiles(),
            turnaround_s=self._turnaround.percentiles(),
        )

    def _add(self, part: RunSummary) -> None:
        self._tally = combined([self._tally, part])

    def _not_made(self, summary: RunSummary, night: str, error: NightstrideError) -> RunSummary:
        if isinstance(error, Retryable):
            self._touched.add(night)
            self.trouble(f"night {night}: {error}")
        else:
            self._progress.say(f"failed: night {night}: {error}")
        trouble = Trouble(uri=f"night {night}", code=error.code, message=str(error))
        return summary.model_copy(update={"night_failed": (trouble,)})

    def _with_page(self, summary: RunSummary, night: str) -> RunSummary:
        from flows.results.evaluation.recovery import read_recoveries
        from flows.results.page.page import write_report

        try:
            recoveries = tuple(read_recoveries(self._out, night))
            summary = with_quality(summary, night, self._out, self._settings, recoveries)
            found = {"injection": recoveries, "report": str(write_report(self._out, night))}
        except Exception as error:  # as in a run: no page is no reason to stop
            found = {"warnings": (*summary.warnings, f"no page of night {night}: {type(error).__name__}: {error}")}
        return summary.model_copy(update=found)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

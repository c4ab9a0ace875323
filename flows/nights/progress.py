"""Progress of a night: live bars on a terminal, plain lines otherwise."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from flows.runtime.log import report_line, run_name
from flows.runtime.traces import of_exposure
from flows.runtime.words import counted

if TYPE_CHECKING:
    from flows.nights.meter import Meter, Running
    from flows.pipeline.outcome import Outcome, Plan


class Progress:
    """Counts of finished work, and their display.

    Parameters
    ----------
    console
        Console to write to: bars on a terminal, otherwise one line per exposure.
    exposures
        Number of exposures to search.
    meter
        Also receives each step; None: no metrics.

    Attributes
    ----------
    since
        Time of `time.perf_counter` when the search of exposures starts, s.
    """

    def __init__(self, console: Console, exposures: int, meter: "Meter | None" = None) -> None:
        self._console, self._exposures, self.meter = console, exposures, meter
        self._stored = self._finished = self._windows = self._windows_known = 0
        self.since = perf_counter()
        self._bars: Bars | None = None
        self._rows: dict[str, TaskID] = {}
        if meter is not None:
            meter.left(lambda: self._exposures - self._finished)

    def __enter__(self) -> Self:
        if self._console.is_terminal and run_name() is None:
            self._bars = Bars(
                TextColumn("{task.description:<9}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            for stage in ("ingest", "detect", "measure"):
                self._rows[stage] = self._bars.add_task(stage, total=self._exposures, rate="exposures")
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, text: str, level: int = logging.INFO, **fields: Any) -> None:
        """Show a line, above any bars; if logs are JSON, log it with fields instead."""
        report_line(self._console, text, level, **fields)

    def begin(self) -> None:
        """Start the clock of the rates, when the search of exposures starts."""
        self.since = perf_counter()

    def planned(self, plan: "Plan") -> None:
        """Count the sources that need no search."""
        if self.meter is not None:
            self.meter.planned(plan)

    def watched(self, running: "Running") -> AbstractContextManager[None]:
        """Watch the workers of a cluster as long as the block lasts."""
        return nullcontext() if self.meter is None else self.meter.workers(running)

    def night_done(self, seconds: float) -> None:
        """Record how long a night took."""
        if self.meter is not None:
            self.meter.night_done(seconds)

    def associated(self, known: int, new: int, left_out: int) -> None:
        """Count detections that were associated; see `Meter.associated`."""
        if self.meter is not None:
            self.meter.associated(known, new, left_out)

    def catalogued(self, rows: Mapping[str, int], patches: int, failed: int) -> None:
        """Record datasets of whole nights; see `Meter.catalogued`."""
        if self.meter is not None:
            self.meter.catalogued(rows, patches, failed)

    def stored(self, windows: int) -> None:
        """Count an exposure whose tiles are stored, and its windows to search."""
        self._stored += 1
        self._windows_known += windows
        self._show("ingest", completed=self._stored)

    def searched(self, windows: int) -> None:
        """Count the windows of a tile."""
        self._windows += windows
        if self.meter is not None:
            self.meter.searched(windows)
        per_exposure = self._windows_known / max(self._stored, 1)
        left = max(self._exposures - self._stored, 0)
        rate = self._windows / max(perf_counter() - self.since, 1e-9)
        total = self._windows_known + per_exposure * left
        self._show("detect", completed=self._windows, total=round(total), rate=f"windows, {rate:,.0f}/s")

    def finished(self, outcome: "Outcome") -> None:
        """Count an exposure with its outcome."""
        self._finished += 1
        self._count(outcome)
        self._show("measure", completed=self._finished)
        if run_name() is not None:
            self._log(outcome)
            return
        if outcome.trouble is not None:
            self.say(f"{outcome.status}: {outcome.trouble.message}", logging.WARNING)
        if self._bars is None:
            elapsed = perf_counter() - self.since
            left = elapsed / self._finished * (self._exposures - self._finished)
            windows = f"{outcome.windows} windows" if outcome.searched else "its search was kept"
            rate = f"{self._windows / max(elapsed, 1e-9):,.0f} windows/s, " if self._windows else ""
            self.say(
                f"[{self._finished}/{self._exposures}] exposure {outcome.item.key.name} {outcome.status}: "
                f"{windows}, {counted(outcome.detections, 'detection')}; {rate}{left:.0f} s left"
            )

    def _count(self, outcome: "Outcome") -> None:
        if self.meter is not None:
            self.meter.finished(outcome)

    def _log(self, outcome: "Outcome") -> None:
        """Log an exposure with its outcome."""
        fields: dict[str, Any] = {"status": outcome.status, **of_exposure(outcome.item.key)}
        if outcome.trouble is not None:
            fields |= {"code": outcome.trouble.code, "problem": outcome.trouble.message}
        else:
            fields |= {"windows": outcome.windows, "detections": outcome.detections}
        level = logging.INFO if outcome.status == "done" else logging.WARNING
        self.say(f"exposure {outcome.status}", level, **fields)

    def _show(self, stage: str, completed: int, total: int | None = None, rate: str | None = None) -> None:
        if self._bars is not None:
            self._bars.update(self._rows[stage], completed=completed, total=total)
            if rate is not None:
                self._bars.update(self._rows[stage], rate=rate)


class StreamProgress(Progress):
    """Display of a stream, whose exposures cannot be counted beforehand: one line each."""

    def __init__(self, console: Console, meter: "Meter | None" = None) -> None:
        super().__init__(console, 0, meter)

    def _count(self, outcome: "Outcome") -> None:
        if outcome.status != "quarantined":  # counted later, since a file may still be being written
            super()._count(outcome)

    def finished(self, outcome: "Outcome") -> None:
        """Show an exposure with its outcome."""
        self._count(outcome)
        if run_name() is not None:
            self._log(outcome)
        elif outcome.trouble is not None:
            self.say(f"{outcome.status}: {outcome.trouble.message}", logging.WARNING)
        else:
            self.say(f"exposure {outcome.item.key.name} {outcome.status}: {counted(outcome.detections, 'detection')}")

"""Logs, metrics and traces of a command from start to end."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.nights.meter import Meter
from flows.runtime.log import log_as_json, report_line
from flows.runtime.traces import start_traces, stop_traces
from schemas.errors import NightstrideError, exit_code
from schemas.night_range import NightRange
from schemas.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from schemas.ledger import Percentiles
    from schemas.summary import RunSummary


@dataclass(frozen=True)
class Observation:
    """Logs, metrics and traces of a running command.

    Parameters
    ----------
    settings, console
        Of the run.
    meter
        Receives each step; None: no metrics are wanted.
    """

    settings: Settings
    console: "Console"
    meter: "Meter | None" = None

    def ended(self, summary: "RunSummary | None", exit_code: int, out: Path | None = None) -> None:
        """Write the metrics of the run to a file, if the settings name one; a failure is only reported."""
        path = self.settings.observe.metrics_file
        if path is None:
            return
        from flows.pipeline.provenance import provenance_of
        from flows.runtime.metrics import run_figures, write_figures
        from stages import PIPELINE

        try:
            made = provenance_of(PIPELINE, self.settings) if summary is not None else None
            lag = _lag_of(summary, out) if summary is not None and out is not None else None
            write_figures(path, run_figures(summary, exit_code, made, lag))
        except (OSError, NightstrideError) as error:
            report_line(self.console, f"no figures in {path}: {error}", logging.WARNING)


@contextmanager
def observation(settings: Settings, console: "Console") -> Iterator[Observation]:
    """Set up logs from the settings, metrics if the settings have an address, and traces from the environment.

    Raises
    ------
    Misconfigured
        Metrics cannot be served at the address, or the folder for their file does not exist.
    """
    if settings.observe.log_format == "json":
        log_as_json()
    if (problem := start_traces()) is not None:
        report_line(console, problem, logging.WARNING)
    with ExitStack() as stack:
        stack.callback(stop_traces)
        yield stack.enter_context(figures_written(settings, console, _meter(settings, stack)))


@contextmanager
def figures_written(settings: Settings, console: "Console", meter: Meter | None = None) -> Iterator[Observation]:
    """Yield a function that writes the metrics at the end of a run; after an error they are written here.

    Raises
    ------
    Misconfigured
        There is no folder for their file.
    """
    if settings.observe.metrics_file is not None:
        from flows.runtime.metrics import require_writable

        require_writable(settings.observe.metrics_file)
    seen = Observation(settings, console, meter)
    try:
        yield seen
    except NightstrideError as error:
        seen.ended(None, exit_code(error))
        raise


def _meter(settings: Settings, stack: ExitStack) -> "Meter | None":
    if settings.observe.address is None:
        return None
    # Imported here because most runs do not need it.
    from flows.pipeline.provenance import provenance_of
    from flows.runtime.metrics import metrics_server
    from stages import PIPELINE

    meter = Meter()
    meter.describe(provenance_of(PIPELINE, settings))
    stack.enter_context(metrics_server(settings.observe, meter.registry))
    return meter


def _lag_of(summary: "RunSummary", out: Path) -> "Percentiles | None":
    """Return the lag of the last night from the ledger, as `nightstride status` does."""
    from flows.results.status import read_status

    if not summary.nights:
        return None
    try:
        (night,) = read_status(out, NightRange.of(max(summary.nights))).nights
    except NightstrideError:  # nothing is left of that night
        return None
    return night.lag_s

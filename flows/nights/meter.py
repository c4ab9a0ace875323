"""Metrics of a run in progress."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from time import time
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from flows.pipeline.outcome import Outcome, Plan
from flows.runtime.lag import lag_since
from flows.runtime.metrics import WorkerMemory, add_build_info
from schemas.ledger import ProvenanceRecord

if TYPE_CHECKING:
    from distributed import Client

SECONDS = (5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 3600, 14400, 86400)
"""Upper ends of the bins of durations, s: finest about the minute within which alerts are due."""


class Running(Protocol):
    """Workers that can be queried."""

    def client(self) -> AbstractContextManager["Client"]:
        """Return a new client of the workers."""


class Meter:
    """Counts of a run, summed as they are reported, and served as metrics.

    Attributes
    ----------
    registry
        Registry of all metrics.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._windows = Counter("nightstride_windows", "Windows searched.", registry=registry)
        self._exposures = Counter(
            "nightstride_exposures", "Exposures by what became of them.", ["state"], registry=registry
        )
        for state in ("done", "skipped", "quarantined", "failed"):
            self._exposures.labels(state)
        self._detections = Counter("nightstride_detections", "Rows of dia_source of exposures done.", registry=registry)
        self._worked = Counter(
            "nightstride_worker_seconds", "Worker time by what it went to, of exposures done.", ["part"],
            registry=registry,
        )  # fmt: skip
        self._lag = Histogram(
            "nightstride_lag_seconds", "From the end of an exposure to its catalogue.",
            registry=registry, buckets=SECONDS,
        )  # fmt: skip
        self._last = Gauge(
            "nightstride_last_exposure_timestamp_seconds", "When an exposure was last done; 0: none.", registry=registry
        )
        self._left = Gauge("nightstride_exposures_left", "Planned and not finished.", registry=registry)
        self._associated = Counter(
            "nightstride_associated", "Detections by what the association made of them.", ["state"], registry=registry
        )
        for state in ("known", "new", "left_out"):
            self._associated.labels(state)
        self._patches = Counter(
            "nightstride_patches", "Patches of the sky by what became of them.", ["state"], registry=registry
        )
        for state in ("done", "failed"):
            self._patches.labels(state)
        self._rows = Gauge(
            "nightstride_catalogue_rows", "Of datasets of whole nights, in the nights made last.", ["dataset"],
            registry=registry,
        )  # fmt: skip
        self._night = Gauge(
            "nightstride_night_duration_seconds", "Of the last night that was finished; 0: none.", registry=registry
        )

    def describe(self, made: ProvenanceRecord) -> None:
        """Record the models and code of the search."""
        add_build_info(self.registry, made)

    def planned(self, plan: Plan) -> None:
        """Count the sources that need no search."""
        self._exposures.labels("skipped").inc(plan.skipped)
        self._exposures.labels("quarantined").inc(len(plan.quarantined))
        self._exposures.labels("failed").inc(len(plan.failed))

    def left(self, count: Callable[[], float]) -> None:
        """Set the function that returns the number of planned, unfinished exposures."""
        self._left.set_function(count)

    def searched(self, windows: int) -> None:
        """Count windows."""
        self._windows.inc(windows)

    def finished(self, outcome: Outcome) -> None:
        """Count an exposure with its outcome."""
        self._exposures.labels(outcome.status).inc()
        if outcome.status != "done":
            return
        self._detections.inc(outcome.detections)
        self._last.set(time())
        for part, seconds in outcome.seconds.items():
            self._worked.labels(part).inc(seconds)
        if outcome.exposure_ended is not None:
            self._lag.observe(lag_since(outcome.exposure_ended))

    def associated(self, known: int, new: int, left_out: int) -> None:
        """Count associated detections: of existing objects, of new objects, and others."""
        for state, number in (("known", known), ("new", new), ("left_out", left_out)):
            self._associated.labels(state).inc(number)

    def catalogued(self, rows: Mapping[str, int], patches: int, failed: int) -> None:
        """Record the row counts of the datasets made for nights, and count finished and failed patches."""
        self._patches.labels("done").inc(patches - failed)
        self._patches.labels("failed").inc(failed)
        for dataset, number in rows.items():
            self._rows.labels(dataset).set(number)

    def night_done(self, seconds: float) -> None:
        """Record how long a night took."""
        self._night.set(seconds)

    @contextmanager
    def workers(self, running: Running) -> Iterator[None]:
        """Query the scheduler for the memory of its workers at each collection of the metrics, within the block."""
        with running.client() as client:
            memory = WorkerMemory(client)
            self.registry.register(memory)
            try:
                yield
            finally:
                self.registry.unregister(memory)


class StreamMeter:
    """Meter of a stream.

    Parameters
    ----------
    meter
        Meter of the run.
    on_the_way, waiting, oldest_s
        Functions that return the number of exposures in progress, the number of known files still waiting, and the
        time since the first exposure of the oldest unfinished visit arrived, s.
    """

    def __init__(
        self,
        meter: Meter,
        on_the_way: Callable[[], float],
        waiting: Callable[[], float],
        oldest_s: Callable[[], float],
    ) -> None:
        registry = meter.registry
        self._turnaround = Histogram(
            "nightstride_turnaround_seconds", "From the first arrival of a visit to a catalogue.",
            registry=registry, buckets=SECONDS,
        )  # fmt: skip
        for name, what, function in (
            ("on_the_way", "Exposures taken and not finished.", on_the_way),
            ("waiting", "Files known to wait where they arrived.", waiting),
            ("oldest_seconds", "Since the first arrival of the oldest visit on its way; 0: none.", oldest_s),
        ):
            Gauge(f"nightstride_stream_{name}", what, registry=registry).set_function(function)

    def turned_around(self, seconds: float) -> None:
        """Count a finished exposure, with the time since its visit arrived."""
        self._turnaround.observe(seconds)

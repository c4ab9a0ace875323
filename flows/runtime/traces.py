"""Traces by OpenTelemetry, their context, and the timer of the parts of a task."""

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING

from flows.runtime import traces
from flows.runtime.secrets import without_secrets
from schemas.exposure import ExposureKey

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer


Fields = Mapping[str, str | int]

_fields: ContextVar[Fields] = ContextVar("nightstride_where", default={})  # noqa: B039  # never changed, only replaced


def where() -> Fields:
    """Return the fields that are bound here."""
    return _fields.get()


@contextmanager
def bound(fields: Fields) -> Iterator[None]:
    """Bind fields as long as the block lasts, beside those that are bound."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def of_exposure(key: ExposureKey) -> Fields:
    """Return the fields of an exposure."""
    return {"night": key.night, "visit": key.visit, "detector": key.detector, "exposure": key.name}


ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Variables of the environment, as OpenTelemetry's specification names them."""

PREFIX = "nightstride."
"""Of the names of our attributes."""

LAST_S = 10.0
"""How long the last spans may take: a collector that is not there holds nothing up for longer, s."""

_provider: "TracerProvider | None" = None
_tracer: "Tracer | None" = None


def wanted() -> bool:
    """Return whether the environment requests traces."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not disabled and any(os.environ.get(name) for name in ENDPOINTS)


def start_traces() -> str | None:
    """Start sending spans if the environment requests it; return what prevents it. A second call does nothing.

    The provider is ours alone, not that of the process: Prefect would send spans of its own, and write to its server
    for each.
    """
    global _provider, _tracer
    if _provider is not None or not wanted():
        return None
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in (None, "", "http/protobuf"):
        return f"no traces: OTLP is sent by http/protobuf only, and the environment asks for {protocol}"
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        return f"no traces: {error.name} is not installed; pip install 'nightstride[observe]'"
    from importlib.metadata import version

    own: dict[str, str | int] = {
        "service.name": os.environ.get("OTEL_SERVICE_NAME", "nightstride"),
        "service.version": version("nightstride"),
        "process.pid": os.getpid(),
    }
    _provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("nightstride")
    return None


def stop_traces() -> None:
    """Send what is left, within `LAST_S`, and nothing more."""
    global _provider, _tracer
    if _provider is not None:
        last = Thread(target=_provider.shutdown, daemon=True)
        last.start()
        last.join(LAST_S)
    _provider = _tracer = None


@contextmanager
def span(name: str, fields: Fields, parent: str | None = None) -> Iterator[None]:
    """Measure what is done in a block, as a part of what is measured around it.

    Parameters
    ----------
    name, fields
        Of the span.
    parent
        W3C traceparent of what it is a part of, in another process; None: of what is measured around it here.
    """
    if _tracer is None:
        yield
        return
    from opentelemetry.trace import Status, StatusCode

    attributes = {PREFIX + key: value for key, value in fields.items()}
    with _tracer.start_as_current_span(
        name, _remote(parent), attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as opened:
        try:
            yield
        except Exception as error:
            # Not record_exception: messages of libraries may hold signed URLs.
            opened.set_status(Status(StatusCode.ERROR, without_secrets(f"{type(error).__name__}: {error}")))
            raise


def note(name: str, value: str | int) -> None:
    """Add a field to what is measured here."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().set_attribute(PREFIX + name, value)


def part(name: str, seconds: float) -> None:
    """Record what has just been done, with its duration, as a part of the surrounding measurement."""
    if _tracer is None:
        return
    from opentelemetry.trace import get_current_span

    if get_current_span().get_span_context().is_valid:
        end = time.time_ns()
        _tracer.start_span(name, start_time=end - int(seconds * 1e9)).end(end)


def traceparent() -> str | None:
    """Return what is measured here, for another process; None if nothing is."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def trace_id() -> str | None:
    """Return the trace that what is done here belongs to, 32 hexadecimal digits; None if it belongs to none."""
    parent = traceparent()
    return parent.split("-")[1] if parent is not None else None


def _remote(parent: str | None) -> "Context | None":
    if parent is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})


OTHER = "other"
"""What no lap has been told about."""


class Timer:
    """Stopwatch that runs from its creation; each lap is of one part of the work, and a span of a trace.

    Parameters
    ----------
    spans
        Whether they are: not where another watch runs, whose lap all this is.
    """

    def __init__(self, spans: bool = True) -> None:
        self._spans = spans
        self._last = perf_counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def lap(self, part: str) -> None:
        """Count the time since the last lap to ``part``."""
        now = perf_counter()
        self._seconds[part] += now - self._last
        if self._spans and part != OTHER:
            traces.part(part, now - self._last)
        self._last = now

    def seconds(self) -> dict[str, float]:
        """Return part -> s; time outside all parts is `OTHER`."""
        self.lap(OTHER)
        return dict(self._seconds)

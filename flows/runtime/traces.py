"""Traces with OpenTelemetry, their context, and a timer of the parts of a task."""

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
    """Return the fields that are bound at this point."""
    return _fields.get()


@contextmanager
def bound(fields: Fields) -> Iterator[None]:
    """Bind fields within the block, in addition to those already bound."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def of_exposure(key: ExposureKey) -> Fields:
    """Return the fields that name an exposure."""
    return {"night": key.night, "visit": key.visit, "detector": key.detector, "exposure": key.name}


ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Environment variables that OpenTelemetry defines for the endpoint."""

PREFIX = "nightstride."
"""Prefix of the names of our attributes."""

LAST_S = 10.0
"""Time that sending the last spans may take, s: an unreachable collector must not delay the end for longer."""

_provider: "TracerProvider | None" = None
_tracer: "Tracer | None" = None


def wanted() -> bool:
    """Return whether the environment asks for traces."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not disabled and any(os.environ.get(name) for name in ENDPOINTS)


def start_traces() -> str | None:
    """Start sending spans if the environment asks for it; return what prevents it. A second call does nothing.

    The provider is ours alone, not global: otherwise Prefect would send spans of its own, and write to its server for
    each.
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
    """Send the remaining spans, within `LAST_S`, and then no more."""
    global _provider, _tracer
    if _provider is not None:
        last = Thread(target=_provider.shutdown, daemon=True)
        last.start()
        last.join(LAST_S)
    _provider = _tracer = None


@contextmanager
def span(name: str, fields: Fields, parent: str | None = None) -> Iterator[None]:
    """Open a span for the block, as a child of the current one.

    Parameters
    ----------
    name, fields
        Its name and attributes.
    parent
        W3C traceparent of its parent, if in another process; None: the current span.
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
    """Add an attribute to the current span."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().set_attribute(PREFIX + name, value)


def part(name: str, seconds: float) -> None:
    """Record work that has just ended, with its duration, as a child of the current span."""
    if _tracer is None:
        return
    from opentelemetry.trace import get_current_span

    if get_current_span().get_span_context().is_valid:
        end = time.time_ns()
        _tracer.start_span(name, start_time=end - int(seconds * 1e9)).end(end)


def traceparent() -> str | None:
    """Return the W3C traceparent of the current span, for another process; None if there is none."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def trace_id() -> str | None:
    """Return the ID of the current trace, 32 hexadecimal digits; None if there is none."""
    parent = traceparent()
    return parent.split("-")[1] if parent is not None else None


def _remote(parent: str | None) -> "Context | None":
    if parent is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})


OTHER = "other"
"""Name of the time outside all parts."""


class Timer:
    """Stopwatch that runs from its creation; each lap belongs to a part of the work and is a span of the trace.

    Parameters
    ----------
    spans
        Whether laps are spans; False: if all of this is one lap of another stopwatch.
    """

    def __init__(self, spans: bool = True) -> None:
        self._spans = spans
        self._last = perf_counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def lap(self, part: str) -> None:
        """Count the time since the last lap towards ``part``."""
        now = perf_counter()
        self._seconds[part] += now - self._last
        if self._spans and part != OTHER:
            traces.part(part, now - self._last)
        self._last = now

    def seconds(self) -> dict[str, float]:
        """Return part -> s; `OTHER` is the time outside all parts."""
        self.lap(OTHER)
        return dict(self._seconds)

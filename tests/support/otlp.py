"""A receiver of OTLP over HTTP."""

import gzip
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.http import Handler, serving


@dataclass(frozen=True)
class Received:
    """A span as it was received; ids as hexadecimal digits, times in ns."""

    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    error: str
    events: list
    attributes: dict
    resource: dict


@dataclass
class Receiver:
    """What a collector took in, and its address."""

    spans: list = field(default_factory=list)
    paths: set = field(default_factory=set)
    headers: list = field(default_factory=list)
    url: str = ""

    def named(self, name):
        return [one for one in self.spans if one.name == name]


def _received(span, resource):
    return Received(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.message,
        [one.name for one in span.events],
        _values(span.attributes),
        resource,
    )


def _values(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextmanager
def receiver():
    """Run a receiver as long as the block lasts."""
    taken = Receiver()

    class Collector(Handler):
        def post(self):
            packed = self.headers.get("Content-Encoding") == "gzip"
            message = ExportTraceServiceRequest.FromString(gzip.decompress(self.body()) if packed else self.body())
            taken.paths.add(self.path)
            taken.headers.append(dict(self.headers))
            for group in message.resource_spans:
                resource = _values(group.resource.attributes)
                for scope in group.scope_spans:
                    taken.spans += [_received(one, resource) for one in scope.spans]
            self.answer(200)

    with serving(Collector) as taken.url:
        yield taken

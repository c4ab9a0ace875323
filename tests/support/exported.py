"""Names of the figures that are exported."""

from prometheus_client import CollectorRegistry

from flows.nights.meter import Meter, StreamMeter
from flows.pipeline.provenance import provenance_of
from flows.runtime.metrics import GPU, families, run_figures
from schemas.ledger import Percentiles
from schemas.settings import Settings
from stages import PIPELINE
from tests.flows.nights.test_observation import outcome
from tests.flows.runtime.test_metrics import summary_of


class _Workers:
    def describe(self):
        return ()

    def collect(self):
        return families({"tcp://a": {"name": 0, "memory_limit": 2, "metrics": {"memory": 1, GPU: 1}}})


def exported():
    """Sample name -> names of its labels, as Prometheus gets them from a live command and from the file of a run."""
    made = provenance_of(PIPELINE, Settings())
    meter = Meter()
    meter.describe(made)
    meter.finished(outcome(1, seconds={"detect": 1.0}))
    meter.catalogued({"tracklet": 1}, 1, 0)
    StreamMeter(meter, int, int, int)
    meter.registry.register(_Workers())
    ended = run_figures(summary_of(1), 0, made, Percentiles(n=1, p50=1, p99=1))
    return {**_samples(meter.registry), **_samples(ended)}


def _samples(registry: CollectorRegistry):
    return {sample.name: set(sample.labels) for family in registry.collect() for sample in family.samples}

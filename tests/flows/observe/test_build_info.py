from prometheus_client import CollectorRegistry

from flows.observe.build_info import add_build_info
from flows.provenance import provenance_of
from schemas.settings import Settings
from stages import PIPELINE


def test_each_model_is_named_with_its_version():
    made, registry = provenance_of(PIPELINE, Settings()), CollectorRegistry()
    add_build_info(registry, made)
    assert {"detect", "reliability"} <= made.models.keys()
    for role, card in made.models.items():
        labels = {"role": role, "name": card.name, "version": card.version}
        assert registry.get_sample_value("nightstride_model_info", labels) == 1
    build = {"version": made.software, "code": made.code[:12]}
    assert registry.get_sample_value("nightstride_build_info", build) == 1

"""Versions of code and models, as figures that are always 1."""

from prometheus_client import CollectorRegistry, Gauge

from schemas.ledger import ProvenanceRecord


def add_build_info(registry: CollectorRegistry, made: ProvenanceRecord) -> None:
    """Add what exposures are searched with to figures."""
    build = Gauge("nightstride_build_info", "Version and digest of the code.", ["version", "code"], registry=registry)
    build.labels(made.software, made.code[:12]).set(1)
    models = Gauge("nightstride_model_info", "Version of each model.", ["role", "name", "version"], registry=registry)
    for role, card in made.models.items():
        models.labels(role, card.name, card.version).set(1)

"""What exposures are searched, and nights brought together, with."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from flows.pipeline.models import model_name
from flows.pipeline.weights import find_screen, read_card
from flows.storage.digest import digest, file_digest
from schemas.ledger import ProvenanceRecord
from schemas.model_card import ModelCard
from schemas.settings import Settings
from schemas.stage import Stage
from stages import PIPELINE

NIGHT_MODELS = frozenset(weight for stage in PIPELINE if stage.per == "night" for weight in stage.weights)
"""Of stages of a whole night, as stages call them."""

SCREEN = "screen"
"""What stands in front of the network of windows; no stage names it, it is part of the search."""

PACKAGES = ("schemas", "kernels", "stages", "flows")


def provenance_of(pipeline: Sequence[Stage], settings: Settings) -> ProvenanceRecord:
    """Return settings, cards of the models, versions of stages and of the code.

    Raises
    ------
    Misconfigured
        A card is missing or cannot be read.
    """
    weights = sorted({weight for stage in pipeline for weight in stage.weights})
    models = {weight: read_card(weight, model_name(weight, settings)) for weight in weights}
    screen = find_screen(settings.detect.model, settings.detect.threshold) if "detect" in weights else None
    return ProvenanceRecord(
        settings=settings.model_dump(mode="json"),
        models=models if screen is None else {**models, SCREEN: screen},
        stages={stage.name: stage.version for stage in pipeline},
        software=version("nightstride"),
        code=code_digest(),
    )


def recorded_digests(made: ProvenanceRecord) -> dict[str, str]:
    """Return the digest of each model of a record, as `flows.pipeline.models.model_digests` gives them."""
    parts = {name: [card] for name, card in made.models.items() if name != SCREEN}
    if SCREEN in made.models and "detect" in parts:
        parts["detect"].append(made.models[SCREEN])
    return {name: digest(*cards) for name, cards in parts.items()}


def search_models(made: ProvenanceRecord) -> dict[str, ModelCard]:
    """Return the models that have a say in what is found on an exposure: not those of stages of a whole night."""
    return {name: card for name, card in made.models.items() if name not in NIGHT_MODELS}


def night_models(made: ProvenanceRecord | None) -> dict[str, ModelCard]:
    """Return the models of stages of a whole night; none where they are not known."""
    return {name: card for name, card in made.models.items() if name in NIGHT_MODELS} if made else {}


def recorded_settings(made: ProvenanceRecord) -> Settings:
    """Return the settings of a record, as far as this version has them: an older one had others."""
    sections: dict[str, Any] = {}
    for name, section in made.settings.items():
        known = Settings.model_fields.get(name)
        if known is None or not isinstance(section, Mapping):
            continue
        kind = known.annotation
        fields = kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}
        sections[name] = {key: value for key, value in section.items() if key in fields}
    try:
        return Settings.model_validate(sections)
    except ValidationError:  # a value that this version refuses
        return Settings()


@cache
def code_digest() -> str:
    """Return the SHA-256 over names and bytes of the source files of our packages."""
    root = Path(__file__).parents[2]
    files = sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))
    return digest({path.relative_to(root).as_posix(): file_digest(path) for path in files})

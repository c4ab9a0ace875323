"""Provenance of results: settings, models, stages and code."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, ValidationError

from flows.pipeline.models import file_digests, model_cards, models_in
from flows.runtime.settings import settings_class
from flows.storage.digest import our_code
from schemas.ledger import NightRecord, ProvenanceRecord
from schemas.model_card import ModelCard
from schemas.settings import Settings
from schemas.stage import Stage
from stages import PIPELINE

_NIGHT_STAGES = tuple(stage for stage in PIPELINE if stage.per in ("patch", "night"))
NIGHT_MODELS = frozenset(models_in(_NIGHT_STAGES))
"""Models of the stages that work on a patch or a whole night, as named by the stages."""


def provenance_of(pipeline: Sequence[Stage], settings: Settings) -> ProvenanceRecord:
    """Return the settings, model cards, digests of files, and versions of the stages and the code.

    Raises
    ------
    Misconfigured
        A card or a file is missing or cannot be read.
    """
    return ProvenanceRecord(
        settings=settings.model_dump(mode="json"),
        models=model_cards(pipeline, settings),
        files=file_digests(pipeline, settings),
        stages={stage.name: stage.version for stage in pipeline},
        software=version("nightstride"),
        code=our_code(),
    )


def search_models(made: ProvenanceRecord) -> dict[str, ModelCard]:
    """Return the models that affect the detections of an exposure, without those of night-level stages."""
    return {name: card for name, card in made.models.items() if name not in NIGHT_MODELS}


def night_models(night: NightRecord, made: ProvenanceRecord | None) -> dict[str, ModelCard]:
    """Return the models of the night-level stages that made a dataset of a night; none if they are not known."""
    there = {*night.rows, *night.datasets}
    names = models_in(stage for stage in _NIGHT_STAGES if stage.gives.name in there)
    return {name: card for name, card in made.models.items() if name in names} if made else {}


def recorded_settings(made: ProvenanceRecord) -> Settings:
    """Return the settings of a record that this version still has."""
    sections: dict[str, Any] = {}
    for name, section in made.settings.items():
        known = settings_class().model_fields.get(name)
        if known is None or not isinstance(section, Mapping):
            continue
        kind = known.annotation
        fields = kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}
        sections[name] = {key: value for key, value in section.items() if key in fields}
    try:
        return settings_class().model_validate(sections)
    except ValidationError:  # this version refuses the value
        return settings_class()()

"""Models, loaded once per process."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from flows.adapters.weights import load_model, read_card
from schemas.settings import Settings
from schemas.stage import Stage


def model_digests(stages: Iterable[Stage], settings: Settings) -> dict[str, str]:
    """SHA-256 of the weights of each model that the stages use, as their cards give it.

    Raises
    ------
    Misconfigured
        A card is missing or cannot be read.
    """
    return {weight: read_card(weight, model_name(weight, settings)).sha256 for weight in _weights(stages)}


def models_of(stage: Stage, settings: Settings) -> Mapping[str, Callable[..., Any]]:
    """Models for the context of a stage.

    Raises
    ------
    Misconfigured
        A model is missing, or does not match its card.
    """
    return {weight: _loaded(weight, model_name(weight, settings), settings.detect.device) for weight in stage.weights}


def model_name(weight: str, settings: Settings) -> str:
    """Shipped name, folder or URL that the settings give for a model."""
    return {"detect": settings.detect.model, "reliability": settings.measure.model}[weight]


def _weights(stages: Iterable[Stage]) -> list[str]:
    return sorted({weight for stage in stages for weight in stage.weights})


@cache
def _loaded(weight: str, name: str, device: str) -> Callable[..., Any]:
    return load_model(weight, name, device)

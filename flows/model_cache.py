"""Models, loaded once per process."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from flows.adapters.weights import load_model, read_card, read_screen_card
from flows.digest import digest
from schemas.settings import DetectSettings, Settings
from schemas.stage import Stage


def model_digests(stages: Iterable[Stage], settings: Settings) -> dict[str, str]:
    """Digest of each model that the stages use: of its card, which holds the weights' SHA-256 and the threshold.

    That of the search covers the card of its screen, where there is one.

    Raises
    ------
    Misconfigured
        A card is missing or cannot be read.
    """
    return {weight: _digest(weight, settings) for weight in _weights(stages)}


def models_of(stage: Stage, settings: Settings) -> Mapping[str, Callable[..., Any]]:
    """Models for the context of a stage.

    Raises
    ------
    Misconfigured
        A model is missing, or does not match its card.
    """
    found = {}
    for weight in stage.weights:
        name = model_name(weight, settings)
        # By digest too: a worker may outlive the weights in a folder.
        search = settings.detect if weight == "detect" else None
        found[weight] = _loaded(weight, name, search, _digest(weight, settings))
    return found


def model_name(weight: str, settings: Settings) -> str:
    """Shipped name, folder or URL that the settings give for a model."""
    if weight in ("superclass", "star_subclass"):
        section = settings.spectral_class
        return section.model if weight == "superclass" else section.star_model
    if weight == "star_galaxy":
        return settings.star_galaxy.model
    if weight == "detect" or settings.measure.model == "auto":
        return settings.detect.model
    return settings.measure.model


def _digest(weight: str, settings: Settings) -> str:
    name = model_name(weight, settings)
    card = read_card(weight, name)
    if weight == "detect" and settings.detect.screen:
        return digest(card, read_screen_card(name))
    return digest(card)


def _weights(stages: Iterable[Stage]) -> list[str]:
    return sorted({weight for stage in stages for weight in stage.weights})


@lru_cache(8)
def _loaded(weight: str, name: str, search: DetectSettings | None, card: str) -> Callable[..., Any]:
    if search is None:
        return load_model(weight, name)
    return load_model(weight, name, **search.model_dump(exclude={"model", "window"}))

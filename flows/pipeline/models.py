"""Models and files of the stages, named in the settings, checked by digest, and loaded once per process."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from flows.inputs.orbit_file import read_orbits
from flows.inputs.sky_resolver import SkyResolver
from flows.pipeline.weights import building, find_screen, location_of, read_card, read_weights, require_same_detector
from flows.runtime.settings import settings_class
from flows.storage.digest import digest, file_digest
from schemas.dataset import FileOf
from schemas.errors import Misconfigured, choice
from schemas.known_object import ORBITS
from schemas.model_card import ModelCard
from schemas.settings import Settings
from schemas.stage import Model, Stage, Weights
from stages import PIPELINE

READERS: Mapping[str, Callable[[Path], Any]] = {ORBITS.name: read_orbits}
"""Dataset from a file -> function that reads it."""

SERVICES: Mapping[str, Callable[[str, Settings], Any]] = {
    ORBITS.name: lambda url, settings: SkyResolver(url, settings.predict_known.resolver_timeout_s)
}
"""Dataset from a service -> function that makes its client."""


def models_in(stages: Iterable[Stage]) -> dict[str, Model]:
    """Return the models of stages, by name."""
    return {model.name: model for stage in stages for model in stage.models}


def file_paths(stages: Iterable[Stage], settings: Settings) -> dict[str, str]:
    """Return the files and service URLs in the settings for stages, by dataset."""
    needed = {one for stage in stages for one in stage.needs if isinstance(one, FileOf)}
    named = {one.name: one.named(settings) for one in sorted(needed, key=lambda one: one.name)}
    return {name: path for name, path in named.items() if path is not None}


def file_digests(stages: Iterable[Stage], settings: Settings) -> dict[str, str]:
    """Return the SHA-256 of each of these files, or of the URL of a service, whose answers are not known in advance.

    Raises
    ------
    Misconfigured
        A file is missing or cannot be read.
    """
    named = file_paths(stages, settings).items()
    return {name: digest("service", one) if _is_service(one) else _file_digest(Path(one)) for name, one in named}


def setting_files(stages: Iterable[Stage], settings: Settings) -> dict[str, Any]:
    """Return the contents of these files, or clients of services; raise as `file_digests` and the readers do."""
    return {name: _opened(name, one, settings) for name, one in file_paths(stages, settings).items()}


def _opened(name: str, named: str, settings: Settings) -> Any:
    if _is_service(named):
        return SERVICES[name](named, settings)
    return _read_file(name, Path(named), _file_digest(Path(named)))


def _is_service(named: str) -> bool:
    return named.startswith(("http://", "https://"))


def _file_digest(path: Path) -> str:
    try:
        state = path.stat()
        return _digest_of_state(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        remedy = "correct the setting that names it."
        raise Misconfigured("missing_file", str(path), f"cannot be read: {error.strerror or error}.", remedy) from error


@lru_cache(8)
def _digest_of_state(path: Path, size: int, mtime_ns: int) -> str:
    return file_digest(path)


@lru_cache(2)
def _read_file(name: str, path: Path, digest: str) -> Any:
    return READERS[name](path)


def model_digests(stages: Iterable[Stage], settings: Settings) -> dict[str, str]:
    """Return the digest of the card of each model of the stages, with the SHA-256 of the weights and the threshold.

    The digest of the search includes the card of its screen, if there is one, even on a GPU, which does not use it,
    since results do not depend on the device. The result includes the files in the settings, by dataset.

    Raises
    ------
    Misconfigured
        A card is missing or cannot be read, or the reliability model belongs to another detector.
    """
    stages = tuple(stages)
    models = {name: _digest(model, settings) for name, model in sorted(models_in(stages).items())}
    return models | file_digests(stages, settings)


def require_weights(stages: Iterable[Stage], settings: Settings) -> None:
    """Raise unless the weights of each model of the stages exist and match its card.

    Raises
    ------
    Misconfigured
        Weights are missing (``missing_model``) or do not match (``model_mismatch``).
    """
    for name, model in sorted(models_in(stages).items()):
        read_weights(name, model.named(settings))
        if _companion(model, model.named(settings), model.section(settings)) is not None:
            read_weights(model.companion, model.named(settings))


def model_cards(stages: Iterable[Stage], settings: Settings) -> dict[str, ModelCard]:
    """Return the cards of the models of the stages and of their companions; raise as `model_digests` does."""
    found: dict[str, ModelCard] = {}
    for name, model in sorted(models_in(stages).items()):
        found[name] = read_card(name, model.named(settings))
        companion = _companion(model, model.named(settings), model.section(settings))
        if companion is not None:
            found[model.companion] = companion
    return found


def recorded_digests(cards: Mapping[str, ModelCard], stages: Iterable[Stage]) -> dict[str, str]:
    """Return the digests of recorded models, as in `model_digests`."""
    used = models_in(stages)
    beside = {name: model.companion for name, model in used.items() if model.companion in cards}
    return {
        name: digest(card, cards[beside[name]]) if name in beside else digest(card)
        for name, card in cards.items()
        if name not in beside.values()
    }


def models_of(stage: Stage, settings: Settings) -> Mapping[str, Callable[..., Any]]:
    """Return the models for the context of a stage.

    Raises
    ------
    Misconfigured
        A model is missing, or does not match its card.
    """
    # The digest is part of the key, since weights in a folder may change while a worker lives.
    return {
        model.name: _loaded(model, model.named(settings), model.section(settings), _digest(model, settings))
        for model in stage.models
    }


def load_model(model: str, name: str, **changes: Any) -> Any:
    """Return a model, loaded and ready for use.

    Parameters
    ----------
    model
        Name in the stages: ``"detect"``, ``"reliability"``, ``"star_galaxy"``, ...
    name
        See `read_card`.
    changes
        Fields in the section of its setting that differ from the defaults. Without them a detector is loaded for the
        CPU and in float32.

    Returns
    -------
    `kernels.search.detector.Detector`, `ReliabilityNet`, `StarGalaxyModel`, `ClassModel` or what else a stage declares
        Model with a ``card``.

    Raises
    ------
    Misconfigured
        No stage has such a model; a file is missing, does not match the card, or belongs to another version of the
        pipeline.
    """
    known = _known(model)
    section = known.section(settings_class()())
    if model == "detect":
        section = section.model_copy(update={"device": "cpu", "precision": "float32", "model": name})
    return _built(known, name, section.model_copy(update=changes))


def model_name(model: str, settings: Settings) -> str:
    """Return the shipped name, folder or URL of a model in the settings; raise as `load_model` does."""
    return _known(model).named(settings)


def _known(name: str) -> Model:
    known = models_in(PIPELINE)
    if name not in known:
        problem = "is used by no stage of the pipeline."
        raise Misconfigured("unknown_model", f"model {name!r}", problem, choice(name, sorted(known)))
    return known[name]


def _digest(model: Model, settings: Settings) -> str:
    name = model.named(settings)
    card = read_card(model.name, name)
    if model.name == "reliability" and name == settings.detect.model:  # in another folder it was chosen on purpose
        require_same_detector(name)
    companion = _companion(model, name, model.section(settings))
    return digest(card) if companion is None else digest(card, companion)


@lru_cache(8)
def _loaded(model: Model, name: str, section: Any, card: str) -> Callable[..., Any]:
    return _built(model, name, section)


def _built(model: Model, name: str, section: Any) -> Any:
    weights = _read(model.name, name)
    if _companion(model, name, section) is not None:
        weights = weights._replace(companion=_read(model.companion, name))
    with building(model.name, name):
        return model.build(weights, section)


def _companion(model: Model, name: str, section: Any) -> ModelCard | None:
    return find_screen(name, section.threshold) if model.companion else None


def _read(model: str, name: str) -> Weights:
    card, arrays = read_weights(model, name)
    return Weights(card, arrays, location_of(model, name))

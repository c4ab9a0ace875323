"""Models and files of the stages: named by settings, checked by digest, loaded once per process."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from flows.inputs.orbit_file import read_orbits
from flows.inputs.sky_resolver import SkyResolver
from flows.pipeline.weights import find_screen, location_of, read_card, read_weights, require_same_detector
from flows.runtime.settings import settings_class
from flows.storage.digest import digest, file_digest
from schemas.dataset import FileOf
from schemas.errors import Misconfigured, NightstrideError, choice
from schemas.known_object import ORBITS
from schemas.model_card import ModelCard
from schemas.settings import Settings
from schemas.stage import Model, Stage, Weights
from stages import PIPELINE

READERS: Mapping[str, Callable[[Path], Any]] = {ORBITS.name: read_orbits}
"""Dataset of a file -> function that reads it."""

_MOST = 300  # characters of what a library says

SERVICES: Mapping[str, Callable[[str, Settings], Any]] = {
    ORBITS.name: lambda url, settings: SkyResolver(url, settings.predict_known.resolver_timeout_s)
}
"""The same of a service -> what asks it."""


def models_in(stages: Iterable[Stage]) -> dict[str, Model]:
    """Return the models that stages use, by name."""
    return {model.name: model for stage in stages for model in stage.models}


def file_paths(stages: Iterable[Stage], settings: Settings) -> dict[str, str]:
    """Return the files, and the URLs of services, that the settings name for stages, by their datasets."""
    needed = {one for stage in stages for one in stage.needs if isinstance(one, FileOf)}
    named = {one.name: one.named(settings) for one in sorted(needed, key=lambda one: one.name)}
    return {name: path for name, path in named.items() if path is not None}


def file_digests(stages: Iterable[Stage], settings: Settings) -> dict[str, str]:
    """Return the SHA-256 of each of these files; of a service that of its URL, as nobody knows what it will answer.

    Raises
    ------
    Misconfigured
        One is missing or cannot be read.
    """
    named = file_paths(stages, settings).items()
    return {name: digest("service", one) if _is_service(one) else _file_digest(Path(one)) for name, one in named}


def setting_files(stages: Iterable[Stage], settings: Settings) -> dict[str, Any]:
    """Return these files as they are read, and what asks services; errors as in `file_digests` and of the readers."""
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
    """Return the digest of each model of the stages: of its card, with the weights' SHA-256 and the threshold.

    That of the search covers the card of its screen, where there is one; on a GPU too, where it is not used: what is
    found does not depend on the device. Files that the settings name are among them, by their datasets.

    Raises
    ------
    Misconfigured
        A card is missing or cannot be read, or the reliability model is of another detector.
    """
    stages = tuple(stages)
    models = {name: _digest(model, settings) for name, model in sorted(models_in(stages).items())}
    return models | file_digests(stages, settings)


def require_weights(stages: Iterable[Stage], settings: Settings) -> None:
    """Raise unless the weights of each model of the stages are there, and those that its card describes.

    Raises
    ------
    Misconfigured
        They are missing (``missing_model``), or others (``model_mismatch``).
    """
    for name, model in sorted(models_in(stages).items()):
        read_weights(name, model.named(settings))
        if _companion(model, model.named(settings), model.section(settings)) is not None:
            read_weights(model.companion, model.named(settings))


def model_cards(stages: Iterable[Stage], settings: Settings) -> dict[str, ModelCard]:
    """Return the card of each model that the stages use, and of what goes with it; errors as in `model_digests`."""
    found: dict[str, ModelCard] = {}
    for name, model in sorted(models_in(stages).items()):
        found[name] = read_card(name, model.named(settings))
        companion = _companion(model, model.named(settings), model.section(settings))
        if companion is not None:
            found[model.companion] = companion
    return found


def recorded_digests(cards: Mapping[str, ModelCard], stages: Iterable[Stage]) -> dict[str, str]:
    """Return the digest of each recorded model, as `model_digests` gives them."""
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
    # By digest too: a worker may outlive the weights in a folder.
    return {
        model.name: _loaded(model, model.named(settings), model.section(settings), _digest(model, settings))
        for model in stage.models
    }


def load_model(model: str, name: str, **changes: Any) -> Any:
    """Load a model ready for use.

    Parameters
    ----------
    model
        What stages call it: ``"detect"``, ``"reliability"``, ``"star_galaxy"``, ...
    name
        See `read_card`.
    changes
        Fields of the section of its setting that are not as by default. A detector is loaded for the processor and in
        float32 unless they say otherwise.

    Returns
    -------
    `kernels.search.detector.Detector`, `ReliabilityNet`, `StarGalaxyModel`, `ClassModel` or what else a stage declares
        All carry ``card``.

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
    """Return the shipped name, folder or URL that the settings give for a model; errors as in `load_model`."""
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
    if model.name == "reliability" and name == settings.detect.model:  # of another folder it was chosen on purpose
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
    try:
        return model.build(weights, section)
    except NightstrideError:
        raise
    except Exception as error:  # the card may name another network than the weights are of
        said = " ".join(str(error).split())
        problem = f"cannot be built: {type(error).__name__}: {said if len(said) <= _MOST else f'{said[:_MOST]} ...'}"
        remedy = "write weights and card of one network, by flows.pipeline.weights.write_model."
        raise Misconfigured("bad_weights", weights.location, f"{problem.rstrip('.')}.", remedy) from error


def _companion(model: Model, name: str, section: Any) -> ModelCard | None:
    return find_screen(name, section.threshold) if model.companion else None


def _read(model: str, name: str) -> Weights:
    card, arrays = read_weights(model, name)
    return Weights(card, arrays, location_of(model, name))

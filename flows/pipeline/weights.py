"""Weights of models, found by name, folder or URL and checked against their cards."""

import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from pydantic import ValidationError

from schemas.errors import Misconfigured, NightstrideError, Retryable, choice, read_failure
from schemas.model_card import WITHOUT_NAN, ModelCard

_MOST = 300  # characters of a library's message


def _shipped() -> Path:
    # Located without an import: a rerun with nothing to do reads cards, and should not import the stages.
    spec = importlib.util.find_spec("stages")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "weights"


def read_card(stage: str, name: str) -> ModelCard:
    """Return the card of a model.

    Parameters
    ----------
    stage
        Name of the model in `Stage.models`.
    name
        Shipped name, a folder, or an fsspec URL of a folder with ``<stage>.json`` or, if shipped, ``<name>.json``.

    Raises
    ------
    Misconfigured
        There is no such card, or it cannot be read.
    """
    location = location_of(stage, name) + ".json"
    try:
        with fsspec.open(location, "rb") as file:
            card = _parsed(file.read())
    except FileNotFoundError as error:
        raise Misconfigured(
            "missing_model",
            location,
            f"there is no model {name!r} for stage {stage!r}.",
            _remedy(stage, name),
        ) from error
    except ValidationError as error:
        remedy = "correct it, or restore the card that belongs to the weights."
        raise Misconfigured("bad_card", location, f"is not a model card: {_wrong(error)}.", remedy) from error
    except (OSError, ValueError, ImportError) as error:
        raise _unreadable(location, error) from error
    if card.stage != stage:
        raise Misconfigured(
            "wrong_model", location, f"is a model for stage {card.stage!r}, not {stage!r}.", "name another model."
        )
    return card


@lru_cache(64)
def _parsed(content: bytes) -> ModelCard:
    """Return a card, the same object for the same bytes, since `flows.storage.digest` caches its encoding."""
    return ModelCard.model_validate_json(content)


def read_weights(stage: str, name: str) -> tuple[ModelCard, dict[str, np.ndarray[Any, Any]]]:
    """Return a model's card and arrays.

    Raises
    ------
    Misconfigured
        A file is missing or cannot be read, the weights do not match the card, or they hold NaN (``bad_weights``).
    Retryable
        A file cannot be reached.
    """
    card = read_card(stage, name)
    location = location_of(stage, name) + ".safetensors"
    try:
        with fsspec.open(location, "rb") as file:
            data = file.read()
    except FileNotFoundError as error:
        raise Misconfigured(
            "missing_model", location, "the weights of this model are missing.", "put them beside their card."
        ) from error
    except (OSError, ValueError, ImportError) as error:
        raise _unreadable(location, error) from error
    if (found := hashlib.sha256(data).hexdigest()) != card.sha256:
        raise Misconfigured(
            "model_mismatch",
            location,
            f"sha256 is {found[:16]}..., but its card says {card.sha256[:16]}....",
            "restore the weights that belong to the card, or train the model again.",
        )
    import safetensors.numpy

    arrays = safetensors.numpy.load(data)
    _require_numbers(card.stage, arrays, location)
    return card, arrays


def _require_numbers(stage: str, arrays: Mapping[str, np.ndarray[Any, Any]], where: str) -> None:
    """Raise if weights hold NaN: such a network finds nothing, and every comparison with its output is false."""
    if stage not in WITHOUT_NAN:
        return
    for name, values in arrays.items():
        if values.dtype.kind == "f" and np.isnan(values).any():
            problem = f"weights {name!r} hold {int(np.isnan(values).sum())} NaN of {values.size} values."
            raise Misconfigured("bad_weights", where, problem, "train the model again, at a lower learning rate.")


@contextmanager
def building(stage: str, name: str) -> Iterator[None]:
    """Convert errors of building a model from its weights and card to our own, since these may not belong together."""
    try:
        yield
    except NightstrideError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        problem = f"cannot be built: {type(error).__name__}: {said if len(said) <= _MOST else f'{said[:_MOST]} ...'}"
        remedy = "write weights and card of one network, by flows.pipeline.weights.write_model."
        raise Misconfigured("bad_weights", location_of(stage, name), f"{problem.rstrip('.')}.", remedy) from error


def find_screen(name: str, threshold: float | None) -> ModelCard | None:
    """Return the card of the screen for a search's network, stored beside the network.

    Parameters
    ----------
    name
        Name of the network, as in `read_card`.
    threshold
        Probability of a hit; None: the network's own.

    Returns
    -------
    ModelCard or None
        None: the detector does not search windows, there is no screen for it, or the screen was made for other weights
        or calibrated at a higher threshold.

    Raises
    ------
    Misconfigured
        There is no such network, or a card cannot be read.
    """
    network = read_card("detect", name)
    if network.input.get("kind") != "windows":
        return None
    try:
        card = read_card("screen", name)
    except Misconfigured as error:
        if error.code != "missing_model":
            raise
        return None
    known = card.input.get("threshold", 1.0)
    fits = card.input.get("detect_sha256") == network.sha256
    return card if fits and (network.threshold if threshold is None else threshold) >= known else None


def _unreadable(location: str, error: Exception) -> Misconfigured | Retryable:
    """Return the error of an unreadable file: a permanent one, or one that may pass, such as a network error."""
    problem = f"cannot be read: {read_failure(error)}."
    if isinstance(error, OSError) and not isinstance(error, PermissionError | NotADirectoryError | IsADirectoryError):
        return Retryable("unreadable_model", location, problem, "see that it can be reached.")
    remedy = "name a shipped model, or a folder, or the URL of one, that this user may read."
    return Misconfigured("unreadable_model", location, problem, remedy)


def _remedy(stage: str, name: str) -> str:
    if stage == "reliability" and (Path(name) / "detect.json").exists():
        return f"train its verdict: nightstride train detect --model {name} --reliability-only --out {name}."
    shipped = sorted(path.stem for path in (_shipped() / stage).glob("*.json"))
    holds = f"name a folder that holds {stage}.json"
    return f"{holds}, or {choice(name, shipped)}" if shipped else f"{holds}."


def write_model(
    folder: Path, arrays: dict[str, np.ndarray[Any, Any]], card: dict[str, Any], name: str | None = None
) -> ModelCard:
    """Write ``<name>.safetensors`` and ``<name>.json`` (default: the stage's name); the card gets their digest.

    Raises
    ------
    Misconfigured
        The card lacks a field or has one of a wrong type (``bad_card``), or the weights hold NaN (``bad_weights``), in
        which cases nothing is written; or the folder cannot be written.
    Retryable
        The disk is full.
    """
    import safetensors.numpy

    from flows.storage.writing import replacing, writing

    data = safetensors.numpy.save({key: np.ascontiguousarray(value) for key, value in sorted(arrays.items())})
    try:
        made = ModelCard.model_validate(card | {"sha256": hashlib.sha256(data).hexdigest()})
    except ValidationError as error:
        remedy = "correct these fields: docs/use/own_model.md shows a whole card."
        raise Misconfigured(
            "bad_card", f"card of {folder}", f"is not a model card: {_wrong(error)}.", remedy
        ) from error
    _require_numbers(made.stage, arrays, f"weights of {folder}")
    stem, text = name or made.stage, json.dumps(made.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
    with writing(folder, "free space there, and train again."):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / f"{stem}.json") as described, replacing(folder / f"{stem}.safetensors") as weights:
            weights.write_bytes(data)
            described.write_text(text)
    return made


def _wrong(error: ValidationError) -> str:
    """Return the errors of a card, field by field."""
    fields = ((".".join(map(str, one["loc"])), one["msg"]) for one in error.errors())
    return "; ".join(": ".join(filter(None, field)) for field in fields)


def require_same_detector(name: str) -> None:
    """Raise if, according to the cards, a reliability model was trained on the candidates of another detector.

    Raises
    ------
    Misconfigured
        The model is for another detector (``other_detector``), or there is no reliability model.
    """
    own = read_card("reliability", name)
    try:
        searched = read_card("detect", name).sha256
    except Misconfigured as error:
        if error.code != "missing_model":
            raise
        return
    judged = own.input.get("detector_sha256", searched)
    if judged != searched:
        raise Misconfigured(
            "other_detector",
            f"reliability model {own.name!r} of {name}",
            f"was trained on the candidates of the detector {judged[:12]}…, not of {searched[:12]}….",
            f"train one: nightstride train detect --model {name} --reliability-only --out {name}.",
        )


def location_of(stage: str, name: str) -> str:
    """Return the location of the files of a model, without their suffix."""
    if (_shipped() / stage / f"{name}.json").exists() or ("/" not in name and not Path(name).exists()):
        return str(_shipped() / stage / name)
    return f"{name.rstrip('/')}/{stage}"

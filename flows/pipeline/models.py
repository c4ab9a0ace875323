"""Models of the stages, made from their weights and cards, loaded once per process."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from scipy.special import logit

from flows.pipeline.weights import CLASS_MODELS, _location, find_screen, read_card, read_weights
from flows.storage.digest import digest
from kernels.measure.reliability import VerdictNet
from kernels.nets.basic_cnn import BasicCnn
from kernels.nets.candidate_nets import CandidateCnn, VerdictCnn
from kernels.nets.region_net import RegionNet
from kernels.nets.streak_net import StreakNet
from kernels.nets.tree_ensemble import tree_ensemble
from kernels.search.candidate_search import CandidateSearch, Judge, TreeJudge, TwoStageJudge, line_score
from kernels.search.dense_search import DenseSearch
from kernels.search.detector import Detector, WindowScorer, choose_device
from kernels.search.fused_search import Screen, screen_layers
from kernels.search.linear_chain import Precision, has_bfloat16
from kernels.search.region_search import RegionSearch
from schemas.errors import Misconfigured
from schemas.model_card import FEATURES, ModelCard
from schemas.settings import DetectSettings, Settings
from schemas.stage import Stage

KINDS = ("matched_filter", "boosted", "two_stage")
"""What the card's input may name as ``kind``."""

NET = "net."
"""Prefix of the network's arrays beside those of the trees."""


def candidate_detector(card: ModelCard, arrays: Mapping[str, NDArray[Any]], device: torch.device) -> CandidateSearch:
    """Make a detector of one of `KINDS`."""
    return CandidateSearch(_judge(card, arrays, device), float(arrays["floor"][0]), card)


def _judge(card: ModelCard, arrays: Mapping[str, NDArray[Any]], device: torch.device) -> Judge:
    kind = card.input["kind"]
    if kind == "matched_filter":
        return line_score
    trees = tree_ensemble(arrays)
    if kind == "boosted":
        return TreeJudge(trees)
    state = {name.removeprefix(NET): value for name, value in arrays.items() if name.startswith(NET)}
    net = CandidateCnn(len(state["mean"]))
    net.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})
    share = float(card.input["share"])
    return TwoStageJudge(trees, float(card.input["tree_floor"]), net.eval().to(device), share, device)


Arrays = Mapping[str, NDArray[Any]]


def build_detector(
    card: ModelCard,
    arrays: Arrays,
    name: str,
    device: str,
    precision: Literal["auto", "float32", "bfloat16"],
    threshold: float | None,
    batch: int,
    stride: int,
) -> Detector:
    """Make a detector of the kind its card names; parameters are those of `flows.pipeline.models.load_model`.

    Raises
    ------
    Misconfigured
        The card names a kind that there is not, or the weights of its screen are not those of its card.
    """
    where, kind = choose_device(device), card.input.get("kind", "windows")
    if kind == "windows":
        net = _with_weights(BasicCnn(int(card.input["bands"]), int(card.input.get("side", 26))), arrays)
        screen = _load_screen(name, threshold) if where.type == "cpu" else None
        exact, floor = _precision(precision, where), float(logit(card.threshold if threshold is None else threshold))
        return WindowScorer(net.to(where), card, where, exact, floor, batch, screen, stride)
    if kind == "cells":
        cells = StreakNet(int(card.input["channels"]), card.input["dilations"])
        exact = _precision(precision, where)
        net = _with_weights(cells, arrays).to(where, getattr(torch, exact), memory_format=torch.channels_last)
        return DenseSearch(net, where, card)
    if kind == "regions":
        regions = RegionNet(int(card.input["channels"]), card.input["dilations"])
        net = _with_weights(regions, arrays).to(where, memory_format=torch.channels_last)
        return RegionSearch(net, where, card, float(card.input["floor"]))
    if kind in KINDS:
        return candidate_detector(card, arrays, where)
    raise Misconfigured(
        "unknown_kind",
        name,
        f"is a detector of kind {kind!r}, which this version does not know.",
        "name another model.",
    )


def _with_weights(net: torch.nn.Module, arrays: Arrays) -> Any:
    net.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in arrays.items()})
    return net.eval()


def _precision(wanted: Literal["auto", "float32", "bfloat16"], where: torch.device) -> Precision:
    if wanted == "auto":
        return "bfloat16" if where.type == "cuda" or has_bfloat16() else "float32"
    return wanted


def _load_screen(name: str, threshold: float | None) -> Screen | None:
    """Load the screen that may stand in front of a network of windows; None if there is none."""
    if find_screen(name, threshold) is None:
        return None
    card, arrays = read_weights("screen", name)
    return Screen(screen_layers(arrays), float(logit(card.threshold)))


TREES = "trees."
"""What the names of the trees' arrays begin with; those of the networks with their number."""


def build_verdict(card: ModelCard, arrays: Mapping[str, NDArray[Any]]) -> VerdictNet:
    """Make a verdict of its weights, member by member, and the calibration on its card."""
    nets = []
    for n in range(int(card.input["networks"])):
        own = {name: value for name, value in arrays.items() if name.startswith(f"{n}.")}
        net = VerdictCnn(len(card.input["features"]))
        net.load_state_dict({name.split(".", 1)[1]: torch.from_numpy(value.copy()) for name, value in own.items()})
        nets.append(net.eval())
    trees = tree_ensemble({name.removeprefix(TREES): value for name, value in arrays.items() if name.startswith(TREES)})
    return VerdictNet(tuple(nets), trees, float(card.calibration["slope"]), float(card.calibration["offset"]), card)


def load_model(
    stage: str,
    name: str,
    device: str = "cpu",
    precision: Literal["auto", "float32", "bfloat16"] = "float32",
    threshold: float | None = None,
    batch: int = 1024,
    stride: int = 7,
) -> Any:
    """Load a model ready for use.

    Parameters
    ----------
    stage
        ``"detect"``, ``"reliability"``, ``"star_galaxy"``, or one of `CLASS_MODELS`.
    name
        See `read_card`.
    device
        ``auto``, ``cpu`` or ``cuda``.
    precision, threshold, batch, stride
        Of a search of whole images (`DetectSettings`); a threshold of None is the card's. On the processor a network of
        windows gets the screen that fits it (`find_screen`).

    Returns
    -------
    `kernels.search.detector.Detector`, `VerdictNet`, `StarGalaxyModel` or `ClassModel`
        All carry ``card``.

    Raises
    ------
    Misconfigured
        A file is missing, does not match the card, or belongs to another version of the pipeline.
    """
    card, arrays = read_weights(stage, name)
    if stage == "reliability":
        trained_on = tuple(card.input.get("features", ()))
        if trained_on != FEATURES:
            raise Misconfigured(
                "other_features",
                _location(stage, name) + ".json",
                f"was trained on the features {list(trained_on)}, this version measures {list(FEATURES)}.",
                "train it anew: nightstride train detect.",
            )
        return build_verdict(card, arrays)
    if stage in CLASS_MODELS:
        from kernels.objects.class_model import class_model

        return class_model(card, arrays)
    if stage == "star_galaxy":
        from flows.pipeline.star_galaxy_models import build_star_galaxy

        return build_star_galaxy(card, arrays)

    return build_detector(card, arrays, name, device, precision, threshold, batch, stride)


def model_digests(stages: Iterable[Stage], settings: Settings) -> dict[str, str]:
    """Digest of each model that the stages use: of its card, which holds the weights' SHA-256 and the threshold.

    That of the search covers the card of its screen, where there is one; on a GPU too, where it is not used: what is
    found does not depend on the device.

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
    screen = find_screen(name, settings.detect.threshold) if weight == "detect" else None
    return digest(card) if screen is None else digest(card, screen)


def _weights(stages: Iterable[Stage]) -> list[str]:
    return sorted({weight for stage in stages for weight in stage.weights})


@lru_cache(8)
def _loaded(weight: str, name: str, search: DetectSettings | None, card: str) -> Callable[..., Any]:
    if search is None:
        return load_model(weight, name)
    return load_model(weight, name, **search.model_dump(exclude={"model"}))

"""Construction of detectors from weights and cards."""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Literal

import scipy
import torch
from numpy.typing import NDArray

from kernels.nets.basic_cnn import BasicCnn
from kernels.nets.region_net import RegionNet
from kernels.nets.streak_net import StreakNet
from kernels.search.dense_search import DenseSearch
from kernels.search.detector import Detector, WindowScorer, choose_device
from kernels.search.fused_search import Screen, screen_layers
from kernels.search.linear_chain import Precision, convolves_bfloat16, has_bfloat16
from kernels.search.matched_filter_search import MatchedFilterSearch
from kernels.search.region_search import RegionSearch
from schemas.errors import Misconfigured
from schemas.settings import DetectSettings
from schemas.stage import Weights, place_of

Arrays = Mapping[str, NDArray[Any]]

DETECTORS = "nightstride.detectors"
"""Group of the entry points by which installed packages name detectors of their own: kind -> function of `Weights`,
`DetectSettings` and a torch device that builds it."""


def build_detector(weights: Weights, settings: DetectSettings) -> Detector:
    """Return a detector of the kind named by its card.

    Parameters
    ----------
    weights
        Weights of the detector; the companion is the screen for a window network.
    settings
        Device, precision, threshold, batch and stride.

    Raises
    ------
    Misconfigured
        The card names no kind or an unknown one.
    """
    card, arrays, name = weights.card, weights.arrays, settings.model
    where, kind = choose_device(settings.device), card.input.get("kind")
    if kind is None:
        remedy = 'add "kind" to "input" of its card: "windows" for a network of windows of 26 x 26 px.'
        raise Misconfigured("no_kind", name, "is a detector whose card does not say of what kind.", remedy)
    if kind == "windows":
        return _window_scorer(weights, settings, where)
    if kind == "cells":
        cells = StreakNet(int(card.input["channels"]), card.input["dilations"])
        exact = _precision(settings.precision, where, convolves_bfloat16)
        net = _with_weights(cells, arrays).to(where, getattr(torch, exact), memory_format=torch.channels_last)
        return DenseSearch(net, where, card)
    if kind == "regions":
        regions = RegionNet(int(card.input["channels"]), card.input["dilations"])
        net = _with_weights(regions, arrays).to(where, memory_format=torch.channels_last)
        return RegionSearch(net, where, card, float(card.input["floor"]))
    if kind == "matched_filter":
        return MatchedFilterSearch(float(arrays["floor"][0]), card)
    return _registered(kind, name)(weights, settings, where)


def _registered(kind: str, name: str) -> Callable[[Weights, DetectSettings, torch.device], Detector]:
    """Return the function that builds detectors of a kind registered by an installed package."""
    found = [point for point in entry_points(group=DETECTORS) if point.name == kind]
    if not found:
        raise Misconfigured(
            "unknown_kind",
            name,
            f"is a detector of kind {kind!r}, which neither this version nor an installed package knows.",
            f"name another model, or install the package whose entry point {kind!r} of {DETECTORS} builds it.",
        )
    where, remedy = place_of(found[0])
    try:
        build = found[0].load()
    except (ImportError, AttributeError) as error:
        raise Misconfigured("bad_detector", where, f"cannot be loaded: {error}.", remedy) from error
    if not callable(build):
        raise Misconfigured("bad_detector", where, f"is {type(build).__name__}, no function.", remedy)
    return build


def _window_scorer(weights: Weights, settings: DetectSettings, where: torch.device) -> WindowScorer:
    card = weights.card
    net = _with_weights(BasicCnn(int(card.input["bands"]), int(card.input.get("side", 26))), weights.arrays)
    threshold = card.threshold if settings.threshold is None else settings.threshold
    screen = _screen(weights.companion) if weights.companion is not None and where.type == "cpu" else None
    exact = _precision(settings.precision, where, has_bfloat16)
    floor = float(scipy.special.logit(threshold))
    return WindowScorer(net.to(where), card, where, exact, floor, settings.batch, screen, settings.stride)


def _with_weights(net: torch.nn.Module, arrays: Arrays) -> Any:
    net.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in arrays.items()})
    return net.eval()


def _precision(
    wanted: Literal["auto", "float32", "bfloat16"], where: torch.device, is_fast: Callable[[], bool]
) -> Precision:
    """Return the requested precision; for ``auto``, bfloat16 if the GPU or CPU is fast at it, else float32."""
    if wanted == "auto":
        return "bfloat16" if where.type == "cuda" or is_fast() else "float32"
    return wanted


def _screen(weights: Weights) -> Screen:
    return Screen(screen_layers(dict(weights.arrays)), float(scipy.special.logit(weights.card.threshold)))

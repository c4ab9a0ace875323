"""Detectors, made from their weights and cards."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from scipy.special import logit

from flows.adapters.candidate_detectors import KINDS, candidate_detector
from flows.adapters.weights import read_screen_card, read_weights
from kernels.dense_search import DenseSearch
from kernels.detector import Detector
from kernels.fused_dense import Precision, has_bfloat16
from kernels.fused_screen import Screen, screen_layers
from kernels.nets.basic_cnn import BasicCnn
from kernels.nets.region_net import RegionNet
from kernels.nets.streak_net import StreakNet
from kernels.region_search import RegionSearch
from kernels.scorer import WindowScorer, choose_device
from schemas.errors import Misconfigured
from schemas.model_card import ModelCard

Arrays = Mapping[str, NDArray[Any]]


def build_detector(
    card: ModelCard,
    arrays: Arrays,
    name: str,
    device: str,
    precision: Literal["auto", "float32", "bfloat16"],
    threshold: float | None,
    batch: int,
    screen: bool,
    stride: int,
) -> Detector:
    """Make a detector of the kind its card names; parameters are those of `flows.adapters.weights.load_model`.

    Raises
    ------
    Misconfigured
        The card names a kind that there is not; or a screen is asked for where there is none, or on a GPU.
    """
    where, kind = choose_device(device), card.input.get("kind", "windows")
    if kind == "windows":
        net = _with_weights(BasicCnn(int(card.input["bands"]), int(card.input.get("side", 26))), arrays)
        threshold = card.threshold if threshold is None else threshold
        screened = _load_screen(name, threshold, where.type) if screen else None
        exact = _precision(precision, where)
        return WindowScorer(net.to(where), card, where, exact, float(logit(threshold)), batch, screened, stride)
    if screen:
        raise Misconfigured(
            "screen_kind", "detect.screen", f"{name!r} has no windows to leave out.", "set it to false."
        )
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


def _load_screen(name: str, threshold: float, device: str) -> Screen:
    card = read_screen_card(name)
    if device != "cpu":
        remedy = "set it to false, or detect.device = 'cpu'."
        raise Misconfigured("screen_device", "detect.screen", "works on the processor only.", remedy)
    if threshold < card.input["threshold"]:
        known = f"is {threshold}, but the screen knows windows from {card.input['threshold']} on."
        raise Misconfigured("screen_threshold", "detect.threshold", known, "raise it, or set detect.screen = false.")
    _, arrays = read_weights("screen", name)
    return Screen(screen_layers(arrays), float(logit(card.threshold)))

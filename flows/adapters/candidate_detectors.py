"""Detectors that judge the peaks of a bank of trails, made from their weights and cards."""

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from kernels.candidate_judges import TreeJudge, TwoStageJudge
from kernels.candidate_search import CandidateSearch, Judge
from kernels.line_score import line_score
from kernels.nets.candidate_cnn import CandidateCnn
from kernels.tree_ensemble import tree_ensemble
from schemas.model_card import ModelCard

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

"""Verdicts, made from their weights and cards."""

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from kernels.nets.verdict_cnn import VerdictCnn
from kernels.tree_ensemble import tree_ensemble
from kernels.verdict_net import VerdictNet
from schemas.model_card import ModelCard

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

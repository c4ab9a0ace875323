"""Reliability of candidates by boosted trees on their measurements and small networks on their pictures."""

from dataclasses import dataclass

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from kernels.nets.candidate_nets import VerdictCnn
from kernels.nets.tree_ensemble import TreeEnsemble, tree_ensemble, tree_logits
from schemas.dia_source import FEATURES
from schemas.errors import Misconfigured
from schemas.model_card import ModelCard
from schemas.stage import Weights

TREES = "trees."
"""What the names of the trees' arrays begin with; those of the networks begin with their number."""

_BATCH = 32
"""Candidates at a time, always as many, so that a candidate's answer does not depend on its company."""


@dataclass(frozen=True)
class VerdictNet:
    """Trees and networks, whose log odds are averaged, with a calibration.

    Parameters
    ----------
    nets
        Networks, in evaluation mode.
    trees
        See `kernels.nets.tree_ensemble`.
    slope, offset
        Of the calibrated log odds over those of `log_odds`; see `reliability_of`.
    card
        What is known of the weights.
    """

    nets: tuple[VerdictCnn, ...]
    trees: TreeEnsemble
    slope: float
    offset: float
    card: ModelCard

    def __call__(self, features: NDArray[np.float32], stamps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of being real.

        Parameters
        ----------
        features : (n, features) float32
            See `schemas.model_card`.
        stamps : (n, CHANNELS, SIDE, SIDE) float32
            See `kernels.measure.reliability`.

        Returns
        -------
        (n,) float32
            0 to 1.
        """
        return reliability_of(self.log_odds(features, stamps), self.slope, self.offset)

    def log_odds(self, features: NDArray[np.float32], stamps: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the mean of the trees' log odds and of the networks' mean, before calibration, (n,)."""
        count = len(features)
        whole = -(-count // _BATCH) * _BATCH
        padded = [
            torch.from_numpy(np.concatenate([part, np.zeros((whole - count, *part.shape[1:]), np.float32)]))
            for part in (stamps, features)
        ]
        found = np.zeros(whole)
        with torch.inference_mode():
            for start in range(0, whole, _BATCH):
                batch = [part[start : start + _BATCH] for part in padded]
                odds = torch.stack([net(*batch) for net in self.nets]).double().mean(0)
                found[start : start + _BATCH] = odds.numpy()
        return 0.5 * (found[:count] + tree_logits(features, self.trees))


def reliability_of(log_odds: NDArray[np.float64], slope: float, offset: float) -> NDArray[np.float32]:
    """Return calibrated probabilities, ``1 / (1 + exp(-(slope log_odds + offset)))``.

    Notes
    -----
    Platt 1999, *Advances in Large Margin Classifiers*, 61; with offset 0 it is the temperature scaling of Guo et al.
    2017, ICML, 1321. Unlike isotonic regression it keeps the order of the candidates without ties.
    """
    return scipy.special.expit(slope * log_odds + offset).astype(np.float32)


def build_reliability(weights: Weights) -> VerdictNet:
    """Make the model of its weights, member by member, and the calibration on its card.

    Raises
    ------
    Misconfigured
        It was trained on other features than this version measures.
    """
    card, arrays = weights.card, weights.arrays
    trained_on = tuple(card.input.get("features", ()))
    if trained_on != FEATURES:
        raise Misconfigured(
            "other_features",
            f"{weights.location}.json",
            f"was trained on the features {list(trained_on)}, this version measures {list(FEATURES)}.",
            "train it again: nightstride train detect.",
        )
    nets = []
    for n in range(int(card.input["networks"])):
        own = {name: value for name, value in arrays.items() if name.startswith(f"{n}.")}
        net = VerdictCnn(len(FEATURES))
        net.load_state_dict({name.split(".", 1)[1]: torch.from_numpy(value.copy()) for name, value in own.items()})
        nets.append(net.eval())
    trees = tree_ensemble({name.removeprefix(TREES): value for name, value in arrays.items() if name.startswith(TREES)})
    return VerdictNet(tuple(nets), trees, float(card.calibration["slope"]), float(card.calibration["offset"]), card)

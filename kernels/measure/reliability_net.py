"""Reliability of candidates from boosted trees on their measurements and small networks on their stamps."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from kernels.nets.reliability_cnn import ReliabilityCnn
from kernels.nets.tree_ensemble import TreeEnsemble, tree_ensemble, tree_logits
from schemas.dia_source import FEATURES, KINDS, STATIC, UNKNOWN
from schemas.errors import Misconfigured
from schemas.model_card import ModelCard
from schemas.stage import Weights

TREES = "trees."
"""Prefix of the names of the trees' arrays; those of the networks begin with their number."""

_BATCH = 32
"""Candidates at a time, always as many, so that a candidate's result does not depend on the others."""


SHARES = "kinds."
"""Prefix of the names of the arrays of `KindShares`."""

FURTHEST = 5.0
"""Distance from the mean, in spreads, to which `kind_shares` clips a measurement."""


_TRAIL, _POINT, _SATELLITE = (KINDS.index(name) for name in ("trail", "point", "satellite"))


class KindShares(NamedTuple):
    """Logistic regressions for the kind of a real candidate; see `kind_shares`.

    Attributes
    ----------
    mean, scale : (features,)
        Mean and scale that standardise the measurements.
    weight : (len(KINDS), features)
        Weights of the log odds.
    bias : (len(KINDS),)
        Bias of the log odds, for equally frequent kinds.
    shift : (len(KINDS),)
        Prior from the card, added to the log odds.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    shift: NDArray[np.float64]


def of_columns(features: NDArray[np.float32], columns: tuple[int, ...] | None) -> NDArray[np.float32]:
    """Return some measurements of candidates, (n, features) -> (n, len(columns)); None: all."""
    return features if columns is None else np.ascontiguousarray(features[:, list(columns)])


def kind_shares(
    features: NDArray[np.float32], of: KindShares, columns: tuple[int, ...] | None = None
) -> NDArray[np.float64]:
    """Return the probability of each of `KINDS` for candidates that are real.

    All measurements decide whether a source moved. `STATIC` is not used to decide whether a moving source is a
    satellite, as if there were no science image, because asteroids cross stars too.

    Parameters
    ----------
    features : (n, len(FEATURES)) float32
        See `schemas.dia_source.FEATURES`.
    of
        Fitted regressions.
    columns
        Indices of the `FEATURES` that ``of`` was fitted to; None: all.

    Returns
    -------
    (n, len(KINDS)) float64
        Probabilities; each row sums to 1.
    """
    hidden = features.copy()
    hidden[:, [FEATURES.index(name) for name in STATIC]] = UNKNOWN
    odds, without = (_log_odds(of_columns(seen, columns), of) for seen in (features, hidden))
    still = odds[:, _POINT] - np.logaddexp(odds[:, _TRAIL], odds[:, _SATELLITE])
    fast = without[:, _SATELLITE] - without[:, _TRAIL]
    point, moved, satellite, trail = (scipy.special.expit(one) for one in (still, -still, fast, -fast))
    return np.stack([moved * trail, point, moved * satellite], axis=1)


def _log_odds(features: NDArray[np.float32], of: KindShares) -> NDArray[np.float64]:
    standard = np.clip((features - of.mean) / of.scale, -FURTHEST, FURTHEST)
    return np.asarray(standard @ of.weight.T + of.bias + of.shift, np.float64)


@dataclass(frozen=True)
class ReliabilityNet:
    """Trees and networks with averaged log odds and a calibration.

    Parameters
    ----------
    nets
        Networks, in evaluation mode.
    trees
        See `kernels.nets.tree_ensemble`.
    slope, offset
        Calibration of the log odds; see `reliability_of`.
    card
        Card of the weights.
    kinds
        Regressions for the kinds of real candidates; weights of earlier versions have none.
    columns
        Indices of the `FEATURES` that the model was trained on; None: all.
    """

    nets: tuple[ReliabilityCnn, ...]
    trees: TreeEnsemble
    slope: float
    offset: float
    card: ModelCard
    kinds: KindShares | None = None
    columns: tuple[int, ...] | None = None

    def __call__(self, features: NDArray[np.float32], stamps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability that each candidate is real.

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

    def classes(self, features: NDArray[np.float32], reliability: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probabilities of `KINDS` and of an artefact, (n, len(KINDS) + 1); NaN without ``kinds``."""
        if self.kinds is None:
            return np.full((len(features), len(KINDS) + 1), np.nan)
        real = reliability[:, None].astype(np.float64)
        return np.concatenate([real * kind_shares(features, self.kinds, self.columns), 1 - real], axis=1)

    def log_odds(self, features: NDArray[np.float32], stamps: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the mean of the log odds of the trees and of the networks' mean, before calibration, (n,)."""
        count, features = len(features), of_columns(features, self.columns)
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
    The method is that of Platt 1999, *Advances in Large Margin Classifiers*, 61; with offset 0 it is the temperature
    scaling of Guo et al. 2017, ICML, 1321. Unlike isotonic regression it keeps the order of candidates without ties.
    """
    return scipy.special.expit(slope * log_odds + offset).astype(np.float32)


def build_reliability(weights: Weights) -> ReliabilityNet:
    """Return the model built from its weights and the calibration on its card.

    Raises
    ------
    Misconfigured
        The model was trained on features that this version does not measure.
    """
    card, arrays = weights.card, weights.arrays
    trained_on = tuple(card.input.get("features", ()))
    if not trained_on or not set(trained_on) <= set(FEATURES):
        raise Misconfigured(
            "other_features",
            f"{weights.location}.json",
            f"was trained on the features {list(trained_on)}, this version measures {list(FEATURES)}.",
            "train it again: nightstride train detect.",
        )
    nets = []
    for n in range(int(card.input["networks"])):
        own = {name: value for name, value in arrays.items() if name.startswith(f"{n}.")}
        net = ReliabilityCnn(len(trained_on), int(card.input["stamps"][0]), bool(card.input.get("centred", False)))
        net.load_state_dict({name.split(".", 1)[1]: torch.from_numpy(value.copy()) for name, value in own.items()})
        nets.append(net.eval())
    trees = tree_ensemble({name.removeprefix(TREES): value for name, value in arrays.items() if name.startswith(TREES)})
    own = {name.removeprefix(SHARES): value for name, value in arrays.items() if name.startswith(SHARES)}
    kinds = KindShares(**own, shift=np.array(card.calibration.get("kind_shift", [0.0] * len(KINDS)))) if own else None
    slope, offset = float(card.calibration["slope"]), float(card.calibration["offset"])
    columns = None if trained_on == FEATURES else tuple(FEATURES.index(name) for name in trained_on)
    return ReliabilityNet(tuple(nets), trees, slope, offset, card, kinds, columns)

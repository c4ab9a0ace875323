"""Fits that several models have in common: trees, calibration, thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.ensemble import HistGradientBoostingClassifier

from kernels.nets.tree_ensemble import TreeEnsemble

SCAN = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 3.0, 5.0, 10.0)
"""False detections per image at which completeness is drawn."""


@dataclass(frozen=True)
class TreeFit:
    """Number of trees, learning rate, leaves of each, fewest examples in a leaf, and ridge on its value."""

    trees: int = 300
    rate: float = 0.06
    leaves: int = 31
    least: int = 40
    ridge: float = 1.0


def fit_trees(features: NDArray[np.float32], label: NDArray[np.int64], plan: TreeFit, seed: int) -> TreeEnsemble:
    """Fit trees to the features (n, features) of candidates labelled 0 or 1, by the logistic loss."""
    return taken_from(fit_model(features, label, plan, seed))


def fit_model(
    features: NDArray[np.float32], label: NDArray[np.int64], plan: TreeFit, seed: int
) -> HistGradientBoostingClassifier:
    """Fit scikit-learn's model; see `fit_trees`."""
    model = HistGradientBoostingClassifier(
        max_iter=plan.trees,
        learning_rate=plan.rate,
        max_leaf_nodes=plan.leaves,
        min_samples_leaf=plan.least,
        l2_regularization=plan.ridge,
        early_stopping=False,
        random_state=seed,
    )
    return model.fit(features, label)


def taken_from(model: Any) -> TreeEnsemble:
    """Copy the trees of a fitted model of two classes and features that are numbers, none missing."""
    nodes = [tree.nodes for (tree,) in model._predictors]
    first = np.cumsum([0, *map(len, nodes)])[:-1]
    flat = np.concatenate(nodes)
    shift = np.repeat(first, [len(part) for part in nodes])
    leaf = flat["is_leaf"].astype(bool)
    return TreeEnsemble(
        first.astype(np.int32),
        np.where(leaf, -1, flat["feature_idx"]).astype(np.int16),
        flat["num_threshold"].astype(np.float64),
        np.where(leaf, 0, flat["left"] + shift).astype(np.int32),
        np.where(leaf, 0, flat["right"] + shift).astype(np.int32),
        np.where(leaf, flat["value"], 0.0),
        np.ravel(model._baseline_prediction).astype(np.float64),
    )


def turned(stamps: torch.Tensor, symmetry: int) -> torch.Tensor:
    """Turn pictures by quarters, and mirror them from number 4 on: one of the eight symmetries of the square."""
    stamps = torch.rot90(stamps, symmetry % 4, (2, 3))
    return (stamps.transpose(2, 3) if symmetry >= 4 else stamps).contiguous()


def calibrate(log_odds: NDArray[np.floating], real: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit slope and offset of `kernels.measure.reliability_net.reliability_of` by maximum likelihood.

    Parameters
    ----------
    log_odds : (n,)
        Of the ensemble.
    real : (n,) bool
        What the candidates are.

    Notes
    -----
    Each class's target is off 0 and 1 by the share that one more candidate would have (Platt 1999), so that a perfect
    separation does not give an infinite slope.
    """
    positive, negative = int(real.sum()), int((~real).sum())
    target = np.where(real, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(parameters: NDArray[np.float64]) -> float:
        z = parameters[0] * log_odds + parameters[1]
        return float(np.mean(np.logaddexp(0, z) - target * z))

    slope, offset = minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead").x
    return float(slope), float(offset)


def false_level(scores: Sequence[NDArray[np.floating]], false_per_image: float) -> float:
    """Return the least score at which there are at most ``false_per_image`` false ones per image.

    Parameters
    ----------
    scores
        Of the false ones of each image.
    false_per_image
        How many are allowed.

    Returns
    -------
    float
        Minus infinity if there are never more.
    """
    ordered = np.sort(np.concatenate(scores))[::-1]  # of their own type: what is next to a number depends on it
    allowed = int(false_per_image * len(scores))
    return float(np.nextafter(ordered[allowed], np.inf)) if allowed < len(ordered) else float("-inf")

"""Fits shared by several models: trees, calibration, thresholds."""

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
"""Numbers of false detections per image for plots of completeness."""


@dataclass(frozen=True)
class TreeFit:
    """Number of trees, learning rate, leaves per tree, least examples per leaf, and ridge on leaf values."""

    trees: int = 300
    rate: float = 0.06
    leaves: int = 31
    least: int = 40
    ridge: float = 1.0


def fit_trees(features: NDArray[np.float32], label: NDArray[np.int64], plan: TreeFit, seed: int) -> TreeEnsemble:
    """Fit trees to the features (n, features) of candidates labelled 0 or 1, with logistic loss."""
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
    """Copy the trees of a fitted model with two classes and numeric features without missing values."""
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
    """Turn pictures by quarters, and mirror them for 4 and above: one of the eight symmetries of the square."""
    stamps = torch.rot90(stamps, symmetry % 4, (2, 3))
    return (stamps.transpose(2, 3) if symmetry >= 4 else stamps).contiguous()


def calibrate(log_odds: NDArray[np.floating], real: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit slope and offset of `kernels.measure.reliability_net.reliability_of` by maximum likelihood.

    Parameters
    ----------
    log_odds : (n,)
        Log odds from the ensemble.
    real : (n,) bool
        Whether each candidate is real.

    Notes
    -----
    Targets differ from 0 and 1 by the share of one additional candidate per class (Platt 1999), so that perfect
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
    """Return the lowest score with at most ``false_per_image`` false ones per image.

    Parameters
    ----------
    scores
        Scores of the false ones of each image.
    false_per_image
        Allowed number.

    Returns
    -------
    float
        Minus infinity if there are never more.
    """
    ordered = np.sort(np.concatenate(scores))[::-1]  # in their own dtype, which determines the next larger number
    allowed = int(false_per_image * len(scores))
    return float(np.nextafter(ordered[allowed], np.inf)) if allowed < len(ordered) else float("-inf")

"""Fit boosted trees to the features of candidates."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from kernels.tree_ensemble import TreeEnsemble


@dataclass(frozen=True)
class TreeFit:
    """Number of trees, learning rate, leaves of each, fewest examples in a leaf, and ridge on its value.

    Of the false candidates, ``false_per_streak`` for each streak are drawn, weighted by what they stand for; None: all.
    """

    trees: int = 300
    rate: float = 0.06
    leaves: int = 31
    least: int = 40
    ridge: float = 1.0
    false_per_streak: int | None = None


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
    if plan.false_per_streak is None:
        return model.fit(features, label)
    false = np.flatnonzero(label == 0)
    drawn = np.random.default_rng(seed).permutation(false)[: plan.false_per_streak * int(label.sum())]
    weight = np.where(label == 0, len(false) / max(len(drawn), 1), 1.0)
    kept = np.sort(np.concatenate([np.flatnonzero(label), drawn]))
    return model.fit(features[kept], label[kept], weight[kept])


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

"""Train the detector of boosted trees on shape features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier

from flows.pipeline.weights import write_model
from flows.runtime.parallel import map_in_processes
from flows.training.candidate_set import (
    FLOOR,
    HITS_FALSE,
    CandidateSet,
    candidate_card,
    candidate_set,
    report_candidates,
    threshold_at,
)
from flows.training.examples import Example
from kernels.nets.tree_ensemble import TreeEnsemble, tree_logits
from kernels.search.shape_features import FEATURES


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


Say = Callable[[str], None]


@dataclass(frozen=True)
class Examples:
    """Exposures to learn from, to choose thresholds on, and to report on; no field is in two of them."""

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]


BOOSTED = TreeFit(false_per_streak=40)
"""How the trees are fitted."""


def train_boosted(
    out: Path, examples: Examples, fit: TreeFit, about: Mapping[str, Any], seed: int, workers: int, say: Say
) -> dict[str, Any]:
    """Train boosted trees on the candidates of exposures.

    Parameters
    ----------
    out
        Gets ``detect.*``: weights and card.
    examples
        See `Examples`.
    fit
        How the trees are fitted.
    about
        What the card says of the training.
    seed
        Of everything.
    workers
        Processes.
    say
        Called with a line for every step.

    Returns
    -------
    dict
        The measured figures, as in the card.
    """
    sets = {part: gather(getattr(examples, part), workers, say) for part in ("train", "validation", "test")}
    trees = fit_on(sets["train"], fit, seed, say)
    scored = {part: (sets[part], [tree_logits(one.features, trees) for one in sets[part]]) for part in sets}
    figures = report_candidates(scored["validation"], scored["test"])
    arrays = dict(trees._asdict()) | {"floor": np.array([FLOOR])}
    inputs = {"kind": "boosted", "features": list(FEATURES)}
    threshold = float(expit(threshold_at(*scored["validation"], HITS_FALSE)))
    write_model(out, arrays, candidate_card("boosted", inputs, about, figures, threshold))
    return figures


def gather(examples: Sequence[Example], workers: int, say: Say) -> list[CandidateSet]:
    """Find and describe the candidates of exposures."""
    say(f"candidates of {len(examples)} exposures")
    return list(map_in_processes(candidate_set, examples, workers))


def fit_on(sets: Sequence[CandidateSet], fit: TreeFit, seed: int, say: Say) -> TreeEnsemble:
    """Fit trees to labelled candidates."""
    features = np.concatenate([one.features[one.label >= 0] for one in sets])
    label = np.concatenate([one.label[one.label >= 0] for one in sets])
    say(f"trees on {len(label)} candidates, {int(label.sum())} of them streaks")
    return fit_trees(features, label, fit, seed)

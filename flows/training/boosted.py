"""Training of the detector of boosted trees on shape features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

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
from flows.training.fits import TreeFit, fit_trees
from kernels.nets.tree_ensemble import TreeEnsemble, tree_logits
from kernels.search.shape_features import FEATURES

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
        What the card says of the training data.
    seed
        Of everything.
    workers
        Processes of a search, threads of a fit.
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

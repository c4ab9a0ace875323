"""Train the detector of boosted trees on shape features."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from flows.adapters.weights import write_model
from flows.training.boosted_fit import TreeFit, fit_trees
from flows.training.candidate_card import candidate_card
from flows.training.candidate_report import report
from flows.training.candidate_set import FLOOR, CandidateSet, candidate_set
from flows.training.examples import Example, map_in_processes
from kernels.shape_features import FEATURES
from kernels.tree_ensemble import TreeEnsemble, tree_logits

Say = Callable[[str], None]


@dataclass(frozen=True)
class Examples:
    """Exposures to learn from, to choose thresholds on, and to report on; no field is in two of them."""

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]


@dataclass(frozen=True)
class BoostedPlan:
    """How the trees are fitted, and the seed of everything."""

    fit: TreeFit = field(default_factory=lambda: TreeFit(false_per_streak=40))
    seed: int = 1


def train_boosted(
    out: Path, examples: Examples, plan: BoostedPlan, workers: int, say: Say, name: str | None = None
) -> dict[str, Any]:
    """Train boosted trees on the candidates of exposures.

    Parameters
    ----------
    out
        Gets ``detect.*``, or ``<name>.*``: weights and card. The card's threshold is that of 1 false streak per image
        on the validation exposures.
    examples
        See `Examples`.
    plan
        What to do.
    workers
        Processes.
    say
        Called with a line for every step.
    name
        Of the files.

    Returns
    -------
    dict
        The measured figures, as in the card.
    """
    sets = {part: gather(getattr(examples, part), workers, say) for part in ("train", "validation", "test")}
    trees = fit_on(sets["train"], plan, say)
    scored = {part: (sets[part], [tree_logits(one.features, trees) for one in sets[part]]) for part in sets}
    figures = report(scored["validation"], scored["test"])
    arrays = dict(trees._asdict()) | {"floor": np.array([FLOOR])}
    inputs = {"kind": "boosted", "features": list(FEATURES)}
    threshold = float(expit(figures["at_1_false"]["threshold"]))
    counts = {part: len(sets[part]) for part in sets}
    write_model(out, arrays, candidate_card("boosted", inputs, asdict(plan), counts, figures, threshold), name)
    return figures


def gather(examples: Sequence[Example], workers: int, say: Say) -> list[CandidateSet]:
    """Find and describe the candidates of exposures."""
    say(f"candidates of {len(examples)} exposures")
    return list(map_in_processes(candidate_set, examples, workers))


def fit_on(sets: Sequence[CandidateSet], plan: BoostedPlan, say: Say) -> TreeEnsemble:
    """Fit trees to labelled candidates."""
    features = np.concatenate([one.features[one.label >= 0] for one in sets])
    label = np.concatenate([one.label[one.label >= 0] for one in sets])
    say(f"trees on {len(label)} candidates, {int(label.sum())} of them streaks")
    return fit_trees(features, label, plan.fit, plan.seed)

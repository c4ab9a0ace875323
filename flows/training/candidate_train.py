"""Train a detector of candidates from simulated exposures alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.training.boosted_train import BoostedPlan, Examples, Say, train_boosted
from flows.training.candidate_card import write_matched_filter
from flows.training.examples import Wanted, make_sets
from flows.training.two_stage_train import TwoStagePlan, train_two_stage
from schemas.errors import Misconfigured

TRAIN = (Wanted("ztf", 40, 60), Wanted("llnl", 16, 60), Wanted("ztf", 2, 0))
HELD_OUT = (Wanted("ztf", 10), Wanted("llnl", 5))


def train_candidates(
    kind: str,
    out: Path,
    work: Path,
    seed: int,
    workers: int,
    say: Say,
    train: Sequence[Wanted] = TRAIN,
    held_out: Sequence[Wanted] = HELD_OUT,
) -> dict[str, Any]:
    """Simulate exposures and train a detector on their candidates.

    Parameters
    ----------
    kind
        ``"two_stage"``, ``"boosted"`` or ``"matched_filter"``; the last has nothing to learn.
    out
        Gets ``detect.*``: weights and card.
    work
        Simulated exposures go here, and are used again if they are there.
    seed
        Of everything.
    workers
        Processes.
    say
        Called with a line for every step.
    train, held_out
        Exposures to learn from; and both to choose thresholds on and, others, to report on.

    Returns
    -------
    dict
        The measured figures, as in the card.

    Raises
    ------
    Misconfigured
        There is no such kind.
    """
    if kind not in ("two_stage", "boosted", "matched_filter"):
        remedy = "choose two_stage, boosted or matched_filter."
        raise Misconfigured("unknown_kind", "--kind", f"{kind!r} is no detector of candidates.", remedy)
    if kind == "matched_filter":
        return dict(write_matched_filter(out).metrics)
    wanted = {"train": train, "validation": held_out, "test": held_out}
    sets = {
        part: make_sets(work / part, each, 1000 * seed + 100 * n + 50, workers, say)
        for n, (part, each) in enumerate(wanted.items())
    }
    examples = Examples(**sets)
    if kind == "boosted":
        return train_boosted(out, examples, BoostedPlan(seed=seed), workers, say)
    return train_two_stage(out, examples, TwoStagePlan(seed=seed), workers, say)

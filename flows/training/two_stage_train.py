"""Train the two-stage detector: boosted trees sort out what is plainly false, a network judges what is left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from flows.adapters.candidate_detectors import NET
from flows.adapters.weights import write_model
from flows.training.boosted_fit import TreeFit
from flows.training.boosted_train import BOOSTED, Examples, Say, fit_on, gather
from flows.training.candidate_card import HITS_FALSE, candidate_card
from flows.training.candidate_report import found_above, report, threshold_at
from flows.training.candidate_set import FLOOR, CandidateSet, candidate_cutouts
from flows.training.examples import Example, map_in_processes
from flows.training.two_stage_fit import Cutouts, NetFit, fit_net
from kernels.candidate_judges import net_logits
from kernels.nets.candidate_cnn import CandidateCnn
from kernels.shape_features import FEATURES
from kernels.tree_ensemble import tree_logits

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_APART = np.float32(10)  # below those that the network has seen; as in `kernels.candidate_judges`


@dataclass(frozen=True)
class TwoStagePlan:
    """How the detector is trained.

    Attributes
    ----------
    trees, net
        Fits of the two stages.
    floor
        Log odds of the trees from which on the network is asked.
    least_snr
        Of the streaks that decide how much the network counts beside the trees.
    """

    trees: TreeFit = BOOSTED
    net: NetFit = field(default_factory=NetFit)
    floor: float = -6.0
    least_snr: float = 7.0


def train_two_stage(
    out: Path, examples: Examples, plan: TwoStagePlan, about: Mapping[str, Any], seed: int, workers: int, say: Say
) -> dict[str, Any]:
    """Train both stages; parameters and result are those of `flows.training.boosted_train.train_boosted`.

    The network learns from the candidates that trees fitted to the other half of the exposures leave, as it meets them
    in use. How much it counts beside the trees is chosen on the validation exposures.
    """
    sets = {part: gather(getattr(examples, part), workers, say) for part in ("train", "validation", "test")}
    trees = fit_on(sets["train"], plan.trees, seed, say)
    odds = {part: [tree_logits(one.features, trees) for one in sets[part]] for part in sets}
    odds["train"] = _by_the_other_half(sets["train"], plan.trees, seed, say)
    net = fit_net(_learnt_from(examples.train, sets["train"], odds["train"], plan, workers, say), plan.net, seed, say)
    judged = {
        part: _judge(net, getattr(examples, part), sets[part], odds[part], plan, workers)
        for part in ("validation", "test")
    }

    def scored(part: str, share: float) -> tuple[Sequence[CandidateSet], list[NDArray[np.float32]]]:
        both = zip(odds[part], judged[part], strict=True)
        return sets[part], [_joined(tree, score, share, plan.floor) for tree, score in both]

    share = max(_SHARES, key=lambda each: _found(*scored("validation", each), plan.least_snr))
    figures = report(scored("validation", share), scored("test", share))
    arrays = dict(trees._asdict()) | {"floor": np.array([FLOOR])}
    arrays |= {NET + key: value.numpy() for key, value in net.state_dict().items()}
    inputs = {"kind": "two_stage", "features": list(FEATURES), "tree_floor": plan.floor, "share": share}
    threshold = float(expit(threshold_at(*scored("validation", share), HITS_FALSE)))
    write_model(out, arrays, candidate_card("two_stage", inputs, about, figures, threshold))
    return figures


def _by_the_other_half(sets: Sequence[CandidateSet], fit: TreeFit, seed: int, say: Say) -> list[NDArray[np.float32]]:
    """Log odds from trees that have not seen the exposure."""
    halves = [fit_on(sets[1 - half :: 2], fit, seed, say) for half in (0, 1)]
    return [tree_logits(one.features, halves[n % 2]) for n, one in enumerate(sets)]


def _learnt_from(
    examples: Sequence[Example],
    sets: Sequence[CandidateSet],
    odds: Sequence[NDArray[np.float32]],
    plan: TwoStagePlan,
    workers: int,
    say: Say,
) -> Cutouts:
    chosen = [
        np.flatnonzero((one.label == 1) | ((one.label == 0) & (odd >= plan.floor)))
        for one, odd in zip(sets, odds, strict=True)
    ]
    say(f"cutouts of {sum(map(len, chosen))} candidates")
    pictures = _pictures(examples, chosen, workers)
    pairs = list(zip(sets, chosen, strict=True))
    features, label = (
        np.concatenate(part) for part in zip(*((s.features[c], s.label[c]) for s, c in pairs), strict=True)
    )
    return Cutouts(np.concatenate(pictures), features, label)


def _pictures(examples: Sequence[Example], chosen: list[NDArray[np.int64]], workers: int) -> list[NDArray[np.float16]]:
    return list(map_in_processes(_cut, list(zip(examples, chosen, strict=True)), workers))


def _cut(pair: tuple[Example, NDArray[np.int64]]) -> NDArray[np.float16]:
    return candidate_cutouts(*pair).astype(np.float16)


def _judge(
    net: CandidateCnn,
    examples: Sequence[Example],
    sets: Sequence[CandidateSet],
    odds: Sequence[NDArray[np.float32]],
    plan: TwoStagePlan,
    workers: int,
) -> list[NDArray[np.float32]]:
    """Log odds of the network where it is asked."""
    chosen = [np.flatnonzero(odd >= plan.floor) for odd in odds]
    ask = partial(net_logits, net, device=torch.device("cpu"))
    pictures = _pictures(examples, chosen, workers)
    return [
        ask(picture.astype(np.float32), one.features[c]) for picture, one, c in zip(pictures, sets, chosen, strict=True)
    ]


def _joined(tree: NDArray[np.float32], judged: NDArray[np.float32], share: float, floor: float) -> NDArray[np.float32]:
    out, asked = tree - _APART, tree >= floor
    out[asked] = np.float32(share) * judged + np.float32(1 - share) * tree[asked]
    return out


def _found(sets: Sequence[CandidateSet], scores: list[NDArray[np.float32]], least_snr: float) -> int:
    """Streaks found at half a false one and at one per image, together."""
    return sum(found_above(sets, scores, threshold_at(sets, scores, allowed), least_snr)[0] for allowed in (0.5, 1.0))

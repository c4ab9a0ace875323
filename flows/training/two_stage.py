"""Training of the two-stage detector: trees sort out the plainly false, a network judges the rest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn

from flows.pipeline.weights import write_model
from flows.runtime.parallel import map_in_processes
from flows.training.boosted import BOOSTED, Examples, Say, fit_on, gather
from flows.training.candidate_set import (
    FLOOR,
    HITS_FALSE,
    CandidateSet,
    candidate_card,
    candidate_cutouts,
    found_above,
    report_candidates,
    threshold_at,
)
from flows.training.examples import Example
from flows.training.fits import TreeFit
from kernels.nets.candidate_nets import CandidateCnn
from kernels.nets.tree_ensemble import tree_logits
from kernels.search.candidate_search import net_logits
from kernels.search.detector_weights import NET
from kernels.search.shape_features import FEATURES

_POSITIVE = 2.0  # weight of a streak in the loss


class Cutouts(NamedTuple):
    """Cutouts (n, CHANNELS, WIDE, LONG) float16, shape features (n, features) float32 and labels (n,) 0 or 1."""

    pictures: NDArray[np.float16]
    features: NDArray[np.float32]
    label: NDArray[np.int64]


@dataclass(frozen=True)
class NetFit:
    """Passes over the examples, examples at a time, largest learning rate, weight decay."""

    epochs: int = 8
    batch: int = 128
    rate: float = 3e-3
    decay: float = 1e-3


def fit_net(data: Cutouts, plan: NetFit, seed: int, say: Callable[[str], None]) -> CandidateCnn:
    """Fit a network to cutouts, mirrored at random along and across their lines.

    AdamW (Loshchilov & Hutter 2019, ICLR) under a one-cycle schedule (Smith & Topin 2019, SPIE 11006).
    """
    torch.manual_seed(seed)
    net = CandidateCnn(data.features.shape[1])
    net.mean.copy_(torch.from_numpy(data.features.mean(0)))
    net.scale.copy_(torch.from_numpy(data.features.std(0) + 1e-3))
    steps = len(data.label) // plan.batch or 1
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=plan.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.rate, total_steps=steps * plan.epochs, pct_start=0.2)
    net.train()
    rng = np.random.default_rng(seed)
    for epoch in range(plan.epochs):
        order, total = rng.permutation(len(data.label)), 0.0
        for step in range(steps):
            chosen = order[step * plan.batch : (step + 1) * plan.batch]
            loss: Any = _loss(net, data, chosen, rng)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        say(f"epoch {epoch + 1} of {plan.epochs}: loss {total / steps:.4f}")
    return net.eval()


def _loss(net: CandidateCnn, data: Cutouts, chosen: NDArray[np.int64], rng: np.random.Generator) -> torch.Tensor:
    pictures = data.pictures[chosen].astype(np.float32)
    for axis in (2, 3):
        mirrored = rng.uniform(size=len(chosen)) < 0.5
        pictures[mirrored] = np.flip(pictures[mirrored], axis)
    label = torch.from_numpy(data.label[chosen].astype(np.float32))
    odds = net(torch.from_numpy(pictures), torch.from_numpy(data.features[chosen]))
    weight = 1 + (_POSITIVE - 1) * label
    return nn.functional.binary_cross_entropy_with_logits(odds, label, weight)


_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_APART = np.float32(10)  # below those that the network has seen; as in `kernels.search.candidate_search`


@dataclass(frozen=True)
class TwoStagePlan:
    """Settings of the training of the detector.

    Attributes
    ----------
    trees, net
        Fits of the two stages.
    floor
        Log odds of the trees from which on the network is used.
    least_snr
        S/N of the streaks that decide the weight of the network beside the trees.
    """

    trees: TreeFit = BOOSTED
    net: NetFit = field(default_factory=NetFit)
    floor: float = -6.0
    least_snr: float = 7.0


def train_two_stage(
    out: Path, examples: Examples, plan: TwoStagePlan, about: Mapping[str, Any], seed: int, workers: int, say: Say
) -> dict[str, Any]:
    """Train both stages; parameters and result are those of `flows.training.boosted.train_boosted`.

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
    figures = report_candidates(scored("validation", share), scored("test", share))
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
    """Log odds of the network where it is used."""
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
    """Return the number of streaks found at half a false one per image, plus that at one."""
    return sum(found_above(sets, scores, threshold_at(sets, scores, allowed), least_snr)[0] for allowed in (0.5, 1.0))

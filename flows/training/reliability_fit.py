"""Fit of the reliability of candidates, and its figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt  # the backend comes first
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from flows.training.candidates import Labelled, candidate_completeness, candidate_threshold
from flows.training.fits import SCAN, turned
from kernels.nets.reliability_cnn import ReliabilityCnn
from kernels.search.detector import choose_device
from kernels.statistics.class_scores import reliability_diagram
from kernels.statistics.completeness import binomial_interval
from schemas.dia_source import FEATURES


@dataclass(frozen=True)
class ReliabilityFit:
    """Number of networks, passes over the candidates, batch size, largest learning rate, weight decay."""

    networks: int = 2
    epochs: int = 8
    batch: int = 128
    rate: float = 2e-3
    decay: float = 1e-3


def fit_reliability(
    examples: Sequence[Labelled], plan: ReliabilityFit, seed: int, say: Callable[[str], None]
) -> tuple[ReliabilityCnn, ...]:
    """Fit an ensemble, since single networks differ by several per cent in what they find.

    Parameters
    ----------
    examples
        Candidates of the training exposures; those neither real nor false are left out.
    plan
        Settings: AdamW with a one-cycle schedule.
    seed
        Seed of initial values, order and symmetries.
    say
        Receives a message on the loss.

    Notes
    -----
    Runs on the GPU if there is one; then all candidates are in its memory.
    """
    known = [one.known for one in examples]
    features = np.concatenate([one.features[use] for one, use in zip(examples, known, strict=True)])
    stamps = np.concatenate([one.stamps[use] for one, use in zip(examples, known, strict=True)])
    real = np.concatenate([one.label[use] > 0 for one, use in zip(examples, known, strict=True)]).astype(np.float32)
    say(f"reliability of {len(real)} candidates, {int(real.sum())} of them real")
    device = choose_device("auto")
    x, pictures, truth = (torch.from_numpy(one).to(device) for one in (features, stamps, real))
    return tuple(_fit_one(x, pictures, truth, plan, seed + n, say) for n in range(plan.networks))


def _fit_one(
    features: torch.Tensor,
    stamps: torch.Tensor,
    real: torch.Tensor,
    plan: ReliabilityFit,
    seed: int,
    say: Callable[[str], None],
) -> ReliabilityCnn:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = ReliabilityCnn(features.shape[1])
    net = net.to(features.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third less time
    net.mean.copy_(features.mean(0))
    net.scale.copy_(features.std(0) + 1e-3)
    steps = max(1, len(real) // plan.batch)
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=plan.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.rate, total_steps=plan.epochs * steps, pct_start=0.15
    )
    net.train()
    for epoch in range(plan.epochs):
        total = 0.0
        for chosen in np.array_split(rng.permutation(len(real)), steps):
            part = torch.from_numpy(chosen).to(features.device)
            odds = net(turned(stamps[part].float(), int(rng.integers(8))), features[part])
            loss = nn.functional.binary_cross_entropy_with_logits(odds, real[part])
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        say(f"network {seed}, pass {epoch + 1} of {plan.epochs}: loss {total / steps:.4f}")
    return net.eval().cpu().to(memory_format=torch.contiguous_format)


mpl.use("Agg")


Scores = list[NDArray[np.floating]]

Rank = Callable[[Labelled], Any]
"""Ranking of candidates: returns their scores."""


@dataclass(frozen=True)
class ScoredCandidates:
    """Exposures of one sky with their candidates, and the candidates' scores by several rankings."""

    sky: str
    examples: list[Labelled]
    scores: Mapping[str, Scores]


def summed_logit(one: Labelled) -> NDArray[np.float64]:
    """Rank candidates by the summed log odds of their hits, which is the detector's own score."""
    return one.features[:, FEATURES.index("log_logit_sum")].astype(np.float64)


def rivals(train: Sequence[Labelled], seed: int) -> Mapping[str, Rank]:
    """Fit the simplest learners for candidates, which use only their measurements.

    Returns
    -------
    mapping
        Name -> callable from a `Labelled` to scores: logistic regression, and boosted trees with scikit-learn's
        defaults.
    """
    features, real = features_and_labels(train)
    scaler = StandardScaler().fit(features)
    line = LogisticRegression(max_iter=2000).fit(scaler.transform(features), real)
    trees = HistGradientBoostingClassifier(random_state=seed).fit(features, real)
    return {
        "logistic regression": lambda one: line.decision_function(scaler.transform(one.features)),
        "boosted trees": lambda one: trees.decision_function(one.features),
    }


def features_and_labels(examples: Sequence[Labelled]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features and labels (1 real, 0 false) of all candidates that are either."""
    features = np.concatenate([one.features[one.known] for one in examples])
    return features, np.concatenate([one.label[one.known] > 0 for one in examples]).astype(np.int64)


def report_reliability(
    out: Path,
    scored: Sequence[ScoredCandidates],
    variants: Mapping[str, tuple[Sequence[ScoredCandidates], float]],
    threshold: float,
) -> dict[str, Any]:
    """Measure on the test exposures, per sky; draw ``training_reliability.png``; return the figures for the card.

    Parameters
    ----------
    out
        Folder for the picture.
    scored
        Test exposures; the ranking called ``verdict`` has calibrated probabilities.
    variants
        The same exposures under other conditions (a wrong PSF, no science images), with the threshold used there.
    threshold
        Least reliability of a detection.
    """
    figures: dict[str, Any] = {}
    _, axes = plt.subplots(1, len(scored) + 1, figsize=(3.4 * len(scored) + 3.4, 3.6), layout="constrained")
    for n, (one, panel) in enumerate(zip(scored, axes, strict=False)):
        figures[one.sky] = _figures(one, threshold) | {
            name: _at_threshold(others[n].examples, others[n].scores["verdict"], level)
            for name, (others, level) in variants.items()
        }
        for (name, scores), style in zip(one.scores.items(), ("-", ":", "-.", "--"), strict=False):
            c7 = [_at(one.examples, scores, false, 7.0) for false in SCAN]
            panel.plot(SCAN, c7, style, marker="o", ms=3, label=name)
        panel.set(xscale="log", xlabel="false detections per image", title=one.sky, ylim=(0, 1.02))
    label = np.concatenate([example.label for one in scored for example in one.examples])
    score = np.concatenate([value for one in scored for value in one.scores["verdict"]])
    asked = label >= 0
    stated, seen, share = reliability_diagram(score[asked], (label[asked] > 0).astype(np.int64))
    figures["calibration_error"] = round(float((np.abs(stated - seen) * share).sum()), 4)
    axes[-1].plot([0, 1], [0, 1], color="0.7", lw=1)
    axes[-1].plot(stated, seen, "o-")
    axes[-1].set(xlabel="reliability", ylabel="share that is real", title="all test exposures")
    axes[0].set(ylabel="completeness, S/N ≥ 7")
    axes[0].legend(frameon=False, fontsize=8, loc="lower right")
    plt.savefig(out / "training_reliability.png", dpi=110)
    plt.close()
    return figures


def _figures(scored: ScoredCandidates, threshold: float) -> dict[str, Any]:
    figures: dict[str, Any] = {"exposures": len(scored.examples)}
    figures |= _at_threshold(scored.examples, scored.scores["verdict"], threshold)
    for name, scores in scored.scores.items():
        figures[f"{name}, at 1 false"] = {
            f"c{least:.0f}": round(_at(scored.examples, scores, 1.0, least), 4) for least in (7.0, 10.0)
        }
    real = np.concatenate([one.label for one in scored.examples])
    passed = np.concatenate(scored.scores["verdict"]) >= threshold
    figures["confusion_candidates"] = {
        "real_passed": int(((real == 1) & passed).sum()),
        "real_dropped": int(((real == 1) & ~passed).sum()),
        "false_passed": int(((real == 0) & passed).sum()),
        "false_dropped": int(((real == 0) & ~passed).sum()),
    }
    return figures


def _at_threshold(examples: list[Labelled], scores: Scores, threshold: float) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for least in (7.0, 10.0):
        found, present, false = candidate_completeness(examples, scores, threshold, least)
        low, high = binomial_interval(found, present)
        figures[f"c{least:.0f}"] = {"found": found, "present": present, "interval": [round(low, 4), round(high, 4)]}
        figures["false_per_image"] = round(false, 3)
    return figures


def _at(examples: list[Labelled], scores: Scores, false: float, least: float) -> float:
    found, present, _ = candidate_completeness(examples, scores, candidate_threshold(examples, scores, false), least)
    return found / max(present, 1)

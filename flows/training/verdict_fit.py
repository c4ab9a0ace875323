"""Fit the verdict on candidates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import nn

from flows.training.candidates import Labelled
from kernels.nets.verdict_cnn import VerdictCnn


@dataclass(frozen=True)
class VerdictFit:
    """Networks of the ensemble, passes over the candidates, size of a batch, largest learning rate, weight decay."""

    networks: int = 2
    epochs: int = 8
    batch: int = 128
    rate: float = 2e-3
    decay: float = 1e-3


def fit_verdict(
    examples: Sequence[Labelled], plan: VerdictFit, seed: int, say: Callable[[str], None]
) -> tuple[VerdictCnn, ...]:
    """Fit an ensemble: single networks differ by several per cent in what they find.

    Parameters
    ----------
    examples
        Candidates of the exposures to learn from; those that are neither real nor false are left out.
    plan
        AdamW under a one-cycle schedule.
    seed
        Of the start values, the order and the symmetries.
    say
        Told of the loss.
    """
    known = [one.known for one in examples]
    features = np.concatenate([one.features[use] for one, use in zip(examples, known, strict=True)])
    stamps = np.concatenate([one.stamps[use] for one, use in zip(examples, known, strict=True)])
    real = np.concatenate([one.label[use] > 0 for one, use in zip(examples, known, strict=True)]).astype(np.float32)
    say(f"verdict on {len(real)} candidates, {int(real.sum())} of them real")
    data = torch.from_numpy(features), torch.from_numpy(stamps), torch.from_numpy(real)
    return tuple(_fit_one(*data, plan, seed + n, say) for n in range(plan.networks))


def _fit_one(
    features: torch.Tensor,
    stamps: torch.Tensor,
    real: torch.Tensor,
    plan: VerdictFit,
    seed: int,
    say: Callable[[str], None],
) -> VerdictCnn:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = VerdictCnn(features.shape[1])
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
            part = torch.from_numpy(chosen)
            odds = net(turned(stamps[part].float(), int(rng.integers(8))), features[part])
            loss = nn.functional.binary_cross_entropy_with_logits(odds, real[part])
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        say(f"network {seed}, pass {epoch + 1} of {plan.epochs}: loss {total / steps:.4f}")
    return net.eval()


def turned(stamps: torch.Tensor, symmetry: int) -> torch.Tensor:
    """Turn pictures by quarters, and mirror them from number 4 on: one of the eight symmetries of the square."""
    stamps = torch.rot90(stamps, symmetry % 4, (2, 3))
    return (stamps.transpose(2, 3) if symmetry >= 4 else stamps).contiguous()


def calibrate(log_odds: NDArray[np.floating], real: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit slope and offset of `kernels.verdict_net.reliability_of` to candidates by maximum likelihood.

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
